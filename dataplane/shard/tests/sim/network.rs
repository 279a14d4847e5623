//! The network: connections whose bytes are delayed, cut anywhere, lost with the connection, or half open; some of them sockets, some
//! tunnels, some lanes that share a carrier.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use shard::ConnectionId;

use crate::lossy::Lossy;

/// Longer than any HELLO here.
const HEARD_MAX: usize = 512;

/// Who is at the client's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    Sender(usize),
    /// Comes by QUIC alone.
    Beacon,
    Relay,
    Receiver(usize),
}

/// Bytes on their way, in order, each chunk with the time at which it arrives.
#[derive(Default)]
struct Pipe {
    chunks: VecDeque<(Duration, Vec<u8>)>,
    last: Duration,
}

impl Pipe {
    fn put(&mut self, bytes: Vec<u8>, now: Duration, random: &mut Rng) {
        let slow = if random.u8(..20) == 0 { 200_000 } else { 3_000 };
        self.last = self
            .last
            .max(now + Duration::from_micros(random.u64(..slow)));
        self.chunks.push_back((self.last, bytes));
    }

    /// Some prefix of what has arrived, cut anywhere.
    fn take(&mut self, now: Duration, random: &mut Rng) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some((at, bytes)) = self.chunks.front_mut() {
            if *at > now {
                break;
            }
            if random.u8(..6) == 0 && bytes.len() > 1 {
                let rest = bytes.split_off(random.usize(1..bytes.len()));
                out.append(bytes);
                *bytes = rest;
                break;
            }
            // The first chunk is handed on as it is: most are alone.
            if out.is_empty() {
                out = std::mem::take(bytes);
            } else {
                out.append(bytes);
            }
            self.chunks.pop_front();
        }
        out
    }

    fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// One direction of a connection.
enum Stream {
    Pipe(Pipe),
    Lossy(Lossy),
}

impl Stream {
    fn new(lane: bool) -> Self {
        match lane {
            true => Self::Lossy(Lossy::default()),
            false => Self::Pipe(Pipe::default()),
        }
    }

    fn put(&mut self, bytes: Vec<u8>, now: Duration, random: &mut Rng) {
        match self {
            Self::Pipe(pipe) => pipe.put(bytes, now, random),
            Self::Lossy(lossy) => lossy.put(bytes, now, random),
        }
    }

    /// What has come; of a lane only what is sent while its carrier is not silent.
    fn take(&mut self, now: Duration, silent: Duration, random: &mut Rng) -> Vec<u8> {
        match self {
            Self::Pipe(pipe) => pipe.take(now, random),
            Self::Lossy(lossy) => lossy.take(now, silent, random),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.is_empty(),
            Self::Lossy(lossy) => lossy.is_empty(),
        }
    }

    /// Nothing of what was said comes any more.
    fn lose(&mut self) {
        *self = Self::new(matches!(self, Self::Lossy(_)));
    }
}

/// A QUIC connection: its lanes have one tunnel, are on one shard, stand still together and end together.
struct Carrier {
    exporter: [u8; 32],
    shard: Option<usize>,
    silent: Duration,
}

/// What a connection runs through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Plain,
    /// TLS, with this exporter value.
    Tunnel([u8; 32]),
    /// QUIC: a lane of this carrier, with its exporter value.
    Lane(u64, [u8; 32]),
}

impl Way {
    pub(crate) fn exporter(&self) -> &[u8] {
        match self {
            Self::Plain => &[],
            Self::Tunnel(exporter) | Self::Lane(_, exporter) => exporter,
        }
    }

    fn carrier(&self) -> Option<u64> {
        match self {
            Self::Lane(carrier, _) => Some(*carrier),
            _ => None,
        }
    }
}

/// Lanes of one carrier.
const LANES_MAX: usize = 4;

/// What a receiver settled, to be noted when the last byte of the frame reaches the server.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    pub(crate) position: u64,
    pub(crate) receiver: usize,
    pub(crate) number: u64,
    pub(crate) settled: Vec<u64>,
}

pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) actor: Actor,
    pub(crate) way: Way,
    /// The shard that has it, once one has.
    pub(crate) shard: usize,
    /// It is on its way to its shard, until this time, with what was received.
    pub(crate) moves: Option<(Duration, Vec<u8>)>,
    /// What reached a shard first: preface, HELLO and what came with it.
    pub(crate) heard: Vec<u8>,
    to_server: Stream,
    to_client: Stream,
    /// The server has been told that it is open.
    pub(crate) opened: bool,
    /// The server has been told that it is over, or has died.
    pub(crate) server_gone: bool,
    /// The server has closed it: what the client says from then on nobody hears.
    server_closed: bool,
    /// The client still has it.
    pub(crate) client_open: bool,
    /// The server gets to know the end at this time.
    pub(crate) server_ends: Option<Duration>,
    /// The client gets to know the end when everything before has arrived.
    pub(crate) client_ends: bool,
    pub(crate) put: u64,
    pub(crate) handed: u64,
    pub(crate) notes: VecDeque<Note>,
    /// Bytes that the server gave away and has not been told about.
    pub(crate) unsent: usize,
}

/// A datagram beside a lane.
pub(crate) struct Loose {
    at: Duration,
    pub(crate) to: ConnectionId,
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

/// All connections that either side still has.
#[derive(Default)]
pub(crate) struct Network {
    carriers: BTreeMap<u64, Carrier>,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    generation: u64,
    free: Vec<u64>,
    slots: u64,
    /// Datagrams on their way.
    loose: Vec<Loose>,
    /// Lanes whose carrier died under them.
    pub(crate) lanes_died: u32,
}

impl Network {
    /// Connect, in one way or the other; whoever is told where it is at home finds a way there, and all others any.
    pub(crate) fn connect(
        &mut self,
        actor: Actor,
        home: Option<usize>,
        random: &mut Rng,
    ) -> (ConnectionId, Way) {
        let way = self.find_way(actor, home, random);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        self.generation += 1;
        let id = ConnectionId(self.generation << 32 | slot);
        let lane = way.carrier().is_some();
        let connection = Connection {
            id,
            actor,
            way,
            shard: 0,
            moves: None,
            heard: Vec::new(),
            to_server: Stream::new(lane),
            to_client: Stream::new(lane),
            opened: false,
            server_gone: false,
            server_closed: false,
            client_open: true,
            server_ends: None,
            client_ends: false,
            put: 0,
            handed: 0,
            notes: VecDeque::new(),
            unsent: 0,
        };
        self.connections.insert(id, connection);
        (id, way)
    }

    fn find_way(&mut self, actor: Actor, home: Option<usize>, random: &mut Rng) -> Way {
        let kind = match home.is_some() || actor == Actor::Beacon {
            true => 9,
            false => random.u8(..10),
        };
        let mut fresh = || std::array::from_fn(|_| random.u8(..));
        match kind {
            0..3 => return Way::Plain,
            3..5 => return Way::Tunnel(fresh()),
            _ => {}
        }
        let exporter = fresh();
        let lanes = |carrier| {
            let ways = self.connections.values().map(|c| c.way.carrier());
            ways.filter(|way| *way == Some(carrier)).count()
        };
        let fits = |(id, carrier): &(&u64, &Carrier)| {
            lanes(**id) < LANES_MAX && (home.is_none() || carrier.shard == home)
        };
        let known: Vec<_> = self
            .carriers
            .iter()
            .filter(fits)
            .map(|(id, _)| *id)
            .collect();
        if random.u8(..4) > 0
            && let Some(id) = random.choice(&known)
        {
            return Way::Lane(*id, self.carriers[id].exporter);
        }
        self.generation += 1;
        let carrier = Carrier {
            exporter,
            shard: home,
            silent: Duration::ZERO,
        };
        self.carriers.insert(self.generation, carrier);
        Way::Lane(self.generation, exporter)
    }

    /// Throw a datagram beside a lane: how many copies of it are on their way.
    pub(crate) fn throw(
        &mut self,
        to: ConnectionId,
        number: u64,
        bytes: Vec<u8>,
        now: Duration,
        random: &mut Rng,
    ) -> usize {
        let lost = self.silent(to) > now || random.u8(..6) == 0;
        let copies = match lost {
            true => 0,
            false => 1 + usize::from(random.u8(..10) == 0),
        };
        for _ in 0..copies {
            let slow = if random.u8(..10) == 0 { 60_000 } else { 4_000 };
            self.loose.push(Loose {
                at: now + Duration::from_micros(random.u64(..slow)),
                to,
                number,
                bytes: bytes.clone(),
            });
        }
        copies
    }

    /// Datagrams that reach a shard now, in the order in which they come.
    pub(crate) fn loose(&mut self, shard: usize, now: Duration) -> Vec<Loose> {
        let connections = &self.connections;
        self.loose.retain(|loose| {
            let there = connections.get(&loose.to);
            there.is_some_and(|connection| !connection.server_gone)
        });
        let here = |loose: &mut Loose| {
            let connection = connections.get(&loose.to);
            loose.at <= now && connection.is_some_and(|c| c.opened && c.shard == shard)
        };
        let mut due: Vec<Loose> = self.loose.extract_if(.., here).collect();
        due.sort_by_key(|loose| loose.at);
        due
    }

    /// Whether a shard may open a connection: a carrier's lanes are all on the shard of the first one.
    pub(crate) fn may_open(&mut self, way: Way, shard: usize) -> bool {
        let carrier = way.carrier().and_then(|id| self.carriers.get_mut(&id));
        carrier.is_none_or(|carrier| *carrier.shard.get_or_insert(shard) == shard)
    }

    /// Some carrier moves and is silent meanwhile, or dies with all its lanes.
    pub(crate) fn trouble(&mut self, now: Duration, random: &mut Rng) {
        let known: Vec<_> = self.carriers.keys().copied().collect();
        let Some(id) = random.choice(&known).copied() else {
            return;
        };
        if random.u8(..3) > 0 {
            let most = if random.u8(..4) == 0 { 15_000 } else { 700 };
            if let Some(carrier) = self.carriers.get_mut(&id) {
                carrier.silent = now + Duration::from_millis(random.u64(..most));
            }
            return;
        }
        self.carriers.remove(&id);
        let ends = now + Duration::from_micros(random.u64(..50_000));
        let lanes = self.connections.values_mut();
        for lane in lanes.filter(|c| c.way.carrier() == Some(id)) {
            lane.to_server.lose();
            lane.to_client.lose();
            lane.client_ends = true;
            self.lanes_died += 1;
            lane.server_ends = Some(lane.server_ends.map_or(ends, |before| before.min(ends)));
        }
    }

    fn silent(&self, id: ConnectionId) -> Duration {
        let way = self.connections.get(&id).map(|c| c.way);
        let carrier = way.and_then(|way| self.carriers.get(&way.carrier()?));
        carrier.map_or(Duration::ZERO, |carrier| carrier.silent)
    }

    /// The client sends bytes; returns the position after them.
    pub(crate) fn send(
        &mut self,
        id: ConnectionId,
        bytes: Vec<u8>,
        now: Duration,
        random: &mut Rng,
    ) -> u64 {
        let Some(connection) = self.connections.get_mut(&id) else {
            return 0;
        };
        connection.put += bytes.len() as u64;
        if !connection.server_closed {
            connection.to_server.put(bytes, now, random);
        }
        connection.put
    }

    /// The server sends bytes.
    pub(crate) fn answer(
        &mut self,
        id: ConnectionId,
        bytes: Vec<u8>,
        now: Duration,
        random: &mut Rng,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.unsent += bytes.len();
        if connection.client_open {
            connection.to_client.put(bytes, now, random);
        }
    }

    /// The client gives up; what it sent may or may not arrive, and the server may learn of it late.
    pub(crate) fn hang_up(&mut self, id: ConnectionId, now: Duration, random: &mut Rng) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.client_open = false;
        connection.to_client.lose();
        if random.bool() {
            connection.to_server.lose();
        }
        let late = if random.u8(..4) == 0 {
            40_000_000
        } else {
            50_000
        };
        let ends = now + Duration::from_micros(random.u64(..late));
        connection.server_ends = Some(
            connection
                .server_ends
                .map_or(ends, |before| before.min(ends)),
        );
    }

    /// The server closes: what it sent before arrives, or is lost as well.
    pub(crate) fn server_closes(&mut self, id: ConnectionId, now: Duration, random: &mut Rng) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if random.u8(..4) == 0 {
            connection.to_client.lose();
        }
        connection.client_ends = true;
        connection.server_closed = true;
        connection.to_server.lose();
        let soon = now + Duration::from_micros(random.u64(..20_000));
        connection.server_ends = Some(
            connection
                .server_ends
                .map_or(soon, |before| before.min(soon)),
        );
    }

    /// The server is gone, with all its ends; clients learn of it.
    pub(crate) fn server_dies(&mut self, random: &mut Rng) {
        self.connections.retain(|_, connection| {
            connection.server_gone = true;
            connection.client_ends = true;
            connection.server_ends = None;
            connection.to_server.lose();
            if random.bool() {
                connection.to_client.lose();
            }
            connection.client_open
        });
        self.carriers.clear();
        // Slots start afresh; generations go on, so no name comes twice.
        self.free.clear();
        self.slots = 0;
    }

    /// Bytes that reach the server now, and the notes that came with them.
    pub(crate) fn arrive_at_server(
        &mut self,
        id: ConnectionId,
        now: Duration,
        random: &mut Rng,
    ) -> (Vec<u8>, Vec<Note>) {
        let silent = self.silent(id);
        let live = self
            .connections
            .get_mut(&id)
            .filter(|c| c.opened && !c.server_gone);
        let Some(connection) = live else {
            return Default::default();
        };
        let bytes = connection.to_server.take(now, silent, random);
        if connection.heard.len() < HEARD_MAX {
            connection.heard.extend_from_slice(&bytes);
        }
        connection.handed += bytes.len() as u64;
        let mut notes = Vec::new();
        while connection
            .notes
            .front()
            .is_some_and(|note| note.position <= connection.handed)
        {
            notes.extend(connection.notes.pop_front());
        }
        (bytes, notes)
    }

    /// Bytes that reach the client now, and whether the connection has ended for it.
    pub(crate) fn arrive_at_client(
        &mut self,
        id: ConnectionId,
        now: Duration,
        random: &mut Rng,
    ) -> (Vec<u8>, bool) {
        let silent = self.silent(id);
        let Some(connection) = self.connections.get_mut(&id) else {
            return (Vec::new(), true);
        };
        let bytes = connection.to_client.take(now, silent, random);
        let ended = connection.client_ends && connection.to_client.is_empty();
        if ended {
            connection.client_open = false;
        }
        (bytes, ended)
    }

    /// Connections of a shard that end for it now. Their slots are free from then on.
    pub(crate) fn ended(&mut self, shard: usize, now: Duration, closed: &mut Vec<ConnectionId>) {
        let over: Vec<_> = self
            .connections
            .values()
            .filter(|c| c.opened && c.shard == shard && c.moves.is_none())
            .filter(|c| !c.server_gone && c.server_ends.is_some_and(|at| at <= now))
            .map(|c| c.id)
            .collect();
        for id in over {
            closed.push(id);
            let connection = self.connections.get_mut(&id).expect("it was just listed");
            connection.server_ends = None;
            connection.client_ends = true;
            connection.to_server.lose();
            connection.server_gone = true;
            self.free.push(id.0 & 0xFFFF_FFFF);
        }
    }

    /// Forget connections that neither side has.
    pub(crate) fn sweep(&mut self) {
        let free = &mut self.free;
        self.connections.retain(|id, c| {
            let kept = c.client_open || (c.opened && !c.server_gone);
            if !kept && !c.opened && !c.server_gone {
                free.push(id.0 & 0xFFFF_FFFF);
            }
            kept
        });
        let used = |id: &u64| {
            self.connections
                .values()
                .any(|c| c.way.carrier() == Some(*id))
        };
        self.carriers.retain(|id, _| used(id));
    }
}
