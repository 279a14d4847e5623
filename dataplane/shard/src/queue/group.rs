//! The queues of one group behind one face: what the stages fan-out and deliver work with.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use partition::{AppendError, CommitTicket, Partition, Sealed, Segment, StorageError};
use wire::ids::{EndpointId, Offset, PartitionId, UnixNanos};

use crate::places::Round;
use crate::planted::{Bug, active};

use super::backlog::{Backlog, Piece};
use super::counters::QueueCounters;
use super::journal::Journal;
use super::limits::QueueLimits;
use super::op::{Op, Source};
use super::queues::Queues;
use super::snapshot::SnapshotState;
use super::weight::Weights;

/// What waits in one list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Unsettled messages in runs.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Runs that hold them.
    pub runs: usize,
    /// First unsettled number.
    pub head: u64,
    /// Number that the next message gets.
    pub next: u64,
    /// Partitions that the queue has yet to read on in.
    pub parked: usize,
}

/// The queues of the endpoints whose id falls on one group, and their journal.
///
/// Every change is applied at once and waits for the journal until [`QueueGroup::flush`]; nothing is
/// delivered before the journal is as safe as `QueueLimits::ack` asks.
pub struct QueueGroup<S: Segment> {
    pub(super) number: u16,
    pub(super) limits: QueueLimits,
    pub(super) journal: Journal<S>,
    pub(super) queues: Queues,
    pub(super) routes: Routes,
    pub(super) snapshot: SnapshotState,
    pub(super) counters: QueueCounters,
    /// Endpoints for which something became deliverable, each once.
    ready: Vec<EndpointId>,
    /// When to look at which list for a lock that expired: never later than it does. A lock that was renewed or
    /// ended meanwhile is found out then.
    pub(super) locked: BinaryHeap<Reverse<(Duration, u32, Source)>>,
    /// Queues that may read on in the log.
    pub(super) behind: VecDeque<u32>,
    /// Epoch of the table under which parked queues were last listed.
    pub(super) caught_up_to: Option<u64>,
    /// The look at every parked queue that is under way.
    pub(super) looks: Round,
    /// Where the next expiry sweep begins.
    pub(super) sweep: usize,
    /// What the queues take of memory.
    pub(super) weights: Weights,
}

/// Endpoint indexes of the present table -> slots, so that fan-out looks nothing up by id. Remembered
/// answers are checked against the endpoint's id, so another table makes them wrong, never harmful.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// In runs: few of a large table's endpoints may have their queues here.
    runs: Vec<Option<Box<[u32; ROUTES_OF_RUN]>>>,
}

const ROUTES_OF_RUN: usize = 1_024;
/// No slot is remembered.
const NO_SLOT: u32 = u32::MAX;

impl Routes {
    /// The slot of the endpoint with this id, at this index of the present table.
    pub(super) fn slot(&mut self, index: u32, id: EndpointId, queues: &mut Queues) -> u32 {
        let (run, at) = (
            index as usize / ROUTES_OF_RUN,
            index as usize % ROUTES_OF_RUN,
        );
        if run >= self.runs.len() {
            self.runs.resize_with(run + 1, || None);
        }
        let run = self.runs[run].get_or_insert_with(|| Box::new([NO_SLOT; ROUTES_OF_RUN]));
        if run[at] == NO_SLOT || queues.at(run[at]).id != id {
            run[at] = queues.slot_or_new(id);
        }
        run[at]
    }
}

impl<S: Segment> QueueGroup<S> {
    pub(super) fn assemble(
        number: u16,
        limits: QueueLimits,
        journal: Journal<S>,
        queues: Queues,
        snapshot: SnapshotState,
    ) -> Self {
        let mut group = Self {
            number,
            limits,
            journal,
            queues,
            routes: Routes::default(),
            snapshot,
            counters: QueueCounters::default(),
            ready: Vec::new(),
            locked: BinaryHeap::new(),
            behind: VecDeque::new(),
            caught_up_to: None,
            looks: Round::default(),
            sweep: 0,
            weights: Weights::default(),
        };
        for slot in 0..group.queues.len() as u32 {
            group.note_room(slot);
        }
        group
    }

    /// Which group of the route table this is.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// What was counted since the start.
    pub fn counters(&self) -> QueueCounters {
        QueueCounters {
            journal_records: self.journal.records,
            ..self.counters
        }
    }

    /// Operations that wait for the journal: 0 after a flush that succeeded.
    pub fn waiting(&self) -> usize {
        self.journal.pending()
    }

    /// Memory is short, or is not any more: a queue then parks with few runs, and those that did look whether they may read on.
    pub fn tighten(&mut self, tight: bool) {
        if self.limits.tight && !tight {
            self.look_again();
        }
        self.limits.tight = tight;
    }

    /// The journal's log, to look at.
    pub fn log(&self) -> &Partition<S> {
        self.journal.log()
    }

    /// The first offset of `partition` that has not been fanned out to this group.
    pub fn watermark(&self, partition: PartitionId) -> Offset {
        self.queues.watermark(partition).unwrap_or_default()
    }

    /// What waits for `endpoint`; all zero when it never got a message.
    pub fn depth(&self, endpoint: EndpointId, source: Source) -> Depth {
        let queue = self.queues.get(endpoint);
        let Some((queue, list)) = queue.and_then(|queue| Some((queue, queue.list(source)?))) else {
            return Depth::default();
        };
        Depth {
            messages: list.messages(),
            bytes: list.bytes(),
            runs: list.runs().len(),
            head: list.head(),
            next: list.next(),
            parked: if source == Source::Queue {
                queue.parked().len()
            } else {
                0
            },
        }
    }

    /// The messages to deliver next, all from one run and with one attempt. The caller reads them,
    /// leaves out what the grants of today do not allow ([`QueueGroup::skip`]) and reports what it sent
    /// ([`QueueGroup::delivered`]).
    pub fn next_piece(&self, endpoint: EndpointId, source: Source) -> Option<Piece> {
        self.queues
            .get(endpoint)?
            .list(source)?
            .piece(self.limits.settled_max)
    }

    /// `count` messages from `number` on went out at `now`; unless they are settled within `lock`, they
    /// go out again.
    pub fn delivered(
        &mut self,
        endpoint: EndpointId,
        source: Source,
        number: u64,
        count: u32,
        now: Duration,
        lock: Duration,
    ) {
        let Some(slot) = self.queues.slot(endpoint) else {
            return;
        };
        let Some(list) = self.queues.at_mut(slot).list_mut(source) else {
            return;
        };
        list.mark_delivered(number + u64::from(count), now + lock);
        self.note_lock(slot, source);
    }

    /// See to it that a list is looked at when its lock expires.
    pub(super) fn note_lock(&mut self, slot: u32, source: Source) {
        let queue = self.queues.at_mut(slot);
        let Some(lock) = queue.list(source).and_then(Backlog::lock) else {
            return;
        };
        let listed = &mut queue.lock_listed[source as usize];
        if listed.is_none_or(|at| lock < at) {
            *listed = Some(lock);
            self.locked.push(Reverse((lock, slot, source)));
        }
    }

    /// Endpoints for which something became deliverable since the last call, each once, appended to
    /// `out`.
    pub fn take_ready(&mut self, out: &mut Vec<EndpointId>) {
        for &endpoint in &self.ready {
            if let Some(slot) = self.queues.slot(endpoint) {
                self.queues.at_mut(slot).ready = false;
            }
        }
        out.append(&mut self.ready);
    }

    /// Let watermarks be written with the next flush although nothing else changed. To be called before retention takes
    /// what lies below them, and now and then, so that recovery has little to read once more.
    pub fn write_watermarks(&mut self) {
        self.journal.push_watermarks();
    }

    /// Write what waits for the journal, and a piece of a snapshot if one is due. Call once a turn. A watermark that
    /// moved alone does not wait for the journal: see [`QueueGroup::write_watermarks`].
    ///
    /// # Errors
    /// The journal has no room or is sealed; everything goes on waiting.
    pub fn flush(&mut self, now: UnixNanos) -> Result<(), AppendError> {
        if active(Bug::ForgetWatermark) {
            self.journal.drop_watermarks();
        }
        self.journal.flush(self.limits.record_ops_max, now)?;
        self.reveal();
        self.snapshot_step(now)
    }

    /// Whether something waits in the journal that a sync should make durable soon. Watermarks alone do not: after a
    /// crash what nobody heard is read once more.
    pub fn wants_sync(&self) -> bool {
        self.journal.wants_sync()
    }

    /// Begin to make the journal durable; `None` when there is nothing new or a sync is under way.
    pub fn begin_commit(&mut self) -> Option<CommitTicket> {
        self.journal.begin_commit()
    }

    /// The sync ended. What it made safe becomes deliverable; segments that only older snapshots need
    /// may expire.
    ///
    /// # Errors
    /// `Sealed`: the journal's disk failed. Fan-out stops; delivery and settlement go on, unjournaled.
    pub fn finish_commit(
        &mut self,
        ticket: CommitTicket,
        result: Result<(), StorageError>,
    ) -> Result<Offset, Sealed> {
        let committed = self.journal.finish_commit(ticket, result)?;
        self.reveal();
        self.release_old_snapshots();
        Ok(committed)
    }

    /// Whether the journal wants a spare segment, and of how many bytes.
    pub fn wants_spare(&self) -> Option<u32> {
        self.journal.log().wants_spare()
    }

    /// Hand the journal a prepared spare.
    pub fn offer(&mut self, segment: S) {
        self.journal.log_mut().offer(segment);
    }

    /// One journal segment that no recovery needs any more, to be retired by the caller.
    pub fn expire_segment(&mut self, now: UnixNanos) -> Option<S> {
        self.journal.log_mut().expire(now)
    }

    /// The journal's log, to pass on what its owner must hear (a spare that could not be prepared).
    pub fn log_mut(&mut self) -> &mut Partition<S> {
        self.journal.log_mut()
    }

    /// Let out what the journal has made safe.
    fn reveal(&mut self) {
        while let Some(mark) = self.journal.pop_safe() {
            let Some(slot) = self.queues.slot(mark.endpoint) else {
                continue;
            };
            let queue = self.queues.at_mut(slot);
            let grown = queue
                .list_mut(mark.source)
                .is_some_and(|list| list.set_visible(mark.below));
            if grown && !queue.ready {
                queue.ready = true;
                self.ready.push(mark.endpoint);
            }
        }
    }

    /// Apply an operation on a queue and let it wait for the journal. When too many wait already it
    /// holds in memory only: fine for settlements, which at worst repeat after a crash.
    pub(super) fn change(&mut self, op: Op) {
        self.queues.apply(&op);
        if self.journal.pending() < self.limits.pending_max {
            self.journal.push(op);
        } else {
            self.counters.unjournaled += 1;
            self.snapshot.due = true;
        }
    }

    /// Whether another operation may wait for the journal.
    pub(super) fn journal_has_room(&self) -> bool {
        self.journal.pending() < self.limits.pending_max
    }

    /// A queue got room: if it is parked, let it read on.
    pub(super) fn note_room(&mut self, slot: u32) {
        let queue = self.queues.at_mut(slot);
        if !queue.parked().is_empty() && !queue.behind {
            queue.behind = true;
            self.behind.push_back(slot);
        }
    }

    /// The invariants that hold between two calls; costs a walk over all queues.
    pub fn check(&self) {
        for slot in 0..self.queues.len() as u32 {
            let queue = self.queues.at(slot);
            queue.live.check();
            debug_assert!(queue.live.settled().len() <= self.limits.settled_max + 1);
            for source in [Source::Queue, Source::DeadLetters] {
                let listed = queue.lock_listed[source as usize];
                let lock = queue.list(source).and_then(Backlog::lock);
                debug_assert!(
                    lock.is_none_or(|lock| listed.is_some_and(|at| at <= lock)),
                    "slot {slot}: {lock:?} is looked at {listed:?}"
                );
            }
            debug_assert_eq!(queue.behind, self.behind.contains(&slot), "slot {slot}");
        }
    }
}
