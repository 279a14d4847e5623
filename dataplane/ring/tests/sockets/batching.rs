//! What a message costs in system calls, by the ring's own counters.

use std::io::{Read, Write};
use std::time::Duration;

use ring::{Counters, Event, RingLimits};

use crate::support::{Owner, PATIENCE, combinations, limits, probed};

/// One message each way on each of `connections` connections, in each of `rounds` rounds.
fn cost(owner: &mut Owner, connections: usize, rounds: u64) -> Counters {
    let mut pairs: Vec<_> = (0..connections).map(|_| owner.pair()).collect();
    owner.echo = true;
    owner.turn();
    let before = owner.ring.counters();
    for round in 1..=rounds {
        pairs
            .iter_mut()
            .for_each(|(_, peer)| peer.write_all(&[7; 100]).unwrap());
        let bytes = 100 * round as usize;
        owner
            .run(|owner| owner.sent.values().filter(|sent| **sent == bytes).count() == connections);
        pairs
            .iter_mut()
            .for_each(|(_, peer)| peer.read_exact(&mut [0; 100]).unwrap());
    }
    let after = owner.ring.counters();
    Counters {
        enters: after.enters - before.enters,
        sends: after.sends - before.sends,
        received: after.received - before.received,
        receive_shots: after.receive_shots - before.receive_shots,
        socket_calls: after.socket_calls - before.socket_calls,
        ..after
    }
}

#[test]
fn sixty_four_ready_connections_share_their_system_calls() {
    let mut owner = Owner::new(limits(256, 1024), probed());
    let cost = cost(&mut owner, 64, 50);
    let messages = cost.received + cost.sends;
    let each = cost.enters as f64 / messages as f64;
    println!(
        "64 connections: {} enters for {messages} messages, {each:.4} each",
        cost.enters
    );
    assert_eq!(messages, 2 * 64 * 50);
    assert_eq!(cost.socket_calls, 0);
    assert_eq!(cost.receive_shots, 0, "the first shot serves them all");
    // Written one by one on a shared machine they need not all be ready at once; the worst case
    // without batching is 1 enter for each message.
    assert!(each < 0.25, "{cost:?}");
}

#[test]
fn every_combination_of_features_needs_fewer_enters_than_messages() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(limits(256, 1024), features);
        let cost = cost(&mut owner, 32, 10);
        let messages = cost.received + cost.sends;
        println!(
            "{which}: {:.4} enters for each message",
            cost.enters as f64 / messages as f64
        );
        assert!(cost.enters < messages, "{which}: {cost:?}");
    }
}

#[test]
fn one_system_call_submits_what_a_turn_sends_and_sleeps_until_the_next_message() {
    const MESSAGES: u64 = 100;
    let patient = RingLimits {
        // So long that only a message ends a wait, however slow the peer.
        sends_patience: PATIENCE,
        ..limits(64, 1024)
    };
    for (which, features) in combinations() {
        let mut owner = Owner::new(patient.clone(), features);
        owner.echo = true;
        let (_, mut peer) = owner.pair();
        while owner.turn() > 0 {}
        owner.ring.wait(Duration::ZERO).unwrap();
        let before = owner.ring.counters();
        let peer = std::thread::spawn(move || {
            for _ in 0..MESSAGES {
                peer.write_all(&[7; 100]).unwrap();
                peer.read_exact(&mut [0; 100]).unwrap();
            }
            peer
        });
        let received = |owner: &Owner| owner.ring.counters().received_bytes - before.received_bytes;
        while received(&owner) < 100 * MESSAGES {
            owner.ring.wait(PATIENCE).unwrap();
            owner.take();
        }
        owner.ring.submit().unwrap();
        drop(peer.join().unwrap());
        let enters = owner.ring.counters().enters - before.enters;
        println!("{which}: {enters} enters for {MESSAGES} messages and as many answers");
        // Each message ends one wait, which submitted the answer to the one before. A signal may end one too.
        let whole = features.minimum_wait && features.defer_taskrun && features.multishot_receive;
        assert!(enters <= MESSAGES + 3 || !whole, "{which}: {enters} enters");
    }
}

#[test]
fn taking_when_there_is_nothing_leaves_the_kernel_alone() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let (connection, mut peer) = owner.pair();
    while owner.turn() > 0 {}
    let before = owner.ring.counters().enters;
    owner.ring.send(connection, vec![1; 10]);
    let mut events = Vec::new();
    for _ in 0..10 {
        assert_eq!(owner.ring.take(&mut events).unwrap(), 0);
    }
    assert_eq!(owner.ring.counters().enters, before);
    owner.ring.submit().unwrap();
    peer.read_exact(&mut [0; 10]).unwrap();
    // A connection that closes has work to do though nothing completed.
    owner.ring.close(connection);
    drop(peer);
    let gone = |events: &[Event]| {
        let mut events = events.iter();
        events.any(|event| matches!(event, Event::Closed { .. }))
    };
    while owner.ring.take(&mut events).unwrap() == 0 || !gone(&events) {
        owner.ring.wait(PATIENCE).unwrap();
    }
}

#[test]
fn buffers_queued_together_leave_in_one_operation_and_come_back_to_the_pool() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let (connection, mut peer) = owner.pair();
    for number in 0..10 {
        let mut buffer = owner.ring.take_buffer();
        buffer.push(number);
        owner.ring.send(connection, buffer);
    }
    owner.run(|owner| owner.sent.get(&connection) == Some(&10));
    let mut got = [0; 10];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(got, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let counters = owner.ring.counters();
    assert_eq!((counters.sends, counters.sent_buffers), (1, 10));
    for _ in 0..10 {
        assert!(owner.ring.take_buffer().capacity() > 0, "recycled");
    }
    assert_eq!(
        owner.ring.take_buffer().capacity(),
        0,
        "no more than were sent"
    );
}
