//! How connections and lanes end: lost, closed by this side for a reason, crowded out, or parted with.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{ConnectionError, StreamId, VarInt};
use shard::ConnectionId;

use super::Quic;

/// Why this side ends a connection, as the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Why {
    /// It had no lane with a session for too long.
    Unused = 1,
    /// The node stops.
    Stopped = 2,
    /// Its handshake took long, and others wanted its place.
    CrowdedOut = 4,
    /// Its address is banned.
    Banned = 5,
    /// It says too much that leads to nothing.
    Excess = 6,
}

/// How long one that is parted with may take to hear why.
const PARTING: Duration = Duration::from_secs(1);

impl Quic {
    /// End a connection: its lanes are over at once, and the client is told why.
    pub(super) fn end_connection(&mut self, now: Instant, at: usize, why: Why) {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        if peer.connection.is_closed() {
            return;
        }
        match why {
            Why::Unused => self.counters.connections_unused += 1,
            Why::CrowdedOut => self.counters.handshakes_crowded_out += 1,
            Why::Banned => self.counters.connections_banned += 1,
            Why::Excess => self.counters.connections_excessive += 1,
            Why::Stopped => {}
        }
        let code = VarInt::from_u32(why as u32);
        peer.connection.close(now, code, Bytes::new());
        let lanes = std::mem::take(&mut peer.lanes);
        for (_, id) in lanes {
            self.forget(id);
        }
        self.no_longer_under_way(at);
        self.touch(at);
    }

    /// A handshake is over, well or not. Whether it was under way.
    pub(super) fn no_longer_under_way(&mut self, at: usize) -> bool {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return false;
        };
        let ticket = peer.ticket.take();
        if let Some(ticket) = ticket {
            self.under_way.end(ticket);
        }
        ticket.is_some()
    }

    /// A handshake makes room for another one. Nothing is kept of it but the word that it is over.
    pub(super) fn crowd_out(&mut self, now: Instant, at: usize) {
        self.end_connection(now, at, Why::CrowdedOut);
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            peer.crowded_out = true;
        }
    }

    /// The time of a connection has come: of its own timers, or of this side's patience.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        at: usize,
        has_session: &impl Fn(ConnectionId) -> bool,
    ) {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        peer.timer = None;
        peer.connection.handle_timeout(now);
        self.touch(at);
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        let unused = self.settings.limits.unused;
        let over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if !over(peer.ends_at(unused)) {
            return;
        }
        let sessions = peer.lanes.iter().map(|(_, id)| *id);
        let sessions: Vec<ConnectionId> = sessions.filter(|id| has_session(*id)).collect();
        sessions.into_iter().for_each(|id| self.know(id));
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        if over(peer.parts_at) {
            self.end_connection(now, at, Why::Banned);
        } else if over(peer.ends_at(unused)) {
            self.end_connection(now, at, Why::Unused);
        }
    }

    /// A lane has a session, and so has its connection.
    pub(super) fn know(&mut self, id: ConnectionId) {
        let Some(lane) = self.lanes.get(id).filter(|lane| !lane.known) else {
            return;
        };
        lane.known = true;
        let at = lane.peer;
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            peer.known = true;
            self.adjust(at);
        }
    }

    /// The connection of a lane that is about to be closed is ended, too, as soon as its client has what was said to it. Not if it has
    /// a session: who has one stays, as those do who came over sockets.
    pub(crate) fn part_with(&mut self, now: Instant, id: ConnectionId) {
        let Some(at) = self.lanes.get(id).map(|lane| lane.peer) else {
            return;
        };
        if let Some(Some(peer)) = self.peers.get_mut(at)
            && !peer.known
        {
            peer.parts_at.get_or_insert(now + PARTING);
            self.touch(at);
        }
    }

    /// The client has all of a stream that was finished, or wants no more of it.
    pub(super) fn ended(&mut self, now: Instant, at: usize, stream: StreamId) {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        if let Some(place) = peer.ending.iter().position(|known| *known == stream) {
            peer.ending.swap_remove(place);
        }
        let heard = peer.ending.is_empty() && peer.lanes.is_empty();
        if heard && peer.parts_at.is_some() {
            self.end_connection(now, at, Why::Banned);
        }
    }

    /// The connection is over: so are its lanes.
    pub(super) fn lost(&mut self, at: usize, reason: &ConnectionError) {
        if self.no_longer_under_way(at) {
            self.counters.handshakes_failed += 1;
        }
        match reason {
            ConnectionError::TimedOut => self.counters.connections_timed_out += 1,
            ConnectionError::TransportError(_) => self.counters.connections_faulty += 1,
            _ => {}
        }
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        let lanes = std::mem::take(&mut peer.lanes);
        for (_, id) in lanes {
            self.forget(id);
        }
    }

    /// A lane is over: the shard hears of it.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.note_waits(id, false);
        let Some(lane) = self.lanes.remove(id) else {
            return;
        };
        if let Some(Some(peer)) = self.peers.get_mut(lane.peer) {
            peer.listed -= u32::from(lane.listed);
        }
        self.told.spare.extend(lane.queued);
        self.told.closed.push(id);
    }

    /// A lane is over, its connection is not.
    pub(super) fn leave(&mut self, now: Instant, id: ConnectionId) {
        let Some(lane) = self.lanes.get(id) else {
            return;
        };
        let at = lane.peer;
        self.forget(id);
        self.touch(at);
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        peer.lanes.retain(|(_, known)| *known != id);
        let none = peer.lanes.is_empty();
        let lanes = &mut self.lanes;
        let mut is_known = |id| lanes.get(id).is_some_and(|lane| lane.known);
        let known = peer.lanes.iter().any(|(_, id)| is_known(*id));
        if std::mem::replace(&mut peer.known, known) && !known {
            peer.unknown_since = now;
            peer.said.unknown(&peer.connection);
            self.adjust(at);
        }
        if none {
            self.note_no_lanes(at);
        }
    }

    /// End every connection: the node ends. What streams have taken may still be on its way, and is given up.
    pub(crate) fn stop(&mut self, now: Instant) {
        for at in 0..self.peers.len() {
            self.end_connection(now, at, Why::Stopped);
        }
    }

    /// Whose a lane is.
    pub(crate) fn address_of(&mut self, id: ConnectionId) -> Option<IpAddr> {
        let at = self.lanes.get(id)?.peer;
        Some(self.peers.get(at)?.as_ref()?.address.ip())
    }
}
