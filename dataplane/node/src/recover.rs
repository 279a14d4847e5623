//! Recovery of every log at start, with progress that the admin port tells while it goes on.

use partition::{LogId, MappedSegment, MappedStorage, Partition, Recovery, StorageError};
use shard::queue::{LogEnd, QueueGroup, QueueLimits};
use wire::ids::UnixNanos;
use wire::route::RouteTable;

use crate::bounds::{journal_limits, partition_limits};
use crate::config::NodeConfig;
use crate::diagnosis::{Diagnosis, RECOVERY_FAILED, diagnose};
use crate::log::{Level, Log};
use crate::status::Status;

/// Everything a shard owns on disk.
pub(crate) struct Recovered {
    pub(crate) partitions: Vec<Partition<MappedSegment>>,
    pub(crate) queues: Vec<QueueGroup<MappedSegment>>,
}

/// What recovery found in all logs together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RecoverySummary {
    /// Logs opened.
    pub logs: usize,
    /// Records read.
    pub scanned_records: u64,
    /// Bytes of torn tails that were cut.
    pub cut_bytes: u64,
    /// Damaged places, left as they are.
    pub damaged: usize,
    /// Queue groups whose journal lacked something.
    pub incomplete_queues: usize,
}

/// Open every partition and queue group of the table. Blocks; nothing else runs on the shard's thread yet.
pub(crate) fn recover(
    storage: &mut MappedStorage,
    table: &RouteTable,
    config: &NodeConfig,
    now: UnixNanos,
    status: &Status,
    log: &Log,
) -> Result<(Recovered, RecoverySummary), Diagnosis> {
    let mut summary = RecoverySummary::default();
    let mut partitions = Vec::new();
    let mut queues = Vec::new();
    status.recovering(table.partitions().count() + usize::from(table.queue_groups()));
    for (id, hub) in table.partitions() {
        let id = LogId::partition(id);
        let (partition, report) =
            Partition::recover(storage, id, partition_limits(hub)?, now).map_err(failed(id))?;
        summary.add(id, &report, log);
        partitions.push(partition);
        status.recovered_one();
    }
    let ends = ends(&partitions);
    for number in 0..table.queue_groups() {
        let (id, limits) = (LogId::queue(number), journal_limits(config)?);
        let (group, report) =
            QueueGroup::recover(storage, number, limits, QueueLimits::default(), &ends, now)
                .map_err(failed(id))?;
        if let Some(report) = &report.log {
            summary.add(id, report, log);
        }
        if report.incomplete {
            summary.incomplete_queues += 1;
            log.event(Level::Error, "queue_incomplete", &[("log", &id)]);
        }
        queues.push(group);
        status.recovered_one();
    }
    Ok((Recovered { partitions, queues }, summary))
}

impl RecoverySummary {
    fn add(&mut self, id: LogId, report: &Recovery, log: &Log) {
        self.logs += 1;
        self.scanned_records += report.scanned_records;
        self.cut_bytes += report.cut_bytes;
        self.damaged += report.damage.len();
        if report.cut_bytes > 0 {
            let fields: [(&str, &dyn std::fmt::Display); 3] = [
                ("log", &id),
                ("bytes", &report.cut_bytes),
                ("records", &report.cut_records),
            ];
            log.event(Level::Warning, "torn_tail_cut", &fields);
        }
        for damage in &report.damage {
            let what = format!("{damage:?}");
            log.event(
                Level::Error,
                "log_damaged",
                &[("log", &id), ("damage", &what)],
            );
        }
        if let Some(error) = &report.sealed {
            log.event(
                Level::Error,
                "log_sealed",
                &[("log", &id), ("cause", error)],
            );
        }
    }
}

fn ends(partitions: &[Partition<MappedSegment>]) -> Vec<LogEnd> {
    let end = |partition: &Partition<MappedSegment>| match partition.log() {
        LogId::Partition(id) => Some(LogEnd {
            partition: id,
            first: partition.first(),
            end: partition.appended(),
        }),
        LogId::Queue(_) => None,
    };
    partitions.iter().filter_map(end).collect()
}

fn failed(id: LogId) -> impl Fn(StorageError) -> Diagnosis {
    move |error| match error {
        // Numbers 40xx are the data folder's own and say what to do about it.
        StorageError::Missing { .. } | StorageError::Version { .. } => error.diagnosis(),
        other => {
            let inner = other.diagnosis();
            diagnose(
                RECOVERY_FAILED,
                format!("log {id}: {}", inner.what),
                inner.seen,
                inner.needed,
                inner.remedy,
            )
        }
    }
}
