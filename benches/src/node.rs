//! A shard over mapped segments, with everything a node does for it but the sockets and the syncs: spares come
//! at once, syncs have always succeeded, what is sent has left. Only the turn itself is timed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use partition::{LogId, MappedSegment};
use shard::queue::{LogEnd, QueueGroup, QueueLimits};
use shard::{
    ConnectionId, Counters, Input, Limits, Now, Opened, Output, Received, Sent, Shard,
    StorageEvent, StorageRequest,
};
use wire::handshake::{Auth, HelloFields, encode_hello};
use wire::ids::{
    AckMode, Direction, EndpointId, KeyId, PartitionId, Sequence, SessionId, UnixNanos,
};
use wire::preface::Preface;
use wire::signature::{SessionKeys, Signer};

use crate::clock::timed;
use crate::fixtures::{HUB, put, receiver, secret, sender, table};
use crate::log::Disk;

const SEGMENT_BYTES: u32 = 64 << 20;
/// Retention is looked at this often in the shard's time, of which a turn takes a millisecond.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(20);
/// Longer than any bench lets one connection rest while another one works.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1_000_000);
const QUEUE_GROUP: u16 = 0;

/// A shard with one partition, ack mode `local`, and a queue group if anybody receives.
pub struct Node {
    shard: Shard<MappedSegment>,
    disk: Disk,
    now: Now,
    events: Vec<StorageEvent<MappedSegment>>,
    sent: Vec<Sent>,
    output: Output<MappedSegment>,
    connections: u64,
}

/// The other end of a connection whose handshake is done.
pub struct Client {
    /// The connection.
    pub connection: ConnectionId,
    endpoint: EndpointId,
    keys: SessionKeys,
    frame_index: u64,
    sequence: Sequence,
}

impl Client {
    /// Append the next SEND, of `messages` bodies, to `out`.
    pub fn put_frame(&mut self, out: &mut Vec<u8>, messages: u16) {
        self.sequence = self.sequence.next();
        let (endpoint, sequence) = (self.endpoint, self.sequence);
        self.sign(|signer| put(out, endpoint, sequence, messages, signer));
    }

    /// The frame put last will be refused: its number comes again.
    pub fn forget_frame(&mut self) {
        self.sequence = Sequence(self.sequence.0 - 1);
    }

    /// Sign the next frame of this connection, whatever it is.
    pub fn sign(&mut self, encode: impl FnOnce(Signer<'_>)) {
        encode(Signer::Session {
            key: &self.keys.client,
            frame_index: self.frame_index,
        });
        self.frame_index += 1;
    }
}

impl Node {
    /// A node that knows so many senders and receivers.
    pub fn new(senders: usize, receivers: usize) -> Self {
        let mut disk = Disk::new();
        let id = PartitionId::new(HUB, 0);
        let partition = disk.open(LogId::partition(id), SEGMENT_BYTES);
        let now = Now {
            monotonic: Duration::from_secs(1),
            unix: UnixNanos(1_800_000_000_000_000_000),
        };
        let mut queues = Vec::new();
        if receivers > 0 {
            let end = LogEnd {
                partition: id,
                first: partition.first(),
                end: partition.appended(),
            };
            queues.push(queue_group(&mut disk, &[end], now.unix));
        }
        let limits = Limits {
            expiry_interval: EXPIRY_INTERVAL,
            idle_timeout: IDLE_TIMEOUT,
            // What forged frames cost is measured, too.
            bad_signatures_max: u32::MAX,
            ..Limits::default()
        };
        let table = Arc::new(table(1, senders, receivers));
        Self {
            shard: Shard::new(limits, table, vec![partition], queues, now),
            disk,
            now,
            events: Vec::new(),
            sent: Vec::new(),
            output: Output::default(),
            connections: 0,
        }
    }

    /// A connection of sender `number`, welcomed.
    pub fn sender(&mut self, number: usize) -> Client {
        self.connect(&sender(number), Direction::Ingress)
    }

    /// A connection of receiver `number`, welcomed.
    pub fn receiver(&mut self, number: usize) -> Client {
        self.connect(&receiver(number), Direction::Egress)
    }

    fn connect(&mut self, name: &str, direction: Direction) -> Client {
        let number = self.connections;
        self.connections += 1;
        let connection = ConnectionId(1 << 32 | number);
        let mut random = [0x33; 48];
        random[..8].copy_from_slice(&number.to_le_bytes());
        let opened = Opened {
            connection,
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)),
            random,
            handed_over: false,
        };
        let fields = HelloFields {
            auth: Auth::Key(KeyId(1)),
            name,
            client_nonce: client_nonce(number),
            unix_seconds: 0,
        };
        let mut bytes = Preface::CLIENT.encode().to_vec();
        encode_hello(&mut bytes, &fields, secret().text_bytes(), &[]).expect("the name is a name");
        let before = self.shard.counters().session.welcomed;
        self.turn_with(
            &[opened],
            &[Received {
                connection,
                bytes: &bytes,
            }],
        );
        self.turn(&[]);
        let welcomed = self.shard.counters().session.welcomed - before;
        assert_eq!(welcomed, 1, "{name} is not welcome as {direction:?}");
        let id = SessionId(*random.first_chunk().expect("48 bytes hold 16"));
        let nonce = random.last_chunk::<32>().expect("48 bytes hold 32");
        Client {
            connection,
            endpoint: EndpointId::of(name),
            keys: SessionKeys::derive(secret().text_bytes(), &fields.client_nonce, nonce, id, &[]),
            frame_index: 0,
            sequence: Sequence(0),
        }
    }

    /// One turn over these bytes, and the processor time it took.
    pub fn turn(&mut self, received: &[Received<'_>]) -> Duration {
        self.turn_with(&[], received)
    }

    fn turn_with(&mut self, opened: &[Opened], received: &[Received<'_>]) -> Duration {
        let step = Duration::from_millis(1);
        self.now.monotonic += step;
        self.now.unix.0 += step.as_nanos() as u64;
        let mut input = Input {
            opened,
            tunnels: &[],
            received,
            datagrams: &[],
            sent: &self.sent,
            closed: &[],
            storage: &mut self.events,
            mesh: &mut Vec::new(),
            table: None,
            drain: false,
        };
        let (shard, now, output) = (&mut self.shard, self.now, &mut self.output);
        let (took, ()) = timed(|| shard.turn(now, &mut input, output));
        self.carry_out();
        took
    }

    /// Do what the turn asked for, as far as there is anything to do.
    fn carry_out(&mut self) {
        assert!(self.output.closes.is_empty(), "{:?}", self.output);
        self.sent.clear();
        for mut outgoing in self.output.sends.drain(..) {
            let (connection, bytes) = (outgoing.connection, outgoing.bytes.len());
            self.sent.push(Sent { connection, bytes });
            outgoing.bytes.clear();
            self.output.buffers.push(outgoing.bytes);
        }
        for request in self.output.storage.drain(..) {
            match request {
                StorageRequest::Prepare { log, bytes } => {
                    let segment = self.disk.prepare(log, bytes);
                    self.events.push(StorageEvent::Prepared { log, segment });
                }
                StorageRequest::Sync(ticket) => {
                    let result = Ok(());
                    self.events.push(StorageEvent::Synced { ticket, result });
                }
                StorageRequest::Retire { log, segment } => {
                    let spare = self.disk.recycle(log, segment);
                    self.events
                        .extend(spare.map(|segment| StorageEvent::Prepared { log, segment }));
                }
            }
        }
    }

    /// Count the cycles of every stage.
    #[cfg(feature = "cycles")]
    pub fn count_cycles(&mut self, read: fn() -> u64) {
        self.shard.count_cycles(read);
    }

    /// What the shard counted since the start.
    pub fn counters(&self) -> &Counters {
        self.shard.counters()
    }
}

fn queue_group(disk: &mut Disk, ends: &[LogEnd], now: UnixNanos) -> QueueGroup<MappedSegment> {
    let limits = QueueLimits {
        ack: AckMode::Local,
        ..QueueLimits::default()
    };
    let log_limits = Disk::limits(SEGMENT_BYTES);
    let recovered = QueueGroup::recover(
        &mut disk.storage,
        QUEUE_GROUP,
        log_limits,
        limits,
        ends,
        now,
    );
    let (mut group, _) = recovered.expect("an empty journal opens");
    if let Some(bytes) = group.log_mut().request_spare() {
        let spare = disk.prepare(LogId::queue(QUEUE_GROUP), bytes);
        group.offer(spare);
    }
    group
}

/// A nonce that no other connection has: one that came before is refused.
fn client_nonce(connection: u64) -> [u8; 32] {
    let mut nonce = [0x11; 32];
    nonce[..8].copy_from_slice(&connection.to_le_bytes());
    nonce
}
