//! ACKs: one for each stream that moved in a turn, signed two at a time.

use partition::Segment;
use wire::ack::{ACK_BYTES, Ack};
use wire::ids::{AckMode, DATAGRAM_STREAM, Offset, RELAY_STREAM, Sequence};
use wire::signature::{SignJob, TAG_BYTES, sign_two};

use crate::io::ConnectionId;
use crate::log::Log;
use crate::peers::Peers;
use crate::session::SessionRef;

/// The answer to one datagram: it covers no other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LooseAck {
    pub(crate) connection: ConnectionId,
    pub(crate) number: Sequence,
    pub(crate) offset: Offset,
    pub(crate) ack_mode: AckMode,
}

/// An ACK in front of its signature. Its frame index is taken, so it has to be said.
struct Unsigned {
    connection: ConnectionId,
    session: SessionRef,
    frame_index: u64,
    signed: [u8; ACK_BYTES - TAG_BYTES],
}

/// One cumulative ACK for each stream that moved in this turn.
pub(crate) fn acknowledge<S: Segment>(peers: &mut Peers, logs: &[Log<S>]) {
    let mut dirty = std::mem::take(&mut peers.dirty);
    let mut waiting: Option<Unsigned> = None;
    for (reference, at) in dirty.drain(..) {
        let due = due_ack(peers, logs, reference, at as usize);
        let due = due.and_then(|(connection, ack)| prepare(peers, connection, &ack));
        waiting = match (waiting, due) {
            (Some(first), Some(second)) => {
                say_two(peers, [&first, &second]);
                None
            }
            (first, second) => first.or(second),
        };
    }
    if let Some(last) = waiting {
        say(peers, &last);
    }
    peers.dirty = dirty;
    let mut dirty = std::mem::take(&mut peers.dirty_relays);
    for id in dirty.drain(..) {
        acknowledge_relays(peers, id);
    }
    peers.dirty_relays = dirty;
    if !peers.loose.is_empty() {
        acknowledge_datagrams(peers);
    }
}

fn acknowledge_datagrams(peers: &mut Peers) {
    let (credit_frames, credit_bytes) = peers.credit();
    let mut loose = std::mem::take(&mut peers.loose);
    for told in loose.drain(..) {
        let ack = Ack {
            partition: DATAGRAM_STREAM,
            sequence: told.number,
            ack_mode: told.ack_mode,
            offset: told.offset,
            credit_frames,
            credit_bytes,
        };
        peers.counters.commit.acks += 1;
        peers.say(told.connection, |out, signer| ack.encode(out, signer));
    }
    peers.loose = loose;
}

/// What is to be told of a stream, and where.
fn due_ack<S: Segment>(
    peers: &mut Peers,
    logs: &[Log<S>],
    reference: SessionRef,
    at: usize,
) -> Option<(ConnectionId, Ack)> {
    let credit = peers.credit();
    let session = peers.sessions.get_mut(reference)?;
    let stream = session.streams.get_mut(at)?;
    if !std::mem::take(&mut stream.dirty) {
        return None;
    }
    let (credit_frames, credit_bytes) = credit;
    let ack = Ack {
        partition: stream.partition,
        sequence: stream.acked,
        ack_mode: logs
            .get(stream.log as usize)
            .map_or(stream.ack_mode, |log| log.ack),
        offset: stream.acked_offset,
        credit_frames,
        credit_bytes,
    };
    Some((session.connection?, ack))
}

/// Take the next frame index of a connection with an open session.
fn prepare(peers: &mut Peers, id: ConnectionId, ack: &Ack) -> Option<Unsigned> {
    peers.list(id);
    let connection = peers.connections.get_mut(id)?;
    let session = connection.session()?;
    peers.sessions.get(session)?;
    let frame_index = connection.frames_out;
    connection.frames_out += 1;
    peers.counters.commit.acks += 1;
    Some(Unsigned {
        connection: id,
        session,
        frame_index,
        signed: ack.signed_bytes(),
    })
}

fn job<'p>(peers: &'p Peers, ack: &'p Unsigned) -> SignJob<'p> {
    let session = peers.sessions.get(ack.session);
    let key = &session
        .expect("no session ends while ACKs are said")
        .keys
        .server;
    SignJob::session(key, ack.frame_index, &ack.signed)
}

fn say(peers: &mut Peers, ack: &Unsigned) {
    let tag = job(peers, ack).sign();
    put(peers, ack, &tag);
}

fn say_two(peers: &mut Peers, acks: [&Unsigned; 2]) {
    let jobs = acks.map(|ack| job(peers, ack));
    let tags = sign_two([&jobs[0], &jobs[1]]);
    for (ack, tag) in acks.into_iter().zip(tags) {
        put(peers, ack, &tag);
    }
}

fn put(peers: &mut Peers, ack: &Unsigned, tag: &[u8; TAG_BYTES]) {
    if let Some(connection) = peers.connections.get_mut(ack.connection) {
        connection.out.extend_from_slice(&ack.signed);
        connection.out.extend_from_slice(tag);
    }
}

fn acknowledge_relays(peers: &mut Peers, id: ConnectionId) {
    let (credit_frames, credit_bytes) = peers.credit();
    let connection = peers.connections.get_mut(id);
    let Some(relays) = connection.and_then(|connection| connection.relays.as_mut()) else {
        return;
    };
    relays.dirty = false;
    let sequence = Sequence(relays.acked);
    let ack = Ack {
        partition: RELAY_STREAM,
        sequence,
        ack_mode: peers.relay_ack_mode,
        offset: Offset(0),
        credit_frames,
        credit_bytes,
    };
    peers.counters.commit.acks += 1;
    peers.say(id, |out, signer| ack.encode(out, signer));
}
