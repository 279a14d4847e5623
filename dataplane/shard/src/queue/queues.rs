//! All queues of a group and how far every partition has been fanned out: what a journal rebuilds.

use wire::ids::{EndpointId, Offset, PartitionId};

use crate::hashed::{HashSeed, IdMap};

use super::backlog::Backlog;
use super::endpoint::EndpointQueue;
use super::op::{Op, OpKind, Source};
use super::run::NUMBER_MAX;

/// The queues that got a message at least once, and the watermarks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queues {
    queues: Vec<EndpointQueue>,
    slots: IdMap<EndpointId, u32>,
    watermarks: Vec<(PartitionId, Offset)>,
    /// The first number of queues that are made from now on.
    first_number: u64,
}

/// More numbers than any damage can hide.
const LEAP: u64 = 1 << 40;

impl Queues {
    pub(crate) fn new(seed: HashSeed) -> Self {
        Self {
            slots: IdMap::with_hasher(seed),
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queues.len()
    }

    /// Slots count up from 0 in the order in which queues were made, and stay.
    pub(crate) fn slot(&self, endpoint: EndpointId) -> Option<u32> {
        self.slots.get(&endpoint).copied()
    }

    pub(crate) fn slot_or_new(&mut self, endpoint: EndpointId) -> u32 {
        let (queues, first) = (&mut self.queues, self.first_number);
        *self.slots.entry(endpoint).or_insert_with(|| {
            queues.push(EndpointQueue::starting(endpoint, first));
            (queues.len() - 1) as u32
        })
    }

    /// The first number of queues that are made from now on.
    pub(crate) fn first_number(&self) -> u64 {
        self.first_number
    }

    pub(crate) fn at(&self, slot: u32) -> &EndpointQueue {
        &self.queues[slot as usize]
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> &mut EndpointQueue {
        &mut self.queues[slot as usize]
    }

    pub(crate) fn get(&self, endpoint: EndpointId) -> Option<&EndpointQueue> {
        self.slot(endpoint).map(|slot| self.at(slot))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut EndpointQueue> {
        self.queues.iter_mut()
    }

    pub(crate) fn watermarks(&self) -> &[(PartitionId, Offset)] {
        &self.watermarks
    }

    /// The first offset of `partition` that has not been fanned out.
    pub(crate) fn watermark(&self, partition: PartitionId) -> Option<Offset> {
        let at = self
            .watermarks
            .binary_search_by_key(&partition, |&(id, _)| id);
        at.ok().map(|at| self.watermarks[at].1)
    }

    pub(crate) fn set_watermark(&mut self, partition: PartitionId, next: Offset) {
        match self
            .watermarks
            .binary_search_by_key(&partition, |&(id, _)| id)
        {
            Ok(at) => self.watermarks[at].1 = next,
            Err(at) => self.watermarks.insert(at, (partition, next)),
        }
    }

    /// `partition` ends at `end`: forget what points beyond. Returns how many messages that were.
    pub(crate) fn clamp(&mut self, partition: PartitionId, end: Offset) -> u64 {
        if let Some(mark) = self.watermark(partition) {
            self.set_watermark(partition, mark.min(end));
        }
        self.queues
            .iter_mut()
            .map(|queue| queue.clamp(partition, end))
            .sum()
    }

    /// Let every list, and those of queues to come, go on at a number that was surely never given; tells the
    /// operations that make it last.
    pub(crate) fn leap(&mut self, mut tell: impl FnMut(Op)) {
        let lists = self.queues.iter().flat_map(|queue| {
            let dead = queue.list(Source::DeadLetters);
            [Some(&queue.live), dead].into_iter().flatten()
        });
        let highest = lists.map(Backlog::next).max().unwrap_or(0);
        let first = highest.max(self.first_number);
        let first = first.saturating_add(LEAP).min(NUMBER_MAX);
        self.first_number = first;
        tell(Op::floor(first));
        for queue in &mut self.queues {
            for source in [Source::Queue, Source::DeadLetters] {
                let op = Op::next(queue.id, source, first);
                queue.apply(&op);
                tell(op);
            }
        }
    }

    /// Whether anything points beyond the `end` of `partition`.
    pub(crate) fn reaches_beyond(&self, partition: PartitionId, end: Offset) -> bool {
        self.watermark(partition).is_some_and(|mark| mark > end)
            || self
                .queues
                .iter()
                .any(|queue| queue.reaches_beyond(partition, end))
    }

    /// Apply one operation of the journal; `false` when it does not fit and nothing changed.
    pub(crate) fn apply(&mut self, op: &Op) -> bool {
        match op.kind() {
            Some(OpKind::Watermark) => self.set_watermark(op.partition(), op.offset()),
            Some(OpKind::Clamp) => {
                self.clamp(op.partition(), op.offset());
            }
            Some(OpKind::Floor) if op.number() > NUMBER_MAX => return false,
            Some(OpKind::Floor) => self.first_number = self.first_number.max(op.number()),
            Some(OpKind::SnapshotBegin | OpKind::SnapshotEnd) => {}
            Some(_) => {
                let slot = self.slot_or_new(op.endpoint());
                return self.at_mut(slot).apply(op);
            }
            None => return false,
        }
        true
    }
}
