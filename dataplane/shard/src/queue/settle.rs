//! What a receiver says about its messages, and what silence says: accept, release, dead letters,
//! locks that expire.

use std::cmp::Reverse;
use std::time::Duration;

use partition::Segment;
use wire::ids::{EndpointId, UnixNanos};
use wire::route::{QueueBounds, RouteTable};

use crate::planted::{Bug, active};

use super::backlog::Backlog;
use super::expire::SkipReason;
use super::group::QueueGroup;
use super::op::{Op, Source};

/// A settlement that is refused; the queue stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The number is not in flight.
    #[error("message {number} is not in flight, delivered are those below {delivered}")]
    NotDelivered {
        /// The number named.
        number: u64,
        /// One past the highest number delivered.
        delivered: u64,
    },
    /// Too many messages are settled out of order; settle the first unsettled one.
    #[error("{intervals} gaps between settled messages, at most {most}")]
    Scattered {
        /// Gaps there are.
        intervals: usize,
        /// Gaps there may be.
        most: usize,
    },
}

/// Why delivery goes back to the first unsettled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewind {
    /// The first unsettled message was not settled in time.
    LockExpired,
    /// The receiver's session or connection ended.
    Disconnected,
    /// Another session of the same endpoint took the queue.
    TakenOver,
}

/// A list whose lock expired: its deliveries begin again at the first unsettled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Whose list.
    pub endpoint: EndpointId,
    /// Which list.
    pub source: Source,
}

impl<S: Segment> QueueGroup<S> {
    /// Accept everything up to and including `number`. Returns how many messages that settles.
    ///
    /// # Errors
    /// `NotDelivered` when `number` was never delivered.
    pub fn accept_up_to(
        &mut self,
        endpoint: EndpointId,
        source: Source,
        number: u64,
        now: Duration,
        lock: Duration,
    ) -> Result<u64, SettleError> {
        let slot = self.delivered_slot(endpoint, source, number)?;
        let head = self.list(slot, source).map_or(0, Backlog::head);
        let off_by_one = active(Bug::SettleOffByOne);
        let end = number + 1 + u64::from(off_by_one);
        Ok(self.settle(slot, source, head.min(end), end, Some(now + lock)))
    }

    /// Accept `number` alone. Returns 1, or 0 when it was settled before.
    ///
    /// # Errors
    /// `NotDelivered`, or `Scattered` when too many gaps would be left behind.
    pub fn accept(
        &mut self,
        endpoint: EndpointId,
        source: Source,
        number: u64,
        now: Duration,
        lock: Duration,
    ) -> Result<u64, SettleError> {
        let slot = self.delivered_slot(endpoint, source, number)?;
        self.ensure_not_scattered(slot, source, number)?;
        Ok(self.settle(slot, source, number, number + 1, Some(now + lock)))
    }

    /// The receiver cannot use `number` now: it goes out again, and with it everything unsettled. Nothing happens
    /// when it was settled before.
    ///
    /// # Errors
    /// `NotDelivered`, or `Scattered` when the message became a dead letter behind too many gaps.
    pub fn release(
        &mut self,
        endpoint: EndpointId,
        source: Source,
        number: u64,
        bounds: &QueueBounds,
        now: UnixNanos,
    ) -> Result<(), SettleError> {
        let slot = self.delivered_slot(endpoint, source, number)?;
        if self.is_settled(slot, source, number) {
            return Ok(());
        }
        self.counters.rewinds += 1;
        if let Some(list) = self.queues.at_mut(slot).list_mut(source) {
            list.rewind();
        }
        self.charge(slot, source, number, bounds.deliveries_max, now);
        Ok(())
    }

    /// The receiver will never be able to use `number`: it becomes a dead letter, or, when it is one
    /// already, goes for good. Nothing happens when it was settled before.
    ///
    /// # Errors
    /// `NotDelivered` or `Scattered`.
    pub fn bury(
        &mut self,
        endpoint: EndpointId,
        source: Source,
        number: u64,
        now: UnixNanos,
    ) -> Result<(), SettleError> {
        let slot = self.delivered_slot(endpoint, source, number)?;
        if self.is_settled(slot, source, number) {
            return Ok(());
        }
        self.ensure_not_scattered(slot, source, number)?;
        match source {
            Source::Queue => self.move_to_dead_letters(slot, number, now),
            Source::DeadLetters => {
                self.settle(slot, source, number, number + 1, None);
            }
        }
        Ok(())
    }

    /// Delivery goes back to the first unsettled message. If messages were in flight, the first of
    /// them is charged with a failed delivery, and with `deliveries_max` of them it becomes a dead letter.
    pub fn rewind(
        &mut self,
        endpoint: EndpointId,
        source: Source,
        why: Rewind,
        bounds: &QueueBounds,
        now: UnixNanos,
    ) {
        if active(Bug::ResumeKeepsCursor) && why != Rewind::LockExpired {
            return;
        }
        let Some(slot) = self.queues.slot(endpoint) else {
            return;
        };
        let Some(list) = self.queues.at_mut(slot).list_mut(source) else {
            return;
        };
        let Some(first) = list.rewind() else { return };
        self.counters.rewinds += 1;
        self.charge(slot, source, first, bounds.deliveries_max, now);
    }

    /// When to call [`QueueGroup::expire_locks`]: not after the earliest expiry of a lock, and seldom before it.
    pub fn next_lock_expiry(&self) -> Option<Duration> {
        self.locked.peek().map(|&Reverse((at, ..))| at)
    }

    /// Rewind every list whose lock expired at `now`, and name it in `out`.
    pub fn expire_locks(
        &mut self,
        now: Duration,
        unix: UnixNanos,
        table: &RouteTable,
        out: &mut Vec<Expired>,
    ) {
        if active(Bug::IgnoreLocks) {
            return;
        }
        while let Some(&Reverse((at, slot, source))) = self.locked.peek()
            && at <= now
        {
            self.locked.pop();
            let queue = self.queues.at_mut(slot);
            let listed = &mut queue.lock_listed[source as usize];
            if *listed != Some(at) {
                // It was listed again, for an earlier time.
                continue;
            }
            *listed = None;
            let Some(lock) = queue.list(source).and_then(Backlog::lock) else {
                continue;
            };
            if lock > now {
                self.note_lock(slot, source);
                continue;
            }
            let endpoint = queue.id;
            out.push(Expired { endpoint, source });
            self.counters.locks_expired += 1;
            let gone = QueueBounds::default();
            let bounds = table
                .endpoint(endpoint)
                .map_or(&gone, |found| found.queue());
            self.rewind(endpoint, source, Rewind::LockExpired, bounds, unix);
        }
    }

    pub(super) fn list(&self, slot: u32, source: Source) -> Option<&Backlog> {
        self.queues.at(slot).list(source)
    }

    /// The slot of a list in which `number` was delivered (and may be settled since).
    fn is_settled(&self, slot: u32, source: Source, number: u64) -> bool {
        self.list(slot, source)
            .is_some_and(|list| list.is_settled(number))
    }

    fn delivered_slot(
        &self,
        endpoint: EndpointId,
        source: Source,
        number: u64,
    ) -> Result<u32, SettleError> {
        let slot = self.queues.slot(endpoint);
        let delivered = slot
            .and_then(|slot| self.list(slot, source))
            .map_or(0, Backlog::delivered);
        slot.filter(|_| number < delivered)
            .ok_or(SettleError::NotDelivered { number, delivered })
    }

    fn ensure_not_scattered(
        &self,
        slot: u32,
        source: Source,
        number: u64,
    ) -> Result<(), SettleError> {
        let Some(list) = self.list(slot, source) else {
            return Ok(());
        };
        let (intervals, most) = (list.settled().len(), self.limits.settled_max);
        if number > list.head() && intervals >= most {
            return Err(SettleError::Scattered { intervals, most });
        }
        Ok(())
    }

    /// Settle numbers that a receiver answered.
    fn settle(
        &mut self,
        slot: u32,
        source: Source,
        from: u64,
        to: u64,
        lock: Option<Duration>,
    ) -> u64 {
        let newly = self.give_up(slot, source, from, to, lock);
        self.counters.settled += newly;
        newly
    }

    /// Settle numbers for whatever reason; returns how many messages that were.
    pub(super) fn give_up(
        &mut self,
        slot: u32,
        source: Source,
        from: u64,
        to: u64,
        lock: Option<Duration>,
    ) -> u64 {
        let queue = self.queues.at_mut(slot);
        let id = queue.id;
        let Some(list) = queue.list_mut(source) else {
            return 0;
        };
        let newly = list.settle(from, to, lock);
        self.note_lock(slot, source);
        if newly > 0 {
            self.change(Op::settle(id, source, from, to));
            self.note_room(slot);
        }
        newly
    }

    /// One failed delivery of `number` more; too many make it a dead letter.
    fn charge(&mut self, slot: u32, source: Source, number: u64, most: u16, now: UnixNanos) {
        let charges_max = self.limits.charges_max;
        let Some(list) = self.queues.at_mut(slot).list_mut(source) else {
            return;
        };
        if list.find(number).is_none() {
            return;
        }
        let failed = list.charge(number, charges_max);
        if source == Source::Queue && most > 0 && failed >= most {
            self.move_to_dead_letters(slot, number, now);
        }
    }

    fn move_to_dead_letters(&mut self, slot: u32, number: u64, now: UnixNanos) {
        if !self.journal_has_room() || self.queues.at(slot).live.find(number).is_none() {
            return;
        }
        let queue = self.queues.at(slot);
        let op = Op::bury(queue.id, number, queue.dead_next(), now);
        self.push_op(slot, op);
        self.counters.buried += 1;
        let dead = self.list(slot, Source::DeadLetters);
        let over = dead.filter(|dead| dead.messages() > self.limits.dead_letters_max);
        if let Some(head) = over.map(Backlog::head) {
            self.counters.dead_dropped += 1;
            self.give_up(slot, Source::DeadLetters, head, head + 1, None);
        }
        self.note_room(slot);
    }

    /// Leave out `count` messages from `number` on without delivering them.
    pub fn skip(
        &mut self,
        endpoint: EndpointId,
        source: Source,
        number: u64,
        count: u32,
        why: SkipReason,
    ) {
        let Some(slot) = self.queues.slot(endpoint) else {
            return;
        };
        let newly = self.give_up(slot, source, number, number + u64::from(count), None);
        match why {
            SkipReason::Expired => self.counters.expired += newly,
            SkipReason::Withdrawn => self.counters.withdrawn += newly,
            SkipReason::Damaged => self.counters.damaged += newly,
        }
    }
}
