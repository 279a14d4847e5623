//! What the shard's thread tells the others about itself: its phase at any time, its numbers when asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use partition::{LogState, MappedSegment};
use shard::Shard;
use shard::queue::QueueCounters;
use wire::ids::AckMode;
use wire::route::RouteTable;

use crate::durations::Durations;
use crate::fair::FairCounters;
use crate::files::FileCounters;

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Opening its logs.
    Recovering = 0,
    /// Serving.
    Ready = 1,
    /// Stopping gracefully.
    Draining = 2,
    /// Gone.
    Stopped = 3,
}

impl Phase {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// Shared by the shard's thread, which writes, and the admin thread and handle, which read.
#[derive(Debug, Default)]
pub(crate) struct Status {
    phase: AtomicU8,
    logs: AtomicUsize,
    logs_recovered: AtomicUsize,
    config_stale: AtomicBool,
    /// `pid/task/tid` below /proc, once the shard's thread runs.
    task: Mutex<Option<String>>,
    reloads_refused: AtomicU64,
}

impl Status {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Recovering,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(crate) fn recovering(&self, logs: usize) {
        self.logs.store(logs, Ordering::Relaxed);
    }

    pub(crate) fn recovered_one(&self) {
        self.logs_recovered.fetch_add(1, Ordering::Relaxed);
    }

    /// Logs recovered so far, and all of them; the second is 0 until they have been counted.
    pub(crate) fn progress(&self) -> (usize, usize) {
        let done = self.logs_recovered.load(Ordering::Relaxed);
        (done, self.logs.load(Ordering::Relaxed))
    }

    pub(crate) fn reload_refused(&self) {
        self.config_stale.store(true, Ordering::Relaxed);
        self.reloads_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn reload_applied(&self) {
        self.config_stale.store(false, Ordering::Relaxed);
    }

    pub(crate) fn config_stale(&self) -> bool {
        self.config_stale.load(Ordering::Relaxed)
    }

    pub(crate) fn reloads_refused(&self) -> u64 {
        self.reloads_refused.load(Ordering::Relaxed)
    }

    /// Called on the shard's thread, so that others can read its processor time.
    pub(crate) fn name_task(&self) {
        let link = std::fs::read_link("/proc/thread-self").ok();
        if let Ok(mut place) = self.task.lock() {
            *place = link.map(|link| link.display().to_string());
        }
    }

    /// Processor seconds of the shard's thread.
    pub(crate) fn shard_cpu_seconds(&self) -> Option<f64> {
        let task = self.task.lock().ok()?.clone()?;
        let text = std::fs::read_to_string(format!("/proc/{task}/schedstat")).ok()?;
        let nanos: u64 = text.split_whitespace().next()?.parse().ok()?;
        Some(nanos as f64 / 1e9)
    }
}

/// The numbers of a shard between two turns.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) counters: shard::Counters,
    pub(crate) queues: QueueCounters,
    pub(crate) ring: ring::Counters,
    pub(crate) files: FileCounters,
    pub(crate) connections: u32,
    pub(crate) strangers: u32,
    pub(crate) sessions: usize,
    pub(crate) assembly_bytes: usize,
    pub(crate) buffers_free: usize,
    pub(crate) epoch: u64,
    pub(crate) partitions: Vec<PartitionNumbers>,
    pub(crate) turns_cut_short: u64,
    pub(crate) idle_waits: u64,
    pub(crate) turns: Durations,
    pub(crate) fair: FairCounters,
}

/// One log, as far as metrics go.
#[derive(Debug, Clone)]
pub(crate) struct PartitionNumbers {
    pub(crate) log: String,
    pub(crate) state: LogState,
    /// Wants a spare segment and could not get one.
    pub(crate) starved: bool,
    pub(crate) bytes: u64,
    pub(crate) appended: u64,
    pub(crate) committed: u64,
}

impl PartitionNumbers {
    /// Every partition and journal of a shard.
    pub(crate) fn of(shard: &Shard<MappedSegment>) -> Vec<Self> {
        let journals = shard.queue_groups().map(|group| group.log());
        let logs = shard.partitions().chain(journals);
        logs.map(|log| Self {
            log: log.log().to_string(),
            state: log.state(),
            starved: log.spare_failure().is_some(),
            bytes: log.bytes(),
            appended: log.appended().0,
            committed: log.committed().0,
        })
        .collect()
    }
}

/// Sums over all queue groups of a shard.
pub(crate) fn sum_queues(counters: impl Iterator<Item = (u16, QueueCounters)>) -> QueueCounters {
    counters.fold(QueueCounters::default(), |sum, (_, one)| QueueCounters {
        added: sum.added + one.added,
        caught_up: sum.caught_up + one.caught_up,
        parked: sum.parked + one.parked,
        dropped: sum.dropped + one.dropped,
        settled: sum.settled + one.settled,
        expired: sum.expired + one.expired,
        withdrawn: sum.withdrawn + one.withdrawn,
        damaged: sum.damaged + one.damaged,
        buried: sum.buried + one.buried,
        dead_dropped: sum.dead_dropped + one.dead_dropped,
        rewinds: sum.rewinds + one.rewinds,
        locks_expired: sum.locks_expired + one.locks_expired,
        unjournaled: sum.unjournaled + one.unjournaled,
        paused: sum.paused + one.paused,
        journal_records: sum.journal_records + one.journal_records,
        snapshots: sum.snapshots + one.snapshots,
    })
}

/// The ack modes in force, in plain words: hub, words.
pub(crate) fn ack_words(table: &RouteTable) -> Vec<(String, &'static str)> {
    let words = |ack: AckMode| match ack {
        AckMode::Local => "local: survives a process crash, may lose its tail on power loss",
        AckMode::Durable => "durable: on disk before the ack",
    };
    let hubs = table.hubs().iter();
    hubs.map(|hub| (hub.name.to_string(), words(hub.ack)))
        .collect()
}
