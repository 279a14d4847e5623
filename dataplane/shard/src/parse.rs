//! Stage 2, parse: bytes of connections become frames, frames become what they mean. Nothing is copied but
//! frames that straddle receive buffers, which are assembled once. No signature is looked at here.

use wire::delivery::{Fetch, Settle};
use wire::frame::{Frame, FrameKind, split};
use wire::handshake::Hello;
use wire::ids::{ChannelId, NO_STREAM, PartitionId, QUEUE_STREAM, RELAY_STREAM, Sequence};
use wire::link::{parse_bye, parse_ping};
use wire::reason::{Notice, Reason};
use wire::send::{Relay, Send};

use crate::connection::Goodbye;
use crate::io::ConnectionId;
use crate::peers::Peers;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The stream of frames cannot be followed any further: the connection ends.
    #[error("framing: {0}")]
    Framing(wire::ParseError),
    /// A frame that is not expected now: the connection ends.
    #[error("frame kind {kind:#04x} is not expected now")]
    Unexpected {
        /// Its kind.
        kind: u8,
    },
    /// Not this protocol's preface: the connection ends without a word.
    #[error("preface: {0}")]
    Preface(wire::ParseError),
    /// A HELLO that cannot be read: refused.
    #[error("HELLO: {0}")]
    Hello(wire::ParseError),
    /// No protocol version is common: the connection ends behind our preface.
    #[error("no common version: {max} offered at most")]
    Version {
        /// The highest version that was offered.
        max: u8,
    },
    /// No room to put a straddling frame together: the peer shall come again.
    #[error("no room for {bytes} bytes of a frame that straddles, {reserved} are in use")]
    AssemblyFull {
        /// Bytes of the frame.
        bytes: usize,
        /// Bytes in use.
        reserved: usize,
    },
    /// The content of one frame is at fault: it is rejected, the connection goes on.
    #[error("content: {0}")]
    Content(wire::ParseError),
}

impl ParseError {
    /// What the peer is told.
    pub fn notice(&self) -> Notice {
        match *self {
            Self::Framing(fault)
            | Self::Preface(fault)
            | Self::Hello(fault)
            | Self::Content(fault) => fault.notice(),
            Self::Unexpected { kind } => Notice::new(Reason::UnexpectedFrame, u64::from(kind), 0),
            Self::Version { max } => {
                let highest = u64::from(wire::limits::VERSIONS.1);
                Notice::new(Reason::UnsupportedVersion, u64::from(max), highest)
            }
            Self::AssemblyFull { bytes, reserved } => {
                Notice::new(Reason::Busy, reserved as u64, bytes as u64)
            }
        }
    }
}

/// A frame whose content has been read and lies within the limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parsed<'a> {
    order: u32,
    connection: ConnectionId,
    frame_index: u64,
    content: Content<'a>,
}

/// What a frame of a client means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    /// Read once already; it is the longest of all and the rarest, so only its frame is passed on.
    Hello(Frame<'a>),
    Send(Send<'a>),
    Relay(Relay<'a>),
    Fetch(Fetch, Frame<'a>),
    Settle(Settle, Frame<'a>),
    Ping(Sequence, Frame<'a>),
    Bye(Frame<'a>),
}

impl<'a> Content<'a> {
    /// The frame that the session signs; HELLO is none.
    pub(crate) fn outer(&self) -> Option<Frame<'a>> {
        match self {
            Self::Send(send) => Some(send.frame()),
            Self::Relay(relay) => Some(relay.frame()),
            Self::Fetch(_, outer)
            | Self::Settle(_, outer)
            | Self::Ping(_, outer)
            | Self::Bye(outer) => Some(*outer),
            Self::Hello(_) => None,
        }
    }
}

impl<'a> Parsed<'a> {
    /// Its place in the turn: refusals are told in this order.
    pub(crate) fn order(&self) -> u32 {
        self.order
    }

    pub(crate) fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// How many frames came before it on the connection since HELLO.
    pub(crate) fn frame_index(&self) -> u64 {
        self.frame_index
    }

    pub(crate) fn content(&self) -> &Content<'a> {
        &self.content
    }
}

/// A frame that will not be appended. Refusals of all stages are told in order of arrival, so that what
/// follows a refused frame on its stream is discarded whichever stage refused it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) order: u32,
    pub(crate) connection: ConnectionId,
    pub(crate) partition: PartitionId,
    pub(crate) sequence: Sequence,
    pub(crate) notice: Notice,
}

/// One whole frame of the turn, in order of arrival; or the fault that a connection's bytes end with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) connection: ConnectionId,
    /// The frame where it was received. `None`: see `aside`.
    pub(crate) whole: Option<Frame<'a>>,
    /// What it is instead, by its place among the turn's asides.
    pub(crate) aside: u32,
    /// The first frame of its connection, which has to be HELLO.
    pub(crate) first: bool,
}

/// What few pieces are. It stands by itself, so that a piece is words that are copied without a look at them.
#[derive(Debug)]
pub(crate) enum Aside {
    /// A frame that straddled receive buffers.
    Assembled(Vec<u8>),
    Fault(ParseError),
}

/// Stage 2: read every frame of the turn. Faults in content become refusals, all others end the connection.
pub(crate) fn parse<'a>(
    peers: &mut Peers,
    pieces: &[Piece<'a>],
    asides: &'a [Aside],
    parsed: &mut Vec<Parsed<'a>>,
    refusals: &mut Vec<Refusal>,
) {
    let mut order = 0;
    for together in pieces.chunk_by(|one, next| one.connection == next.connection) {
        let id = together[0].connection;
        let connection = peers.connections.get_mut(id);
        if let Some(connection) = connection.filter(|connection| connection.listens()) {
            let mut at = Reading {
                order,
                frame_index: connection.frames_in,
            };
            let out = (&mut *parsed, &mut *refusals);
            let end = parse_pieces(peers, together, asides, &mut at, out);
            if let Some(connection) = peers.connections.get_mut(id) {
                connection.frames_in = at.frame_index;
            }
            if let Err(error) = end {
                fault(peers, id, error);
            }
        }
        order += together.len() as u32;
    }
}

/// How far a connection's frames were read.
#[derive(Clone, Copy)]
struct Reading {
    order: u32,
    frame_index: u64,
}

/// Read the frames of one connection, up to a fault that ends it.
fn parse_pieces<'a>(
    peers: &mut Peers,
    pieces: &[Piece<'a>],
    asides: &'a [Aside],
    at: &mut Reading,
    (parsed, refusals): (&mut Vec<Parsed<'a>>, &mut Vec<Refusal>),
) -> Result<(), ParseError> {
    for piece in pieces {
        // The way of nearly all pieces.
        if let Some(frame) = piece.whole
            && !piece.first
            && frame.kind() == FrameKind::Send
            && let Some(send) = Send::parse_good(frame)
        {
            parsed.push(Parsed {
                order: at.order,
                connection: piece.connection,
                frame_index: at.frame_index,
                content: Content::Send(send),
            });
        } else {
            parse_piece(peers, piece, asides, *at, (parsed, refusals))?;
        }
        at.frame_index += u64::from(!piece.first);
        at.order += 1;
    }
    Ok(())
}

/// Read one piece, whatever it is.
fn parse_piece<'a>(
    peers: &mut Peers,
    piece: &Piece<'a>,
    asides: &'a [Aside],
    at: Reading,
    (parsed, refusals): (&mut Vec<Parsed<'a>>, &mut Vec<Refusal>),
) -> Result<(), ParseError> {
    let connection = piece.connection;
    let frame = match piece.whole {
        Some(frame) => frame,
        None => assembled(&asides[piece.aside as usize])?,
    };
    match read(frame, piece.first) {
        Ok(content) => parsed.push(Parsed {
            order: at.order,
            connection,
            frame_index: at.frame_index,
            content,
        }),
        Err(error @ ParseError::Content(_)) => {
            peers.counters.parse.refused += 1;
            refusals.push(Refusal {
                order: at.order,
                connection,
                partition: stream_of(peers, connection, &frame),
                sequence: frame.sequence(),
                notice: error.notice(),
            });
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn assembled(aside: &Aside) -> Result<Frame<'_>, ParseError> {
    match aside {
        Aside::Fault(error) => Err(*error),
        Aside::Assembled(bytes) => match split(bytes) {
            Ok(Some((frame, _))) => Ok(frame),
            other => unreachable!("an assembled frame is whole and has a good header: {other:?}"),
        },
    }
}

/// What one frame means.
fn read<'a>(frame: Frame<'a>, first: bool) -> Result<Content<'a>, ParseError> {
    let kind = frame.kind();
    if first != (kind == FrameKind::Hello) || !kind.from_client() {
        return Err(ParseError::Unexpected { kind: kind as u8 });
    }
    let content = ParseError::Content;
    match kind {
        FrameKind::Hello => Hello::parse(frame)
            .map(|_| Content::Hello(frame))
            .map_err(ParseError::Hello),
        FrameKind::Send => Send::parse(frame).map(Content::Send).map_err(content),
        FrameKind::Relay => Relay::parse(frame).map(Content::Relay).map_err(content),
        FrameKind::Fetch => Fetch::parse(frame)
            .map(|fetch| Content::Fetch(fetch, frame))
            .map_err(content),
        FrameKind::Settle => Settle::parse(frame)
            .map(|settle| Content::Settle(settle, frame))
            .map_err(content),
        FrameKind::Ping => parse_ping(frame)
            .map(|number| Content::Ping(number, frame))
            .map_err(ParseError::Framing),
        FrameKind::Bye => parse_bye(frame)
            .map(|_| Content::Bye(frame))
            .map_err(ParseError::Framing),
        _ => Err(ParseError::Unexpected { kind: kind as u8 }),
    }
}

/// The stream on which a frame with faulty content is rejected.
fn stream_of(peers: &Peers, id: ConnectionId, frame: &Frame<'_>) -> PartitionId {
    match frame.kind() {
        FrameKind::Relay => RELAY_STREAM,
        FrameKind::Fetch | FrameKind::Settle => QUEUE_STREAM,
        _ => {
            // The channel stands at 24 in a SEND, 8 bytes into its body.
            let channel = frame
                .body()
                .get(8..12)
                .and_then(|bytes| bytes.first_chunk::<4>());
            let channel = channel.map(|bytes| ChannelId(u32::from_le_bytes(*bytes)));
            let sender = peers.session_of(id).map(|session| session.endpoint);
            let found = channel.zip(sender).and_then(|(channel, sender)| {
                let channel = peers.table.channel(channel)?;
                Some(peers.table.partition_of(sender, channel))
            });
            found.unwrap_or(NO_STREAM)
        }
    }
}

/// End a connection for a fault that the stream does not survive.
fn fault(peers: &mut Peers, id: ConnectionId, error: ParseError) {
    let notice = error.notice();
    match error {
        ParseError::AssemblyFull { .. } => {
            peers.counters.parse.assembly_full += 1;
            let retry_after = peers.retry_after_ms();
            peers.goodbye(id, Goodbye::Goaway(notice.retry_after(retry_after)));
        }
        ParseError::Hello(_) => peers.goodbye(id, Goodbye::Refused(notice)),
        // No version is common, which our preface has said, or it is not our protocol: no frame could be read.
        ParseError::Version { .. } | ParseError::Preface(_) => {
            peers.counters.reason(notice.reason);
            peers.goodbye(id, Goodbye::Silent);
        }
        _ => {
            peers.counters.parse.framing_faults += 1;
            peers.goodbye(id, Goodbye::Goaway(notice));
        }
    }
}
