//! What a message costs in system calls, by the ring's own counters.

use std::io::{Read, Write};

use ring::Counters;

use crate::support::{Owner, combinations, limits, probed};

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
