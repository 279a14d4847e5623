//! Where QUIC meets the loop: the ring's datagrams on one side, what a turn takes and gives on the other.
//!
//! A shard without QUIC has no door. All time is the loop's; this is the one file of QUIC that knows the ring.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Instant;

use partition::MappedSegment;
use quinn_proto::Transmit;
use ring::{Datagrams, Ring, Route};
use shard::{ConnectionId, Reading, Received, Sent, Shard, Tunnel};

use super::counters::QuicCounters;
use super::datagram::Loose;
use super::heard::Heard;
use super::settings::Settings;
use super::streams::Wanted;
use super::{Arrival, LaneOpened, Quic, Told};

/// Bytes of lanes that a turn works on.
const TURN_BYTES: usize = 512 << 10;

/// QUIC on one shard.
pub(crate) struct Door {
    quic: Quic,
    told: Told,
    /// What was read of lanes for the next turn.
    heard: Heard,
    stopping: bool,
    /// The sockets of all shards: were one closed before all end, the others would change their places, and get each other's datagrams.
    _sockets: Arc<[UdpSocket]>,
}

impl Door {
    /// Of shard `shard` of `shards`; lanes have names behind those of `first_slot` sockets.
    pub(crate) fn new(
        settings: Arc<Settings>,
        place: (u16, u16),
        first_slot: usize,
        sockets: Arc<[UdpSocket]>,
    ) -> Self {
        Self {
            quic: Quic::new(settings, place, first_slot, None),
            told: Told::default(),
            heard: Heard::default(),
            stopping: false,
            _sockets: sockets,
        }
    }

    pub(crate) fn owns(&self, id: ConnectionId) -> bool {
        self.quic.owns(id)
    }

    /// What its connections take of memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.quic.memory_bytes()
    }

    pub(crate) fn counters(&self) -> QuicCounters {
        self.quic.counters()
    }

    /// Let time pass: before what has come since is handed in.
    pub(crate) fn pass_time(&mut self, now: Instant, shard: &Shard<MappedSegment>) {
        self.quic.pass_time(now, |id| shard.has_session(id));
    }

    /// A train has come.
    pub(crate) fn receive(&mut self, now: Instant, ring: &mut Ring, datagrams: Datagrams) {
        let train = ring.datagrams(&datagrams);
        let arrival = Arrival {
            peer: train.peer,
            local: train.local,
            ecn: train.ecn,
            segment_bytes: train.segment_bytes,
        };
        self.quic.receive(now, &arrival, train.bytes);
        ring.release_datagrams(datagrams);
    }

    /// Find out what became of lanes, and read those that the shard wants to hear. Whether there is anything for a turn.
    pub(crate) fn gather(&mut self, now: Instant, shard: &Shard<MappedSegment>) -> bool {
        self.quic.settle(now);
        let wanted = |id| match (shard.reading(id), shard.has_session(id)) {
            (Reading::Now, true) => Wanted::Known,
            (Reading::Now, false) => Wanted::Unknown,
            _ => Wanted::Later,
        };
        if self.heard.is_empty() {
            self.quic.read(now, TURN_BYTES, wanted, &mut self.heard);
        }
        self.quic.has_news() || !self.heard.is_empty() || !self.quic.loose().is_empty()
    }

    /// Tell the loop what became of lanes: those opened, and for each its tunnel.
    pub(crate) fn tell<E>(
        &mut self,
        mut opened: impl FnMut(LaneOpened, Tunnel) -> Result<(), E>,
        sent: &mut Vec<Sent>,
        mut finished: impl FnMut(ConnectionId),
        closed: &mut Vec<ConnectionId>,
        ring: &mut Ring,
    ) -> Result<(), E> {
        self.quic.tell(&mut self.told);
        for lane in self.told.opened.drain(..) {
            let tunnel = Tunnel {
                connection: lane.id,
                exporter: lane.exporter,
                shown: lane.shown,
                stays: true,
            };
            opened(lane, tunnel)?;
        }
        sent.extend(
            (self.told.sent.drain(..)).map(|(connection, bytes)| Sent { connection, bytes }),
        );
        self.told.finished.drain(..).for_each(&mut finished);
        closed.append(&mut self.told.closed);
        for buffer in self.told.spare.drain(..) {
            ring.recycle_buffer(buffer);
        }
        Ok(())
    }

    /// What lanes have for the turn.
    pub(crate) fn received(&self) -> impl Iterator<Item = Received<'_>> {
        let pieces = self.heard.pieces();
        pieces.map(|(connection, bytes)| Received { connection, bytes })
    }

    /// Datagrams for the turn.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = shard::Datagram<'_>> {
        self.quic.loose().iter().map(Loose::view)
    }

    /// The turn has worked on it.
    pub(crate) fn worked(&mut self) {
        self.heard.clear();
        self.quic.loose_taken();
    }

    pub(crate) fn send(&mut self, now: Instant, id: ConnectionId, bytes: Vec<u8>) {
        self.quic.send(now, id, bytes);
    }

    /// The shard closes a lane. One of a banned address takes its connection with it, unless that has a session.
    pub(crate) fn close(&mut self, now: Instant, id: ConnectionId, shard: &Shard<MappedSegment>) {
        if self
            .quic
            .address_of(id)
            .is_some_and(|whose| shard.bars(whose))
        {
            self.quic.part_with(now, id);
        }
        self.quic.close(now, id);
    }

    /// The client of a lane says no more, and had its time to be answered.
    pub(crate) fn close_heard(&mut self, now: Instant, id: ConnectionId) {
        self.quic.close_heard(now, id);
    }

    /// Lanes that have said what nobody has read yet.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = ConnectionId> {
        self.quic.waiting()
    }

    /// Hand to the ring what is to be sent.
    pub(crate) fn flush(&mut self, now: Instant, ring: &mut Ring) {
        let segments_max = ring.segments_max();
        let ring = std::cell::RefCell::new(ring);
        let buffer = || ring.borrow_mut().take_buffer();
        let send = |transmit: &Transmit, bytes| {
            let segment = transmit.segment_size.filter(|each| *each < transmit.size);
            let route = Route {
                to: transmit.destination,
                from: transmit.src_ip,
                ecn: transmit.ecn.map_or(0, |ecn| ecn as u8),
                segment_bytes: segment.and_then(|each| u16::try_from(each).ok()),
            };
            ring.borrow_mut().send_datagrams(&route, bytes)
        };
        self.quic.transmit(now, segments_max, buffer, send);
    }

    /// When something is to be done though nothing comes.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.quic.wake_at()
    }

    /// The node stops: nobody comes any more.
    pub(crate) fn refuse(&mut self) {
        self.quic.refuse();
    }

    /// The node ends: every connection is told so, once.
    pub(crate) fn stop(&mut self, now: Instant, ring: &mut Ring) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.quic.stop(now);
            self.flush(now, ring);
        }
    }

    /// Whether all that was said on lanes that are over has arrived.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quic.is_quiet()
    }
}
