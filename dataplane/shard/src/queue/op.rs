//! One change to the queues of a group, as the journal stores it.
//!
//! Live changes and recovery go through the same operations, so replaying a journal rebuilds exactly
//! the queues that wrote it. Says what changes, never why it may.

use wire::ids::{EndpointId, Offset, PartitionId, UnixNanos};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::run::Run;

/// Which of an endpoint's two lists is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Source {
    /// Messages that wait for delivery.
    Queue = 0,
    /// Messages that were delivered too often without being settled.
    DeadLetters = 1,
}

impl Source {
    /// The source with this number on the wire and in the journal.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Queue),
            1 => Some(Self::DeadLetters),
            _ => None,
        }
    }
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OpKind {
    /// Everything of `partition` below `offset` has been fanned out.
    Watermark = 1,
    /// A run joins the list.
    Add = 2,
    /// `number .. number + offset` are settled (accepted, expired, withdrawn or dropped).
    Settle = 3,
    /// Message `number` moves to the dead letters, where it gets the number in `offset`.
    Bury = 4,
    /// The queue reads `partition` itself from `offset` on.
    Park = 5,
    /// The queue has caught up with `partition`.
    Unpark = 6,
    /// `partition` ends at `offset`: its lost tail will be given out again.
    Clamp = 7,
    /// A snapshot of all queues begins.
    SnapshotBegin = 8,
    /// The list begins afresh and empty at `number` (snapshot, before the list's runs).
    List = 9,
    /// The snapshot is complete.
    SnapshotEnd = 10,
    /// The next number is at least `number` (snapshot, after the list's runs).
    Next = 11,
    /// Queues that are made from now on begin at `number`: lower ones may have been given to queues that damage hid.
    Floor = 12,
}

impl OpKind {
    /// Whether fan-out makes it again, out of the log, when it is lost together with the watermark it was written with.
    pub(crate) fn is_made_again(self) -> bool {
        matches!(
            self,
            Self::Watermark | Self::Add | Self::Park | Self::Unpark
        )
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Watermark,
            2 => Self::Add,
            3 => Self::Settle,
            4 => Self::Bury,
            5 => Self::Park,
            6 => Self::Unpark,
            7 => Self::Clamp,
            8 => Self::SnapshotBegin,
            9 => Self::List,
            10 => Self::SnapshotEnd,
            11 => Self::Next,
            12 => Self::Floor,
            _ => return None,
        })
    }
}

/// | offset | bytes | field       | meaning                                              |
/// |-------:|------:|-------------|------------------------------------------------------|
/// |      0 |     1 | `kind`      | an `OpKind`                                          |
/// |      1 |     1 | `source`    | 0 queue, 1 dead letters                              |
/// |      2 |     2 | `reserved`  | zero                                                 |
/// |      4 |     4 | `partition` | zero where none is meant                             |
/// |      8 |     8 | `endpoint`  | zero where none is meant                             |
/// |     16 |     8 | `number`    | queue number                                         |
/// |     24 |     8 | `offset`    | offset in the partition, or see the kind             |
/// |     32 |     4 | `count`     | messages of a run                                    |
/// |     36 |     4 | `reserved`  | zero                                                 |
/// |     40 |     8 | `bytes`     | bytes of a run                                       |
/// |     48 |     8 | `time`      | when the run came, unix nanoseconds                  |
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub(crate) struct Op {
    kind: u8,
    source: u8,
    reserved: U16,
    partition: U32,
    endpoint: U64,
    number: U64,
    offset: U64,
    count: U32,
    reserved2: U32,
    bytes: U64,
    time: U64,
}
/// Bytes of one operation in the journal.
pub(crate) const OP_BYTES: usize = 56;
const _: () = assert!(size_of::<Op>() == OP_BYTES);

impl Op {
    fn new(kind: OpKind) -> Self {
        Self {
            kind: kind as u8,
            source: 0,
            reserved: U16::ZERO,
            partition: U32::ZERO,
            endpoint: U64::ZERO,
            number: U64::ZERO,
            offset: U64::ZERO,
            count: U32::ZERO,
            reserved2: U32::ZERO,
            bytes: U64::ZERO,
            time: U64::ZERO,
        }
    }

    fn of(kind: OpKind, endpoint: EndpointId, source: Source) -> Self {
        Self {
            source: source as u8,
            endpoint: U64::new(endpoint.0),
            ..Self::new(kind)
        }
    }

    fn at(self, partition: PartitionId, offset: Offset) -> Self {
        Self {
            partition: U32::new(partition.0),
            offset: U64::new(offset.0),
            ..self
        }
    }

    pub(crate) fn watermark(partition: PartitionId, next: Offset) -> Self {
        Self::new(OpKind::Watermark).at(partition, next)
    }

    pub(crate) fn add(endpoint: EndpointId, source: Source, run: &Run) -> Self {
        Self {
            number: U64::new(run.number),
            count: U32::new(run.count),
            bytes: U64::new(run.bytes),
            time: U64::new(run.time.0),
            ..Self::of(OpKind::Add, endpoint, source).at(run.partition, run.first)
        }
    }

    pub(crate) fn settle(endpoint: EndpointId, source: Source, from: u64, to: u64) -> Self {
        let (number, offset) = (U64::new(from), U64::new(to - from));
        Self {
            number,
            offset,
            ..Self::of(OpKind::Settle, endpoint, source)
        }
    }

    pub(crate) fn bury(
        endpoint: EndpointId,
        number: u64,
        dead_number: u64,
        time: UnixNanos,
    ) -> Self {
        Self {
            number: U64::new(number),
            offset: U64::new(dead_number),
            time: U64::new(time.0),
            ..Self::of(OpKind::Bury, endpoint, Source::Queue)
        }
    }

    pub(crate) fn park(endpoint: EndpointId, partition: PartitionId, from: Offset) -> Self {
        Self::of(OpKind::Park, endpoint, Source::Queue).at(partition, from)
    }

    pub(crate) fn unpark(endpoint: EndpointId, partition: PartitionId) -> Self {
        Self::of(OpKind::Unpark, endpoint, Source::Queue).at(partition, Offset(0))
    }

    pub(crate) fn clamp(partition: PartitionId, end: Offset) -> Self {
        Self::new(OpKind::Clamp).at(partition, end)
    }

    pub(crate) fn snapshot_begin() -> Self {
        Self::new(OpKind::SnapshotBegin)
    }

    pub(crate) fn snapshot_end() -> Self {
        Self::new(OpKind::SnapshotEnd)
    }

    pub(crate) fn list(endpoint: EndpointId, source: Source, head: u64) -> Self {
        Self {
            number: U64::new(head),
            ..Self::of(OpKind::List, endpoint, source)
        }
    }

    pub(crate) fn next(endpoint: EndpointId, source: Source, next: u64) -> Self {
        Self {
            number: U64::new(next),
            ..Self::of(OpKind::Next, endpoint, source)
        }
    }

    pub(crate) fn floor(first: u64) -> Self {
        Self {
            number: U64::new(first),
            ..Self::new(OpKind::Floor)
        }
    }

    /// `None` for a kind this version does not know.
    pub(crate) fn kind(&self) -> Option<OpKind> {
        OpKind::from_number(self.kind)
    }

    pub(crate) fn source(&self) -> Option<Source> {
        Source::from_number(self.source)
    }

    pub(crate) fn endpoint(&self) -> EndpointId {
        EndpointId(self.endpoint.get())
    }

    pub(crate) fn partition(&self) -> PartitionId {
        PartitionId(self.partition.get())
    }

    pub(crate) fn number(&self) -> u64 {
        self.number.get()
    }

    pub(crate) fn offset(&self) -> Offset {
        Offset(self.offset.get())
    }

    pub(crate) fn time(&self) -> UnixNanos {
        UnixNanos(self.time.get())
    }

    /// The run of an `Add`.
    pub(crate) fn run(&self) -> Run {
        Run {
            partition: self.partition(),
            count: self.count.get(),
            first: self.offset(),
            number: self.number(),
            bytes: self.bytes.get(),
            time: self.time(),
        }
    }

    /// The list and the number below which this operation lets messages go out, once it is safe.
    pub(crate) fn reveals(&self) -> Option<(Source, u64)> {
        match self.kind()? {
            OpKind::Add => Some((self.source()?, self.run().end())),
            OpKind::Bury => Some((Source::DeadLetters, self.offset().0 + 1)),
            _ => None,
        }
    }

    /// Let this `Add` take the messages that follow its own.
    pub(crate) fn extend(&mut self, run: &Run) {
        self.count = U32::new(self.count.get() + run.count);
        self.bytes = U64::new(self.bytes.get() + run.bytes);
    }
}

/// The operations of a journal payload; `None` when it is no whole number of them.
pub(crate) fn parse(payload: &[u8]) -> Option<&[Op]> {
    <[Op]>::ref_from_bytes(payload).ok()
}

/// The bytes of operations, as the journal stores them.
pub(crate) fn bytes(ops: &[Op]) -> &[u8] {
    ops.as_bytes()
}
