//! Fan-out: committed records become runs in the queues of everyone who hears their channel.

use partition::Segment;
use wire::ids::{ChannelId, EndpointId, Offset, PartitionId, UnixNanos};
use wire::route::{EndpointView, QueueBounds, RouteTable};

use super::bounds::admit;
use super::endpoint::BatchTail;
use super::group::QueueGroup;
use super::op::{Op, Source};
use super::run::{Run, share};

/// Consecutive messages of one channel in one partition: a record, or several next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where they lie.
    pub partition: PartitionId,
    /// The channel they were sent to.
    pub channel: ChannelId,
    /// Offset of the first message.
    pub first: Offset,
    /// How many messages.
    pub count: u32,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Span {
    /// Whether `next` goes on exactly where this span ends, and both together hold at most `bytes_max` bytes.
    #[must_use]
    pub fn continued_by(&self, next: &Self, bytes_max: u64) -> bool {
        self.partition == next.partition
            && self.channel == next.channel
            && self.first.plus(u64::from(self.count)) == next.first
            && self.count.checked_add(next.count).is_some()
            && self.bytes + next.bytes <= bytes_max
    }

    /// Take in `next`, for which `continued_by` holds.
    pub fn extend(&mut self, next: &Self) {
        self.count += next.count;
        self.bytes += next.bytes;
    }
}

/// How a fan-out call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FanOut {
    /// This many spans, from the front, have been taken; call again with the rest.
    Taken(usize),
    /// The journal has no room: nothing was taken; try again when it got a segment. Delay, never loss.
    Paused,
}

/// Whether an endpoint hears a channel at this moment: what has ended counts as taken away.
pub(super) fn hears(endpoint: &EndpointView<'_>, channel: ChannelId, now: UnixNanos) -> bool {
    endpoint.hears(channel, now) && !endpoint.is_over(now)
}

impl<S: Segment> QueueGroup<S> {
    /// Fan out spans, in order of their offsets within each partition, from the watermark on. Spans
    /// below the watermark are passed over. Bounded by `QueueLimits::batch_ops_max`; allocates nothing
    /// in steady state.
    pub fn fan_out(&mut self, spans: &[Span], table: &RouteTable, now: UnixNanos) -> FanOut {
        if self.journal.pending() >= self.limits.batch_ops_max && self.flush(now).is_err() {
            self.counters.paused += 1;
            return FanOut::Paused;
        }
        let mut taken = 0;
        for span in spans {
            if taken > 0 && self.journal.pending() >= self.limits.batch_ops_max {
                break;
            }
            self.spread(span, table, now);
            taken += 1;
            let next = spans.get(taken);
            if next.is_none_or(|next| next.partition != span.partition) {
                self.note_watermark(span.partition);
            }
        }
        if let Some(last) = taken.checked_sub(1).map(|at| spans[at])
            && taken < spans.len()
        {
            self.note_watermark(last.partition);
        }
        FanOut::Taken(taken)
    }

    fn note_watermark(&mut self, partition: PartitionId) {
        let next = self.queues.watermark(partition).unwrap_or_default();
        self.journal.move_watermark(partition, next);
    }

    fn spread(&mut self, span: &Span, table: &RouteTable, now: UnixNanos) {
        let end = span.first.plus(u64::from(span.count));
        if end <= self.watermark(span.partition) {
            return;
        }
        for index in table.subscribers(span.channel) {
            let endpoint = table.endpoint_at(index);
            if table.queue_group_of(endpoint.id) == self.number
                && hears(&endpoint, span.channel, now)
            {
                let slot = self.routes.slot(index, endpoint.id, &mut self.queues);
                self.add_live(slot, endpoint.id, endpoint.queue(), span, now);
            }
        }
        self.queues.set_watermark(span.partition, end);
    }

    /// A span just committed: a queue that is parked in its partition finds it in the log later.
    fn add_live(
        &mut self,
        slot: u32,
        id: EndpointId,
        bounds: &QueueBounds,
        span: &Span,
        now: UnixNanos,
    ) {
        if self.queues.at(slot).parked_at(span.partition).is_some() {
            return;
        }
        let taken = self.add(slot, id, bounds, span, now);
        if taken < span.count {
            let from = span.first.plus(u64::from(taken));
            self.push_op(slot, Op::park(id, span.partition, from));
            self.counters.parked += 1;
        }
    }

    /// Add as much of a span as the bounds of the queue let in; returns how many messages are dealt
    /// with (in the queue or given up), the rest must park.
    pub(super) fn add(
        &mut self,
        slot: u32,
        id: EndpointId,
        bounds: &QueueBounds,
        span: &Span,
        now: UnixNanos,
    ) -> u32 {
        let list = &self.queues.at(slot).live;
        let admission = admit(list, bounds, &self.limits, span.count, span.bytes);
        if admission.drop_below > list.head() {
            let from = list.head();
            let before = list.messages();
            self.push_op(
                slot,
                Op::settle(id, Source::Queue, from, admission.drop_below),
            );
            self.counters.dropped += before - self.queues.at(slot).live.messages();
        }
        self.counters.dropped += u64::from(admission.skip);
        if admission.take > 0 {
            let run = Run {
                partition: span.partition,
                count: admission.take,
                first: span.first.plus(u64::from(admission.skip)),
                number: self.queues.at(slot).live.next(),
                bytes: share(span.bytes, admission.take, span.count),
                time: now,
            };
            self.push_run(slot, id, run);
            self.counters.added += u64::from(admission.take);
        }
        admission.skip + admission.take
    }

    /// Add a run; the journal's open batch takes it into its last operation on this queue if it can.
    fn push_run(&mut self, slot: u32, id: EndpointId, run: Run) {
        let batch = self.journal.batch;
        let tail = self
            .queues
            .at(slot)
            .batch
            .filter(|tail| tail.batch == batch);
        self.queues.at_mut(slot).live.push(run);
        if let Some(tail) = tail {
            let last = self.journal.pending_mut(tail.at);
            if last.run().continued_by(&run) {
                last.extend(&run);
                return;
            }
        }
        let at = self.journal.push(Op::add(id, Source::Queue, &run));
        self.queues.at_mut(slot).batch = Some(BatchTail { batch, at });
    }

    /// Apply and journal an operation that must not be lost; the open batch's tail ends here.
    pub(super) fn push_op(&mut self, slot: u32, op: Op) {
        let queue = self.queues.at_mut(slot);
        queue.apply(&op);
        queue.batch = None;
        self.journal.push(op);
    }
}
