//! From the files of a data folder to a shard: every log the route table names is recovered, and what was found is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use partition::{LogId, MappedSegment, MappedStorage, Partition, PartitionLimits, Recovery, StorageError};
use shard::queue::{LogEnd, QueueGroup, QueueLimits};
use wire::ids::UnixNanos;
use wire::route::{Hub, RouteTable};

use crate::diagnosis::{Diagnosis, RECOVERY_FAILED, diagnose};
use crate::log::{Level, Log};

/// How far recovery is, for the probes.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Logs recovered, of how many.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The logs of a node, recovered.
pub(crate) struct Recovered {
    pub(crate) partitions: Vec<Partition<MappedSegment>>,
    pub(crate) groups: Vec<QueueGroup<MappedSegment>>,
}

/// The bounds of a hub's partitions.
pub(crate) fn partition_limits(hub: &Hub) -> PartitionLimits {
    PartitionLimits {
        segment_bytes: hub.segment_bytes,
        retention_bytes: hub.retention_bytes,
        retention_age: hub.retention_age,
        ..PartitionLimits::default()
    }
}

/// Recover every log that `table` names.
pub(crate) fn recover(
    storage: &mut MappedStorage,
    table: &Arc<RouteTable>,
    journal_segment_bytes: u32,
    now: UnixNanos,
    progress: &Progress,
    log: &Log,
) -> Result<Recovered, Diagnosis> {
    let total = table.partitions().count() as u64 + u64::from(table.queue_groups());
    progress.total.store(total, Ordering::Relaxed);
    let (mut partitions, mut ends) = (Vec::new(), Vec::new());
    for (id, hub) in table.partitions() {
        let name = LogId::partition(id);
        let (partition, found) = Partition::recover(storage, name, partition_limits(hub), now).map_err(|error| failed(name, &error))?;
        tell(log, name, &found);
        ends.push(LogEnd {
            partition: id,
            first: partition.first(),
            end: partition.appended(),
        });
        partitions.push(partition);
        progress.step();
    }
    let mut groups = Vec::new();
    for number in 0..table.queue_groups() {
        let name = LogId::queue(number);
        let limits = PartitionLimits {
            segment_bytes: journal_segment_bytes,
            ..PartitionLimits::default()
        };
        let (group, found) = QueueGroup::recover(storage, number, limits, QueueLimits::default(), &ends, now)
            .map_err(|error| failed(name, &error))?;
        if let Some(found) = &found.log {
            tell(log, name, found);
        }
        if found.incomplete || found.clamped > 0 {
            log.say(
                Level::Warn,
                "recover.queues",
                &[("log", &name), ("incomplete", &found.incomplete), ("clamped_messages", &found.clamped)],
            );
        }
        groups.push(group);
        progress.step();
    }
    Ok(Recovered { partitions, groups })
}

fn failed(log: LogId, error: &StorageError) -> Diagnosis {
    let why = error.diagnosis();
    diagnose(
        RECOVERY_FAILED,
        format!("recovering log {log}: {}", why.what),
        why.seen,
        why.needed,
        format!("{}; `forebay log verify` shows the state of the folder", why.remedy),
    )
}

fn tell(log: &Log, name: LogId, found: &Recovery) {
    if found.cut_bytes > 0 {
        log.say(Level::Info, "recover.torn_tail", &[("log", &name), ("cut_bytes", &found.cut_bytes)]);
    }
    for damage in &found.damage {
        log.say(Level::Error, "recover.damage", &[("log", &name), ("damage", damage)]);
    }
}
