//! What becomes of connections: time passes, handshakes end, streams open and have something to say.

use std::time::Instant;

use quinn_proto::{Dir, Event, StreamEvent, StreamId};
use shard::ConnectionId;
use tls::EXPORTER_LABEL;

use super::streams::reject;
use super::{LaneOpened, Quic};
use crate::accept::as_shown;

impl Quic {
    /// Let time pass. Comes before what has been received since: a packet that moves its connection to another path has to be
    /// answered on that before a timer of the old one ends.
    pub(crate) fn pass_time(&mut self, now: Instant, has_session: impl Fn(ConnectionId) -> bool) {
        while let Some((at, peer)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            self.expire(now, peer, &has_session);
        }
        self.admission.calm_down(now, self.under_way.count());
    }

    /// Find out what became of the connections that something happened to.
    pub(crate) fn settle(&mut self, now: Instant) {
        let mut place = 0;
        while let Some(at) = self.touched.get(place).copied() {
            self.listen(now, at);
            self.look_at_excess(now, at);
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
                return self.note_arrived(at);
            };
            match event {
                Event::Connected => self.connected(at),
                Event::ConnectionLost { reason } => self.lost(at, &reason),
                Event::DatagramReceived => self.take_datagrams(at),
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => self.open_lanes(at),
                Event::Stream(StreamEvent::Readable { id }) => self.list(at, id),
                Event::Stream(StreamEvent::Writable { id }) => {
                    if let Some(lane) = self.lane_of(at, id) {
                        self.write(now, lane);
                    }
                }
                Event::Stream(StreamEvent::Stopped { id, .. }) => {
                    self.ended(now, at, id);
                    if let Some(lane) = self.lane_of(at, id) {
                        self.give_up(now, lane);
                    }
                }
                Event::Stream(StreamEvent::Finished { id }) => self.ended(now, at, id),
                _ => {}
            }
        }
    }

    pub(super) fn connected(&mut self, at: usize) {
        self.no_longer_under_way(at);
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        peer.connected = true;
        peer.addresses.prove_first();
        self.counters.connected += 1;
        let session = peer.connection.crypto_session();
        let exported = session.export_keying_material(&mut peer.exporter, EXPORTER_LABEL, b"");
        exported.expect("a handshake that is over exports 32 bytes");
        let identity = session.peer_identity();
        let shown = identity.and_then(|shown| shown.downcast::<tls::Shown>().ok());
        peer.shown = shown.map(|shown| as_shown(*shown));
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
            let opened = match peer.parts_at {
                None => self.lanes.open(at, stream),
                Some(_) => None,
            };
            let Some(id) = opened else {
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
                shown: peer.shown,
            });
            if let Some(lane) = self.lanes.get(id) {
                lane.listed = true;
                peer.listed += 1;
            }
            self.readable.push_back(id);
        }
        if peer.known {
            self.adjust(at);
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
            if let Some(Some(peer)) = self.peers.get_mut(at) {
                peer.listed += 1;
            }
        }
    }
}
