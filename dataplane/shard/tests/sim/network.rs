//! The network: connections whose bytes are delayed, cut anywhere, lost with the connection, or half open.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use shard::ConnectionId;

/// Longer than any HELLO here.
const HEARD_MAX: usize = 512;

/// Who is at the client's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    Sender(usize),
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
    /// The shard that has it, once one has.
    pub(crate) shard: usize,
    /// It is on its way to its shard, until this time, with what was received.
    pub(crate) moves: Option<(Duration, Vec<u8>)>,
    /// What reached a shard first: preface, HELLO and what came with it.
    pub(crate) heard: Vec<u8>,
    to_server: Pipe,
    to_client: Pipe,
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

/// All connections that either side still has.
#[derive(Default)]
pub(crate) struct Network {
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    generation: u64,
    free: Vec<u64>,
    slots: u64,
}

impl Network {
    pub(crate) fn connect(&mut self, actor: Actor) -> ConnectionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        self.generation += 1;
        let id = ConnectionId(self.generation << 32 | slot);
        let connection = Connection {
            id,
            actor,
            shard: 0,
            moves: None,
            heard: Vec::new(),
            to_server: Pipe::default(),
            to_client: Pipe::default(),
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
        id
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
        connection.to_client = Pipe::default();
        if random.bool() {
            connection.to_server = Pipe::default();
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
            connection.to_client = Pipe::default();
        }
        connection.client_ends = true;
        connection.server_closed = true;
        connection.to_server = Pipe::default();
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
            connection.to_server = Pipe::default();
            if random.bool() {
                connection.to_client = Pipe::default();
            }
            connection.client_open
        });
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
        let live = self
            .connections
            .get_mut(&id)
            .filter(|c| c.opened && !c.server_gone);
        let Some(connection) = live else {
            return Default::default();
        };
        let bytes = connection.to_server.take(now, random);
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
        let Some(connection) = self.connections.get_mut(&id) else {
            return (Vec::new(), true);
        };
        let bytes = connection.to_client.take(now, random);
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
            connection.to_server = Pipe::default();
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
    }
}
