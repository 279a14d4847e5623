//! The node: real shards, their storage requests carried out late, what they say to each other on its way, and what a
//! crash leaves of all that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use partition::memory::{Disk, MemorySegment, MemoryStorage, MemoryView, SyncMark};
use partition::{CommitTicket, LogId, Partition, PartitionLimits, Storage, StorageError};
use shard::queue::{LogEnd, QueueGroup, QueueLimits};
use shard::{Limits, Now, Output, Ownership, Peer, Shard, StorageEvent, StorageRequest};
use wire::ids::UnixNanos;
use wire::route::RouteTable;

use crate::plan::{GROUPS, PARTITIONS};

/// Of partitions. Where retention takes what is old their segments are short.
pub(crate) fn log_limits(expiring: bool) -> PartitionLimits {
    if !expiring {
        return journal_limits();
    }
    PartitionLimits {
        segment_bytes: 8 * 1024,
        record_bytes_max: 1024,
        retention_bytes: Some(8 * 1024),
        ..PartitionLimits::default()
    }
}

fn journal_limits() -> PartitionLimits {
    let (segment_bytes, record_bytes_max) = (32 * 1024, 8 * 1024);
    PartitionLimits {
        segment_bytes,
        record_bytes_max,
        ..PartitionLimits::default()
    }
}

fn queue_limits() -> QueueLimits {
    QueueLimits {
        runs_max: 12,
        record_ops_max: 16,
        batch_ops_max: 32,
        catch_up_records_max: 6,
        sweep_queues_max: 3,
        snapshot_every_bytes: 12 * 1024,
        snapshot_ops_max: 6,
        ..QueueLimits::default()
    }
}

fn limits(shard: u16, shards: u16) -> Limits {
    Limits {
        shard,
        shards,
        expiry_interval: Duration::from_millis(300),
        credit_frames: 8,
        bad_signatures_max: 4,
        deliver_bytes_per_turn: 1 << 18,
        fanout_records_per_turn: 16,
        linger: Duration::from_secs(20),
        ..Limits::default()
    }
}

enum Job {
    Prepare {
        at: Duration,
        log: LogId,
        bytes: u32,
    },
    Retire {
        at: Duration,
        log: LogId,
        segment: MemorySegment,
    },
    Sync {
        at: Duration,
        ticket: CommitTicket,
        marks: Vec<Result<SyncMark, StorageError>>,
        flushed: u64,
    },
}

/// What ended in the background.
#[derive(Default)]
pub(crate) struct Done {
    /// Settlements of turns up to here are in synced journals.
    pub(crate) settled_safe: u64,
    /// A sync failed: a log is sealed until the node starts again.
    pub(crate) sealed: bool,
}

/// What stands below the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    Honest,
    /// Says that a sync ended well and keeps nothing: the simulator has to notice.
    ForgetsSyncs,
}

type Event = StorageEvent<MemorySegment>;
type Said = Peer<MemoryView>;

/// How a node is made, and how it is made again after its end.
#[derive(Clone, Copy)]
pub(crate) struct Build {
    pub(crate) medium: Medium,
    pub(crate) shards: u16,
    /// Messages that fit on the way from one shard to another.
    pub(crate) room: usize,
    pub(crate) expiring: bool,
}

/// Messages from one shard to another, each with the time at which it arrives.
#[derive(Default)]
struct Way {
    said: VecDeque<(Duration, Said)>,
    last: Duration,
}

pub(crate) struct Node {
    pub(crate) build: Build,
    pub(crate) disk: Disk,
    storage: MemoryStorage,
    ownership: Ownership,
    pub(crate) shards: Vec<Shard<MemorySegment>>,
    pub(crate) outputs: Vec<Output<MemorySegment>>,
    /// What ended, by shard.
    pub(crate) events: Vec<Vec<Event>>,
    /// By the shards at their ends: from, then to.
    ways: Vec<Vec<Way>>,
    jobs: Vec<Job>,
    retired_at: Duration,
    /// Turn up to which each group's settlements are in its journal, and synced there.
    flushed: [u64; GROUPS as usize],
    safe: [u64; GROUPS as usize],
    /// Nothing was taken by retention at the start that a queue had yet to be told of, so nothing ever may be.
    complete: bool,
}

impl Node {
    /// Start on a disk, after whatever happened to it: first all partitions, then, as their ends are known, the groups.
    pub(crate) fn start(disk: Disk, build: Build, table: Arc<RouteTable>, now: Now) -> Self {
        let mut storage = MemoryStorage::new(&disk);
        let partitions = PARTITIONS.map(|id| {
            let (log, limits) = (LogId::partition(id), log_limits(build.expiring));
            let recovered = Partition::recover(&mut storage, log, limits, now.unix);
            let (log, report) = recovered.expect("no fault is injected into recovery");
            assert!(report.damage.is_empty(), "{:?}", report.damage);
            log
        });
        let ends: Vec<_> = partitions
            .iter()
            .zip(PARTITIONS)
            .map(|(log, partition)| LogEnd {
                partition,
                first: log.first(),
                end: log.appended(),
            })
            .collect();
        let ownership = Ownership::new(&table, build.shards);
        let mut owned: Vec<Vec<_>> = (0..build.shards).map(|_| Vec::new()).collect();
        let mut queues: Vec<Vec<_>> = (0..build.shards).map(|_| Vec::new()).collect();
        for (log, id) in partitions.into_iter().zip(PARTITIONS) {
            let owner = ownership.partition(id).expect("it is in every plan");
            owned[usize::from(owner)].push(log);
        }
        let mut complete = true;
        for group in 0..GROUPS {
            let (log, queue) = (journal_limits(), queue_limits());
            let recovered = QueueGroup::recover(&mut storage, group, log, queue, &ends, now.unix);
            let (group, report) = recovered.expect("no fault is injected into recovery");
            assert!(!report.incomplete, "{report:?}");
            let behind = |end: &LogEnd| group.watermark(end.partition) < end.first;
            complete &= !ends.iter().any(behind);
            queues[usize::from(ownership.queue_group(group.number()))].push(group);
        }
        let parts = owned.into_iter().zip(queues).zip(0..);
        let shards = parts.map(|((logs, queues), shard)| {
            let limits = limits(shard, build.shards);
            Shard::new(limits, Arc::clone(&table), logs, queues, now)
        });
        let ways = |_| (0..build.shards).map(|_| Way::default()).collect();
        Self {
            build,
            disk,
            storage,
            shards: shards.collect(),
            outputs: (0..build.shards).map(|_| Output::default()).collect(),
            events: (0..build.shards).map(|_| Vec::new()).collect(),
            ways: (0..build.shards).map(ways).collect(),
            ownership,
            jobs: Vec::new(),
            retired_at: Duration::ZERO,
            flushed: [0; GROUPS as usize],
            safe: [0; GROUPS as usize],
            complete,
        }
    }

    /// What has reached a shard from the others.
    pub(crate) fn arrived(&mut self, to: usize, now: Duration) -> Vec<(u16, Said)> {
        let mut arrived = Vec::new();
        for (from, ways) in self.ways.iter_mut().enumerate() {
            let due = |(at, _): &mut (Duration, Said)| *at <= now;
            while let Some((_, said)) = ways[to].said.pop_front_if(due) {
                arrived.push((from as u16, said));
            }
        }
        arrived
    }

    /// Put what a shard says on its way, as far as there is room.
    fn carry(&mut self, from: usize, now: Duration, random: &mut Rng) {
        let room = self.build.room;
        for (way, said) in self.ways[from].iter_mut().zip(&mut self.outputs[from].mesh) {
            while way.said.len() < room
                && let Some(message) = said.pop_front()
            {
                let late = if random.u8(..30) == 0 { 300_000 } else { 3_000 };
                way.last = way
                    .last
                    .max(now + Duration::from_micros(random.u64(..late)));
                way.said.push_back((way.last, message));
            }
        }
    }

    /// Retention took nothing that a queue of any shard had not been told of.
    pub(crate) fn check(&self) {
        for (at, shard) in self.shards.iter().enumerate() {
            let lost = shard.counters().fanout.records_lost;
            assert!(
                lost == 0 || !self.complete,
                "shard {at} found {lost} records gone that its queues had to hear of"
            );
        }
    }

    /// Take on what a turn asked for.
    pub(crate) fn request(&mut self, shard: usize, turn: u64, now: Duration, random: &mut Rng) {
        self.carry(shard, now, random);
        for group in self.shards[shard].queue_groups() {
            if group.waiting() == 0 {
                self.flushed[usize::from(group.number())] = turn - 1;
            }
        }
        for request in std::mem::take(&mut self.outputs[shard].storage) {
            let late = if random.u8(..10) == 0 { 300_000 } else { 5_000 };
            let at = now + Duration::from_micros(random.u64(..late));
            match request {
                StorageRequest::Prepare { log, bytes } => {
                    self.jobs.push(Job::Prepare { at, log, bytes })
                }
                StorageRequest::Sync(ticket) => {
                    let flushed = match ticket.log {
                        LogId::Queue(group) => self.flushed[usize::from(group)],
                        LogId::Partition(_) => 0,
                    };
                    let marks = ticket
                        .segments
                        .iter()
                        .map(|s| self.disk.sync_begins(s))
                        .collect();
                    self.jobs.push(Job::Sync {
                        at,
                        ticket,
                        marks,
                        flushed,
                    });
                }
                StorageRequest::Retire { log, segment } => {
                    // In the order given.
                    let at = at.max(self.retired_at);
                    self.retired_at = at;
                    self.jobs.push(Job::Retire { at, log, segment })
                }
            }
        }
    }

    /// Carry out what is due.
    pub(crate) fn work(&mut self, now: Duration) -> Done {
        let (mut done, mut events) = (Done::default(), Vec::new());
        let due = |job: &mut Job| match job {
            Job::Prepare { at, .. } | Job::Retire { at, .. } | Job::Sync { at, .. } => *at <= now,
        };
        let jobs: Vec<_> = self.jobs.extract_if(.., due).collect();
        for job in jobs {
            match job {
                Job::Prepare { log, bytes, .. } => {
                    events.push(match self.storage.prepare(log, bytes) {
                        Ok(segment) => StorageEvent::Prepared { log, segment },
                        Err(error) => StorageEvent::PrepareFailed { log, error },
                    })
                }
                Job::Retire { log, segment, .. } => {
                    // A segment that cannot be recycled is found again at the next start.
                    events.extend(match self.storage.retire(log, segment) {
                        Ok(spare) => spare.map(|segment| StorageEvent::Prepared { log, segment }),
                        Err(error) => Some(StorageEvent::PrepareFailed { log, error }),
                    })
                }
                Job::Sync {
                    ticket,
                    marks,
                    flushed,
                    ..
                } => {
                    let ended = marks.into_iter().map(|mark| match self.build.medium {
                        Medium::Honest => mark.and_then(|mark| self.disk.sync_ends(mark)),
                        Medium::ForgetsSyncs => Ok(()),
                    });
                    let result = ended.fold(Ok(()), Result::and);
                    done.sealed |= result.is_err();
                    if let (LogId::Queue(group), Ok(())) = (ticket.log, &result) {
                        self.safe[usize::from(group)] = flushed;
                    }
                    events.push(StorageEvent::Synced { ticket, result });
                }
            }
        }
        for event in events {
            let owner = self.owner_of(&event);
            self.events[owner].push(event);
        }
        done.settled_safe = self.safe.iter().copied().min().unwrap_or(0);
        done
    }

    fn owner_of(&self, event: &Event) -> usize {
        let log = match event {
            StorageEvent::Prepared { log, .. } | StorageEvent::PrepareFailed { log, .. } => *log,
            StorageEvent::Synced { ticket, .. } => ticket.log,
        };
        let owner = match log {
            LogId::Partition(id) => self.ownership.partition(id),
            LogId::Queue(group) => Some(self.ownership.queue_group(group)),
        };
        owner.expect("it is in every plan").into()
    }

    /// Everything that is asked of the disk has been done, and everything said has been heard.
    pub(crate) fn idle(&self) -> bool {
        let said = self.outputs.iter().flat_map(|output| &output.mesh);
        let ways = self.ways.iter().flatten();
        self.jobs.is_empty()
            && self.events.iter().all(Vec::is_empty)
            && said.map(VecDeque::len).sum::<usize>() == 0
            && ways.map(|way| way.said.len()).sum::<usize>() == 0
    }
}

/// The time as a turn gets it.
pub(crate) fn at(now: Duration) -> Now {
    let unix = 1_700_000_000_000_000_000 + now.as_nanos() as u64;
    Now {
        monotonic: now,
        unix: UnixNanos(unix),
    }
}
