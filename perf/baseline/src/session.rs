//! One connection: HELLO and WELCOME, then frame after frame out of what each read brings.

use crate::halves::{Reading, Writing};
use crate::peer::Peer;
use crate::server::{Sender, Server};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::rc::Rc;
use wire::ack::Reject;
use wire::frame::{Frame, FrameKind, split};
use wire::handshake::{Auth, Hello, WelcomeEntry, WelcomeFields, encode_refused, encode_welcome};
use wire::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, MESSAGES_MAX};
use wire::link::parse_ping;
use wire::preface::Preface;
use wire::route::EndpointView;
use wire::send::{Send, addressed};
use wire::signature::{MacKey, SESSION_INFO, Signer, verify_hello};
use wire::{
    ChannelId, Direction, LogsId, NO_STREAM, Notice, Offset, PartitionId, Reason, Sequence,
    SessionId, SignatureKind, UnixNanos,
};

const READ_BYTES: usize = 64 << 10;
const BAD_SIGNATURES_MAX: u32 = 16;
/// The window of a session, the same as a node's.
pub(crate) const CREDIT_FRAMES: u32 = 1_024;
/// The window of a session in bytes, the same as a node's.
pub(crate) const CREDIT_BYTES: u32 = 4 << 20;
/// Silence after which a connection is closed.
pub(crate) const IDLE_SECONDS: u64 = 60;

/// Why a connection ends: what its peer is told, or nothing if it has gone.
type Ended = Option<Notice>;

/// A connection from its HELLO to its end.
pub(crate) struct Session {
    server: Rc<Server>,
    sender: Rc<Sender>,
    endpoint: usize,
    peer: Rc<Peer>,
    /// Checks what the client signs; cloned for each frame, so that the key's pads are hashed once.
    mac: Hmac<Sha256>,
    number: u64,
    frames: u64,
    bad_signatures: u32,
    route: Option<Route>,
}

/// Where the last frame went; the next one most likely goes there too.
#[derive(Clone, Copy)]
struct Route {
    channel: ChannelId,
    partition: PartitionId,
    body_bytes_max: u32,
}

/// Serve one connection: a socket, or a stream of QUIC whose exporter value its HELLO is bound to.
pub(crate) async fn serve(
    server: Rc<Server>,
    (mut read, write): (Reading, Writing),
    exporter: Vec<u8>,
) {
    let mut input = Vec::with_capacity(READ_BYTES);
    let opening = open(&server, &exporter, &mut read, write, &mut input);
    let limit = std::time::Duration::from_secs(10);
    let Ok(Some(mut session)) = tokio::time::timeout(limit, opening).await else {
        return;
    };
    let ended = session.run(&mut read, &mut input).await;
    if let Some(notice) = ended {
        session.peer.goaway(notice);
    }
}

/// Read preface and HELLO, answer them. `None` when the peer was refused or left.
async fn open(
    server: &Rc<Server>,
    exporter: &[u8],
    read: &mut Reading,
    mut write: Writing,
    input: &mut Vec<u8>,
) -> Option<Session> {
    let (answer, taken) = loop {
        if let Some(found) = hello(server, exporter, input) {
            break found;
        }
        if read.read(input).await? == 0 {
            return None;
        }
    };
    input.drain(..taken);
    match answer {
        Ok((mut welcome, opened)) => {
            let entries = server.entries(opened.endpoint, &opened.sender);
            let key = MacKey::new(&opened.keys[32..64]);
            let signer = Signer::Session {
                key: &key,
                frame_index: 0,
            };
            encode_welcome(
                &mut welcome,
                &opened.fields,
                entries.iter().copied(),
                signer,
            );
            write.write_all(&welcome).await?;
            let peer = Peer::new(write, key, 1);
            server.open(&peer);
            let mac =
                Hmac::new_from_slice(&opened.keys[..32]).expect("HMAC takes keys of any length");
            Some(Session {
                server: Rc::clone(server),
                number: opened.sender.take_over(),
                sender: opened.sender,
                endpoint: opened.endpoint,
                peer,
                mac,
                frames: 0,
                bad_signatures: 0,
                route: None,
            })
        }
        Err(refusal) => {
            write.write_all(&refusal).await?;
            None
        }
    }
}

/// What a good HELLO leads to.
struct Opened {
    endpoint: usize,
    sender: Rc<Sender>,
    fields: WelcomeFields,
    keys: [u8; 96],
}

type Answer = Result<(Vec<u8>, Opened), Vec<u8>>;

/// The answer to preface and HELLO and how many bytes they took, once they are there.
fn hello(server: &Rc<Server>, exporter: &[u8], input: &[u8]) -> Option<(Answer, usize)> {
    let refuse = |notice: Notice| {
        let mut out = Preface::CLIENT.answer().encode().to_vec();
        encode_refused(&mut out, notice, None);
        Some((Err(out), input.len()))
    };
    let (preface, rest) = match Preface::parse(input) {
        Ok(found) => found?,
        Err(error) => return refuse(error.notice()),
    };
    let out = preface.answer().encode().to_vec();
    if out[4] == 0 {
        return Some((Err(out), input.len()));
    }
    let (frame, rest) = match split(rest) {
        Ok(found) => found?,
        Err(error) => return refuse(error.notice()),
    };
    let taken = input.len() - rest.len();
    let hello = match Hello::parse(frame) {
        Ok(hello) => hello,
        Err(error) => return refuse(error.notice()),
    };
    match opened(server, exporter, &hello) {
        Some(opened) => Some((Ok((out, opened)), taken)),
        None => refuse(Notice::new(Reason::BadCredential, 0, 0)),
    }
}

/// Check the credential and derive the session's keys.
fn opened(server: &Rc<Server>, exporter: &[u8], hello: &Hello<'_>) -> Option<Opened> {
    let Auth::Key(id) = hello.fields.auth else {
        return None;
    };
    let (index, endpoint) = server.endpoint(hello.fields.name)?;
    let key = endpoint.key(id).filter(|key| !key.revoked)?;
    let secret = key.secret()?;
    if key.direction != Direction::Ingress
        || !verify_hello(secret.text_bytes(), exporter, &hello.frame())
    {
        return None;
    }
    let (mut server_nonce, mut session) = ([0; 32], [0; 16]);
    getrandom::fill(&mut server_nonce).ok()?;
    getrandom::fill(&mut session).ok()?;
    let salt = [hello.fields.client_nonce, server_nonce].concat();
    let mut keys = [0; 96];
    Hkdf::<Sha256>::new(Some(&salt), secret.text_bytes())
        .expand(&[&SESSION_INFO[..], &session, exporter].concat(), &mut keys)
        .expect("96 bytes are within HKDF's bound");
    Some(Opened {
        endpoint: index,
        sender: server.sender(endpoint.id),
        fields: fields(server, &endpoint, SessionId(session), server_nonce),
        keys,
    })
}

fn fields(
    server: &Server,
    endpoint: &EndpointView<'_>,
    session_id: SessionId,
    server_nonce: [u8; 32],
) -> WelcomeFields {
    WelcomeFields {
        epoch: server.table.epoch(),
        session_id,
        server_nonce,
        endpoint: endpoint.id,
        unix_nanos: crate::server::unix_now(),
        frame_bytes_max: FRAME_BYTES_MAX as u32,
        body_bytes_max: BODY_BYTES_MAX as u32,
        messages_max: MESSAGES_MAX as u16,
        shards: 1,
        home_shard: 0,
        direction: Direction::Ingress,
        credit_frames: CREDIT_FRAMES,
        credit_bytes: CREDIT_BYTES,
        idle_timeout_ms: (IDLE_SECONDS * 1_000) as u32,
        linger_ms: 1,
        logs: LogsId::default(),
    }
}

impl Session {
    async fn run(&mut self, read: &mut Reading, input: &mut Vec<u8>) -> Ended {
        loop {
            match self.take(input) {
                Ok(taken) => drop(input.drain(..taken)),
                Err(ended) => return ended,
            }
            if input.capacity() - input.len() < READ_BYTES / 2 {
                input.reserve(READ_BYTES);
            }
            match read.read(input).await {
                Some(0) | None => return None,
                Some(_) => {}
            }
        }
    }

    /// Work on every whole frame of `input`; returns how many bytes they are.
    fn take(&mut self, input: &[u8]) -> Result<usize, Ended> {
        if input.is_empty() {
            return Ok(0);
        }
        let now = self.server.heard(&self.peer);
        let mut rest = input;
        loop {
            match split(rest) {
                Ok(Some((frame, behind))) => {
                    self.frame(&frame, now)?;
                    rest = behind;
                }
                Ok(None) => return Ok(input.len() - rest.len()),
                Err(error) => return Err(Some(error.notice())),
            }
        }
    }

    fn frame(&mut self, frame: &Frame<'_>, now: UnixNanos) -> Result<(), Ended> {
        let index = self.frames;
        self.frames += 1;
        if !self.is_signed(frame, index) {
            self.bad_signatures += 1;
            let seen = u64::from(self.bad_signatures);
            self.reject(
                frame,
                Notice::new(Reason::BadSignature, seen, BAD_SIGNATURES_MAX.into()),
            );
            return match self.bad_signatures < BAD_SIGNATURES_MAX {
                true => Ok(()),
                false => Err(Some(Notice::new(Reason::TooManyBadSignatures, seen, seen))),
            };
        }
        match frame.kind() {
            FrameKind::Send => self.send(frame, now),
            FrameKind::Ping => {
                let sequence = parse_ping(*frame).map_err(|error| Some(error.notice()))?;
                self.peer.pong(sequence);
                Ok(())
            }
            FrameKind::Bye => Err(None),
            other => Err(Some(Notice::new(Reason::UnexpectedFrame, other as u64, 0))),
        }
    }

    fn is_signed(&self, frame: &Frame<'_>, index: u64) -> bool {
        let mut mac = self.mac.clone();
        mac.update(&index.to_le_bytes());
        mac.update(frame.signed());
        frame.signature_kind() == SignatureKind::Session
            && mac.verify_slice(frame.signature()).is_ok()
    }

    /// One SEND: its form, its grant, its number, then the log.
    fn send(&mut self, frame: &Frame<'_>, now: UnixNanos) -> Result<(), Ended> {
        if self.sender.owner() != self.number {
            return Err(Some(Notice::new(Reason::SessionUnknown, 0, 0)));
        }
        let send = match Send::parse(*frame) {
            Ok(send) => send,
            Err(error) => return self.refuse(frame, error.notice()),
        };
        let route = match self.route(&send) {
            Ok(route) => route,
            Err(notice) => return self.refuse(frame, notice),
        };
        let stream = self.sender.stream(route.partition);
        let (last, sequence) = (stream.last.get(), send.sequence());
        if sequence.0 == last + 1 {
            stream.last.set(sequence.0);
            stream.refused.set(false);
            let log = &mut self.server.log.borrow_mut();
            log.append(&send, now, &self.peer, &stream);
            self.server.appended.notify_one();
        } else if sequence.0 <= last {
            // It was sent again after a lost connection: acknowledged with the next commit, which covers it.
            let log = &mut self.server.log.borrow_mut();
            log.acknowledge(&self.peer, &stream, Sequence(last), Offset(0));
            self.server.appended.notify_one();
        } else if !stream.refused.get() {
            let notice = Notice::new(Reason::OutOfSequence, sequence.0, last + 1);
            return self.refuse(frame, notice);
        }
        Ok(())
    }

    /// Refuse a SEND; those behind it are discarded until its number comes again.
    fn refuse(&mut self, frame: &Frame<'_>, notice: Notice) -> Result<(), Ended> {
        let partition = self.reject(frame, notice);
        if partition != NO_STREAM {
            self.sender.stream(partition).refused.set(true);
        }
        Ok(())
    }

    fn reject(&self, frame: &Frame<'_>, notice: Notice) -> PartitionId {
        let endpoint = self.server.table.endpoint_at(self.endpoint as u32).id;
        let channel = addressed(frame).and_then(|(_, id)| self.server.table.channel(id));
        let partition = channel.map_or(NO_STREAM, |channel| {
            self.server.table.partition_of(endpoint, channel)
        });
        self.peer.reject(&Reject {
            partition,
            sequence: frame.sequence(),
            notice,
        });
        partition
    }

    /// Where the frame may go.
    fn route(&mut self, send: &Send<'_>) -> Result<Route, Notice> {
        let endpoint = self.server.table.endpoint_at(self.endpoint as u32);
        if send.endpoint() != endpoint.id {
            let (seen, needed) = (send.endpoint().0, endpoint.id.0);
            return Err(Notice::new(Reason::SenderMismatch, seen, needed));
        }
        let id = send.channel();
        let route = match self.route {
            Some(route) if route.channel == id => route,
            _ => {
                let channel = self.server.table.channel(id);
                let channel = channel.ok_or(Notice::new(Reason::UnknownChannel, id.0.into(), 0))?;
                let grant = endpoint.send_grant(id);
                let grant = grant.ok_or(Notice::new(Reason::NotGranted, id.0.into(), 0))?;
                let route = Route {
                    channel: id,
                    partition: self.server.table.partition_of(endpoint.id, channel),
                    body_bytes_max: grant.restriction.body_bytes_max.unwrap_or(u32::MAX),
                };
                *self.route.insert(route)
            }
        };
        if route.body_bytes_max != u32::MAX {
            let longest = send
                .messages()
                .map(|message| message.body.len() as u64)
                .max();
            let (seen, needed) = (longest.unwrap_or(0), u64::from(route.body_bytes_max));
            if seen > needed {
                return Err(Notice::new(Reason::RestrictedBody, seen, needed));
            }
        }
        Ok(route)
    }
}

/// The entries of a WELCOME, as they are encoded.
pub(crate) type Entries<'a> = Vec<WelcomeEntry<'a>>;
