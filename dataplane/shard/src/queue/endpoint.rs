//! The queue of one endpoint: live messages, dead letters, and where it reads the log itself.

use std::time::Duration;

use wire::ids::{EndpointId, Offset, PartitionId, UnixNanos};

use super::backlog::Backlog;
use super::op::{Op, OpKind, Source};
use super::run::{NUMBER_MAX, Run, share};

/// A deep queue's place in a log: everything from `from` on is not in runs yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) partition: PartitionId,
    pub(crate) from: Offset,
}

/// One endpoint's deliveries. Made when its first message comes.
#[derive(Debug, Clone)]
pub(crate) struct EndpointQueue {
    pub(crate) id: EndpointId,
    pub(crate) live: Backlog,
    dead: Option<Box<Backlog>>,
    parked: Vec<Parked>,
    /// The operation of the open fan-out batch that ends this queue, to be extended.
    pub(crate) batch: Option<BatchTail>,
    /// When each list will be looked at for a lock that expired.
    pub(crate) lock_listed: [Option<Duration>; 2],
    /// Listed for catching up with the log.
    pub(crate) behind: bool,
    /// Listed as having something new to deliver.
    pub(crate) ready: bool,
}

/// The last `Add` of an open batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchTail {
    pub(crate) batch: u64,
    pub(crate) at: usize,
}

impl EndpointQueue {
    /// An empty queue whose lists begin with number `first`.
    pub(crate) fn starting(id: EndpointId, first: u64) -> Self {
        Self {
            id,
            live: Backlog::starting(first),
            dead: (first > 0).then(|| Box::new(Backlog::starting(first))),
            parked: Vec::new(),
            batch: None,
            lock_listed: [None; 2],
            behind: false,
            ready: false,
        }
    }

    /// The list of `source`; dead letters that never were have none.
    pub(crate) fn list(&self, source: Source) -> Option<&Backlog> {
        match source {
            Source::Queue => Some(&self.live),
            Source::DeadLetters => self.dead.as_deref(),
        }
    }

    pub(crate) fn list_mut(&mut self, source: Source) -> Option<&mut Backlog> {
        match source {
            Source::Queue => Some(&mut self.live),
            Source::DeadLetters => self.dead.as_deref_mut(),
        }
    }

    fn list_or_new(&mut self, source: Source) -> &mut Backlog {
        match source {
            Source::Queue => &mut self.live,
            Source::DeadLetters => self.dead.get_or_insert_default(),
        }
    }

    pub(crate) fn parked(&self) -> &[Parked] {
        &self.parked
    }

    /// Put the first place last.
    pub(crate) fn rotate_parked(&mut self) {
        if self.parked.len() > 1 {
            self.parked.rotate_left(1);
        }
    }

    /// Where the queue reads `partition` itself.
    pub(crate) fn parked_at(&self, partition: PartitionId) -> Option<Offset> {
        self.parked
            .iter()
            .find(|parked| parked.partition == partition)
            .map(|parked| parked.from)
    }

    /// The number that the next dead letter gets.
    pub(crate) fn dead_next(&self) -> u64 {
        self.dead.as_ref().map_or(0, |dead| dead.next())
    }

    /// Apply one operation on this endpoint. Replay feeds it what a disk held, so whatever does not fit is
    /// left out: `false`, and nothing has changed.
    pub(crate) fn apply(&mut self, op: &Op) -> bool {
        let (Some(kind), Some(source)) = (op.kind(), op.source()) else {
            return false;
        };
        match kind {
            OpKind::Add => {
                let run = op.run();
                let fits = run.fits() && run.number >= self.list_or_new(source).next();
                if fits {
                    self.list_or_new(source).push(run);
                }
                fits
            }
            OpKind::Settle => {
                let (from, count) = (op.number(), op.offset().0);
                let to = from.saturating_add(count);
                self.list_mut(source)
                    .is_some_and(|list| list.settle(from, to, None) > 0)
            }
            OpKind::Bury => self.bury(op.number(), op.offset().0, op.time()),
            OpKind::Park => {
                self.park(op.partition(), op.offset());
                true
            }
            OpKind::Unpark => {
                self.parked
                    .retain(|parked| parked.partition != op.partition());
                true
            }
            OpKind::List | OpKind::Next if op.number() > NUMBER_MAX => false,
            OpKind::List => {
                *self.list_or_new(source) = Backlog::starting(op.number());
                true
            }
            OpKind::Next => {
                self.list_or_new(source).skip_to(op.number());
                true
            }
            OpKind::Watermark
            | OpKind::Clamp
            | OpKind::Floor
            | OpKind::SnapshotBegin
            | OpKind::SnapshotEnd => false,
        }
    }

    fn park(&mut self, partition: PartitionId, from: Offset) {
        match self
            .parked
            .iter_mut()
            .find(|parked| parked.partition == partition)
        {
            Some(parked) => parked.from = from,
            None => self.parked.push(Parked { partition, from }),
        }
    }

    fn bury(&mut self, number: u64, dead_number: u64, time: UnixNanos) -> bool {
        let Some(run) = self.live.find(number).copied() else {
            return false;
        };
        let dead = self.dead.get_or_insert_default();
        if dead_number < dead.next() || dead_number > NUMBER_MAX {
            return false;
        }
        dead.push(Run {
            partition: run.partition,
            count: 1,
            first: run.offset_of(number),
            number: dead_number,
            bytes: share(run.bytes, 1, run.count),
            time,
        });
        self.live.settle(number, number + 1, None);
        true
    }

    /// Whether a run or a place in the log lies beyond the `end` of `partition`.
    pub(crate) fn reaches_beyond(&self, partition: PartitionId, end: Offset) -> bool {
        let beyond = |run: &Run| run.partition == partition && run.end_offset() > end;
        self.live.runs().iter().any(beyond)
            || self.dead.iter().any(|dead| dead.runs().iter().any(beyond))
            || self.parked_at(partition).is_some_and(|from| from > end)
    }

    /// `partition` ends at `end`; returns how many messages were beyond.
    pub(crate) fn clamp(&mut self, partition: PartitionId, end: Offset) -> u64 {
        for parked in self
            .parked
            .iter_mut()
            .filter(|parked| parked.partition == partition)
        {
            parked.from = parked.from.min(end);
        }
        let dead = self
            .dead
            .as_mut()
            .map_or(0, |dead| dead.clamp(partition, end));
        dead + self.live.clamp(partition, end)
    }
}
