//! SEND: messages of one sender to one channel. RELAY: a SEND that somebody else signed.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::{self, Frame, FrameKind, HEADER_BYTES, ParseError, SignatureKind, split};
use crate::ids::{ChannelId, EndpointId, KeyId, Sequence, UnixNanos};
use crate::limits::{FRAME_BYTES_MAX, MESSAGES_MAX};
use crate::message::{Messages, are_plain, put_message, validate};
use crate::signature::Signer;

/// The fixed part of a SEND. The frame header's `count` holds the messages, its `sequence` is per
/// (endpoint, partition), from 1, without gaps.
///
/// | offset | bytes | field      | meaning                                                      |
/// |-------:|------:|------------|--------------------------------------------------------------|
/// |     16 |     8 | `endpoint` | the sender                                                   |
/// |     24 |     4 | `channel`  | where to                                                     |
/// |     28 |     4 | `key_id`   | the endpoint's key, for signature kinds 2 and 3; else zero   |
/// |     32 |       |            | messages, then the signature                                 |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SendFixed {
    endpoint: U64,
    channel: U32,
    key_id: U32,
}
const _: () = assert!(size_of::<SendFixed>() == 16);

/// Where a SEND's messages begin.
pub const MESSAGES_AT: usize = HEADER_BYTES + size_of::<SendFixed>();

/// A SEND whose every message has been checked against the limits; its signature has not been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send<'a> {
    frame: Frame<'a>,
    endpoint: EndpointId,
    channel: ChannelId,
    key_id: KeyId,
}

impl<'a> Send<'a> {
    /// Check the body of a SEND, as received or as found in a log. Allocates nothing. Which signature
    /// kinds are welcome is the caller's to say: direct frames are `Session`, inner ones are not.
    ///
    /// # Errors
    /// The first fault; the connection survives, the frame is to be rejected.
    #[inline]
    pub fn parse(frame: Frame<'a>) -> Result<Self, ParseError> {
        match Self::parse_good(frame) {
            Some(send) => Ok(send),
            None => Self::parse_any(frame),
        }
    }

    /// As [`Send::parse`] for a SEND without a fault; `None` says that `parse` tells. Nothing of it goes through memory.
    #[inline]
    pub fn parse_good(frame: Frame<'a>) -> Option<Self> {
        let (fixed, messages) = frame.prefix::<SendFixed>(FrameKind::Send).ok()?;
        let count = usize::from(frame.count());
        let keyed = fixed.key_id != U32::ZERO && frame.signature_kind() == SignatureKind::Session;
        let good = frame.sequence().0 != 0 && count != 0 && count <= MESSAGES_MAX && !keyed;
        if !good || !are_plain(messages, frame.count()) {
            return None;
        }
        Some(Self::of(frame, fixed))
    }

    #[inline(never)]
    fn parse_any(frame: Frame<'a>) -> Result<Self, ParseError> {
        let (fixed, messages) = frame.prefix::<SendFixed>(FrameKind::Send)?;
        if frame.sequence().0 == 0 {
            return Err(ParseError::SequenceZero);
        }
        if frame.count() == 0 {
            return Err(ParseError::NoMessages);
        }
        if usize::from(frame.count()) > MESSAGES_MAX {
            return Err(ParseError::TooManyMessages(frame.count()));
        }
        let key_id = fixed.key_id.get();
        if key_id != 0 && frame.signature_kind() == SignatureKind::Session {
            return Err(ParseError::Reserved {
                at: 28,
                value: u64::from(key_id),
            });
        }
        validate(messages, frame.count())?;
        Ok(Self::of(frame, fixed))
    }

    #[inline]
    fn of(frame: Frame<'a>, fixed: &SendFixed) -> Self {
        Self {
            frame,
            endpoint: EndpointId(fixed.endpoint.get()),
            channel: ChannelId(fixed.channel.get()),
            key_id: KeyId(fixed.key_id.get()),
        }
    }

    /// The sender it names.
    #[inline]
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// Where to.
    #[inline]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The endpoint's key; 0 when the session signs.
    #[inline]
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The frame's number at its partition.
    #[inline]
    pub fn sequence(&self) -> Sequence {
        self.frame.sequence()
    }

    /// Messages in it.
    pub fn count(&self) -> u16 {
        self.frame.count()
    }

    /// The messages.
    #[inline]
    pub fn messages(&self) -> Messages<'a> {
        Messages::trusted(self.messages_bytes())
    }

    /// The messages' bytes.
    #[inline]
    pub fn messages_bytes(&self) -> &'a [u8] {
        &self.frame.signed()[MESSAGES_AT..]
    }

    /// The whole frame.
    #[inline]
    pub fn frame(&self) -> Frame<'a> {
        self.frame
    }

    /// How it is signed.
    #[inline]
    pub fn signature_kind(&self) -> SignatureKind {
        self.frame.signature_kind()
    }
}

/// The sender and channel that a SEND names, even if its messages are malformed: enough to tell which
/// stream is to be answered. `None` when it is no SEND or ends before that.
pub fn addressed(frame: &Frame<'_>) -> Option<(EndpointId, ChannelId)> {
    let (fixed, _) = frame.prefix::<SendFixed>(FrameKind::Send).ok()?;
    Some((
        EndpointId(fixed.endpoint.get()),
        ChannelId(fixed.channel.get()),
    ))
}

/// A RELAY: its body is one whole SEND of signature kind 2 or 3. Its own `sequence` is the relay number,
/// from 1 per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay<'a> {
    frame: Frame<'a>,
    inner: Send<'a>,
}

impl<'a> Relay<'a> {
    /// Check a RELAY and the SEND inside it. Allocates nothing.
    ///
    /// # Errors
    /// The first fault of either; the connection survives, the relay number is to be rejected.
    pub fn parse(frame: Frame<'a>) -> Result<Self, ParseError> {
        if frame.kind() != FrameKind::Relay {
            return Err(ParseError::UnexpectedFrame(frame.kind() as u8));
        }
        if frame.sequence().0 == 0 {
            return Err(ParseError::SequenceZero);
        }
        let body = frame.body();
        let short = |need| ParseError::BodyShort {
            kind: FrameKind::Relay as u8,
            got: body.len(),
            need,
        };
        // Fewer bytes than a header are no frame, whatever length the first of them spell.
        if body.len() < HEADER_BYTES {
            return Err(short(MESSAGES_AT));
        }
        let need = frame::frame_bytes(body)?.unwrap_or(MESSAGES_AT);
        let (inner, rest) = split(body)?.ok_or(short(need))?;
        if !rest.is_empty() {
            return Err(ParseError::Trailing {
                kind: FrameKind::Relay as u8,
                bytes: rest.len(),
            });
        }
        if inner.kind() != FrameKind::Send {
            return Err(ParseError::UnexpectedFrame(inner.kind() as u8));
        }
        if inner.signature_kind() == SignatureKind::Session {
            return Err(ParseError::SignatureKind {
                kind: inner.kind() as u8,
                got: SignatureKind::Session as u8,
            });
        }
        Ok(Self {
            frame,
            inner: Send::parse(inner)?,
        })
    }

    /// The relay number.
    pub fn number(&self) -> Sequence {
        self.frame.sequence()
    }

    /// The SEND inside.
    pub fn inner(&self) -> &Send<'a> {
        &self.inner
    }

    /// The whole outer frame.
    pub fn frame(&self) -> Frame<'a> {
        self.frame
    }
}

/// Append a RELAY around one whole inner SEND.
///
/// # Panics
/// When the inner frame leaves no room for the outer: bound it by [`RELAYED_BYTES_MAX`].
pub fn encode_relay(out: &mut Vec<u8>, number: Sequence, inner: &[u8], signer: Signer<'_>) {
    let start = frame::begin(out, FrameKind::Relay, 0, number);
    out.extend_from_slice(inner);
    frame::seal(out, start, signer);
}

/// The longest SEND that fits into a RELAY.
pub const RELAYED_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES - 32;

/// Builds one SEND at the end of a buffer of the caller's, message by message.
#[derive(Debug)]
pub struct SendBuilder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    count: u16,
}

impl<'a> SendBuilder<'a> {
    /// Begin a frame.
    pub fn begin(
        out: &'a mut Vec<u8>,
        endpoint: EndpointId,
        channel: ChannelId,
        sequence: Sequence,
    ) -> Self {
        let start = frame::begin(out, FrameKind::Send, 0, sequence);
        let fixed = SendFixed {
            endpoint: U64::new(endpoint.0),
            channel: U32::new(channel.0),
            key_id: U32::ZERO,
        };
        out.extend_from_slice(fixed.as_bytes());
        Self {
            out,
            start,
            count: 0,
        }
    }

    /// Add a message.
    ///
    /// # Errors
    /// When the message breaks a limit, or the frame has no room for it (`FrameLong`,
    /// `TooManyMessages`); the frame then is as before, and good to finish.
    pub fn message(
        &mut self,
        timestamp: UnixNanos,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Result<(), ParseError> {
        if usize::from(self.count) == MESSAGES_MAX {
            return Err(ParseError::TooManyMessages(self.count + 1));
        }
        let before = self.out.len();
        put_message(self.out, timestamp, headers, body)?;
        let length = self.out.len() - self.start;
        if length > SEND_UNSIGNED_BYTES_MAX {
            self.out.truncate(before);
            return Err(ParseError::FrameLong { got: length as u32 });
        }
        self.count += 1;
        Ok(())
    }

    /// Messages so far.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Bytes so far, without the signature.
    pub fn bytes(&self) -> usize {
        self.out.len() - self.start
    }

    /// Sign the frame.
    ///
    /// # Errors
    /// `NoMessages` when there are none; the buffer then is as before `begin`.
    pub fn finish(self, signer: Signer<'_>) -> Result<(), ParseError> {
        if self.count == 0 {
            self.out.truncate(self.start);
            return Err(ParseError::NoMessages);
        }
        self.out[self.start + 6..self.start + 8].copy_from_slice(&self.count.to_le_bytes());
        self.out[self.start + 28..self.start + 32]
            .copy_from_slice(&signer.key_id().0.to_le_bytes());
        frame::seal(self.out, self.start, signer);
        Ok(())
    }
}

/// The longest SEND without its signature: any signature still fits, and so does a RELAY around it.
pub const SEND_UNSIGNED_BYTES_MAX: usize = RELAYED_BYTES_MAX - 64;

/// Give a SEND that was finished before another number and another signature. This is how a client goes
/// back: every frame that is sent again has a new frame index, and those behind a refused one new numbers.
///
/// # Errors
/// When `out[start..]` is not one SEND frame.
pub fn resign(
    out: &mut Vec<u8>,
    start: usize,
    sequence: Sequence,
    signer: Signer<'_>,
) -> Result<(), ParseError> {
    let bytes = out.get(start..).unwrap_or_default();
    let short = ParseError::FrameShort {
        got: bytes.len() as u32,
        need: MESSAGES_AT as u32,
    };
    let (frame, rest) = split(bytes)?.ok_or(short)?;
    let trailing = rest.len();
    frame.prefix::<SendFixed>(FrameKind::Send)?;
    if trailing != 0 {
        return Err(ParseError::Trailing {
            kind: FrameKind::Send as u8,
            bytes: trailing,
        });
    }
    let unsigned = frame.signed().len();
    let length = unsigned + signer.kind().bytes();
    if length > FRAME_BYTES_MAX {
        return Err(ParseError::FrameLong { got: length as u32 });
    }
    out.truncate(start + unsigned);
    out[start + 8..start + 16].copy_from_slice(&sequence.0.to_le_bytes());
    out[start + 28..start + 32].copy_from_slice(&signer.key_id().0.to_le_bytes());
    frame::seal(out, start, signer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::MacKey;

    /// SENDs of a few messages, some with header pairs, each with some of its bytes changed and its length kept.
    #[test]
    fn the_way_of_good_frames_takes_what_the_way_of_all_frames_takes_and_nothing_else() {
        let mut random = fastrand::Rng::with_seed(31);
        let (key, mut taken, mut refused) = (MacKey::new(b"key"), [0, 0], 0);
        for _ in 0..60_000 {
            let mut out = Vec::new();
            let number = Sequence(random.u64(0..3));
            let signer = Signer::Session {
                key: &key,
                frame_index: 0,
            };
            let channel = ChannelId(random.u32(..));
            let mut builder = SendBuilder::begin(&mut out, EndpointId(7), channel, number);
            for _ in 0..random.usize(1..5) {
                let pairs: &[(&str, &[u8])] = &[("key", b"value")];
                let body = vec![random.u8(..); random.usize(0..40)];
                builder
                    .message(UnixNanos(1), &pairs[..random.usize(0..4) / 3], &body)
                    .expect("it is short");
            }
            builder.finish(signer).expect("it has messages");
            for _ in 0..random.usize(0..3) {
                let (at, bit) = (random.usize(4..out.len()), random.u8(0..8));
                out[at] ^= 1 << bit;
            }
            let Ok(Some((frame, _))) = split(&out) else {
                continue;
            };
            let (good, any) = (Send::parse_good(frame), Send::parse_any(frame));
            refused += usize::from(any.is_err());
            if let Some(good) = good {
                assert_eq!(any, Ok(good), "{out:02x?}");
                taken[0] += 1;
            } else if let Ok(any) = any {
                let pairs = any.messages().any(|message| !message.headers.is_empty());
                assert!(pairs, "a plain frame takes the long way: {out:02x?}");
                taken[1] += 1;
            }
            assert_eq!(Send::parse(frame), any);
        }
        let counts = (taken, refused);
        assert!(
            taken[0] > 5_000 && taken[1] > 5_000 && refused > 5_000,
            "{counts:?}"
        );
    }
}
