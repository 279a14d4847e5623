//! The segment: a trait for its bytes, and the header that decides its place in the log.
//!
//! | offset | bytes | field      | meaning                                                            |
//! |-------:|------:|------------|--------------------------------------------------------------------|
//! |      0 |     8 | `magic`    | `FBAYSEG` and a zero byte                                          |
//! |      8 |     2 | `version`  | 1                                                                  |
//! |     10 |     1 | `state`    | 1 spare, 2 live                                                    |
//! |     11 |     1 | `reserved` | zero                                                               |
//! |     12 |     4 | `capacity` | bytes of the file                                                  |
//! |     16 |     8 | `id`       | salt of all checksums in the segment                               |
//! |     24 |     8 | `log`      | which log, see [`LogId`]                                           |
//! |     32 |     8 | `base`     | offset of the first message; zero in a spare                       |
//! |     40 |     8 | `previous` | id of the segment before, zero if there is none                    |
//! |     48 |     8 | `created`  | Unix nanoseconds when it became live; no earlier record follows it |
//! |     56 |     8 | `checksum` | xxh3-64 of bytes 0..56                                             |
//!
//! A file keeps its name when it becomes live, so that appending never waits for the file system.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::log::{LogId, SegmentId};
use crate::record::OFFSET_MAX;
use crate::storage::StorageError;

/// Bytes of a segment's header; the first record follows it.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Format of segments this build writes and reads.
pub const SEGMENT_VERSION: u16 = 1;
const MAGIC: [u8; 8] = *b"FBAYSEG\0";

/// The bytes of one open segment. All of them are allocated on the medium.
pub trait Segment {
    /// What somebody else reads it by.
    type View: View;

    /// The id its file is named by; the salt of records written from now on.
    fn id(&self) -> SegmentId;
    /// How many bytes it has.
    fn capacity(&self) -> usize;
    /// A part of its bytes, as the process sees them.
    fn bytes(&self, range: Range<usize>) -> &[u8];
    /// Copy `parts`, one after the other, to `at`. Durable only after a sync.
    fn write(&mut self, at: usize, parts: &[&[u8]]);
    /// As `write`, behind everything appended so far. It may stay in memory until [`Segment::flush`].
    fn append(&mut self, at: usize, parts: &[&[u8]]) {
        self.write(at, parts);
    }
    /// Hand everything appended to the medium: it survives the process from here on, and the next sync makes
    /// it durable.
    ///
    /// # Errors
    /// What is on the medium is unknown then, as after a failed sync.
    fn flush(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
    /// Nothing more is appended for now; memory kept for that is given back.
    fn settle(&mut self) {}
    /// A way to read what was flushed, for somebody who is not the owner: it shows bytes of the medium's file, not
    /// of this process.
    ///
    /// # Errors
    /// The medium gives no second way to the segment.
    fn view(&self) -> Result<Self::View, StorageError>;
}

/// The bytes of a segment, for a reader who is not its owner. A clone shows the same bytes.
pub trait View: Clone {
    /// A part of its bytes: only what the owner has told to be there and still keeps.
    fn bytes(&self, range: Range<usize>) -> &[u8];
    /// The owner has told of bytes up to `end`. Nothing needs to be done where they are the file's own.
    fn refresh(&mut self, end: usize) {
        let _ = end;
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct HeaderBytes {
    magic: [u8; 8],
    version: U16,
    state: u8,
    reserved: u8,
    capacity: U32,
    id: U64,
    log: U64,
    base: U64,
    previous: U64,
    created: U64,
    checksum: U64,
}
const _: () = assert!(size_of::<HeaderBytes>() == SEGMENT_HEADER_BYTES);

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentHeader {
    /// Prepared, holds nothing.
    Spare { id: SegmentId },
    /// Part of the log.
    Live {
        id: SegmentId,
        capacity: u32,
        base: u64,
        previous: u64,
        created: u64,
    },
    /// Written by another version of this program.
    Foreign { version: u16 },
    /// Unreadable. `torn`: magic, log and capacity are this file's, so that a header caught in the
    /// middle of being written is a possible cause. Its id may be an earlier one: renewing a segment
    /// names it first.
    Damaged { torn: bool },
}

fn encode(
    state: u8,
    id: SegmentId,
    capacity: usize,
    log: LogId,
    live: [u64; 3],
) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = HeaderBytes {
        magic: MAGIC,
        version: U16::new(SEGMENT_VERSION),
        state,
        reserved: 0,
        capacity: U32::new(u32::try_from(capacity).expect("limits keep segments below 4 GiB")),
        id: U64::new(id.0),
        log: U64::new(log.number()),
        base: U64::new(live[0]),
        previous: U64::new(live[1]),
        created: U64::new(live[2]),
        checksum: U64::new(0),
    };
    header.checksum = U64::new(xxh3_64(&header.as_bytes()[..56]));
    zerocopy::transmute!(header)
}

/// The header of a spare. A spare says what it is, so that a zeroed sector never makes a live segment
/// look like one.
pub(crate) fn spare_header(
    id: SegmentId,
    capacity: usize,
    log: LogId,
) -> [u8; SEGMENT_HEADER_BYTES] {
    encode(1, id, capacity, log, [0; 3])
}

/// The header of a live segment.
pub(crate) fn live_header(
    id: SegmentId,
    capacity: usize,
    log: LogId,
    base: u64,
    previous: u64,
    created: u64,
) -> [u8; SEGMENT_HEADER_BYTES] {
    encode(2, id, capacity, log, [base, previous, created])
}

impl SegmentHeader {
    /// Read the header of a file in the folder of `log`.
    pub(crate) fn parse(bytes: &[u8; SEGMENT_HEADER_BYTES], log: LogId, file_bytes: u64) -> Self {
        let header: HeaderBytes = zerocopy::transmute!(*bytes);
        let whole = xxh3_64(&bytes[..56]) == header.checksum.get() && header.magic == MAGIC;
        if whole && header.version.get() != SEGMENT_VERSION {
            return Self::Foreign {
                version: header.version.get(),
            };
        }
        let ours =
            header.magic == MAGIC && header.log.get() == log.number() && header.reserved == 0;
        let id = SegmentId(header.id.get());
        match header.state {
            1 if whole && ours => Self::Spare { id },
            2 if whole && ours && header.base.get() < OFFSET_MAX => Self::Live {
                id,
                capacity: header.capacity.get(),
                base: header.base.get(),
                previous: header.previous.get(),
                created: header.created.get(),
            },
            _ => {
                let capacity = u64::from(header.capacity.get());
                Self::Damaged {
                    torn: ours && !whole && capacity == file_bytes,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId::Queue(3);
    const NAME: SegmentId = SegmentId(7);

    #[test]
    fn a_header_reads_back_and_any_flipped_bit_is_damage() {
        let live = live_header(NAME, 4096, LOG, 5, 6, 8);
        let want = SegmentHeader::Live {
            id: NAME,
            capacity: 4096,
            base: 5,
            previous: 6,
            created: 8,
        };
        assert_eq!(SegmentHeader::parse(&live, LOG, 4096), want);
        let spare = spare_header(NAME, 4096, LOG);
        assert_eq!(
            SegmentHeader::parse(&spare, LOG, 4096),
            SegmentHeader::Spare { id: NAME }
        );
        for bit in 0..SEGMENT_HEADER_BYTES * 8 {
            for mut bytes in [live, spare] {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let header = SegmentHeader::parse(&bytes, LOG, 4096);
                assert!(
                    matches!(header, SegmentHeader::Damaged { .. }),
                    "bit {bit}: {header:?}"
                );
            }
        }
    }

    #[test]
    fn a_header_of_another_log_or_version_is_not_ours() {
        let live = live_header(NAME, 4096, LOG, 5, 6, 8);
        let elsewhere = SegmentHeader::parse(&live, LogId::Queue(4), 4096);
        assert_eq!(elsewhere, SegmentHeader::Damaged { torn: false });
        let mut newer = live;
        newer[8] = 2;
        let sum = xxh3_64(&newer[..56]).to_le_bytes();
        newer[56..].copy_from_slice(&sum);
        assert_eq!(
            SegmentHeader::parse(&newer, LOG, 4096),
            SegmentHeader::Foreign { version: 2 }
        );
    }

    #[test]
    fn zeroes_are_neither_spare_nor_live() {
        let header = SegmentHeader::parse(&[0; SEGMENT_HEADER_BYTES], LOG, 4096);
        assert_eq!(header, SegmentHeader::Damaged { torn: false });
    }
}
