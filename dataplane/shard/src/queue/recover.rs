//! Recovery: a group's queues out of its journal.
//!
//! A journal that cannot be read whole is no reason to lose a delivery. From the damage on, the queues stay as they
//! were before it, and so do the watermarks: fan-out goes through the partitions again from there, and what was
//! given out since is delivered again. Only what is true whatever the damage held is taken from behind it: a
//! partition's lost tail, and which numbers were given. Settlements are not: one that is cumulative passes over
//! messages that became dead letters, and where those went may be what was damaged. The next complete snapshot makes
//! everything whole again.

use std::ops::Range;

use partition::{LogId, Storage, StorageError};
use partition::{Partition, PartitionLimits, ReadError, Record, RecordKind, Recovery, Segment};
use wire::ids::{EndpointId, Offset, PartitionId, UnixNanos};

use crate::hashed::HashSeed;
use crate::planted::{Bug, active};

use super::group::QueueGroup;
use super::journal::{Journal, Part};
use super::limits::QueueLimits;
use super::op::{self, Op, OpKind, Source};
use super::queues::Queues;
use super::run::NUMBER_MAX;
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
    /// The journal begins after its first record without a complete snapshot, or is damaged behind the newest one:
    /// fan-out begins again at the watermarks of before, so messages are delivered again, none is lost.
    pub incomplete: bool,
    /// Journal records that cannot be read.
    pub gaps: Vec<Range<Offset>>,
    /// Records among them that are parts of transactions in the journal's first form, which this version does not join.
    pub first_form: u64,
    /// Numbers were left out, because some may have been given that nothing shows any more.
    pub leaped: bool,
    /// Messages that pointed beyond the end of their partition (lost tail) and were given up.
    pub clamped: u64,
}

/// The replay of a journal, record by record.
#[derive(Default)]
struct Replay {
    seed: HashSeed,
    main: Queues,
    /// Queues of the newest snapshot, while it is incomplete, and where it began.
    staging: Option<(Queues, Offset)>,
    /// Operations of a transaction whose last record has not come yet.
    held: Vec<Op>,
    /// The record of it that came last; none when the next one begins a transaction.
    last: Option<Part>,
    /// Where the newest complete snapshot began.
    snapshot_begin: Option<Offset>,
    /// Set from a gap to the next complete snapshot: what is shown behind it of the numbers that were given.
    broken: Option<Numbers>,
    report: QueueRecovery,
}

/// One past the highest number of lists, as far as a journal shows them behind a gap.
#[derive(Default)]
struct Numbers(Vec<(EndpointId, Source, u64)>);

impl Numbers {
    fn see(&mut self, op: &Op) {
        let shown = match op.kind() {
            Some(OpKind::Add) if op.run().fits() => op.source().map(|list| (list, op.run().end())),
            Some(OpKind::List | OpKind::Next) => op.source().map(|list| (list, op.number())),
            Some(OpKind::Bury) => Some((Source::DeadLetters, op.offset().0.saturating_add(1))),
            _ => None,
        };
        if let Some((source, next)) = shown.filter(|&(_, next)| next <= NUMBER_MAX) {
            self.0.push((op.endpoint(), source, next));
        }
    }
}

impl Replay {
    fn record(&mut self, record: &Record<'_>) {
        self.report.records += 1;
        let Some(ops) = op::parse(record.payload()) else {
            self.gap(record.first()..record.next());
            return;
        };
        match record.kind() {
            RecordKind::QueueJournal => match Part::of(record.sequence()) {
                Some(part) => self.journal(ops, part),
                None => {
                    self.report.first_form += 1;
                    self.gap(record.first()..record.next());
                }
            },
            RecordKind::QueueSnapshot => self.snapshot(ops, record.first()),
            _ => {}
        }
    }

    /// Records that cannot be read. A snapshot or transaction they cut into is void.
    fn gap(&mut self, offsets: Range<Offset>) {
        self.report.gaps.push(offsets);
        self.break_off();
    }

    /// What comes now does not follow what was read.
    fn break_off(&mut self) {
        self.cut_short();
        self.staging = None;
        self.report.incomplete = true;
        self.broken.get_or_insert_default();
    }

    /// Apply one operation of a whole transaction.
    fn apply(&mut self, op: &Op) {
        let Some(numbers) = &mut self.broken else {
            self.main.apply(op);
            return;
        };
        numbers.see(op);
        if matches!(op.kind(), Some(OpKind::Clamp | OpKind::Floor)) {
            self.main.apply(op);
        }
    }

    /// What came of a transaction is void: its last part never came.
    fn cut_short(&mut self) {
        self.report.cut_short += u64::from(self.last.is_some());
        self.held.clear();
        self.last = None;
    }

    /// One part of a transaction.
    fn journal(&mut self, ops: &[Op], part: Part) {
        let goes_on = self
            .last
            .is_some_and(|last| part.before == last.before + 1 && part.follow + 1 == last.follow);
        if !goes_on {
            self.cut_short();
            if part.before > 0 {
                // Its beginning cannot be read.
                return;
            }
        }
        self.held.extend_from_slice(ops);
        self.last = Some(part).filter(|part| part.follow > 0);
        if self.last.is_some() {
            return;
        }
        for op in std::mem::take(&mut self.held) {
            self.report.operations += 1;
            self.apply(&op);
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
                Some(OpKind::SnapshotBegin) => {
                    self.staging = Some((Queues::new(self.seed), at));
                }
                Some(OpKind::SnapshotEnd) => {
                    if let Some((queues, begin)) = self.staging.take() {
                        self.main = queues;
                        self.snapshot_begin = Some(begin);
                        self.broken = None;
                        self.report.snapshot = true;
                        self.report.incomplete = false;
                    }
                }
                _ => {
                    if let Some(numbers) = &mut self.broken {
                        numbers.see(op);
                    }
                    if let Some((staging, _)) = &mut self.staging {
                        staging.apply(op);
                    }
                }
            }
        }
    }

    /// Leave out every number that may have been given without a trace left of it, durably.
    fn leap<S: Segment>(&mut self, journal: &mut Journal<S>) {
        self.report.leaped = true;
        for (endpoint, source, next) in self.broken.take().unwrap_or_default().0 {
            self.main.apply(&Op::next(endpoint, source, next));
        }
        self.main.leap(|op| {
            journal.push(op);
        });
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
        let mut replay = Replay {
            seed: limits.hash_seed,
            main: Queues::new(limits.hash_seed),
            ..Replay::default()
        };
        read_all(&log, &mut replay);
        log.set_hold(Some(replay.snapshot_begin.unwrap_or(Offset(0))));
        let mut journal = Journal::new(log, limits.ack);
        if replay.broken.is_some() || !recovery.damage.is_empty() || recovery.cut_bytes > 0 {
            replay.leap(&mut journal);
        }
        let (mut queues, mut report) = (replay.main, replay.report);
        report.log = Some(recovery);
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

impl<S: Segment> QueueGroup<S> {
    /// Partitions were opened after the group: what points beyond their ends is given up, as at recovery. Returns how many messages
    /// that were.
    pub fn adopt(&mut self, ends: &[LogEnd]) -> u64 {
        clamp(&mut self.queues, &mut self.journal, ends)
    }
}

fn read_all<S: Segment>(log: &Partition<S>, replay: &mut Replay) {
    let mut at = log.first();
    if at > Offset(0) {
        // Without the beginning or a snapshot the queues are not whole.
        replay.break_off();
    }
    while at < log.appended() {
        at = match log.read(at) {
            Ok(record) => {
                replay.record(&record);
                record.next()
            }
            Err(ReadError::Expired { first }) => first,
            Err(ReadError::Damaged { next }) => {
                replay.gap(at..next);
                next
            }
            Err(ReadError::NotYet) => return,
        };
    }
    replay.cut_short();
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
        for source in [Source::Queue, Source::DeadLetters] {
            if let Some(list) = queue.list_mut(source) {
                let next = list.next();
                list.set_visible(next);
            }
        }
    }
}
