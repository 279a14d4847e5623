//! The record: a frame at rest. How its header is laid out, written, recognised and checked.
//!
//! | offset | bytes | field             | meaning                                                     |
//! |-------:|------:|-------------------|-------------------------------------------------------------|
//! |      0 |     4 | `payload_bytes`   | length of the payload that follows the header               |
//! |      4 |     1 | `kind`            | [`RecordKind`]; 0 is never written                          |
//! |      5 |     1 | `signature_kind`  | of the frame, as on the wire; 0 where there is none         |
//! |      6 |     2 | `count`           | messages, that is offsets, in the record                    |
//! |      8 |     8 | `checksum`        | see below                                                   |
//! |     16 |     8 | `base_masked`     | offset of the first message, xor the segment's salt         |
//! |     24 |     8 | `append_time`     | Unix nanoseconds                                            |
//! |     32 |     8 | `endpoint`        | sender                                                      |
//! |     40 |     8 | `sequence`        | of the frame, per (sender, partition)                       |
//! |     48 |     4 | `channel`         |                                                             |
//! |     52 |     4 | `commit_position` | bytes of this segment known to be on disk when written      |
//!
//! All little-endian. A record starts at a multiple of 8; zero bytes fill up the last one.
//!
//! The checksum is xxh3-64, seeded with the segment's salt plus the record's position, over header bytes
//! 0..8, 16..56 and the xxh3-64 of the payload. Masking the base offset costs nothing and lets a search for records after
//! damage dismiss recycled bytes, and payloads that imitate records, without hashing them: such a
//! search stays linear, because nobody outside knows the salt.

use wire::ids::{ChannelId, EndpointId, Offset, Position, Sequence, UnixNanos};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::{self, HEADER_WORDS};
use crate::log::SegmentId;

/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 56;
/// Offsets stay below this, which sets recognisable bounds for a search.
pub(crate) const OFFSET_MAX: u64 = 1 << 48;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct RecordHeader {
    payload_bytes: U32,
    kind: u8,
    signature_kind: u8,
    count: U16,
    checksum: U64,
    base_masked: U64,
    append_time: U64,
    endpoint: U64,
    sequence: U64,
    channel: U32,
    commit_position: U32,
}
const _: () = assert!(size_of::<RecordHeader>() == RECORD_HEADER_BYTES);

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// A frame of a sender; `count` messages.
    Frame = 1,
    /// Last sequence and window of senders, at the start of each segment; count 0. `endpoint` holds
    /// the number of senders in all parts, `channel` the number of parts, `sequence` this part from 0.
    Senders = 2,
    /// An entry of a queue group's journal; count 1. Opaque to this room.
    QueueJournal = 3,
    /// A snapshot of a queue group; count 1. Opaque to this room.
    QueueSnapshot = 4,
    /// Says only, by its commit position, that everything before it is on disk; count 0.
    Note = 5,
}

impl RecordKind {
    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Frame),
            2 => Some(Self::Senders),
            3 => Some(Self::QueueJournal),
            4 => Some(Self::QueueSnapshot),
            5 => Some(Self::Note),
            _ => None,
        }
    }

    /// Whether a record of this kind may hold `count` messages.
    pub(crate) const fn admits(self, count: u16) -> bool {
        match self {
            Self::Frame => count >= 1,
            Self::QueueJournal | Self::QueueSnapshot => count == 1,
            Self::Senders | Self::Note => count == 0,
        }
    }
}

/// What the owner of a log decides about a record; the rest is the log's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRecord {
    /// `Frame`, `QueueJournal` or `QueueSnapshot`.
    pub kind: RecordKind,
    /// Signature kind of the frame as on the wire; 0 for queue records.
    pub signature_kind: u8,
    /// Messages in the payload: at least 1 for a frame, 1 for queue records.
    pub count: u16,
    /// Sender; zero for queue records.
    pub endpoint: EndpointId,
    /// Where the frame goes; zero for queue records.
    pub channel: ChannelId,
    /// The frame's number; zero for queue records.
    pub sequence: Sequence,
    /// When it is appended.
    pub time: UnixNanos,
}

/// Bytes a record with this payload takes in a segment.
pub const fn record_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(8)
}

/// Place and salt that a header is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Binding {
    pub(crate) salt: u64,
    pub(crate) base: u64,
    pub(crate) commit_position: u32,
    pub(crate) at: u32,
}

impl Binding {
    fn seed(&self) -> u64 {
        seed(self.salt, self.at)
    }
}

/// A record is intact only where it was written: a misplaced sector holds none.
fn seed(salt: u64, at: u32) -> u64 {
    salt.wrapping_add(u64::from(at))
}

/// A record's payload as its header tells it.
#[derive(Clone, Copy)]
pub(crate) struct Payload {
    pub(crate) bytes: usize,
    pub(crate) hash: u64,
}

impl Payload {
    #[inline]
    pub(crate) fn of(payload: &[u8]) -> Self {
        Self {
            bytes: payload.len(),
            hash: checksum::of_payload(payload),
        }
    }
}

/// The header of a record with this payload. Put together from whole words: one that is stored field by field and hashed
/// by words waits for each of its stores.
#[inline]
pub(crate) fn seal_header(
    new: &NewRecord,
    bind: Binding,
    payload: Payload,
) -> [u8; RECORD_HEADER_BYTES] {
    let payload_bytes =
        u32::try_from(payload.bytes).expect("a payload fits in a segment of less than 4 GiB");
    let shape = u64::from(payload_bytes)
        | u64::from(new.kind as u8) << 32
        | u64::from(new.signature_kind) << 40
        | u64::from(new.count) << 48;
    let base_masked = bind.base ^ bind.salt;
    let place = u64::from(new.channel.0) | u64::from(bind.commit_position) << 32;
    let (time, endpoint, sequence) = (new.time.0, new.endpoint.0, new.sequence.0);
    let hashed = [
        shape,
        base_masked,
        time,
        endpoint,
        sequence,
        place,
        payload.hash,
    ];
    let checksum = checksum::of_header(&hashed, bind.seed());
    let words = [
        shape,
        checksum,
        base_masked,
        time,
        endpoint,
        sequence,
        place,
    ];
    zerocopy::transmute!(words.map(u64::to_le_bytes))
}

fn checksum(header: &RecordHeader, payload: &[u8], seed: u64) -> u64 {
    let (words, _) = header.as_bytes().as_chunks::<8>();
    let word = |at: usize| u64::from_le_bytes(words[at]);
    let hash = checksum::of_payload(payload);
    let hashed: [u64; HEADER_WORDS] = [word(0), word(2), word(3), word(4), word(5), word(6), hash];
    checksum::of_header(&hashed, seed)
}

/// A place that has the shape of a record: known kind, fitting count, inside the segment, offset in
/// range. Whether it is one, only [`Found::intact`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: u32,
    pub(crate) end: u32,
    pub(crate) base: u64,
    pub(crate) next: u64,
    pub(crate) kind: RecordKind,
    pub(crate) commit_position: u32,
}

/// The shape of a record at `at`, if it has one. Reads the header only.
pub(crate) fn peek(bytes: &[u8], at: u32, salt: u64) -> Option<Found> {
    let (header, rest) = RecordHeader::ref_from_prefix(bytes.get(at as usize..)?).ok()?;
    let kind = RecordKind::from_number(header.kind)?;
    let base = header.base_masked.get() ^ salt;
    let payload_bytes = header.payload_bytes.get() as usize;
    let length = record_bytes(payload_bytes);
    let fits = payload_bytes <= rest.len() && length <= bytes.len() - at as usize;
    let commit_position = header.commit_position.get();
    if base >= OFFSET_MAX || !fits || !kind.admits(header.count.get()) || commit_position > at {
        return None;
    }
    let end = at + u32::try_from(length).ok()?;
    Some(Found {
        at,
        end,
        base,
        next: base + u64::from(header.count.get()),
        kind,
        commit_position,
    })
}

impl Found {
    /// Whether header and payload are what was written, under this salt.
    pub(crate) fn intact(&self, bytes: &[u8], salt: u64) -> bool {
        let header = self.header(bytes);
        checksum(header, self.payload(bytes), seed(salt, self.at)) == header.checksum.get()
    }

    fn header<'a>(&self, bytes: &'a [u8]) -> &'a RecordHeader {
        let (header, _) = RecordHeader::ref_from_prefix(&bytes[self.at as usize..])
            .expect("peek has seen a whole header at this place");
        header
    }

    fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.at as usize + RECORD_HEADER_BYTES;
        &bytes[start..start + self.header(bytes).payload_bytes.get() as usize]
    }

    pub(crate) fn view<'a>(&self, bytes: &'a [u8], segment: SegmentId) -> Record<'a> {
        Record {
            found: *self,
            header: self.header(bytes),
            payload: self.payload(bytes),
            segment,
        }
    }
}

/// A record whose checksum was right when it was read; borrows from the segment.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    found: Found,
    header: &'a RecordHeader,
    payload: &'a [u8],
    segment: SegmentId,
}

impl<'a> Record<'a> {
    /// Offset of its first message.
    pub fn first(&self) -> Offset {
        Offset(self.found.base)
    }

    /// Offset after its last message: where the next record begins.
    pub fn next(&self) -> Offset {
        Offset(self.found.next)
    }

    /// Messages in it.
    pub fn count(&self) -> u16 {
        self.header.count.get()
    }

    /// What it holds.
    pub fn kind(&self) -> RecordKind {
        self.found.kind
    }

    /// Signature kind of the frame, as on the wire.
    pub fn signature_kind(&self) -> u8 {
        self.header.signature_kind
    }

    /// The sender.
    pub fn endpoint(&self) -> EndpointId {
        EndpointId(self.header.endpoint.get())
    }

    /// Where the frame goes.
    pub fn channel(&self) -> ChannelId {
        ChannelId(self.header.channel.get())
    }

    /// The frame's number.
    pub fn sequence(&self) -> Sequence {
        Sequence(self.header.sequence.get())
    }

    /// When it was appended.
    pub fn time(&self) -> UnixNanos {
        UnixNanos(self.header.append_time.get())
    }

    /// The bytes that were appended, verbatim.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The segment it lies in.
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    /// Where in the segment its header starts.
    pub fn position(&self) -> Position {
        Position(self.found.at)
    }

    /// Bytes of its segment that were known to be on disk when it was written.
    pub fn commit_position(&self) -> Position {
        Position(self.found.commit_position)
    }
}

impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("kind", &self.kind())
            .field("first", &self.first())
            .field("count", &self.count())
            .field("endpoint", &self.endpoint())
            .field("channel", &self.channel())
            .field("sequence", &self.sequence())
            .field("payload_bytes", &self.payload.len())
            .field("segment", &self.segment)
            .field("position", &self.position())
            .finish()
    }
}
