//! Bytes of connections to whole frames. What straddles receive buffers is put together once, in a buffer for which
//! room was reserved before its first byte was kept; everything else stays where it was received.

use wire::frame::{FrameKind, frame_bytes, split};
use wire::handshake::HELLO_BYTES_MAX;
use wire::preface::{PREFACE_BYTES, Preface};

use crate::connection::Phase;
use crate::io::{ConnectionId, Received};
use crate::parse::{ParseError, Piece, Place};
use crate::peers::Peers;

/// Cut what was received into whole frames; what is left of a frame is kept for the next turn. Buffers with
/// assembled frames are pushed to `assembled`.
pub(crate) fn gather<'a>(
    peers: &mut Peers,
    received: &[Received<'a>],
    pieces: &mut Vec<Piece<'a>>,
    assembled: &mut Vec<Vec<u8>>,
) {
    for piece in received {
        let id = piece.connection;
        let now = peers.now.monotonic;
        let Some(connection) = peers.connections.get_mut(id) else {
            continue;
        };
        if !connection.listens() || connection.deaf {
            continue;
        }
        connection.received_at = now;
        peers.counters.accept.bytes += piece.bytes.len() as u64;
        if let Err(error) = cut(peers, id, piece.bytes, pieces, assembled) {
            // What came before the fault still counts, so the fault waits for its turn.
            pieces.push(Piece {
                connection: id,
                first: false,
                place: Place::Fault(error),
            });
            if let Some(connection) = peers.connections.get_mut(id) {
                connection.deaf = true;
            }
        }
    }
}

fn cut<'a>(
    peers: &mut Peers,
    id: ConnectionId,
    bytes: &'a [u8],
    pieces: &mut Vec<Piece<'a>>,
    assembled: &mut Vec<Vec<u8>>,
) -> Result<(), ParseError> {
    let mut rest = continue_assembly(peers, id, bytes, pieces, assembled)?;
    while !rest.is_empty() {
        if phase(peers, id) == Phase::Preface {
            match Preface::parse(rest).map_err(ParseError::Preface)? {
                Some((preface, after)) => {
                    greet(peers, id, preface)?;
                    rest = after;
                    continue;
                }
                None => return keep(peers, id, rest, PREFACE_BYTES),
            }
        }
        expect_frame(peers, id, rest)?;
        match split(rest).map_err(ParseError::Framing)? {
            Some((frame, after)) => {
                let first = begin_frame(peers, id);
                pieces.push(Piece {
                    connection: id,
                    first,
                    place: Place::Whole(frame),
                });
                rest = after;
            }
            None => {
                let need = frame_bytes(rest).map_err(ParseError::Framing)?;
                return keep(peers, id, rest, need.unwrap_or(wire::frame::HEADER_BYTES));
            }
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

/// Refuse what may not come now as soon as its length or kind is there.
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

/// Add to the frame whose start was kept. Returns the bytes behind it.
fn continue_assembly<'a>(
    peers: &mut Peers,
    id: ConnectionId,
    bytes: &'a [u8],
    pieces: &mut Vec<Piece<'a>>,
    assembled: &mut Vec<Vec<u8>>,
) -> Result<&'a [u8], ParseError> {
    let mut rest = bytes;
    loop {
        let Some(connection) = peers.connections.get_mut(id) else {
            return Ok(&[]);
        };
        if connection.assembly_need == 0 {
            return Ok(rest);
        }
        let missing = connection.assembly_need - connection.assembly.len();
        let taken = missing.min(rest.len());
        connection.assembly.extend_from_slice(&rest[..taken]);
        peers.counters.parse.assembled_bytes += taken as u64;
        rest = &rest[taken..];
        if connection.phase == Phase::Preface {
            let Some((preface, _)) =
                Preface::parse(&connection.assembly).map_err(ParseError::Preface)?
            else {
                return Ok(rest);
            };
            drop_assembly(peers, id);
            greet(peers, id, preface)?;
            continue;
        }
        // Only the header was reserved when not even the length had come.
        let need = frame_bytes(&connection.assembly).map_err(ParseError::Framing)?;
        let have = connection.assembly.len();
        let (buffer, reserved) = (
            std::mem::take(&mut connection.assembly),
            connection.assembly_need,
        );
        let checked = check_start(peers, id, &buffer);
        let Some(connection) = peers.connections.get_mut(id) else {
            return Ok(&[]);
        };
        connection.assembly = buffer;
        checked?;
        match need {
            Some(need) if need > reserved => {
                if !peers.assembly.reserve(need - reserved) {
                    return Err(ParseError::AssemblyFull {
                        bytes: need,
                        reserved: peers.assembly.reserved(),
                    });
                }
                connection.assembly_need = need;
                connection.assembly.reserve_exact(need - have);
            }
            Some(need) if have >= need => {
                let buffer = std::mem::take(&mut connection.assembly);
                connection.assembly_need = 0;
                peers.assembly.release(reserved);
                peers.counters.parse.assembled_frames += 1;
                let first = begin_frame(peers, id);
                pieces.push(Piece {
                    connection: id,
                    first,
                    place: Place::Assembled(assembled.len()),
                });
                assembled.push(buffer);
                return Ok(rest);
            }
            _ => return Ok(rest),
        }
    }
}

fn check_start(peers: &Peers, id: ConnectionId, start: &[u8]) -> Result<(), ParseError> {
    expect_frame(peers, id, start)?;
    split(start).map(|_| ()).map_err(ParseError::Framing)
}

/// Keep the start of a frame, or of the preface, whose whole will have `need` bytes.
fn keep(peers: &mut Peers, id: ConnectionId, bytes: &[u8], need: usize) -> Result<(), ParseError> {
    if !peers.assembly.reserve(need) {
        return Err(ParseError::AssemblyFull {
            bytes: need,
            reserved: peers.assembly.reserved(),
        });
    }
    let mut buffer = peers.assembly.take();
    let Some(connection) = peers.connections.get_mut(id) else {
        return Ok(());
    };
    buffer.reserve_exact(need);
    buffer.extend_from_slice(bytes);
    connection.assembly = buffer;
    connection.assembly_need = need;
    peers.counters.parse.assembled_bytes += bytes.len() as u64;
    Ok(())
}

fn drop_assembly(peers: &mut Peers, id: ConnectionId) {
    let Some(connection) = peers.connections.get_mut(id) else {
        return;
    };
    let need = std::mem::take(&mut connection.assembly_need);
    let buffer = std::mem::take(&mut connection.assembly);
    peers.assembly.release(need);
    peers.assembly.put(buffer);
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
