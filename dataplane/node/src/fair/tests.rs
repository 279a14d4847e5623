//! Who is in which turn, by pieces that tell their connection, their bytes and their number.

use super::*;

impl Bytes for (usize, u64) {
    fn count(&self) -> usize {
        self.0
    }
}

/// Who is a stranger, and what is read while memory is short.
struct Told<I, R>(I, R);

impl<I: Fn(ConnectionId) -> bool, R: Fn(ConnectionId) -> Reading> Judge for Told<I, R> {
    fn is_stranger(&self, id: ConnectionId) -> bool {
        self.0(id)
    }

    fn reading(&self, id: ConnectionId) -> Reading {
        self.1(id)
    }
}

/// Of sessions whose bytes are read as they come.
fn usual() -> impl Judge {
    Told(|_| false, |_| Reading::Now)
}

/// A buffer.
const FULL: usize = 64 << 10;

/// Hand in so many pieces of so many bytes each for these connections, numbered as they come.
struct Sender {
    fair: Fair<(usize, u64)>,
    now: Duration,
    numbers: Vec<u64>,
    seen: Vec<u64>,
}

impl Sender {
    fn new(connections: usize) -> Self {
        Self {
            fair: Fair::default(),
            now: Duration::ZERO,
            numbers: vec![0; connections],
            seen: vec![0; connections],
        }
    }

    /// One turn: returns the connections whose pieces it takes, in order.
    fn turn(&mut self, pieces: &[(usize, usize)], strangers: bool) -> Vec<usize> {
        self.turn_of(pieces, |_| strangers)
    }

    fn turn_of(&mut self, pieces: &[(usize, usize)], is: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut received: Vec<_> = (pieces.iter())
            .map(|(connection, bytes)| {
                self.numbers[*connection] += 1;
                let piece = (*bytes, self.numbers[*connection]);
                (ConnectionId(*connection as u64), piece)
            })
            .collect();
        self.now += TURN_TIME;
        let judge = Told(|id: ConnectionId| is(id.slot()), |_| Reading::Now);
        self.fair.choose(self.now, &mut received, &[], 500, &judge);
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
        let speaks = turn % 3 != 1;
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
    let mut order = sender.turn(&hellos, true);
    assert_eq!(order.len(), STRANGERS_MAX);
    let mut turns = 1;
    while sender.fair.is_holding() {
        let next = sender.turn(&[], true);
        assert!(next.len() <= STRANGERS_MAX);
        order.extend(next);
        turns += 1;
    }
    assert_eq!(turns, 500_usize.div_ceil(STRANGERS_MAX));
    let came: Vec<usize> = (0..500).collect();
    assert_eq!(order, came, "who came first is looked at first");
}

#[test]
fn strangers_with_much_to_say_wait_in_order_behind_those_with_a_hello() {
    let mut sender = Sender::new(80);
    let long = STRANGER_BYTES + 1;
    let mut pieces: Vec<_> = (0..20).map(|at| (at, long)).collect();
    pieces.extend((20..80).map(|at| (at, STRANGER_BYTES)));
    let mut order = sender.turn(&pieces, true);
    while sender.fair.is_holding() {
        order.extend(sender.turn(&[], true));
    }
    let want: Vec<usize> = (20..80).chain(0..20).collect();
    assert_eq!(order, want);
}

#[test]
fn a_lone_frame_is_in_the_next_turn_whatever_strangers_send() {
    let mut sender = Sender::new(501);
    let stranger = |at| at < 500;
    // As much as is little, if a session sends it.
    let mut pieces: Vec<_> = (0..500).map(|at| (at, LIGHT_BYTES as usize)).collect();
    for turn in 0..20 {
        pieces.push((500, 200));
        let taken = sender.turn_of(&pieces, stranger);
        assert!(taken.contains(&500), "turn {turn}");
        pieces.clear();
    }
}

#[test]
fn a_lone_frame_is_in_the_next_turn_however_many_small_pieces_others_send() {
    let mut sender = Sender::new(301);
    let mut pieces: Vec<_> = (0..300).flat_map(|at| [(at, 4 << 10); 20]).collect();
    // What each may say at once comes first, and then it has been said.
    sender.turn(&pieces, false);
    (0..10).for_each(|_| drop(sender.turn(&[], false)));
    pieces.truncate(300);
    pieces.push((300, 200));
    for turn in 0..50 {
        assert!(sender.turn(&pieces, false).contains(&300), "turn {turn}");
    }
}

#[test]
fn those_who_send_much_have_a_quarter_of_a_turn_however_many_send_little() {
    let mut sender = Sender::new(4_002);
    let little: Vec<_> = (0..4_000).map(|at| (at, 1_000)).collect();
    let much = [(4_000, FULL), (4_001, FULL)];
    let mut pieces: Vec<_> = much.into_iter().cycle().take(40).collect();
    pieces.extend(&little);
    for turn in 0..3 {
        let taken = sender.turn(&pieces, false);
        let heavy = taken.iter().filter(|at| **at >= 4_000).count() * FULL;
        assert!(heavy >= TURN_BYTES_MAX / 4, "turn {turn}: {heavy} bytes");
        assert!(heavy <= TURN_BYTES_MAX / 4 + FULL, "turn {turn}: {heavy}");
    }
}

#[test]
fn a_connection_that_is_gone_leaves_nothing_to_the_next_one_in_its_slot() {
    let mut sender = Sender::new(100);
    let flood: Vec<_> = (0..100).flat_map(|at| [(at, FULL); 2]).collect();
    sender.turn(&flood, false);
    // The last pieces come with the news that all are gone.
    let mut received: Vec<_> = (0..100).map(|at| (ConnectionId(at), (FULL, 3))).collect();
    let closed: Vec<_> = (0..100).map(ConnectionId).collect();
    let fair = &mut sender.fair;
    fair.choose(Duration::ZERO, &mut received, &closed, 0, &usual());
    assert_eq!(received.len(), 300 - TURN_BYTES_MAX / FULL);
    for (connection, (_, number)) in &received {
        let seen = &mut sender.seen[connection.slot()];
        *seen += 1;
        assert_eq!(number, seen, "in order on {connection}");
    }
    assert_eq!(sender.seen, [3; 100]);
    assert_eq!((fair.held, fair.spare.len()), (0, fair.flows.len()));
    assert!(fair.light.is_empty() && fair.heavy.is_empty());
    // The slots' next connections begin anew.
    let flood: Vec<_> = (0..200)
        .map(|at| (ConnectionId((1 << 32) | (at % 100)), (FULL, at)))
        .collect();
    let mut received = flood.clone();
    fair.choose(Duration::ZERO, &mut received, &[], 0, &usual());
    assert!(received.iter().all(|piece| flood.contains(piece)));
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

#[test]
fn while_memory_is_short_what_would_be_refused_waits_as_long_as_buffers_can_be_spared() {
    let mut fair = Fair::<(usize, u64)>::default();
    let judge = Told(
        |_| false,
        |id: ConnectionId| match id.0 {
            0..10 => Reading::Later,
            10 => Reading::NotYet,
            _ => Reading::Now,
        },
    );
    let turn = |fair: &mut Fair<_>, ids: &[u64]| -> Vec<u64> {
        let mut received: Vec<_> = (ids.iter())
            .map(|id| (ConnectionId(*id), (100, 0)))
            .collect();
        fair.choose(Duration::ZERO, &mut received, &[], 0, &judge);
        received.iter().map(|(id, _)| id.0).collect()
    };
    assert_eq!(
        turn(&mut fair, &[1, 10, 20]),
        [1, 10, 20],
        "memory is not short"
    );
    let (later, not_yet) = (4, 20);
    fair.hold_back(Some(Spared { later, not_yet }));
    assert_eq!(
        turn(&mut fair, &[1, 10, 20, 2]),
        [20],
        "who makes room by it"
    );
    assert!(
        fair.is_holding(),
        "a turn was made of it, there may be more"
    );
    assert_eq!(turn(&mut fair, &[]), [0; 0]);
    assert!(!fair.is_holding(), "nothing to do until something comes");
    let ids: Vec<u64> = (1..8).collect();
    let taken = turn(&mut fair, &ids);
    // 10 wait: 6 of them find no buffer to wait in, each in its turn; the one that takes nothing is not read for that.
    assert_eq!(taken.len(), 6, "{taken:?}");
    assert!(!taken.contains(&10));
    assert_eq!(fair.counters().turns_held_back, 3);
    fair.hold_back(None);
    assert!(fair.is_holding());
    let rest = turn(&mut fair, &[]);
    assert_eq!(rest.len(), 4, "{rest:?}");
    assert!(!fair.is_holding());
}

#[test]
fn those_who_do_not_take_their_answers_leave_buffers_to_those_who_make_room() {
    const BUFFERS: usize = 64;
    let mut fair = Fair::<(usize, u64)>::default();
    let judge = Told(|_| false, |_| Reading::NotYet);
    let (later, not_yet) = (BUFFERS / 8 * 6, BUFFERS / 8 * 7);
    fair.hold_back(Some(Spared { later, not_yet }));
    let mut read = 0;
    for turn in 0..100 {
        // As many pieces as there are buffers that do not wait.
        let free = BUFFERS - fair.held;
        assert!(free > 0, "turn {turn}: a settlement would find no buffer");
        let mut received: Vec<_> = (0..free.min(5))
            .map(|at| (ConnectionId((turn * 5 + at) as u64 % 40), (100, 0)))
            .collect();
        fair.choose(Duration::ZERO, &mut received, &[], 0, &judge);
        read += received.len();
        assert!(fair.held <= not_yet, "turn {turn}: {} wait", fair.held);
    }
    assert_eq!((fair.held, read), (not_yet, 500 - not_yet));
    let waiting: std::collections::BTreeSet<u64> = fair.waiting().map(|id| id.0).collect();
    assert_eq!(
        waiting.len(),
        40,
        "all of them are known to have sent something"
    );
}

/// Pieces of 64 senders that are served in 400 turns, each of which sends 16 KiB a turn; with one beside them that sends 2 MiB.
fn served_beside(flooder: bool) -> usize {
    let mut sender = Sender::new(65);
    let mut served = 0;
    for _ in 0..400 {
        let mut pieces = vec![(64, FULL); if flooder { 32 } else { 0 }];
        pieces.extend((0..64).map(|at| (at, FULL / 4)));
        let taken = sender.turn(&pieces, false);
        served += taken.iter().filter(|at| **at < 64).count();
    }
    served
}

#[test]
fn beside_one_who_floods_64_senders_that_fill_every_turn_keep_nine_tenths_of_it() {
    let (alone, beside) = (served_beside(false), served_beside(true));
    assert_eq!(alone, 64 * 400);
    println!("{beside} of {alone} pieces beside a flooder that sends twice as much as all of them");
    assert!(beside * 10 >= alone * 9, "{beside} of {alone}");
}
