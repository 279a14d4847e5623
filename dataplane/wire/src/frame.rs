//! The frame: a header of 16 bytes, a body, a signature. This module cuts a byte stream into frames and
//! refuses headers that no frame may have; it never looks into a body and checks no signature.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use crate::frame_error::ParseError;
use crate::ids::Sequence;
use crate::limits::FRAME_BYTES_MAX;
use crate::signature::Signer;

/// Bytes of the frame header.
pub const HEADER_BYTES: usize = 16;

/// The frame header.
///
/// | offset | bytes | field            | meaning                                                    |
/// |-------:|------:|------------------|------------------------------------------------------------|
/// |      0 |     4 | `frame_bytes`    | whole frame: header, body, signature; `FRAME_BYTES_MAX` at most |
/// |      4 |     1 | `kind`           | [`FrameKind`]; anything else is refused                    |
/// |      5 |     1 | `signature_kind` | [`SignatureKind`]; must be one the kind allows             |
/// |      6 |     2 | `count`          | messages, entries or groups; zero for kinds that have none |
/// |      8 |     8 | `sequence`       | see the kind; zero for kinds that have none                |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FrameHeader {
    /// Whole frame.
    pub frame_bytes: U32,
    /// A [`FrameKind`].
    pub kind: u8,
    /// A [`SignatureKind`].
    pub signature_kind: u8,
    /// Messages, entries or groups.
    pub count: U16,
    /// The number of this frame in its stream.
    pub sequence: U64,
}
const _: () = assert!(size_of::<FrameHeader>() == HEADER_BYTES);

impl FrameHeader {
    /// Kind and signature kind of a header that a frame of `length` bytes may have; `None` says that one of
    /// [`FrameHeader::fault`]'s answers is due. Only the answer for good frames, the usual one, is small
    /// enough to be inlined.
    #[inline]
    fn kinds(&self, length: usize) -> Option<(FrameKind, SignatureKind)> {
        let kind = FrameKind::from_u8(self.kind)?;
        let signature_kind = SignatureKind::from_u8(self.signature_kind)?;
        let good = kind.allows(signature_kind)
            & (length >= HEADER_BYTES + signature_kind.bytes())
            & ((self.count == U16::ZERO) | kind.counts())
            & ((self.sequence == U64::ZERO) | kind.numbers());
        good.then_some((kind, signature_kind))
    }

    /// The first fault of a header that has one.
    #[cold]
    fn fault(&self, length: usize) -> ParseError {
        let Some(kind) = FrameKind::from_u8(self.kind) else {
            return ParseError::UnknownKind(self.kind);
        };
        let signature_kind = SignatureKind::from_u8(self.signature_kind);
        let Some(signature_kind) = signature_kind.filter(|signature| kind.allows(*signature))
        else {
            return ParseError::SignatureKind {
                kind: kind as u8,
                got: self.signature_kind,
            };
        };
        let need = HEADER_BYTES + signature_kind.bytes();
        if length < need {
            return ParseError::FrameShort {
                got: length as u32,
                need: need as u32,
            };
        }
        let (at, value) = match self.count.get() {
            0 => (8, self.sequence.get()),
            _ if kind.counts() => (8, self.sequence.get()),
            count => (6, u64::from(count)),
        };
        ParseError::Reserved { at, value }
    }
}

/// What a frame is. The high bit tells the direction: set when the server sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Client: who I am, and the proof.
    Hello = 0x01,
    /// Client: messages to one channel.
    Send = 0x02,
    /// Client: somebody else's SEND, signed by them.
    Relay = 0x03,
    /// Client: deliver so much more from my queue.
    Fetch = 0x04,
    /// Client: a delivery's outcome.
    Settle = 0x05,
    /// Client: are you there?
    Ping = 0x06,
    /// Client: I am leaving.
    Bye = 0x07,
    /// Server: the session is open.
    Welcome = 0x81,
    /// Server: the session is not opened.
    Refused = 0x82,
    /// Server: all frames up to this one are in the log.
    Ack = 0x83,
    /// Server: this frame is not in the log and never will be.
    Reject = 0x84,
    /// Server: messages of your queue.
    Deliver = 0x85,
    /// Server: I am here.
    Pong = 0x86,
    /// Server: this connection ends.
    Goaway = 0x87,
}

impl FrameKind {
    /// Every kind, clients' first.
    pub const ALL: [Self; 14] = [
        Self::Hello,
        Self::Send,
        Self::Relay,
        Self::Fetch,
        Self::Settle,
        Self::Ping,
        Self::Bye,
        Self::Welcome,
        Self::Refused,
        Self::Ack,
        Self::Reject,
        Self::Deliver,
        Self::Pong,
        Self::Goaway,
    ];

    /// The kind with this number.
    #[inline]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        let (first, start) = if byte < 0x80 { (0x01, 0) } else { (0x81, 7) };
        if byte < first || byte >= first + 7 {
            return None;
        }
        Some(Self::ALL[start + (byte - first) as usize])
    }

    /// Whether clients send this kind; the server sends the others.
    pub const fn from_client(self) -> bool {
        (self as u8) < 0x80
    }

    #[inline]
    const fn counts(self) -> bool {
        matches!(self, Self::Send | Self::Welcome | Self::Deliver)
    }

    #[inline]
    const fn numbers(self) -> bool {
        !matches!(
            self,
            Self::Hello | Self::Fetch | Self::Bye | Self::Refused | Self::Goaway
        )
    }

    #[inline]
    const fn allows(self, signature: SignatureKind) -> bool {
        match self {
            Self::Hello => matches!(signature, SignatureKind::Key),
            Self::Send => !matches!(signature, SignatureKind::None),
            Self::Refused => matches!(signature, SignatureKind::None),
            Self::Goaway => matches!(signature, SignatureKind::None | SignatureKind::Session),
            _ => matches!(signature, SignatureKind::Session),
        }
    }
}

/// How a frame is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SignatureKind {
    /// Not at all: REFUSED, and GOAWAY before there is a session.
    None = 0,
    /// HMAC-SHA256 with the session's key of that direction.
    Session = 1,
    /// HMAC-SHA256 with a key of the endpoint: HELLO and envelopes.
    Key = 2,
    /// Ed25519 with a key of the endpoint: envelopes.
    Ed25519 = 3,
}

impl SignatureKind {
    /// The kind with this number.
    #[inline]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Session),
            2 => Some(Self::Key),
            3 => Some(Self::Ed25519),
            _ => None,
        }
    }

    /// Bytes of the signature behind the body.
    #[inline]
    pub const fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Session | Self::Key => 32,
            Self::Ed25519 => 64,
        }
    }
}

/// One whole frame whose header has been checked: the kind is known, the signature kind is one it
/// allows, fields that the kind does not use are zero, and the bytes are exactly as many as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    kind: FrameKind,
    signature_kind: SignatureKind,
    count: u16,
    sequence: Sequence,
}

impl<'a> Frame<'a> {
    /// What it is.
    #[inline]
    pub fn kind(&self) -> FrameKind {
        self.kind
    }

    /// How it is signed.
    #[inline]
    pub fn signature_kind(&self) -> SignatureKind {
        self.signature_kind
    }

    /// Messages, entries or groups.
    #[inline]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Its number.
    #[inline]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The whole frame.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What lies between header and signature.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        &self.signed()[HEADER_BYTES..]
    }

    /// Header and body: what the signature covers.
    #[inline]
    pub fn signed(&self) -> &'a [u8] {
        &self.bytes[..self.bytes.len() - self.signature_kind.bytes()]
    }

    /// The signature; empty when there is none.
    #[inline]
    pub fn signature(&self) -> &'a [u8] {
        &self.bytes[self.bytes.len() - self.signature_kind.bytes()..]
    }

    /// The fixed part of a body of exactly that length.
    pub(crate) fn fixed<T: FromBytes + KnownLayout + Immutable + Unaligned>(
        &self,
        kind: FrameKind,
    ) -> Result<&'a T, ParseError> {
        let (fixed, rest) = self.prefix::<T>(kind)?;
        if !rest.is_empty() {
            return Err(ParseError::Trailing {
                kind: kind as u8,
                bytes: rest.len(),
            });
        }
        Ok(fixed)
    }

    /// The fixed part at the start of a body, and what follows it.
    #[inline]
    pub(crate) fn prefix<T: FromBytes + KnownLayout + Immutable + Unaligned>(
        &self,
        kind: FrameKind,
    ) -> Result<(&'a T, &'a [u8]), ParseError> {
        if self.kind != kind {
            return Err(ParseError::UnexpectedFrame(self.kind as u8));
        }
        let body = self.body();
        T::ref_from_prefix(body).map_err(|_| ParseError::BodyShort {
            kind: kind as u8,
            got: body.len(),
            need: size_of::<T>(),
        })
    }
}

/// The length of the first frame in `bytes`; `None` when fewer than 4 bytes are there.
///
/// # Errors
/// A length that no frame may have, before its bytes are waited for.
#[inline]
pub fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>, ParseError> {
    let Some(head) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let got = u32::from_le_bytes(*head);
    match got as usize {
        short if short < HEADER_BYTES => Err(ParseError::FrameShort {
            got,
            need: HEADER_BYTES as u32,
        }),
        long if long > FRAME_BYTES_MAX => Err(ParseError::FrameLong { got }),
        fits => Ok(Some(fits)),
    }
}

/// Cut the first frame off `bytes` and return it with what follows; `None` asks for more bytes (how
/// many, [`frame_bytes`] tells).
///
/// # Errors
/// A header that no frame may have, as soon as its 16 bytes are there. The stream cannot be followed
/// any further: the connection is to be closed with the error's notice.
#[inline]
pub fn split(bytes: &[u8]) -> Result<Option<(Frame<'_>, &[u8])>, ParseError> {
    match split_whole(bytes) {
        Some(found) => Ok(Some(found)),
        None => unsplit(bytes).map(|()| None),
    }
}

/// As [`split`] for a good frame that is whole, the usual one; `None` says that `split` has more to say. Small enough to be
/// inlined, and nothing of it goes through memory.
#[inline]
pub fn split_whole(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (header, _) = FrameHeader::ref_from_prefix(bytes).ok()?;
    let length = header.frame_bytes.get() as usize;
    if length > FRAME_BYTES_MAX {
        return None;
    }
    // A length that is too short for its signature, or for the header itself, is refused with the kinds.
    let (kind, signature_kind) = header.kinds(length)?;
    let (bytes, rest) = bytes.split_at_checked(length)?;
    let frame = Frame {
        bytes,
        kind,
        signature_kind,
        count: header.count.get(),
        sequence: Sequence(header.sequence.get()),
    };
    Some((frame, rest))
}

/// What is wrong with the start of a frame that is not whole, if anything.
#[cold]
fn unsplit(bytes: &[u8]) -> Result<(), ParseError> {
    let Some(length) = frame_bytes(bytes)? else {
        return Ok(());
    };
    let Ok((header, _)) = FrameHeader::ref_from_prefix(bytes) else {
        return Ok(());
    };
    match header.kinds(length) {
        Some(_) => Ok(()),
        None => Err(header.fault(length)),
    }
}

/// Begin a frame at the end of `out`: a header whose length and signature kind [`seal`] fills in.
/// Returns where it starts.
pub fn begin(out: &mut Vec<u8>, kind: FrameKind, count: u16, sequence: Sequence) -> usize {
    let start = out.len();
    let header = FrameHeader {
        frame_bytes: U32::ZERO,
        kind: kind as u8,
        signature_kind: 0,
        count: U16::new(count),
        sequence: U64::new(sequence.0),
    };
    out.extend_from_slice(header.as_bytes());
    start
}

/// End the frame that starts at `start` and runs to the end of `out`: fill in its length and signature
/// kind, then append the signature. The last step of every encoder.
///
/// # Panics
/// When the kind does not allow that signature, or the frame has become too long: both are our own mistakes.
pub fn seal(out: &mut Vec<u8>, start: usize, signer: Signer<'_>) {
    let signature_kind = signer.kind();
    let length = out.len() - start + signature_kind.bytes();
    assert!(length <= FRAME_BYTES_MAX, "frame of {length} bytes");
    let kind = FrameKind::from_u8(out[start + 4]).expect("begin() wrote a kind");
    assert!(
        kind.allows(signature_kind),
        "{kind:?} signed with {signature_kind:?}"
    );
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    out[start + 5] = signature_kind as u8;
    signer.append(out, start);
}

/// Refuse anything but zeros in a reserved field at `at`.
pub(crate) fn zero(at: usize, field: &[u8]) -> Result<(), ParseError> {
    let mut value = [0; 8];
    for (byte, seen) in value.iter_mut().zip(field) {
        *byte = *seen;
    }
    if field.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    Err(ParseError::Reserved {
        at,
        value: u64::from_le_bytes(value),
    })
}
