//! Reading: by offset, in order, while the log grows.

use wire::ids::Offset;

use crate::partition::{Live, Partition};
use crate::record::{Record, RecordKind};
use crate::segment::Segment;

/// Why there is no record at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It has not been written (or committed) yet.
    #[error("not written yet")]
    NotYet,
    /// Retention has removed it.
    #[error("expired; the oldest kept is {first}")]
    Expired {
        /// The oldest offset that is kept.
        first: Offset,
    },
    /// It is damaged.
    #[error("damaged; readable again from {next}")]
    Damaged {
        /// The next offset worth asking for, always higher than the one asked for.
        next: Offset,
    },
}

impl<S: Segment> Partition<S> {
    /// The record that contains `offset`, committed or not, its checksum verified.
    ///
    /// Costs one hash of the record and, unless the offset follows the last one read, a hop over at most
    /// 16 KiB of headers. In a segment that was sealed before this process began a dozen looks come before.
    pub fn read(&self, offset: Offset) -> Result<Record<'_>, ReadError> {
        if offset >= self.appended() {
            return Err(ReadError::NotYet);
        }
        let first = self.first();
        if offset < first {
            return Err(ReadError::Expired { first });
        }
        let live = self.containing(offset).ok_or(ReadError::NotYet)?;
        let source = live.source();
        let found = live.index.borrow_mut().locate(source, offset.0);
        match found {
            Ok(found) => Ok(found.view(source.bytes, live.segment.id())),
            Err(unreadable) => Err(ReadError::Damaged {
                next: Offset(unreadable.next.min(live.next)),
            }),
        }
    }

    /// Like [`Partition::read`], for committed records only.
    pub fn read_committed(&self, offset: Offset) -> Result<Record<'_>, ReadError> {
        if offset >= self.committed() {
            Err(ReadError::NotYet)
        } else {
            self.read(offset)
        }
    }

    /// Record headers that look-ups of this process have hopped over: what readers cost.
    pub fn looks(&self) -> u64 {
        self.segments
            .iter()
            .map(|live| live.index.borrow().looks)
            .sum()
    }

    fn containing(&self, offset: Offset) -> Option<&Live<S>> {
        // Readers of the tail are the common case.
        if let Some(open) = self.segments.back().filter(|open| open.base <= offset.0) {
            return Some(open);
        }
        let after = self.segments.partition_point(|live| live.base <= offset.0);
        self.segments.get(after.checked_sub(1)?)
    }

    /// All records from the one that contains `offset` up to the end, committed or not. Damage appears
    /// once, as an error, and reading goes on behind it.
    pub fn records_from(&self, offset: Offset) -> Records<'_, S> {
        Records {
            partition: self,
            at: offset,
        }
    }

    /// Offset of the first message of the open segment.
    pub fn open_base(&self) -> Offset {
        self.segments
            .back()
            .map_or(Offset(0), |open| Offset(open.base))
    }

    /// Offset of the first message of the segment before the one that contains `offset`'s predecessor:
    /// the highest segment base below `offset`.
    pub fn previous_base(&self, offset: Offset) -> Option<Offset> {
        self.segments
            .iter()
            .rev()
            .map(|live| Offset(live.base))
            .find(|&base| base < offset)
    }

    /// The base of the newest segment that begins with a queue snapshot: where the recovery of a queue
    /// group starts. The oldest base if no segment does.
    pub fn snapshot_base(&self) -> Offset {
        let begins = |live: &&Live<S>| {
            self.read(Offset(live.base))
                .is_ok_and(|record| record.kind() == RecordKind::QueueSnapshot)
        };
        self.segments
            .iter()
            .rev()
            .find(begins)
            .map_or(self.first(), |live| Offset(live.base))
    }
}

/// See [`Partition::records_from`].
pub struct Records<'a, S: Segment> {
    partition: &'a Partition<S>,
    at: Offset,
}

impl<'a, S: Segment> Iterator for Records<'a, S> {
    type Item = Result<Record<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.partition.read(self.at);
        self.at = match result {
            Ok(record) => record.next(),
            Err(ReadError::NotYet) => return None,
            Err(ReadError::Expired { first }) => first,
            Err(ReadError::Damaged { next }) => next,
        };
        Some(result)
    }
}
