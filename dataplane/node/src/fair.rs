//! Which of the bytes that have come go into the next turn, when there are more than a turn should take.
//!
//! Round robin over connections, one receive buffer a time, those that send little first: whoever sends a frame now and then does
//! not wait for those who send without end. A turn takes so many bytes that it is short in time: what comes while it runs waits for
//! it, whoever sent it. What is left waits in its receive buffers, of which a connection is lent few while many wait, so who sends
//! too much is slowed down by the window of its own socket.
//!
//! While the shard's memory is short, what it would only have to refuse waits too, as long as buffers can be spared for that.
//!
//! Knows buffers, bytes and what the shard says of a connection; no frame.

use std::collections::VecDeque;
use std::time::Duration;

use partition::MappedSegment;
use ring::Lease;
use shard::{ConnectionId, Reading, Shard};
use wire::handshake::HELLO_BYTES_MAX;
use wire::preface::PREFACE_BYTES;

use crate::durations::Durations;

/// Bytes of a turn, at most and at least.
const TURN_BYTES_MAX: usize = 1 << 20;
const TURN_BYTES_MIN: usize = 64 << 10;
/// A turn that took longer makes the next one smaller, one that took less than half of it makes it bigger.
const TURN_TIME: Duration = Duration::from_millis(2);
/// Buffers of connections without a session in a turn: to find out who they are is dearer than any frame.
const STRANGERS_MAX: usize = 64;
/// A connection without a session that sends more than so at once is no client with its HELLO, and does not come first.
const STRANGER_BYTES: usize = PREFACE_BYTES + HELLO_BYTES_MAX;
/// A connection that sends no more than this comes first: so many nanoseconds a byte, about 1 MiB a second, and 16 KiB at once.
const LIGHT_NANOS: u64 = 1_000;
const LIGHT_BYTES: u64 = 16 << 10;
/// No flow, no piece.
const NONE: u32 = u32::MAX;

/// What waits of one connection: its first and its last piece.
#[derive(Debug, Clone, Copy)]
struct Flow {
    connection: u64,
    first: u32,
    last: u32,
}

/// What is known of a slot's connection: its flow while something waits, and up to when time has paid for what it was served
/// as a light one.
#[derive(Debug, Clone, Copy)]
struct Slot {
    flow: u32,
    paid: Duration,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            flow: NONE,
            paid: Duration::ZERO,
        }
    }
}

/// A piece that waits, since when, and the next one of its connection. Spare without a piece: `next` is the next spare one.
#[derive(Debug)]
struct Kept<T> {
    piece: Option<T>,
    since: Duration,
    next: u32,
}

/// What [`Fair`] sorts: a number of bytes that somebody sent.
pub(crate) trait Bytes {
    /// How many.
    fn count(&self) -> usize;
}

impl Bytes for Lease {
    fn count(&self) -> usize {
        self.len()
    }
}

/// What is known of connections.
pub(crate) trait Judge {
    /// Whether it has no session.
    fn is_stranger(&self, id: ConnectionId) -> bool;
    /// Whether what it sent should be read.
    fn reading(&self, id: ConnectionId) -> Reading;
}

impl Judge for Shard<MappedSegment> {
    fn is_stranger(&self, id: ConnectionId) -> bool {
        Self::is_stranger(self, id)
    }

    fn reading(&self, id: ConnectionId) -> Reading {
        Self::reading(self, id)
    }
}

/// Received and not yet handed to the shard.
#[derive(Debug)]
pub(crate) struct Fair<T> {
    /// By number; those without a connection are spare.
    flows: Vec<Flow>,
    spare: Vec<u32>,
    /// All pieces, in one vector: it grows to the most that ever waited, not with each connection anew.
    kept: Vec<Kept<T>>,
    kept_spare: u32,
    slots: Vec<Slot>,
    /// Flows of connections that send little, and all others, each in turn.
    light: VecDeque<u32>,
    heavy: VecDeque<u32>,
    /// Passed over in this turn.
    later: Vec<(u32, bool)>,
    /// Buffers that wait.
    held: usize,
    /// While memory is short: buffers that may wait unread.
    spared: Option<Spared>,
    /// All that waits is not to be read for now.
    stalled: bool,
    turn_bytes: usize,
    /// Of them in this turn.
    taken: usize,
    counters: FairCounters,
}

/// Buffers that may wait unread while memory is short: up to how many in all those wait that are to be read later, and up to how
/// many those that are not to be read yet. Neither keeps all buffers from those who make room by what they send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spared {
    pub(crate) later: usize,
    pub(crate) not_yet: usize,
}

/// What waiting there was.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FairCounters {
    /// Turns that left bytes to the next one.
    pub(crate) turns_full: u64,
    /// Turns that left bytes unread because memory was short.
    pub(crate) turns_held_back: u64,
    /// How long all others waited that came while a turn was full.
    pub(crate) waits: Durations,
    /// How long those waited whose connection has a session and sends little.
    pub(crate) waits_light: Durations,
}

impl FairCounters {
    /// Count what another shard counted, too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.turns_full += other.turns_full;
        self.turns_held_back += other.turns_held_back;
        self.waits.add(&other.waits);
        self.waits_light.add(&other.waits_light);
    }
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            flows: Vec::new(),
            spare: Vec::new(),
            kept: Vec::new(),
            kept_spare: NONE,
            slots: Vec::new(),
            light: VecDeque::new(),
            heavy: VecDeque::new(),
            later: Vec::new(),
            held: 0,
            spared: None,
            stalled: false,
            turn_bytes: TURN_BYTES_MAX,
            taken: 0,
            counters: FairCounters::default(),
        }
    }
}

impl<T: Bytes> Fair<T> {
    /// Leave in `received` what the next turn works on, keep the rest, and add what was kept before and is due. Pieces of one
    /// connection stay in order. So many connections have no session, and these are they.
    pub(crate) fn choose(
        &mut self,
        now: Duration,
        received: &mut Vec<(ConnectionId, T)>,
        closed: &[ConnectionId],
        strangers: usize,
        judge: &impl Judge,
    ) {
        self.stalled = false;
        self.taken = received.iter().map(|(_, piece)| piece.count()).sum();
        let few = strangers.min(received.len()) <= STRANGERS_MAX;
        let fits = self.held == 0 && few && self.taken <= self.turn_bytes;
        if fits && self.spared.is_none() {
            return;
        }
        for (connection, piece) in received.drain(..) {
            self.keep(now, connection, piece, judge);
        }
        // Who is gone is heard to the end now: its slot may be another's in the next turn.
        for connection in closed {
            self.empty(*connection, received);
        }
        self.hand_out(now, received, judge);
        self.counters.turns_full += u64::from(self.held > 0);
    }

    /// Whether something waits for a turn.
    pub(crate) fn is_holding(&self) -> bool {
        self.held > 0 && !self.stalled
    }

    /// Connections of which something waits.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        let places = self.light.iter().chain(&self.heavy);
        places.map(|place| ConnectionId(self.flows[*place as usize].connection))
    }

    /// Memory is short: so many buffers may wait unread. With `None` it is not any more.
    pub(crate) fn hold_back(&mut self, spared: Option<Spared>) {
        self.spared = spared;
        self.stalled &= spared.is_some();
    }

    /// A turn took so long. It is held against what was received only if that was much: it may have been the machine, too.
    pub(crate) fn took(&mut self, time: Duration) {
        if time > TURN_TIME && self.taken >= self.turn_bytes / 2 {
            self.turn_bytes = (self.turn_bytes / 2).max(TURN_BYTES_MIN);
        } else if time < TURN_TIME / 2 {
            self.turn_bytes = (self.turn_bytes * 2).min(TURN_BYTES_MAX);
        }
    }

    /// What waiting there was since the start.
    pub(crate) fn counters(&self) -> FairCounters {
        self.counters
    }

    fn keep(&mut self, now: Duration, connection: ConnectionId, piece: T, judge: &impl Judge) {
        let slot = connection.slot();
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, Slot::default());
        }
        let last = self.put(piece, now);
        self.held += 1;
        let Slot { flow, .. } = self.slots[slot];
        if flow != NONE {
            let flow = &mut self.flows[flow as usize];
            let (seen, needed) = (connection.0, flow.connection);
            assert!(seen == needed, "bytes of {seen} behind those of {needed}");
            self.kept[flow.last as usize].next = last;
            flow.last = last;
            return;
        }
        let flow = Flow {
            connection: connection.0,
            first: last,
            last,
        };
        let place = match self.spare.pop() {
            Some(spare) => spare,
            None => {
                self.flows.push(flow);
                u32::try_from(self.flows.len() - 1).expect("fewer flows than connections")
            }
        };
        self.flows[place as usize] = flow;
        self.slots[slot].flow = place;
        self.list(now, place, judge.is_stranger(connection));
    }

    /// Stand a flow in line, as its first piece says.
    fn list(&mut self, now: Duration, place: u32, stranger: bool) {
        let Flow {
            connection, first, ..
        } = self.flows[place as usize];
        let piece = self.kept[first as usize].piece.as_ref();
        let bytes = piece.map_or(0, Bytes::count);
        let much = stranger && bytes > STRANGER_BYTES;
        let slot = &mut self.slots[ConnectionId(connection).slot()];
        let paid = slot.paid.max(now) + Duration::from_nanos(bytes as u64 * LIGHT_NANOS);
        if !much && paid <= now + Duration::from_nanos(LIGHT_BYTES * LIGHT_NANOS) {
            slot.paid = paid;
            self.light.push_back(place);
        } else {
            self.heavy.push_back(place);
        }
    }

    /// Nothing waits of this flow any more.
    fn end(&mut self, place: u32) {
        let slot = ConnectionId(self.flows[place as usize].connection).slot();
        self.slots[slot].flow = NONE;
        self.spare.push(place);
    }

    /// Add all that waits of a connection to `received`: none of it is kept.
    pub(crate) fn empty(
        &mut self,
        connection: ConnectionId,
        received: &mut Vec<(ConnectionId, T)>,
    ) {
        let slot = self.slots.get(connection.slot());
        let Some(place) = slot.map(|slot| slot.flow).filter(|flow| *flow != NONE) else {
            return;
        };
        if self.flows[place as usize].connection != connection.0 {
            return;
        }
        while let Some((piece, _)) = self.take_first(place) {
            received.push((connection, piece));
        }
        self.light.retain(|listed| *listed != place);
        self.heavy.retain(|listed| *listed != place);
        self.end(place);
    }

    fn put(&mut self, piece: T, since: Duration) -> u32 {
        let kept = Kept {
            piece: Some(piece),
            since,
            next: NONE,
        };
        match self.kept_spare {
            NONE => {
                self.kept.push(kept);
                u32::try_from(self.kept.len() - 1).expect("fewer than receive buffers")
            }
            spare => {
                let place = &mut self.kept[spare as usize];
                self.kept_spare = place.next;
                *place = kept;
                spare
            }
        }
    }

    fn take_first(&mut self, place: u32) -> Option<(T, Duration)> {
        let flow = &mut self.flows[place as usize];
        let first = flow.first;
        let kept = self.kept.get_mut(first as usize)?;
        let piece = kept.piece.take()?;
        flow.first = kept.next;
        if flow.first == NONE {
            flow.last = NONE;
        }
        kept.next = self.kept_spare;
        self.kept_spare = first;
        self.held -= 1;
        Some((piece, kept.since))
    }

    fn hand_out(
        &mut self,
        now: Duration,
        received: &mut Vec<(ConnectionId, T)>,
        judge: &impl Judge,
    ) {
        let mut unread = 0;
        let mut strangers = STRANGERS_MAX;
        self.taken = 0;
        while self.taken < self.turn_bytes {
            // Those who send much have a quarter of a turn, however many send little.
            let light = match self.taken < self.turn_bytes / 4 * 3 || self.heavy.is_empty() {
                true => self.light.pop_front(),
                false => None,
            };
            let Some(place) = light.or_else(|| self.heavy.pop_front()) else {
                break;
            };
            let connection = ConnectionId(self.flows[place as usize].connection);
            if let Some(spared) = self.spared {
                let waits = match judge.reading(connection) {
                    Reading::Now => false,
                    Reading::Later => self.held <= spared.later,
                    Reading::NotYet => self.held <= spared.not_yet,
                };
                if waits {
                    unread += 1;
                    self.later.push((place, light.is_some()));
                    continue;
                }
            }
            let stranger = judge.is_stranger(connection);
            if stranger {
                if strangers == 0 {
                    self.later.push((place, light.is_some()));
                    continue;
                }
                strangers -= 1;
            }
            let (piece, since) = self.take_first(place).expect("what is listed has a piece");
            let waited = now.saturating_sub(since);
            match light.is_some() && !stranger {
                true => self.counters.waits_light.note(waited),
                false => self.counters.waits.note(waited),
            }
            self.taken += piece.count();
            received.push((connection, piece));
            match self.flows[place as usize].first {
                NONE => self.end(place),
                _ => self.list(now, place, stranger),
            }
        }
        self.counters.turns_held_back += u64::from(unread > 0);
        self.stalled = unread > 0 && unread == self.later.len() && received.is_empty();
        while let Some((place, is_light)) = self.later.pop() {
            match is_light {
                true => self.light.push_front(place),
                false => self.heavy.push_front(place),
            }
        }
    }
}

#[cfg(test)]
mod tests;
