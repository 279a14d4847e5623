//! Messages as they travel inside SEND, rest in a log and leave in DELIVER: the same bytes all the way.
//! What the headers and the body mean is the application's affair.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::ParseError;
use crate::ids::UnixNanos;
use crate::limits::{BODY_BYTES_MAX, HEADERS_BYTES_MAX, HEADERS_MAX};

/// The start of a message; its header pairs follow, then its body.
///
/// | offset | bytes | field           | meaning                                             |
/// |-------:|------:|-----------------|-----------------------------------------------------|
/// |      0 |     4 | `body_bytes`    | body length, at most `BODY_BYTES_MAX`               |
/// |      4 |     2 | `headers_bytes` | length of all header pairs, at most `HEADERS_BYTES_MAX` |
/// |      6 |     2 | `reserved`      | zero; anything else is refused                      |
/// |      8 |     8 | `timestamp`     | the sender's clock, unix nanoseconds, 0 if it has none |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MessageHeader {
    /// Body length.
    pub body_bytes: U32,
    /// Length of all header pairs.
    pub headers_bytes: U16,
    /// Zero.
    pub reserved: U16,
    /// Unix nanoseconds of the sender's clock.
    pub timestamp: U64,
}
/// Bytes of the fixed start of a message.
pub const MESSAGE_HEADER_BYTES: usize = 16;
const _: () = assert!(size_of::<MessageHeader>() == MESSAGE_HEADER_BYTES);

/// The start of a header pair; key, then value follow.
///
/// | offset | bytes | field         | meaning                         |
/// |-------:|------:|---------------|---------------------------------|
/// |      0 |     1 | `key_bytes`   | key length, 1 to 255            |
/// |      1 |     1 | `reserved`    | zero; anything else is refused  |
/// |      2 |     2 | `value_bytes` | value length                    |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PairHeader {
    key_bytes: u8,
    reserved: u8,
    value_bytes: U16,
}
const _: () = assert!(size_of::<PairHeader>() == 4);

/// One message, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The sender's clock; 0 if it has none.
    pub timestamp: UnixNanos,
    /// Header pairs, in the sender's order; keys may repeat.
    pub headers: Headers<'a>,
    /// The body.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// Bytes this message takes in a frame.
    pub fn encoded_bytes(&self) -> usize {
        MESSAGE_HEADER_BYTES + self.headers.bytes.len() + self.body.len()
    }
}

/// The header pairs of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The value of the first pair with this key.
    pub fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.clone()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn next_pair(&mut self) -> Option<(&'a [u8], &'a [u8], u8)> {
        let (pair, rest) = PairHeader::ref_from_prefix(self.bytes).ok()?;
        let (key, rest) = rest.split_at_checked(usize::from(pair.key_bytes))?;
        let (value, rest) = rest.split_at_checked(usize::from(pair.value_bytes.get()))?;
        self.bytes = rest;
        Some((key, value, pair.reserved))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value, _) = self.next_pair()?;
        Some((std::str::from_utf8(key).ok()?, value))
    }
}

/// Messages one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Messages<'a> {
    bytes: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Over bytes that [`validate`] has passed before. Every step is checked all the same: damage ends
    /// the iteration, it cannot lead outside `bytes`.
    pub fn trusted(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes of the messages that have not been taken yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    #[inline]
    fn next(&mut self) -> Option<Message<'a>> {
        let (header, rest) = MessageHeader::ref_from_prefix(self.bytes).ok()?;
        let (headers, rest) = rest.split_at_checked(usize::from(header.headers_bytes.get()))?;
        let (body, rest) = rest.split_at_checked(header.body_bytes.get() as usize)?;
        self.bytes = rest;
        Some(Message {
            timestamp: UnixNanos(header.timestamp.get()),
            headers: Headers { bytes: headers },
            body,
        })
    }
}

/// The length of the first message in `bytes`; `None` if it is not whole.
pub fn message_bytes(bytes: &[u8]) -> Option<usize> {
    let (header, rest) = MessageHeader::ref_from_prefix(bytes).ok()?;
    let length = usize::from(header.headers_bytes.get()) + header.body_bytes.get() as usize;
    (length <= rest.len()).then_some(MESSAGE_HEADER_BYTES + length)
}

/// Check that `bytes` are exactly `count` messages within the limits. Allocates nothing.
///
/// # Errors
/// The first fault, with the number of its message.
pub fn validate(bytes: &[u8], count: u16) -> Result<(), ParseError> {
    let mut rest = bytes;
    for index in 0..count {
        rest = validate_one(rest, index)?;
    }
    if !rest.is_empty() {
        return Err(ParseError::MessageTrailing {
            count,
            bytes: rest.len(),
        });
    }
    Ok(())
}

/// Whether `bytes` are exactly `count` messages within the limits, none of them with header pairs: the usual ones, decided
/// with as little as can be. Of all others [`validate`] tells whether they are good.
#[inline]
pub(crate) fn are_plain(bytes: &[u8], count: u16) -> bool {
    let mut rest = bytes;
    for _ in 0..count {
        let Ok((header, behind)) = MessageHeader::ref_from_prefix(rest) else {
            return false;
        };
        // The lengths of the header pairs, and what is reserved behind them.
        let plain = header.headers_bytes == U16::ZERO && header.reserved == U16::ZERO;
        let body_bytes = header.body_bytes.get() as usize;
        if !plain || body_bytes > BODY_BYTES_MAX || body_bytes > behind.len() {
            return false;
        }
        rest = &behind[body_bytes..];
    }
    rest.is_empty()
}

fn validate_one(bytes: &[u8], index: u16) -> Result<&[u8], ParseError> {
    let short = |need| ParseError::MessageShort {
        index,
        got: bytes.len(),
        need,
    };
    let (header, rest) =
        MessageHeader::ref_from_prefix(bytes).map_err(|_| short(MESSAGE_HEADER_BYTES))?;
    let (body, headers) = (header.body_bytes.get(), header.headers_bytes.get());
    if header.reserved != U16::ZERO {
        return Err(ParseError::MessageReserved {
            index,
            value: header.reserved.get(),
        });
    }
    if body as usize > BODY_BYTES_MAX {
        return Err(ParseError::BodyLong { got: body });
    }
    if usize::from(headers) > HEADERS_BYTES_MAX {
        return Err(ParseError::HeadersLong {
            got: u32::from(headers),
        });
    }
    let need = usize::from(headers) + body as usize;
    let (message, rest) = rest
        .split_at_checked(need)
        .ok_or(short(MESSAGE_HEADER_BYTES + need))?;
    if headers > 0 {
        validate_headers(&message[..usize::from(headers)], index)?;
    }
    Ok(rest)
}

fn validate_headers(bytes: &[u8], index: u16) -> Result<(), ParseError> {
    let mut headers = Headers { bytes };
    let mut pair = 0;
    while !headers.is_empty() {
        if usize::from(pair) == HEADERS_MAX {
            return Err(ParseError::TooManyHeaders);
        }
        let malformed = ParseError::HeaderMalformed { index, pair };
        let (key, _, reserved) = headers.next_pair().ok_or(malformed)?;
        if reserved != 0 {
            return Err(ParseError::MessageReserved {
                index,
                value: u16::from(reserved),
            });
        }
        if key.is_empty() || std::str::from_utf8(key).is_err() {
            return Err(malformed);
        }
        pair += 1;
    }
    Ok(())
}

/// Append one message to `out`; on an error `out` is as before.
///
/// # Errors
/// Whatever [`validate`] would refuse about it.
pub fn put_message(
    out: &mut Vec<u8>,
    timestamp: UnixNanos,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> Result<(), ParseError> {
    let headers_bytes = headers_bytes(headers)?;
    if body.len() > BODY_BYTES_MAX {
        return Err(ParseError::BodyLong {
            got: u32::try_from(body.len()).unwrap_or(u32::MAX),
        });
    }
    let header = MessageHeader {
        body_bytes: U32::new(body.len() as u32),
        headers_bytes: U16::new(headers_bytes),
        reserved: U16::ZERO,
        timestamp: U64::new(timestamp.0),
    };
    out.extend_from_slice(header.as_bytes());
    for (key, value) in headers {
        let value_bytes = U16::new(value.len() as u16);
        out.extend_from_slice(
            PairHeader {
                key_bytes: key.len() as u8,
                reserved: 0,
                value_bytes,
            }
            .as_bytes(),
        );
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(value);
    }
    out.extend_from_slice(body);
    Ok(())
}

fn headers_bytes(headers: &[(&str, &[u8])]) -> Result<u16, ParseError> {
    if headers.len() > HEADERS_MAX {
        return Err(ParseError::TooManyHeaders);
    }
    let mut bytes = 0usize;
    for (pair, (key, value)) in headers.iter().enumerate() {
        if key.is_empty() || key.len() > 255 {
            return Err(ParseError::HeaderMalformed {
                index: 0,
                pair: pair as u16,
            });
        }
        bytes = bytes
            .saturating_add(size_of::<PairHeader>() + key.len())
            .saturating_add(value.len());
    }
    if bytes > HEADERS_BYTES_MAX {
        return Err(ParseError::HeadersLong {
            got: u32::try_from(bytes).unwrap_or(u32::MAX),
        });
    }
    Ok(bytes as u16)
}
