//! What leaves: datagrams of every connection that something happened to, as trains; and connections that are over.

use std::time::Instant;

use quinn_proto::{ConnectionHandle, EndpointEvent, Transmit};

use super::Quic;
use super::addresses::Before;
use super::peer::Peer;

/// Bytes of a train at most: the payload of the longest UDP message over IPv4, which a kernel takes a train for.
pub(super) const TRAIN_BYTES_MAX: usize = 65_507;
/// Datagrams of a train at most, whatever the kernel cuts: quinn-proto looks for packets of up to 1,452 bytes by itself.
const TRAIN_DATAGRAMS_MAX: usize = 32;
const _: () = assert!(TRAIN_DATAGRAMS_MAX * 1_452 <= TRAIN_BYTES_MAX);

/// What a connection has to send.
enum Next {
    Leaves(Transmit),
    /// More than may be sent where it should go.
    Stays,
    Nothing,
}

impl Quic {
    /// Send what is to be sent: `send` takes a train, at most `segments_max` datagrams and 65,507 bytes long, or gives its bytes back for want of room.
    pub(crate) fn transmit(
        &mut self,
        now: Instant,
        segments_max: usize,
        mut buffer: impl FnMut() -> Vec<u8>,
        mut send: impl FnMut(&Transmit, Vec<u8>) -> Result<(), Vec<u8>>,
    ) {
        while let Some((transmit, bytes)) = self.responses.pop_front() {
            if let Err(bytes) = send(&transmit, bytes) {
                self.responses.push_front((transmit, bytes));
                return;
            }
        }
        let mut later = Vec::new();
        let mut room = true;
        while let Some(at) = self.touched.pop() {
            room = room && self.transmit_one(now, at, segments_max, &mut buffer, &mut send);
            match room {
                true => self.rearm(at),
                false => later.push(at),
            }
        }
        self.touched = later;
    }

    /// Send what one connection has to send. Whether there was room for all.
    pub(super) fn transmit_one(
        &mut self,
        now: Instant,
        at: usize,
        segments_max: usize,
        buffer: &mut impl FnMut() -> Vec<u8>,
        send: &mut impl FnMut(&Transmit, Vec<u8>) -> Result<(), Vec<u8>>,
    ) -> bool {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return true;
        };
        loop {
            let (mut bytes, kept) = (buffer(), peer.addresses.due());
            let next = match kept {
                None => Self::next_train(peer, now, segments_max, &mut bytes),
                Some((transmit, kept)) => {
                    bytes.extend_from_slice(&kept);
                    Next::Leaves(transmit)
                }
            };
            let transmit = match next {
                Next::Leaves(transmit) => transmit,
                Next::Stays => {
                    self.counters.datagrams_held_back += 1;
                    bytes.clear();
                    self.told.spare.push(bytes);
                    continue;
                }
                Next::Nothing => {
                    self.told.spare.push(bytes);
                    return true;
                }
            };
            bytes.truncate(transmit.size);
            if send(&transmit, bytes).is_err() {
                // As if the network had lost it: the connection sends again what matters.
                self.counters.datagrams_unsent += 1;
                return false;
            }
            let each = transmit.segment_size.unwrap_or(transmit.size).max(1);
            self.counters.datagrams_out += transmit.size.div_ceil(each) as u64;
        }
    }

    /// What a connection has to send next, and whether it may.
    fn next_train(peer: &mut Peer, now: Instant, segments_max: usize, bytes: &mut Vec<u8>) -> Next {
        let (connection, addresses) = (&mut peer.connection, &mut peer.addresses);
        let proven = addresses.is_proven(connection.remote_address());
        // Nearly all trains are one packet; without room for that, room for the longest train is made.
        bytes.reserve(usize::from(connection.current_mtu()));
        let (before, segments_max) = match proven {
            true => (None, segments_max.min(TRAIN_DATAGRAMS_MAX)),
            false => (Some(Before::of(connection)), 1),
        };
        let Some(transmit) = connection.poll_transmit(now, segments_max, bytes) else {
            return Next::Nothing;
        };
        let to = transmit.destination;
        if before
            .as_ref()
            .is_some_and(|before| before.is_of_proven(connection, &transmit))
        {
            addresses.prove(to);
        }
        if addresses.is_proven(to) || addresses.allows(to, transmit.size) {
            return Next::Leaves(transmit);
        }
        if !before.is_some_and(|before| before.is_probe(connection)) {
            addresses.keep(transmit, bytes);
        }
        Next::Stays
    }

    /// Settle a connection with the endpoint, and set its timer; it may be over for good.
    pub(super) fn rearm(&mut self, at: usize) {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        peer.touched = false;
        if peer.crowded_out {
            // Its endpoint hears of nothing else any more.
            let gone = EndpointEvent::drained();
            self.endpoint.handle_event(ConnectionHandle(at), gone);
            return self.remove(at);
        }
        while let Some(event) = peer.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(ConnectionHandle(at), event) {
                peer.connection.handle_event(event);
            }
        }
        if peer.connection.is_drained() {
            return self.remove(at);
        }
        let ends_at = peer.ends_at(self.settings.limits.unused);
        let timer = [peer.connection.poll_timeout(), ends_at];
        let timer = timer.into_iter().flatten().min();
        if timer != peer.timer {
            if let Some(before) = peer.timer {
                self.timers.remove(&(before, at));
            }
            peer.timer = timer;
            self.timers.extend(timer.map(|timer| (timer, at)));
        }
    }

    /// The endpoint has forgotten a connection: nothing of it is left.
    pub(super) fn remove(&mut self, at: usize) {
        self.no_longer_under_way(at);
        let Some(peer) = self.peers[at].take() else {
            return;
        };
        if let Some(timer) = peer.timer {
            self.timers.remove(&(timer, at));
        }
        self.give_back(&peer);
        for (_, id) in peer.lanes {
            self.forget(id);
        }
        self.count -= 1;
        self.counters.connections_ended += 1;
    }
}
