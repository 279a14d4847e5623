//! What a receiver has taken from its queue and not settled yet, so that a dropped connection repeats nothing.
//!
//! After a reconnect the server delivers everything unsettled again. What the application already holds is not handed
//! out a second time, and settlements that may have been lost with the connection are repeated. No socket, no clock.

use crate::handshake::Seal;
use crate::message::Delivery;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use wire::delivery::{Deliver, Fetch, Group, Outcome, Settle, Source};
use wire::ids::{LogsId, Sequence};
use wire::message::Message;

/// A gap up to this is remembered number by number, a wider one, as a server leaves behind damage, by its ends.
const GAP_MAX: u64 = 65_536;

/// What becomes of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Done with.
    Accept,
    /// Not done: deliver it again, to whoever fetches.
    Release,
    /// Never deliver it again: put it among the dead letters.
    DeadLetter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The application has it.
    Held,
    /// The application has it, but this connection has not delivered it yet.
    Awaited,
    /// Settled by the application; repeated when it comes again.
    Settled(Outcome),
}

/// The receiving side of one session.
#[derive(Debug)]
pub struct Inbox {
    source: Source,
    messages_max: u32,
    bytes_max: u64,
    credit_messages: u32,
    credit_bytes: u64,
    /// Everything up to this number is accepted.
    accepted: u64,
    /// The highest number that ever came.
    highest: u64,
    known: BTreeMap<u64, Fate>,
    /// First and last of wide gaps above `accepted`: nobody waits for anything in them.
    passed: BTreeMap<u64, u64>,
    /// Of those up to `accepted`, the ones to be put among the dead letters when they come again.
    dead: BTreeSet<u64>,
    held: usize,
    /// Settlements to send, in order.
    settles: Vec<(u64, Outcome)>,
    fresh: bool,
}

impl Inbox {
    /// An empty inbox that lets at most so many unsettled messages and undelivered bytes come.
    pub fn new(source: Source, messages_max: u32, bytes_max: u64) -> Self {
        Self {
            source,
            messages_max: messages_max.max(1),
            bytes_max: bytes_max.max(1),
            credit_messages: 0,
            credit_bytes: 0,
            accepted: 0,
            highest: 0,
            known: BTreeMap::new(),
            passed: BTreeMap::new(),
            dead: BTreeSet::new(),
            held: 0,
            settles: Vec::new(),
            fresh: true,
        }
    }

    /// A session was opened or reopened: all credit is gone and everything unsettled will come again.
    pub fn opened(&mut self) {
        (self.credit_messages, self.credit_bytes) = (0, 0);
        self.settles.clear();
        for fate in self.known.values_mut() {
            if *fate == Fate::Held {
                *fate = Fate::Awaited;
            }
        }
    }

    /// The numbers of another node, or of one that lost its logs, come next: nothing that was settled is meant by them, and what the
    /// application still holds cannot be settled any more.
    pub fn begin_anew(&mut self) {
        *self = Self::new(self.source, self.messages_max, self.bytes_max);
    }

    /// Take a DELIVER and hand what the application does not have yet to `give`.
    pub fn delivered(&mut self, deliver: &Deliver<'_>, mut give: impl FnMut(Delivery)) {
        for group in deliver.groups() {
            for (index, message) in group.messages().enumerate() {
                self.credit_messages = self.credit_messages.saturating_sub(1);
                self.credit_bytes = self
                    .credit_bytes
                    .saturating_sub(message.encoded_bytes() as u64);
                let number = group.header.number.0 + index as u64;
                if self.is_new(number) {
                    give(delivery(&group, index as u64, &message));
                }
            }
        }
    }

    fn is_new(&mut self, number: u64) -> bool {
        if self.fresh {
            self.fresh = false;
            self.accepted = number.saturating_sub(1);
            self.highest = self.accepted;
        }
        if number <= self.accepted || self.is_passed(number) {
            let outcome = match self.dead.contains(&number) {
                true => Outcome::DeadLetterOne,
                false => Outcome::AcceptOne,
            };
            self.settles.push((number, outcome));
            return false;
        }
        self.pass_over_gap(number);
        match self.known.get_mut(&number) {
            Some(fate @ Fate::Awaited) => {
                *fate = Fate::Held;
                false
            }
            Some(Fate::Settled(outcome)) => {
                let outcome = *outcome;
                self.settles.push((number, outcome));
                false
            }
            // The server goes back to its first unsettled message: the application has this one still.
            Some(Fate::Held) => false,
            None => {
                self.known.insert(number, Fate::Held);
                self.held += 1;
                true
            }
        }
    }

    /// Deliveries come in order and only settled ones are skipped: a jump beyond the highest number shows what an
    /// earlier receiver settled, or numbers that were left out.
    fn pass_over_gap(&mut self, number: u64) {
        let gap = self.highest.saturating_add(1)..number;
        if number.saturating_sub(self.highest) > GAP_MAX {
            self.passed.insert(gap.start, gap.end - 1);
        } else {
            for settled in gap {
                self.known
                    .insert(settled, Fate::Settled(Outcome::AcceptOne));
            }
        }
        self.highest = self.highest.max(number);
        self.forget();
    }

    fn is_passed(&self, number: u64) -> bool {
        let before = self.passed.range(..=number).next_back();
        before.is_some_and(|(_, last)| number <= *last)
    }

    /// Settle one delivery. False when the application does not hold that number.
    pub fn settle(&mut self, number: u64, settlement: Settlement) -> bool {
        let Some(&fate) = self.known.get(&number) else {
            return false;
        };
        if matches!(fate, Fate::Settled(_)) {
            return false;
        }
        self.held -= 1;
        let outcome = match settlement {
            Settlement::Accept => Outcome::AcceptOne,
            Settlement::Release => Outcome::ReleaseOne,
            Settlement::DeadLetter => Outcome::DeadLetterOne,
        };
        if fate == Fate::Held {
            self.settles.push((number, outcome));
        }
        match (settlement, fate) {
            // What this connection has not delivered yet is free already.
            (Settlement::Release, _) => drop(self.known.remove(&number)),
            _ => drop(self.known.insert(number, Fate::Settled(outcome))),
        }
        self.forget();
        true
    }

    /// Accept this delivery and every earlier one that the application holds.
    pub fn accept_through(&mut self, number: u64) {
        let open: Vec<(u64, Fate)> = self
            .known
            .range((Bound::Unbounded, Bound::Included(number)))
            .map(|(number, fate)| (*number, *fate))
            .collect();
        let held = || open.iter().filter(|(_, fate)| *fate == Fate::Held);
        if let Some((last, _)) = held().next_back() {
            // A cumulative settlement would also take a released message that has not come again yet.
            let passed = self.passed.range(..last);
            let passed: u64 = passed.map(|(first, last)| last - first + 1).sum();
            let open = open.partition_point(|(number, _)| number <= last) as u64;
            let whole = open + passed == last - self.accepted;
            match whole {
                true => self.settles.push((*last, Outcome::AcceptUpTo)),
                false => self
                    .settles
                    .extend(held().map(|(number, _)| (*number, Outcome::AcceptOne))),
            }
        }
        // What has not come on this connection yet is accepted when it does.
        self.mark_accepted(&open);
    }

    fn mark_accepted(&mut self, open: &[(u64, Fate)]) {
        for (number, fate) in open {
            if !matches!(fate, Fate::Settled(_)) {
                self.held -= 1;
                self.known
                    .insert(*number, Fate::Settled(Outcome::AcceptOne));
            }
        }
        self.forget();
    }

    /// Settled numbers directly behind the accepted ones need not be remembered one by one.
    fn forget(&mut self) {
        loop {
            let next = self.accepted.saturating_add(1);
            if let Some(last) = self.passed.remove(&next) {
                self.accepted = last;
                continue;
            }
            match self.known.get(&next) {
                Some(Fate::Settled(Outcome::DeadLetterOne)) => drop(self.dead.insert(next)),
                Some(Fate::Settled(Outcome::AcceptOne)) => {}
                _ => return,
            }
            self.known.remove(&next);
            self.accepted = next;
        }
    }

    /// Deliveries that the application holds unsettled.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Append settlements that are due, and a FETCH when half of the credit is used up.
    ///
    /// `waiting` messages of `waiting_bytes` have been taken but not yet read by the application.
    pub fn pump(
        &mut self,
        waiting: usize,
        waiting_bytes: usize,
        seal: &mut Seal,
        out: &mut Vec<u8>,
    ) {
        for (number, outcome) in self.settles.drain(..) {
            Settle {
                source: self.source,
                number: Sequence(number),
                outcome,
            }
            .encode(out, seal.signer());
        }
        let occupied = u32::try_from(self.held.max(waiting)).unwrap_or(u32::MAX);
        let messages = self
            .messages_max
            .saturating_sub(occupied)
            .saturating_sub(self.credit_messages);
        let bytes = self
            .bytes_max
            .saturating_sub(waiting_bytes as u64)
            .saturating_sub(self.credit_bytes);
        let messages_low = messages > 0
            && messages
                >= self
                    .messages_max
                    .div_ceil(2)
                    .min(messages + self.credit_messages);
        let bytes_low = bytes > 0 && bytes >= self.bytes_max.div_ceil(2);
        if messages_low || bytes_low {
            self.credit_messages += messages;
            self.credit_bytes += bytes;
            Fetch {
                source: self.source,
                messages,
                bytes,
            }
            .encode(out, seal.signer());
        }
    }
}

fn delivery(group: &Group<'_>, index: u64, message: &Message<'_>) -> Delivery {
    let header = group.header;
    Delivery {
        number: header.number.0 + index,
        logs: LogsId::default(),
        sender: header.sender,
        channel: header.channel,
        channel_name: None,
        partition: header.partition,
        offset: header.offset.plus(index),
        append_time: header.append_time,
        attempt: header.attempt,
        timestamp: message.timestamp,
        headers: message
            .headers
            .map(|(key, value)| (key.to_owned(), value.to_vec()))
            .collect(),
        body: message.body.to_vec(),
    }
}

#[cfg(test)]
mod tests;
