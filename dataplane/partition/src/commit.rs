//! Group commit: one sync in flight, and it vouches for exactly what had been appended before it began.

use wire::ids::{Offset, UnixNanos};

use crate::log::{LogId, SegmentId, SegmentRef};
use crate::partition::Partition;
use crate::segment::Segment;
use crate::storage::StorageError;
use crate::vouch::Vouched;

/// How far a log is committed.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// Everything below is on disk.
    pub(crate) synced: Offset,
    /// Everything below may be acked and delivered.
    pub(crate) committed: Offset,
    /// Where the last committed record ends; unknown until something is committed by this process.
    pub(crate) at: Option<(SegmentId, u32)>,
    pub(crate) in_flight: bool,
    pub(crate) sealed: bool,
    pub(crate) failure: Option<StorageError>,
    /// Why the sync in flight cannot cover everything: not all of it reached the medium's file.
    pub(crate) doomed: Option<StorageError>,
    /// Kept from the last ticket, so that committing allocates nothing.
    pub(crate) recycled: Vec<SegmentRef>,
}

/// A sync to be done: of all `segments`, after which the log is committed up to `upto`.
#[derive(Debug, PartialEq, Eq)]
pub struct CommitTicket {
    /// Which log.
    pub log: LogId,
    /// Segments to sync, oldest first; more than one after a roll.
    pub segments: Vec<SegmentRef>,
    /// Offset after the last message that the sync covers.
    pub upto: Offset,
    /// Where the covered bytes end: in the last of `segments`.
    end: (SegmentId, u32),
}

/// The log is sealed: a sync failed, now or earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log is sealed after a failed sync")]
pub struct Sealed;

impl<S: Segment> Partition<S> {
    /// Begin a commit of everything appended so far. `None` when nothing is new, one is in flight, or
    /// the log is sealed. The caller syncs the ticket's segments and calls [`Partition::finish_commit`].
    pub fn begin_commit(&mut self) -> Option<CommitTicket> {
        let upto = self.appended();
        if self.commit.in_flight || self.commit.sealed || upto == self.commit.synced {
            return None;
        }
        let mut segments = std::mem::take(&mut self.commit.recycled);
        segments.clear();
        // Only the newest segments can have bytes that are not on disk.
        let from = self
            .segments
            .iter()
            .rposition(|live| live.synced >= live.end)
            .map_or(0, |synced| synced + 1);
        for live in self.segments.range_mut(from..) {
            if live.vouched < live.synced {
                // What is in here was appended while the last sync was under way and does not say how it
                // ended. Now this sync puts on disk what the last one did.
                live.put_note(self.newest);
            }
            if let Err(error) = live.segment.flush() {
                self.commit.doomed.get_or_insert(error);
            }
            segments.push(live.reference(self.log));
        }
        let open = self.segments.back()?;
        let end = (open.segment.id(), open.end);
        self.commit.in_flight = true;
        Some(CommitTicket {
            log: self.log,
            segments,
            upto,
            end,
        })
    }

    /// Take in the outcome of a sync. Answers how far the log is committed now.
    ///
    /// # Errors
    /// `Sealed` when the sync failed: what is on disk is unknown from here on, so nothing appended since
    /// the last good sync is ever committed by this process, and nothing more is taken.
    pub fn finish_commit(
        &mut self,
        ticket: CommitTicket,
        result: Result<(), StorageError>,
    ) -> Result<Offset, Sealed> {
        assert!(
            self.commit.in_flight && ticket.log == self.log,
            "a ticket of {} returns to {}",
            ticket.log,
            self.log
        );
        self.commit.in_flight = false;
        self.commit.recycled = ticket.segments;
        let result = self.commit.doomed.take().map_or(result, Err);
        if let Err(error) = result {
            self.seal(error);
        }
        if self.commit.sealed {
            return Err(Sealed);
        }
        let (last, position) = ticket.end;
        let mut rest = self
            .segments
            .iter_mut()
            .rev()
            .skip_while(|live| live.segment.id() != last);
        let mut salt = 0;
        if let Some(live) = rest.next() {
            live.synced = live.synced.max(position);
            salt = live.salt;
        }
        rest.take_while(|live| live.synced < live.end)
            .for_each(|live| {
                live.synced = live.end;
                live.segment.settle();
            });
        self.commit.synced = ticket.upto;
        if ticket.upto > self.commit.committed {
            (self.commit.committed, self.commit.at) = (ticket.upto, Some(ticket.end));
        }
        if self.commit.synced == self.appended() {
            self.note(self.newest);
        }
        self.write_vouch(Vouched {
            segment: salt,
            first: self.first().0,
            next: ticket.upto.0,
            position,
        });
        self.check();
        Ok(self.commit.committed)
    }

    /// Leave a record of how far the log is on disk, now that no later record will say so. Without it
    /// the last commit before a pause could not be told from a torn tail, should it be damaged.
    fn note(&mut self, time: UnixNanos) {
        if let Some(open) = self.segments.back_mut() {
            open.put_note(time);
        }
        self.write_note();
    }

    /// Where no file vouches for the log its note is the only evidence, and must not stay in memory.
    pub(crate) fn write_note(&mut self) {
        if self.vouch.is_none() {
            self.write_out();
        }
    }

    pub(crate) fn seal(&mut self, error: StorageError) {
        self.commit.sealed = true;
        self.commit.failure.get_or_insert(error);
    }

    /// Commit what is in the mapped log without waiting for the disk: it survives the end of this
    /// process, not a power failure. Syncs still run behind; a sealed log commits nothing more.
    pub fn commit_local(&mut self) -> Offset {
        if self.commit.sealed || self.commit.committed == self.appended() {
            return self.commit.committed;
        }
        if let Err(error) = self.flush_segments() {
            self.seal(error);
            return self.commit.committed;
        }
        self.commit.committed = self.appended();
        self.commit.at = self
            .segments
            .back()
            .map(|open| (open.segment.id(), open.end));
        self.commit.committed
    }

    /// Write what was appended to its files without committing it, for an owner whose promise is that it survives the
    /// end of this process. A write that fails dooms the next commit.
    pub fn write_out(&mut self) {
        if let Err(error) = self.flush_segments() {
            self.commit.doomed.get_or_insert(error);
        }
    }

    fn flush_segments(&mut self) -> Result<(), StorageError> {
        for live in self.segments.iter_mut().rev() {
            live.segment.flush()?;
            if live.synced > 0 {
                // A sync that covered any of it covered all before it.
                break;
            }
        }
        Ok(())
    }

    /// Offset after the last committed message.
    pub fn committed(&self) -> Offset {
        self.commit.committed
    }

    /// Offset after the last message that is known to be on disk.
    pub fn synced(&self) -> Offset {
        self.commit.synced
    }

    /// The error that sealed the log.
    pub fn failure(&self) -> Option<&StorageError> {
        self.commit.failure.as_ref()
    }
}
