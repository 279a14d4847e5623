//! The loop of one shard: drain what is ready, make one turn, carry out what it asks for, sleep only when there is nothing.
//!
//! Bytes stay in the ring's buffers for the turn and are lent to the shard; every vector here is filled and emptied again, so a
//! turn allocates nothing for a message.

mod finishing;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender};
use partition::{MappedSegment, MappedView};
use ring::{Event, Lease, Ring};
use shard::{
    ConnectionId, Input, Now, Opened, Output, Peer, Pressure, Received, Sent, Shard, StorageEvent,
};
use wire::ids::UnixNanos;
use wire::route::RouteTable;

use crate::accept::quic::LaneOpened;
use crate::accept::quic::door::Door;
use crate::accept::tls::Tunnels;
use crate::between::{Between, Moved};
use crate::bounds::ring_fault;
use crate::diagnosis::{Diagnosis, RANDOM_FAILED, diagnose};
use crate::distribution::Distribution;
use crate::fair::{Fair, Spared};
use crate::files::Files;
use crate::hubs::Handed;
use crate::log::{Level, Log};
use crate::random::Random;
use crate::status::{PartitionNumbers, Phase, Snapshot, Status, TurnTimes, sum_queues, thread_cpu};
use finishing::Finishing;

/// Send buffers handed to the shard beyond those of open connections.
const BUFFERS_MIN: usize = 64;
/// Send buffers handed to the shard at most.
const BUFFERS_MAX: usize = 1024;
/// Bytes these buffers may have room for, and in how many turns that is looked at once.
const BUFFERS_BYTES_MAX: usize = 16 << 20;
const BUFFERS_LOOK_TURNS: u64 = 1024;
/// While memory is short, so many eighths of the receive buffers may hold what is not read for now: what senders send, and with it
/// what those send that do not take their answers. The rest is for those who make room.
const SPARED_EIGHTHS: (u16, u16) = (6, 7);
/// How often those whose bytes wait for a turn are looked at: they are not silent.
const WAITING_LOOK: Duration = Duration::from_millis(100);
/// Bans that are told when numbers are asked for.
const BANNED_TOLD_MAX: usize = 1024;
/// Longest sleep; only bounds how late a missed deadline can be.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What other threads ask of the loop.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take over the logs of new hubs between two turns.
    Hubs(Box<Handed>),
    /// Apply this table between two turns; its epoch is counted in this past.
    Table(Arc<RouteTable>, u64),
    /// Take nothing and send everybody away, or take everything again.
    Suspend(bool),
    /// Tell the numbers.
    Snapshot(Sender<Box<Snapshot>>),
    /// Stop gracefully.
    Stop,
}

/// One shard with everything it runs on.
pub(crate) struct Loop {
    /// Which shard it is.
    pub(crate) number: usize,
    pub(crate) ring: Ring,
    /// Where plain connections come in, and where those come in that begin with a tunnel.
    pub(crate) listener: Option<ring::ListenerId>,
    pub(crate) tunnel_listener: Option<ring::ListenerId>,
    pub(crate) tunnels: Tunnels,
    /// QUIC, if it is spoken.
    pub(crate) quic: Option<Door>,
    pub(crate) shard: Shard<MappedSegment>,
    pub(crate) files: Files,
    /// The way to the other shards, if there are any.
    pub(crate) between: Option<Between>,
    pub(crate) random: Random,
    pub(crate) commands: Receiver<Command>,
    pub(crate) status: Arc<Status>,
    pub(crate) log: Arc<Log>,
    pub(crate) clock: Clock,
    pub(crate) drain: Duration,
    pub(crate) batch: Batch,
    pub(crate) output: Output<MappedSegment>,
}

/// Events of the ring, sorted for a turn, and the vectors they are sorted into.
#[derive(Default)]
pub(crate) struct Batch {
    events: Vec<Event>,
    opened: Vec<Opened>,
    leases: Vec<(ConnectionId, Lease)>,
    /// What came and waits for a turn with room for it.
    fair: Fair<Lease>,
    /// When those of which something waits are looked at next.
    waiting_at: Duration,
    received: Vec<Received<'static>>,
    /// What was received of connections that came from other shards, before they came.
    brought: Vec<(ConnectionId, Vec<u8>)>,
    /// Nothing: what other shards say on a node that has none.
    said: Vec<(u16, Peer<MappedView>)>,
    /// Connections from other shards for which there was no room.
    refused_moves: u64,
    sent: Vec<Sent>,
    closed: Vec<ConnectionId>,
    storage: Vec<StorageEvent<MappedSegment>>,
    table: Option<Arc<RouteTable>>,
    /// What the epoch of the last table is counted in.
    past: u64,
    hubs: Vec<Handed>,
    finishing: Finishing,
    /// Turns that took only a part of the events, because a slot changed hands in them.
    cut_short: u64,
    idle_waits: u64,
    /// What was shed when it was last said in the log.
    pressure_told: Pressure,
    turns: u64,
    /// How long turns took, what they asked for included.
    took: TurnTimes,
    /// Frames that turns found, and messages they appended, none left out.
    frames: Distribution<1>,
    messages: Distribution<1>,
}

/// Time since the node began, and of the day.
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    /// Since this moment, the same one for all shards: they take from the same allowances.
    pub(crate) fn since(began: Instant) -> Self {
        Self { began }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic: self.began.elapsed(),
            unix: unix_now(),
        }
    }
}

pub(crate) fn unix_now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    UnixNanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Loop {
    /// Serve until told to stop, then drain.
    pub(crate) fn run(mut self) -> Result<shard::Counters, Diagnosis> {
        let mut stop_by = None;
        loop {
            if self.take_commands() && stop_by.is_none() {
                stop_by = Some(self.begin_drain());
            }
            let busy = self.gather()?;
            let now = self.clock.now();
            self.status.looks(self.number, now.monotonic);
            if busy || self.is_due(now.monotonic) {
                self.turn(now, stop_by.is_some());
                self.admit()?;
            } else if self.sleep(now.monotonic, stop_by)? {
                continue;
            }
            if stop_by.is_some_and(|by| now.monotonic >= by || self.has_drained()) {
                return self.end();
            }
        }
    }

    /// Whether a stop was among the commands.
    fn take_commands(&mut self) -> bool {
        let mut stop = false;
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Hubs(hubs) => self.batch.hubs.push(*hubs),
                Command::Table(table, past) => {
                    (self.batch.table, self.batch.past) = (Some(table), past);
                }
                Command::Suspend(suspended) => {
                    self.shard.suspend(suspended);
                    // There is something to be said.
                    self.output.more = true;
                }
                Command::Snapshot(asked) => {
                    // Whoever asked may have given up waiting.
                    let _ = asked.try_send(Box::new(self.snapshot()));
                }
                Command::Stop => stop = true,
            }
        }
        stop
    }

    /// Take what the ring and the files have finished. Whether there is anything to work on. What the last turn asked the ring for
    /// leaves with the sleep, in the same system call, unless there is work that must not sleep.
    fn gather(&mut self) -> Result<bool, Diagnosis> {
        let events = &mut self.batch.events;
        if events.is_empty() {
            let taken =
                match self.output.more || self.batch.fair.is_holding() || self.tunnels.waits() {
                    true => self.ring.poll(events),
                    false => self.ring.take(events),
                };
            taken.map_err(|error| ring_fault(&error))?;
        }
        if let Some(quic) = &mut self.quic {
            quic.pass_time(Instant::now(), &self.shard);
        }
        self.close_finished();
        self.sort()?;
        let lanes = self.gather_lanes()?;
        let heard = self.between.as_mut().is_some_and(Between::receive);
        self.files.take(&mut self.batch.storage);
        let batch = &self.batch;
        Ok(heard
            || lanes
            || self.tunnels.waits()
            || !(batch.opened.is_empty()
                && batch.leases.is_empty()
                && !batch.fair.is_holding()
                && batch.sent.is_empty()
                && batch.closed.is_empty()
                && batch.storage.is_empty()
                && batch.table.is_none()
                && batch.hubs.is_empty()))
    }

    /// Close connections whose peer will send no more and has its answers.
    fn close_finished(&mut self) {
        if self.batch.finishing.next_at().is_none() {
            return;
        }
        let now = Instant::now();
        loop {
            let Batch {
                fair, finishing, ..
            } = &mut self.batch;
            let owed = |connection: ring::ConnectionId| {
                let connection = ConnectionId(connection.0);
                self.shard.owes(connection) || fair.waiting().any(|waits| waits == connection)
            };
            let Some(connection) = finishing.next_to_close(now, owed) else {
                return;
            };
            self.close(ConnectionId(connection.0));
        }
    }

    /// Close a connection after what was sent to it has left.
    fn close(&mut self, connection: ConnectionId) {
        match &mut self.quic {
            Some(quic) if quic.owns(connection) => quic.close_heard(Instant::now(), connection),
            _ => self.ring.close(ring::ConnectionId(connection.0)),
        }
    }

    /// What became of lanes, and what those have to say that the shard wants to hear. Whether there is anything.
    fn gather_lanes(&mut self) -> Result<bool, Diagnosis> {
        let Some(quic) = &mut self.quic else {
            return Ok(false);
        };
        let (now, batch) = (Instant::now(), &mut self.batch);
        let any = quic.gather(now, &self.shard);
        let (opened, random, tunnels) = (&mut batch.opened, &mut self.random, &mut self.tunnels);
        let open = |lane: LaneOpened, tunnel| {
            opened.push(Opened {
                connection: lane.id,
                peer: lane.peer,
                random: random.piece()?,
                handed_over: false,
            });
            tunnels.stand(tunnel);
            Ok(())
        };
        let finishing = &mut batch.finishing;
        let finished = |id: ConnectionId| {
            finishing.begin(now, ring::ConnectionId(id.0));
        };
        let (sent, closed) = (&mut batch.sent, &mut batch.closed);
        quic.tell(open, sent, finished, closed, &mut self.ring)?;
        Ok(any)
    }

    /// Sort events by kind, up to one that gives a slot of this batch to a new connection.
    fn sort(&mut self) -> Result<(), Diagnosis> {
        let batch = &mut self.batch;
        let cut = cut_before_reuse(&batch.events);
        batch.cut_short += u64::from(cut < batch.events.len());
        for event in batch.events.drain(..cut) {
            match event {
                Event::Accepted {
                    listener,
                    connection,
                    peer,
                } => {
                    if Some(listener) == self.tunnel_listener {
                        let begun = self.tunnels.begin(connection);
                        begun.map_err(|error| no_tunnel(&error))?;
                    }
                    batch.opened.push(Opened {
                        connection: ConnectionId(connection.0),
                        peer,
                        random: self.random.piece()?,
                        handed_over: false,
                    });
                }
                Event::Received { connection, lease }
                    if let Some(between) = &mut self.between
                        && between.goes(connection) =>
                {
                    let bytes = self.ring.bytes(&lease);
                    if !between.take_along(connection, bytes, &mut self.tunnels) {
                        self.ring.close(connection);
                    }
                    self.ring.release(lease);
                }
                Event::Received { connection, lease } => {
                    match self.tunnels.keep(connection, self.ring.bytes(&lease)) {
                        None => batch.leases.push((ConnectionId(connection.0), lease)),
                        Some(good) => {
                            if !good {
                                self.ring.close(connection);
                            }
                            self.ring.release(lease);
                        }
                    }
                }
                Event::Sent { connection, bytes } => batch.sent.push(Sent {
                    connection: ConnectionId(connection.0),
                    bytes: self.tunnels.sent(connection, bytes),
                }),
                Event::Finished { connection } => {
                    batch.finishing.begin(Instant::now(), connection);
                }
                Event::Closed { connection, .. } => {
                    drop(self.tunnels.take(connection));
                    // The shard has forgotten one that was to go.
                    let gone = |between: &mut Between| between.gone(connection);
                    if self.between.as_mut().and_then(gone).is_none() {
                        batch.closed.push(ConnectionId(connection.0));
                    }
                }
                Event::Detached { connection, socket } => {
                    let between = self.between.as_mut();
                    let between =
                        between.expect("a connection goes only where there is another shard");
                    between.detached(connection, socket, self.tunnels.take(connection));
                }
                Event::Synced { token, result } => self.files.synced(token, result),
                Event::Datagrams(train) => match &mut self.quic {
                    Some(quic) => quic.receive(Instant::now(), &mut self.ring, train),
                    None => self.ring.release_datagrams(train),
                },
                Event::OutOfBuffers => {}
                Event::AcceptFailed { errno, .. } => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    self.log
                        .event(Level::Warning, "accept_failed", &[("cause", &error)]);
                }
            }
        }
        Ok(())
    }

    /// Whether the shard asked for a turn by now.
    fn is_due(&self, now: Duration) -> bool {
        self.output.more || self.output.wake_at.is_some_and(|at| at <= now)
    }

    /// One turn, and what it asks for.
    fn turn(&mut self, now: Now, drain: bool) {
        self.top_up();
        let batch = &mut self.batch;
        let (shard, leases) = (&self.shard, &mut batch.leases);
        let short = shard.memory().pressure == Pressure::All;
        let eighths = |count: u16| usize::from(self.ring.limits().buffers) * usize::from(count) / 8;
        let strangers = shard.strangers() as usize;
        let fair = &mut batch.fair;
        fair.hold_back(short.then_some(Spared {
            later: eighths(SPARED_EIGHTHS.0),
            not_yet: eighths(SPARED_EIGHTHS.1),
        }));
        fair.choose(now.monotonic, leases, &batch.closed, strangers, shard);
        if batch.waiting_at <= now.monotonic {
            batch.waiting_at = now.monotonic + WAITING_LOOK;
            let lanes = self.quic.iter().flat_map(Door::waiting);
            for connection in batch.fair.waiting().chain(lanes) {
                self.shard.note_waiting(connection, now.monotonic);
            }
        }
        if let Some(between) = &self.between {
            self.shard.note_moving(between.moving_bytes());
        }
        let quic = self.quic.as_ref().map_or(0, Door::memory_bytes);
        self.shard
            .note_tunnels((self.tunnels.memory_bytes() + quic) as u64);
        let finishing = &mut batch.finishing;
        self.tunnels
            .open(&mut self.ring, &batch.leases, |connection| {
                finishing.begin(Instant::now(), connection);
            });
        let mut received = recycle(std::mem::take(&mut batch.received));
        received.extend(batch.brought.iter().map(|(connection, bytes)| Received {
            connection: *connection,
            bytes,
        }));
        received.extend(
            self.tunnels
                .first_words()
                .map(|(connection, bytes)| Received { connection, bytes }),
        );
        let leases = batch.leases.iter().enumerate();
        received.extend(leases.map(|(place, (connection, lease))| Received {
            connection: *connection,
            bytes: match self.tunnels.piece(place) {
                Some(plaintext) => plaintext,
                None => self.ring.bytes(lease),
            },
        }));
        received.extend(self.quic.iter().flat_map(Door::received));
        if self.tunnels.count() > 0 {
            // Of a handshake nothing is left to tell.
            received.retain(|piece| !piece.bytes.is_empty());
        }
        let datagrams: Vec<_> = self.quic.iter().flat_map(Door::datagrams).collect();
        let mut input = Input {
            opened: &batch.opened,
            tunnels: self.tunnels.standing(),
            received: &received,
            datagrams: &datagrams,
            sent: &batch.sent,
            closed: &batch.closed,
            storage: &mut batch.storage,
            mesh: match &mut self.between {
                Some(between) => &mut between.said,
                None => &mut batch.said,
            },
            table: batch.table.take(),
            drain,
        };
        let applied = input.table.is_some();
        let before = work_of(&self.shard);
        self.shard.turn(now, &mut input, &mut self.output);
        #[cfg(feature = "planted-bugs")]
        crate::planted::in_turn(self.number);
        let after = work_of(&self.shard);
        // A table of before is taken over first: with it a shard tells of all its logs.
        for hubs in batch.hubs.drain(..) {
            hubs.give(self.number, &mut self.shard);
        }
        batch.received = recycle(received);
        self.tunnels.told();
        for connection in self.tunnels.failed() {
            self.shard.note_failed_tunnel(connection);
        }
        if let Some(quic) = &mut self.quic {
            quic.worked();
        }
        batch.clear(&mut self.ring);
        batch.note_work(before, after);
        self.carry_out();
        self.flush_lanes();
        let took = self.clock.now().monotonic.saturating_sub(now.monotonic);
        let nanos = u64::try_from(took.as_nanos());
        self.batch.took.note(nanos.unwrap_or(u64::MAX));
        self.batch.fair.took(took);
        self.look_at_memory();
        if applied {
            let epoch = self.shard.epoch();
            let past = self.batch.past;
            self.status.reload_applied(self.number, past, epoch);
            self.log
                .event(Level::Info, "table_applied", &[("epoch", &epoch)]);
        }
    }

    /// Go on reading when there is memory again, and say when messages begin to be refused for want of it, and when nothing is.
    fn look_at_memory(&mut self) {
        let memory = self.shard.memory();
        if memory.pressure < Pressure::All {
            self.batch.fair.hold_back(None);
        }
        let told = &mut self.batch.pressure_told;
        let (level, event) = match memory.pressure {
            Pressure::None if *told > Pressure::None => (Level::Info, "memory_eased"),
            pressure if pressure >= Pressure::LowPriority && pressure > *told => {
                (Level::Warning, "memory_short")
            }
            _ => return,
        };
        *told = memory.pressure;
        let fields: [(&str, &dyn std::fmt::Display); 4] = [
            ("shard", &self.number),
            ("sheds", &memory.pressure.name()),
            ("used_bytes", &memory.used.total()),
            ("budget_bytes", &memory.budget_bytes),
        ];
        self.log.event(level, event, &fields);
    }

    /// Keep as many empty send buffers ready as the turn may need.
    fn top_up(&mut self) {
        let connections = (self.ring.connections()).max(self.shard.connections() as usize);
        let wanted = (connections + BUFFERS_MIN).min(BUFFERS_MAX);
        self.batch.turns += 1;
        if self.batch.turns.is_multiple_of(BUFFERS_LOOK_TURNS) {
            bound(&mut self.output.buffers, BUFFERS_BYTES_MAX);
        }
        while self.output.buffers.len() < wanted {
            self.output.buffers.push(self.ring.take_buffer());
        }
    }

    fn carry_out(&mut self) {
        for outgoing in self.output.sends.drain(..) {
            if let Some(quic) = &mut self.quic
                && quic.owns(outgoing.connection)
            {
                quic.send(Instant::now(), outgoing.connection, outgoing.bytes);
                continue;
            }
            let connection = ring::ConnectionId(outgoing.connection.0);
            self.tunnels
                .send(&mut self.ring, connection, outgoing.bytes);
        }
        for connection in self.output.closes.drain(..) {
            if let Some(quic) = &mut self.quic
                && quic.owns(connection)
            {
                quic.close(Instant::now(), connection, &self.shard);
                continue;
            }
            let connection = ring::ConnectionId(connection.0);
            self.tunnels.finish(&mut self.ring, connection);
            self.ring.close(connection);
        }
        for request in self.output.storage.drain(..) {
            self.files.begin(&mut self.ring, request);
        }
        if self.between.is_some() {
            self.pass_on();
        }
    }

    /// What goes to other shards leaves, and connections that have come from them join.
    fn pass_on(&mut self) {
        let Self {
            ring,
            between,
            batch,
            output,
            tunnels,
            ..
        } = self;
        let Some(between) = between else { return };
        for mut leaves in output.hand_over.drain(..) {
            // What waits for its turn goes with it.
            batch.fair.empty(leaves.connection, &mut batch.leases);
            let connection = ring::ConnectionId(leaves.connection.0);
            let mut good = true;
            for (_, lease) in batch.leases.drain(..) {
                good &= tunnels.take_along(connection, ring.bytes(&lease), &mut leaves.bytes);
                ring.release(lease);
            }
            between.leaves(leaves);
            match good {
                true => ring.detach(connection),
                false => ring.close(connection),
            }
        }
        between.send(output);
    }

    /// Take in connections that have come from other shards: they are opened in the next turn, and what was received of them comes
    /// first. Not while it has still to be told which connections are gone: they may have had the same slots.
    fn admit(&mut self) -> Result<(), Diagnosis> {
        let Some(between) = &mut self.between else {
            return Ok(());
        };
        if !self.batch.events.is_empty() {
            return Ok(());
        }
        for Moved {
            socket,
            bytes,
            tunnel,
        } in between.moved.drain(..)
        {
            let peer = socket.peer();
            // Without room for it the connection is closed, as one more would be that is accepted.
            let Ok(connection) = self.ring.adopt(socket) else {
                self.batch.refused_moves += 1;
                continue;
            };
            self.tunnels.adopt(connection, tunnel, &mut self.ring);
            let connection = ConnectionId(connection.0);
            self.batch.opened.push(Opened {
                connection,
                peer,
                random: self.random.piece()?,
                handed_over: true,
            });
            self.batch.brought.push((connection, bytes));
        }
        Ok(())
    }

    /// What QUIC has to send goes to the ring, and with it to the kernel.
    fn flush_lanes(&mut self) {
        if let Some(quic) = &mut self.quic {
            quic.flush(Instant::now(), &mut self.ring);
        }
    }

    /// Sleep until there may be something. Returns whether to look again before anything else.
    fn sleep(&mut self, now: Duration, stop_by: Option<Duration>) -> Result<bool, Diagnosis> {
        let finishing = self.batch.finishing.next_at();
        let finishing = finishing.map(|at| now + at.saturating_duration_since(Instant::now()));
        self.flush_lanes();
        let quic = self.quic.as_ref().and_then(Door::wake_at);
        let quic = quic.map(|at| now + at.saturating_duration_since(Instant::now()));
        let deadlines = [self.output.wake_at, stop_by, finishing, quic];
        let next = deadlines.into_iter().flatten().min();
        let timeout = next.map_or(SLEEP_MAX, |at| at.saturating_sub(now).min(SLEEP_MAX));
        if timeout.is_zero() || !self.commands.is_empty() {
            return Ok(false);
        }
        // There may be room by now for what there was none.
        if let Some(between) = &mut self.between
            && between.send(&mut self.output)
        {
            self.output.more = true;
            return Ok(true);
        }
        self.batch.idle_waits += 1;
        let slept = self.ring.wait(timeout);
        slept.map_err(|error| ring_fault(&error))?;
        Ok(true)
    }

    /// Whether this shard has drained, and none of the others needs it any more to do so.
    fn has_drained(&mut self) -> bool {
        let others = |between: &mut Between| between.drained();
        self.output.drained && self.between.as_mut().is_none_or(others)
    }

    fn begin_drain(&mut self) -> Duration {
        self.status.enter(self.number, Phase::Draining);
        self.log.event(Level::Info, "draining", &[]);
        for listener in [self.listener, self.tunnel_listener].into_iter().flatten() {
            self.ring.stop_listening(listener);
        }
        if let Some(quic) = &mut self.quic {
            quic.refuse();
        }
        // The shard hears of it at once, not with the next message.
        self.output.more = true;
        self.clock.now().monotonic + self.drain
    }

    /// Give the last words a moment to leave, let storage work end.
    fn end(mut self) -> Result<shard::Counters, Diagnosis> {
        let by = Instant::now() + Duration::from_millis(500);
        let quiet = |quic: &Option<Door>| quic.as_ref().is_none_or(Door::is_quiet);
        while Instant::now() < by
            && (self.ring.connections() > 0 || self.files.is_busy() || !quiet(&self.quic))
        {
            let _ = self.gather()?;
            let now = self.clock.now();
            self.turn(now, true);
            let slept = self.ring.wait(Duration::from_millis(5));
            slept.map_err(|error| ring_fault(&error))?;
        }
        if let Some(quic) = &mut self.quic {
            quic.stop(Instant::now(), &mut self.ring);
            self.ring.submit().map_err(|error| ring_fault(&error))?;
        }
        Ok(self.shard.counters().clone())
    }

    fn snapshot(&self) -> Snapshot {
        let crowded_out = self.between.as_ref().map_or(0, Between::crowded_out);
        let at = self.clock.now().monotonic;
        Snapshot {
            at,
            cpu: thread_cpu(),
            counters: self.shard.counters().clone(),
            queues: sum_queues(self.shard.queue_counters()),
            ring: self.ring.counters(),
            files: self.files.counters(),
            connections: self.shard.connections(),
            strangers: self.shard.strangers(),
            sessions: self.shard.sessions(),
            assembly_bytes: self.shard.assembly_bytes(),
            banned: self.shard.banned(BANNED_TOLD_MAX),
            memory: self.shard.memory(),
            buffers_free: self.ring.buffers_free(),
            buffers: self.ring.limits().buffers as usize,
            epoch: self.shard.epoch(),
            partitions: PartitionNumbers::of(&self.shard),
            turns_cut_short: self.batch.cut_short,
            idle_waits: self.batch.idle_waits,
            turns: self.batch.took,
            batch_frames: self.batch.frames,
            batch_messages: self.batch.messages,
            hottest: self.shard.hottest(at),
            fair: self.batch.fair.counters(),
            mesh: self.between.as_ref().map(Between::counters),
            refused_moves: self.batch.refused_moves + crowded_out,
            tunnels: self.tunnels.count(),
            tunnel_counters: self.tunnels.counters(),
            quic: self.quic.as_ref().map(Door::counters),
        }
    }
}

/// A tunnel cannot begin: that takes random bytes and nothing else of the environment.
fn no_tunnel(error: &tls::rustls::Error) -> Diagnosis {
    diagnose(
        RANDOM_FAILED,
        "a tunnel",
        error.to_string(),
        "random bytes of the kernel",
        "see the kernel log",
    )
}

/// Frames found and messages appended so far.
fn work_of(shard: &Shard<MappedSegment>) -> [u64; 2] {
    let counters = shard.counters();
    [counters.parse.frames, counters.append.messages]
}

impl Batch {
    /// Count what one turn did.
    fn note_work(&mut self, before: [u64; 2], after: [u64; 2]) {
        let [frames, messages] = [0, 1].map(|kind| after[kind] - before[kind]);
        if frames > 0 {
            self.frames.note(frames);
        }
        if messages > 0 {
            self.messages.note(messages);
        }
    }

    /// Everything was worked on: lent buffers go back to the ring.
    fn clear(&mut self, ring: &mut Ring) {
        self.opened.clear();
        self.sent.clear();
        self.closed.clear();
        self.brought.clear();
        for (_, lease) in self.leases.drain(..) {
            ring.release(lease);
        }
    }
}

/// Free buffers so that the rest has room for so many bytes at most: those at the bottom, which were used longest ago.
fn bound(buffers: &mut Vec<Vec<u8>>, bytes_max: usize) {
    let mut left = bytes_max;
    let fits = |buffer: &&Vec<u8>| {
        let rest = left.checked_sub(buffer.capacity());
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    let kept = buffers.iter().rev().take_while(fits).count();
    buffers.drain(..buffers.len() - kept);
}

/// How many events come before one that gives a slot to a new connection whose old one was closed among them.
fn cut_before_reuse(events: &[Event]) -> usize {
    let reuses = |(place, event): (usize, &Event)| match event {
        Event::Accepted { connection, .. } => {
            let gone = |event: &Event| matches!(event, Event::Closed { connection: gone, .. } | Event::Detached { connection: gone, .. } if gone.slot() == connection.slot());
            events[..place].iter().any(gone)
        }
        _ => false,
    };
    let closing = events
        .iter()
        .any(|event| matches!(event, Event::Closed { .. } | Event::Detached { .. }));
    match closing {
        false => events.len(),
        true => (events.iter().enumerate())
            .position(reuses)
            .unwrap_or(events.len()),
    }
}

/// An empty vector in the memory of another one, for elements that borrow for another time.
fn recycle<'a>(mut vector: Vec<Received<'_>>) -> Vec<Received<'a>> {
    vector.clear();
    vector
        .into_iter()
        .map(|_| unreachable!("it was just emptied"))
        .collect()
}

#[cfg(test)]
mod tests;
