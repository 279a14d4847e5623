//! The loop of one shard: drain what is ready, make one turn, carry out what it asks for, sleep only when there is nothing.
//!
//! Bytes stay in the ring's buffers for the turn and are lent to the shard; every vector here is filled and emptied again, so a
//! turn allocates nothing for a message.

mod batch;
mod carry_out;
mod clock;
mod finishing;
mod gather;
mod tell;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use partition::MappedSegment;
use ring::Ring;
use shard::{Input, Now, Output, Pressure, Received, Shard};
use wire::route::RouteTable;

pub(crate) use self::batch::Batch;
use self::batch::recycle;
pub(crate) use self::clock::{Clock, unix_now};
use crate::accept::quic::door::Door;
use crate::accept::tls::Tunnels;
use crate::between::Between;
use crate::bounds::ring_fault;
use crate::diagnosis::Diagnosis;
use crate::fair::Spared;
use crate::files::Files;
use crate::hubs::Handed;
use crate::log::{Level, Log};
use crate::random::Random;
use crate::status::{Phase, Snapshot, Status};

/// While memory is short, so many eighths of the receive buffers may hold what is not read for now: what senders send, and with it
/// what those send that do not take their answers. The rest is for those who make room.
const SPARED_EIGHTHS: (u16, u16) = (6, 7);
/// How often those whose bytes wait for a turn are looked at: they are not silent.
const WAITING_LOOK: Duration = Duration::from_millis(100);
/// Longest sleep; only bounds how late a missed deadline can be.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What other threads ask of the loop.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take over the logs of new hubs between two turns.
    Hubs(Box<Handed>),
    /// Apply this table between two turns; its epoch is counted in this past. These hubs of it never had any logs.
    Table(Arc<RouteTable>, u64, Arc<[u16]>),
    /// Serve the hubs that were taken over, under the table in force, of which these never had any logs.
    Serve(Arc<[u16]>),
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
                Command::Table(table, past, without_logs) => {
                    (self.batch.table, self.batch.past) = (Some(table), past);
                    self.shard.lack_hubs(&without_logs);
                    if let Some(serve) = &mut self.batch.serve {
                        // It was said before this table, and takes place behind it.
                        *serve = without_logs;
                    }
                }
                Command::Serve(without_logs) => self.batch.serve = Some(without_logs),
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

    /// Whether the shard asked for a turn by now.
    fn is_due(&self, now: Duration) -> bool {
        self.output.more || self.output.wake_at.is_some_and(|at| at <= now)
    }

    /// Choose what of all that waits the turn takes.
    fn choose(&mut self, now: Duration) {
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
        fair.choose(now, leases, &batch.closed, strangers, shard);
        if batch.waiting_at <= now {
            batch.waiting_at = now + WAITING_LOOK;
            let lanes = self.quic.iter().flat_map(Door::waiting);
            for connection in batch.fair.waiting().chain(lanes) {
                self.shard.note_waiting(connection, now);
            }
        }
        if let Some(between) = &self.between {
            self.shard.note_moving(between.moving_bytes());
        }
    }

    /// One turn, and what it asks for.
    fn turn(&mut self, now: Now, drain: bool) {
        self.top_up();
        self.choose(now.monotonic);
        let batch = &mut self.batch;
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
        if let Some(without_logs) = batch.serve.take() {
            self.shard.lack_hubs(&without_logs);
            self.shard.serve_hubs();
            // Its sessions are to be looked at.
            self.output.more = true;
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
            self.tell_applied();
        }
    }

    /// A table is in force on this shard.
    fn tell_applied(&self) {
        let epoch = self.shard.epoch();
        let past = self.batch.past;
        self.status.reload_applied(self.number, past, epoch);
        self.log
            .event(Level::Info, "table_applied", &[("epoch", &epoch)]);
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
}

/// Frames found and messages appended so far.
fn work_of(shard: &Shard<MappedSegment>) -> [u64; 2] {
    let counters = shard.counters();
    [counters.parse.frames, counters.append.messages]
}

#[cfg(test)]
mod tests;
