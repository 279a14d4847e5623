//! A shard, its disk and its clock, as a test drives them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use partition::memory::{Disk, MemorySegment, MemoryStorage, MemoryView};
use partition::{LogId, Partition, PartitionLimits, Recovery, Storage};
use shard::queue::{LogEnd, QueueGroup, QueueLimits, QueueRecovery};
use shard::{
    ConnectionId, HandOver, Input, Limits, Now, Opened, Output, Ownership, Peer, Received, Sent,
    Shard, Shown, StorageEvent, StorageRequest, Tunnel,
};
use wire::ids::*;
use wire::route::*;

use super::changes::by_change;
use super::{START, parts};

/// Of memory, where a test is about that: a little more than there must be.
pub const BUDGET: u64 = 9 << 20;

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

    /// A shard with [`BUDGET`] of memory, none of it receive buffers.
    pub fn of_little_memory(mut self) -> Self {
        self.limits.memory_bytes = BUDGET;
        self.limits.receive_bytes = 0;
        self
    }
}

/// Turn the shards of a node, and carry what they say to each other, `room` messages on each way in a round, until
/// nothing moves any more.
pub fn settle_all(shards: &mut [World], room: usize) {
    for _ in 0..10_000 {
        let mut moved = false;
        for from in 0..shards.len() {
            shards[from].settle();
            for to in 0..shards[from].output.mesh.len() {
                let said = &mut shards[from].output.mesh[to];
                let taken: Vec<_> = said.drain(..room.min(said.len())).collect();
                moved |= !taken.is_empty();
                shards[to]
                    .mesh
                    .extend(taken.into_iter().map(|message| (from as u16, message)));
            }
        }
        if !moved {
            return;
        }
    }
    panic!("the shards do not come to rest");
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
    /// Logs whose sync failed, how many preparations did, and how many segments could not be given back.
    pub failed_syncs: Vec<LogId>,
    pub failed_prepares: u64,
    pub failed_retires: u64,
    /// What is sent is reported as sent in the next turn.
    pub report_sent: bool,
    /// Connections whose peers take nothing, and the bytes that wait for each.
    pub stuck: BTreeMap<ConnectionId, usize>,
    pub closes: Vec<ConnectionId>,
    /// Connections that are to go to another shard.
    pub hand_overs: Vec<HandOver>,
    pub drain: bool,
    pub output: Output<MemorySegment>,
    pub table: Option<Arc<RouteTable>>,
    /// What was swapped in last.
    newest: Arc<RouteTable>,
    /// What recovery found, log by log and queue group by queue group.
    pub recovered: (Vec<Recovery>, Vec<QueueRecovery>),
    /// What other shards said, for the next turn.
    pub mesh: Vec<(u16, Peer<MemoryView>)>,
    events: Vec<StorageEvent<MemorySegment>>,
    opened: Vec<Opened>,
    tunnels: Vec<Tunnel>,
    received: Vec<(ConnectionId, Vec<u8>)>,
    datagrams: Vec<(ConnectionId, Vec<u8>)>,
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
        Self::shards(disk, setup, 1).pop().unwrap()
    }

    /// The shards of a node that recovers from what is on a disk: first all partitions, then, as their ends are known, the
    /// queue groups.
    pub fn shards(disk: Disk, setup: Setup, count: u16) -> Vec<Self> {
        let mut storage = MemoryStorage::new(&disk);
        let now = Now {
            monotonic: Duration::from_secs(1_000),
            unix: UnixNanos::from_seconds(START),
        };
        let table = Arc::new(RouteTable::build(setup.parts).unwrap());
        let ownership = Ownership::new(&table, count);
        let mut recovered = (Vec::new(), Vec::new());
        let mut partitions: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        let mut ends = Vec::new();
        for (id, _) in table.partitions() {
            let log = LogId::partition(id);
            let (partition, report) =
                Partition::recover(&mut storage, log, setup.log_limits, now.unix).unwrap();
            ends.push(LogEnd {
                partition: id,
                first: partition.first(),
                end: partition.appended(),
            });
            partitions[usize::from(ownership.partition(id).unwrap())].push(partition);
            recovered.0.push(report);
        }
        let mut queues: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for number in 0..table.queue_groups() {
            let limits = (setup.log_limits, setup.queue_limits);
            let (group, report) =
                QueueGroup::recover(&mut storage, number, limits.0, limits.1, &ends, now.unix)
                    .unwrap();
            queues[usize::from(ownership.queue_group(number))].push(group);
            recovered.1.push(report);
        }
        let owned = partitions.into_iter().zip(queues).zip(0..);
        let shards = owned.map(|((partitions, queues), shard)| {
            let limits = Limits {
                shards: count,
                shard,
                ..setup.limits.clone()
            };
            let shard = Shard::new(limits, Arc::clone(&table), partitions, queues, now);
            Self::around(disk.clone(), shard, Arc::clone(&table), now)
        });
        let mut shards: Vec<_> = shards.collect();
        shards[0].recovered = recovered;
        shards
    }

    fn around(disk: Disk, shard: Shard<MemorySegment>, newest: Arc<RouteTable>, now: Now) -> Self {
        Self {
            storage: MemoryStorage::new(&disk),
            disk,
            shard,
            now,
            hold_syncs: false,
            syncs: Vec::new(),
            failed_syncs: Vec::new(),
            failed_prepares: 0,
            failed_retires: 0,
            report_sent: true,
            stuck: BTreeMap::new(),
            closes: Vec::new(),
            hand_overs: Vec::new(),
            drain: false,
            output: Output::default(),
            table: None,
            newest,
            recovered: (Vec::new(), Vec::new()),
            mesh: Vec::new(),
            events: Vec::new(),
            opened: Vec::new(),
            tunnels: Vec::new(),
            received: Vec::new(),
            datagrams: Vec::new(),
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
        random[..16].fill(number.wrapping_add(1));
        // Beyond 256 connections the rest of the number makes session ids and nonces differ.
        let rest = (self.connections >> 8).to_le_bytes();
        for (at, byte) in rest.iter().enumerate() {
            random[at] ^= byte;
            random[16 + at] ^= byte;
        }
        self.open_from("10.1.2.3:4000".parse().unwrap(), random)
    }

    /// The connection that was opened last comes from elsewhere.
    pub fn move_last(&mut self, peer: SocketAddr) {
        self.opened.last_mut().unwrap().peer = peer;
    }

    pub fn open_from(&mut self, peer: SocketAddr, random: [u8; 48]) -> ConnectionId {
        let connection = ConnectionId(1 << 32 | self.connections);
        self.connections += 1;
        self.opened.push(Opened {
            connection,
            peer,
            random,
            handed_over: false,
        });
        connection
    }

    /// Take in a connection from another shard, with what was received of it since.
    pub fn adopt(&mut self, mut handed: HandOver, since: &[u8]) -> ConnectionId {
        let connection = self.open();
        let opened = self.opened.last_mut().unwrap();
        opened.handed_over = true;
        handed.bytes.extend_from_slice(since);
        self.receive(connection, &handed.bytes);
        connection
    }

    /// The tunnel of a connection stands, under TLS or QUIC, and has this exporter value.
    pub fn tunnel(&mut self, connection: ConnectionId, exporter: [u8; 32]) {
        self.tunnel_showing(connection, exporter, None);
    }

    /// The same, and this certificate was shown in its handshake.
    pub fn tunnel_showing(
        &mut self,
        connection: ConnectionId,
        exporter: [u8; 32],
        shown: Option<Shown>,
    ) {
        self.tunnels.push(Tunnel {
            stays: false,
            connection,
            exporter,
            shown,
        });
    }

    /// A connection is a lane of one over QUIC.
    pub fn lane(&mut self, connection: ConnectionId, exporter: [u8; 32]) {
        self.lane_showing(connection, exporter, None);
    }

    /// The same, and this certificate was shown in its handshake.
    pub fn lane_showing(
        &mut self,
        connection: ConnectionId,
        exporter: [u8; 32],
        shown: Option<Shown>,
    ) {
        self.tunnels.push(Tunnel {
            stays: true,
            connection,
            exporter,
            shown,
        });
    }

    /// Hand bytes in with the next turn.
    pub fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.received.push((connection, bytes.to_vec()));
    }

    /// A QUIC datagram has come beside a connection, which is a lane.
    pub fn beside(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.datagrams.push((connection, bytes.to_vec()));
    }

    /// The connection is lost.
    pub fn cut(&mut self, connection: ConnectionId) {
        if self.dead.insert(connection) {
            self.closed.push(connection);
        }
    }

    /// The peer takes nothing any more.
    pub fn stick(&mut self, connection: ConnectionId) {
        self.stuck.insert(connection, 0);
    }

    /// The peer takes what waits for it, and what comes.
    pub fn unstick(&mut self, connection: ConnectionId) {
        let bytes = self.stuck.remove(&connection).unwrap();
        self.sent.push(Sent { connection, bytes });
    }

    /// The peer takes one byte of what waits for it.
    pub fn take_one_byte(&mut self, connection: ConnectionId) {
        let waiting = self.stuck.get_mut(&connection).unwrap();
        if *waiting > 0 {
            *waiting -= 1;
            self.sent.push(Sent {
                connection,
                bytes: 1,
            });
        }
    }

    pub fn swap_table(&mut self, parts: TableParts) {
        let next = by_change(&self.newest, RouteTable::build(parts).unwrap());
        self.newest = Arc::new(next);
        self.table = Some(Arc::clone(&self.newest));
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
        let pieces = std::mem::take(&mut self.datagrams);
        let parsed = pieces.iter().map(|(connection, bytes)| {
            let datagram = wire::datagram::Datagram::parse(bytes).unwrap();
            shard::Datagram {
                connection: *connection,
                number: datagram.number,
                bytes: datagram.frame,
            }
        });
        let datagrams: Vec<shard::Datagram<'_>> = parsed.collect();
        let tunnels = std::mem::take(&mut self.tunnels);
        let sent = std::mem::take(&mut self.sent);
        let closed = std::mem::take(&mut self.closed);
        let mut input = Input {
            opened: &opened,
            tunnels: &tunnels,
            received: &received,
            datagrams: &datagrams,
            sent: &sent,
            closed: &closed,
            storage: &mut self.events,
            mesh: &mut self.mesh,
            table: self.table.take(),
            drain: self.drain,
        };
        self.shard.turn(self.now, &mut input, &mut self.output);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for outgoing in self.output.sends.drain(..) {
            let connection = outgoing.connection;
            if let Some(waits) = self.stuck.get_mut(&connection) {
                *waits += outgoing.bytes.len();
            } else if self.report_sent {
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
        self.hand_overs.append(&mut self.output.hand_over);
        let requests: Vec<_> = self.output.storage.drain(..).collect();
        for request in requests {
            match request {
                StorageRequest::Prepare { log, bytes } => {
                    self.events.push(match self.storage.prepare(log, bytes) {
                        Ok(segment) => StorageEvent::Prepared { log, segment },
                        Err(error) => {
                            self.failed_prepares += 1;
                            StorageEvent::PrepareFailed { log, error }
                        }
                    });
                }
                StorageRequest::Sync(ticket) => self.syncs.push(ticket),
                StorageRequest::Retire { log, segment } => {
                    match self.storage.retire(log, segment) {
                        Ok(Some(segment)) => {
                            self.events.push(StorageEvent::Prepared { log, segment })
                        }
                        Ok(None) => {}
                        Err(error) => {
                            self.failed_retires += 1;
                            self.events.push(StorageEvent::PrepareFailed { log, error });
                        }
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
            if result.is_err() {
                self.failed_syncs.push(ticket.log);
            }
            self.events.push(StorageEvent::Synced { ticket, result });
        }
    }

    /// Turn until nothing moves any more.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            self.turn();
            let idle = self.events.is_empty()
                && self.mesh.is_empty()
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

    /// Whether a connection is gone, whoever ended it.
    pub fn dead(&self, connection: ConnectionId) -> bool {
        self.dead.contains(&connection)
    }

    pub fn closed(&self, connection: ConnectionId) -> bool {
        self.closes.contains(&connection)
    }
}
