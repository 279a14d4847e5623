//! Recovery of every log at start, with progress that the admin port tells while it goes on.

use std::fmt::Display;

use std::sync::Arc;

use partition::{LogId, MappedSegment, MappedStorage, Partition, Recovery, StorageError};
use shard::queue::{LogEnd, QueueGroup, QueueLimits, QueueRecovery};
use shard::{HashSeed, Ownership, end_of};
use wire::ids::{PartitionId, UnixNanos};
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

/// Who recovers, and what it is given.
pub(crate) struct Recoverer<'a> {
    pub(crate) shard: u16,
    pub(crate) ownership: &'a Ownership,
    pub(crate) table: &'a RouteTable,
    pub(crate) config: &'a NodeConfig,
    pub(crate) hash_seed: HashSeed,
    pub(crate) now: UnixNanos,
    pub(crate) status: &'a Status,
    pub(crate) log: &'a Log,
}

/// Open every partition and queue group that the shard owns. Blocks; nothing else runs on its thread yet. `meet` gives the ends of
/// all logs for those of the shard's own, when all shards have opened theirs: a queue may point into any of them.
pub(crate) fn recover(
    storage: &mut MappedStorage,
    by: &Recoverer<'_>,
    meet: impl FnOnce(Vec<LogEnd>) -> Result<Arc<[LogEnd]>, Diagnosis>,
) -> Result<(Recovered, RecoverySummary), Diagnosis> {
    let &Recoverer {
        shard,
        ownership,
        table,
        config,
        hash_seed,
        now,
        status,
        log,
    } = by;
    let mut summary = RecoverySummary::default();
    let mut partitions = Vec::new();
    let mut queues = Vec::new();
    let groups = (0..table.queue_groups()).filter(|group| ownership.queue_group(*group) == shard);
    let mine = |id: &PartitionId| ownership.partition(*id) == Some(shard);
    status.recovering(ownership.partitions_of(shard).count() + groups.clone().count());
    for (id, hub) in table.partitions().filter(|(id, _)| mine(id)) {
        let id = LogId::partition(id);
        let (partition, report) =
            Partition::recover(storage, id, partition_limits(hub)?, now).map_err(failed(id))?;
        summary.add(id, &report, log);
        partitions.push(partition);
        status.recovered_one();
    }
    let ends = meet(ends(&partitions))?;
    let queue_limits = QueueLimits {
        hash_seed,
        ..QueueLimits::default()
    };
    for number in groups {
        let (id, limits) = (LogId::queue(number), journal_limits(config)?);
        let (group, report) =
            QueueGroup::recover(storage, number, limits, queue_limits, &ends, now)
                .map_err(failed(id))?;
        if let Some(report) = &report.log {
            summary.add(id, report, log);
        }
        summary.incomplete_queues += usize::from(report.incomplete);
        tell(id, &report, log);
        queues.push(group);
        status.recovered_one();
    }
    Ok((Recovered { partitions, queues }, summary))
}

/// Gaps of a journal that one line names.
const GAPS_TOLD_MAX: usize = 64;

/// Say what a journal lacked, and what was done about it.
fn tell(id: LogId, report: &QueueRecovery, log: &Log) {
    if report.incomplete || !report.gaps.is_empty() {
        let told = report.gaps.iter().take(GAPS_TOLD_MAX);
        let offsets: Vec<String> = told
            .map(|gap| format!("{}..{}", gap.start, gap.end))
            .collect();
        let (gaps, offsets) = (report.gaps.len(), offsets.join(" "));
        let fields: [(&str, &dyn Display); 5] = [
            ("log", &id),
            ("gaps", &gaps),
            ("offsets", &offsets),
            ("first_form", &report.first_form),
            ("redelivers", &report.incomplete),
        ];
        log.event(Level::Error, "queue_incomplete", &fields);
    }
    if report.leaped {
        log.event(Level::Warning, "queue_numbers_left_out", &[("log", &id)]);
    }
}

impl RecoverySummary {
    /// What another shard's recovery found, too.
    pub(crate) fn add_all(&mut self, other: &Self) {
        self.logs += other.logs;
        self.scanned_records += other.scanned_records;
        self.cut_bytes += other.cut_bytes;
        self.damaged += other.damaged;
        self.incomplete_queues += other.incomplete_queues;
    }

    pub(crate) fn add(&mut self, id: LogId, report: &Recovery, log: &Log) {
        self.logs += 1;
        self.scanned_records += report.scanned_records;
        self.cut_bytes += report.cut_bytes;
        self.damaged += report.damage.len();
        if report.cut_bytes > 0 {
            let fields: [(&str, &dyn Display); 3] = [
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
    partitions.iter().filter_map(end_of).collect()
}

pub(crate) fn failed(id: LogId) -> impl Fn(StorageError) -> Diagnosis {
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

#[cfg(test)]
mod tests {
    use wire::ids::Offset;

    use super::*;
    use crate::config::LogFormat;
    use crate::log::tests::Page;

    fn told(report: &QueueRecovery) -> String {
        let page = Page::default();
        let log = Log::new(LogFormat::Text, Box::new(page.clone()));
        tell(LogId::queue(7), report, &log);
        page.text()
    }

    #[test]
    fn a_journal_that_lacks_something_is_told_with_its_gaps_and_the_numbers_left_out() {
        assert_eq!(told(&QueueRecovery::default()), "", "nothing to tell");
        let torn = QueueRecovery {
            leaped: true,
            ..QueueRecovery::default()
        };
        let text = told(&torn);
        assert!(text.contains(" queue_numbers_left_out "), "{text}");
        assert!(!text.contains("queue_incomplete"), "{text}");
        let damaged = QueueRecovery {
            incomplete: true,
            first_form: 1,
            leaped: true,
            gaps: vec![Offset(3)..Offset(5), Offset(9)..Offset(10)],
            ..QueueRecovery::default()
        };
        let text = told(&damaged);
        for part in [
            " queue_incomplete ",
            "gaps=2",
            "offsets=\"3..5 9..10\"",
            "first_form=1",
            "redelivers=true",
            " queue_numbers_left_out ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
