//! Bytes of lanes: read in turn as far as the shard wants to hear, written as far as a stream takes them, closed in order or at once.

use std::time::Instant;

use quinn_proto::{Connection, ReadError, StreamId, VarInt, WriteError};
use shard::ConnectionId;

use super::Quic;
use super::heard::Heard;

/// Bytes that one lane gives a turn before others have their turn.
const LANE_BYTES: usize = 32 << 10;
/// Lanes without a session that are read for a turn: to find out who they are is dearer than any frame.
const STRANGERS_MAX: usize = 64;
/// Why a stream is given up.
const CODE_CLOSED: u32 = 3;

/// What the shard wants of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nothing for now.
    Later,
    /// What it has; nobody knows yet who it is.
    Unknown,
    /// What it has; it has a session.
    Known,
}

/// How reading a lane ended.
enum End {
    Nothing,
    More,
    Finished,
    Reset,
}

impl Quic {
    /// Read what lanes have, in turn, so many bytes at most, of those that `wanted` names.
    pub(crate) fn read(
        &mut self,
        now: Instant,
        mut bytes_max: usize,
        wanted: impl Fn(ConnectionId) -> Wanted,
        heard: &mut Heard,
    ) {
        let mut strangers = 0;
        for _ in 0..self.readable.len() {
            let Some(id) = self.readable.pop_front() else {
                break;
            };
            let asked = wanted(id);
            strangers += usize::from(asked == Wanted::Unknown);
            let many = asked == Wanted::Unknown && strangers > STRANGERS_MAX;
            self.note_waits(id, asked == Wanted::Later);
            if bytes_max == 0 || many || asked == Wanted::Later {
                self.readable.push_back(id);
                continue;
            }
            if asked == Wanted::Known {
                self.know(id);
            }
            let most = bytes_max.min(LANE_BYTES);
            bytes_max -= self.read_lane(now, id, most, heard);
        }
        self.memory.collect();
    }

    /// Lanes that may have said what was not read yet. A lane is listed before it is read, so some of them have said nothing.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = ConnectionId> {
        self.readable.iter().copied()
    }

    /// Read a lane, and list it again if it has more. Returns how many bytes there were.
    pub(super) fn read_lane(
        &mut self,
        now: Instant,
        id: ConnectionId,
        most: usize,
        heard: &mut Heard,
    ) -> usize {
        let Some(lane) = self.lanes.get(id) else {
            return 0;
        };
        let listed = std::mem::take(&mut lane.listed);
        let (at, stream, deaf) = (lane.peer, lane.stream, lane.deaf);
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return 0;
        };
        peer.listed -= u32::from(listed);
        let mut recv = peer.connection.recv_stream(stream);
        let Ok(mut chunks) = recv.read(true) else {
            return 0;
        };
        let mut left = most;
        let end = loop {
            if left == 0 {
                break End::More;
            }
            match chunks.next(left) {
                Ok(Some(chunk)) => {
                    left -= chunk.bytes.len();
                    if !deaf {
                        heard.put(id, &chunk.bytes);
                    }
                }
                Ok(None) => break End::Finished,
                Err(ReadError::Blocked) => break End::Nothing,
                Err(ReadError::Reset(_)) => break End::Reset,
            }
        };
        // Whether the window is told to have grown; the connection is looked at anyway.
        let _ = chunks.finalize();
        self.counters.lane_bytes_in += (most - left) as u64;
        self.touch(at);
        match end {
            End::Nothing => {}
            End::More => {
                if let Some(lane) = self.lanes.get(id) {
                    lane.listed = true;
                }
                if let Some(Some(peer)) = self.peers.get_mut(at) {
                    peer.listed += 1;
                }
                self.readable.push_back(id);
            }
            End::Finished => {
                if let Some(lane) = self.lanes.get(id) {
                    lane.deaf = true;
                }
                self.told.finished.push(id);
            }
            End::Reset => self.give_up(now, id),
        }
        self.note_read(at, most - left);
        most - left
    }

    /// Queue bytes for a lane. Takes the buffer; empty ones come back by [`Told::spare`].
    pub(crate) fn send(&mut self, now: Instant, id: ConnectionId, bytes: Vec<u8>) {
        let Some(lane) = self.lanes.get(id).filter(|lane| !lane.closing) else {
            self.told.spare.push(bytes);
            return;
        };
        let first = lane.is_written();
        lane.queued.push_back(bytes);
        if first {
            self.write(now, id);
        }
    }

    /// Let the stream take what it takes of what is queued.
    pub(super) fn write(&mut self, now: Instant, id: ConnectionId) {
        let Some(lane) = self.lanes.get(id) else {
            return;
        };
        let Some(Some(peer)) = self.peers.get_mut(lane.peer) else {
            return;
        };
        let mut taken = 0;
        let broken = loop {
            self.told
                .spare
                .extend(lane.cut(|bytes| self.held.copy(bytes)));
            if lane.piece.is_empty() {
                break false;
            }
            let piece = std::slice::from_mut(&mut lane.piece);
            match peer.connection.send_stream(lane.stream).write_chunks(piece) {
                Ok(written) => taken += written.bytes,
                Err(WriteError::Blocked) => break false,
                Err(_) => break true,
            }
        };
        let done = lane.closing && lane.is_written();
        let at = lane.peer;
        if taken > 0 {
            self.counters.lane_bytes_out += taken as u64;
            self.told.sent.push((id, taken));
        }
        self.touch(at);
        match (broken, done) {
            (true, _) => self.give_up(now, id),
            (false, true) => self.finish(now, id),
            (false, false) => {}
        }
    }

    /// The shard closes a lane: after what is queued has left. The second time: at once.
    pub(crate) fn close(&mut self, now: Instant, id: ConnectionId) {
        let Some(lane) = self.lanes.get(id) else {
            return;
        };
        match std::mem::replace(&mut lane.closed, true) {
            true => self.give_up(now, id),
            false => self.close_heard(now, id),
        }
    }

    /// Its client says no more: close a lane after what is queued has left, unless the shard has done so.
    pub(crate) fn close_heard(&mut self, now: Instant, id: ConnectionId) {
        let Some(lane) = self.lanes.get(id) else {
            return;
        };
        lane.deaf = true;
        lane.closing = true;
        if lane.is_written() {
            self.finish(now, id);
        }
    }

    /// Everything was said: tell the client so, and hear no more of it.
    pub(super) fn finish(&mut self, now: Instant, id: ConnectionId) {
        let Some(lane) = self.lanes.get(id) else {
            return;
        };
        let (at, stream) = (lane.peer, lane.stream);
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            // Either may be over already: then nothing is left to tell.
            if peer.connection.send_stream(stream).finish().is_ok() {
                peer.ending.push(stream);
            }
            let code = VarInt::from_u32(CODE_CLOSED);
            let _ = peer.connection.recv_stream(stream).stop(code);
        }
        self.leave(now, id);
    }

    /// Break a lane off.
    pub(super) fn give_up(&mut self, now: Instant, id: ConnectionId) {
        let Some(lane) = self.lanes.get(id) else {
            return;
        };
        let (at, stream) = (lane.peer, lane.stream);
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            reject(&mut peer.connection, stream);
        }
        self.leave(now, id);
    }
}

/// Give a stream up in both directions.
pub(super) fn reject(connection: &mut Connection, stream: StreamId) {
    let code = VarInt::from_u32(CODE_CLOSED);
    // Either may be over already: then nothing is left to tell.
    let _ = connection.send_stream(stream).reset(code);
    let _ = connection.recv_stream(stream).stop(code);
}
