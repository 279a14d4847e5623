//! Reading a log that somebody else owns: its owner tells what is committed, readers keep views of its segments.
//!
//! Nothing is locked and nothing is shared but the file's pages. The owner publishes in this order: bytes are written
//! to the file (what is committed has left the window of memory), then [`Feed::news`] names them, then the news
//! travel by whatever queue the owner has; a queue releases what was written before it. A reader looks only at bytes
//! that news have named, so it never looks at one that is still being written. The other way round, a segment that
//! retention takes away is written over only when every reader has let go of it: a reader answers
//! [`News::Expired`] by [`Follower::first`], and the owner keeps the segment until all of them have.

use std::cell::RefCell;
use std::collections::VecDeque;

use wire::ids::Offset;

use crate::index::{Index, Source};
use crate::log::SegmentId;
use crate::partition::Partition;
use crate::read::ReadError;
use crate::record::Record;
use crate::segment::{Segment, View};
use crate::storage::StorageError;

/// What an owner tells the readers of its log, in order.
#[derive(Debug, Clone)]
pub enum News<V> {
    /// A segment follows the last one.
    Opened {
        /// Its id.
        id: SegmentId,
        /// Salt of its records.
        salt: u64,
        /// Offset of its first message.
        base: Offset,
        /// Its bytes.
        view: V,
    },
    /// More of the segment that was opened last is committed.
    Grown {
        /// Where committed bytes end.
        end: u32,
        /// Offset after the last committed message.
        next: Offset,
    },
    /// Retention took what is below.
    Expired {
        /// The oldest offset that is kept.
        first: Offset,
    },
}

/// The owner's side: what readers have been told.
#[derive(Debug, Default)]
pub struct Feed {
    first: Offset,
    committed: Offset,
    opened: Option<SegmentId>,
}

impl Feed {
    /// Add to `news` what happened to the log since the last call. Costs a comparison when nothing did.
    ///
    /// # Errors
    /// A segment could not be viewed. What was added is right; the rest comes with a later call.
    pub fn news<S: Segment>(
        &mut self,
        log: &Partition<S>,
        news: &mut Vec<News<S::View>>,
    ) -> Result<(), StorageError> {
        let (first, committed) = (log.first(), log.committed());
        if first > self.first {
            self.first = first;
            news.push(News::Expired { first });
        }
        if committed <= self.committed {
            return Ok(());
        }
        let told = |live: &crate::partition::Live<S>| Some(live.segment.id()) == self.opened;
        let from = log.segments.iter().rposition(told).unwrap_or(0);
        for live in log.segments.range(from..) {
            if live.base >= committed.0 {
                break;
            }
            let id = live.segment.id();
            if self.opened != Some(id) {
                let view = live.segment.view()?;
                let (salt, base) = (live.salt, Offset(live.base));
                news.push(News::Opened {
                    id,
                    salt,
                    base,
                    view,
                });
                self.opened = Some(id);
            }
            let end = match log.commit.at {
                Some((last, end)) if last == id => end,
                _ => live.end,
            };
            let next = Offset(live.next).min(committed);
            news.push(News::Grown { end, next });
        }
        self.committed = committed;
        Ok(())
    }
}

/// A segment as a reader keeps it.
struct Followed<V> {
    id: SegmentId,
    salt: u64,
    base: u64,
    next: u64,
    end: u32,
    view: V,
    index: RefCell<Index>,
}

/// The reader's side: the committed part of a log, as far as news have told of it.
pub struct Follower<V> {
    /// Oldest first.
    segments: VecDeque<Followed<V>>,
    first: Offset,
    committed: Offset,
}

impl<V: View> Default for Follower<V> {
    fn default() -> Self {
        Self {
            segments: VecDeque::new(),
            first: Offset(0),
            committed: Offset(0),
        }
    }
}

impl<V: View> Follower<V> {
    /// Take in what the owner tells. News must come in order and none may be left out.
    ///
    /// # Panics
    /// When a segment grows and none was opened: news were lost, which is a fault of whoever carries them.
    pub fn hear(&mut self, news: News<V>) {
        match news {
            News::Opened {
                id,
                salt,
                base,
                view,
            } => {
                let index = RefCell::new(Index::new(base.0, 0));
                let (base, next) = (base.0, base.0);
                self.segments.push_back(Followed {
                    id,
                    salt,
                    base,
                    next,
                    end: 0,
                    view,
                    index,
                });
            }
            News::Grown { end, next } => {
                let open = self
                    .segments
                    .back_mut()
                    .expect("a segment is opened before it grows");
                debug_assert!(open.end <= end && open.next <= next.0, "a log only grows");
                open.view.refresh(end as usize);
                (open.end, open.next) = (end, next.0);
                self.committed = self.committed.max(next);
            }
            News::Expired { first } => {
                self.first = self.first.max(first);
                let gone =
                    |segment: &mut Followed<V>| segment.base < first.0 && segment.next <= first.0;
                while self.segments.pop_front_if(gone).is_some() {}
            }
        }
    }

    /// The oldest offset that can be read; of segments below no view is kept, and the owner may write over them.
    pub fn first(&self) -> Offset {
        self.first
    }

    /// Offset after the last message that can be read.
    pub fn committed(&self) -> Offset {
        self.committed
    }

    /// The record that contains `offset`, its checksum verified. Costs what [`Partition::read`] does.
    ///
    /// # Errors
    /// As [`Partition::read_committed`].
    pub fn read(&self, offset: Offset) -> Result<Record<'_>, ReadError> {
        if offset >= self.committed {
            return Err(ReadError::NotYet);
        }
        if offset < self.first {
            return Err(ReadError::Expired { first: self.first });
        }
        let after = self
            .segments
            .partition_point(|segment| segment.base <= offset.0);
        let at = after.checked_sub(1).ok_or(ReadError::NotYet)?;
        let segment = self.segments.get(at).ok_or(ReadError::NotYet)?;
        let (bytes, salt, next) = (
            segment.view.bytes(0..segment.end as usize),
            segment.salt,
            segment.next,
        );
        let found = segment
            .index
            .borrow_mut()
            .locate(Source { bytes, salt, next }, offset.0);
        match found {
            Ok(found) => Ok(found.view(bytes, segment.id)),
            Err(unreadable) => Err(ReadError::Damaged {
                next: Offset(unreadable.next.min(segment.next)),
            }),
        }
    }
}
