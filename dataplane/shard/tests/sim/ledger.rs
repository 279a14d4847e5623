//! The truth: what was sent, acknowledged, refused, delivered and settled, and the properties that must hold.

use std::collections::BTreeMap;

use partition::memory::{Crash, Disk, MemoryStorage};
use partition::{LogId, Partition, RecordKind};
use wire::frame::split;
use wire::ids::{ChannelId, EndpointId, PartitionId, UnixNanos};
use wire::send::Send;

use crate::ids::{MessageId, Messages};
use crate::link::{Delivered, hash};
use crate::plan::{self, LOCAL, PARTITIONS, RECEIVERS};
use wire::delivery::Source;

/// A message that an honest sender made.
#[derive(Debug, Clone, Copy)]
struct Made {
    sender: EndpointId,
    channel: ChannelId,
    body: u64,
    /// Sent over the sender's own session, so its order in the log is fixed.
    direct: bool,
}

/// What one receiver has seen.
#[derive(Default)]
pub(crate) struct Inbox {
    numbers: BTreeMap<(Source, u64), Delivered>,
    by_id: Messages<u64>,
    /// Messages that the receiver has taken care of.
    pub(crate) got: Messages<()>,
    /// Numbers whose settlement the server has: the turn in which it came, and the number it named.
    settled: BTreeMap<u64, (u64, u64)>,
}

/// Everything known.
#[derive(Default)]
pub(crate) struct Ledger {
    made: Messages<Made>,
    acked: Messages<()>,
    refused: Messages<()>,
    pub(crate) inboxes: Vec<Inbox>,
    pub(crate) turn: u64,
    /// Settlements of turns up to this one survive any crash.
    pub(crate) settled_safe: u64,
    /// A power cut has happened: the local hub may have lost its tail.
    pub(crate) local_lost: bool,
    pub(crate) deliveries: u64,
    /// Retention takes what is old.
    pub(crate) expiring: bool,
}

/// What retention left of the logs.
#[derive(Default)]
struct Kept {
    firsts: BTreeMap<PartitionId, u64>,
    /// The first message of each sender, in the order in which it sent them.
    lowest: BTreeMap<(PartitionId, EndpointId), MessageId>,
}

impl Kept {
    /// Whether a message that is not in its log may have been there once: everything behind it may be there still.
    fn may_have_taken(&self, id: MessageId, made: &Made) -> bool {
        let partition = plan::partition_of(made.sender, made.channel);
        let began = self.firsts.get(&partition).is_some_and(|first| *first > 0);
        let lowest = self.lowest.get(&(partition, made.sender));
        began && lowest.is_none_or(|lowest| id < *lowest)
    }
}

impl Ledger {
    pub(crate) fn new(expiring: bool) -> Self {
        Self {
            expiring,
            inboxes: RECEIVERS.iter().map(|_| Inbox::default()).collect(),
            ..Self::default()
        }
    }

    pub(crate) fn make(
        &mut self,
        id: MessageId,
        sender: EndpointId,
        channel: ChannelId,
        body: &[u8],
        direct: bool,
    ) {
        self.made.insert(
            id,
            Made {
                sender,
                channel,
                body: hash(body),
                direct,
            },
        );
    }

    pub(crate) fn acked(&mut self, ids: &[MessageId]) {
        for &id in ids {
            self.acked.insert(id, ());
        }
    }

    pub(crate) fn acked_count(&self) -> usize {
        self.acked.iter().count()
    }

    pub(crate) fn refused(&mut self, ids: &[MessageId]) {
        for &id in ids {
            self.refused.insert(id, ());
        }
    }

    /// A receiver's settlement reached the server.
    pub(crate) fn settled(&mut self, receiver: usize, named: u64, numbers: &[u64]) {
        let turn = self.turn;
        let settled = &mut self.inboxes[receiver].settled;
        for &number in numbers {
            settled.entry(number).or_insert((turn, named));
        }
    }

    /// The server refused the settlement that named this number.
    pub(crate) fn unsettled(&mut self, receiver: usize, named: u64) {
        self.inboxes[receiver]
            .settled
            .retain(|_, &mut (_, number)| number != named);
    }

    /// The node died: settlements that were not synced may be forgotten.
    pub(crate) fn died(&mut self, power: bool) {
        let safe = self.settled_safe;
        for inbox in &mut self.inboxes {
            inbox.settled.retain(|_, &mut (turn, _)| turn <= safe);
        }
        if power {
            self.local_lost = true;
            let made = &self.made;
            self.acked
                .retain(|id| made.get(id).is_some_and(|made| made.channel != LOCAL));
        }
    }

    /// A message left the server: for whom may it be, and was it settled?
    pub(crate) fn delivered(&mut self, receiver: usize, message: &Delivered, hears: bool) {
        let name = RECEIVERS[receiver];
        assert!(
            hears,
            "cross-delivery: {name} does not hear {:?}",
            message.channel
        );
        let made = self.made.get(message.id);
        let made = made.unwrap_or_else(|| panic!("{name} got {message:?}, which nobody sent"));
        assert_eq!(
            (made.sender, made.channel),
            (message.sender, message.channel),
            "{message:?}"
        );
        assert_eq!(
            made.body, message.body,
            "{name} got an altered body: {message:?}"
        );
        let inbox = &mut self.inboxes[receiver];
        let key = (message.source, message.number);
        let first = *inbox.numbers.entry(key).or_insert(*message);
        assert_eq!(
            first.id, message.id,
            "{name}: number {key:?} was given twice"
        );
        if message.source == Source::Queue {
            let turn = self.turn;
            let settled = inbox.settled.get(&message.number);
            let settled = settled.filter(|&&(at, _)| at < turn);
            assert!(
                settled.is_none(),
                "{name}: {message:?} was settled in turn {settled:?} of {turn}"
            );
            if message.channel != LOCAL {
                check_place(inbox, message, name);
            }
        }
        self.deliveries += 1;
    }

    /// Read every log on a copy of the disk and check it against what was sent.
    pub(crate) fn audit(&self, disk: &Disk, crash: Crash, why: &str) -> Messages<()> {
        let copy = disk.crash(crash);
        let (mut logged, mut kept) = (Messages::default(), Kept::default());
        for partition in PARTITIONS {
            let mut storage = MemoryStorage::new(&copy);
            let limits = crate::node::log_limits(self.expiring);
            let id = LogId::partition(partition);
            let (log, report) = Partition::recover(&mut storage, id, limits, UnixNanos(0))
                .expect("a copy has no faults");
            assert!(
                report.damage.is_empty(),
                "{why}: damage in {id}: {:?}",
                report.damage
            );
            self.audit_log(&log, partition, &mut logged, &mut kept, why);
        }
        for (id, ()) in self.acked.iter() {
            let local =
                self.channel(id) == Some(LOCAL) && (self.local_lost || crash == Crash::Lost);
            let made = self.made.get(id);
            let expired = made.is_some_and(|made| kept.may_have_taken(id, made));
            assert!(
                local || expired || logged.contains(id),
                "{why}: {id:?} was acked and is not in the log"
            );
        }
        logged
    }

    fn audit_log<S: partition::Segment>(
        &self,
        log: &Partition<S>,
        partition: PartitionId,
        logged: &mut Messages<()>,
        kept: &mut Kept,
        why: &str,
    ) {
        let mut last: BTreeMap<EndpointId, MessageId> = BTreeMap::new();
        kept.firsts.insert(partition, log.first().0);
        for record in log.records_from(log.first()) {
            let record = record.expect("no damage was reported");
            if record.kind() != RecordKind::Frame {
                continue;
            }
            let (frame, _) = split(record.payload())
                .ok()
                .flatten()
                .expect("a record is one frame");
            let send = Send::parse(frame).expect("a record is one SEND");
            for message in send.messages() {
                let id = MessageId::of(message.body);
                let made = self.made.get(id);
                let made = made.unwrap_or_else(|| panic!("{why}: {id:?} in {partition} is forged"));
                let same = made.body == hash(message.body)
                    && made.channel == send.channel()
                    && made.sender == send.endpoint();
                assert!(same, "{why}: {id:?} in {partition} was altered");
                let twice = logged.insert(id, ()).is_some();
                assert!(!twice, "{why}: {id:?} was appended twice");
                assert!(
                    !self.refused.contains(id),
                    "{why}: {id:?} was refused and appended"
                );
                if made.direct {
                    kept.lowest.entry((partition, made.sender)).or_insert(id);
                    let before = last.insert(made.sender, id);
                    assert!(
                        before < Some(id),
                        "{why}: {before:?} stands before {id:?} in {partition}"
                    );
                }
            }
        }
    }

    fn channel(&self, id: MessageId) -> Option<ChannelId> {
        self.made.get(id).map(|made| made.channel)
    }

    fn hears(&self, receiver: usize, id: MessageId) -> bool {
        let channel = self.channel(id);
        channel.is_some_and(|channel| plan::hears(receiver).contains(&channel))
    }

    /// At rest, everything in the logs has arrived at everyone who heard its channel all the time.
    pub(crate) fn check_arrived(&self, logged: &Messages<()>) {
        for (at, inbox) in self.inboxes.iter().enumerate() {
            if at == plan::GUEST || at == plan::NEWEST {
                continue;
            }
            for (id, ()) in logged.iter() {
                let heard = self.hears(at, id);
                assert!(
                    !heard || inbox.got.contains(id),
                    "{} never got {id:?}",
                    RECEIVERS[at]
                );
            }
        }
    }

    /// What is missing still, for the loop that waits for rest.
    pub(crate) fn missing(&self, logged: &Messages<()>) -> usize {
        let of = |at: usize, inbox: &Inbox| {
            let ids = logged.iter().map(|(id, ())| id);
            ids.filter(|&id| self.hears(at, id) && !inbox.got.contains(id))
                .count()
        };
        let inboxes = self.inboxes.iter().enumerate();
        inboxes
            .filter(|&(at, _)| at != plan::GUEST && at != plan::NEWEST)
            .map(|(at, i)| of(at, i))
            .sum()
    }
}

/// One number a message, and numbers in the order of offsets: so nothing comes twice or out of order.
fn check_place(inbox: &mut Inbox, message: &Delivered, name: &str) {
    let before = inbox.by_id.insert(message.id, message.number);
    let same = before.is_none_or(|before| before == message.number);
    assert!(same, "{name}: {message:?} had number {before:?} before");
    let (below, above) = (
        (Source::Queue, message.number),
        (Source::Queue, message.number + 1),
    );
    let neighbour =
        |other: &&Delivered| other.partition == message.partition && other.channel != LOCAL;
    let lower = inbox
        .numbers
        .range((Source::Queue, 0)..below)
        .rev()
        .take(64)
        .map(|(_, d)| d)
        .find(neighbour);
    let upper = inbox
        .numbers
        .range(above..(Source::DeadLetters, 0))
        .take(64)
        .map(|(_, d)| d)
        .find(neighbour);
    assert!(
        lower.is_none_or(|other| other.offset < message.offset),
        "{name}: {lower:?} then {message:?}"
    );
    assert!(
        upper.is_none_or(|other| other.offset > message.offset),
        "{name}: {message:?} then {upper:?}"
    );
}
