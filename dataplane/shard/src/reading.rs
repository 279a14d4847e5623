//! The logs that queues read from: those of this shard, and those of other shards as far as they have told of them.

use partition::{Follower, Partition, ReadError, Record, Segment};
use wire::ids::{Offset, PartitionId};

use crate::log::Log;
use crate::mesh::Followed;
use crate::route::Owned;

/// A log to read from, whoever owns it.
pub enum LogReader<'a, S: Segment> {
    /// This shard does.
    Own(&'a Partition<S>),
    /// Another one does.
    Followed(&'a Follower<S::View>),
}

impl<S: Segment> Clone for LogReader<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Segment> Copy for LogReader<'_, S> {}

impl<'a, S: Segment> LogReader<'a, S> {
    /// The oldest offset that can be read.
    pub fn first(self) -> Offset {
        match self {
            Self::Own(log) => log.first(),
            Self::Followed(log) => log.first(),
        }
    }

    /// Offset after the last message that can be read.
    pub fn committed(self) -> Offset {
        match self {
            Self::Own(log) => log.committed(),
            Self::Followed(log) => log.committed(),
        }
    }

    /// The committed record that contains `offset`, its checksum verified.
    ///
    /// # Errors
    /// As [`Partition::read_committed`].
    #[inline]
    pub fn read(self, offset: Offset) -> Result<Record<'a>, ReadError> {
        match self {
            Self::Own(log) => log.read_committed(offset),
            Self::Followed(log) => log.read(offset),
        }
    }
}

/// All logs that a shard can read.
pub(crate) struct Logs<'a, S: Segment> {
    pub(crate) own: &'a [Log<S>],
    pub(crate) owned: &'a Owned,
    /// By rising partition.
    pub(crate) followed: &'a [Followed<S::View>],
}

impl<S: Segment> Clone for Logs<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Segment> Copy for Logs<'_, S> {}

impl<'a, S: Segment> Logs<'a, S> {
    /// The log of a partition. What another shard has not told of yet cannot be read yet.
    #[inline]
    pub(crate) fn get(self, partition: PartitionId) -> Option<LogReader<'a, S>> {
        match self.owned.log(partition) {
            Some(at) => Some(LogReader::Own(&self.own[at as usize].partition)),
            None => Some(LogReader::Followed(&self.find(partition)?.follower)),
        }
    }

    /// The same, if its owner has told of all that was in it at the start: queues may point at any of it.
    pub(crate) fn whole(self, partition: PartitionId) -> Option<LogReader<'a, S>> {
        let known = self.owned.log(partition).is_some() || self.find(partition)?.whole;
        self.get(partition).filter(|_| known)
    }

    fn find(self, partition: PartitionId) -> Option<&'a Followed<S::View>> {
        let at = self
            .followed
            .binary_search_by_key(&partition, |log| log.partition);
        Some(&self.followed[at.ok()?])
    }
}
