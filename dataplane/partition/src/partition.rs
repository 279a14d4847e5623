//! The log itself: its segments, its counters and how it grows. Decides everything, waits for nothing;
//! whatever may wait (preparing, syncing, retiring) is asked of the caller as a value.

use std::cell::RefCell;
use std::collections::VecDeque;

use wire::ids::{ChannelId, EndpointId, Offset, Position, Sequence, UnixNanos};
use zerocopy::IntoBytes;

use crate::commit::Commit;
use crate::index::{Index, Source};
use crate::limits::PartitionLimits;
use crate::log::{LogId, SegmentId, SegmentRef};
use crate::record::{
    Binding, Found, NewRecord, OFFSET_MAX, Payload, RECORD_HEADER_BYTES, RecordKind, record_bytes,
    seal_header,
};
use crate::scan::START;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, live_header};
use crate::sender::{ENTRY_BYTES, PART_SENDERS, SenderState, Senders};
use crate::storage::StorageError;
use crate::vouch::{Vouch, Vouched};

/// Spares that any log may keep; more are handed back.
const SPARES_MIN: usize = 2;
/// Spares that a log keeps at most that outran their preparation, and their bytes.
const SPARES_MAX: usize = 8;
const SPARES_BYTES_MAX: usize = 64 << 20;

/// Whether a log takes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogState {
    /// It does.
    Open,
    /// The last record was refused for want of a spare segment; it opens by itself when one arrives.
    Full,
    /// A sync failed. It takes nothing until the process starts again; readers go on.
    Sealed,
}

/// Why a record was not appended. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No segment has room for it; see [`LogState::Full`].
    #[error("the log is full until storage has room for another segment")]
    Full,
    /// See [`LogState::Sealed`].
    #[error("the log is sealed after a failed sync")]
    Sealed,
    /// The payload is longer than the limits allow.
    #[error("payload of {bytes} bytes, at most {bytes_max} fit a record")]
    TooLong {
        /// Bytes offered.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: u32,
    },
}

/// A point between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Offset of the next message.
    pub next: Offset,
    /// Segment the record before it lies in.
    pub segment: SegmentId,
    /// Where that record ends.
    pub position: Position,
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first message.
    pub first: Offset,
    /// Messages in it.
    pub count: u16,
    /// The point after it.
    pub end: Mark,
    /// It is the first record of its segment, the senders' snapshot aside.
    pub rolled: bool,
}

/// A segment that is part of the log.
pub(crate) struct Live<S> {
    pub(crate) segment: S,
    /// Salt of its records. The file's id, unless a crash came between renaming and renewing it.
    pub(crate) salt: u64,
    pub(crate) base: u64,
    /// Offset after its last message.
    pub(crate) next: u64,
    pub(crate) created: u64,
    /// Bytes in use; the whole file for a segment that was sealed before this process started.
    pub(crate) end: u32,
    /// Bytes known to be on disk.
    pub(crate) synced: u32,
    /// Highest commit position that a record of this segment says.
    pub(crate) vouched: u32,
    pub(crate) index: RefCell<Index>,
}

impl<S: Segment> Live<S> {
    pub(crate) fn reference(&self, log: LogId) -> SegmentRef {
        SegmentRef {
            log,
            id: self.segment.id(),
        }
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            bytes: self.segment.bytes(0..self.end as usize),
            salt: self.salt,
            next: self.next,
        }
    }

    fn room(&self) -> usize {
        self.segment.capacity() - self.end as usize
    }

    /// Copy a record to the end. Hashed is what was handed in, not its copy: that has just been stored and is slow to load.
    #[inline]
    fn put(&mut self, new: &NewRecord, parts: &[&[u8]], payload_bytes: usize) -> Found {
        if let &[payload] = parts {
            let header = self.header(new, Payload::of(payload));
            let padding = record_bytes(payload_bytes) - RECORD_HEADER_BYTES - payload_bytes;
            let record = [&header[..], payload, &[0; 8][..padding]];
            self.segment.append(self.end as usize, &record);
            return self.take_in(new, payload_bytes);
        }
        let start = self.end as usize + RECORD_HEADER_BYTES;
        self.segment.append(start, parts);
        self.finish(new, payload_bytes)
    }

    /// Write the header of a record whose payload is in place, and make it part of the segment.
    fn finish(&mut self, new: &NewRecord, payload_bytes: usize) -> Found {
        let start = self.end as usize + RECORD_HEADER_BYTES;
        let payload = self.segment.bytes(start..start + payload_bytes);
        let header = self.header(new, Payload::of(payload));
        let padding = record_bytes(payload_bytes) - RECORD_HEADER_BYTES - payload_bytes;
        if padding > 0 {
            self.segment
                .append(start + payload_bytes, &[&[0; 8][..padding]]);
        }
        self.segment.append(self.end as usize, &[&header]);
        self.take_in(new, payload_bytes)
    }

    /// The header of the next record.
    #[inline]
    fn header(&self, new: &NewRecord, payload: Payload) -> [u8; RECORD_HEADER_BYTES] {
        let end = self.end as usize + record_bytes(payload.bytes);
        assert!(
            end <= self.segment.capacity(),
            "record ends at {end}, segment holds {}",
            self.segment.capacity()
        );
        let bind = Binding {
            salt: self.salt,
            base: self.next,
            commit_position: self.synced,
            at: self.end,
        };
        seal_header(new, bind, payload)
    }

    /// What stands behind the end is a record now.
    #[inline]
    fn take_in(&mut self, new: &NewRecord, payload_bytes: usize) -> Found {
        let found = Found {
            at: self.end,
            end: self.end + record_bytes(payload_bytes) as u32,
            base: self.next,
            next: self.next + u64::from(new.count),
            kind: new.kind,
            commit_position: self.synced,
        };
        self.index.get_mut().push(&found);
        (self.end, self.next, self.vouched) = (found.end, found.next, self.synced);
        found
    }

    /// Write what is known of the senders, as one or more records of count 0.
    pub(crate) fn put_senders(&mut self, senders: &Senders, time: UnixNanos) {
        let mut entries = senders.entries();
        let parts = senders.parts();
        for part in 0..parts {
            let mut payload_bytes = 0;
            for entry in entries.by_ref().take(PART_SENDERS) {
                let at = self.end as usize + RECORD_HEADER_BYTES + payload_bytes;
                self.segment.append(at, &[entry.as_bytes()]);
                payload_bytes += ENTRY_BYTES;
            }
            let new = NewRecord {
                kind: RecordKind::Senders,
                signature_kind: 0,
                count: 0,
                endpoint: EndpointId(senders.count() as u64),
                channel: ChannelId(parts as u32),
                sequence: Sequence(part as u64),
                time,
            };
            self.finish(&new, payload_bytes);
        }
    }

    /// Say by a record of its own how far this segment is on disk, if there is room.
    pub(crate) fn put_note(&mut self, time: UnixNanos) {
        if self.room() >= RECORD_HEADER_BYTES {
            let new = NewRecord {
                kind: RecordKind::Note,
                signature_kind: 0,
                count: 0,
                endpoint: EndpointId(0),
                channel: ChannelId(0),
                sequence: Sequence(0),
                time,
            };
            self.put(&new, &[], 0);
        }
    }
}

/// One append-only log: a partition's messages or a queue group's journal.
///
/// It has one owner and is never shared: readers borrow it. All its I/O is asked of the owner.
pub struct Partition<S: Segment> {
    pub(crate) log: LogId,
    pub(crate) limits: PartitionLimits,
    /// Oldest first; the last one is open.
    pub(crate) segments: VecDeque<Live<S>>,
    pub(crate) spares: Vec<S>,
    /// Spares to have ready: one, and one more for each time that a log in use had to wait for one.
    pub(crate) spares_wanted: usize,
    /// Spares that are too many or too small; handed out for retirement.
    pub(crate) surplus: Vec<S>,
    pub(crate) commit: Commit,
    /// Absent when the medium had no room for it.
    pub(crate) vouch: Option<Vouch<S>>,
    pub(crate) senders: Senders,
    pub(crate) hold: Option<Offset>,
    pub(crate) starved: bool,
    pub(crate) requested: bool,
    /// Segments given away to be recycled; each comes back as a spare.
    pub(crate) returning: u32,
    pub(crate) spare_failure: Option<StorageError>,
    pub(crate) newest: UnixNanos,
}

impl<S: Segment> Partition<S> {
    /// Append one record; its payload is the concatenation of `payload`.
    ///
    /// Copies the payload once and hashes it once. Allocates nothing, unless a segment is begun or the
    /// sender is new.
    ///
    /// # Errors
    /// `Full` when no segment has room, `Sealed` after a failed sync, `TooLong` beyond the limits.
    #[inline]
    pub fn append(&mut self, new: &NewRecord, payload: &[&[u8]]) -> Result<Appended, AppendError> {
        assert!(
            new.kind.admits(new.count) && new.count > 0,
            "{} messages in a {:?}",
            new.count,
            new.kind
        );
        let payload_bytes = payload.iter().map(|part| part.len()).sum::<usize>();
        let bytes_max = self.limits.record_bytes_max;
        if self.commit.sealed {
            return Err(AppendError::Sealed);
        }
        if payload_bytes > bytes_max as usize {
            return Err(AppendError::TooLong {
                bytes: payload_bytes,
                bytes_max,
            });
        }
        let rolled = self.will_roll(payload_bytes);
        if rolled {
            self.begin_segment(new.time)?;
        }
        let open = self
            .segments
            .back_mut()
            .expect("a segment was begun if there was none with room");
        assert!(
            open.next < OFFSET_MAX - u64::from(new.count),
            "offset {} is the last",
            open.next
        );
        let found = open.put(new, payload, payload_bytes);
        let segment = open.segment.id();
        if new.kind == RecordKind::Frame {
            self.senders.append(new.endpoint, new.sequence);
        }
        self.newest = self.newest.max(new.time);
        self.check();
        let end = Mark {
            next: Offset(found.next),
            segment,
            position: Position(found.end),
        };
        Ok(Appended {
            first: Offset(found.base),
            count: new.count,
            end,
            rolled,
        })
    }

    /// Whether the next record with this payload begins a new segment. The owner of a queue log writes
    /// its snapshot first then: [`Partition::roll`], snapshot, record.
    #[inline]
    pub fn will_roll(&self, payload_bytes: usize) -> bool {
        self.segments
            .back()
            .is_none_or(|open| open.room() < record_bytes(payload_bytes))
    }

    /// Begin a new segment now, unless the open one is still empty.
    ///
    /// # Errors
    /// As [`Partition::append`].
    pub fn roll(&mut self, time: UnixNanos) -> Result<(), AppendError> {
        if self.commit.sealed {
            return Err(AppendError::Sealed);
        }
        if self
            .segments
            .back()
            .is_some_and(|open| open.next == open.base)
        {
            return Ok(());
        }
        self.begin_segment(time)
    }

    fn snapshot_bytes(&self) -> usize {
        self.senders.count() * ENTRY_BYTES + self.senders.parts() * record_bytes(0)
    }

    /// Bytes a new segment must have to hold the senders' snapshot and the longest record.
    pub(crate) fn segment_bytes_min(&self) -> usize {
        let longest = record_bytes(self.limits.record_bytes_max as usize);
        SEGMENT_HEADER_BYTES + self.snapshot_bytes() + longest + RECORD_HEADER_BYTES
    }

    /// Bytes to ask for: what the limits say, or more when the snapshot would fill over a quarter, so
    /// that a fleet that grows until the roll still fits.
    pub(crate) fn segment_bytes_wanted(&self) -> u32 {
        let snapshot = 4 * self.snapshot_bytes();
        if snapshot <= self.limits.segment_bytes as usize {
            return self.limits.segment_bytes;
        }
        let longest = record_bytes(self.limits.record_bytes_max as usize);
        let wanted = (snapshot + 2 * longest + (1 << 10)).next_multiple_of(1 << 16);
        u32::try_from(wanted).unwrap_or(!0xffff)
    }

    fn begin_segment(&mut self, time: UnixNanos) -> Result<(), AppendError> {
        // One that holds nothing yet and is too short, because limits have been raised, makes way.
        let empty = self
            .segments
            .pop_back_if(|open| open.next == open.base && open.index.get_mut().gaps().is_empty());
        if empty.is_some() && (self.commit.in_flight || self.spares.is_empty()) {
            self.segments.extend(empty);
            self.starved = true;
            return Err(AppendError::Full);
        }
        let base = empty.as_ref().map_or(self.appended().0, |open| open.base);
        let previous = self.segments.back().map_or(0, |open| open.salt);
        if let Some(open) = self
            .segments
            .back_mut()
            .filter(|open| open.synced >= open.end)
        {
            // No commit will come by it again.
            open.segment.settle();
        }
        let begun = self.begin_segment_at(base, previous, time);
        match begun {
            Ok(()) => self.surplus.extend(empty.map(|open| open.segment)),
            Err(_) => self.segments.extend(empty),
        }
        begun
    }

    /// Begin a segment at offset `base`, behind the one with the salt `previous`.
    pub(crate) fn begin_segment_at(
        &mut self,
        base: u64,
        previous: u64,
        time: UnixNanos,
    ) -> Result<(), AppendError> {
        let needed = self.segment_bytes_min();
        while self
            .spares
            .first()
            .is_some_and(|spare| spare.capacity() < needed)
        {
            self.surplus.push(self.spares.remove(0));
        }
        if self.spares.is_empty() {
            self.starve();
            return Err(AppendError::Full);
        }
        let mut segment = self.spares.remove(0);
        let (id, capacity) = (segment.id(), segment.capacity());
        segment.append(
            0,
            &[&live_header(id, capacity, self.log, base, previous, time.0)],
        );
        let index = RefCell::new(Index::new(base, capacity));
        let (end, synced) = (START, 0);
        let mut live = Live {
            segment,
            salt: id.0,
            base,
            next: base,
            created: time.0,
            end,
            synced,
            vouched: 0,
            index,
        };
        live.put_senders(&self.senders, time);
        self.segments.push_back(live);
        self.starved = false;
        Ok(())
    }

    /// A record finds no segment. A log that fills its segments faster than they are prepared keeps more of them from
    /// now on; on a disk that has none to give that would not help.
    fn starve(&mut self) {
        let outrun = !self.starved && !self.segments.is_empty() && self.spare_failure.is_none();
        if outrun {
            self.spares_wanted = (self.spares_wanted + 1).min(self.spares_max());
        }
        self.starved = true;
    }

    fn spares_max(&self) -> usize {
        (SPARES_BYTES_MAX / self.limits.segment_bytes as usize).clamp(SPARES_MIN, SPARES_MAX)
    }

    /// Take in a spare segment, prepared or recycled.
    pub fn offer(&mut self, spare: S) {
        self.requested = false;
        self.returning = self.returning.saturating_sub(1);
        self.spare_failure = None;
        if self.spares.len() >= self.spares_wanted.max(SPARES_MIN)
            || spare.capacity() < self.segment_bytes_min()
        {
            self.surplus.push(spare);
            return;
        }
        self.spares.push(spare);
        self.starved = false;
    }

    /// Bytes of the spare that should be prepared: when there is none and the open segment is half full
    /// or missing, or fewer than a log needs that had to wait before. `None` while one is on its way after
    /// [`Partition::request_spare`], or while what retention gave away, or is about to, will do when it is recycled: a log that is
    /// as long as it may be writes over its own files and asks for no others. A record that waits for room counts on
    /// those only that have been given away.
    pub fn wants_spare(&self) -> Option<u32> {
        let longest = record_bytes(self.limits.record_bytes_max as usize);
        let low = |open: &Live<S>| open.room() < longest.max(open.segment.capacity() / 2);
        let none = self.spares.is_empty();
        let returning = self.returning as usize;
        let soon = none && self.segments.back().is_none_or(low);
        let ready = self.spares.len() + self.leaving();
        let more = self.spares_wanted > 1 && ready < self.spares_wanted;
        let waits = none && self.starved && returning < self.spares_wanted;
        let wanted = waits || returning == 0 && (soon || more);
        let wanted = wanted && !self.requested && !self.commit.sealed;
        wanted.then(|| self.segment_bytes_wanted())
    }

    /// Segments that the bound in bytes no longer keeps, as far as their number tells. Something else may hold them.
    fn leaving(&self) -> usize {
        let kept = |bytes: u64| bytes / u64::from(self.limits.segment_bytes).max(1);
        let kept = self.limits.retention_bytes.map_or(u64::MAX, kept);
        self.segments
            .len()
            .saturating_sub(usize::try_from(kept).unwrap_or(usize::MAX))
    }

    /// Like [`Partition::wants_spare`], and remember that the caller has seen to it. Answers `None`
    /// until [`Partition::offer`] or [`Partition::spare_failed`].
    pub fn request_spare(&mut self) -> Option<u32> {
        let wanted = self.wants_spare();
        self.requested |= wanted.is_some();
        wanted
    }

    /// The spare that was asked for could not be made, or a segment not recycled. The caller asks again when it sees
    /// fit.
    pub fn spare_failed(&mut self, error: StorageError) {
        self.requested = false;
        self.returning = 0;
        self.spare_failure = Some(error);
    }

    /// Why there is no spare, if the last attempt to make one failed.
    pub fn spare_failure(&self) -> Option<&StorageError> {
        self.spare_failure.as_ref()
    }

    /// Which log this is.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Its limits.
    pub fn limits(&self) -> &PartitionLimits {
        &self.limits
    }

    /// The offset that the next message gets.
    pub fn appended(&self) -> Offset {
        self.segments
            .back()
            .map_or(Offset(0), |open| Offset(open.next))
    }

    /// The oldest offset that is kept.
    pub fn first(&self) -> Offset {
        self.segments
            .front()
            .map_or(Offset(0), |oldest| Offset(oldest.base))
    }

    /// Whether it takes records.
    pub fn state(&self) -> LogState {
        match (self.commit.sealed, self.starved) {
            (true, _) => LogState::Sealed,
            (false, true) => LogState::Full,
            (false, false) => LogState::Open,
        }
    }

    /// Bytes of all segments, spares not counted.
    pub fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|live| live.segment.capacity() as u64)
            .sum()
    }

    /// Segments, spares not counted.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// What is known of a sender; all zero for one never heard of.
    pub fn sender(&self, endpoint: EndpointId) -> SenderState {
        self.senders.get(endpoint)
    }

    /// All senders, in an order that depends on nothing but what was appended.
    pub fn senders(&self) -> impl Iterator<Item = (EndpointId, SenderState)> + '_ {
        self.senders.iter()
    }

    /// Say outside the segments how far the log is on disk.
    pub(crate) fn write_vouch(&mut self, vouched: Vouched) {
        if let Some(vouch) = &mut self.vouch {
            vouch.write(self.log, vouched);
        }
    }

    /// The rules that hold between any two calls.
    pub(crate) fn check(&self) {
        debug_assert!(
            self.commit.synced <= self.appended(),
            "{} > {}",
            self.commit.synced,
            self.appended()
        );
        debug_assert!(
            self.commit.committed <= self.appended(),
            "{} > {}",
            self.commit.committed,
            self.appended()
        );
        debug_assert!(
            self.spares.len() <= self.spares_max(),
            "{} spares",
            self.spares.len()
        );
        if let Some(open) = self.segments.back() {
            debug_assert!(open.synced <= open.end, "{} > {}", open.synced, open.end);
        }
    }
}
