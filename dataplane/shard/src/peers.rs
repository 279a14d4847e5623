//! The side of a shard that faces its peers: connections, sessions, what is said to them, and when their
//! time is over. Knows no log and no queue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use partition::Segment;
use wire::home::Home;
use wire::ids::{AckMode, Direction, EndpointId, NodeId, PartitionId, Sequence};
use wire::reason::{Notice, Reason};
use wire::route::RouteTable;
use wire::signature::Signer;

use crate::assembly::AssemblyPool;
use crate::away::Away;
use crate::budget::{Memory, MemoryStatus, Pressure};
use crate::connection::{CONNECTION_BYTES, Connection, Connections, Goodbye, Phase};
use crate::counters::Counters;
use crate::guest::Claims;
use crate::hand_over::Leaving;
use crate::hottest::Heat;
use crate::hubs::Unopened;
use crate::io::{ConnectionId, Now, Opened, Outgoing, Output, Tunnel};
use crate::limits::Limits;
use crate::nonces::Nonces;
use crate::ownership::Ownership;
use crate::session::{Session, SessionRef, Sessions};
use crate::sign::Unsigned;
use crate::strangers::Strangers;
use crate::tables::Walk;

/// Bytes unsent at which a connection that is only answered, never delivered to, is closed; and at which it is while all
/// connections hold more than their budget and it takes nothing.
const ANSWERS_MAX: usize = 1 << 20;
const ANSWERS_CROWDED_MAX: usize = 64 << 10;
/// Bytes unsent at which one that is delivered to is closed, while all hold twice their budget and it takes nothing.
const UNSENT_CROWDED_MAX: usize = 256 << 10;
/// How long a connection may take nothing while it is crowded. What others do ends no connection that takes what it is sent.
pub(crate) const CROWDED_PATIENCE: Duration = Duration::from_millis(250);

/// Connections, sessions and what is to be said to them.
pub(crate) struct Peers {
    pub(crate) limits: Limits,
    pub(crate) table: Arc<RouteTable>,
    /// This node in the table, if it is there.
    pub(crate) here: Option<NodeId>,
    pub(crate) now: Now,
    pub(crate) draining: bool,
    /// Nothing is taken until the caller says otherwise.
    pub(crate) suspended: bool,
    /// What an ACK of relay numbers promises: the weakest mode of the shard's logs.
    pub(crate) relay_ack_mode: AckMode,
    pub(crate) connections: Connections,
    pub(crate) strangers: Strangers,
    pub(crate) sessions: Sessions,
    /// The walk over all sessions that is under way, and how many there were, this one included (`tables.rs`).
    pub(crate) walk: Option<Walk>,
    pub(crate) walks: u32,
    pub(crate) assembly: AssemblyPool,
    pub(crate) nonces: Nonces,
    pub(crate) counters: Counters,
    /// Whose frames were appended in the last seconds.
    pub(crate) heat: Heat,
    /// Streams and connections whose next ACK is due at the end of the commit stage.
    pub(crate) dirty: Vec<(SessionRef, u32)>,
    pub(crate) dirty_relays: Vec<ConnectionId>,
    /// Datagrams that asked for an answer and are committed.
    pub(crate) loose: Vec<crate::acknowledge::LooseAck>,
    /// Sessions that lost their connection; their deliveries go back to the queues.
    pub(crate) detached: Vec<(SessionRef, EndpointId)>,
    pub(crate) timers: BTreeSet<(Duration, ConnectionId)>,
    /// Handed to the caller and not yet reported as sent, over all connections.
    unsent: usize,
    /// Deliveries written in this turn.
    delivered: usize,
    listed: Vec<ConnectionId>,
    buffers: Vec<Vec<u8>>,
    /// REJECTs that are in their connections' buffers but for their signatures.
    pub(crate) unsigned: Vec<Unsigned>,
    pub(crate) ownership: Ownership,
    /// Hubs of the table that have no logs on this node and never had, by rising id.
    pub(crate) without_logs: Box<[u16]>,
    pub(crate) unopened: Unopened,
    /// Connections that go to another shard at the end of this turn.
    pub(crate) leaving: Vec<Leaving>,
    /// What waits to go to each other shard; nothing on a node of one.
    pub(crate) away: Vec<Away>,
    /// What went to logs of other shards and has no answer yet.
    pub(crate) carried: u64,
    /// Sessions of other shards that wait to know where their streams stand.
    pub(crate) claims: Claims,
    /// What is in use of the memory budget, and what is shed because of it.
    pub(crate) memory: MemoryStatus,
    /// Bytes that the caller holds of connections that move between shards.
    pub(crate) moving_bytes: u64,
    /// And for tunnels.
    pub(crate) tunnel_bytes: u64,
}

impl Peers {
    pub(crate) fn new(
        limits: Limits,
        table: Arc<RouteTable>,
        ownership: Ownership,
        now: Now,
    ) -> Self {
        let assembly = AssemblyPool::new(
            limits.assembly_bytes_max,
            limits.assembly_buffers_max,
            limits.assembly_kept_bytes_max,
        );
        Self {
            ownership,
            without_logs: Box::default(),
            unopened: Unopened::default(),
            leaving: Vec::new(),
            away: match limits.shards {
                1 => Vec::new(),
                shards => (0..shards).map(|_| Away::default()).collect(),
            },
            carried: 0,
            claims: Claims::new(),
            memory: MemoryStatus::new(limits.memory_bytes),
            moving_bytes: 0,
            tunnel_bytes: 0,
            sessions: Sessions::new(limits.sessions_max as usize),
            walk: None,
            walks: 0,
            nonces: Nonces::new(limits.nonces_max),
            here: here(&limits, &table),
            limits,
            table,
            now,
            draining: false,
            suspended: false,
            relay_ack_mode: AckMode::Durable,
            connections: Connections::default(),
            strangers: Strangers::default(),
            assembly,
            counters: Counters::default(),
            heat: Heat::new(now.monotonic),
            dirty: Vec::new(),
            dirty_relays: Vec::new(),
            loose: Vec::new(),
            detached: Vec::new(),
            timers: BTreeSet::new(),
            unsent: 0,
            delivered: 0,
            listed: Vec::new(),
            buffers: Vec::new(),
            unsigned: Vec::new(),
        }
    }

    /// Begin a turn: take over its time and the caller's empty buffers.
    pub(crate) fn begin<S: Segment>(&mut self, now: Now, output: &mut Output<S>) {
        self.now = now;
        self.heat.turn(now.monotonic);
        std::mem::swap(&mut self.buffers, &mut output.buffers);
    }

    /// Take in a connection, or turn it away when there are too many.
    pub(crate) fn open(&mut self, opened: &Opened) {
        // The slot's last connection may be reported as gone in the same turn.
        if let Some(before) = self.connections.at(opened.connection.slot()) {
            self.closed(before);
        }
        let full = self.connections.count() >= self.limits.connections_max;
        match opened.handed_over {
            true => self.counters.mesh.handed_over_in += 1,
            false => self.counters.accept.connections += 1,
        }
        self.connections.open(opened, self.now.monotonic);
        self.arm(opened.connection);
        if full {
            self.counters.accept.connections_refused += 1;
            self.goodbye(opened.connection, Goodbye::Silent);
        }
        self.meet(opened.connection, opened.peer.ip(), opened.handed_over);
    }

    /// A connection runs through a tunnel: its HELLO is to be made for it.
    pub(crate) fn tunnel(&mut self, tunnel: &Tunnel) {
        let connection = self.connections.get_mut(tunnel.connection);
        if let Some(start) = connection.and_then(|connection| connection.start.as_mut()) {
            start.exporter = Some(tunnel.exporter);
            start.shown = tunnel.shown;
            start.stays = tunnel.stays;
        }
    }

    /// A connection is gone.
    pub(crate) fn closed(&mut self, id: ConnectionId) {
        self.sign_all();
        let Some(connection) = self.connections.get_mut(id) else {
            self.stay_away(id);
            return;
        };
        self.timers.remove(&(connection.timer, id));
        self.unsent -= connection.unsent;
        self.assembly.give_up(&mut connection.assembly);
        let phase = connection.phase;
        let peer = connection.peer;
        self.know(id);
        self.part_from(peer);
        self.connections.remove(id);
        if let Phase::Open(session) = phase {
            self.detach(session, id);
        }
    }

    /// Bytes have left for a connection.
    pub(crate) fn sent(&mut self, id: ConnectionId, bytes: usize) {
        let now = self.now.monotonic;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let left = bytes.min(connection.unsent);
        connection.unsent -= left;
        connection.progress_at = now;
        self.unsent -= left;
    }

    /// Bytes of all connections that have not left.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Whether so much is unsent, over all connections, that only those are delivered to which have nothing unsent.
    pub(crate) fn crowded(&self) -> bool {
        self.on_the_way_out() >= self.limits.unsent_bytes_total
            || self.memory.pressure >= Pressure::LowPriority
    }

    /// Bytes of all connections that have not left, those that were delivered in this turn included.
    pub(crate) fn on_the_way_out(&self) -> usize {
        self.unsent + self.delivered
    }

    /// What connections, sessions and what is on its way to other shards take of memory.
    pub(crate) fn memory(&self) -> Memory {
        let away = self.away.iter().map(Away::memory_bytes).sum::<usize>();
        Memory {
            receive: self.limits.receive_bytes as u64,
            assembly: self.assembly.bytes() as u64,
            unsent: (self.unsent + self.delivered) as u64,
            mesh: away as u64 + self.moving_bytes,
            connections: u64::from(self.connections.count()) * CONNECTION_BYTES as u64
                + self.strangers.bytes() as u64
                + self.tunnel_bytes,
            sessions: self.sessions.bytes() as u64,
            ..Memory::default()
        }
    }

    /// Note a delivery of so many bytes.
    pub(crate) fn delivered(&mut self, bytes: usize) {
        self.delivered += bytes;
    }

    /// The session goes on without its connection, for a while.
    fn detach(&mut self, reference: SessionRef, connection: ConnectionId) {
        let until = self.now.monotonic + self.limits.linger;
        let Some(session) = self.sessions.get(reference) else {
            return;
        };
        if session.connection == Some(connection) {
            self.detached.push((reference, session.endpoint));
            self.sessions.linger(reference, until);
        }
    }

    /// End a session for good.
    pub(crate) fn end_session(&mut self, reference: SessionRef) {
        self.sign_all();
        if let Some(endpoint) = self.sessions.remove(reference) {
            self.unopened.forget(reference);
            self.detached.push((reference, endpoint));
            self.counters.session.ended += 1;
        }
    }

    /// A session's connection went before it was welcomed.
    pub(crate) fn orphan(&mut self, id: ConnectionId, reference: SessionRef) {
        self.detach(reference, id);
    }

    /// The session leaves this connection for another one: the last word goes out under the old keys, and
    /// nothing that still comes over it counts.
    pub(crate) fn part(&mut self, id: ConnectionId, reference: SessionRef) {
        self.sign_all();
        self.goaway(id, Reason::SessionUnknown, 0, 0);
        self.last_word_now(id);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = Phase::Handshake;
        }
        if let Some(session) = self.sessions.get_mut(reference) {
            self.detached.push((reference, session.endpoint));
        }
    }

    /// The session of a connection that is open.
    pub(crate) fn session_of(&self, id: ConnectionId) -> Option<&Session> {
        self.sessions.get(self.connections.get(id)?.session()?)
    }

    /// Append a frame for a connection with an open session.
    pub(crate) fn say(&mut self, id: ConnectionId, encode: impl FnOnce(&mut Vec<u8>, Signer<'_>)) {
        self.list(id);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let Some(session) = connection
            .session()
            .and_then(|session| self.sessions.get(session))
        else {
            return;
        };
        let signer = Signer::Session {
            key: &session.keys.server,
            frame_index: connection.frames_out,
        };
        encode(&mut connection.out, signer);
        connection.frames_out += 1;
    }

    /// Borrow a connection's buffer, to be given back with `put_out`.
    pub(crate) fn take_out(&mut self, id: ConnectionId) -> Vec<u8> {
        self.sign_all();
        self.list(id);
        self.connections
            .get_mut(id)
            .map(|connection| std::mem::take(&mut connection.out))
            .unwrap_or_default()
    }

    /// See `take_out`.
    pub(crate) fn put_out(&mut self, id: ConnectionId, out: Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.out = out;
        }
    }

    /// Sign a frame that is being built outside; `finish` says whether there is one.
    pub(crate) fn sign_with(
        &mut self,
        id: ConnectionId,
        reference: SessionRef,
        finish: impl FnOnce(Signer<'_>) -> bool,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(id) else {
            return false;
        };
        let Some(session) = self.sessions.get(reference) else {
            return false;
        };
        let signer = Signer::Session {
            key: &session.keys.server,
            frame_index: connection.frames_out,
        };
        let signed = finish(signer);
        connection.frames_out += u64::from(signed);
        signed
    }

    /// Append bytes that no session signs.
    pub(crate) fn say_plain(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.list(id);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.out.extend_from_slice(bytes);
        }
    }

    /// Refuse a frame; the connection goes on.
    pub(crate) fn reject(
        &mut self,
        id: ConnectionId,
        partition: PartitionId,
        sequence: Sequence,
        notice: Notice,
    ) {
        self.counters.reason(notice.reason);
        let reject = wire::ack::Reject {
            partition,
            sequence,
            notice,
        };
        self.say_unsigned(id, &reject);
    }

    /// End a connection at the end of this turn; the first goodbye stands.
    pub(crate) fn goodbye(&mut self, id: ConnectionId, goodbye: Goodbye) {
        self.list(id);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if !connection.listens() {
            return;
        }
        connection.goodbye = Some(goodbye);
        let stranger = connection.stranger;
        if let Goodbye::Goaway(notice) | Goodbye::Refused(notice) = goodbye
            && !notice.reason.retryable()
            // After a restart a whole fleet asks for sessions that are gone, and it may be at home elsewhere from now on.
            && !matches!(notice.reason, Reason::SessionUnknown | Reason::NotHome)
            && (stranger || notice.reason == Reason::TooManyBadSignatures)
        {
            self.note_failure(id);
        }
        match goodbye {
            Goodbye::Goaway(notice) => {
                self.counters.session.goaways += 1;
                self.counters.reason(notice.reason);
            }
            Goodbye::Refused(notice) => {
                self.counters.session.refused += 1;
                self.counters.reason(notice.reason);
            }
            Goodbye::Silent => {}
        }
    }

    /// The same with a GOAWAY of values that matter to nobody but people.
    pub(crate) fn goaway(&mut self, id: ConnectionId, reason: Reason, seen: u64, needed: u64) {
        self.goodbye(id, Goodbye::Goaway(Notice::new(reason, seen, needed)));
    }

    /// What is said while nothing is taken.
    pub(crate) fn stale(&self) -> Notice {
        Notice::new(Reason::TableStale, 0, 0).retry_after(self.retry_after_ms())
    }

    /// Send everybody away, to come back later.
    pub(crate) fn send_away(&mut self) {
        let connections = self.connections.iter();
        let all: Vec<ConnectionId> = connections.map(|connection| connection.id).collect();
        let notice = self.stale();
        for id in all {
            self.goodbye(id, Goodbye::Goaway(notice));
        }
    }

    /// The wait asked of a peer that is to come back, in milliseconds.
    pub(crate) fn retry_after_ms(&self) -> u32 {
        self.limits.retry_after_ms()
    }

    /// Note that a connection has something to be sent at the end of the turn, and give it a buffer.
    pub(crate) fn list(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if !connection.listed {
            connection.listed = true;
            self.listed.push(id);
        }
        if connection.out.capacity() == 0 {
            connection.out = self.buffers.pop().unwrap_or_default();
        }
    }

    /// Hand out everything said in this turn, last words last.
    pub(crate) fn finish<S: Segment>(&mut self, output: &mut Output<S>) {
        self.sign_all();
        let mut listed = std::mem::take(&mut self.listed);
        for id in listed.drain(..) {
            self.hand_out(id, output);
        }
        self.listed = listed;
        self.leave(output);
        self.delivered = 0;
        std::mem::swap(&mut self.buffers, &mut output.buffers);
    }

    fn hand_out<S: Segment>(&mut self, id: ConnectionId, output: &mut Output<S>) {
        let now = self.now.monotonic;
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let waiting = connection.unsent + connection.out.len();
        if waiting > ANSWERS_CROWDED_MAX && connection.goodbye.is_none() {
            let waiting_max = self.unsent_max(connection);
            if waiting > waiting_max {
                self.goaway(id, Reason::SlowReceiver, waiting as u64, waiting_max as u64);
            }
        }
        self.last_word(id);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.listed = false;
        let bytes = std::mem::take(&mut connection.out);
        if bytes.is_empty() {
            self.buffers.push(bytes);
        } else {
            if connection.unsent == 0 {
                connection.progress_at = now;
            }
            connection.unsent += bytes.len();
            self.unsent += bytes.len();
            output.sends.push(Outgoing {
                connection: id,
                bytes,
            });
        }
        if connection.goodbye.take().is_some() {
            let before = std::mem::replace(&mut connection.phase, Phase::Closing);
            connection.received_at = now;
            self.assembly.give_up(&mut connection.assembly);
            if let Phase::Open(session) = before {
                self.detach(session, id);
            }
            output.closes.push(id);
            self.know(id);
        }
    }

    /// How much may wait to be sent on a connection.
    fn unsent_max(&self, connection: &Connection) -> usize {
        let session = connection.session().and_then(|id| self.sessions.get(id));
        let is_fed = session.is_none_or(|session| session.direction == Direction::Egress);
        let silent = self.now.monotonic.saturating_sub(connection.progress_at);
        let stuck = connection.unsent > 0 && silent >= CROWDED_PATIENCE;
        // With memory short no budget but that one counts.
        let total = match self.memory.pressure >= Pressure::LowPriority {
            true => 0,
            false => self.limits.unsent_bytes_total,
        };
        let bound = match is_fed {
            true if stuck && self.unsent > 2 * total => UNSENT_CROWDED_MAX,
            true => self.limits.unsent_bytes_max,
            false if stuck && self.unsent > total => ANSWERS_CROWDED_MAX,
            false => ANSWERS_MAX,
        };
        bound.min(self.limits.unsent_bytes_max)
    }

    /// Encode the goodbye of a connection, if it has one with words.
    pub(crate) fn last_word(&mut self, id: ConnectionId) {
        let table = Arc::clone(&self.table);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.phase == Phase::Preface
            && matches!(connection.goodbye, Some(Goodbye::Goaway(_)))
        {
            // Whatever is said, the preface comes first.
            connection
                .out
                .extend_from_slice(&wire::preface::Preface::CLIENT.answer().encode());
        }
        match connection.goodbye {
            Some(Goodbye::Refused(notice)) => {
                let home = home_told(&table, &notice);
                wire::handshake::encode_refused(&mut connection.out, notice, home)
            }
            Some(Goodbye::Goaway(notice))
                if self
                    .sessions
                    .get(connection.session().unwrap_or(SessionRef::NONE))
                    .is_some() =>
            {
                self.say(id, |out, signer| {
                    wire::link::encode_goaway(out, notice, home_told(&table, &notice), signer)
                });
            }
            Some(Goodbye::Goaway(notice)) => {
                wire::link::encode_goaway(&mut connection.out, notice, None, Signer::None);
            }
            Some(Goodbye::Silent) | None => {}
        }
    }
}

/// This node in a table.
pub(crate) fn here(limits: &Limits, table: &RouteTable) -> Option<NodeId> {
    let node = table.node_by_name(limits.node.as_deref()?)?;
    Some(node.id)
}

/// What is told of the home of whoever is not at home here.
fn home_told<'t>(table: &'t RouteTable, notice: &Notice) -> Option<Home<'t>> {
    let home = (notice.reason == Reason::NotHome).then_some(notice.needed)?;
    Home::of(table, NodeId(u32::try_from(home).ok()?))
}

/// Whole milliseconds, at most `u64::MAX`.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
