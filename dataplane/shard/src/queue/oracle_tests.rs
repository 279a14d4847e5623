//! Random operations, syncs and crashes on real queues and partitions, against plain vectors and maps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use partition::memory::{Crash, Disk, MemorySegment, MemoryStorage};
use partition::{LogId, NewRecord, Partition, RecordKind, Storage};
use wire::ids::{ChannelId, EndpointId, Offset, PartitionId, Sequence, UnixNanos};
use wire::route::{EndpointView, OnFull, RouteTable};

use crate::reading::LogReader;

use super::test_plan::{CHANNELS, LOCK, PARTITIONS, Place, queue_limits, recover, table};
use super::{FanOut, QueueGroup, Rewind, Source, Span};

/// What the oracle knows of one endpoint.
#[derive(Default)]
struct Seen {
    /// Settled places, and the settlement's number.
    settled: BTreeMap<Place, u64>,
    numbers: BTreeMap<(Source, u64), Place>,
    /// Highest offset delivered since the last rewind, by partition.
    last: BTreeMap<PartitionId, u64>,
}

struct World {
    random: Rng,
    disk: Disk,
    storage: MemoryStorage,
    table: RouteTable,
    partitions: Vec<Partition<MemorySegment>>,
    group: QueueGroup<MemorySegment>,
    /// Channel of every message, by partition and offset.
    messages: Vec<Vec<u32>>,
    seen: BTreeMap<EndpointId, Seen>,
    settlements: u64,
    settlements_synced: u64,
    /// Fan out what is appended but not committed, too.
    eager: bool,
    now: u64,
    deliveries: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = Disk::new(seed);
        let mut storage = MemoryStorage::new(&disk);
        let (partitions, group) = recover(&mut storage, UnixNanos(1));
        let table = table();
        let seen = table.endpoints().map(|e| (e.id, Seen::default())).collect();
        Self {
            random: Rng::with_seed(seed),
            disk,
            storage,
            table,
            partitions,
            group,
            messages: vec![Vec::new(); 2],
            seen,
            settlements: 0,
            settlements_synced: 0,
            eager: seed % 2 == 1,
            now: 1_000_000_000,
            deliveries: 0,
        }
    }

    fn unix(&self) -> UnixNanos {
        UnixNanos(self.now)
    }

    fn clock(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    fn append(&mut self) {
        let at = self.random.usize(..2);
        let (channel, count) = (self.random.u32(..CHANNELS), self.random.u16(1..6));
        let record = NewRecord {
            kind: RecordKind::Frame,
            signature_kind: 1,
            count,
            endpoint: EndpointId(7),
            channel: ChannelId(channel),
            sequence: Sequence(self.partitions[at].sender(EndpointId(7)).last.0 + 1),
            time: self.unix(),
        };
        let payload = vec![7; 16 * usize::from(count)];
        if self.partitions[at].append(&record, &[&payload]).is_ok() {
            self.messages[at].extend(std::iter::repeat_n(channel, usize::from(count)));
        }
    }

    /// Prepare spares and sync some logs.
    fn storage(&mut self) {
        for (log, partition) in self.partitions.iter_mut().zip(PARTITIONS) {
            if let Some(bytes) = log.wants_spare() {
                log.offer(
                    self.storage
                        .prepare(LogId::partition(partition), bytes)
                        .expect("room"),
                );
            }
            if self.random.bool()
                && let Some(ticket) = log.begin_commit()
            {
                let result = ticket
                    .segments
                    .iter()
                    .try_for_each(|s| self.storage.sync(s));
                log.finish_commit(ticket, result).expect("no faults");
            }
        }
        if self.random.u8(..4) > 0
            && let Some(bytes) = self.group.wants_spare()
        {
            self.group
                .offer(self.storage.prepare(LogId::queue(0), bytes).expect("room"));
        }
        let _ = self.group.flush(self.unix());
        if self.random.bool()
            && let Some(ticket) = self.group.begin_commit()
        {
            let result = ticket
                .segments
                .iter()
                .try_for_each(|s| self.storage.sync(s));
            self.group.finish_commit(ticket, result).expect("no faults");
            self.settlements_synced = self.settlements;
            while let Some(segment) = self.group.expire_segment(self.unix()) {
                self.storage
                    .retire(LogId::queue(0), segment)
                    .expect("no faults");
            }
        }
    }

    fn fan_out(&mut self) {
        let mut spans = Vec::new();
        for (at, &partition) in PARTITIONS.iter().enumerate() {
            let log = &self.partitions[at];
            let end = if self.eager {
                log.appended()
            } else {
                log.committed()
            };
            let mut next = self.group.watermark(partition);
            while next < end && spans.len() < 12 {
                let record = log.read(next).expect("it is below the end");
                let bytes = record.payload().len() as u64;
                let (channel, count) = (record.channel(), u32::from(record.count()));
                spans.push(Span {
                    partition,
                    channel,
                    first: record.first(),
                    count,
                    bytes,
                });
                next = record.next();
            }
        }
        let result = self.group.fan_out(&spans, &self.table, self.unix());
        assert!(spans.is_empty() || result == FanOut::Paused || result != FanOut::Taken(0));
        let logs = &self.partitions;
        self.group.catch_up(&self.table, UnixNanos(self.now), |id| {
            logs.get(usize::from(id.number())).map(LogReader::Own)
        });
    }

    fn rewound(&mut self, endpoint: EndpointId) {
        self.seen.get_mut(&endpoint).expect("known").last.clear();
    }

    /// Deliver some of what may go, checking every message; returns what went out.
    fn deliver(&mut self, endpoint: EndpointId, source: Source, most: u32) -> Vec<(u64, Place)> {
        let mut sent = Vec::new();
        while (sent.len() as u32) < most
            && let Some(piece) = self.group.next_piece(endpoint, source)
        {
            let at = usize::from(piece.partition.number());
            let committed = self.partitions[at].committed();
            let take = u64::from(piece.count.min(most - sent.len() as u32));
            let take = take.min(committed.0.saturating_sub(piece.offset.0));
            if take == 0 {
                break;
            }
            for i in 0..take {
                let (number, offset) = (piece.number + i, piece.offset.0 + i);
                self.check_message(endpoint, source, number, (piece.partition, offset));
                sent.push((number, (piece.partition, offset)));
            }
            let clock = self.clock();
            self.group
                .delivered(endpoint, source, piece.number, take as u32, clock, LOCK);
        }
        self.deliveries += sent.len() as u64;
        sent
    }

    fn check_message(&mut self, id: EndpointId, source: Source, number: u64, place: Place) {
        let endpoint = self.table.endpoint(id).expect("known");
        let at = usize::from(place.0.number());
        let channel = ChannelId(self.messages[at][place.1 as usize]);
        assert!(
            endpoint.receive_grant(channel).is_some(),
            "{} hears {channel}",
            endpoint.name()
        );
        let seen = self.seen.get_mut(&id).expect("known");
        let before = seen.numbers.insert((source, number), place);
        assert!(
            before.is_none_or(|before| before == place),
            "{number}: {before:?} and {place:?}"
        );
        if source == Source::Queue {
            assert!(!seen.settled.contains_key(&place), "{place:?} was settled");
            let last = seen.last.insert(place.0, place.1);
            assert!(
                last.is_none_or(|last| last < place.1),
                "{last:?} then {place:?}"
            );
        }
    }

    fn settle(&mut self, id: EndpointId, sent: &[(u64, Place)]) {
        let Some(&(number, place)) = self.random.choice(sent) else {
            return;
        };
        let clock = self.clock();
        self.settlements += 1;
        let stamp = self.settlements;
        match self.random.u8(..8) {
            0..4 => {
                let upto = sent.iter().filter(|&&(n, _)| n <= number);
                let seen = self.seen.get_mut(&id).expect("known");
                let everything = seen
                    .numbers
                    .range((Source::Queue, 0)..=(Source::Queue, number));
                seen.settled
                    .extend(everything.map(|(_, &place)| (place, stamp)));
                seen.settled.extend(upto.map(|&(_, place)| (place, stamp)));
                self.group
                    .accept_up_to(id, Source::Queue, number, clock, LOCK)
                    .expect("delivered");
            }
            4..6 => {
                self.group
                    .accept(id, Source::Queue, number, clock, LOCK)
                    .expect("delivered");
                self.seen
                    .get_mut(&id)
                    .expect("known")
                    .settled
                    .insert(place, stamp);
            }
            6 => {
                let bounds = *self.table.endpoint(id).expect("known").queue();
                let unix = self.unix();
                self.group
                    .release(id, Source::Queue, number, &bounds, unix)
                    .expect("delivered");
                self.rewound(id);
            }
            _ => {
                let unix = self.unix();
                self.group
                    .bury(id, Source::Queue, number, unix)
                    .expect("delivered");
            }
        }
    }

    fn receive(&mut self) {
        let at = self.random.u32(..self.table.endpoint_count() as u32);
        let (id, bounds) = {
            let endpoint = self.table.endpoint_at(at);
            (endpoint.id, *endpoint.queue())
        };
        let count = self.random.u32(1..30);
        let sent = self.deliver(id, Source::Queue, count);
        match self.random.u8(..6) {
            0 => {
                let unix = self.unix();
                self.group
                    .rewind(id, Source::Queue, Rewind::Disconnected, &bounds, unix);
                self.rewound(id);
            }
            1 => {}
            _ => self.settle(id, &sent),
        }
    }

    fn expire(&mut self) {
        self.now += self.random.u64(..20_000_000_000);
        let mut out = Vec::new();
        let (clock, unix) = (self.clock(), self.unix());
        self.group.expire_locks(clock, unix, &self.table, &mut out);
        for expired in out {
            self.rewound(expired.endpoint);
        }
        self.group.expire(unix, &self.table, |_| Some(Offset(0)));
    }

    fn crash(&mut self) {
        let crash = match self.random.u8(..3) {
            0 => Crash::Lost,
            1 => Crash::Kept,
            _ => Crash::Seeded(self.random.u64(..)),
        };
        self.disk = self.disk.crash(crash);
        self.storage = MemoryStorage::new(&self.disk);
        (self.partitions, self.group) = recover(&mut self.storage, UnixNanos(self.now));
        let mut kept = BTreeSet::new();
        for (at, log) in self.partitions.iter().enumerate() {
            self.messages[at].truncate(log.appended().0 as usize);
            kept.insert((PARTITIONS[at], log.appended().0));
        }
        let synced = self.settlements_synced;
        for seen in self.seen.values_mut() {
            seen.last.clear();
            seen.settled.retain(|_, stamp| *stamp <= synced);
        }
    }

    fn step(&mut self) {
        match self.random.u8(..40) {
            0..12 => self.append(),
            12..20 => self.storage(),
            20..27 => self.fan_out(),
            27..38 => self.receive(),
            38 => self.expire(),
            _ if self.random.u8(..3) == 0 => self.crash(),
            _ => {}
        }
        self.group.check();
        for endpoint in self.table.endpoints() {
            let depth = self.group.depth(endpoint.id, Source::Queue);
            let most = endpoint.queue().messages_max;
            assert!(
                depth.messages <= most.max(1),
                "{}: {depth:?}",
                endpoint.name()
            );
            assert!(
                depth.runs <= queue_limits().runs_max + 1,
                "{}: {depth:?}",
                endpoint.name()
            );
        }
    }

    /// Let everything come to rest, then everything must have arrived.
    fn quiesce(&mut self) {
        for round in 0.. {
            let waiting = |endpoint: EndpointView<'_>| {
                let depth = self.group.depth(endpoint.id, Source::Queue);
                depth.messages > 0 || depth.parked > 0
            };
            if round > 3 && !self.table.endpoints().any(waiting) {
                break;
            }
            let depths: Vec<_> = self
                .seen
                .keys()
                .map(|&id| self.group.depth(id, Source::Queue))
                .collect();
            assert!(
                round < 5_000,
                "never comes to rest: {depths:?} {:?} {:?}",
                self.group.log().state(),
                self.group.counters()
            );
            for _ in 0..4 {
                self.fan_out();
                self.storage();
            }
            for at in 0..self.table.endpoint_count() as u32 {
                let id = self.table.endpoint_at(at).id;
                for source in [Source::Queue, Source::DeadLetters] {
                    let sent = self.deliver(id, source, u32::MAX);
                    let clock = self.clock();
                    if let Some(&(last, _)) = sent.last() {
                        self.group
                            .accept_up_to(id, source, last, clock, LOCK)
                            .expect("delivered");
                    }
                    let seen = self.seen.get_mut(&id).expect("known");
                    seen.settled
                        .extend(sent.into_iter().map(|(_, place)| (place, 0)));
                }
            }
            self.now += 31_000_000_000;
            self.expire();
        }
        for endpoint in self.table.endpoints() {
            let seen = &self.seen[&endpoint.id];
            let depth = self.group.depth(endpoint.id, Source::Queue);
            assert_eq!(
                (depth.messages, depth.parked),
                (0, 0),
                "{}",
                endpoint.name()
            );
            for (at, messages) in self.messages.iter().enumerate() {
                for (offset, &channel) in messages.iter().enumerate() {
                    let heard = endpoint.receive_grant(ChannelId(channel)).is_some();
                    let place = (PARTITIONS[at], offset as u64);
                    let arrived = seen.settled.contains_key(&place)
                        || seen.numbers.values().any(|&delivered| delivered == place);
                    let dropping = endpoint.queue().on_full == OnFull::DropOldest;
                    assert!(
                        !heard || dropping || arrived,
                        "{}: {place:?} lost",
                        endpoint.name()
                    );
                }
            }
        }
    }
}

#[test]
fn random_histories_with_crashes_lose_nothing_and_settle_for_good() {
    let mut deliveries = 0;
    for seed in 0..60 {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..1_500 {
                world.step();
            }
            world.quiesce();
            world.deliveries
        });
        deliveries += outcome.unwrap_or_else(|cause| {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(cause)
        });
    }
    assert!(
        deliveries > 10_000,
        "only {deliveries} deliveries: the histories are too tame"
    );
}
