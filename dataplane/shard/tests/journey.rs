//! Messages go through all eight stages; what is acked is durable, what is durable is delivered.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use support::*;
use wire::delivery::{Outcome, Source};
use wire::ids::*;
use wire::reason::Reason;

#[test]
fn a_message_goes_from_hello_through_all_stages_to_its_receiver() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"one", b"two"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1]);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    let said = receiver.exchange(&mut world, &fetch);
    let [Said::Deliver(Source::Queue, messages)] = &said[..] else {
        panic!("{said:?}")
    };
    let seen: Vec<_> = messages
        .iter()
        .map(|message| (message.number, message.body.as_slice()))
        .collect();
    assert_eq!(seen, [(1, &b"one"[..]), (2, b"two")]);
    assert_eq!(messages[0].header.sender, sender.endpoint);
    assert_eq!(
        (messages[0].header.attempt, messages[0].header.offset),
        (1, Offset(0))
    );
    let frame = sender.send(&[b"three"]);
    sender.exchange(&mut world, &frame);
    assert_eq!(
        bodies(&receiver.read(&mut world)),
        [b"three"],
        "credit is left, no other FETCH is needed"
    );
    let settle = receiver.settle(Source::Queue, Outcome::AcceptUpTo, 3);
    assert_eq!(receiver.exchange(&mut world, &settle), []);
    let counters = world.shard.counters();
    assert_eq!(
        (
            counters.append.messages,
            counters.commit.messages,
            counters.deliver.messages
        ),
        (3, 3, 3)
    );
    assert_eq!(
        world
            .shard
            .depth(receiver.endpoint, shard::queue::Source::Queue)
            .messages,
        0
    );
}

#[test]
fn a_durable_ack_waits_for_its_sync_and_covers_only_what_came_before_it() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    let first = sender.send(&[b"one"]);
    assert_eq!(
        acks(&sender.exchange(&mut world, &first)),
        [],
        "the sync has not ended"
    );
    let second = sender.send(&[b"two"]);
    assert_eq!(acks(&sender.exchange(&mut world, &second)), []);
    assert_eq!(world.syncs.len(), 1, "one sync is in flight");
    world.release_syncs();
    world.settle();
    assert_eq!(
        acks(&sender.read(&mut world)),
        [1],
        "the second came after the first sync began"
    );
    world.release_syncs();
    world.settle();
    assert_eq!(acks(&sender.read(&mut world)), [2]);
}

#[test]
fn a_local_ack_comes_in_the_same_turn_and_the_sync_runs_behind() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    let frame = sender.send(&[b"one"]);
    world.receive(sender.connection, &frame);
    world.turn();
    assert_eq!(acks(&sender.read(&mut world)), [1]);
    assert_eq!(
        world
            .syncs
            .iter()
            .filter(|ticket| matches!(ticket.log, partition::LogId::Partition(_)))
            .count(),
        1
    );
}

#[test]
fn a_batch_has_one_cumulative_ack() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut bytes = Vec::new();
    for _ in 0..50 {
        bytes.extend(sender.send(&[b"body"]));
    }
    assert_eq!(acks(&sender.exchange(&mut world, &bytes)), [50]);
}

#[test]
fn frames_may_be_cut_anywhere() {
    let mut world = World::with_ack(AckMode::Local);
    for step in [1, 7, 16, 61] {
        let mut client = Client::new(&mut world, SENDER, secret(1).text_bytes());
        let hello = client.hello_bytes(wire::handshake::Auth::Key(KeyId(1)), 0);
        for piece in hello.chunks(step) {
            world.receive(client.connection, piece);
            world.turn();
        }
        world.settle();
        let said = client.read(&mut world);
        let Some(Said::Welcome(_, entries)) = said.get(1) else {
            panic!("{said:?}")
        };
        client.sequence = entries[0].2.0 + 1;
        let mut bytes = Vec::new();
        for _ in 0..5 {
            bytes.extend(client.send(&[b"a body", &[7; 300]]));
        }
        let last = client.sequence - 1;
        for pieces in bytes.chunks(step).collect::<Vec<_>>().chunks(3) {
            pieces
                .iter()
                .for_each(|piece| world.receive(client.connection, piece));
            world.turn();
        }
        world.settle();
        assert_eq!(
            acks(&client.read(&mut world)).last(),
            Some(&last),
            "pieces of {step} bytes"
        );
    }
    assert!(world.shard.counters().parse.assembled_frames >= 20);
    assert_eq!(
        world.shard.assembly_bytes(),
        0,
        "every reservation was given back"
    );
}

#[test]
fn after_a_restart_numbers_go_on_and_queues_stand_where_they_were() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"one", b"two", b"three"]);
    sender.exchange(&mut world, &frame);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    assert_eq!(bodies(&receiver.exchange(&mut world, &fetch)).len(), 3);
    let settle = receiver.settle(Source::Queue, Outcome::AcceptUpTo, 1);
    receiver.exchange(&mut world, &settle);
    let disk = world.disk.crash(partition::memory::Crash::Lost);
    let mut world = World::on(disk, Setup::new(AckMode::Durable));
    let mut sender = Client::connect(&mut world, SENDER, 1);
    assert_eq!(sender.sequence, 2);
    let frame = sender.send(&[b"four"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [2]);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    let said = receiver.exchange(&mut world, &fetch);
    assert_eq!(bodies(&said), [&b"two"[..], b"three", b"four"]);
}

#[test]
fn messages_that_are_not_settled_in_time_come_again_and_become_dead_letters() {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.idle_timeout = Duration::from_secs(600);
    endpoint_in(&mut setup.parts, RECEIVER).queue.deliveries_max = 2;
    let mut world = World::new(setup);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"one"]);
    sender.exchange(&mut world, &frame);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    assert_eq!(bodies(&receiver.exchange(&mut world, &fetch)), [b"one"]);
    assert!(world.output.wake_at.unwrap() <= world.now.monotonic + Duration::from_secs(30));
    world.pass(Duration::from_secs(31));
    world.settle();
    let said = receiver.read(&mut world);
    let [Said::Deliver(_, again)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!((again[0].number, again[0].header.attempt), (1, 2));
    world.pass(Duration::from_secs(31));
    world.settle();
    assert_eq!(
        receiver.read(&mut world),
        [],
        "two deliveries are all it gets"
    );
    let fetch = receiver.fetch(Source::DeadLetters, 10, 1 << 20);
    assert_eq!(bodies(&receiver.exchange(&mut world, &fetch)), [b"one"]);
}

#[test]
fn delivery_stops_at_the_credit_in_messages_and_bytes() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let body = [1u8; 100];
    let frame = sender.send(&[&body[..]; 10]);
    sender.exchange(&mut world, &frame);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    for (why, messages, bytes, want) in [
        ("three messages", 3, 1 << 20, 3),
        ("nothing left of the messages", 0, 1 << 20, 0),
        ("one message, bytes to spare", 1, 0, 1),
    ] {
        let fetch = receiver.fetch(Source::Queue, messages, bytes);
        assert_eq!(
            bodies(&receiver.exchange(&mut world, &fetch)).len(),
            want,
            "{why}"
        );
    }
    let mut other = Client::connect(&mut world, RECEIVER, 2);
    let fetch = other.fetch(Source::Queue, 100, 117);
    assert_eq!(
        bodies(&other.exchange(&mut world, &fetch)).len(),
        2,
        "the last one may overdraw the bytes"
    );
    assert_eq!(reason(&receiver.read(&mut world)), Reason::QueueTaken);
}

#[test]
fn a_connection_that_takes_nothing_gets_no_more_deliveries_than_its_bound() {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.unsent_bytes_high = 64 << 10;
    let mut world = World::new(setup);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    for _ in 0..40 {
        let frame = sender.send(&[&[5u8; 16 << 10][..]; 4]);
        sender.exchange(&mut world, &frame);
    }
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    world.report_sent = false;
    let fetch = receiver.fetch(Source::Queue, 1_000, 60 << 20);
    let first = bodies(&receiver.exchange(&mut world, &fetch)).len();
    assert!((1..160).contains(&first), "{first} of 160");
    assert!(world.shard.counters().deliver.backpressure > 0);
    assert_eq!(receiver.read(&mut world), []);
    world.pass(Duration::from_secs(31));
    world.settle();
    assert_eq!(reason(&receiver.read(&mut world)), Reason::SlowReceiver);
}
