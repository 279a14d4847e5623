//! The last steps of recovery: a log that is whole again gets a spare, goes on behind what is lost, and says how far it is on disk.

use wire::ids::Offset;

use crate::partition::Partition;
use crate::segment::Segment;
use crate::storage::{SegmentFile, Storage, StorageError};
use crate::vouch::Vouched;

impl<S: Segment> Partition<S> {
    /// A spare gets a new id: a crash may have taken its live header and left records under the old one.
    /// One is kept, dropped segments included; what is too small or one too many is removed.
    pub(super) fn take_spares<T: Storage<Segment = S>>(
        &mut self,
        storage: &mut T,
        unused: Vec<SegmentFile>,
    ) -> Result<(), StorageError> {
        let least = self.segment_bytes_min();
        for small in self.spares.extract_if(.., |spare| spare.capacity() < least) {
            storage.remove(self.log, small)?;
        }
        for file in unused {
            let spare = storage.open(self.log, &file)?;
            if self.spares.is_empty() && spare.capacity() >= least {
                self.spares.push(storage.renew(self.log, spare)?);
            } else {
                storage.remove(self.log, spare)?;
            }
        }
        Ok(())
    }

    /// A log without any segment would refuse its first record; it gets its spare at once.
    pub(super) fn first_spare<T: Storage<Segment = S>>(
        &mut self,
        storage: &mut T,
    ) -> Result<(), StorageError> {
        if !self.segments.is_empty() || self.commit.sealed {
            return Ok(());
        }
        let Some(bytes) = self.wants_spare() else {
            return Ok(());
        };
        match storage.prepare(self.log, bytes) {
            Ok(spare) => self.offer(spare),
            Err(full @ StorageError::Full { .. }) => self.spare_failed(full),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Go on behind messages that were on disk in a segment that is not there: their offsets are gone.
    pub(super) fn begin_behind<T: Storage<Segment = S>>(
        &mut self,
        storage: &mut T,
        vouched: Vouched,
    ) -> Result<(), StorageError> {
        if self.commit.sealed {
            return Ok(());
        }
        if self.spares.is_empty() {
            let bytes = self.segment_bytes_wanted();
            self.spares.push(storage.prepare(self.log, bytes)?);
        }
        if let Some(last) = self.segments.back_mut() {
            last.next = vouched.next;
        }
        let begun = self.begin_segment_at(vouched.next, vouched.segment, self.newest);
        begun.expect("there is a spare, and one of this length holds the snapshot");
        let open = self.segments.back_mut().expect("it was begun just now");
        let flushed = open.segment.flush();
        if let Err(error) = flushed.and_then(|()| storage.sync(&open.reference(self.log))) {
            self.seal(error);
            return Ok(());
        }
        open.synced = open.end;
        (self.commit.synced, self.commit.committed) = (Offset(vouched.next), Offset(vouched.next));
        Ok(())
    }

    /// Everything served from here on is on disk.
    pub(super) fn vouch_for_all(&mut self) {
        self.write_note();
        let open = self.segments.back().filter(|_| !self.commit.sealed);
        if let Some(open) = open.filter(|open| open.next > 0) {
            let (segment, next, position) = (open.salt, open.next, open.synced);
            let first = self.first().0;
            self.write_vouch(Vouched {
                segment,
                next,
                position,
                first,
            });
        }
    }
}
