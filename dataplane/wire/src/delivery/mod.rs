//! FETCH, DELIVER and SETTLE: how an endpoint takes from its queue.

mod deliver;

pub use deliver::{Deliver, DeliverBuilder, GROUP_BYTES, Group, GroupHeader, Groups};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::{self, Frame, FrameKind, ParseError};
use crate::ids::Sequence;
use crate::signature::Signer;

/// Which of an endpoint's two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Source {
    /// The queue.
    Queue = 0,
    /// What could not be delivered, or was set aside.
    DeadLetters = 1,
}

impl Source {
    pub(crate) fn parse(byte: u8, kind: FrameKind) -> Result<Self, ParseError> {
        match byte {
            0 => Ok(Self::Queue),
            1 => Ok(Self::DeadLetters),
            _ => Err(ParseError::Field {
                kind: kind as u8,
                at: 16,
                value: u64::from(byte),
                need: 1,
            }),
        }
    }
}

/// The body of a FETCH.
///
/// | offset | bytes | field      | meaning                                    |
/// |-------:|------:|------------|--------------------------------------------|
/// |     16 |     1 | `source`   | 0 queue, 1 dead letters                    |
/// |     17 |     3 | `reserved` | zero; anything else is refused             |
/// |     20 |     4 | `messages` | messages added to the credit               |
/// |     24 |     8 | `bytes`    | bytes of messages added to the credit      |
/// |     32 |    32 |            | signature                                  |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FetchFixed {
    source: u8,
    reserved: [u8; 3],
    messages: U32,
    bytes: U64,
}
const _: () = assert!(size_of::<FetchFixed>() == 16);

/// More credit: delivery goes on while at least one message and one byte of it are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// From where.
    pub source: Source,
    /// Messages added.
    pub messages: u32,
    /// Bytes of messages added.
    pub bytes: u64,
}

impl Fetch {
    /// Append the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>, signer: Signer<'_>) {
        let start = frame::begin(out, FrameKind::Fetch, 0, Sequence(0));
        let fixed = FetchFixed {
            source: self.source as u8,
            reserved: [0; 3],
            messages: U32::new(self.messages),
            bytes: U64::new(self.bytes),
        };
        out.extend_from_slice(fixed.as_bytes());
        frame::seal(out, start, signer);
    }

    /// Read a FETCH.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(frame: Frame<'_>) -> Result<Self, ParseError> {
        let fixed = frame.fixed::<FetchFixed>(FrameKind::Fetch)?;
        frame::zero(17, &fixed.reserved)?;
        let source = Source::parse(fixed.source, FrameKind::Fetch)?;
        Ok(Self {
            source,
            messages: fixed.messages.get(),
            bytes: fixed.bytes.get(),
        })
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// This one and all delivered before it are done.
    AcceptUpTo = 1,
    /// This one is done.
    AcceptOne = 2,
    /// This one shall come again, now.
    ReleaseOne = 3,
    /// This one goes to the dead letters.
    DeadLetterOne = 4,
}

impl Outcome {
    /// The outcome with this number.
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::AcceptUpTo),
            2 => Some(Self::AcceptOne),
            3 => Some(Self::ReleaseOne),
            4 => Some(Self::DeadLetterOne),
            _ => None,
        }
    }
}

/// The body of a SETTLE. The frame header's `sequence` is the delivery number.
///
/// | offset | bytes | field      | meaning                                                               |
/// |-------:|------:|------------|-----------------------------------------------------------------------|
/// |     16 |     1 | `source`   | 0 queue, 1 dead letters                                               |
/// |     17 |     1 | `outcome`  | 1 accept up to and including, 2 accept one, 3 release one, 4 dead-letter one |
/// |     18 |     6 | `reserved` | zero; anything else is refused                                        |
/// |     24 |    32 |            | signature                                                             |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SettleFixed {
    source: u8,
    outcome: u8,
    reserved: [u8; 6],
}
const _: () = assert!(size_of::<SettleFixed>() == 8);

/// A delivery's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settle {
    /// From where it came.
    pub source: Source,
    /// The delivery number.
    pub number: Sequence,
    /// What became of it.
    pub outcome: Outcome,
}

impl Settle {
    /// Append the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>, signer: Signer<'_>) {
        let start = frame::begin(out, FrameKind::Settle, 0, self.number);
        let fixed = SettleFixed {
            source: self.source as u8,
            outcome: self.outcome as u8,
            reserved: [0; 6],
        };
        out.extend_from_slice(fixed.as_bytes());
        frame::seal(out, start, signer);
    }

    /// Read a SETTLE.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(frame: Frame<'_>) -> Result<Self, ParseError> {
        let fixed = frame.fixed::<SettleFixed>(FrameKind::Settle)?;
        frame::zero(18, &fixed.reserved)?;
        let source = Source::parse(fixed.source, FrameKind::Settle)?;
        let value = u64::from(fixed.outcome);
        let outcome = Outcome::from_u8(fixed.outcome).ok_or(ParseError::Field {
            kind: FrameKind::Settle as u8,
            at: 17,
            value,
            need: 1,
        })?;
        Ok(Self {
            source,
            number: frame.sequence(),
            outcome,
        })
    }
}
