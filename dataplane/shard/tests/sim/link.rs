//! One connection from the client's side: the handshake, signatures both ways, frames into what they say.

use shard::ConnectionId;
use wire::ack::{Ack, Reject};
use wire::delivery::{Deliver, Source};
use wire::frame::{FrameKind, split};
use wire::handshake::{HelloFields, Welcome, encode_hello, parse_refused};
use wire::ids::{ChannelId, EndpointId, PartitionId, SessionId};
use wire::link::parse_goaway;
use wire::preface::Preface;
use wire::reason::Notice;
use wire::signature::{SessionKeys, Signer, verify_session};

use crate::ids::MessageId;

/// A message as it was delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered {
    pub(crate) source: Source,
    pub(crate) number: u64,
    pub(crate) id: MessageId,
    pub(crate) sender: EndpointId,
    pub(crate) partition: PartitionId,
    pub(crate) offset: u64,
    pub(crate) channel: ChannelId,
    /// Hash of the body.
    pub(crate) body: u64,
}

/// What the server said.
#[derive(Debug)]
pub(crate) enum Heard {
    Welcome {
        credit_frames: u32,
        last: Vec<(ChannelId, PartitionId, u64)>,
    },
    Refused(Notice),
    Ack(Ack),
    Reject(Reject),
    Deliver(Vec<Delivered>),
    Goaway(Notice),
    Pong,
}

/// The client's end of a connection.
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    secret: Vec<u8>,
    nonce: [u8; 32],
    /// That of the tunnel; empty without one.
    exporter: Vec<u8>,
    inbox: Vec<u8>,
    greeted: bool,
    pub(crate) keys: Option<SessionKeys>,
    pub(crate) session: Option<SessionId>,
    frames_in: u64,
    frames_out: u64,
}

impl Link {
    pub(crate) fn new(
        connection: ConnectionId,
        secret: Vec<u8>,
        nonce: [u8; 32],
        exporter: Vec<u8>,
    ) -> Self {
        Self {
            connection,
            secret,
            nonce,
            exporter,
            inbox: Vec::new(),
            greeted: false,
            keys: None,
            session: None,
            frames_in: 0,
            frames_out: 0,
        }
    }

    /// Preface and HELLO.
    pub(crate) fn hello(&self, fields: &HelloFields<'_>) -> Vec<u8> {
        let mut out = Preface::CLIENT.encode().to_vec();
        encode_hello(&mut out, fields, &self.secret, &self.exporter)
            .expect("the plan's names are well formed");
        out
    }

    /// Encode one frame with the next frame index; `None` before the WELCOME.
    pub(crate) fn frame(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>, Signer<'_>),
    ) -> Option<Vec<u8>> {
        let keys = self.keys.as_ref()?;
        let mut out = Vec::new();
        encode(
            &mut out,
            Signer::Session {
                key: &keys.client,
                frame_index: self.frames_out,
            },
        );
        self.frames_out += 1;
        Some(out)
    }

    /// Encode one frame for a datagram; `None` before the WELCOME.
    pub(crate) fn loose(
        &self,
        number: u64,
        encode: impl FnOnce(&mut Vec<u8>, Signer<'_>),
    ) -> Option<Vec<u8>> {
        let key = &self.keys.as_ref()?.client;
        let mut out = Vec::new();
        encode(&mut out, Signer::Datagram { key, number });
        Some(out)
    }

    /// Take in bytes. The server's own frames are never damaged, so whatever does not fit is its fault.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.inbox.extend_from_slice(bytes);
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        let mut heard = Vec::new();
        if !self.greeted
            && let Some((preface, after)) =
                Preface::parse(rest).expect("the server's preface is good")
        {
            assert_eq!(preface.chosen, 1, "the server speaks version 1");
            self.greeted = true;
            rest = after;
        }
        while self.greeted
            && let Some((frame, after)) = split(rest).expect("the server's frames are good")
        {
            heard.push(self.understand(frame));
            rest = after;
        }
        self.inbox = rest.to_vec();
        heard
    }

    fn understand(&mut self, frame: wire::frame::Frame<'_>) -> Heard {
        if frame.kind() == FrameKind::Refused {
            return Heard::Refused(parse_refused(frame).expect("REFUSED is well formed"));
        }
        if frame.kind() == FrameKind::Welcome {
            let welcome = Welcome::parse(frame).expect("WELCOME is well formed");
            let fields = welcome.fields;
            let (nonce, id) = (&fields.server_nonce, fields.session_id);
            self.keys = Some(SessionKeys::derive(
                &self.secret,
                &self.nonce,
                nonce,
                id,
                &self.exporter,
            ));
            self.session = Some(id);
        }
        match &self.keys {
            Some(keys) => {
                let good = verify_session(&keys.server, self.frames_in, &frame);
                assert!(
                    good,
                    "the server's signature on {:?} {}",
                    frame.kind(),
                    self.frames_in
                );
                self.frames_in += 1;
            }
            None => assert_eq!(frame.kind(), FrameKind::Goaway, "a frame before WELCOME"),
        }
        match frame.kind() {
            FrameKind::Welcome => {
                let welcome = Welcome::parse(frame).expect("it was parsed above");
                let entries = welcome.entries();
                let last = entries
                    .map(|e| (e.channel, e.partition, e.last_sequence.0))
                    .collect();
                Heard::Welcome {
                    credit_frames: welcome.fields.credit_frames,
                    last,
                }
            }
            FrameKind::Ack => Heard::Ack(Ack::parse(frame).expect("ACK is well formed")),
            FrameKind::Reject => {
                Heard::Reject(Reject::parse(frame).expect("REJECT is well formed"))
            }
            FrameKind::Deliver => Heard::Deliver(messages_of(frame)),
            FrameKind::Goaway => Heard::Goaway(parse_goaway(frame).expect("GOAWAY is well formed")),
            FrameKind::Pong => Heard::Pong,
            kind => panic!("the server sent {kind:?}"),
        }
    }
}

/// The messages of a DELIVER.
pub(crate) fn messages_of(frame: wire::frame::Frame<'_>) -> Vec<Delivered> {
    let deliver = Deliver::parse(frame).expect("DELIVER is well formed");
    let mut out = Vec::new();
    for group in deliver.groups() {
        let header = group.header;
        for (i, message) in group.messages().enumerate() {
            out.push(Delivered {
                source: deliver.source(),
                number: header.number.0 + i as u64,
                id: MessageId::of(message.body),
                sender: header.sender,
                partition: header.partition,
                offset: header.offset.0 + i as u64,
                channel: header.channel,
                body: hash(message.body),
            });
        }
    }
    out
}

/// A hash of bytes.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    hash_on(0xcbf2_9ce4_8422_2325, bytes)
}

/// The same, going on from `hash`: FNV-1a over words of eight bytes.
pub(crate) fn hash_on(hash: u64, bytes: &[u8]) -> u64 {
    let mut hash = hash ^ bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
        hash ^= hash >> 32;
    }
    hash
}
