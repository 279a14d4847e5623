//! What must always hold of QUIC on a shard, whoever does what to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use shard::ConnectionId;

use super::super::heard::Heard;
use super::super::settings::QuicLimits;
use super::super::{Quic, Told};
use super::{STRANGE_PORT, TALKS_MAX, THIEF_PORT, word};

/// A lane, as the shard knows it.
#[derive(Debug, Default)]
struct Lane {
    /// Bytes that came, and whose they are: client and talk.
    heard: usize,
    of: Option<(u8, u8)>,
    /// Bytes that were to be sent, and that the stream took.
    said: usize,
    taken: usize,
    finished: bool,
}

/// Bytes to and from an address.
#[derive(Debug, Default)]
struct Traffic {
    came: usize,
    left: usize,
}

pub(super) struct Judge {
    limits: QuicLimits,
    lanes: BTreeMap<u64, Lane>,
    /// Names that ever were: none comes twice.
    names: HashSet<u64>,
    /// Talks that ever were a lane.
    talks: HashSet<(u8, u8)>,
    traffic: HashMap<SocketAddr, Traffic>,
    opened: u64,
    closed: u64,
}

impl Judge {
    pub(super) fn new(limits: QuicLimits) -> Self {
        Self {
            limits,
            lanes: BTreeMap::new(),
            names: HashSet::new(),
            talks: HashSet::new(),
            traffic: HashMap::new(),
            opened: 0,
            closed: 0,
        }
    }

    /// One of the lanes that there are.
    pub(super) fn lane(&self, which: u8) -> Option<ConnectionId> {
        let at = usize::from(which) % self.lanes.len().max(1);
        self.lanes.keys().nth(at).map(|id| ConnectionId(*id))
    }

    pub(super) fn has_session(&self, lane: ConnectionId) -> bool {
        let lane = self.lanes.get(&lane.0);
        lane.is_some_and(|lane| lane.heard > 0)
    }

    pub(super) fn said(&mut self, lane: ConnectionId, bytes: usize) {
        if let Some(lane) = self.lanes.get_mut(&lane.0) {
            lane.said += bytes;
        }
    }

    pub(super) fn came(&mut self, from: SocketAddr, bytes: usize) {
        let traffic = self.traffic.entry(from).or_default();
        traffic.came += bytes;
    }

    /// Whoever makes up what it sends gets three times of it at most. Who sends on what another one said moves that one's connection, and is
    /// sent more until quinn-proto has found out: on a new path it sends a whole datagram before it counts, and a probe of how long
    /// datagrams may be, and it counts for the new path what still comes from the old one.
    pub(super) fn left(&mut self, to: SocketAddr, bytes: usize) {
        let traffic = self.traffic.entry(to).or_default();
        traffic.left += bytes;
        let strange = to.port() == STRANGE_PORT;
        assert!(
            !strange || traffic.left <= 3 * traffic.came,
            "{to}: {traffic:?}"
        );
    }

    /// What the shard hears in a turn: lanes that were opened, their bytes, what was sent, ends.
    pub(super) fn hear(&mut self, told: &mut Told, heard: &Heard, known: impl Fn(u8, u8) -> bool) {
        for opened in told.opened.drain(..) {
            assert!(self.names.insert(opened.id.0), "a name comes twice");
            let port = opened.peer.port();
            assert!(
                port != STRANGE_PORT && port != THIEF_PORT,
                "a stranger's lane"
            );
            assert_ne!(opened.exporter, [0; 32]);
            self.lanes.insert(opened.id.0, Lane::default());
            self.opened += 1;
        }
        for (id, bytes) in heard.pieces() {
            let lane = self
                .lanes
                .get_mut(&id.0)
                .expect("bytes of a lane that is there");
            assert!(!lane.finished, "bytes behind the end");
            let Some(first) = bytes.first() else { continue };
            let of = *lane
                .of
                .get_or_insert((first / TALKS_MAX as u8, first % TALKS_MAX as u8));
            assert!(known(of.0, of.1), "{of:?} never spoke");
            assert!(
                lane.heard > 0 || self.talks.insert(of),
                "{of:?} is two lanes"
            );
            let places = lane.heard..;
            let same = places
                .zip(bytes)
                .all(|(at, byte)| word(of.0, of.1, at) == *byte);
            assert!(same, "{of:?} said something else");
            lane.heard += bytes.len();
        }
        for (id, bytes) in told.sent.drain(..) {
            let lane = self.lanes.get_mut(&id.0).expect("it is there");
            lane.taken += bytes;
            assert!(lane.taken <= lane.said, "{lane:?}");
        }
        for id in told.finished.drain(..) {
            let lane = self.lanes.get_mut(&id.0).expect("it is there");
            assert!(!std::mem::replace(&mut lane.finished, true), "twice");
        }
        for id in told.closed.drain(..) {
            assert!(
                self.lanes.remove(&id.0).is_some(),
                "its end was told before"
            );
            self.closed += 1;
        }
        told.spare.clear();
    }

    /// Bounds hold at any time.
    pub(super) fn look(&self, quic: &Quic) {
        let (counters, limits) = (quic.counters(), &self.limits);
        let bounds = [
            ("connections", counters.connections, limits.connections_max),
            ("lanes", counters.lanes, limits.lanes_max),
            (
                "handshakes",
                counters.handshaking,
                limits.admission.under_way_max,
            ),
            ("of them", counters.handshaking, quic.count),
            ("trusted", quic.trusted as u64, limits.trusted_max),
            ("answers", quic.responses.len() as u64, limits.responses_max),
            ("timers", quic.timers.len() as u64, quic.count),
            (
                "looked at",
                quic.touched.len() as u64,
                quic.count + quic.peers.len(),
            ),
            ("to read", quic.readable.len() as u64, 4 * limits.lanes_max),
        ];
        for (what, seen, most) in bounds {
            assert!(seen <= most as u64, "{what}: {seen} of {most}");
        }
    }

    /// At the end nothing is left of anybody.
    pub(super) fn nothing_left(&self, quic: &Quic) {
        let counters = quic.counters();
        assert_eq!(
            (counters.connections, counters.lanes, counters.handshaking),
            (0, 0, 0)
        );
        assert_eq!((quic.trusted, quic.wake_at()), (0, None));
        assert!(quic.readable.is_empty() && quic.touched.is_empty());
        assert!(quic.peers.iter().all(Option::is_none));
        assert_eq!((self.lanes.len(), self.opened), (0, self.closed));
        assert_eq!(counters.lanes_opened, self.opened);
    }
}
