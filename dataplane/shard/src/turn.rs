//! The shard and its turn: every stage of the journey, in order, on one screen.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use partition::{Partition, Segment};
use wire::ids::EndpointId;
use wire::reason::{Notice, Reason};
use wire::route::RouteTable;
use wire::signature::VerifyJob;

use crate::append::append;
use crate::assemble::gather;
use crate::bans::Banned;
use crate::budget::{MemoryStatus, Pressure};
use crate::commit::{Committed, commit, commit_journals, retire, take_storage};
use crate::connection::Goodbye;
use crate::consume::{Consumers, command, take_back};
use crate::counters::Counters;
use crate::cycles::{Stage, StageClock};
use crate::datagram::take_datagrams;
use crate::deliver::deliver;
use crate::fanout::fanout;
use crate::handshake::hello;
use crate::hottest::Hottest;
use crate::io::{ConnectionId, Input, Now, Output};
use crate::limits::Limits;
use crate::log::{Group, HubModes, Log};
use crate::mesh::Mesh;
use crate::ownership::Ownership;
use crate::parse::{Aside, Parsed, Piece, Refusal, parse};
use crate::peers::Peers;
use crate::queue::{Depth, QueueCounters, QueueGroup, Source, Span};
use crate::reading::{LogReader, Logs};
use crate::relief::{Reading, STUCK_LOOK};
use crate::route::{Owned, Routed, route};
use crate::tables::{apply, hold_speakers, settle_ack_modes, walk};
use crate::verify::{Command, CommandKind, Envelope, Verdicts, Verified, verify};
use crate::welcome::{Welcoming, welcome};

/// Calls of a queue group's expiry sweep each time retention is looked at.
const SWEEPS: usize = 16;
/// Frames that go through stages 2 to 5 together: as many as the nearest cache holds, with all that is looked up for them.
const FRAMES_TOGETHER: usize = 64;
/// Queues of each group whose memory is looked at in a turn; all of them when retention is.
const QUEUE_LOOKS: usize = 1;
/// When to try again to tell a shard something to which the way was full.
const MESH_RETRY: Duration = Duration::from_millis(1);

/// One core's logic.
pub struct Shard<S: Segment> {
    pub(crate) peers: Peers,
    pub(crate) logs: Vec<Log<S>>,
    pub(crate) groups: Vec<Group<S>>,
    pub(crate) owned: Owned,
    pub(crate) mesh: Mesh<S>,
    welcoming: Vec<Welcoming>,
    consumers: Consumers,
    expire_at: Duration,
    said_goaway: bool,
    /// Everybody is to be sent away in the next turn.
    sends_away: bool,
    /// What was shed in the last turn.
    pressed: Pressure,
    /// Who owns what once the hubs are served that were taken over.
    pub(crate) coming: Option<Ownership>,
    /// When connections that take nothing are looked for next, while memory is short.
    stuck_at: Duration,
    clock: StageClock,
    scratch: Scratch,
}

/// Vectors that every turn fills and empties; kept, so that a turn allocates nothing.
#[derive(Default)]
struct Scratch {
    pieces: Vec<Piece<'static>>,
    asides: Vec<Aside>,
    parsed: Vec<Parsed<'static>>,
    verified: Vec<Verified<'static>>,
    envelopes: Vec<Envelope<'static>>,
    jobs: Vec<VerifyJob<'static>>,
    routed: Vec<Routed<'static>>,
    good: Vec<bool>,
    refusals: Vec<Refusal>,
    commands: Vec<Command>,
    committed: Vec<Committed>,
    spans: Vec<Span>,
}

impl<S: Segment> Shard<S> {
    /// A shard that owns `partitions` and the queue groups `queues`, all of them recovered: what [`Ownership`](crate::Ownership) gives it of
    /// what `table` has. All shards of a node begin with the same table.
    ///
    /// # Panics
    /// When the limits do not fit together, a partition is there twice, or one of them is another shard's.
    pub fn new(
        limits: Limits,
        table: Arc<RouteTable>,
        partitions: Vec<Partition<S>>,
        queues: Vec<QueueGroup<S>>,
        now: Now,
    ) -> Self {
        let ownership = Ownership::new(&table, limits.shards);
        Self::with(limits, table, ownership, (partitions, queues), now)
    }

    /// The same where the table may have hubs that nobody owns, since their logs could not be opened. All shards of a node begin with
    /// the same ownership.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with(
        limits: Limits,
        table: Arc<RouteTable>,
        ownership: Ownership,
        (partitions, queues): (Vec<Partition<S>>, Vec<QueueGroup<S>>),
        now: Now,
    ) -> Self {
        limits.check().expect("the caller has checked the limits");
        let hubs = HubModes::of(&table);
        let logs: Vec<Log<S>> = partitions
            .into_iter()
            .map(|partition| Log::new(partition, &hubs, limits.hash_seed))
            .collect();
        drop(hubs);
        let shard = limits.shard;
        let peers = Peers::new(limits, table, ownership, now);
        let mesh = Mesh::new(&peers.ownership, shard, &logs, !queues.is_empty());
        let mut shard = Self {
            mesh,
            owned: Owned::new(logs.iter().map(|log| log.id)),
            peers,
            logs,
            groups: queues.into_iter().map(Group::new).collect(),
            welcoming: Vec::new(),
            consumers: Consumers::default(),
            expire_at: now.monotonic,
            said_goaway: false,
            sends_away: false,
            pressed: Pressure::None,
            coming: None,
            stuck_at: Duration::ZERO,
            clock: StageClock::default(),
            scratch: Scratch::default(),
        };
        settle_ack_modes(&mut shard.peers, &shard.logs);
        weigh(&mut shard.peers, &shard.logs, &mut shard.groups, usize::MAX);
        shard
    }

    /// Take one batch through all stages. Everything in `input` is consumed; what is to be done about it is
    /// added to `output`. The bytes handed in bound the work of stages 2 to 6, `Limits` that of 7 and 8.
    pub fn turn(&mut self, now: Now, input: &mut Input<'_, S>, output: &mut Output<S>) {
        self.clock.begin();
        self.begin(now, input, output);
        let Scratch {
            pieces,
            mut asides,
            mut parsed,
            mut verified,
            mut envelopes,
            mut jobs,
            mut routed,
            mut good,
            mut refusals,
            mut commands,
            mut committed,
            mut spans,
        } = std::mem::take(&mut self.scratch);
        let mut pieces = recycled!(pieces);
        let Self {
            peers,
            logs,
            groups,
            owned,
            mesh,
            welcoming,
            consumers,
            expire_at,
            clock,
            ..
        } = self;

        clock.end(Stage::Other, &mut peers.counters);
        gather(peers, input.received, &mut pieces, &mut asides);
        clock.end(Stage::Accept, &mut peers.counters);
        peers.tick(output);
        clock.end(Stage::Other, &mut peers.counters);
        for frames in pieces.chunks(FRAMES_TOGETHER) {
            weigh(peers, logs, groups, 0);
            refusals.clear();
            let mut read: Vec<Parsed<'_>> = recycled!(parsed);
            parse(peers, frames, &asides, &mut read, &mut refusals);
            clock.end(Stage::Parse, &mut peers.counters);
            let (mut signed, mut unproved): (Vec<Verified<'_>>, Vec<Envelope<'_>>) =
                (recycled!(verified), recycled!(envelopes));
            let mut verdicts = Verdicts {
                verified: &mut signed,
                commands: &mut commands,
                refusals: &mut refusals,
                envelopes: &mut unproved,
                good: &mut good,
            };
            verify(
                peers,
                &read,
                &mut verdicts,
                &mut jobs,
                |peers, id, frame| {
                    hello(peers, logs, owned, id, frame, welcoming);
                },
            );
            clock.end(Stage::Verify, &mut peers.counters);
            let mut granted: Vec<Routed<'_>> = recycled!(routed);
            route(peers, owned, &signed, &mut granted, &mut refusals);
            clock.end(Stage::Route, &mut peers.counters);
            append(peers, logs, &granted, &mut refusals);
            clock.end(Stage::Append, &mut peers.counters);
            (routed, verified, envelopes) =
                (recycled!(granted), recycled!(signed), recycled!(unproved));
            parsed = recycled!(read);
        }
        take_datagrams(peers, logs, owned, input.datagrams);
        close(peers, groups, consumers, input.closed);
        clock.end(Stage::Other, &mut peers.counters);
        commit(peers, logs, &mut committed, output);
        clock.end(Stage::Commit, &mut peers.counters);
        welcome(peers, logs, owned, welcoming);
        carry_out(peers, groups, consumers, &commands);
        clock.end(Stage::Other, &mut peers.counters);
        let all = Logs {
            own: logs,
            owned,
            followed: mesh.followed(),
        };
        output.more |= fanout(peers, all, groups, &committed, &mut spans);
        let retention = *expire_at <= peers.now.monotonic || logs.iter().any(|log| log.rolled);
        commit_journals(peers, groups, retention, output);
        clock.end(Stage::Fanout, &mut peers.counters);
        // Deliveries wait in their queues; a shard that stops is not to be kept from it by who asks for them.
        if !peers.draining {
            output.more |= deliver(peers, all, groups, consumers);
        }
        clock.end(Stage::Deliver, &mut peers.counters);

        let pieces = recycled!(pieces);
        let scratch = Scratch {
            pieces,
            asides,
            parsed,
            verified,
            envelopes,
            jobs,
            routed,
            good,
            refusals,
            commands,
            committed,
            spans,
        };
        self.finish(scratch, output);
        self.clock.end(Stage::Other, &mut self.peers.counters);
    }

    /// Take nothing from the next turn on and send everybody away, or take everything again. Sessions stay for as long as they linger.
    pub fn suspend(&mut self, suspended: bool) {
        let before = std::mem::replace(&mut self.peers.suspended, suspended);
        self.sends_away = suspended && (self.sends_away || !before);
    }

    /// Count the cycles of every stage with this counter from now on: what it reads is in `Counters::cycles`.
    #[cfg(feature = "cycles")]
    pub fn count_cycles(&mut self, read: fn() -> u64) {
        self.clock.count(read);
    }

    /// Everything that comes before the bytes: the table, storage results, what was sent, new connections.
    fn begin(&mut self, now: Now, input: &mut Input<'_, S>, output: &mut Output<S>) {
        self.peers.begin(now, output);
        self.peers.counters.turns += 1;
        self.peers.draining |= input.drain;
        if let Some(table) = input.table.take() {
            // Whoever has a table that names these logs knows that all shards listen to them.
            let began = self.begin_hubs();
            let before = apply(&mut self.peers, &mut self.logs, &self.owned, table);
            if began {
                // The table before may have named these hubs, so that nobody's change tells of them.
                self.serve_begun();
            }
            let changes = self.peers.table.changes_since(&before);
            for group in &mut self.groups {
                match &changes {
                    Some(changes) => group.queues.note_changes(&before, changes),
                    // Its epoch alone does not tell that it is another one: it may be of another past.
                    None => group.queues.look_again(),
                }
            }
        }
        output.more = walk(&mut self.peers, &mut self.logs, &self.owned);
        let welcoming = self.welcoming.iter().map(|waiting| waiting.session);
        hold_speakers(
            &mut self.peers,
            &mut self.logs,
            &self.owned,
            input,
            welcoming,
        );
        if std::mem::take(&mut self.sends_away) {
            self.peers.send_away();
        }
        take_storage(
            &mut self.peers,
            &mut self.logs,
            &mut self.groups,
            &self.owned,
            input.storage,
        );
        self.hear(input);
        for sent in input.sent {
            self.peers.sent(sent.connection, sent.bytes);
            if self.consumers.any_stalled()
                && let Some(session) = self.peers.session_of(sent.connection)
            {
                self.consumers.wake_stalled(session.endpoint);
            }
        }
        weigh(&mut self.peers, &self.logs, &mut self.groups, QUEUE_LOOKS);
        self.relieve();
        for opened in input.opened {
            self.peers.open(opened);
        }
        for tunnel in input.tunnels {
            self.peers.tunnel(tunnel);
        }
    }

    /// Make room while memory is short, and go on where there is room again.
    fn relieve(&mut self) {
        let pressure = self.peers.memory.pressure;
        let before = std::mem::replace(&mut self.pressed, pressure);
        if pressure < before {
            self.consumers.wake_all();
        }
        let door = self.peers.memory.door;
        if door >= Pressure::Strangers && self.peers.strangers.count() > 0 {
            self.peers.shed_strangers();
        }
        let now = self.peers.now.monotonic;
        if pressure >= Pressure::LowPriority && self.stuck_at <= now {
            self.stuck_at = now + STUCK_LOOK;
            self.peers.shed_stuck();
        }
    }

    /// What other shards said, and what they sent.
    fn hear(&mut self, input: &mut Input<'_, S>) {
        if input.mesh.is_empty() && !self.mesh.is_holding() {
            return;
        }
        let heard = self.mesh.hear(&mut self.logs, input.mesh, &mut self.peers);
        self.mesh.take_carried(&mut self.logs, &mut self.peers);
        if heard.whole {
            for group in &mut self.groups {
                group.queues.look_again();
            }
            self.consumers.wake_all();
        }
    }

    /// Everything that comes after the stages: retention, drain, what is to be sent, when to come again.
    fn finish(&mut self, mut scratch: Scratch, output: &mut Output<S>) {
        let in_time = self.expire_at <= self.peers.now.monotonic;
        if in_time {
            self.expire(output);
        } else if self.logs.iter().any(|log| log.rolled) {
            // A fast log fills more segments in a second than are given away at a time.
            retire(
                &mut self.peers,
                &mut self.logs,
                &mut self.groups,
                &mut self.mesh,
                output,
            );
        }
        let committed = &scratch.committed;
        let blocked = self.mesh.say(
            &self.logs,
            &self.groups,
            committed,
            in_time,
            (&mut self.peers, output),
        );
        self.mesh.forget_fresh();
        output.more |= self.mesh.is_holding();
        if self.peers.draining {
            self.drain(output);
        }
        for aside in scratch.asides.drain(..) {
            if let Aside::Assembled(buffer) = aside {
                self.peers.assembly.put(buffer);
            }
        }
        scratch.refusals.clear();
        scratch.commands.clear();
        scratch.committed.clear();
        scratch.spans.clear();
        self.scratch = scratch;
        self.peers.finish(output);
        weigh(&mut self.peers, &self.logs, &mut self.groups, 0);
        output.more |= !self.peers.detached.is_empty();
        output.wake_at = self.wake_at();
        if blocked || self.peers.walk.is_some() {
            let again = self.peers.now.monotonic + MESH_RETRY;
            output.wake_at = output.wake_at.map(|at| at.min(again)).or(Some(again));
        }
        output.drained = self.said_goaway
            && self
                .peers
                .connections
                .iter()
                .all(|connection| connection.unsent == 0);
    }

    fn expire(&mut self, output: &mut Output<S>) {
        self.expire_at = self.peers.now.monotonic + self.peers.limits.expiry_interval;
        let logs = Logs {
            own: &self.logs,
            owned: &self.owned,
            followed: self.mesh.followed(),
        };
        for group in &mut self.groups {
            group.queues.memory_bytes(usize::MAX);
            for _ in 0..SWEEPS {
                let first = |id| logs.get(id).map(LogReader::first);
                group
                    .queues
                    .expire(self.peers.now.unix, &self.peers.table, first);
            }
        }
        retire(
            &mut self.peers,
            &mut self.logs,
            &mut self.groups,
            &mut self.mesh,
            output,
        );
    }

    /// Say GOAWAY to everyone once nothing is left to be acked.
    fn drain(&mut self, output: &mut Output<S>) {
        let settled = self.logs.iter().all(Log::settled) && self.groups.iter().all(Group::settled);
        let settled = settled && self.peers.carried == 0;
        if self.said_goaway || !settled || output.more {
            return;
        }
        self.said_goaway = true;
        let notice = Notice::new(Reason::Draining, 0, 0).retry_after(self.peers.retry_after_ms());
        let connections: Vec<ConnectionId> = self
            .peers
            .connections
            .iter()
            .map(|connection| connection.id)
            .collect();
        for id in connections {
            self.peers.goodbye(id, Goodbye::Goaway(notice));
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        let locks = self
            .groups
            .iter()
            .filter_map(|group| group.queues.next_lock_expiry())
            .min();
        let now = self.peers.now.monotonic;
        let wants = |at: Duration| (at > now).then_some(at);
        let pressed = self.peers.memory.pressure >= Pressure::LowPriority;
        let spares = self
            .logs
            .iter()
            .filter_map(|log| wants(log.prepare_at))
            .min();
        let journal = self
            .groups
            .iter()
            .filter_map(|group| wants(group.prepare_at))
            .min();
        [
            self.peers.next_timer(),
            locks,
            spares,
            journal,
            pressed.then_some(self.stuck_at.max(now)),
            Some(self.expire_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.peers.counters
    }

    /// Who had most in the last seconds before `now`, which is at least the time of the last turn.
    #[must_use]
    pub fn hottest(&self, now: Duration) -> Hottest {
        self.peers.heat.hottest(now)
    }

    /// What was counted since the start by each queue group.
    pub fn queue_counters(&self) -> impl Iterator<Item = (u16, QueueCounters)> + '_ {
        self.groups
            .iter()
            .map(|group| (group.queues.number(), group.queues.counters()))
    }

    /// The logs of the partitions, to look at.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition<S>> {
        self.logs.iter().map(|log| &log.partition)
    }

    /// The queue groups, to look at.
    pub fn queue_groups(&self) -> impl Iterator<Item = &QueueGroup<S>> {
        self.groups.iter().map(|group| &group.queues)
    }

    /// What waits for an endpoint of this shard's queue groups.
    #[must_use]
    pub fn depth(&self, endpoint: EndpointId, source: Source) -> Depth {
        let number = self.peers.table.queue_group_of(endpoint);
        let group = self
            .groups
            .iter()
            .find(|group| group.queues.number() == number);
        group
            .map(|group| group.queues.depth(endpoint, source))
            .unwrap_or_default()
    }

    /// Connections open or closing.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.peers.connections.count()
    }

    /// Connections that have no session yet.
    #[must_use]
    pub fn strangers(&self) -> u32 {
        self.peers.strangers.count()
    }

    /// Whether a connection has no session, or is not known yet.
    #[must_use]
    pub fn is_stranger(&self, id: ConnectionId) -> bool {
        let connection = self.peers.connections.get(id);
        connection.is_none_or(|connection| connection.stranger)
    }

    /// Whether a connection has a session.
    #[must_use]
    pub fn has_session(&self, id: ConnectionId) -> bool {
        let connection = self.peers.connections.get(id);
        connection.is_some_and(|connection| connection.session().is_some())
    }

    /// Whether no connection of this address is let in now: it is banned.
    #[must_use]
    pub fn bars(&self, address: IpAddr) -> bool {
        self.peers.bars(address)
    }

    /// Whether a connection has sent frames of which the answer is still to come.
    #[must_use]
    pub fn owes(&self, id: ConnectionId) -> bool {
        let connection = self.peers.connections.get(id);
        connection.is_some_and(|connection| {
            let relays = connection.relays.as_ref();
            let session = connection.session();
            let session = session.and_then(|session| self.peers.sessions.get(session));
            relays.is_some_and(|relays| relays.waiting() > 0)
                || session.is_some_and(|session| session.unacked_frames > 0)
        })
    }

    /// Sessions, connected or lingering.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.peers.sessions.count()
    }

    /// Bytes reserved for frames that straddle receive buffers.
    #[must_use]
    pub fn assembly_bytes(&self) -> usize {
        self.peers.assembly.reserved()
    }

    /// Bytes handed out in `Output::sends` and not yet reported as sent, over all connections.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.peers.unsent()
    }

    /// What is in use of the memory budget, and what is shed because of it.
    #[must_use]
    pub fn memory(&self) -> MemoryStatus {
        self.peers.memory
    }

    /// What the caller holds for the tunnels of connections, for the next turn's reckoning.
    pub fn note_tunnels(&mut self, bytes: u64) {
        self.peers.tunnel_bytes = bytes;
    }

    /// What the caller holds of connections that move between shards, likewise.
    pub fn note_moving(&mut self, bytes: u64) {
        self.peers.moving_bytes = bytes;
    }

    /// Whether bytes of a connection should go into the next turn.
    #[must_use]
    pub fn reading(&self, id: ConnectionId) -> Reading {
        self.peers.reading(id)
    }

    /// What came of this connection waits for a turn, because memory is short or others have their turn: it is not silent.
    pub fn note_waiting(&mut self, id: ConnectionId, now: Duration) {
        self.peers.note_waiting(id, now);
    }

    /// The handshake of this connection's tunnel failed for good, and not because its peer wanted none: it counts against its address as
    /// one of ours does. For connections that a turn was told of.
    pub fn note_failed_tunnel(&mut self, id: ConnectionId) {
        self.peers.note_failure(id);
    }

    /// Who is kept out now, at most so many of them.
    #[must_use]
    pub fn banned(&self, count_max: usize) -> Vec<Banned> {
        self.peers.banned(count_max)
    }

    /// The epoch of the route table in force.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.peers.table.epoch()
    }
}

/// Reckon what is in use of the memory budget; so many queues of each group are looked at anew.
fn weigh<S: Segment>(peers: &mut Peers, logs: &[Log<S>], groups: &mut [Group<S>], looks: usize) {
    let mut used = peers.memory();
    used.unacked = logs.iter().map(Log::unacked_bytes).sum();
    used.sessions += logs.iter().map(Log::senders_bytes).sum::<u64>();
    let queues = groups.iter_mut();
    used.queues = queues.map(|group| group.queues.memory_bytes(looks)).sum();
    let before = peers.memory.pressure;
    if peers.memory.note(used) {
        let high = before < Pressure::All && peers.memory.pressure == Pressure::All;
        peers.counters.shed.high_waters += u64::from(high);
        let tight = peers.memory.pressure > Pressure::None;
        for group in groups {
            group.queues.tighten(tight);
        }
    }
    peers.bound_assembly();
}

/// Forget connections that are gone, and give back to the queues what they had in flight.
fn close<S: Segment>(
    peers: &mut Peers,
    groups: &mut [Group<S>],
    consumers: &mut Consumers,
    closed: &[ConnectionId],
) {
    for id in closed {
        peers.closed(*id);
    }
    take_back(peers, groups, consumers);
}

/// PING, BYE, FETCH and SETTLE, in order of arrival.
fn carry_out<S: Segment>(
    peers: &mut Peers,
    groups: &mut [Group<S>],
    consumers: &mut Consumers,
    commands: &[Command],
) {
    for frame in commands {
        // A session that ended, or that moved to another connection since, is owed nothing here.
        let session = peers.sessions.get(frame.session);
        if session.is_none_or(|session| session.connection != Some(frame.connection)) {
            continue;
        }
        match frame.kind {
            CommandKind::Ping(number) => peers.answer_ping(frame.connection, number),
            CommandKind::Bye => {
                // What is still due is said; the client knows why the connection ends.
                peers.goodbye(frame.connection, Goodbye::Silent);
                peers.end_session(frame.session);
                take_back(peers, groups, consumers);
            }
            CommandKind::Fetch(_) | CommandKind::Settle(_) => {
                command(peers, groups, consumers, frame)
            }
        }
    }
}
