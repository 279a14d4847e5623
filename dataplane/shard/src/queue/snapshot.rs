//! Snapshots: all queues written into the journal, so that recovery need not go further back.
//!
//! A snapshot is written a few queues at a time between other transactions. What changes a queue that
//! is in it already follows in the journal; what changes one that is not yet is contained when it comes.

use partition::{AppendError, Segment};
use wire::ids::{EndpointId, Offset, UnixNanos};

use crate::planted::{Bug, active};

use super::backlog::Backlog;
use super::group::QueueGroup;
use super::op::{OP_BYTES, Op, Source};

/// How far the snapshots are.
#[derive(Debug, Default)]
pub(super) struct SnapshotState {
    /// A new one must be begun although not enough has been written.
    pub(super) due: bool,
    /// The one that is being written: where it began, and the next slot.
    pub(super) open: Option<(Offset, u32)>,
    /// Complete but not known to be durable: where it began and ended.
    pub(super) complete: Option<(Offset, Offset)>,
    /// Operations of one record.
    pub(super) scratch: Vec<Op>,
}

impl<S: Segment> QueueGroup<S> {
    /// Write the next part of a snapshot, if one is under way or due. Nothing may wait for the journal.
    pub(super) fn snapshot_step(&mut self, now: UnixNanos) -> Result<(), AppendError> {
        let due =
            self.snapshot.due || self.journal.since_snapshot >= self.limits.snapshot_every_bytes;
        if self.snapshot.open.is_none() && (!due || self.snapshot.complete.is_some()) {
            return Ok(());
        }
        let step = self.write_part(now);
        if step.is_err() {
            // What was written of it is void: the next one begins afresh.
            self.snapshot.open = None;
            self.snapshot.due = true;
        }
        step
    }

    fn write_part(&mut self, now: UnixNanos) -> Result<(), AppendError> {
        let (begin, mut slot) = match self.snapshot.open {
            Some(open) => open,
            None => {
                self.snapshot.due = false;
                self.journal.since_snapshot = 0;
                let after = self.journal.write_snapshot(&[Op::snapshot_begin()], now)?;
                (Offset(after.0 - 1), 0)
            }
        };
        let mut written = 0;
        while (slot as usize) < self.queues.len() && written < self.limits.snapshot_ops_max {
            written += self.write_queue(slot, now)?;
            slot += 1;
        }
        self.snapshot.open = Some((begin, slot));
        if slot as usize == self.queues.len() {
            let end = self.write_end(now)?;
            self.snapshot.open = None;
            self.snapshot.complete = Some((begin, end));
            self.counters.snapshots += 1;
        }
        Ok(())
    }

    /// Write one queue, in as many records as it takes; returns how many operations that were.
    fn write_queue(&mut self, slot: u32, now: UnixNanos) -> Result<usize, AppendError> {
        let mut ops = std::mem::take(&mut self.snapshot.scratch);
        ops.clear();
        let queue = self.queues.at(slot);
        let id = queue.id;
        for source in [Source::Queue, Source::DeadLetters] {
            if let Some(list) = queue.list(source) {
                put_list(id, source, list, &mut ops);
            }
        }
        if !active(Bug::SnapshotForgetsParked) {
            let parked = queue.parked().iter();
            ops.extend(parked.map(|parked| Op::park(id, parked.partition, parked.from)));
        }
        let written = ops.len();
        let result = self.write_ops(&ops, now);
        self.snapshot.scratch = ops;
        result.map(|_| written)
    }

    fn write_end(&mut self, now: UnixNanos) -> Result<Offset, AppendError> {
        let mut ops = std::mem::take(&mut self.snapshot.scratch);
        ops.clear();
        ops.extend(
            self.queues
                .watermarks()
                .iter()
                .map(|&(id, next)| Op::watermark(id, next)),
        );
        if self.queues.first_number() > 0 {
            ops.push(Op::floor(self.queues.first_number()));
        }
        ops.push(Op::snapshot_end());
        let result = self.write_ops(&ops, now);
        self.snapshot.scratch = ops;
        result
    }

    fn write_ops(&mut self, ops: &[Op], now: UnixNanos) -> Result<Offset, AppendError> {
        let mut end = Offset(0);
        for ops in ops.chunks(self.limits.record_ops_max) {
            end = self.journal.write_snapshot(ops, now)?;
        }
        debug_assert!(
            end.0 > 0,
            "a snapshot part has {} bytes an operation",
            OP_BYTES
        );
        Ok(end)
    }

    /// Once a complete snapshot is durable, nothing before it is needed.
    pub(super) fn release_old_snapshots(&mut self) {
        if let Some((begin, end)) = self.snapshot.complete
            && self.journal.log().synced() >= end
        {
            self.snapshot.complete = None;
            self.journal.log_mut().set_hold(Some(begin));
        }
    }
}

fn put_list(id: EndpointId, source: Source, list: &Backlog, ops: &mut Vec<Op>) {
    ops.push(Op::list(id, source, list.head()));
    ops.extend(list.runs().iter().map(|run| Op::add(id, source, run)));
    ops.push(Op::next(id, source, list.next()));
    ops.extend(
        list.settled()
            .iter()
            .map(|(from, to)| Op::settle(id, source, from, to)),
    );
}
