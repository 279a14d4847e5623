//! Bytes of connections to whole frames. What straddles receive buffers is put together once, in a buffer that grows with
//! what has come; everything else stays where it was received.

use wire::frame::{Frame, FrameKind, HEADER_BYTES, frame_bytes, split, split_whole};
use wire::handshake::HELLO_BYTES_MAX;
use wire::preface::{PREFACE_BYTES, Preface};

use crate::connection::{Connections, Phase};
use crate::io::{ConnectionId, Received};
use crate::parse::{Aside, ParseError, Piece};
use crate::peers::Peers;

/// Cut what was received into whole frames; what is left of a frame is kept for the next turn. Buffers with
/// assembled frames, and faults, are pushed to `asides`.
pub(crate) fn gather<'a>(
    peers: &mut Peers,
    received: &[Received<'a>],
    pieces: &mut Vec<Piece<'a>>,
    asides: &mut Vec<Aside>,
) {
    for piece in received {
        let (id, now) = (piece.connection, peers.now.monotonic);
        let Some(connection) = peers.connections.get_mut(id) else {
            peers.follow(id, piece.bytes);
            continue;
        };
        if !connection.listens() || connection.deaf {
            continue;
        }
        connection.kept_waiting = false;
        // The bytes between a frame's first and its last are no sign of life: they may come one at a time for ever.
        let (under_way, before) = (connection.assembly.begun(), pieces.len());
        if !under_way {
            connection.received_at = now;
        }
        let whole = connection.session().is_some() && !under_way;
        peers.counters.accept.bytes += piece.bytes.len() as u64;
        let cut = if whole {
            cut_whole(peers, id, piece.bytes, pieces, asides)
        } else {
            cut(peers, id, piece.bytes, pieces, asides)
        };
        if under_way
            && pieces.len() > before
            && let Some(connection) = peers.connections.get_mut(id)
        {
            connection.received_at = now;
        }
        if let Err(error) = cut {
            deafen(peers, id, error, pieces, asides);
        }
    }
}

/// Nothing more is taken from a connection. What came before the fault still counts, so the fault waits for its turn.
fn deafen(
    peers: &mut Peers,
    id: ConnectionId,
    error: ParseError,
    pieces: &mut Vec<Piece<'_>>,
    asides: &mut Vec<Aside>,
) {
    put_aside(id, false, Aside::Fault(error), pieces, asides);
    if let Some(connection) = peers.connections.get_mut(id) {
        connection.deaf = true;
    }
}

fn put_aside(
    connection: ConnectionId,
    first: bool,
    aside: Aside,
    pieces: &mut Vec<Piece<'_>>,
    asides: &mut Vec<Aside>,
) {
    pieces.push(Piece {
        connection,
        whole: None,
        aside: asides.len() as u32,
        first,
    });
    asides.push(aside);
}

/// The way of nearly all bytes: a session talks, and no frame of it is half there.
fn cut_whole<'a>(
    peers: &mut Peers,
    id: ConnectionId,
    bytes: &'a [u8],
    pieces: &mut Vec<Piece<'a>>,
    asides: &mut Vec<Aside>,
) -> Result<(), ParseError> {
    let (mut rest, before) = (bytes, pieces.len());
    while let Some((frame, after)) = split_whole(rest) {
        pieces.push(piece(id, false, frame));
        rest = after;
    }
    peers.counters.parse.frames += (pieces.len() - before) as u64;
    if rest.is_empty() {
        return Ok(());
    }
    match split(rest).map_err(ParseError::Framing)? {
        None => keep(peers, id, rest, pieces, asides),
        Some(_) => unreachable!("a whole frame was cut off"),
    }
}

fn piece(connection: ConnectionId, first: bool, frame: Frame<'_>) -> Piece<'_> {
    Piece {
        connection,
        whole: Some(frame),
        aside: 0,
        first,
    }
}

fn cut<'a>(
    peers: &mut Peers,
    id: ConnectionId,
    bytes: &'a [u8],
    pieces: &mut Vec<Piece<'a>>,
    asides: &mut Vec<Aside>,
) -> Result<(), ParseError> {
    let mut rest = continue_assembly(peers, id, bytes, pieces, asides)?;
    while !rest.is_empty() {
        match phase(peers, id) {
            Phase::Open(_) => return cut_whole(peers, id, rest, pieces, asides),
            Phase::Preface => match Preface::parse(rest).map_err(ParseError::Preface)? {
                Some((preface, after)) => {
                    greet(peers, id, preface)?;
                    rest = after;
                    continue;
                }
                None => return keep(peers, id, rest, pieces, asides),
            },
            _ => {}
        }
        expect_frame(peers, id, rest)?;
        match split(rest).map_err(ParseError::Framing)? {
            Some((frame, after)) => {
                if phase(peers, id) == Phase::Hello && peers.hand_over(id, frame.bytes(), after) {
                    return Ok(());
                }
                let first = begin_frame(peers, id);
                pieces.push(piece(id, first, frame));
                rest = after;
            }
            None => return keep(peers, id, rest, pieces, asides),
        }
    }
    Ok(())
}

fn phase(peers: &Peers, id: ConnectionId) -> Phase {
    peers
        .connections
        .get(id)
        .map_or(Phase::Closing, |connection| connection.phase)
}

/// Refuse what may not come now as soon as its length or kind is there. Who has not said who they are gets no room
/// for more than a HELLO.
fn expect_frame(peers: &Peers, id: ConnectionId, bytes: &[u8]) -> Result<(), ParseError> {
    match phase(peers, id) {
        Phase::Hello => {
            let got = frame_bytes(bytes)
                .map_err(ParseError::Framing)?
                .unwrap_or(0);
            if bytes
                .get(4)
                .is_some_and(|kind| *kind != FrameKind::Hello as u8)
            {
                split(bytes).map_err(ParseError::Framing)?;
                return Err(ParseError::Unexpected { kind: bytes[4] });
            }
            if got > HELLO_BYTES_MAX {
                return Err(ParseError::Framing(wire::ParseError::FrameLong {
                    got: got as u32,
                }));
            }
            Ok(())
        }
        Phase::Handshake => {
            // The client cannot sign anything before it has seen WELCOME.
            Err(ParseError::Unexpected {
                kind: bytes.get(4).copied().unwrap_or(0),
            })
        }
        _ => Ok(()),
    }
}

/// Add to the frame, or the preface, whose start was kept. Returns the bytes behind it.
fn continue_assembly<'a>(
    peers: &mut Peers,
    id: ConnectionId,
    bytes: &'a [u8],
    pieces: &mut Vec<Piece<'a>>,
    asides: &mut Vec<Aside>,
) -> Result<&'a [u8], ParseError> {
    let mut rest = bytes;
    loop {
        let Some(connection) = peers.connections.get_mut(id) else {
            return Ok(&[]);
        };
        if !connection.assembly.begun() {
            return Ok(rest);
        }
        let have = connection.assembly.bytes().len();
        let need = needed(connection.phase, connection.assembly.bytes())?;
        if have == need {
            if connection.phase == Phase::Preface {
                let parsed = Preface::parse(connection.assembly.bytes());
                let preface = parsed.map(|whole| whole.map(|(preface, _)| preface));
                peers.assembly.give_up(&mut connection.assembly);
                if let Some(preface) = preface.map_err(ParseError::Preface)? {
                    greet(peers, id, preface)?;
                }
                continue;
            }
            if connection.phase == Phase::Hello {
                let hello = connection.assembly.bytes().to_vec();
                if peers.hand_over(id, &hello, rest) {
                    return Ok(&[]);
                }
            }
            let Some(connection) = peers.connections.get_mut(id) else {
                return Ok(&[]);
            };
            let frame = Aside::Assembled(peers.assembly.finish(&mut connection.assembly));
            peers.counters.parse.assembled_frames += 1;
            let first = begin_frame(peers, id);
            put_aside(id, first, frame, pieces, asides);
            return Ok(rest);
        }
        let (taken, after) = rest.split_at((need - have).min(rest.len()));
        if taken.is_empty() {
            return Ok(rest);
        }
        extend(peers, id, taken, need, pieces, asides)?;
        check_start(peers, id)?;
        rest = after;
    }
}

/// How many bytes are to be put together, as far as the first of them tell: a preface, a header, or a frame.
fn needed(phase: Phase, start: &[u8]) -> Result<usize, ParseError> {
    if phase == Phase::Preface {
        return Ok(PREFACE_BYTES);
    }
    match frame_bytes(start).map_err(ParseError::Framing)? {
        Some(need) if start.len() >= HEADER_BYTES => Ok(need),
        _ => Ok(HEADER_BYTES),
    }
}

/// Refuse a frame whose header is there and is none.
fn check_start(peers: &mut Peers, id: ConnectionId) -> Result<(), ParseError> {
    let Some(connection) = peers.connections.get(id) else {
        return Ok(());
    };
    let start = connection.assembly.bytes();
    if connection.phase == Phase::Preface {
        return Preface::parse(start)
            .map(|_| ())
            .map_err(ParseError::Preface);
    }
    expect_frame(peers, id, start)?;
    split(start).map(|_| ()).map_err(ParseError::Framing)
}

/// Keep the start of a frame, or of the preface.
fn keep(
    peers: &mut Peers,
    id: ConnectionId,
    bytes: &[u8],
    pieces: &mut Vec<Piece<'_>>,
    asides: &mut Vec<Aside>,
) -> Result<(), ParseError> {
    let need = needed(phase(peers, id), bytes)?;
    if let Some(connection) = peers.connections.get_mut(id) {
        peers.assembly.begin(id, &mut connection.assembly);
    }
    if peers.assembly.stale() {
        let connections = &peers.connections;
        peers
            .assembly
            .clear_away(|id, number| holds(connections, id, number));
    }
    extend(peers, id, bytes, need, pieces, asides)
}

/// Copy more of a frame whose whole will have `need` bytes, as far as is known. When there is no room, the frame that was
/// begun first of all others makes it: its peer shall come again. Whoever sends what they began keeps what they have.
fn extend(
    peers: &mut Peers,
    id: ConnectionId,
    bytes: &[u8],
    need: usize,
    pieces: &mut Vec<Piece<'_>>,
    asides: &mut Vec<Aside>,
) -> Result<(), ParseError> {
    loop {
        let Peers {
            connections,
            assembly: pool,
            ..
        } = &mut *peers;
        let Some(connection) = connections.get_mut(id) else {
            return Ok(());
        };
        if pool.extend(&mut connection.assembly, bytes, need) {
            peers.counters.parse.assembled_bytes += bytes.len() as u64;
            return Ok(());
        }
        let full = ParseError::AssemblyFull {
            bytes: need,
            reserved: pool.reserved(),
        };
        let Some(oldest) = pool.oldest(id, |id, number| holds(connections, id, number)) else {
            return Err(full);
        };
        if let Some(connection) = connections.get_mut(oldest) {
            pool.give_up(&mut connection.assembly);
        }
        deafen(peers, oldest, full, pieces, asides);
    }
}

fn holds(connections: &Connections, id: ConnectionId, number: u64) -> bool {
    let connection = connections.get(id);
    connection.is_some_and(|connection| connection.assembly.is(number))
}

/// Answer the preface with ours.
fn greet(peers: &mut Peers, id: ConnectionId, preface: Preface) -> Result<(), ParseError> {
    if preface.chosen != 0 {
        let fault = wire::ParseError::Reserved {
            at: 4,
            value: u64::from(preface.chosen),
        };
        return Err(ParseError::Preface(fault));
    }
    let answer = preface.answer();
    peers.say_plain(id, &answer.encode());
    if let Some(connection) = peers.connections.get_mut(id) {
        connection.phase = Phase::Hello;
    }
    if answer.chosen == 0 {
        Err(ParseError::Version { max: preface.max })
    } else {
        Ok(())
    }
}

/// A frame is whole. Whether it is the first one of its connection.
fn begin_frame(peers: &mut Peers, id: ConnectionId) -> bool {
    peers.counters.parse.frames += 1;
    let Some(connection) = peers.connections.get_mut(id) else {
        return false;
    };
    let first = connection.phase == Phase::Hello;
    if first {
        connection.phase = Phase::Handshake;
    }
    first
}
