//! A shard with its disk and clock, and clients that talk to it in the bytes of the protocol. Deterministic:
//! nonces and session ids count up, time moves when a test moves it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use partition::memory::{Disk, MemorySegment, MemoryStorage};
use partition::{LogId, Partition, PartitionLimits, Storage};
use shard::queue::{LogEnd, QueueGroup, QueueLimits};
use shard::{
    ConnectionId, Input, Limits, Now, Opened, Output, Received, Sent, Shard, StorageEvent,
    StorageRequest,
};
use wire::ack::{Ack, Reject};
use wire::delivery::{Deliver, Fetch, GroupHeader, Outcome, Settle, Source};
use wire::frame::{FrameKind, split};
use wire::handshake::{Auth, HelloFields, Welcome, WelcomeFields, encode_hello, parse_refused};
use wire::ids::*;
use wire::link::{encode_bye, encode_ping, parse_goaway, parse_pong};
use wire::preface::Preface;
use wire::reason::{Notice, Reason};
use wire::route::*;
use wire::send::{SendBuilder, encode_relay};
use wire::signature::{SecretKey, SessionKeys, Signer, SigningKey, verify_session};

pub const SENDER: &str = "acme/prod/pump";
pub const RELAY: &str = "acme/prod/gateway";
pub const SENSOR: &str = "acme/prod/sensor";
pub const RECEIVER: &str = "acme/prod/billing";
pub const CHANNEL: &str = "acme/prod/telemetry";
/// In the same hub, which nobody hears and the sender has no grant for.
pub const OTHER: &str = "acme/prod/other";
/// Wall time when a world begins.
pub const START: u64 = 1_795_262_400;

pub fn secret(number: u8) -> SecretKey {
    SecretKey::from_random([number; 32])
}

pub fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[77; 32])
}

pub fn key(id: u32, direction: Direction, material: KeyMaterial) -> Key {
    Key {
        id: KeyId(id),
        name: format!("key{id}").into(),
        direction,
        material,
        expires: None,
        revoked: false,
    }
}

pub fn grant(channel: &str) -> Grant {
    Grant {
        channel: ChannelId::of(channel),
        restriction: Restriction::default(),
    }
}

pub fn endpoint(name: &str, keys: Vec<Key>, send: Vec<Grant>, receive: Vec<Grant>) -> Endpoint {
    Endpoint {
        id: EndpointId::of(name),
        name: name.into(),
        enabled: true,
        relay: false,
        keys,
        send,
        receive,
        queue: QueueBounds::default(),
    }
}

/// One hub of one partition, two channels, a sender, a relay, a sensor that is relayed, a receiver.
pub fn parts(ack: AckMode) -> TableParts {
    let symmetric = |number| KeyMaterial::Symmetric(secret(number));
    let mut relay = endpoint(
        RELAY,
        vec![key(1, Direction::Ingress, symmetric(3))],
        vec![grant(CHANNEL)],
        vec![],
    );
    relay.relay = true;
    TableParts {
        epoch: 1,
        queue_groups: 1,
        hubs: vec![Hub {
            id: 1,
            name: "acme/prod/main".into(),
            partitions: 1,
            ack,
            segment_bytes: 4 << 20,
            retention_bytes: None,
            retention_age: None,
        }],
        channels: [CHANNEL, OTHER]
            .map(|name| ChannelParts {
                id: ChannelId::of(name),
                name: name.into(),
                hub: 0,
            })
            .to_vec(),
        endpoints: vec![
            endpoint(
                SENDER,
                vec![key(1, Direction::Ingress, symmetric(1))],
                vec![grant(CHANNEL)],
                vec![],
            ),
            endpoint(
                RECEIVER,
                vec![key(1, Direction::Egress, symmetric(2))],
                vec![],
                vec![grant(CHANNEL)],
            ),
            relay,
            endpoint(
                SENSOR,
                vec![
                    key(1, Direction::Ingress, symmetric(4)),
                    key(
                        2,
                        Direction::Ingress,
                        KeyMaterial::Ed25519(signing_key().verifying_key()),
                    ),
                ],
                vec![grant(CHANNEL)],
                vec![],
            ),
        ],
    }
}

/// The endpoint of this name in the parts of a table.
pub fn endpoint_in<'p>(parts: &'p mut TableParts, name: &str) -> &'p mut Endpoint {
    parts
        .endpoints
        .iter_mut()
        .find(|endpoint| *endpoint.name == *name)
        .unwrap()
}

/// What a test decides about its world.
pub struct Setup {
    pub parts: TableParts,
    pub limits: Limits,
    pub log_limits: PartitionLimits,
    pub queue_limits: QueueLimits,
}

impl Setup {
    pub fn new(ack: AckMode) -> Self {
        Self {
            parts: parts(ack),
            limits: Limits::default(),
            log_limits: PartitionLimits {
                segment_bytes: 2 << 20,
                ..PartitionLimits::default()
            },
            queue_limits: QueueLimits::default(),
        }
    }
}

/// A shard, its disk and its clock.
pub struct World {
    pub disk: Disk,
    pub storage: MemoryStorage,
    pub shard: Shard<MemorySegment>,
    pub now: Now,
    /// Syncs wait in `syncs` until `release_syncs`.
    pub hold_syncs: bool,
    pub syncs: Vec<partition::CommitTicket>,
    /// What is sent is reported as sent in the next turn.
    pub report_sent: bool,
    pub closes: Vec<ConnectionId>,
    pub drain: bool,
    pub output: Output<MemorySegment>,
    pub table: Option<Arc<RouteTable>>,
    events: Vec<StorageEvent<MemorySegment>>,
    opened: Vec<Opened>,
    received: Vec<(ConnectionId, Vec<u8>)>,
    sent: Vec<Sent>,
    closed: Vec<ConnectionId>,
    said: BTreeMap<ConnectionId, Vec<u8>>,
    dead: BTreeSet<ConnectionId>,
    connections: u64,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        Self::on(Disk::new(1), setup)
    }

    pub fn with_ack(ack: AckMode) -> Self {
        Self::new(Setup::new(ack))
    }

    /// A shard that recovers from what is on a disk.
    pub fn on(disk: Disk, setup: Setup) -> Self {
        let mut storage = MemoryStorage::new(&disk);
        let now = Now {
            monotonic: Duration::from_secs(1_000),
            unix: UnixNanos::from_seconds(START),
        };
        let table = Arc::new(RouteTable::build(setup.parts).unwrap());
        let mut partitions = Vec::new();
        let mut ends = Vec::new();
        for (id, _) in table.partitions() {
            let log = LogId::partition(id);
            let (partition, _) =
                Partition::recover(&mut storage, log, setup.log_limits, now.unix).unwrap();
            ends.push(LogEnd {
                partition: id,
                first: partition.first(),
                end: partition.appended(),
            });
            partitions.push(partition);
        }
        let mut queues = Vec::new();
        for number in 0..table.queue_groups() {
            let limits = (setup.log_limits, setup.queue_limits);
            let (group, _) =
                QueueGroup::recover(&mut storage, number, limits.0, limits.1, &ends, now.unix)
                    .unwrap();
            queues.push(group);
        }
        let shard = Shard::new(setup.limits, table, partitions, queues, now);
        Self {
            disk,
            storage,
            shard,
            now,
            hold_syncs: false,
            syncs: Vec::new(),
            report_sent: true,
            closes: Vec::new(),
            drain: false,
            output: Output::default(),
            table: None,
            events: Vec::new(),
            opened: Vec::new(),
            received: Vec::new(),
            sent: Vec::new(),
            closed: Vec::new(),
            said: BTreeMap::new(),
            dead: BTreeSet::new(),
            connections: 0,
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.unix.0 += u64::try_from(time.as_nanos()).unwrap();
    }

    /// Open a connection; its randomness is its number.
    pub fn open(&mut self) -> ConnectionId {
        let number = self.connections as u8;
        let mut random = [0x80 | number; 48];
        random[..16].fill(number + 1);
        self.open_from("10.1.2.3:4000".parse().unwrap(), random)
    }

    pub fn open_from(&mut self, peer: SocketAddr, random: [u8; 48]) -> ConnectionId {
        let connection = ConnectionId(1 << 32 | self.connections);
        self.connections += 1;
        self.opened.push(Opened {
            connection,
            peer,
            random,
        });
        connection
    }

    /// Hand bytes in with the next turn.
    pub fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.received.push((connection, bytes.to_vec()));
    }

    /// The connection is lost.
    pub fn cut(&mut self, connection: ConnectionId) {
        if self.dead.insert(connection) {
            self.closed.push(connection);
        }
    }

    pub fn swap_table(&mut self, parts: TableParts) {
        self.table = Some(Arc::new(RouteTable::build(parts).unwrap()));
    }

    /// One turn with everything handed in since the last one; carries out what it asks for.
    pub fn turn(&mut self) {
        let opened = std::mem::take(&mut self.opened);
        let pieces = std::mem::take(&mut self.received);
        let received: Vec<Received<'_>> = pieces
            .iter()
            .map(|(connection, bytes)| Received {
                connection: *connection,
                bytes,
            })
            .collect();
        let sent = std::mem::take(&mut self.sent);
        let closed = std::mem::take(&mut self.closed);
        let mut input = Input {
            opened: &opened,
            received: &received,
            sent: &sent,
            closed: &closed,
            storage: &mut self.events,
            table: self.table.take(),
            drain: self.drain,
        };
        self.shard.turn(self.now, &mut input, &mut self.output);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for outgoing in self.output.sends.drain(..) {
            let connection = outgoing.connection;
            if self.report_sent {
                self.sent.push(Sent {
                    connection,
                    bytes: outgoing.bytes.len(),
                });
            }
            self.said
                .entry(connection)
                .or_default()
                .extend_from_slice(&outgoing.bytes);
        }
        for connection in self.output.closes.drain(..) {
            self.closes.push(connection);
            if self.dead.insert(connection) {
                self.closed.push(connection);
            }
        }
        let requests: Vec<_> = self.output.storage.drain(..).collect();
        for request in requests {
            match request {
                StorageRequest::Prepare { log, bytes } => {
                    self.events.push(match self.storage.prepare(log, bytes) {
                        Ok(segment) => StorageEvent::Prepared { log, segment },
                        Err(error) => StorageEvent::PrepareFailed { log, error },
                    });
                }
                StorageRequest::Sync(ticket) => self.syncs.push(ticket),
                StorageRequest::Retire { log, segment } => {
                    if let Some(segment) = self.storage.retire(log, segment).unwrap() {
                        self.events.push(StorageEvent::Prepared { log, segment });
                    }
                }
            }
        }
        if !self.hold_syncs {
            self.release_syncs();
        }
    }

    /// Do the syncs that wait; their results come with the next turn.
    pub fn release_syncs(&mut self) {
        for ticket in std::mem::take(&mut self.syncs) {
            let result = ticket
                .segments
                .iter()
                .try_for_each(|segment| self.storage.sync(segment));
            self.events.push(StorageEvent::Synced { ticket, result });
        }
    }

    /// Turn until nothing moves any more.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            self.turn();
            let idle = self.events.is_empty()
                && self.opened.is_empty()
                && self.received.is_empty()
                && self.closed.is_empty()
                && self.sent.is_empty();
            if idle && !self.output.more {
                return;
            }
        }
        panic!("the shard does not come to rest");
    }

    /// What the shard said to a connection since the last call.
    pub fn take_said(&mut self, connection: ConnectionId) -> Vec<u8> {
        self.said.remove(&connection).unwrap_or_default()
    }

    pub fn closed(&self, connection: ConnectionId) -> bool {
        self.closes.contains(&connection)
    }
}

/// A message as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub header: GroupHeader,
    pub number: u64,
    pub body: Vec<u8>,
}

/// What the server said.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Preface(Preface),
    Welcome(
        Box<WelcomeFields>,
        Vec<(ChannelId, PartitionId, Sequence, AckMode)>,
    ),
    Refused(Notice),
    Ack(Ack),
    Reject(Reject),
    Deliver(Source, Vec<Delivered>),
    Pong(Sequence),
    Goaway(Notice),
}

/// A client at the level of frames: it signs and counts as it must, and sends whatever a test wants.
pub struct Client {
    pub connection: ConnectionId,
    pub endpoint: EndpointId,
    pub name: String,
    /// The secret of the credential in use.
    pub secret: Vec<u8>,
    pub nonce: [u8; 32],
    pub keys: Option<SessionKeys>,
    pub session: SessionId,
    pub frames_out: u64,
    pub frames_in: u64,
    /// The number of the next SEND.
    pub sequence: u64,
    pub greeted: bool,
    inbox: Vec<u8>,
}

impl Client {
    /// A client on a fresh connection, which has said nothing yet.
    pub fn new(world: &mut World, name: &str, secret: &[u8]) -> Self {
        let connection = world.open();
        Self {
            connection,
            endpoint: EndpointId::of(name),
            name: name.to_owned(),
            secret: secret.to_vec(),
            nonce: nonce(connection),
            keys: None,
            session: SessionId::default(),
            frames_out: 0,
            frames_in: 0,
            sequence: 1,
            greeted: false,
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
        encode_hello(&mut bytes, &fields, &self.secret).unwrap();
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

    fn understand(&mut self, frame: wire::Frame<'_>) -> Said {
        if frame.kind() == FrameKind::Refused {
            return Said::Refused(parse_refused(frame).unwrap());
        }
        if frame.signature().is_empty() {
            return Said::Goaway(parse_goaway(frame).unwrap());
        }
        if frame.kind() == FrameKind::Welcome {
            let fields = Welcome::parse(frame).unwrap().fields;
            let (ours, theirs) = (&self.nonce, &fields.server_nonce);
            self.keys = Some(SessionKeys::derive(
                &self.secret,
                ours,
                theirs,
                fields.session_id,
                &[],
            ));
            self.session = fields.session_id;
        }
        let key = &self.keys.as_ref().unwrap().server;
        assert!(
            verify_session(key, self.frames_in, &frame),
            "frame {} of the server: {frame:?}",
            self.frames_in
        );
        self.frames_in += 1;
        match frame.kind() {
            FrameKind::Welcome => {
                let welcome = Welcome::parse(frame).unwrap();
                let entry = |entry: wire::handshake::WelcomeEntry<'_>| {
                    (
                        entry.channel,
                        entry.partition,
                        entry.last_sequence,
                        entry.ack_mode,
                    )
                };
                Said::Welcome(
                    Box::new(welcome.fields),
                    welcome.entries().map(entry).collect(),
                )
            }
            FrameKind::Ack => Said::Ack(Ack::parse(frame).unwrap()),
            FrameKind::Reject => Said::Reject(Reject::parse(frame).unwrap()),
            FrameKind::Deliver => deliveries(Deliver::parse(frame).unwrap()),
            FrameKind::Pong => Said::Pong(parse_pong(frame).unwrap()),
            FrameKind::Goaway => Said::Goaway(parse_goaway(frame).unwrap()),
            other => panic!("{other:?} from the server"),
        }
    }
}

fn deliveries(deliver: Deliver<'_>) -> Said {
    let mut messages = Vec::new();
    for group in deliver.groups() {
        for (at, message) in group.messages().enumerate() {
            let number = group.header.number.0 + at as u64;
            messages.push(Delivered {
                header: group.header,
                number,
                body: message.body.to_vec(),
            });
        }
    }
    Said::Deliver(deliver.source(), messages)
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

/// The reason of the only frame in `said`, which refuses something.
pub fn reason(said: &[Said]) -> Reason {
    match said
        .iter()
        .find(|said| !matches!(said, Said::Preface(_) | Said::Ack(_)))
    {
        Some(Said::Refused(notice) | Said::Goaway(notice)) => notice.reason,
        Some(Said::Reject(reject)) => reject.notice.reason,
        other => panic!("{other:?} refuses nothing; all: {said:?}"),
    }
}

/// The numbers acknowledged in `said`.
pub fn acks(said: &[Said]) -> Vec<u64> {
    said.iter()
        .filter_map(|said| {
            if let Said::Ack(ack) = said {
                Some(ack.sequence.0)
            } else {
                None
            }
        })
        .collect()
}

/// The numbers and reasons rejected in `said`.
pub fn rejects(said: &[Said]) -> Vec<(u64, Reason)> {
    said.iter()
        .filter_map(|said| match said {
            Said::Reject(reject) => Some((reject.sequence.0, reject.notice.reason)),
            _ => None,
        })
        .collect()
}

/// The bodies delivered in `said`.
pub fn bodies(said: &[Said]) -> Vec<Vec<u8>> {
    said.iter()
        .flat_map(|said| match said {
            Said::Deliver(_, messages) => messages
                .iter()
                .map(|message| message.body.clone())
                .collect(),
            _ => Vec::new(),
        })
        .collect()
}

/// A client nonce that no other connection has.
fn nonce(connection: ConnectionId) -> [u8; 32] {
    let mut nonce = [0x40; 32];
    nonce[..8].copy_from_slice(&connection.0.to_le_bytes());
    nonce
}
