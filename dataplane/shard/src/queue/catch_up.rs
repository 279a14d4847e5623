//! A parked queue reads on in the log, when it has room, from where it parked.

use partition::{ReadError, RecordKind, Segment};
use wire::ids::{Offset, PartitionId, UnixNanos};
use wire::route::{Changes, EndpointView, RouteTable};

use crate::planted::{Bug, active};
use crate::reading::LogReader;

use super::bounds::has_room;
use super::fan_out::{Span, hears};
use super::group::QueueGroup;
use super::op::Op;
use super::run::share;

/// Queues that a call looks at because of a new table, and endpoints that may have changed for no other queue to be looked at.
const LOOKS: usize = 256;

impl<S: Segment> QueueGroup<S> {
    /// Let parked queues with room read on in the partitions that `log` names, up to the watermark:
    /// messages of the channels that their endpoint hears today join the queue, in order. Reads at most
    /// `catch_up_records_max` records; `true` when there is more to do at once.
    pub fn catch_up<'a>(
        &mut self,
        table: &RouteTable,
        now: UnixNanos,
        log: impl Fn(PartitionId) -> Option<LogReader<'a, S>>,
    ) -> bool
    where
        S: 'a,
    {
        self.note_table(table);
        let looks = !self.looks.is_over();
        let mut budget = self.limits.catch_up_records_max;
        for _ in 0..self.behind.len() {
            if budget == 0 {
                return true;
            }
            if self.journal.pending() >= self.limits.batch_ops_max
                && self.flush(now).is_err()
                && self.journal.pending() >= self.limits.batch_ops_max
            {
                // To come again at once would change nothing: a segment for the journal has to come first.
                self.counters.paused += 1;
                return looks;
            }
            let Some(slot) = self.behind.pop_front() else {
                return looks;
            };
            self.queues.at_mut(slot).behind = false;
            let Some(endpoint) = table.endpoint(self.queues.at(slot).id) else {
                continue;
            };
            while let Some(&parked) = self.queues.at(slot).parked().first() {
                if !has_room(&self.queues.at(slot).live, endpoint.queue(), &self.limits) {
                    break;
                }
                let Some(log) = log(parked.partition) else {
                    break;
                };
                if !self.read_on(
                    slot,
                    &endpoint,
                    log,
                    parked.partition,
                    parked.from,
                    now,
                    &mut budget,
                ) {
                    // Another partition's turn next time, so that none starves.
                    self.queues.at_mut(slot).rotate_parked();
                    break;
                }
            }
            let queue = self.queues.at(slot);
            let room = has_room(&queue.live, endpoint.queue(), &self.limits);
            let readable = queue
                .parked()
                .first()
                .is_some_and(|parked| log(parked.partition).is_some());
            if readable && room && budget == 0 {
                self.note_room(slot);
            }
        }
        looks || (budget == 0 && !self.behind.is_empty())
    }

    /// Logs can be read that could not be before, or another table is in force: every parked queue looks once.
    pub fn look_again(&mut self) {
        self.caught_up_to = None;
    }

    /// What the table in force says differs from `before` in these changes alone: no other queue has to look.
    pub(crate) fn note_changes(&mut self, before: &RouteTable, changes: &Changes<'_>) {
        if changes.count() > LOOKS || self.caught_up_to != Some(before.epoch()) {
            return;
        }
        for endpoint in changes.endpoints() {
            let here = before.queue_group_of(endpoint.id) == self.number;
            if let Some(slot) = here.then(|| self.queues.slot(endpoint.id)).flatten() {
                self.note_room(slot);
            }
        }
        self.caught_up_to = Some(changes.epoch());
    }

    /// With a new table an endpoint may be there again, or have more room: every parked queue looks once, so many in a call.
    fn note_table(&mut self, table: &RouteTable) {
        if self.caught_up_to != Some(table.epoch()) {
            self.caught_up_to = Some(table.epoch());
            self.looks.begin(self.queues.len());
        }
        for _ in 0..LOOKS {
            let Some(slot) = self.looks.next() else {
                return;
            };
            self.note_room(slot as u32);
        }
    }

    /// Read on in one partition; `true` when the queue has caught up with it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one loop body, split off for its length"
    )]
    fn read_on(
        &mut self,
        slot: u32,
        endpoint: &EndpointView<'_>,
        log: LogReader<'_, S>,
        partition: PartitionId,
        mut from: Offset,
        now: UnixNanos,
        budget: &mut usize,
    ) -> bool {
        let end = self.watermark(partition);
        let begun = from;
        while from < end && *budget > 0 {
            *budget -= 1;
            let span = match log.read(from) {
                Ok(record) if record.kind() == RecordKind::Frame => {
                    let skipped = (from.0 - record.first().0) as u32;
                    let whole = u32::from(record.count());
                    let count = whole - skipped;
                    let bytes = share(record.payload().len() as u64, count, whole);
                    Span {
                        partition,
                        channel: record.channel(),
                        first: from,
                        count,
                        bytes,
                    }
                }
                Ok(record) => {
                    from = record.next().max(from.plus(1));
                    continue;
                }
                Err(ReadError::Expired { first }) => {
                    from = first.max(from.plus(1));
                    continue;
                }
                Err(ReadError::Damaged { next }) => {
                    from = next.max(from.plus(1));
                    continue;
                }
                Err(ReadError::NotYet) => break,
            };
            let heard = hears(endpoint, span.channel, now);
            if heard || active(Bug::IgnoreGrants) {
                let taken = self.add(slot, endpoint.id, endpoint.queue(), &span, now);
                self.counters.caught_up += u64::from(taken);
                from = from.plus(u64::from(taken));
                if taken < span.count {
                    break;
                }
            } else {
                from = from.plus(u64::from(span.count));
            }
        }
        let done = from >= end;
        if done {
            self.push_op(slot, Op::unpark(endpoint.id, partition));
        } else if from > begun {
            self.push_op(slot, Op::park(endpoint.id, partition, from));
        }
        done
    }
}
