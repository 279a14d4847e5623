//! A partition as its shard holds it: the log, the frames that wait for their commit, and what is known
//! of each sender beyond what the log itself keeps.

use std::collections::VecDeque;
use std::time::Duration;

use partition::{LogId, LogState, Partition, Segment};
use wire::ids::{AckMode, EndpointId, Offset, PartitionId, Sequence};
use wire::route::{Hub, RouteTable};

use crate::guest::Guest;
use crate::hashed::{HashSeed, IdMap};
use crate::planted::{Bug, active};
use crate::queue::QueueGroup;
use crate::session::SessionRef;
use crate::waiting::Waiting;

/// A sender to one partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    /// The highest sequence that was appended.
    pub(crate) last: Sequence,
    /// The highest sequence that is committed.
    pub(crate) committed: Sequence,
    /// The session of this shard that appends direct frames of this sender: the one that was welcomed last.
    pub(crate) owner: Option<SessionRef>,
}

/// A sender, its place in the table of places, and what that table keeps free.
const SENDER_BYTES: usize = size_of::<Sender>() + 2 * size_of::<(EndpointId, u32)>();

/// One partition of the shard.
pub(crate) struct Log<S: Segment> {
    pub(crate) id: PartitionId,
    pub(crate) partition: Partition<S>,
    pub(crate) ack: AckMode,
    /// Frames appended, or sent again, whose commit is awaited; in order of their ends.
    waiting: VecDeque<Waiting>,
    /// Bytes of the frames that wait.
    waiting_bytes: u64,
    /// How many of them a sync may have begun to cover: what is appended later waits for another one.
    closed: usize,
    /// What was appended before the hub's acks became durable ones may still have to be synced, up to here.
    durable_from: Offset,
    pub(crate) senders: Vec<Sender>,
    slots: IdMap<EndpointId, u32>,
    /// Sessions of other shards that append direct frames, by their sender's place. `Sender::owner` is `None` then.
    pub(crate) guests: IdMap<u32, Guest>,
    /// What was recovered was made durable then.
    durable_from_start: bool,
    /// When a spare may be asked for again, after one could not be made.
    pub(crate) prepare_at: Duration,
    /// A segment was filled since retention was last looked at.
    pub(crate) rolled: bool,
}

impl<S: Segment> Log<S> {
    pub(crate) fn new(partition: Partition<S>, hubs: &HubModes<'_>, seed: HashSeed) -> Self {
        let LogId::Partition(id) = partition.log() else {
            panic!("{} is no partition's log", partition.log());
        };
        let ack = hubs.of_partition(id).unwrap_or(AckMode::Durable);
        let durable_from_start = partition.state() != LogState::Sealed;
        Self {
            durable_from_start,
            id,
            partition,
            ack,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            closed: 0,
            durable_from: Offset(0),
            senders: Vec::new(),
            slots: IdMap::with_hasher(seed),
            guests: IdMap::with_hasher(seed),
            prepare_at: Duration::ZERO,
            rolled: false,
        }
    }

    /// Take over the ack mode of a new table; a partition that it does not name keeps its own.
    pub(crate) fn take_mode(&mut self, hubs: &HubModes<'_>) {
        let ack = hubs.of_partition(self.id).unwrap_or(self.ack);
        let before = std::mem::replace(&mut self.ack, ack);
        if (before, ack) == (AckMode::Local, AckMode::Durable) {
            self.durable_from = self.partition.appended();
        }
    }

    /// Everything below is as safe as an ack says: with `durable` that is what is known to be on disk, whatever was
    /// committed under another mode before.
    pub(crate) fn ackable(&self) -> Offset {
        match self.ack {
            AckMode::Durable if !active(Bug::AckBeforeSync) => self.partition.synced(),
            _ => self.partition.committed(),
        }
    }

    /// Whether something that was committed when acks were `local` is not on disk yet, but acks are `durable` now.
    pub(crate) fn owes_sync(&self) -> bool {
        self.ack == AckMode::Durable && self.partition.synced() < self.durable_from
    }

    /// Let a frame wait for its commit, together with the one before it if they can.
    #[inline]
    pub(crate) fn wait(&mut self, frame: Waiting) {
        self.waiting_bytes += frame.answer.bytes;
        let open = self.waiting.len() > self.closed;
        let last = self.waiting.back_mut().filter(|_| open);
        if !last.is_some_and(|last| last.absorb(&frame)) {
            self.waiting.push_back(frame);
        }
    }

    /// The next frame whose commit is done.
    pub(crate) fn settle_next(&mut self) -> Option<Waiting> {
        let upto = self.ackable();
        let next = self.waiting.pop_front_if(|frame| frame.end <= upto)?;
        self.waiting_bytes -= next.answer.bytes;
        Some(next)
    }

    /// Bytes that take memory until their commit: the frames that wait, and who is told of them.
    pub(crate) fn unacked_bytes(&self) -> u64 {
        self.waiting_bytes + (self.waiting.len() * size_of::<Waiting>()) as u64
    }

    /// Bytes of what is remembered of senders.
    pub(crate) fn senders_bytes(&self) -> u64 {
        (self.senders.len() * SENDER_BYTES) as u64
    }

    /// A sync may begin: it does not cover what comes now.
    pub(crate) fn close_waiting(&mut self) {
        self.closed = self.waiting.len();
    }

    /// Frames that will never be committed, because the log is sealed.
    pub(crate) fn give_up_waiting(&mut self) -> VecDeque<Waiting> {
        let upto = self.ackable();
        let keep = self.waiting.partition_point(|frame| frame.end <= upto);
        let lost = self.waiting.split_off(keep);
        self.waiting_bytes -= lost.iter().map(|frame| frame.answer.bytes).sum::<u64>();
        self.close_waiting();
        lost
    }

    /// The place of a sender. Allocates only when the sender is new to this process.
    pub(crate) fn sender(&mut self, endpoint: EndpointId) -> u32 {
        let (senders, partition) = (&mut self.senders, &self.partition);
        let durable = self.durable_from_start;
        *self.slots.entry(endpoint).or_insert_with(|| {
            // A sender without a place appended nothing since the start, so all it has was recovered, and is durable
            // unless that failed; a log that was sealed later changes nothing about it.
            let committed = if durable {
                partition.sender(endpoint).last
            } else {
                Sequence(0)
            };
            senders.push(Sender {
                last: partition.sender(endpoint).last,
                committed,
                owner: None,
            });
            (senders.len() - 1) as u32
        })
    }

    pub(crate) fn sealed(&self) -> bool {
        self.partition.state() == LogState::Sealed
    }

    /// Whether everything appended is durable, or never will be.
    pub(crate) fn settled(&self) -> bool {
        self.sealed()
            || (self.waiting.is_empty() && self.partition.synced() == self.partition.appended())
    }

    /// The rules that hold between two turns.
    pub(crate) fn check(&self) {
        let upto = self.ackable();
        debug_assert!(
            self.waiting
                .front()
                .is_none_or(|waiting| waiting.end > upto || self.sealed()),
            "a committed frame waits in {:?}",
            self.id
        );
        debug_assert!(
            self.slots.len() == self.senders.len(),
            "{} senders",
            self.senders.len()
        );
    }
}

/// One group of queues, with its journal.
pub(crate) struct Group<S: Segment> {
    pub(crate) queues: QueueGroup<S>,
    /// When a spare may be asked for again, after one could not be made.
    pub(crate) prepare_at: Duration,
    /// When watermarks are synced although nothing else is.
    pub(crate) sync_at: Duration,
    /// The journal could not take what waits for it.
    pub(crate) stuck: bool,
}

impl<S: Segment> Group<S> {
    pub(crate) fn new(queues: QueueGroup<S>) -> Self {
        Self {
            queues,
            prepare_at: Duration::ZERO,
            sync_at: Duration::ZERO,
            stuck: false,
        }
    }

    /// Whether everything that can be durable is.
    pub(crate) fn settled(&self) -> bool {
        let log = self.queues.log();
        self.stuck || log.state() == LogState::Sealed || log.synced() == log.appended()
    }
}

/// The ack modes of a table's hubs, to be asked for every log.
pub(crate) struct HubModes<'t>(Vec<&'t Hub>);

impl<'t> HubModes<'t> {
    pub(crate) fn of(table: &'t RouteTable) -> Self {
        let mut hubs: Vec<&Hub> = table.hubs().iter().collect();
        hubs.sort_unstable_by_key(|hub| hub.id);
        Self(hubs)
    }

    fn of_partition(&self, id: PartitionId) -> Option<AckMode> {
        let at = self.0.binary_search_by_key(&id.hub(), |hub| hub.id).ok()?;
        let hub = self.0[at];
        (id.number() < hub.partitions).then_some(hub.ack)
    }
}
