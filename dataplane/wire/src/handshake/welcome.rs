//! WELCOME: the session is open, and these are its terms. REFUSED: it is not, and why.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::{self, Frame, FrameKind, ParseError};
use crate::home::Home;
use crate::ids::{
    AckMode, ChannelId, Direction, EndpointId, LogsId, PartitionId, Sequence, SessionId, UnixNanos,
};
use crate::limits::CHANNELS_MAX;
use crate::link::{encode_notice, parse_notice};
use crate::reason::Notice;
use crate::signature::Signer;

/// The fixed part of a WELCOME. The frame header's `count` holds the entries, its `sequence` the epoch of
/// the route table. It is signed by the session it opens, as frame 0 of the server's direction.
///
/// | offset | bytes | field             | meaning                                                       |
/// |-------:|------:|-------------------|---------------------------------------------------------------|
/// |     16 |    16 | `session_id`      | random, or the session resumed                                |
/// |     32 |    32 | `server_nonce`    | random                                                        |
/// |     64 |     8 | `endpoint`        | the endpoint's id                                             |
/// |     72 |     8 | `unix_nanos`      | the server's clock                                            |
/// |     80 |     4 | `frame_bytes_max` | longest frame the server takes                                |
/// |     84 |     4 | `body_bytes_max`  | longest body the server takes                                 |
/// |     88 |     2 | `messages_max`    | most messages per SEND the server takes                       |
/// |     90 |     2 | `shards`          | shards of the node                                            |
/// |     92 |     2 | `home_shard`      | the one that owns the endpoint's partition in its first hub   |
/// |     94 |     1 | `direction`       | 1 ingress, 2 egress: what the credential is for               |
/// |     95 |     1 | `reserved`        | zero; anything else is refused                                |
/// |     96 |     4 | `credit_frames`   | frames that may be unacked at once                            |
/// |    100 |     4 | `credit_bytes`    | bytes of frames that may be unacked at once                   |
/// |    104 |     4 | `idle_timeout_ms` | silence after which the server closes the connection          |
/// |    108 |     4 | `linger_ms`       | how long the session waits to be resumed after a lost connection |
/// |    112 |     8 | `logs`            | the node's logs: numbers of others mean nothing here          |
/// |    120 |       |                   | entries, then the signature                                   |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct WelcomeFixed {
    session_id: [u8; 16],
    server_nonce: [u8; 32],
    endpoint: U64,
    unix_nanos: U64,
    frame_bytes_max: U32,
    body_bytes_max: U32,
    messages_max: U16,
    shards: U16,
    home_shard: U16,
    direction: u8,
    reserved: u8,
    credit_frames: U32,
    credit_bytes: U32,
    idle_timeout_ms: U32,
    linger_ms: U32,
    logs: U64,
}
const _: () = assert!(size_of::<WelcomeFixed>() == 104);

/// The start of an entry; the channel's full name follows.
///
/// | offset | bytes | field           | meaning                                                        |
/// |-------:|------:|-----------------|----------------------------------------------------------------|
/// |      0 |     4 | `channel`       | the channel's id                                               |
/// |      4 |     4 | `partition`     | ingress: where the endpoint's frames for it go; egress: zero   |
/// |      8 |     8 | `last_sequence` | ingress: highest number appended and committed there; egress: zero |
/// |     16 |     1 | `ack_mode`      | 1 local, 2 durable: what an ACK will promise                   |
/// |     17 |     1 | `name_bytes`    | length of the name, at least 1                                 |
/// |     18 |     2 | `reserved`      | zero; anything else is refused                                 |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EntryFixed {
    channel: U32,
    partition: U32,
    last_sequence: U64,
    ack_mode: u8,
    name_bytes: u8,
    reserved: U16,
}
const _: () = assert!(size_of::<EntryFixed>() == 20);

/// The terms of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WelcomeFields {
    /// Epoch of the route table.
    pub epoch: u64,
    /// The session.
    pub session_id: SessionId,
    /// The server's half of the salt.
    pub server_nonce: [u8; 32],
    /// The endpoint's id.
    pub endpoint: EndpointId,
    /// The server's clock.
    pub unix_nanos: UnixNanos,
    /// Longest frame the server takes.
    pub frame_bytes_max: u32,
    /// Longest body the server takes.
    pub body_bytes_max: u32,
    /// Most messages per SEND the server takes.
    pub messages_max: u16,
    /// Shards of the node.
    pub shards: u16,
    /// The one that is the endpoint's home.
    pub home_shard: u16,
    /// What the credential is for.
    pub direction: Direction,
    /// Frames that may be unacked at once.
    pub credit_frames: u32,
    /// Bytes of frames that may be unacked at once.
    pub credit_bytes: u32,
    /// Silence after which the server closes the connection.
    pub idle_timeout_ms: u32,
    /// How long the session waits to be resumed.
    pub linger_ms: u32,
    /// The logs that all numbers count in.
    pub logs: LogsId,
}

/// One channel of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WelcomeEntry<'a> {
    /// The channel.
    pub channel: ChannelId,
    /// Where the endpoint's frames for it go; 0 for egress.
    pub partition: PartitionId,
    /// Highest number appended and committed there; 0 for egress.
    pub last_sequence: Sequence,
    /// What an ACK will promise.
    pub ack_mode: AckMode,
    /// The channel's full name.
    pub name: &'a str,
}

/// Append a WELCOME.
///
/// # Panics
/// When there are more than `CHANNELS_MAX` entries, or a name is empty or longer than 255 bytes: the route
/// table refuses both.
pub fn encode_welcome<'a>(
    out: &mut Vec<u8>,
    fields: &WelcomeFields,
    entries: impl ExactSizeIterator<Item = WelcomeEntry<'a>>,
    signer: Signer<'_>,
) {
    assert!(entries.len() <= CHANNELS_MAX, "{} channels", entries.len());
    let start = frame::begin(
        out,
        FrameKind::Welcome,
        entries.len() as u16,
        Sequence(fields.epoch),
    );
    out.extend_from_slice(fixed(fields).as_bytes());
    for entry in entries {
        let name_bytes = u8::try_from(entry.name.len()).expect("the route table bounds names");
        let fixed = EntryFixed {
            channel: U32::new(entry.channel.0),
            partition: U32::new(entry.partition.0),
            last_sequence: U64::new(entry.last_sequence.0),
            ack_mode: entry.ack_mode as u8,
            name_bytes,
            reserved: U16::ZERO,
        };
        out.extend_from_slice(fixed.as_bytes());
        out.extend_from_slice(entry.name.as_bytes());
    }
    frame::seal(out, start, signer);
}

fn fixed(fields: &WelcomeFields) -> WelcomeFixed {
    WelcomeFixed {
        session_id: fields.session_id.0,
        server_nonce: fields.server_nonce,
        endpoint: U64::new(fields.endpoint.0),
        unix_nanos: U64::new(fields.unix_nanos.0),
        frame_bytes_max: U32::new(fields.frame_bytes_max),
        body_bytes_max: U32::new(fields.body_bytes_max),
        messages_max: U16::new(fields.messages_max),
        shards: U16::new(fields.shards),
        home_shard: U16::new(fields.home_shard),
        direction: fields.direction as u8,
        reserved: 0,
        credit_frames: U32::new(fields.credit_frames),
        credit_bytes: U32::new(fields.credit_bytes),
        idle_timeout_ms: U32::new(fields.idle_timeout_ms),
        linger_ms: U32::new(fields.linger_ms),
        logs: U64::new(fields.logs.0),
    }
}

/// A WELCOME whose fields and entries have been checked; its signature has not been. The client derives
/// the session's keys from it, then checks it with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The terms.
    pub fields: WelcomeFields,
    frame: Frame<'a>,
    entries: &'a [u8],
}

impl<'a> Welcome<'a> {
    /// Check the body of a WELCOME.
    ///
    /// # Errors
    /// The first fault in its fields or entries.
    pub fn parse(frame: Frame<'a>) -> Result<Self, ParseError> {
        let (fixed, entries) = frame.prefix::<WelcomeFixed>(FrameKind::Welcome)?;
        frame::zero(95, &[fixed.reserved])?;
        let direction = Direction::from_u8(fixed.direction).ok_or(ParseError::Handshake {
            at: 94,
            got: u64::from(fixed.direction),
            need: 1,
        })?;
        check_entries(entries, frame.count())?;
        let fields = WelcomeFields {
            epoch: frame.sequence().0,
            session_id: SessionId(fixed.session_id),
            server_nonce: fixed.server_nonce,
            endpoint: EndpointId(fixed.endpoint.get()),
            unix_nanos: UnixNanos(fixed.unix_nanos.get()),
            frame_bytes_max: fixed.frame_bytes_max.get(),
            body_bytes_max: fixed.body_bytes_max.get(),
            messages_max: fixed.messages_max.get(),
            shards: fixed.shards.get(),
            home_shard: fixed.home_shard.get(),
            direction,
            credit_frames: fixed.credit_frames.get(),
            credit_bytes: fixed.credit_bytes.get(),
            idle_timeout_ms: fixed.idle_timeout_ms.get(),
            linger_ms: fixed.linger_ms.get(),
            logs: LogsId(fixed.logs.get()),
        };
        Ok(Self {
            fields,
            frame,
            entries,
        })
    }

    /// The channels.
    pub fn entries(&self) -> Entries<'a> {
        Entries {
            bytes: self.entries,
        }
    }

    /// The whole frame, to check its signature.
    pub fn frame(&self) -> Frame<'a> {
        self.frame
    }
}

fn check_entries(bytes: &[u8], count: u16) -> Result<(), ParseError> {
    if usize::from(count) > CHANNELS_MAX {
        return Err(ParseError::Handshake {
            at: 6,
            got: u64::from(count),
            need: CHANNELS_MAX as u64,
        });
    }
    let mut entries = Entries { bytes };
    for _ in 0..count {
        let at = 112 + bytes.len() - entries.bytes.len();
        let fault = ParseError::Handshake {
            at,
            got: entries.bytes.len() as u64,
            need: 21,
        };
        if let Ok((fixed, _)) = EntryFixed::ref_from_prefix(entries.bytes) {
            frame::zero(at + 18, fixed.reserved.as_bytes())?;
        }
        entries
            .next()
            .filter(|entry| !entry.name.is_empty())
            .ok_or(fault)?;
    }
    if !entries.bytes.is_empty() {
        return Err(ParseError::Trailing {
            kind: FrameKind::Welcome as u8,
            bytes: entries.bytes.len(),
        });
    }
    Ok(())
}

/// The channels of a WELCOME.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = WelcomeEntry<'a>;

    fn next(&mut self) -> Option<WelcomeEntry<'a>> {
        let (fixed, rest) = EntryFixed::ref_from_prefix(self.bytes).ok()?;
        let (name, rest) = rest.split_at_checked(usize::from(fixed.name_bytes))?;
        let entry = WelcomeEntry {
            channel: ChannelId(fixed.channel.get()),
            partition: PartitionId(fixed.partition.get()),
            last_sequence: Sequence(fixed.last_sequence.get()),
            ack_mode: AckMode::from_u8(fixed.ack_mode)?,
            name: std::str::from_utf8(name).ok()?,
        };
        self.bytes = rest;
        Some(entry)
    }
}

/// Append a REFUSED: unsigned, since there is no session. Its body is a notice, and where the endpoint is at home if that is the matter.
pub fn encode_refused(out: &mut Vec<u8>, notice: Notice, home: Option<Home<'_>>) {
    encode_notice(out, FrameKind::Refused, notice, home, Signer::None);
}

/// Read a REFUSED; what it tells of a home is read by [`Home::told`].
///
/// # Errors
/// When it is none, or its notice is not whole.
pub fn parse_refused(frame: Frame<'_>) -> Result<Notice, ParseError> {
    parse_notice(frame, FrameKind::Refused)
}
