//! How far a log was on disk, told from outside its segments: a small file beside them.
//!
//! Written after every commit and never synced, so it costs no flush and, because the kernel writes it back
//! when it sees fit, next to no device bytes. It is needed where the log's own evidence may end: in the
//! sectors of the last commit. Two sectors hold the same, written one after the other.
//!
//! | offset | bytes | field      | meaning                                          |
//! |-------:|------:|------------|--------------------------------------------------|
//! |      0 |     8 | `segment`  | the open segment's salt                          |
//! |      8 |     8 | `next`     | offset after the last message that is on disk    |
//! |     16 |     4 | `position` | bytes of the segment that are on disk            |
//! |     20 |     4 | `reserved` | zero                                             |
//! |     24 |     8 | `first`    | the oldest offset that is kept                   |
//! |     32 |     8 | `checksum` | xxh3-64 of bytes 0..32, seeded with the log      |

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::chain::Link;
use crate::log::LogId;
use crate::segment::Segment;

/// Bytes of the file.
pub(crate) const VOUCH_BYTES: usize = 4096;
/// One sector each.
const SLOT_BYTES: usize = 512;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Slot {
    segment: U64,
    next: U64,
    position: U32,
    reserved: U32,
    first: U64,
    checksum: U64,
}
const _: () = assert!(size_of::<Slot>() == 40);

/// A point up to which a log was on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vouched {
    pub(crate) segment: u64,
    pub(crate) next: u64,
    pub(crate) position: u32,
    pub(crate) first: u64,
}

impl Vouched {
    /// The offsets in front of the oldest segment that were kept, if the segment that held them is one of the
    /// `unreadable` ones.
    pub(crate) fn in_front(
        &self,
        oldest: &Link,
        unreadable: impl Fn(u64) -> bool,
    ) -> Option<Range<u64>> {
        let known = oldest.previous.is_some_and(unreadable);
        (known && self.first < oldest.base).then_some(self.first..oldest.base)
    }

    /// Give the oldest segment of a log its first offset back, if its header is lost and its first records are
    /// too: without this they would pass for expired.
    pub(crate) fn begin(&self, oldest: &mut Link) {
        if oldest.previous.is_none() && !oldest.torn {
            oldest.base = oldest.base.min(self.first);
        }
    }

    /// The furthest point that a whole slot tells.
    pub(crate) fn read(bytes: &[u8], log: LogId) -> Option<Self> {
        let slots = bytes.chunks(SLOT_BYTES).take(2);
        let told = slots.filter_map(|bytes| {
            let (slot, _) = Slot::read_from_prefix(bytes).ok()?;
            let whole = checksum(&slot, log) == slot.checksum.get();
            (whole && slot.segment.get() != 0).then(|| Self {
                segment: slot.segment.get(),
                next: slot.next.get(),
                position: slot.position.get(),
                first: slot.first.get(),
            })
        });
        told.max_by_key(|vouched| (vouched.next, vouched.position))
    }
}

fn checksum(slot: &Slot, log: LogId) -> u64 {
    xxh3_64_with_seed(&slot.as_bytes()[..32], log.number())
}

/// The file, open for writing.
pub(crate) struct Vouch<S> {
    file: S,
    last: Option<Vouched>,
}

impl<S: Segment> Vouch<S> {
    pub(crate) const fn new(file: S) -> Self {
        Self { file, last: None }
    }

    /// What the file says.
    pub(crate) fn read(&self, log: LogId) -> Option<Vouched> {
        Vouched::read(self.file.bytes(0..self.file.capacity()), log)
    }

    /// Say that retention has removed everything before `first`.
    pub(crate) fn write_first(&mut self, log: LogId, first: u64) {
        if let Some(last) = self.last {
            self.write(log, Vouched { first, ..last });
        }
    }

    /// Say that the log is on disk up to here. Only after the sync that made it so.
    pub(crate) fn write(&mut self, log: LogId, vouched: Vouched) {
        let mut slot = Slot {
            segment: U64::new(vouched.segment),
            next: U64::new(vouched.next),
            position: U32::new(vouched.position),
            reserved: U32::new(0),
            first: U64::new(vouched.first),
            checksum: U64::new(0),
        };
        slot.checksum = U64::new(checksum(&slot, log));
        // One after the other: whatever interrupts this, one of them is whole.
        for place in [0, SLOT_BYTES] {
            self.file.write(place, &[slot.as_bytes()]);
        }
        self.last = Some(vouched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Disk, MemoryStorage};
    use crate::storage::Storage;

    #[test]
    fn one_slot_of_two_is_enough_and_no_flipped_bit_is_believed() {
        let log = LogId::Queue(3);
        let mut storage = MemoryStorage::new(&Disk::new(1));
        let file = storage
            .vouch(log)
            .expect("no fault")
            .expect("there is room");
        let mut vouch = Vouch::new(file);
        assert_eq!(vouch.read(log), None);
        let told = |next| Vouched {
            segment: 7,
            next,
            position: 64 + next as u32,
            first: 1,
        };
        for next in 1..9 {
            vouch.write(log, told(next));
            assert_eq!(vouch.read(log), Some(told(next)));
            assert_eq!(vouch.read(LogId::Queue(4)), None);
        }
        let bytes = vouch.file.bytes(0..1024).to_vec();
        for bit in 0..1024 * 8 {
            let mut spoilt = bytes.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            let read = Vouched::read(&spoilt, log);
            assert!(read == Some(told(8)), "bit {bit}: {read:?}");
        }
    }
}
