//! DELIVER: groups of consecutive messages out of a queue, each message as its sender encoded it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Source;
use crate::frame::{self, Frame, FrameKind, HEADER_BYTES, ParseError};
use crate::ids::{ChannelId, EndpointId, Offset, PartitionId, Sequence, UnixNanos};
use crate::limits::{FRAME_BYTES_MAX, GROUPS_MAX};
use crate::message::{Messages, validate};
use crate::signature::Signer;

/// The fixed part of a DELIVER. The frame header's `count` holds the groups, its `sequence` the number of
/// the first message.
///
/// | offset | bytes | field      | meaning                            |
/// |-------:|------:|------------|------------------------------------|
/// |     16 |     1 | `source`   | 0 queue, 1 dead letters            |
/// |     17 |     3 | `reserved` | zero; anything else is refused     |
/// |     20 |     4 | `messages` | messages in all groups             |
/// |     24 |       |            | groups, then the signature         |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DeliverFixed {
    source: u8,
    reserved: [u8; 3],
    messages: U32,
}
const _: () = assert!(size_of::<DeliverFixed>() == 8);

/// The start of a group; `bytes` bytes of messages follow, laid out as in a SEND.
///
/// | offset | bytes | field         | meaning                                                        |
/// |-------:|------:|---------------|----------------------------------------------------------------|
/// |      0 |     8 | `number`      | delivery number of the group's first message; the others follow by one |
/// |      8 |     8 | `sender`      | endpoint that sent them                                        |
/// |     16 |     8 | `offset`      | offset of the first message; the others follow by one          |
/// |     24 |     8 | `append_time` | the server's clock when they were appended, unix nanoseconds   |
/// |     32 |     4 | `partition`   | where they rest                                                |
/// |     36 |     4 | `channel`     | where they were sent to                                        |
/// |     40 |     2 | `count`       | messages, at least 1                                           |
/// |     42 |     2 | `attempt`     | how often they have been delivered, this time included         |
/// |     44 |     4 | `bytes`       | bytes of the messages                                          |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct GroupFixed {
    number: U64,
    sender: U64,
    offset: U64,
    append_time: U64,
    partition: U32,
    channel: U32,
    count: U16,
    attempt: U16,
    bytes: U32,
}
/// Bytes of a group before its messages.
pub const GROUP_BYTES: usize = 48;
const _: () = assert!(size_of::<GroupFixed>() == GROUP_BYTES);

const GROUPS_AT: usize = HEADER_BYTES + size_of::<DeliverFixed>();
const SIGNATURE_BYTES: usize = 32;

/// What is said about all messages of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    /// Delivery number of the first message.
    pub number: Sequence,
    /// Who sent them.
    pub sender: EndpointId,
    /// Offset of the first message.
    pub offset: Offset,
    /// When they were appended.
    pub append_time: UnixNanos,
    /// Where they rest.
    pub partition: PartitionId,
    /// Where they were sent to.
    pub channel: ChannelId,
    /// Messages.
    pub count: u16,
    /// How often they have been delivered, this time included.
    pub attempt: u16,
}

/// One group of a DELIVER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    /// What is said about all of them.
    pub header: GroupHeader,
    /// The messages' bytes.
    pub bytes: &'a [u8],
}

impl<'a> Group<'a> {
    /// The messages.
    pub fn messages(&self) -> Messages<'a> {
        Messages::trusted(self.bytes)
    }
}

/// The groups of a DELIVER that has been checked.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Groups<'a> {
    type Item = Group<'a>;

    fn next(&mut self) -> Option<Group<'a>> {
        let (fixed, rest) = GroupFixed::ref_from_prefix(self.bytes).ok()?;
        let (bytes, rest) = rest.split_at_checked(fixed.bytes.get() as usize)?;
        self.bytes = rest;
        let header = GroupHeader {
            number: Sequence(fixed.number.get()),
            sender: EndpointId(fixed.sender.get()),
            offset: Offset(fixed.offset.get()),
            append_time: UnixNanos(fixed.append_time.get()),
            partition: PartitionId(fixed.partition.get()),
            channel: ChannelId(fixed.channel.get()),
            count: fixed.count.get(),
            attempt: fixed.attempt.get(),
        };
        Some(Group { header, bytes })
    }
}

/// A DELIVER whose groups and messages have all been checked.
#[derive(Debug, Clone, Copy)]
pub struct Deliver<'a> {
    frame: Frame<'a>,
    source: Source,
    messages: u32,
    groups: &'a [u8],
}

impl<'a> Deliver<'a> {
    /// Check the body of a DELIVER.
    ///
    /// # Errors
    /// The first fault in its fields, its groups or their messages.
    pub fn parse(frame: Frame<'a>) -> Result<Self, ParseError> {
        let (fixed, groups) = frame.prefix::<DeliverFixed>(FrameKind::Deliver)?;
        frame::zero(17, &fixed.reserved)?;
        let source = Source::parse(fixed.source, FrameKind::Deliver)?;
        let messages = fixed.messages.get();
        let field = |at, value, need| ParseError::Field {
            kind: FrameKind::Deliver as u8,
            at,
            value,
            need,
        };
        if frame.count() == 0 {
            return Err(field(6, 0, 1));
        }
        let total = check_groups(&frame, groups)?;
        if total != u64::from(messages) {
            return Err(field(20, u64::from(messages), total));
        }
        Ok(Self {
            frame,
            source,
            messages,
            groups,
        })
    }

    /// From which list.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The number of the first message.
    pub fn number(&self) -> Sequence {
        self.frame.sequence()
    }

    /// Messages in all groups.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// The groups.
    pub fn groups(&self) -> Groups<'a> {
        Groups { bytes: self.groups }
    }
}

/// Numbers rise from group to group, nothing overlaps, nothing is left over. Returns the messages.
fn check_groups(frame: &Frame<'_>, bytes: &[u8]) -> Result<u64, ParseError> {
    let kind = FrameKind::Deliver as u8;
    let mut rest = bytes;
    let (mut total, mut next) = (0, frame.sequence().0);
    for index in 0..frame.count() {
        let at = GROUPS_AT + (bytes.len() - rest.len());
        let short = ParseError::BodyShort {
            kind,
            got: rest.len(),
            need: GROUP_BYTES,
        };
        let group = Groups { bytes: rest }.next().ok_or(short)?;
        let header = group.header;
        let first = index == 0 && header.number.0 != next;
        if first || header.number.0 < next {
            return Err(ParseError::Field {
                kind,
                at,
                value: header.number.0,
                need: next,
            });
        }
        if header.count == 0 {
            return Err(ParseError::Field {
                kind,
                at: at + 40,
                value: 0,
                need: 1,
            });
        }
        let after = header.number.0.checked_add(u64::from(header.count));
        next = after.ok_or(ParseError::Field {
            kind,
            at,
            value: header.number.0,
            need: next,
        })?;
        validate(group.bytes, header.count)?;
        total += u64::from(header.count);
        rest = &rest[GROUP_BYTES + group.bytes.len()..];
    }
    if !rest.is_empty() {
        return Err(ParseError::Trailing {
            kind,
            bytes: rest.len(),
        });
    }
    Ok(total)
}

/// Builds one DELIVER at the end of a buffer of the caller's, group by group.
#[derive(Debug)]
pub struct DeliverBuilder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    groups: u16,
    messages: u32,
}

impl<'a> DeliverBuilder<'a> {
    /// Begin a frame.
    pub fn begin(out: &'a mut Vec<u8>, source: Source) -> Self {
        let start = frame::begin(out, FrameKind::Deliver, 0, Sequence(0));
        let fixed = DeliverFixed {
            source: source as u8,
            reserved: [0; 3],
            messages: U32::ZERO,
        };
        out.extend_from_slice(fixed.as_bytes());
        Self {
            out,
            start,
            groups: 0,
            messages: 0,
        }
    }

    /// Bytes of messages that one more group may have; 0 when no group fits any more.
    pub fn room(&self) -> usize {
        if usize::from(self.groups) == GROUPS_MAX {
            return 0;
        }
        let used = self.out.len() - self.start + GROUP_BYTES + SIGNATURE_BYTES;
        FRAME_BYTES_MAX.saturating_sub(used)
    }

    /// Add a group, if it fits: `false` leaves the frame as it was. `messages` are exactly
    /// `header.count` messages as they came in a SEND; numbers must rise from group to group.
    #[must_use]
    pub fn group(&mut self, header: &GroupHeader, messages: &[u8]) -> bool {
        if messages.len() > self.room() || header.count == 0 {
            return false;
        }
        let fixed = GroupFixed {
            number: U64::new(header.number.0),
            sender: U64::new(header.sender.0),
            offset: U64::new(header.offset.0),
            append_time: U64::new(header.append_time.0),
            partition: U32::new(header.partition.0),
            channel: U32::new(header.channel.0),
            count: U16::new(header.count),
            attempt: U16::new(header.attempt),
            bytes: U32::new(messages.len() as u32),
        };
        if self.groups == 0 {
            self.out[self.start + 8..self.start + 16].copy_from_slice(fixed.number.as_bytes());
        }
        self.out.extend_from_slice(fixed.as_bytes());
        self.out.extend_from_slice(messages);
        self.groups += 1;
        self.messages += u32::from(header.count);
        true
    }

    /// Messages so far.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Bytes so far, without the signature.
    pub fn bytes(&self) -> usize {
        self.out.len() - self.start
    }

    /// Sign the frame and return true; with no group in it, take it back and return false.
    pub fn finish(self, signer: Signer<'_>) -> bool {
        if self.groups == 0 {
            self.out.truncate(self.start);
            return false;
        }
        self.out[self.start + 6..self.start + 8].copy_from_slice(&self.groups.to_le_bytes());
        self.out[self.start + 20..self.start + 24].copy_from_slice(&self.messages.to_le_bytes());
        frame::seal(self.out, self.start, signer);
        true
    }
}
