//! A small server for tests: real handshake, signatures, sequences and deliveries over real sockets, one thread per
//! connection, and faults on demand. It keeps messages in memory and knows one sender key and one receiver key.

mod connection;
mod encrypted;
#[cfg(feature = "quic")]
mod quic;

use connection::{Connection, terms};
pub use encrypted::{Authority, Pair, tls_config, tls_config_for};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::datagram::{self, Datagram};
use wire::delivery::{Fetch, Outcome, Settle};
use wire::frame::{Frame, FrameKind, split};
use wire::handshake::{Auth, Hello, WelcomeEntry, WelcomeFields, encode_refused, encode_welcome};
use wire::ids::{
    AckMode, ChannelId, DATAGRAM_STREAM, Direction, EndpointId, LogsId, PartitionId, QUEUE_STREAM,
    RELAY_STREAM, Sequence, SessionId,
};
use wire::link::encode_pong;
use wire::preface::Preface;
use wire::reason::{Notice, Reason};
use wire::send::{Relay, Send};
use wire::signature::{
    KeyMaterial, MacKey, SecretKey, SessionKeys, Signer, verify_envelope, verify_hello,
    verify_session,
};
use wire::token::Token;

/// The key of every endpoint of the fake.
pub const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The channel everybody may send to and hears.
pub const CHANNEL: &str = "a/e/readings";
const PARTITION: PartitionId = PartitionId(7 << 16);
const NONCE: [u8; 32] = [9; 32];
const READ_TIME: Duration = Duration::from_millis(1);

/// What goes wrong. Frames are counted over all connections from 0, as they are appended or received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Ack this appended frame and never deliver it.
    Lose(usize),
    /// Deliver this appended frame twice.
    Duplicate(usize),
    /// Deliver this appended frame after the next one.
    Swap(usize),
    /// Flip a bit in the body of this appended frame.
    Alter(usize),
    /// Deliver this frame in the name of another sender.
    Rename(usize),
    /// Refuse this received frame once.
    Reject(usize, Reason, u32),
    /// Append this received frame, then cut the connection instead of acking.
    Cut(usize),
    /// Ack this received frame, end the connection, and hear nobody any more.
    Leave(usize),
    /// Cut a receiver's connection once after so many messages were delivered.
    CutDelivery(u64),
    /// Before this received frame is appended, be another node, see [`State::move_away`], and cut the connection.
    MoveAway(usize),
    /// Know no session any more.
    Forget,
    /// Do not hear the datagram of this number.
    Miss(u64),
}

/// One appended frame.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Who sent it.
    pub sender: EndpointId,
    /// Its sequence.
    pub sequence: u64,
    /// Messages in it.
    pub count: u16,
    /// The messages, verbatim.
    pub bytes: Vec<u8>,
    /// Offset of the first message.
    pub offset: u64,
}

/// What the server remembers.
#[derive(Debug, Default)]
pub struct State {
    /// Frames in the order of appending.
    pub log: Vec<Stored>,
    /// What receivers get: index into `log` and whether the body is altered or renamed.
    pub queue: Vec<Stored>,
    /// Messages settled, in order of settling: number and outcome.
    pub settled: Vec<(u64, Outcome)>,
    /// Frames that came again after a reconnect.
    pub duplicates: usize,
    /// Handshakes by kind: with key or token, by resume.
    pub hellos: (usize, usize),
    /// The exporter value of each handshake's tunnel, empty without one.
    pub exporters: Vec<Vec<u8>>,
    /// Tunnels that were made, and how many of them with a ticket.
    pub tunnels: (usize, usize),
    /// First byte of the ID with which each QUIC connection arrived.
    pub arrivals: Vec<u8>,
    /// Lanes of this endpoint are not read.
    pub stopped: Option<EndpointId>,
    /// Which logs WELCOME says these are.
    pub logs: LogsId,
    /// What WELCOME names as the endpoint's home shard, and the number of shards if that is more than 1.
    pub home: (u16, u16),
    cuts: usize,
    faults: Vec<Fault>,
    last: HashMap<EndpointId, u64>,
    /// What it had of everybody when it began.
    began_with: u64,
    sessions: HashMap<SessionId, ([u8; 32], String)>,
    received: usize,
    messages: u64,
    accepted: u64,
    held_back: Option<Stored>,
    gone: bool,
}

/// The running server.
#[derive(Clone)]
pub struct Fake {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// Start on a free port of the loopback interface.
    pub fn start(faults: &[Fault]) -> Self {
        Self::start_with(faults, |server, stream| {
            drop(server.serve(&mut &stream, &[]));
        })
    }

    /// The same, with something between the sockets and [`Fake::serve`]. A socket's reads end after a millisecond.
    fn start_with(
        faults: &[Fault],
        serve: impl Fn(&Self, TcpStream) + std::marker::Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State {
            faults: faults.to_vec(),
            ..State::default()
        }));
        let fake = Self { addr, state };
        let server = fake.clone();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let set = stream.set_nodelay(true);
                let set = set.and_then(|()| stream.set_read_timeout(Some(READ_TIME)));
                if set.is_err() || server.state().gone {
                    continue;
                }
                let (server, serve) = (server.clone(), Arc::clone(&serve));
                std::thread::spawn(move || serve(&server, stream));
            }
        });
        fake
    }

    /// Cut all connections, once.
    pub fn cut(&self) {
        self.state().cuts += 1;
    }

    /// Look at what the server remembers.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serve one connection to its end, over anything whose reads give up with `WouldBlock` after a moment. `exporter`
    /// is the tunnel's, empty without one.
    ///
    /// # Errors
    /// Those of the stream, and frames that are none.
    pub fn serve(&self, stream: &mut (impl Read + Write), exporter: &[u8]) -> std::io::Result<()> {
        let (_, datagrams) = std::sync::mpsc::channel();
        self.serve_with(stream, exporter, &datagrams)
    }

    /// The same, with datagrams beside it.
    fn serve_with(
        &self,
        stream: &mut (impl Read + Write),
        exporter: &[u8],
        datagrams: &std::sync::mpsc::Receiver<Vec<u8>>,
    ) -> std::io::Result<()> {
        let mut input = Vec::new();
        let Some(mut connection) = self.handshake(stream, exporter, &mut input)? else {
            return Ok(());
        };
        let cuts = self.state().cuts;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let mut rest = &input[..];
            while let Some((frame, after)) = split(rest).map_err(std::io::Error::other)? {
                rest = after;
                if !self.take(&mut connection, frame) {
                    return Ok(());
                }
            }
            let done = input.len() - rest.len();
            input.drain(..done);
            for datagram in datagrams.try_iter() {
                self.take_datagram(&mut connection, &datagram);
            }
            let cut = self.deliver(&mut connection);
            stream.write_all(&std::mem::take(&mut connection.out))?;
            if cut || self.state().gone || self.state().cuts > cuts {
                return Ok(());
            }
            while self.state().stopped == Some(connection.endpoint) {
                std::thread::park_timeout(READ_TIME);
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(bytes) => input.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn handshake(
        &self,
        stream: &mut (impl Read + Write),
        exporter: &[u8],
        input: &mut Vec<u8>,
    ) -> std::io::Result<Option<Connection>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some((preface, rest)) = Preface::parse(input).map_err(std::io::Error::other)?
                && let Some((frame, rest)) = split(rest).map_err(std::io::Error::other)?
            {
                let mut out = preface.answer().encode().to_vec();
                let hello = Hello::parse(frame).map_err(std::io::Error::other)?;
                let connection = self.welcome(&hello, exporter, &mut out);
                let done = input.len() - rest.len();
                input.drain(..done);
                stream.write_all(&out)?;
                return Ok(connection);
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(bytes) => input.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn welcome(&self, hello: &Hello<'_>, exporter: &[u8], out: &mut Vec<u8>) -> Option<Connection> {
        let mut state = self.state();
        state.exporters.push(exporter.to_vec());
        let fields = hello.fields;
        let (home, shards) = state.home;
        let here = state.arrivals.last().map(|byte| u16::from(*byte));
        if fields.name.contains("read")
            && here.is_some_and(|byte| shards > 0 && byte % shards != home)
        {
            let notice = Notice::new(Reason::AnotherShard, shards.into(), home.into());
            encode_refused(out, notice, None);
            return None;
        }
        let refuse =
            |reason, out: &mut Vec<u8>| encode_refused(out, Notice::new(reason, 0, 0), None);
        let secret = match fields.auth {
            Auth::Key(_) => KEY.as_bytes().to_vec(),
            Auth::Token(text) => {
                let token = Token::parse(text).expect("a well formed token");
                token
                    .expected_signature(&MacKey::new(KEY.as_bytes()))
                    .to_vec()
            }
            Auth::Resume(session) => match state.sessions.get(&session) {
                Some((secret, _)) if !state.faults.contains(&Fault::Forget) => secret.to_vec(),
                _ => {
                    refuse(Reason::SessionUnknown, out);
                    return None;
                }
            },
        };
        if !verify_hello(&secret, exporter, &hello.frame()) {
            refuse(Reason::BadCredential, out);
            return None;
        }
        let session_id = match fields.auth {
            Auth::Resume(session) => {
                state.hellos.1 += 1;
                session
            }
            _ => {
                state.hellos.0 += 1;
                SessionId([state.sessions.len() as u8 + 1; 16])
            }
        };
        let endpoint = EndpointId::of(fields.name);
        let direction = if fields.name.contains("read") {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        let keys = SessionKeys::derive(&secret, &fields.client_nonce, &NONCE, session_id, exporter);
        state
            .sessions
            .insert(session_id, (keys.resume, fields.name.to_owned()));
        let last = state.last_of(endpoint);
        let sender = direction == Direction::Ingress;
        let entry = WelcomeEntry {
            channel: ChannelId::of(CHANNEL),
            partition: if sender { PARTITION } else { PartitionId(0) },
            last_sequence: Sequence(if sender { last } else { 0 }),
            ack_mode: AckMode::Durable,
            name: CHANNEL,
        };
        let signer = Signer::Session {
            key: &keys.server,
            frame_index: 0,
        };
        encode_welcome(
            out,
            &WelcomeFields {
                home_shard: state.home.0,
                shards: state.home.1.max(1),
                ..terms(session_id, endpoint, direction, state.logs)
            },
            [entry].into_iter(),
            signer,
        );
        let next = state.accepted;
        Some(Connection {
            endpoint,
            keys,
            received: 0,
            sent: 1,
            out: Vec::new(),
            discard_from: None,
            credit: 0,
            next_queue: next,
            receiver: !sender,
        })
    }

    /// Take one frame; false cuts the connection.
    fn take(&self, connection: &mut Connection, frame: Frame<'_>) -> bool {
        assert!(
            verify_session(&connection.keys.client, connection.received, &frame),
            "bad signature on {frame:?}"
        );
        connection.received += 1;
        match frame.kind() {
            FrameKind::Send => {
                return self.append(connection, &Send::parse(frame).expect("a well formed SEND"));
            }
            FrameKind::Relay => {
                self.relay(
                    connection,
                    &Relay::parse(frame).expect("a well formed RELAY"),
                );
            }
            FrameKind::Fetch => {
                connection.credit += u64::from(Fetch::parse(frame).expect("a FETCH").messages)
            }
            FrameKind::Settle => self.settle(connection, Settle::parse(frame).expect("a SETTLE")),
            FrameKind::Ping => {
                let signer = Signer::Session {
                    key: &connection.keys.server,
                    frame_index: connection.sent,
                };
                encode_pong(&mut connection.out, frame.sequence(), signer);
                connection.sent += 1;
            }
            FrameKind::Bye => return false,
            other => panic!("{other:?} from a client"),
        }
        true
    }

    fn append(&self, connection: &mut Connection, send: &Send<'_>) -> bool {
        let mut state = self.state();
        let sequence = send.sequence().0;
        let last = state.last_of(connection.endpoint);
        if connection.discard_from.is_some_and(|from| sequence > from) {
            return true;
        }
        connection.discard_from = None;
        let nth = state.received;
        state.received += 1;
        if state.faults.contains(&Fault::MoveAway(nth)) {
            state.move_away(10);
            return false;
        }
        if let Some(at) = state
            .faults
            .iter()
            .position(|fault| matches!(fault, Fault::Reject(n, ..) if *n == nth))
        {
            let Fault::Reject(_, reason, retry) = state.faults.remove(at) else {
                return true;
            };
            connection.reject(
                PARTITION,
                sequence,
                Notice::new(reason, 1, 2).retry_after(retry),
            );
            return true;
        }
        if sequence > last + 1 {
            connection.reject(
                PARTITION,
                sequence,
                Notice::new(Reason::OutOfSequence, sequence, last + 1),
            );
            return true;
        }
        if sequence <= last {
            state.duplicates += 1;
            connection.ack(PARTITION, last, 0);
            return true;
        }
        let upto = state.append(connection.endpoint, send);
        if let Some(at) = state
            .faults
            .iter()
            .position(|fault| *fault == Fault::Cut(nth))
        {
            state.faults.remove(at);
            return false;
        }
        connection.ack(PARTITION, sequence, upto);
        state.gone |= state.faults.contains(&Fault::Leave(nth));
        true
    }

    /// Append what came beside the lane if its number is above the last, and answer if that is asked for.
    fn take_datagram(&self, connection: &mut Connection, bytes: &[u8]) {
        let datagram = Datagram::parse(bytes).expect("two numbers");
        let frame = datagram::whole(datagram.frame).expect("one whole SEND");
        let send = Send::parse(frame).expect("a well formed SEND");
        let number = datagram.number;
        assert!(
            datagram::verify(&connection.keys.client, number, &send),
            "bad signature on {frame:?}"
        );
        let mut state = self.state();
        let last = state.last_of(connection.endpoint);
        if state.faults.contains(&Fault::Miss(number)) {
            return;
        }
        let seen = send.sequence().0;
        if seen <= last {
            let notice = Notice::new(Reason::OutOfSequence, seen, last + 1);
            connection.reject(DATAGRAM_STREAM, number, notice);
            connection.discard_from = None;
            return;
        }
        let upto = state.append(connection.endpoint, &send);
        if number > 0 {
            connection.ack(DATAGRAM_STREAM, number, upto);
        }
    }

    /// Append an envelope under its own endpoint's name, or refuse it; the connection's others go on either way.
    fn relay(&self, connection: &mut Connection, relay: &Relay<'_>) {
        let (number, inner) = (relay.number().0, relay.inner());
        let key = SecretKey::from_base64(KEY).expect("a well formed key");
        let mut state = self.state();
        let nth = state.received;
        state.received += 1;
        let refused = state.faults.iter().find_map(|fault| match fault {
            Fault::Reject(n, reason, retry) if *n == nth => {
                Some(Notice::new(*reason, 1, 2).retry_after(*retry))
            }
            _ => None,
        });
        assert!(
            verify_envelope(&KeyMaterial::Symmetric(key), inner),
            "bad envelope"
        );
        if let Some(notice) = refused {
            connection.reject(RELAY_STREAM, number, notice);
            connection.discard_from = None;
            return;
        }
        let offset = state.append(inner.endpoint(), inner);
        connection.ack(RELAY_STREAM, number, offset);
    }

    fn settle(&self, connection: &mut Connection, settle: Settle) {
        let mut state = self.state();
        let number = settle.number.0;
        if number > connection.next_queue {
            let notice = Notice::new(Reason::NotDelivered, number, connection.next_queue);
            return connection.reject(QUEUE_STREAM, number, notice);
        }
        state.settled.push((number, settle.outcome));
        match settle.outcome {
            Outcome::AcceptUpTo => state.accepted = state.accepted.max(number),
            Outcome::ReleaseOne => connection.next_queue = number - 1,
            _ if number == state.accepted + 1 => state.accepted = number,
            _ => {}
        }
    }

    /// Deliver what credit allows, one group per frame; true cuts the connection.
    fn deliver(&self, connection: &mut Connection) -> bool {
        if !connection.receiver {
            return false;
        }
        let mut state = self.state();
        let mut first = 0;
        for index in 0..state.queue.len() {
            let stored = state.queue[index].clone();
            let number = first + 1;
            first += u64::from(stored.count);
            if number <= connection.next_queue || connection.credit == 0 {
                continue;
            }
            connection.deliver(&stored, number);
            let cut = Fault::CutDelivery(number);
            if let Some(at) = state.faults.iter().position(|fault| *fault == cut) {
                state.faults.remove(at);
                return true;
            }
        }
        false
    }
}

impl State {
    /// From now on another node answers at the same address: nobody's session is there, its log and its queues are other ones, and it has had so
    /// many frames of everybody.
    pub fn move_away(&mut self, began_with: u64) {
        *self = Self {
            logs: LogsId(self.logs.0 + 1),
            began_with,
            hellos: self.hellos,
            cuts: self.cuts + 1,
            ..Self::default()
        };
    }

    fn last_of(&self, endpoint: EndpointId) -> u64 {
        self.last.get(&endpoint).copied().unwrap_or(self.began_with)
    }

    /// Append a frame; the offset of its last message.
    fn append(&mut self, sender: EndpointId, send: &Send<'_>) -> u64 {
        let offset = self.messages;
        self.messages += u64::from(send.count());
        self.last.insert(sender, send.sequence().0);
        self.store(Stored {
            sender,
            sequence: send.sequence().0,
            count: send.count(),
            bytes: send.messages_bytes().to_vec(),
            offset,
        });
        self.messages - 1
    }

    fn store(&mut self, mut stored: Stored) {
        let nth = self.log.len();
        self.log.push(stored.clone());
        let has = |fault| self.faults.contains(&fault);
        if has(Fault::Lose(nth)) {
            return;
        }
        if has(Fault::Alter(nth)) {
            *stored.bytes.last_mut().expect("a message is not empty") ^= 1;
        }
        if has(Fault::Rename(nth)) {
            stored.sender = EndpointId(1);
        }
        if has(Fault::Duplicate(nth)) {
            self.queue.push(stored.clone());
        }
        if has(Fault::Swap(nth)) {
            self.held_back = Some(stored);
            return;
        }
        self.queue.push(stored);
        self.queue.extend(self.held_back.take());
    }

    /// Bodies in the log, in order.
    pub fn bodies(&self) -> Vec<String> {
        let messages = self
            .log
            .iter()
            .flat_map(|stored| wire::message::Messages::trusted(&stored.bytes));
        messages
            .map(|message| String::from_utf8_lossy(message.body).into_owned())
            .collect()
    }
}
