//! A receiver that settles, forgets, releases, refuses, disconnects and comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use wire::delivery::{Fetch, Outcome, Settle, Source};
use wire::ids::{Direction, QUEUE_STREAM, Sequence};
use wire::reason::Reason;

use crate::ids::MessageId;
use crate::link::{Delivered, Heard};
use crate::network::{Actor, Note};
use crate::party::{Context, Party};
use crate::plan::RECEIVERS;

pub(crate) struct Receiver {
    number: usize,
    party: Party,
    /// Credit that the server still has.
    credit: [i64; 2],
    /// Numbers delivered and not settled by a message of ours, that we do not hold.
    forgotten: BTreeSet<u64>,
    /// Numbers held and not settled yet.
    held: BTreeSet<u64>,
    /// Nothing has been delivered on this connection yet.
    fresh: bool,
    /// The number delivered last.
    last: u64,
    seen: BTreeSet<u64>,
    progress_at: Duration,
    /// When the present connection was made.
    begun_at: Duration,
    pinged_at: Duration,
}

impl Receiver {
    pub(crate) fn new(number: usize) -> Self {
        let name = RECEIVERS[number];
        Self {
            number,
            party: Party::new(
                name,
                Actor::Receiver(number),
                Direction::Egress,
                number == 1,
            ),
            credit: [0; 2],
            forgotten: BTreeSet::new(),
            held: BTreeSet::new(),
            fresh: true,
            last: 0,
            seen: BTreeSet::new(),
            progress_at: Duration::ZERO,
            begun_at: Duration::ZERO,
            pinged_at: Duration::ZERO,
        }
    }

    pub(crate) fn step(&mut self, cx: &mut Context<'_>) {
        if self.party.connect(cx) {
            self.credit = [0; 2];
            self.fresh = true;
            self.begun_at = cx.now;
            self.progress_at = cx.now;
        }
        for said in self.party.listen(cx) {
            match said {
                Heard::Welcome { .. } => self.progress_at = cx.now,
                Heard::Deliver(messages) => self.take(cx, &messages),
                Heard::Reject(reject) => {
                    assert_eq!(reject.partition, QUEUE_STREAM, "{reject:?}");
                    self.progress_at = cx.now;
                    if reject.notice.reason == Reason::QueueTaken {
                        self.party.hang_up(cx);
                    }
                }
                _ => {}
            }
        }
        if self.party.open {
            self.fetch(cx, Source::Queue);
            if cx.calm {
                self.fetch(cx, Source::DeadLetters);
            }
            if cx.now > self.pinged_at + Duration::from_secs(10) {
                self.pinged_at = cx.now;
                self.party.send(cx, |out, signer| {
                    wire::link::encode_ping(out, Sequence(7), signer)
                });
            }
        }
        // What retention took of messages that it forgot never comes again; it sees so on a connection of its own.
        if cx.calm && cx.ledger.expiring && cx.now > self.begun_at + Duration::from_secs(60) {
            self.party.hang_up(cx);
        }
        let silent = !self.party.open && cx.now > self.progress_at + Duration::from_secs(12);
        if silent || (!cx.calm && cx.random.u16(..250) == 0) {
            self.progress_at = cx.now;
            self.party.hang_up(cx);
        }
    }

    /// Leave and come back, so that whatever it forgot comes again.
    pub(crate) fn start_over(&mut self, cx: &mut Context<'_>) {
        self.party.hang_up(cx);
    }

    /// The connection, if it is the one that speaks for the receiver.
    pub(crate) fn connection(&self) -> Option<shard::ConnectionId> {
        self.party.link.as_ref().map(|link| link.connection)
    }

    fn fetch(&mut self, cx: &mut Context<'_>, source: Source) {
        let credit = &mut self.credit[source as usize];
        if *credit > 2 || (!cx.calm && cx.random.u8(..8) > 0) {
            return;
        }
        let messages = cx.random.u32(1..40);
        *credit += i64::from(messages);
        let fetch = Fetch {
            source,
            messages,
            bytes: 100_000,
        };
        self.party.send(cx, |out, signer| fetch.encode(out, signer));
    }

    fn take(&mut self, cx: &mut Context<'_>, messages: &[Delivered]) {
        let source = messages[0].source;
        self.credit[source as usize] -= messages.len() as i64;
        assert!(
            self.credit[source as usize] >= 0,
            "{} got more than it asked for",
            RECEIVERS[self.number]
        );
        if source == Source::DeadLetters {
            let got = &mut cx.ledger.inboxes[self.number].got;
            for message in messages {
                got.insert(message.id, ());
            }
            let last = messages.last().expect("a DELIVER is not empty").number;
            return self.settle(cx, source, last, Outcome::AcceptUpTo);
        }
        self.give_up_gone(messages);
        let mood = if cx.calm { 9 } else { cx.random.u8(..10) };
        let last = messages.last().expect("a DELIVER is not empty");
        match mood {
            // It forgets all of them.
            0 => self.forget(cx, messages),
            // It takes some and forgets the rest.
            1 => {
                let (taken, lost) = messages.split_at(cx.random.usize(..=messages.len()));
                self.hold(cx, taken);
                self.forget(cx, lost);
                for message in taken {
                    self.settle(cx, source, message.number, Outcome::AcceptOne);
                }
            }
            2 => {
                self.forget(cx, messages);
                let at = cx.random.usize(..messages.len());
                self.settle(cx, source, messages[at].number, Outcome::ReleaseOne);
            }
            3 if self.number == 2 => {
                self.hold(cx, &messages[..messages.len() - 1]);
                self.forget(cx, &messages[messages.len() - 1..]);
                self.settle(cx, source, last.number, Outcome::DeadLetterOne);
            }
            // It holds them and settles later.
            4 => self.hold(cx, messages),
            5 => {
                self.hold(cx, messages);
                for message in messages.iter().rev() {
                    self.settle(cx, source, message.number, Outcome::AcceptOne);
                }
            }
            _ => {
                self.hold(cx, messages);
                self.accept_all(cx);
            }
        }
    }

    /// Delivery begins with the first unsettled message and leaves none out: what was forgotten and does not come in
    /// its place is gone (its hub acknowledges locally and lost it, say), and waiting for it would never end.
    fn give_up_gone(&mut self, messages: &[Delivered]) {
        let mut below = match std::mem::take(&mut self.fresh) {
            true => 0,
            false => self.last + 1,
        };
        for message in messages {
            if below < message.number {
                let gone = self.forgotten.range(below..message.number);
                for number in gone.copied().collect::<Vec<_>>() {
                    self.forgotten.remove(&number);
                }
            }
            below = message.number + 1;
        }
        self.last = below - 1;
    }

    /// Lose sight of messages, unless they were held once: what it did with them is done.
    fn forget(&mut self, cx: &mut Context<'_>, messages: &[Delivered]) {
        let got = &cx.ledger.inboxes[self.number].got;
        for message in messages {
            self.seen.insert(message.number);
            if !got.contains(message.id) {
                self.forgotten.insert(message.number);
            }
        }
    }

    fn hold(&mut self, cx: &mut Context<'_>, messages: &[Delivered]) {
        for message in messages {
            self.seen.insert(message.number);
            self.forgotten.remove(&message.number);
            self.held.insert(message.number);
            let id: MessageId = message.id;
            cx.ledger.inboxes[self.number].got.insert(id, ());
        }
    }

    /// Accept, at once, as much as is held without a gap.
    fn accept_all(&mut self, cx: &mut Context<'_>) {
        if self.number >= 2 {
            // What was forgotten may never come again (buried, withdrawn, dropped): never wait for it.
            for number in std::mem::take(&mut self.held) {
                self.settle(cx, Source::Queue, number, Outcome::AcceptOne);
            }
            return;
        }
        let limit = self.forgotten.first().copied().unwrap_or(u64::MAX);
        let last = self.held.range(..limit).next_back().copied();
        if let Some(last) = last {
            self.settle(cx, Source::Queue, last, Outcome::AcceptUpTo);
        }
    }

    fn settle(&mut self, cx: &mut Context<'_>, source: Source, number: u64, outcome: Outcome) {
        cx.tell(|| format!("{} settles {number}: {outcome:?}", RECEIVERS[self.number]));
        let settle = Settle {
            source,
            number: Sequence(number),
            outcome,
        };
        let position = self
            .party
            .send(cx, |out, signer| settle.encode(out, signer));
        if source == Source::DeadLetters || position == 0 {
            return;
        }
        let settled: Vec<u64> = match outcome {
            Outcome::AcceptUpTo => {
                let later = self.seen.split_off(&(number + 1));
                std::mem::replace(&mut self.seen, later)
                    .into_iter()
                    .collect()
            }
            Outcome::AcceptOne | Outcome::DeadLetterOne => vec![number],
            Outcome::ReleaseOne => return,
        };
        for number in &settled {
            self.held.remove(number);
        }
        let Some(link) = &self.party.link else { return };
        if let Some(connection) = cx.network.connections.get_mut(&link.connection) {
            connection.notes.push_back(Note {
                position,
                receiver: self.number,
                number,
                settled,
            });
        }
    }
}
