//! The journal of a queue group: operations that wait for the log, and what the log has made safe.
//!
//! A flush is one transaction of one or more records: each carries in `sequence` its place and how many follow it
//! ([`Part`]), and replay applies them only when all are there. Knows no queue.

use std::collections::VecDeque;

use partition::{AppendError, CommitTicket, NewRecord, Partition, RecordKind, Sealed, Segment};
use partition::{Appended, StorageError};
use wire::ids::{AckMode, ChannelId, EndpointId, Offset, PartitionId, Sequence, UnixNanos};

use crate::planted::{Bug, active};

use super::op::{self, OP_BYTES, Op, Source};

/// Numbers of one list below `below` become deliverable when the journal is safe up to `upto`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) upto: Offset,
    pub(crate) endpoint: EndpointId,
    pub(crate) source: Source,
    pub(crate) below: u64,
}

/// Which part of its transaction a record is. The place tells a transaction's first part from a later one, so that
/// what a crash or a full disk left of a transaction is never completed by the one that comes next.
///
/// | bits of `sequence` | meaning                                                       |
/// |-------------------:|---------------------------------------------------------------|
/// |            0 to 31 | parts that follow                                             |
/// |           32 to 62 | parts that came before                                        |
/// |                 63 | 1: this form; 0: the first one, which told no place reliably   |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) before: u32,
    pub(crate) follow: u32,
}

/// Marks the second form of `sequence`.
const SECOND_FORM: u64 = 1 << 63;

impl Part {
    /// All there is.
    const WHOLE: Self = Self {
        before: 0,
        follow: 0,
    };

    /// `None` for a part of several in the first form: which transaction it belongs to cannot be told for sure. A
    /// transaction of one record is the same in both.
    pub(crate) fn of(sequence: Sequence) -> Option<Self> {
        let part = Self {
            before: ((sequence.0 & !SECOND_FORM) >> 32) as u32,
            follow: sequence.0 as u32,
        };
        (sequence.0 & SECOND_FORM != 0 || part == Self::WHOLE).then_some(part)
    }

    fn sequence(self) -> Sequence {
        Sequence(SECOND_FORM | u64::from(self.before) << 32 | u64::from(self.follow))
    }
}

/// One group's journal log.
pub(crate) struct Journal<S: Segment> {
    log: Partition<S>,
    ack: AckMode,
    pending: Vec<Op>,
    /// Watermarks that moved and wait for neither the log nor a flush yet, by partition.
    moved: Vec<(PartitionId, Offset)>,
    marks: VecDeque<Mark>,
    /// Counts flushes, so that a queue knows whether its last `Add` may still be extended.
    pub(crate) batch: u64,
    /// Bytes written since the newest snapshot began.
    pub(crate) since_snapshot: u64,
    pub(crate) records: u64,
    /// Something other than a watermark was written since the last sync began.
    urgent: bool,
}

impl<S: Segment> Journal<S> {
    pub(crate) fn new(log: Partition<S>, ack: AckMode) -> Self {
        Self {
            log,
            ack,
            pending: Vec::new(),
            moved: Vec::new(),
            marks: VecDeque::new(),
            batch: 1,
            since_snapshot: 0,
            records: 0,
            urgent: false,
        }
    }

    pub(crate) fn log(&self) -> &Partition<S> {
        &self.log
    }

    pub(crate) fn log_mut(&mut self) -> &mut Partition<S> {
        &mut self.log
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Let an operation, already applied, wait for the next flush. Returns its place.
    pub(crate) fn push(&mut self, op: Op) -> usize {
        self.pending.push(op);
        self.pending.len() - 1
    }

    pub(crate) fn pending_mut(&mut self, at: usize) -> &mut Op {
        &mut self.pending[at]
    }

    /// Everything of `partition` below `next` has been fanned out. Written with the transaction that comes next, or when
    /// [`Journal::push_watermarks`] asks: alone it may be lost, for then what nobody heard is read once more.
    pub(crate) fn move_watermark(&mut self, partition: PartitionId, next: Offset) {
        match self.moved.binary_search_by_key(&partition, |&(id, _)| id) {
            Ok(at) => self.moved[at].1 = next,
            Err(at) => self.moved.insert(at, (partition, next)),
        }
    }

    /// Let the watermarks that moved wait for the next flush.
    pub(crate) fn push_watermarks(&mut self) {
        let moved = self.moved.drain(..);
        self.pending
            .extend(moved.map(|(partition, next)| Op::watermark(partition, next)));
    }

    /// Write everything that waits as one transaction, with the watermarks of the runs in it. When the log has no room,
    /// all of it goes on waiting, and replay ignores what was written of it.
    pub(crate) fn flush(
        &mut self,
        record_ops_max: usize,
        now: UnixNanos,
    ) -> Result<(), AppendError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.push_watermarks();
        let parts = self.pending.len().div_ceil(record_ops_max);
        let mut upto = Offset(0);
        for (part, ops) in self.pending.chunks(record_ops_max).enumerate() {
            let part = Part {
                before: part as u32,
                follow: (parts - 1 - part) as u32,
            };
            upto = append(&mut self.log, RecordKind::QueueJournal, part, ops, now)?;
            self.since_snapshot += (ops.len() * OP_BYTES) as u64;
            self.records += 1;
        }
        let made_again = |op: &Op| op.kind().is_some_and(op::OpKind::is_made_again);
        let promised = !self.pending.iter().all(made_again);
        for op in &self.pending {
            self.urgent |= op.kind() != Some(op::OpKind::Watermark);
            if let Some((source, below)) = op.reveals() {
                self.marks.push_back(Mark {
                    upto,
                    endpoint: op.endpoint(),
                    source,
                    below,
                });
            }
        }
        self.pending.clear();
        self.batch += 1;
        // A settlement survives the process whichever way it ends as soon as its turn is over: a PONG behind it says so.
        // Runs that are delivered only when they are synced are written by that sync.
        match self.ack {
            AckMode::Local => {
                self.log.commit_local();
            }
            AckMode::Durable if promised => self.log.write_out(),
            AckMode::Durable => {}
        }
        Ok(())
    }

    /// The planted bug that forgets how far fan-out is.
    pub(crate) fn drop_watermarks(&mut self) {
        self.moved.clear();
        self.pending
            .retain(|op| op.kind() != Some(op::OpKind::Watermark));
    }

    /// Write operations of a snapshot at once, as one record.
    pub(crate) fn write_snapshot(
        &mut self,
        ops: &[Op],
        now: UnixNanos,
    ) -> Result<Offset, AppendError> {
        debug_assert!(
            self.pending.is_empty(),
            "{} operations wait",
            self.pending.len()
        );
        self.records += 1;
        self.urgent = true;
        append(
            &mut self.log,
            RecordKind::QueueSnapshot,
            Part::WHOLE,
            ops,
            now,
        )
    }

    /// Bytes of memory that operations and marks take until they are in the log.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        let pending = self.pending.len() * size_of::<Op>();
        (pending + self.marks.len() * size_of::<Mark>()) as u64
    }

    /// The next mark that the log has made safe.
    pub(crate) fn pop_safe(&mut self) -> Option<Mark> {
        let committed = match active(Bug::DeliverBeforeJournal) {
            true => self.log.appended(),
            false => self.log.committed(),
        };
        let mark = self
            .marks
            .front()
            .copied()
            .filter(|mark| mark.upto <= committed)?;
        self.marks.pop_front();
        Some(mark)
    }

    /// Whether a sync should not wait. A watermark alone may: without it, what nobody hears is read once more.
    pub(crate) fn wants_sync(&self) -> bool {
        self.urgent
    }

    pub(crate) fn begin_commit(&mut self) -> Option<CommitTicket> {
        let ticket = self.log.begin_commit()?;
        self.urgent = false;
        Some(ticket)
    }

    pub(crate) fn finish_commit(
        &mut self,
        ticket: CommitTicket,
        result: Result<(), StorageError>,
    ) -> Result<Offset, Sealed> {
        self.log.finish_commit(ticket, result)
    }
}

/// Append one record of operations; returns the offset after it.
fn append<S: Segment>(
    log: &mut Partition<S>,
    kind: RecordKind,
    part: Part,
    ops: &[Op],
    now: UnixNanos,
) -> Result<Offset, AppendError> {
    let record = NewRecord {
        kind,
        signature_kind: 0,
        count: 1,
        endpoint: EndpointId(0),
        channel: ChannelId(0),
        sequence: part.sequence(),
        time: now,
    };
    let Appended { first, count, .. } = log.append(&record, &[op::bytes(ops)])?;
    Ok(first.plus(u64::from(count)))
}
