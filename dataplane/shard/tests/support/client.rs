//! A client at the level of frames.

use std::net::SocketAddr;

use shard::ConnectionId;
use wire::delivery::{Fetch, Outcome, Settle, Source};
use wire::frame::split;
use wire::handshake::{Auth, HelloFields, encode_hello};
use wire::ids::*;
use wire::link::{encode_bye, encode_ping};
use wire::preface::Preface;
use wire::reason::{Notice, Reason};
use wire::send::{SendBuilder, encode_relay};
use wire::signature::{SessionKeys, Signer};

use super::{CHANNEL, SENSOR, Said, World, secret};

/// A client at the level of frames: it signs and counts as it must, and sends whatever a test wants.
pub struct Client {
    pub connection: ConnectionId,
    pub endpoint: EndpointId,
    pub name: String,
    /// The secret of the credential in use.
    pub secret: Vec<u8>,
    pub nonce: [u8; 32],
    /// That of the tunnel it believes to be in; empty on a plain connection.
    pub exporter: Vec<u8>,
    pub keys: Option<SessionKeys>,
    pub session: SessionId,
    pub frames_out: u64,
    pub frames_in: u64,
    /// The number of the next SEND.
    pub sequence: u64,
    pub greeted: bool,
    /// Where the server said last that it is at home.
    pub home: Option<String>,
    inbox: Vec<u8>,
}

impl Client {
    /// A client on a fresh connection, which has said nothing yet.
    pub fn new(world: &mut World, name: &str, secret: &[u8]) -> Self {
        let connection = world.open();
        Self::on(connection, name, secret)
    }

    /// The same from this address.
    pub fn from(world: &mut World, peer: SocketAddr, name: &str, secret: &[u8]) -> Self {
        let connection = world.open();
        world.move_last(peer);
        Self::on(connection, name, secret)
    }

    fn on(connection: ConnectionId, name: &str, secret: &[u8]) -> Self {
        Self {
            connection,
            endpoint: EndpointId::of(name),
            name: name.to_owned(),
            secret: secret.to_vec(),
            nonce: nonce(connection),
            exporter: Vec::new(),
            keys: None,
            session: SessionId::default(),
            frames_out: 0,
            frames_in: 0,
            sequence: 1,
            greeted: false,
            home: None,
            inbox: Vec::new(),
        }
    }

    /// Preface and HELLO.
    pub fn hello_bytes(&self, auth: Auth<'_>, unix_seconds: u64) -> Vec<u8> {
        let mut bytes = Preface::CLIENT.encode().to_vec();
        let fields = HelloFields {
            auth,
            name: &self.name,
            client_nonce: self.nonce,
            unix_seconds,
        };
        encode_hello(&mut bytes, &fields, &self.secret, &self.exporter).unwrap();
        bytes
    }

    /// Say HELLO with key 1 and take the WELCOME.
    pub fn connect(world: &mut World, name: &str, number: u8) -> Self {
        let mut client = Self::new(world, name, secret(number).text_bytes());
        client.greet(world, Auth::Key(KeyId(1)));
        client
    }

    /// Say HELLO and insist on a WELCOME; the sequence goes on where the server says.
    pub fn greet(&mut self, world: &mut World, auth: Auth<'_>) -> Vec<Said> {
        let bytes = self.hello_bytes(auth, 0);
        world.receive(self.connection, &bytes);
        world.settle();
        let said = self.read(world);
        let Some(Said::Welcome(_, entries)) = said.get(1) else {
            panic!("no WELCOME: {said:?}")
        };
        if let Some((_, _, last, _)) = entries.first() {
            self.sequence = last.0 + 1;
        }
        said
    }

    /// Take the session up on a new connection.
    pub fn resume(&self, world: &mut World) -> Self {
        let keys = self.keys.as_ref().unwrap();
        let mut next = Self::new(world, &self.name, &keys.resume);
        next.greet(world, Auth::Resume(self.session));
        next
    }

    /// The signer of the next frame; counts it.
    pub fn sign(&mut self, encode: impl FnOnce(&mut Vec<u8>, Signer<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let key = &self.keys.as_ref().unwrap().client;
        encode(
            &mut bytes,
            Signer::Session {
                key,
                frame_index: self.frames_out,
            },
        );
        self.frames_out += 1;
        bytes
    }

    /// A SEND with any sender, channel and number.
    pub fn send_as(
        &mut self,
        endpoint: EndpointId,
        channel: &str,
        number: u64,
        bodies: &[&[u8]],
    ) -> Vec<u8> {
        let channel = ChannelId::of(channel);
        self.sign(|out, signer| {
            let mut send = SendBuilder::begin(out, endpoint, channel, Sequence(number));
            for body in bodies {
                send.message(UnixNanos(0), &[], body).unwrap();
            }
            send.finish(signer).unwrap();
        })
    }

    /// A SEND with a given number.
    pub fn send_number(&mut self, number: u64, bodies: &[&[u8]]) -> Vec<u8> {
        self.send_as(self.endpoint, CHANNEL, number, bodies)
    }

    /// The next SEND.
    pub fn send(&mut self, bodies: &[&[u8]]) -> Vec<u8> {
        let number = self.sequence;
        self.sequence += 1;
        self.send_number(number, bodies)
    }

    pub fn relay(&mut self, number: u64, inner: &[u8]) -> Vec<u8> {
        self.sign(|out, signer| encode_relay(out, Sequence(number), inner, signer))
    }

    pub fn fetch(&mut self, source: Source, messages: u32, bytes: u64) -> Vec<u8> {
        self.sign(|out, signer| {
            Fetch {
                source,
                messages,
                bytes,
            }
            .encode(out, signer)
        })
    }

    pub fn settle(&mut self, source: Source, outcome: Outcome, number: u64) -> Vec<u8> {
        let number = Sequence(number);
        self.sign(|out, signer| {
            Settle {
                source,
                number,
                outcome,
            }
            .encode(out, signer)
        })
    }

    pub fn ping(&mut self, number: u64) -> Vec<u8> {
        self.sign(|out, signer| encode_ping(out, Sequence(number), signer))
    }

    pub fn bye(&mut self) -> Vec<u8> {
        self.sign(|out, signer| encode_bye(out, Notice::new(Reason::PeerBye, 0, 0), signer))
    }

    /// Hand bytes in, let the shard come to rest, and read what it says.
    pub fn exchange(&mut self, world: &mut World, bytes: &[u8]) -> Vec<Said> {
        world.receive(self.connection, bytes);
        world.settle();
        self.read(world)
    }

    /// Everything the server said since the last call, each signature checked.
    pub fn read(&mut self, world: &mut World) -> Vec<Said> {
        self.inbox.extend(world.take_said(self.connection));
        let bytes = std::mem::take(&mut self.inbox);
        let mut said = Vec::new();
        let mut rest = &bytes[..];
        if !self.greeted && !rest.is_empty() {
            // A GOAWAY may come before any preface.
            if rest.starts_with(b"FBAY") {
                let (preface, after) = Preface::parse(rest).unwrap().unwrap();
                said.push(Said::Preface(preface));
                rest = after;
            }
            self.greeted = true;
        }
        while let Some((frame, after)) = split(rest).unwrap() {
            said.push(self.understand(frame));
            rest = after;
        }
        assert!(rest.is_empty(), "a turn says whole frames");
        said
    }
}

/// An envelope of the sensor's.
pub fn envelope(number: u64, signer: Signer<'_>, bodies: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (sensor, channel) = (EndpointId::of(SENSOR), ChannelId::of(CHANNEL));
    let mut send = SendBuilder::begin(&mut bytes, sensor, channel, Sequence(number));
    for body in bodies {
        send.message(UnixNanos(0), &[], body).unwrap();
    }
    send.finish(signer).unwrap();
    bytes
}

/// A client nonce that no other connection has.
fn nonce(connection: ConnectionId) -> [u8; 32] {
    let mut nonce = [0x40; 32];
    nonce[..8].copy_from_slice(&connection.0.to_le_bytes());
    nonce
}
