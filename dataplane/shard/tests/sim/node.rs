//! The node: one real shard, its storage requests carried out late, and what a crash leaves of them.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use partition::memory::{Disk, MemorySegment, MemoryStorage, SyncMark};
use partition::{CommitTicket, LogId, Partition, PartitionLimits, Storage, StorageError};
use shard::queue::{LogEnd, QueueGroup, QueueLimits};
use shard::{Limits, Now, Output, Shard, StorageEvent, StorageRequest};
use wire::ids::UnixNanos;
use wire::route::RouteTable;

use crate::plan::PARTITIONS;

const GROUPS: u16 = 2;

pub(crate) fn log_limits() -> PartitionLimits {
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

fn limits() -> Limits {
    Limits {
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
    pub(crate) events: Vec<StorageEvent<MemorySegment>>,
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

pub(crate) struct Node {
    pub(crate) medium: Medium,
    pub(crate) disk: Disk,
    storage: MemoryStorage,
    pub(crate) shard: Shard<MemorySegment>,
    jobs: Vec<Job>,
    /// Turn up to which each group's settlements are in its journal, and synced there.
    flushed: [u64; GROUPS as usize],
    safe: [u64; GROUPS as usize],
}

impl Node {
    /// Start on a disk, after whatever happened to it.
    pub(crate) fn start(disk: Disk, medium: Medium, table: Arc<RouteTable>, now: Now) -> Self {
        let mut storage = MemoryStorage::new(&disk);
        let partitions = PARTITIONS.map(|id| {
            let log = LogId::partition(id);
            let recovered = Partition::recover(&mut storage, log, log_limits(), now.unix);
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
        let queues = (0..GROUPS).map(|group| {
            let (log, queue) = (log_limits(), queue_limits());
            let recovered = QueueGroup::recover(&mut storage, group, log, queue, &ends, now.unix);
            let (group, report) = recovered.expect("no fault is injected into recovery");
            assert!(!report.incomplete, "{report:?}");
            group
        });
        let queues = queues.collect();
        let shard = Shard::new(limits(), table, partitions.into(), queues, now);
        Self {
            medium,
            disk,
            storage,
            shard,
            jobs: Vec::new(),
            flushed: [0; GROUPS as usize],
            safe: [0; GROUPS as usize],
        }
    }

    /// Take on what a turn asked for.
    pub(crate) fn request(
        &mut self,
        output: &mut Output<MemorySegment>,
        turn: u64,
        now: Duration,
        random: &mut Rng,
    ) {
        for group in self.shard.queue_groups() {
            if group.waiting() == 0 {
                self.flushed[usize::from(group.number())] = turn - 1;
            }
        }
        for request in output.storage.drain(..) {
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
                    self.jobs.push(Job::Retire { at, log, segment })
                }
            }
        }
    }

    /// Carry out what is due.
    pub(crate) fn work(&mut self, now: Duration) -> Done {
        let mut done = Done::default();
        let due = |job: &mut Job| match job {
            Job::Prepare { at, .. } | Job::Retire { at, .. } | Job::Sync { at, .. } => *at <= now,
        };
        let jobs: Vec<_> = self.jobs.extract_if(.., due).collect();
        for job in jobs {
            match job {
                Job::Prepare { log, bytes, .. } => {
                    done.events.push(match self.storage.prepare(log, bytes) {
                        Ok(segment) => StorageEvent::Prepared { log, segment },
                        Err(error) => StorageEvent::PrepareFailed { log, error },
                    })
                }
                Job::Retire { log, segment, .. } => {
                    // A segment that cannot be recycled is found again at the next start.
                    done.events.extend(match self.storage.retire(log, segment) {
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
                    let ended = marks.into_iter().map(|mark| match self.medium {
                        Medium::Honest => mark.and_then(|mark| self.disk.sync_ends(mark)),
                        Medium::ForgetsSyncs => Ok(()),
                    });
                    let result = ended.fold(Ok(()), Result::and);
                    done.sealed |= result.is_err();
                    if let (LogId::Queue(group), Ok(())) = (ticket.log, &result) {
                        self.safe[usize::from(group)] = flushed;
                    }
                    done.events.push(StorageEvent::Synced { ticket, result });
                }
            }
        }
        done.settled_safe = self.safe.iter().copied().min().unwrap_or(0);
        done
    }

    /// Everything that is asked of the disk has been done.
    pub(crate) fn idle(&self) -> bool {
        self.jobs.is_empty()
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
