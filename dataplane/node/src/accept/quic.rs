//! QUIC, as one shard speaks it: datagrams in, bytes of lanes out, and back. Every bidirectional stream that a client opens is a lane,
//! and to the shard a lane is a connection like a socket's.
//!
//! Does no I/O and reads no clock: datagrams, times and randomness are arguments, what is to be sent is handed to the caller. The
//! protocol itself is the crate `quinn-proto`; no lock and no thread is near it, each shard has its own. What a lane does not read
//! stays in the window of its stream, so backpressure reaches the client by itself.

mod addresses;
pub(crate) mod admission;
pub(crate) mod cids;
pub(crate) mod counters;
mod datagram;
pub(crate) mod door;
mod ending;
mod events;
mod excess;
pub(crate) mod heard;
mod lanes;
mod leaving;
mod memory;
mod peer;
#[cfg(any(test, feature = "fuzzing"))]
pub mod script;
mod session;
pub(crate) mod settings;
mod streams;
#[cfg(test)]
mod tests;
mod under_way;
mod windows;
#[cfg(any(test, feature = "fuzzing"))]
mod world;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::{DatagramEvent, EcnCodepoint, Endpoint, Incoming, Transmit};
use shard::{ConnectionId, Shown, share};

use self::addresses::Addresses;
use self::admission::{Admission, Crowded, Verdict};
use self::cids::is_astray;
use self::counters::QuicCounters;
use self::lanes::Lanes;
use self::memory::Memory;
use self::peer::Peer;
use self::settings::{CONNECTION_BYTES, Settings};
use self::under_way::UnderWay;
use self::windows::Held;

/// Where a train of datagrams came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) peer: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) ecn: u8,
    pub(crate) segment_bytes: usize,
}

/// A lane that was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneOpened {
    pub(crate) id: ConnectionId,
    pub(crate) peer: SocketAddr,
    pub(crate) exporter: [u8; 32],
    pub(crate) shown: Option<Shown>,
}

/// What became of lanes since it was asked last.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) opened: Vec<LaneOpened>,
    /// Bytes that streams have taken.
    pub(crate) sent: Vec<(ConnectionId, usize)>,
    /// Lanes whose client will send no more.
    pub(crate) finished: Vec<ConnectionId>,
    pub(crate) closed: Vec<ConnectionId>,
    /// Buffers that are empty now.
    pub(crate) spare: Vec<Vec<u8>>,
}

/// One shard's end of all its QUIC connections.
pub(crate) struct Quic {
    endpoint: Endpoint,
    settings: Arc<Settings>,
    /// By the handles of the endpoint.
    peers: Vec<Option<Box<Peer>>>,
    count: usize,
    under_way: UnderWay,
    trusted: usize,
    /// Windows given for lanes that are not read; what came and was not read; what was taken and is on its way.
    waiting_window: usize,
    unread_bytes: usize,
    held: Held,
    admission: Admission,
    lanes: Lanes,
    /// Lanes that may have something to read.
    readable: VecDeque<ConnectionId>,
    timers: BTreeSet<(Instant, usize)>,
    /// Connections to look at, and those of them whose datagrams have no room.
    touched: Vec<usize>,
    place: (u16, u16),
    /// Answers of the endpoint itself: Retry, version negotiation, resets.
    responses: VecDeque<(Transmit, Vec<u8>)>,
    told: Told,
    /// Datagrams of lanes for the next turn.
    loose: datagram::Waiting,
    scratch: Vec<u8>,
    memory: Memory,
    counters: QuicCounters,
}

impl Quic {
    /// For one shard. Lanes have names behind those of `first_slot` sockets. A seed makes it do the same again.
    pub(crate) fn new(
        settings: Arc<Settings>,
        (shard, shards): (u16, u16),
        first_slot: usize,
        seed: Option<[u8; 32]>,
    ) -> Self {
        let endpoint = Endpoint::new(
            settings.endpoint(shard, shards),
            Some(Arc::clone(&settings.server)),
            true,
            seed,
        );
        Self {
            endpoint,
            peers: Vec::new(),
            count: 0,
            under_way: UnderWay::default(),
            trusted: 0,
            waiting_window: 0,
            unread_bytes: 0,
            held: Held::default(),
            admission: Admission::new(settings.limits.admission),
            lanes: Lanes::new(first_slot, settings.limits.lanes_max),
            readable: VecDeque::new(),
            timers: BTreeSet::new(),
            touched: Vec::new(),
            place: (shard, shards),
            responses: VecDeque::new(),
            told: Told::default(),
            loose: datagram::Waiting::default(),
            scratch: Vec::new(),
            memory: Memory::default(),
            counters: QuicCounters::default(),
            settings,
        }
    }

    /// Whether a connection of the shard is a lane.
    pub(crate) fn owns(&self, id: ConnectionId) -> bool {
        self.lanes.owns(id)
    }

    /// What they take of memory, with that of datagrams.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.count * CONNECTION_BYTES + self.memory.bytes() + self.held_bytes()
    }

    pub(crate) fn counters(&self) -> QuicCounters {
        QuicCounters {
            connections: self.count as u64,
            handshaking: self.under_way.count() as u64,
            lanes: self.lanes.count() as u64,
            retrying: u64::from(self.admission.is_retrying()),
            retry_began: self.admission.retry_began,
            ..self.counters
        }
    }

    /// Take a train of datagrams.
    pub(crate) fn receive(&mut self, now: Instant, from: &Arrival, bytes: &[u8]) {
        for datagram in bytes.chunks(from.segment_bytes.max(1)) {
            let datagram = self.memory.copy(datagram);
            self.receive_one(now, from, datagram);
        }
    }

    fn receive_one(&mut self, now: Instant, from: &Arrival, datagram: BytesMut) {
        self.counters.datagrams_in += 1;
        self.counters.datagrams_astray += u64::from(is_astray(&datagram, self.place));
        let ecn = EcnCodepoint::from_bits(from.ecn);
        let bytes = datagram.len();
        let mut answer = std::mem::take(&mut self.scratch);
        answer.clear();
        let handled = self
            .endpoint
            .handle(now, from.peer, from.local, ecn, datagram, &mut answer);
        match handled {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(Some(peer)) = self.peers.get_mut(handle.0) {
                    peer.connection.handle_event(event);
                    peer.addresses.came(from.peer, bytes);
                    peer.unread.arrived(bytes);
                    peer.said.arrived();
                    self.touch(handle.0);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.admit(now, (incoming, bytes), &mut answer);
            }
            Some(DatagramEvent::Response(transmit)) => {
                self.counters.resets_and_versions += 1;
                self.respond(transmit, &answer);
            }
            None => self.counters.datagrams_dropped += 1,
        }
        self.scratch = answer;
    }

    fn respond(&mut self, transmit: Transmit, answer: &[u8]) {
        if self.responses.len() >= self.settings.limits.responses_max {
            self.counters.responses_dropped += 1;
            return;
        }
        let bytes = answer[..transmit.size].to_vec();
        self.responses.push_back((transmit, bytes));
    }

    /// Somebody wants to begin, with a datagram of so many bytes.
    fn admit(&mut self, now: Instant, (incoming, bytes): (Incoming, usize), answer: &mut Vec<u8>) {
        answer.clear();
        let proven = incoming.remote_address_validated() || !incoming.may_retry();
        let full = self.count >= self.settings.limits.connections_max;
        let limits = &self.settings.limits;
        let share = share(incoming.remote_address().ip(), limits.loopback_exempt);
        let (theirs, oldest) = self.under_way.of(share);
        let count = self.under_way.count();
        match self.admission.judge(now, proven, (count, theirs)) {
            Verdict::Ignore => {
                self.counters.handshakes_ignored += 1;
                self.endpoint.ignore(incoming);
            }
            _ if full => {
                self.counters.connections_refused += 1;
                let transmit = self.endpoint.refuse(incoming, answer);
                self.respond(transmit, answer);
            }
            Verdict::Retry => {
                self.counters.retries += 1;
                match self.endpoint.retry(incoming, answer) {
                    Ok(transmit) => self.respond(transmit, answer),
                    Err(error) => self.endpoint.ignore(error.into_incoming()),
                }
            }
            Verdict::MakeRoom(crowded) => {
                let oldest = match crowded {
                    Crowded::Address => oldest,
                    Crowded::All => self.under_way.oldest(),
                };
                match oldest.filter(|begun| self.admission.is_late(now, begun.since)) {
                    Some(begun) => {
                        self.crowd_out(now, begun.at);
                        self.accept(now, (incoming, bytes), share, answer);
                    }
                    None => {
                        self.counters.handshakes_ignored += 1;
                        self.endpoint.ignore(incoming);
                    }
                }
            }
            Verdict::Accept => self.accept(now, (incoming, bytes), share, answer),
        }
    }

    fn accept(
        &mut self,
        now: Instant,
        (incoming, bytes): (Incoming, usize),
        share: Option<IpAddr>,
        answer: &mut Vec<u8>,
    ) {
        self.admission.begin(now);
        self.counters.handshakes += 1;
        let (from, proven) = (
            incoming.remote_address(),
            incoming.remote_address_validated(),
        );
        match self.endpoint.accept(incoming, now, answer, None) {
            Ok((handle, connection)) => {
                if self.peers.len() <= handle.0 {
                    self.peers.resize_with(handle.0 + 1, || None);
                }
                let ticket = self.under_way.begin(handle.0, share, now);
                let addresses = Addresses::new(from, proven, bytes);
                let peer = Peer::new(connection, addresses, ticket, now);
                self.peers[handle.0] = Some(Box::new(peer));
                self.count += 1;
                self.touch(handle.0);
            }
            Err(error) => {
                self.counters.handshakes_failed += 1;
                if let Some(transmit) = error.response {
                    self.respond(transmit, answer);
                }
            }
        }
    }

    fn touch(&mut self, at: usize) {
        if let Some(Some(peer)) = self.peers.get_mut(at)
            && !std::mem::replace(&mut peer.touched, true)
        {
            self.touched.push(at);
        }
    }

    /// When something is to be done though nothing comes.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Hand over what became of lanes. The names of those told before as closed are free now.
    pub(crate) fn tell(&mut self, told: &mut Told) {
        self.lanes.rest();
        std::mem::swap(&mut self.told, told);
    }

    /// Whether there is anything to be told.
    pub(crate) fn has_news(&self) -> bool {
        let told = &self.told;
        !(told.opened.is_empty()
            && told.sent.is_empty()
            && told.finished.is_empty()
            && told.closed.is_empty())
    }

    /// Let nobody begin any more: the node stops.
    pub(crate) fn refuse(&mut self) {
        self.endpoint.set_server_config(None);
    }

    /// Whether clients have all that was said on lanes that are over.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut peers = self.peers.iter().flatten();
        self.lanes.count() == 0 && peers.all(|peer| peer.ending.is_empty())
    }
}

/// How long a connection may be without a lane, unless settings say otherwise.
pub(crate) const UNUSED: Duration = Duration::from_secs(10);
