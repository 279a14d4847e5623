//! Recovery: a group's queues out of its journal.

use partition::{LogId, Storage, StorageError};
use partition::{Partition, PartitionLimits, ReadError, Record, RecordKind, Recovery, Segment};
use wire::ids::{Offset, PartitionId, UnixNanos};

use crate::planted::{Bug, active};

use super::group::QueueGroup;
use super::journal::Journal;
use super::limits::QueueLimits;
use super::op::{self, Op, OpKind};
use super::queues::Queues;
use super::snapshot::SnapshotState;

/// What a recovered partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The partition.
    pub partition: PartitionId,
    /// Its first offset.
    pub first: Offset,
    /// One past its last offset.
    pub end: Offset,
}

/// What recovery of a queue group found.
#[derive(Debug, Default)]
pub struct QueueRecovery {
    /// What the journal's own recovery found, damage included.
    pub log: Option<Recovery>,
    /// Records read.
    pub records: u64,
    /// Operations applied.
    pub operations: u64,
    /// Transactions that a crash cut short, left out.
    pub cut_short: u64,
    /// Whether a complete snapshot was found.
    pub snapshot: bool,
    /// The journal begins after its first record without a complete snapshot, or is damaged: queues may
    /// lack messages. Their payloads are still in the partitions.
    pub incomplete: bool,
    /// Messages that pointed beyond the end of their partition (lost tail) and were given up.
    pub clamped: u64,
}

/// The replay of a journal, record by record.
#[derive(Default)]
struct Replay {
    main: Queues,
    /// Queues of the newest snapshot, while it is incomplete, and where it began.
    staging: Option<(Queues, Offset)>,
    /// Operations of a transaction whose last record has not come yet.
    held: Vec<Op>,
    /// How many records of it must follow.
    follow: u64,
    /// Where the newest complete snapshot began.
    snapshot_begin: Option<Offset>,
    report: QueueRecovery,
}

impl Replay {
    fn record(&mut self, record: &Record<'_>) {
        self.report.records += 1;
        let Some(ops) = op::parse(record.payload()) else {
            self.report.incomplete = true;
            return;
        };
        match record.kind() {
            RecordKind::QueueJournal => self.journal(ops, record.sequence().0),
            RecordKind::QueueSnapshot => self.snapshot(ops, record.first()),
            _ => {}
        }
    }

    /// A part of a transaction that `follow` further parts follow.
    fn journal(&mut self, ops: &[Op], follow: u64) {
        if follow + 1 != self.follow && !self.held.is_empty() {
            self.report.cut_short += 1;
            self.held.clear();
        }
        self.follow = follow;
        self.held.extend_from_slice(ops);
        if follow > 0 {
            return;
        }
        for op in std::mem::take(&mut self.held) {
            self.report.operations += 1;
            self.main.apply(&op);
            if let Some((staging, _)) = &mut self.staging
                && (op.kind() == Some(OpKind::Clamp) || staging.slot(op.endpoint()).is_some())
            {
                staging.apply(&op);
            }
        }
    }

    fn snapshot(&mut self, ops: &[Op], at: Offset) {
        for op in ops {
            self.report.operations += 1;
            match op.kind() {
                Some(OpKind::SnapshotBegin) => self.staging = Some((Queues::default(), at)),
                Some(OpKind::SnapshotEnd) => {
                    if let Some((queues, begin)) = self.staging.take() {
                        self.main = queues;
                        self.snapshot_begin = Some(begin);
                        self.report.snapshot = true;
                        self.report.incomplete = false;
                    }
                }
                _ => {
                    if let Some((staging, _)) = &mut self.staging {
                        staging.apply(op);
                    }
                }
            }
        }
    }
}

impl<S: Segment> QueueGroup<S> {
    /// Recover group `number` from its journal. `ends` names every partition that was recovered: what
    /// points beyond such an end is given up, durably, because the partition will use those offsets
    /// again. Reads what the journal still holds: the newest complete snapshot and what follows it.
    ///
    /// # Errors
    /// The storage failed. Damage is no error; it is in the report.
    pub fn recover<T: Storage<Segment = S>>(
        storage: &mut T,
        number: u16,
        log_limits: PartitionLimits,
        limits: QueueLimits,
        ends: &[LogEnd],
        now: UnixNanos,
    ) -> Result<(Self, QueueRecovery), StorageError> {
        // A journal lives until a snapshot replaces it, not until it is old or long.
        let log_limits = PartitionLimits {
            retention_bytes: Some(0),
            retention_age: None,
            ..log_limits
        };
        let id = LogId::queue(number);
        let (mut log, recovery) = Partition::recover(storage, id, log_limits, now)?;
        let mut replay = Replay::default();
        read_all(&log, &mut replay);
        log.set_hold(Some(replay.snapshot_begin.unwrap_or(Offset(0))));
        let mut report = replay.report;
        report.log = Some(recovery);
        let mut journal = Journal::new(log, limits.ack);
        let mut queues = replay.main;
        report.clamped = clamp(&mut queues, &mut journal, ends);
        // On a full disk the clamp goes on waiting, in front of everything that fan-out adds.
        if journal.flush(limits.record_ops_max, now).is_ok() {
            sync(&mut journal, storage)?;
        }
        reveal_all(&mut queues);
        let snapshot = SnapshotState {
            due: report.records > 0,
            ..SnapshotState::default()
        };
        let mut group = Self::assemble(number, limits, journal, queues, snapshot);
        while group.journal.pop_safe().is_some() {}
        Ok((group, report))
    }
}

fn read_all<S: Segment>(log: &Partition<S>, replay: &mut Replay) {
    let mut at = log.first();
    // Without the beginning or a snapshot the queues are not whole.
    replay.report.incomplete = at > Offset(0);
    while at < log.appended() {
        at = match log.read(at) {
            Ok(record) => {
                replay.record(&record);
                record.next()
            }
            Err(ReadError::Expired { first }) => first,
            Err(ReadError::Damaged { next }) => {
                replay.report.incomplete = true;
                next
            }
            Err(ReadError::NotYet) => return,
        };
    }
    if !replay.held.is_empty() {
        replay.report.cut_short += 1;
    }
}

/// Give up what lies beyond the partitions' ends, and let the journal know.
fn clamp<S: Segment>(queues: &mut Queues, journal: &mut Journal<S>, ends: &[LogEnd]) -> u64 {
    let mut clamped = 0;
    for end in ends {
        let forgotten = active(Bug::ForgetClamp);
        if queues.reaches_beyond(end.partition, end.end) && !forgotten {
            clamped += queues.clamp(end.partition, end.end);
            journal.push(Op::clamp(end.partition, end.end));
        }
    }
    clamped
}

fn sync<S: Segment, T: Storage<Segment = S>>(
    journal: &mut Journal<S>,
    storage: &mut T,
) -> Result<(), StorageError> {
    while let Some(ticket) = journal.begin_commit() {
        let result = ticket
            .segments
            .iter()
            .try_for_each(|segment| storage.sync(segment));
        if journal.finish_commit(ticket, result.clone()).is_err() {
            return result;
        }
    }
    Ok(())
}

/// Everything that a journal held is as safe as it gets.
fn reveal_all(queues: &mut Queues) {
    for queue in queues.iter_mut() {
        for source in [super::Source::Queue, super::Source::DeadLetters] {
            if let Some(list) = queue.list_mut(source) {
                let next = list.next();
                list.set_visible(next);
            }
        }
    }
}
