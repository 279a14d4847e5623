//! What becomes of connections: time passes, handshakes end, streams open and end, connections are lost.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{ConnectionError, Dir, Event, StreamEvent, StreamId, VarInt};
use shard::ConnectionId;
use tls::EXPORTER_LABEL;

use super::streams::reject;
use super::{CODE_UNUSED, LaneOpened, Quic};

impl Quic {
    /// Let time pass. Comes before what has been received since: a packet that moves its connection to another path has to be
    /// answered on that before a timer of the old one ends.
    pub(crate) fn pass_time(&mut self, now: Instant) {
        while let Some((at, peer)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            self.expire(now, peer);
        }
        self.admission.calm_down(now, self.under_way);
    }

    pub(super) fn expire(&mut self, now: Instant, at: usize) {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        peer.timer = None;
        let unused = peer.is_unused()
            && now.saturating_duration_since(peer.unused_since) >= self.settings.limits.unused;
        if unused && !peer.connection.is_closed() {
            self.counters.connections_unused += 1;
            peer.connection
                .close(now, VarInt::from_u32(CODE_UNUSED), Bytes::new());
        }
        peer.connection.handle_timeout(now);
        self.touch(at);
    }

    /// Find out what became of the connections that something happened to.
    pub(crate) fn settle(&mut self, now: Instant) {
        let mut place = 0;
        while let Some(at) = self.touched.get(place).copied() {
            self.listen(now, at);
            place += 1;
        }
    }

    /// What a connection has to tell.
    pub(super) fn listen(&mut self, now: Instant, at: usize) {
        loop {
            let Some(Some(peer)) = self.peers.get_mut(at) else {
                return;
            };
            let Some(event) = peer.connection.poll() else {
                return;
            };
            match event {
                Event::Connected => self.connected(at),
                Event::ConnectionLost { reason } => self.lost(now, at, &reason),
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => self.open_lanes(at),
                Event::Stream(StreamEvent::Readable { id }) => self.list(at, id),
                Event::Stream(StreamEvent::Writable { id }) => {
                    if let Some(lane) = self.lane_of(at, id) {
                        self.write(now, lane);
                    }
                }
                Event::Stream(StreamEvent::Stopped { id, .. }) => {
                    self.ended(at, id);
                    if let Some(lane) = self.lane_of(at, id) {
                        self.give_up(now, lane);
                    }
                }
                Event::Stream(StreamEvent::Finished { id }) => self.ended(at, id),
                _ => {}
            }
        }
    }

    /// The client has all of a stream that was finished, or wants no more of it.
    pub(super) fn ended(&mut self, at: usize, stream: StreamId) {
        if let Some(Some(peer)) = self.peers.get_mut(at)
            && let Some(place) = peer.ending.iter().position(|known| *known == stream)
        {
            peer.ending.swap_remove(place);
        }
    }

    pub(super) fn connected(&mut self, at: usize) {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        peer.connected = true;
        self.under_way -= 1;
        self.counters.connected += 1;
        let session = peer.connection.crypto_session();
        let exported = session.export_keying_material(&mut peer.exporter, EXPORTER_LABEL, b"");
        exported.expect("a handshake that is over exports 32 bytes");
        self.open_lanes(at);
    }

    /// Every stream that the client has opened is a lane; one for which there is no room is given up.
    pub(super) fn open_lanes(&mut self, at: usize) {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        if !peer.connected {
            return;
        }
        while let Some(stream) = peer.connection.streams().accept(Dir::Bi) {
            let Some(id) = self.lanes.open(at, stream) else {
                self.counters.lanes_refused += 1;
                reject(&mut peer.connection, stream);
                continue;
            };
            self.counters.lanes_opened += 1;
            peer.lanes.push((stream, id));
            self.told.opened.push(LaneOpened {
                id,
                peer: peer.address,
                exporter: peer.exporter,
            });
            if let Some(lane) = self.lanes.get(id) {
                lane.listed = true;
            }
            self.readable.push_back(id);
        }
    }

    pub(super) fn lane_of(&self, at: usize, stream: StreamId) -> Option<ConnectionId> {
        let peer = self.peers.get(at)?.as_ref()?;
        let mut lanes = peer.lanes.iter();
        lanes.find(|(known, _)| *known == stream).map(|(_, id)| *id)
    }

    pub(super) fn list(&mut self, at: usize, stream: StreamId) {
        let Some(id) = self.lane_of(at, stream) else {
            return;
        };
        if let Some(lane) = self.lanes.get(id)
            && !lane.deaf
            && !std::mem::replace(&mut lane.listed, true)
        {
            self.readable.push_back(id);
        }
    }

    /// The connection is over: so are its lanes.
    pub(super) fn lost(&mut self, now: Instant, at: usize, reason: &ConnectionError) {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        let lanes = std::mem::take(&mut peer.lanes);
        if !std::mem::replace(&mut peer.connected, true) {
            self.under_way -= 1;
            self.counters.handshakes_failed += 1;
        }
        peer.unused_since = now;
        match reason {
            ConnectionError::TimedOut => self.counters.connections_timed_out += 1,
            ConnectionError::TransportError(_) => self.counters.connections_faulty += 1,
            _ => {}
        }
        for (_, id) in lanes {
            self.forget(id);
        }
    }

    /// A lane is over: the shard hears of it.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        if let Some(lane) = self.lanes.remove(id) {
            self.told.spare.extend(lane.queued);
            self.told.closed.push(id);
        }
    }

    /// A lane is over, its connection is not.
    pub(super) fn leave(&mut self, now: Instant, id: ConnectionId) {
        let Some(lane) = self.lanes.get(id) else {
            return;
        };
        let at = lane.peer;
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            peer.lanes.retain(|(_, known)| *known != id);
            if peer.lanes.is_empty() {
                peer.unused_since = now;
            }
        }
        self.touch(at);
        self.forget(id);
    }
}
