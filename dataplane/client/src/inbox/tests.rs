//! The inbox against rules one by one, then against an oracle of the server over random interleavings.

use super::*;
use std::collections::BTreeSet;
use wire::delivery::{DeliverBuilder, GroupHeader};
use wire::frame::{FrameKind, split};
use wire::ids::{ChannelId, EndpointId, Offset, PartitionId, UnixNanos};
use wire::message::put_message;
use wire::signature::Signer;

/// Deliver `numbers` (consecutive) and return which of them the application got.
fn deliver(inbox: &mut Inbox, numbers: std::ops::Range<u64>) -> Vec<u64> {
    let (mut bytes, mut messages) = (Vec::new(), Vec::new());
    for number in numbers.clone() {
        put_message(&mut messages, UnixNanos(0), &[], &number.to_le_bytes()).expect("short");
    }
    let header = GroupHeader {
        number: Sequence(numbers.start),
        sender: EndpointId(1),
        offset: Offset(numbers.start * 2),
        append_time: UnixNanos(0),
        partition: PartitionId(0),
        channel: ChannelId(0),
        count: (numbers.end - numbers.start) as u16,
        attempt: 1,
    };
    let (_, keys) = Seal::for_tests();
    let mut builder = DeliverBuilder::begin(&mut bytes, Source::Queue);
    assert!(builder.group(&header, &messages));
    assert!(builder.finish(Signer::Session {
        key: &keys.server,
        frame_index: 0
    }));
    let (frame, _) = split(&bytes).expect("well formed").expect("whole");
    let mut got = Vec::new();
    inbox.delivered(&Deliver::parse(frame).expect("a DELIVER"), |delivery| {
        assert_eq!(delivery.body, delivery.number.to_le_bytes());
        assert_eq!(
            delivery.offset.0,
            numbers.start * 2 + (delivery.number - numbers.start)
        );
        got.push(delivery.number);
    });
    got
}

/// What goes out: credit granted and settlements.
fn pump(inbox: &mut Inbox, waiting: usize) -> (u32, Vec<(u64, Outcome)>) {
    let (mut seal, _) = Seal::for_tests();
    let mut out = Vec::new();
    inbox.pump(waiting, 0, &mut seal, &mut out);
    let (mut rest, mut credit, mut settles) = (&out[..], 0, Vec::new());
    while let Some((frame, after)) = split(rest).expect("well formed") {
        match frame.kind() {
            FrameKind::Fetch => credit += Fetch::parse(frame).expect("a FETCH").messages,
            _ => {
                let settle = Settle::parse(frame).expect("a SETTLE");
                settles.push((settle.number.0, settle.outcome));
            }
        }
        rest = after;
    }
    (credit, settles)
}

#[test]
fn credit_is_given_by_halves_and_not_beyond_what_is_unsettled() {
    let mut inbox = Inbox::new(Source::Queue, 10, 1 << 20);
    assert_eq!(pump(&mut inbox, 0), (10, vec![]));
    deliver(&mut inbox, 1..5);
    assert_eq!(
        pump(&mut inbox, 0).0,
        0,
        "four are unsettled, six may still come"
    );
    inbox.accept_through(4);
    assert_eq!(
        pump(&mut inbox, 0),
        (0, vec![(4, Outcome::AcceptUpTo)]),
        "less than half is free"
    );
    deliver(&mut inbox, 5..6);
    inbox.accept_through(5);
    assert_eq!(pump(&mut inbox, 0).0, 5);
    deliver(&mut inbox, 6..16);
    assert_eq!(
        pump(&mut inbox, 0).0,
        0,
        "everything that came is still held"
    );
}

#[test]
fn settlements_of_what_is_not_held_are_refused_here() {
    let mut inbox = Inbox::new(Source::Queue, 10, 1 << 20);
    deliver(&mut inbox, 1..3);
    for (why, number, settlement, good) in [
        ("never delivered", 3, Settlement::Accept, false),
        ("held", 1, Settlement::Accept, true),
        ("settled already", 1, Settlement::Release, false),
        ("held", 2, Settlement::Release, true),
        ("released already", 2, Settlement::Accept, false),
    ] {
        assert_eq!(inbox.settle(number, settlement), good, "{why}");
    }
    assert_eq!(
        deliver(&mut inbox, 2..3),
        [2],
        "a released message comes again"
    );
}

#[test]
fn a_cumulative_settlement_spares_what_was_released_and_passes_what_others_settled() {
    let mut inbox = Inbox::new(Source::Queue, 100, 1 << 20);
    deliver(&mut inbox, 1..4);
    assert!(inbox.settle(2, Settlement::Release));
    inbox.accept_through(3);
    let want = [
        (2, Outcome::ReleaseOne),
        (1, Outcome::AcceptOne),
        (3, Outcome::AcceptOne),
    ];
    assert_eq!(pump(&mut inbox, 0).1, want);
    assert_eq!(deliver(&mut inbox, 2..3), [2]);
    assert_eq!(
        deliver(&mut inbox, 6..8),
        [6, 7],
        "4 and 5 were settled by an earlier receiver"
    );
    inbox.accept_through(7);
    assert_eq!(pump(&mut inbox, 0).1, [(7, Outcome::AcceptUpTo)]);
    assert!(
        inbox.known.is_empty(),
        "nothing is remembered one by one: {:?}",
        inbox.known
    );
}

#[test]
fn after_numbers_left_out_or_a_dead_letter_nothing_is_remembered_message_by_message() {
    // A server whose journal a crash cut short goes on 2^40 numbers later.
    const LEAP: u64 = 1 << 40;
    let mut inbox = Inbox::new(Source::Queue, 100, 1 << 20);
    assert_eq!(deliver(&mut inbox, 1..4), [1, 2, 3]);
    inbox.accept_through(2);
    assert!(inbox.settle(3, Settlement::DeadLetter));
    pump(&mut inbox, 0);
    for number in LEAP..LEAP + 1_000 {
        assert_eq!(deliver(&mut inbox, number..number + 1), [number]);
        inbox.accept_through(number);
        let settled = pump(&mut inbox, 0).1;
        assert_eq!(settled, [(number, Outcome::AcceptUpTo)]);
        assert!(inbox.known.len() <= 1, "{} numbers", inbox.known.len());
    }
    // What was settled and comes again gets the same answer.
    inbox.opened();
    assert_eq!(deliver(&mut inbox, 2..4), []);
    let again = [(2, Outcome::AcceptOne), (3, Outcome::DeadLetterOne)];
    assert_eq!(pump(&mut inbox, 0).1, again);
}

#[test]
fn what_is_held_below_numbers_left_out_is_settled_along_with_what_comes_behind_them() {
    const LEAP: u64 = 1 << 40;
    let mut inbox = Inbox::new(Source::Queue, 100, 1 << 20);
    deliver(&mut inbox, 1..3);
    assert!(inbox.settle(1, Settlement::Release));
    pump(&mut inbox, 0);
    assert_eq!(deliver(&mut inbox, LEAP..LEAP + 1), [LEAP]);
    inbox.accept_through(LEAP);
    let want = [(2, Outcome::AcceptOne), (LEAP, Outcome::AcceptOne)];
    assert_eq!(pump(&mut inbox, 0).1, want, "1 was released");
    assert_eq!(deliver(&mut inbox, 1..2), [1]);
    inbox.accept_through(1);
    assert_eq!(pump(&mut inbox, 0).1, [(1, Outcome::AcceptUpTo)]);
    assert!(inbox.known.is_empty() && inbox.passed.is_empty());
    assert_eq!(inbox.accepted, LEAP);
}

#[test]
fn after_a_reconnect_settlements_wait_for_the_redelivery_they_belong_to() {
    let mut inbox = Inbox::new(Source::Queue, 10, 1 << 20);
    assert_eq!(deliver(&mut inbox, 1..6), [1, 2, 3, 4, 5]);
    inbox.accept_through(2);
    pump(&mut inbox, 0);
    inbox.opened();
    assert!(inbox.settle(4, Settlement::DeadLetter));
    inbox.accept_through(3);
    assert_eq!(pump(&mut inbox, 0).1, [], "nothing is in flight yet");
    assert_eq!(
        deliver(&mut inbox, 1..7),
        [6],
        "the rest is held or settled"
    );
    let want = [1, 2, 3]
        .map(|number| (number, Outcome::AcceptOne))
        .into_iter()
        .chain([(4, Outcome::DeadLetterOne)]);
    assert_eq!(pump(&mut inbox, 0).1, want.collect::<Vec<_>>());
}

#[test]
fn over_random_settlements_and_lost_connections_every_message_comes_once_and_ends_settled() {
    const COUNT: u64 = 80;
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut inbox = Inbox::new(Source::Queue, 16, 1 << 20);
        let (mut settled, mut held, mut got) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut next = 1;
        while settled.len() < COUNT as usize {
            let end = (next + random.u64(1..6)).min(COUNT + 1);
            let run = (next..end)
                .take_while(|number| !settled.contains(number))
                .count() as u64;
            if run > 0 {
                for number in deliver(&mut inbox, next..next + run) {
                    assert!(got.insert(number), "seed {seed}: {number} twice");
                    held.insert(number);
                }
            }
            next = (next + run.max(1)).min(COUNT + 1);
            match (
                random.u32(0..6),
                held.iter().copied().nth(random.usize(0..16)),
            ) {
                (0, Some(number)) => {
                    inbox.accept_through(number);
                    held = held.split_off(&(number + 1));
                }
                (1..=3, Some(number)) => {
                    assert!(inbox.settle(number, Settlement::Accept), "seed {seed}");
                    held.remove(&number);
                }
                (4, Some(number)) if random.u32(0..4) == 0 => {
                    assert!(inbox.settle(number, Settlement::Release), "seed {seed}");
                    held.remove(&number);
                    got.remove(&number);
                    next = next.min(number);
                }
                _ => {}
            }
            for (number, outcome) in pump(&mut inbox, 0).1 {
                match outcome {
                    Outcome::AcceptUpTo => settled.extend(1..=number),
                    Outcome::AcceptOne | Outcome::DeadLetterOne => drop(settled.insert(number)),
                    Outcome::ReleaseOne => next = next.min(number),
                }
            }
            if random.u32(0..20) == 0 || (next > COUNT && held.is_empty()) {
                inbox.opened();
                next = (1..=COUNT)
                    .find(|number| !settled.contains(number))
                    .unwrap_or(COUNT + 1);
            }
        }
        assert_eq!(got.len() as u64, COUNT, "seed {seed}");
    }
}
