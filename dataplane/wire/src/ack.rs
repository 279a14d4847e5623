//! ACK and REJECT: the server's two answers to SEND and RELAY.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::{self, Frame, FrameHeader, FrameKind, HEADER_BYTES, ParseError, SignatureKind};
use crate::ids::{AckMode, Offset, PartitionId, Sequence};
use crate::reason::{Notice, NoticeFixed};
use crate::signature::{Signer, TAG_BYTES};

/// The body of an ACK. The frame header's `sequence` is cumulative: this number and all below it.
///
/// | offset | bytes | field           | meaning                                                     |
/// |-------:|------:|-----------------|-------------------------------------------------------------|
/// |     16 |     4 | `partition`     | the stream: a partition, or `RELAY_STREAM` for relay numbers |
/// |     20 |     1 | `ack_mode`      | 1 local, 2 durable: what is promised                        |
/// |     21 |     3 | `reserved`      | zero; anything else is refused                              |
/// |     24 |     8 | `offset`        | of the last message covered; 0 on `RELAY_STREAM`            |
/// |     32 |     4 | `credit_frames` | frames that may be unacked at once                          |
/// |     36 |     4 | `credit_bytes`  | bytes of frames that may be unacked at once                 |
/// |     40 |    32 |                 | signature                                                   |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AckFixed {
    partition: U32,
    ack_mode: u8,
    reserved: [u8; 3],
    offset: U64,
    credit_frames: U32,
    credit_bytes: U32,
}
const _: () = assert!(size_of::<AckFixed>() == 24);

/// Bytes of an ACK frame.
pub const ACK_BYTES: usize = 72;

/// Everything up to and including `sequence` on a stream is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The stream.
    pub partition: PartitionId,
    /// The last number covered.
    pub sequence: Sequence,
    /// What is promised.
    pub ack_mode: AckMode,
    /// The offset of the last message covered.
    pub offset: Offset,
    /// Frames that may be unacked at once.
    pub credit_frames: u32,
    /// Bytes of frames that may be unacked at once.
    pub credit_bytes: u32,
}

impl Ack {
    /// Append the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>, signer: Signer<'_>) {
        let start = frame::begin(out, FrameKind::Ack, 0, self.sequence);
        out.extend_from_slice(self.fixed().as_bytes());
        frame::seal(out, start, signer);
    }

    /// The frame up to its signature: what a session signs, as [`crate::signature::SignJob::session`] does.
    pub fn signed_bytes(&self) -> [u8; ACK_BYTES - TAG_BYTES] {
        let header = FrameHeader {
            frame_bytes: U32::new(ACK_BYTES as u32),
            kind: FrameKind::Ack as u8,
            signature_kind: SignatureKind::Session as u8,
            count: U16::ZERO,
            sequence: U64::new(self.sequence.0),
        };
        let mut bytes = [0; ACK_BYTES - TAG_BYTES];
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        bytes[HEADER_BYTES..].copy_from_slice(self.fixed().as_bytes());
        bytes
    }

    fn fixed(&self) -> AckFixed {
        AckFixed {
            partition: U32::new(self.partition.0),
            ack_mode: self.ack_mode as u8,
            reserved: [0; 3],
            offset: U64::new(self.offset.0),
            credit_frames: U32::new(self.credit_frames),
            credit_bytes: U32::new(self.credit_bytes),
        }
    }

    /// Read an ACK.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(frame: Frame<'_>) -> Result<Self, ParseError> {
        let fixed = frame.fixed::<AckFixed>(FrameKind::Ack)?;
        let ack_mode = AckMode::from_u8(fixed.ack_mode).ok_or(ParseError::Field {
            kind: FrameKind::Ack as u8,
            at: 20,
            value: u64::from(fixed.ack_mode),
            need: 1,
        })?;
        frame::zero(21, &fixed.reserved)?;
        Ok(Self {
            partition: PartitionId(fixed.partition.get()),
            sequence: frame.sequence(),
            ack_mode,
            offset: Offset(fixed.offset.get()),
            credit_frames: fixed.credit_frames.get(),
            credit_bytes: fixed.credit_bytes.get(),
        })
    }
}

/// The body of a REJECT. The frame header's `sequence` is the number refused.
///
/// | offset | bytes | field       | meaning                                                        |
/// |-------:|------:|-------------|----------------------------------------------------------------|
/// |     16 |     4 | `partition` | the stream: a partition, `RELAY_STREAM`, `QUEUE_STREAM` or `NO_STREAM` |
/// |     20 |     4 | `reserved`  | zero; anything else is refused                                 |
/// |     24 |    24 | `notice`    | why                                                            |
/// |     48 |    32 |             | signature                                                      |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RejectFixed {
    partition: U32,
    reserved: U32,
    notice: NoticeFixed,
}
const _: () = assert!(size_of::<RejectFixed>() == 32);

/// Bytes of a REJECT frame.
pub const REJECT_BYTES: usize = 80;

/// Number `sequence` on a stream is refused, and is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// The stream.
    pub partition: PartitionId,
    /// The number refused; on `QUEUE_STREAM` the delivery number, 0 for a FETCH.
    pub sequence: Sequence,
    /// Why.
    pub notice: Notice,
}

impl Reject {
    /// Append the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>, signer: Signer<'_>) {
        let start = frame::begin(out, FrameKind::Reject, 0, self.sequence);
        out.extend_from_slice(self.fixed().as_bytes());
        frame::seal(out, start, signer);
    }

    /// The frame up to its signature: what a session signs, as [`crate::signature::SignJob::session`] does.
    pub fn signed_bytes(&self) -> [u8; REJECT_BYTES - TAG_BYTES] {
        let header = FrameHeader {
            frame_bytes: U32::new(REJECT_BYTES as u32),
            kind: FrameKind::Reject as u8,
            signature_kind: SignatureKind::Session as u8,
            count: U16::ZERO,
            sequence: U64::new(self.sequence.0),
        };
        let mut bytes = [0; REJECT_BYTES - TAG_BYTES];
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        bytes[HEADER_BYTES..].copy_from_slice(self.fixed().as_bytes());
        bytes
    }

    fn fixed(&self) -> RejectFixed {
        RejectFixed {
            partition: U32::new(self.partition.0),
            reserved: U32::ZERO,
            notice: self.notice.to_fixed(),
        }
    }

    /// Read a REJECT.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(frame: Frame<'_>) -> Result<Self, ParseError> {
        let fixed = frame.fixed::<RejectFixed>(FrameKind::Reject)?;
        frame::zero(20, fixed.reserved.as_bytes())?;
        Ok(Self {
            partition: PartitionId(fixed.partition.get()),
            sequence: frame.sequence(),
            notice: Notice::from_fixed(&fixed.notice, FrameKind::Reject, 24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;
    use crate::signature::{MacKey, SignJob};

    #[test]
    fn an_ack_that_is_signed_later_has_the_bytes_of_one_signed_at_once() {
        let key = MacKey::new(b"server");
        let ack = Ack {
            partition: PartitionId(7),
            sequence: Sequence(8),
            ack_mode: AckMode::Durable,
            offset: Offset(9),
            credit_frames: 10,
            credit_bytes: 11,
        };
        let (mut at_once, frame_index) = (Vec::new(), 12);
        let signer = Signer::Session {
            key: &key,
            frame_index,
        };
        ack.encode(&mut at_once, signer);
        let signed = ack.signed_bytes();
        let tag = SignJob::session(&key, frame_index, &signed).sign();
        assert_eq!(at_once, [&signed[..], &tag].concat());
    }

    #[test]
    fn a_reject_that_is_signed_later_has_the_bytes_of_one_signed_at_once() {
        let key = MacKey::new(b"server");
        let reject = Reject {
            partition: PartitionId(7),
            sequence: Sequence(8),
            notice: Notice::new(Reason::BadSignature, 9, 10).retry_after(11),
        };
        let (mut at_once, frame_index) = (Vec::new(), 12);
        let signer = Signer::Session {
            key: &key,
            frame_index,
        };
        reject.encode(&mut at_once, signer);
        let signed = reject.signed_bytes();
        let tag = SignJob::session(&key, frame_index, &signed).sign();
        assert_eq!(at_once, [&signed[..], &tag].concat());
    }
}
