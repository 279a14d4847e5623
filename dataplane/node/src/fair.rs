//! Which of the bytes that have come go into the next turn, when there are more than a turn should take.
//!
//! Deficit round robin over connections, one receive buffer a time, and those that were silent before come first, as in RFC 8290:
//! whoever sends a frame now and then does not wait for those who send without end. A turn takes so many bytes that it is short in
//! time: what comes while it runs waits for it, whoever sent it. What is left waits in its receive buffers, of which a connection
//! is lent few while many wait, so who sends too much is slowed down by the window of its own socket.
//!
//! Knows buffers, bytes and whether a connection has a session; no frame.

use std::collections::VecDeque;
use std::time::Duration;

use ring::Lease;
use shard::ConnectionId;

use crate::durations::Durations;

/// Bytes of a turn, at most and at least.
const TURN_BYTES_MAX: usize = 1 << 20;
const TURN_BYTES_MIN: usize = 64 << 10;
/// A turn that took longer makes the next one smaller, one that took less than half of it makes it bigger.
const TURN_TIME: Duration = Duration::from_millis(2);
/// Buffers of connections without a session in a turn: to find out who they are is dearer than any frame.
const STRANGERS_MAX: usize = 64;
/// No flow, no piece.
const NONE: u32 = u32::MAX;

/// What waits of one connection: its first and its last piece.
#[derive(Debug, Clone, Copy)]
struct Flow {
    connection: u64,
    first: u32,
    last: u32,
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

/// Received and not yet handed to the shard.
#[derive(Debug)]
pub(crate) struct Fair<T> {
    /// By number; those without a connection are spare.
    flows: Vec<Flow>,
    spare: Vec<u32>,
    /// All pieces, in one vector: it grows to the most that ever waited, not with each connection anew.
    kept: Vec<Kept<T>>,
    kept_spare: u32,
    /// The flow of each slot's connection.
    of_slot: Vec<u32>,
    /// Flows of connections that had nothing waiting, then all others. One that was emptied stays among the others for a round:
    /// it is no newcomer again at once.
    new: VecDeque<u32>,
    old: VecDeque<u32>,
    /// Passed over in this turn.
    later: Vec<(u32, bool)>,
    /// Buffers that wait.
    held: usize,
    turn_bytes: usize,
    /// Of them in this turn.
    taken: usize,
    counters: FairCounters,
}

/// What waiting there was.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FairCounters {
    /// Turns that left bytes to the next one.
    pub(crate) turns_full: u64,
    /// How long buffers waited that came while a turn was full.
    pub(crate) waits: Durations,
    /// How long those waited that came from a connection with nothing waiting before.
    pub(crate) waits_first: Durations,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            flows: Vec::new(),
            spare: Vec::new(),
            kept: Vec::new(),
            kept_spare: NONE,
            of_slot: Vec::new(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            later: Vec::new(),
            held: 0,
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
        strangers: usize,
        is_stranger: impl Fn(ConnectionId) -> bool,
    ) {
        self.taken = received.iter().map(|(_, piece)| piece.count()).sum();
        let few = strangers.min(received.len()) <= STRANGERS_MAX;
        if self.held == 0 && few && self.taken <= self.turn_bytes {
            return;
        }
        for (connection, piece) in received.drain(..) {
            self.keep(now, connection, piece);
        }
        self.hand_out(now, received, is_stranger);
        self.counters.turns_full += u64::from(self.held > 0);
    }

    /// The connection is gone: what it had sent before goes into this turn, whatever it is.
    pub(crate) fn closed(
        &mut self,
        connection: ConnectionId,
        received: &mut Vec<(ConnectionId, T)>,
    ) {
        let place = self.of_slot.get(connection.slot()).copied();
        let Some(place) = place.filter(|place| *place != NONE) else {
            return;
        };
        if self.flows[place as usize].connection == connection.0 {
            while let Some((piece, _)) = self.take_first(place) {
                received.push((connection, piece));
            }
            self.begin_anew();
        }
    }

    /// Whether something waits for a turn.
    pub(crate) fn is_holding(&self) -> bool {
        self.held > 0
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

    fn keep(&mut self, now: Duration, connection: ConnectionId, piece: T) {
        let slot = connection.slot();
        if slot >= self.of_slot.len() {
            self.of_slot.resize(slot + 1, NONE);
        }
        if self.of_slot[slot] == NONE {
            let place = self.spare.pop().unwrap_or_else(|| {
                self.flows.push(Flow {
                    connection: 0,
                    first: NONE,
                    last: NONE,
                });
                u32::try_from(self.flows.len() - 1).expect("fewer flows than connections")
            });
            self.of_slot[slot] = place;
            self.new.push_back(place);
        }
        let last = self.put(piece, now);
        let flow = &mut self.flows[self.of_slot[slot] as usize];
        // The slot's last connection is gone, and what it had left has been handed out.
        flow.connection = connection.0;
        match flow.last {
            NONE => flow.first = last,
            before => self.kept[before as usize].next = last,
        }
        flow.last = last;
        self.held += 1;
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
        is_stranger: impl Fn(ConnectionId) -> bool,
    ) {
        let mut strangers = STRANGERS_MAX;
        self.taken = 0;
        while self.taken < self.turn_bytes {
            let first = self.new.pop_front();
            let Some(place) = first.or_else(|| self.old.pop_front()) else {
                break;
            };
            let connection = ConnectionId(self.flows[place as usize].connection);
            if self.flows[place as usize].first == NONE {
                self.of_slot[connection.slot()] = NONE;
                self.spare.push(place);
                continue;
            }
            if is_stranger(connection) {
                if strangers == 0 {
                    self.later.push((place, first.is_some()));
                    continue;
                }
                strangers -= 1;
            }
            if let Some((piece, since)) = self.take_first(place) {
                let waited = now.saturating_sub(since);
                match first {
                    Some(_) => self.counters.waits_first.note(waited),
                    None => self.counters.waits.note(waited),
                }
                self.taken += piece.count();
                received.push((connection, piece));
            }
            self.old.push_back(place);
        }
        for (place, first) in self.later.drain(..).rev() {
            let list = if first { &mut self.new } else { &mut self.old };
            list.push_front(place);
        }
        self.begin_anew();
    }

    /// Nobody waits, so nobody is to be kept from anything.
    fn begin_anew(&mut self) {
        if self.held > 0 {
            return;
        }
        let Self { new, old, .. } = self;
        for place in new.drain(..).chain(old.drain(..)) {
            let slot = ConnectionId(self.flows[place as usize].connection).slot();
            self.of_slot[slot] = NONE;
            self.spare.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Bytes for (usize, u64) {
        fn count(&self) -> usize {
            self.0
        }
    }

    /// A buffer.
    const FULL: usize = 16 << 10;

    /// Hand in so many pieces of so many bytes each for these connections, numbered as they come.
    struct Sender {
        fair: Fair<(usize, u64)>,
        numbers: Vec<u64>,
        seen: Vec<u64>,
    }

    impl Sender {
        fn new(connections: usize) -> Self {
            Self {
                fair: Fair::default(),
                numbers: vec![0; connections],
                seen: vec![0; connections],
            }
        }

        /// One turn: returns the connections whose pieces it takes, in order.
        fn turn(&mut self, pieces: &[(usize, usize)], strangers: bool) -> Vec<usize> {
            let mut received: Vec<_> = (pieces.iter())
                .map(|(connection, bytes)| {
                    self.numbers[*connection] += 1;
                    let piece = (*bytes, self.numbers[*connection]);
                    (ConnectionId(*connection as u64), piece)
                })
                .collect();
            self.fair
                .choose(Duration::ZERO, &mut received, 500, |_| strangers);
            let order = received.iter().map(|(connection, (_, number))| {
                let at = connection.slot();
                self.seen[at] += 1;
                assert_eq!(*number, self.seen[at], "in order on {connection}");
                at
            });
            order.collect()
        }
    }

    #[test]
    fn a_turn_with_room_takes_everything_as_it_came() {
        let mut sender = Sender::new(3);
        assert_eq!(sender.turn(&[(2, 5), (0, FULL), (2, 7)], false), [2, 0, 2]);
        assert!(!sender.fair.is_holding());
        assert_eq!(sender.fair.counters().turns_full, 0);
    }

    #[test]
    fn a_lone_frame_is_in_the_next_turn_however_much_others_send() {
        // 40 send without end, one sends a little, again and again.
        let mut sender = Sender::new(41);
        let mut flood: Vec<_> = (0..40).flat_map(|at| [(at, FULL); 8]).collect();
        sender.turn(&flood, false);
        let mut late = 0;
        for turn in 0..200 {
            flood.truncate(64);
            flood
                .iter_mut()
                .for_each(|piece| piece.0 = (piece.0 + 7) % 40);
            let mut pieces = flood.clone();
            let speaks = turn % 3 == 0;
            if speaks {
                pieces.push((40, 200));
            }
            let taken = sender.turn(&pieces, false);
            let bytes = taken.iter().filter(|at| **at != 40).count() * FULL;
            assert!(bytes <= TURN_BYTES_MAX, "turn {turn}: {bytes} bytes");
            late += u64::from(speaks && !taken.contains(&40));
        }
        assert!(sender.fair.is_holding(), "the flood is more than is taken");
        assert_eq!(late, 0);
    }

    #[test]
    fn those_who_send_without_end_get_equal_shares() {
        let mut sender = Sender::new(10);
        // Connection 9 sends ten times what the others send.
        let mut pieces: Vec<_> = (0..9).flat_map(|at| [(at, FULL); 10]).collect();
        pieces.extend([(9, FULL); 100]);
        let mut counts = [0; 10];
        for _ in 0..20 {
            sender
                .turn(&pieces, false)
                .into_iter()
                .for_each(|at| counts[at] += 1);
        }
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(
            most.zip(least)
                .is_some_and(|(most, least)| most - least <= 2),
            "{counts:?}"
        );
    }

    #[test]
    fn strangers_are_looked_at_a_few_in_a_turn() {
        let mut sender = Sender::new(500);
        let hellos: Vec<_> = (0..500).map(|at| (at, 300)).collect();
        assert_eq!(sender.turn(&hellos, true).len(), STRANGERS_MAX);
        let mut turns = 1;
        while sender.fair.is_holding() {
            assert!(sender.turn(&[], true).len() <= STRANGERS_MAX);
            turns += 1;
        }
        assert_eq!(turns, 500_usize.div_ceil(STRANGERS_MAX));
        assert_eq!(sender.seen, [1; 500]);
    }

    #[test]
    fn a_connection_that_is_gone_leaves_nothing_behind() {
        let mut sender = Sender::new(100);
        let flood: Vec<_> = (0..100).flat_map(|at| [(at, FULL); 2]).collect();
        sender.turn(&flood, false);
        let mut rest = Vec::new();
        for at in 0..100 {
            sender.fair.closed(ConnectionId(at), &mut rest);
        }
        assert_eq!(sender.fair.held, 0);
        assert_eq!(rest.len(), 200 - TURN_BYTES_MAX / FULL);
        // The slot's next connection begins anew.
        let next = ConnectionId(1 << 32 | 5);
        let mut received = vec![(next, (9, 1))];
        sender
            .fair
            .choose(Duration::ZERO, &mut received, 0, |_| false);
        assert_eq!(received, [(next, (9, 1))]);
        sender.turn(&[], false);
        assert_eq!(sender.fair.spare.len(), sender.fair.flows.len());
    }

    #[test]
    fn a_long_turn_makes_the_next_one_smaller_and_short_ones_bigger_again() {
        let mut fair: Fair<(usize, u64)> = Fair::default();
        for (millis, bytes) in [
            (3, TURN_BYTES_MAX / 2),
            (300, TURN_BYTES_MAX / 4),
            (2, TURN_BYTES_MAX / 4),
            (1, TURN_BYTES_MAX / 4),
            (0, TURN_BYTES_MAX / 2),
            (0, TURN_BYTES_MAX),
            (0, TURN_BYTES_MAX),
        ] {
            fair.taken = fair.turn_bytes;
            fair.took(Duration::from_millis(millis));
            assert_eq!(fair.turn_bytes, bytes, "{millis} ms");
        }
        fair.taken = TURN_BYTES_MIN / 4;
        fair.took(Duration::from_secs(1));
        assert_eq!(fair.turn_bytes, TURN_BYTES_MAX, "it was not for the bytes");
        fair.taken = TURN_BYTES_MAX;
        (0..20).for_each(|_| fair.took(Duration::from_secs(1)));
        assert_eq!(fair.turn_bytes, TURN_BYTES_MIN);
    }
}
