//! One list of waiting messages: runs under queue numbers, what is settled, what comes next.
//!
//! A queue has two of them, its live messages and its dead letters. Knows no disk and no clock.

use std::collections::VecDeque;
use std::time::Duration;

use wire::ids::{Offset, PartitionId};

use super::run::Run;
use super::settled::Settled;

/// Consecutive messages that may be delivered next, all with the same attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Queue number of the first message.
    pub number: u64,
    /// The partition that holds them.
    pub partition: PartitionId,
    /// Offset of the first message.
    pub offset: Offset,
    /// How many messages, never 0.
    pub count: u32,
    /// 1 for the first delivery, at least 2 for another one; it counts on for every time that this
    /// message was the one released, or the first unsettled one when delivery went back.
    pub attempt: u16,
}

/// Runs in order of their numbers. Numbers grow by one a message and are never used twice; numbers
/// without a run (cut, expired) count as settled. The first run always starts at `head`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backlog {
    runs: VecDeque<Run>,
    head: u64,
    next: u64,
    cursor: u64,
    delivered: u64,
    visible: u64,
    settled: Settled,
    messages: u64,
    bytes: u64,
    charges: Vec<(u64, u16)>,
    lock: Option<Duration>,
}

impl Backlog {
    /// An empty list whose first number is given (recovery).
    pub(crate) fn starting(head: u64) -> Self {
        let (next, cursor, delivered, visible) = (head, head, head, head);
        Self {
            head,
            next,
            cursor,
            delivered,
            visible,
            ..Self::default()
        }
    }

    /// Give no number below `next` any more.
    pub(crate) fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
        self.advance(self.head);
        self.check();
    }

    /// Unsettled messages.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Their bytes; partly settled runs count in proportion.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// One past the highest number that was ever delivered since the start.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn lock(&self) -> Option<Duration> {
        self.lock
    }

    pub(crate) fn runs(&self) -> &VecDeque<Run> {
        &self.runs
    }

    /// Whether this message is done with.
    pub(crate) fn is_settled(&self, number: u64) -> bool {
        number < self.head() || self.settled().interval(number).is_some()
    }

    pub(crate) fn settled(&self) -> &Settled {
        &self.settled
    }

    /// Numbers below may be delivered: their runs are as safe as the ack mode asks.
    pub(crate) fn set_visible(&mut self, below: u64) -> bool {
        let grown = below > self.visible;
        self.visible = self.visible.max(below);
        grown
    }

    /// Add a run whose number is at least `next`.
    pub(crate) fn push(&mut self, run: Run) {
        assert!(
            run.number >= self.next,
            "number {} below {}",
            run.number,
            self.next
        );
        self.next = run.end();
        self.messages += u64::from(run.count);
        self.bytes += run.bytes;
        match self.runs.back_mut() {
            Some(last) if last.continued_by(&run) => last.extend(&run),
            _ => self.runs.push_back(run),
        }
        self.advance(self.head);
        self.check();
    }

    /// The messages to deliver next, at most one run's rest; `None` when nothing may go.
    pub(crate) fn piece(&self, intervals_max: usize) -> Option<Piece> {
        if self.settled.len() >= intervals_max {
            return None;
        }
        let (run, number) = self.first_unsettled(self.cursor)?;
        let mut end = run.end().min(self.visible);
        if let Some(settled) = self.settled.next(number) {
            end = end.min(settled);
        }
        let (charges, again) = (self.charges_of(number), number < self.delivered);
        if again {
            end = end.min(self.delivered);
        }
        if charges > 0 {
            end = end.min(number + 1);
        } else if let Some(&(charged, _)) = self.charges.iter().find(|&&(n, _)| n > number) {
            end = end.min(charged);
        }
        let attempt = charges.saturating_add(1).max(1 + u16::from(again));
        let count = end.checked_sub(number).filter(|&count| count > 0)? as u32;
        Some(Piece {
            number,
            partition: run.partition,
            offset: run.offset_of(number),
            count,
            attempt,
        })
    }

    /// The first unsettled number at or after `from`, and its run.
    fn first_unsettled(&self, from: u64) -> Option<(&Run, u64)> {
        let mut number = from.max(self.head);
        let mut at = self.runs.partition_point(|run| run.end() <= number);
        loop {
            let run = self.runs.get(at)?;
            number = number.max(run.number);
            match self.settled.interval(number) {
                Some((_, to)) => number = to,
                None if number < run.end() => return Some((run, number)),
                None => {}
            }
            if number >= run.end() {
                at += self
                    .runs
                    .range(at..)
                    .take_while(|run| run.end() <= number)
                    .count();
            }
        }
    }

    /// The run that holds an unsettled `number`.
    pub(crate) fn find(&self, number: u64) -> Option<&Run> {
        self.first_unsettled(number)
            .filter(|&(_, n)| n == number)
            .map(|(run, _)| run)
    }

    /// Messages up to `end` went out; the lock of the first unsettled one runs until `lock`.
    pub(crate) fn mark_delivered(&mut self, end: u64, lock: Duration) {
        assert!(
            end <= self.visible,
            "delivered {end} beyond {}",
            self.visible
        );
        self.cursor = self.cursor.max(end);
        self.delivered = self.delivered.max(end);
        self.lock.get_or_insert(lock);
        self.check();
    }

    /// Settle `[from, to)`; what is settled already stays so. Returns how many messages were not.
    /// When messages stay in flight, their lock runs until `lock`, or as before.
    pub(crate) fn settle(&mut self, from: u64, to: u64, lock: Option<Duration>) -> u64 {
        let (from, to) = (from.max(self.head), to.min(self.next));
        if from >= to {
            return 0;
        }
        let newly = self.present(from, to) - self.settled_present(from, to);
        if from == self.head {
            self.advance(to);
            let in_flight = self.lock.filter(|_| self.cursor > self.head);
            self.lock = in_flight.map(|held| lock.unwrap_or(held));
        } else {
            self.settled.insert(from, to);
        }
        self.messages -= newly;
        let (head, settled) = (self.head, &self.settled);
        self.charges
            .retain(|&(number, _)| number >= head && settled.interval(number).is_none());
        self.check();
        newly
    }

    /// How many numbers of `[from, to)` have a message.
    fn present(&self, from: u64, to: u64) -> u64 {
        let at = self.runs.partition_point(|run| run.end() <= from);
        let runs = self.runs.range(at..).take_while(|run| run.number < to);
        runs.map(|run| run.end().min(to) - run.number.max(from))
            .sum()
    }

    /// How many of those were settled before.
    fn settled_present(&self, from: u64, to: u64) -> u64 {
        let intervals = self
            .settled
            .iter()
            .filter(|&(start, end)| start < to && end > from);
        intervals
            .map(|(start, end)| self.present(start.max(from), end.min(to)))
            .sum()
    }

    /// Move the head to the first unsettled number at or after `to`, giving up what lies below.
    fn advance(&mut self, to: u64) {
        let head = match self.first_unsettled(to) {
            Some((_, number)) => number,
            None => self.next,
        };
        while let Some(run) = self.runs.front_mut() {
            if run.end() <= head {
                self.bytes -= run.bytes;
                self.runs.pop_front();
                continue;
            }
            if run.number < head {
                let before = run.bytes;
                run.cut_front((head - run.number) as u32);
                self.bytes -= before - run.bytes;
            }
            break;
        }
        self.head = head;
        self.settled.forget_below(head);
        self.cursor = self.cursor.max(head);
        self.delivered = self.delivered.max(head);
        self.visible = self.visible.max(head);
    }

    /// Go back to the first unsettled number. Returns its number if messages were in flight.
    pub(crate) fn rewind(&mut self) -> Option<u64> {
        let in_flight = self.cursor > self.head;
        self.cursor = self.head;
        self.lock = None;
        in_flight.then_some(self.head)
    }

    /// Count one more failed delivery of `number`; returns how many there are. Only `charges_max`
    /// messages are told apart, beyond that the charge is lost and the message goes out once more.
    pub(crate) fn charge(&mut self, number: u64, charges_max: usize) -> u16 {
        match self.charges.binary_search_by_key(&number, |&(n, _)| n) {
            Ok(at) => {
                self.charges[at].1 = self.charges[at].1.saturating_add(1);
                self.charges[at].1
            }
            Err(_) if self.charges.len() >= charges_max => 0,
            Err(at) => {
                self.charges.insert(at, (number, 1));
                1
            }
        }
    }

    fn charges_of(&self, number: u64) -> u16 {
        let at = self.charges.binary_search_by_key(&number, |&(n, _)| n);
        at.map_or(0, |at| self.charges[at].1)
    }

    /// Cut every run of `partition` at `end`: a log that lost its tail gives those offsets again.
    /// Returns how many messages went.
    pub(crate) fn clamp(&mut self, partition: PartitionId, end: Offset) -> u64 {
        let before = self.messages;
        for run in self
            .runs
            .iter_mut()
            .filter(|run| run.partition == partition)
        {
            let keep = end.0.saturating_sub(run.first.0).min(u64::from(run.count)) as u32;
            if keep == 0 {
                run.count = 0;
                run.bytes = 0;
            } else if keep < run.count {
                run.keep_front(keep);
            }
        }
        self.runs.retain(|run| run.count > 0);
        self.bytes = self.runs.iter().map(|run| run.bytes).sum();
        self.messages =
            self.present(self.head, self.next) - self.settled_present(self.head, self.next);
        self.advance(self.head);
        self.check();
        before - self.messages
    }

    /// The invariants that hold between two calls.
    pub(crate) fn check(&self) {
        debug_assert!(self.head <= self.cursor, "{} > {}", self.head, self.cursor);
        debug_assert!(
            self.cursor <= self.delivered,
            "{} > {}",
            self.cursor,
            self.delivered
        );
        debug_assert!(
            self.delivered <= self.next,
            "{} > {}",
            self.delivered,
            self.next
        );
        debug_assert!(
            self.visible <= self.next,
            "{} > {}",
            self.visible,
            self.next
        );
        debug_assert!(
            self.runs.front().is_none_or(|run| run.number == self.head),
            "{self:?}"
        );
        debug_assert!(!self.runs.is_empty() || self.head == self.next, "{self:?}");
        debug_assert!(self.runs.is_empty() == (self.messages == 0), "{self:?}");
        debug_assert!(!self.runs.is_empty() || self.bytes == 0, "{self:?}");
    }
}
