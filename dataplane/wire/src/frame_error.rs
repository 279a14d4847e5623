//! What can be wrong with bytes of a peer, and how the peer is told.

use crate::limits::*;
use crate::reason::{Notice, Reason};

/// Bytes that are not what the protocol allows. Positions count from the start of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not this protocol.
    #[error("not this protocol: first bytes {0:#010x}")]
    Magic(u32),
    /// A preface whose versions are no range.
    #[error("versions {min} to {max} are no range")]
    Versions {
        /// Lowest version.
        min: u8,
        /// Highest version.
        max: u8,
    },
    /// A frame length that cannot hold header and signature.
    #[error("frame of {got} bytes, at least {need} needed")]
    FrameShort {
        /// The length stated.
        got: u32,
        /// The least length.
        need: u32,
    },
    /// A frame length beyond the limit.
    #[error("frame of {got} bytes, at most {FRAME_BYTES_MAX} allowed")]
    FrameLong {
        /// The length stated.
        got: u32,
    },
    /// A kind that this version does not have.
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    /// A signature kind that does not exist, or that the frame's kind does not allow.
    #[error("frame kind {kind:#04x} cannot carry signature kind {got}")]
    SignatureKind {
        /// The frame's kind.
        kind: u8,
        /// The signature kind.
        got: u8,
    },
    /// Something other than zero where zero is required.
    #[error("reserved field at {at} holds {value:#x}")]
    Reserved {
        /// Where it is.
        at: usize,
        /// What it holds.
        value: u64,
    },
    /// A good frame at the wrong time or from the wrong side.
    #[error("frame kind {0:#04x} is not expected here")]
    UnexpectedFrame(u8),
    /// A body that ends before its fixed fields do.
    #[error("body of frame kind {kind:#04x} has {got} bytes, at least {need} needed")]
    BodyShort {
        /// The frame's kind.
        kind: u8,
        /// Bytes there.
        got: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Bytes behind the end of a body.
    #[error("{bytes} bytes behind the body of frame kind {kind:#04x}")]
    Trailing {
        /// The frame's kind.
        kind: u8,
        /// How many.
        bytes: usize,
    },
    /// A field with a value outside its list or range.
    #[error("field at {at} of frame kind {kind:#04x} holds {value}, {need} is needed")]
    Field {
        /// The frame's kind.
        kind: u8,
        /// Where the field is.
        at: usize,
        /// What it holds.
        value: u64,
        /// A value that it could hold: the least, the largest or the only one.
        need: u64,
    },
    /// A SEND without messages.
    #[error("no messages")]
    NoMessages,
    /// More messages than one SEND may have.
    #[error("{0} messages, at most {MESSAGES_MAX} allowed")]
    TooManyMessages(u16),
    /// A sequence of 0, where numbers begin at 1.
    #[error("sequence 0: numbers begin at 1")]
    SequenceZero,
    /// A message longer than the bytes that are left.
    #[error("message {index} cut short: {got} of {need} bytes")]
    MessageShort {
        /// Which message, from 0.
        index: u16,
        /// Bytes there.
        got: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Bytes behind the last message.
    #[error("{bytes} bytes behind the last of {count} messages")]
    MessageTrailing {
        /// Messages stated.
        count: u16,
        /// Bytes left over.
        bytes: usize,
    },
    /// Reserved bits in a message or in one of its header pairs.
    #[error("reserved bits in message {index}: {value:#x}")]
    MessageReserved {
        /// Which message, from 0.
        index: u16,
        /// What they hold.
        value: u16,
    },
    /// A body beyond the limit.
    #[error("body of {got} bytes, at most {BODY_BYTES_MAX} allowed")]
    BodyLong {
        /// The length stated.
        got: u32,
    },
    /// Headers beyond the limit in bytes.
    #[error("headers of {got} bytes, at most {HEADERS_BYTES_MAX} allowed")]
    HeadersLong {
        /// The length stated.
        got: u32,
    },
    /// Headers beyond the limit in number.
    #[error("more than {HEADERS_MAX} headers")]
    TooManyHeaders,
    /// A header pair that is cut short, has no key, or a key that is not UTF-8.
    #[error("header pair {pair} of message {index} is malformed")]
    HeaderMalformed {
        /// Which message, from 0.
        index: u16,
        /// Which pair, from 0.
        pair: u16,
    },
    /// A name or token in a handshake frame that is not what it should be.
    #[error("handshake field at {at}: {got} seen, {need} needed")]
    Handshake {
        /// Where the field is.
        at: usize,
        /// What was seen: a value or a length.
        got: u64,
        /// What is needed.
        need: u64,
    },
}

impl ParseError {
    /// The reason that the peer is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Magic(_) | Self::Handshake { .. } => Reason::HelloMalformed,
            Self::Versions { .. } => Reason::UnsupportedVersion,
            Self::FrameShort { .. } | Self::BodyShort { .. } => Reason::FrameTooShort,
            Self::FrameLong { .. } | Self::Trailing { .. } => Reason::FrameTooLong,
            Self::UnknownKind(_) => Reason::UnknownKind,
            Self::SignatureKind { .. } => Reason::SignatureKind,
            Self::Reserved { .. } | Self::MessageReserved { .. } | Self::Field { .. } => {
                Reason::ReservedBits
            }
            Self::UnexpectedFrame(_) => Reason::UnexpectedFrame,
            Self::NoMessages => Reason::NoMessages,
            Self::TooManyMessages(_) => Reason::TooManyMessages,
            Self::SequenceZero => Reason::OutOfSequence,
            Self::MessageShort { .. }
            | Self::MessageTrailing { .. }
            | Self::HeaderMalformed { .. } => Reason::MessageMalformed,
            Self::BodyLong { .. } => Reason::BodyTooLong,
            Self::HeadersLong { .. } | Self::TooManyHeaders => Reason::HeadersTooLong,
        }
    }

    /// The notice that the peer is sent: the reason with the value seen and the value needed.
    pub fn notice(&self) -> Notice {
        let (seen, needed) = self.values();
        Notice::new(self.reason(), seen, needed)
    }

    fn values(&self) -> (u64, u64) {
        let long = |bytes: usize| bytes as u64;
        match *self {
            Self::Magic(seen) => (
                u64::from(seen),
                u64::from(u32::from_le_bytes(crate::preface::MAGIC)),
            ),
            Self::Versions { max, .. } => (u64::from(max), u64::from(VERSIONS.1)),
            Self::FrameShort { got, need } => (u64::from(got), u64::from(need)),
            Self::FrameLong { got } => (u64::from(got), long(FRAME_BYTES_MAX)),
            Self::UnknownKind(kind) | Self::UnexpectedFrame(kind) => (u64::from(kind), 0),
            Self::SignatureKind { got, .. } => (u64::from(got), 0),
            Self::Reserved { value, .. } => (value, 0),
            Self::BodyShort { got, need, .. } => (long(got), long(need)),
            Self::Trailing { bytes, .. } => (long(bytes), 0),
            Self::Field { value, need, .. } => (value, need),
            Self::NoMessages | Self::SequenceZero => (0, 1),
            Self::TooManyMessages(count) => (u64::from(count), long(MESSAGES_MAX)),
            Self::MessageShort { got, need, .. } => (long(got), long(need)),
            Self::MessageTrailing { bytes, .. } => (long(bytes), 0),
            Self::MessageReserved { value, .. } => (u64::from(value), 0),
            Self::BodyLong { got } => (u64::from(got), long(BODY_BYTES_MAX)),
            Self::HeadersLong { got } => (u64::from(got), long(HEADERS_BYTES_MAX)),
            Self::TooManyHeaders => (long(HEADERS_MAX) + 1, long(HEADERS_MAX)),
            Self::HeaderMalformed { index, pair } => (u64::from(index), u64::from(pair)),
            Self::Handshake { got, need, .. } => (got, need),
        }
    }
}
