//! Frames of one stream go through the stages together. Each of them is judged as if it came alone.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use partition::LogId;
use shard::Limits;
use support::*;
use wire::delivery::Source;
use wire::ids::*;
use wire::limits::FRAME_BYTES_MAX;
use wire::reason::Reason;

fn appended(world: &World) -> u64 {
    world.shard.partitions().next().unwrap().appended().0
}

/// A SEND whose signature is wrong.
fn forged(client: &mut Client, number: u64) -> Vec<u8> {
    let mut frame = client.send_number(number, &[b"forged"]);
    *frame.last_mut().unwrap() ^= 1;
    frame
}

#[test]
fn a_frame_without_credit_ends_its_run_though_one_behind_it_would_fit() {
    let mut setup = Setup::new(AckMode::Durable);
    setup.limits.credit_bytes = FRAME_BYTES_MAX as u32;
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    let bodies = [250_000, 200_000, 100_000, 10].map(|bytes| vec![7; bytes]);
    let frames =
        [1, 2, 3, 4].map(|number| client.send_number(number, &[&bodies[number as usize - 1]]));
    let said = client.exchange(&mut world, &frames.concat());
    assert_eq!(rejects(&said), [(3, Reason::Busy)]);
    assert_eq!(appended(&world), 2, "4 goes back with 3");
    world.hold_syncs = false;
    world.release_syncs();
    world.settle();
    assert_eq!(acks(&client.read(&mut world)), [2]);
    let frames = [3, 4].map(|number| client.send_number(number, &[&bodies[number as usize - 1]]));
    assert_eq!(acks(&client.exchange(&mut world, &frames.concat())), [4]);
    assert_eq!(appended(&world), 4);
}

#[test]
fn a_refusal_among_good_frames_is_told_in_its_place() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let frames = [
        client.send_number(1, &[b"1"]),
        forged(&mut client, 2),
        client.send_number(2, &[b"2"]),
        client.send_number(3, &[b"3"]),
    ];
    let said = client.exchange(&mut world, &frames.concat());
    // Had it been told behind them, its number would have been taken.
    assert_eq!(rejects(&said), [(2, Reason::BadSignature)]);
    assert_eq!((acks(&said), appended(&world)), (vec![3], 3));
}

#[test]
fn a_run_behind_a_refusal_mends_the_stream_so_that_the_next_refusal_is_told() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let mut said = Vec::new();
    for number in [1, 3, 5] {
        let good = client.send_number(number, &[b"good"]);
        let frames = [good, forged(&mut client, number + 1)].concat();
        said.extend(client.exchange(&mut world, &frames));
        let mended = client.send_number(number + 1, &[b"mended"]);
        said.extend(client.exchange(&mut world, &mended));
    }
    let told = [2, 4, 6].map(|number| (number, Reason::BadSignature));
    assert_eq!(rejects(&said), told);
    assert_eq!(appended(&world), 6);
}

#[test]
fn a_frame_in_the_name_of_another_is_refused_behind_good_ones() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let other = EndpointId::of(SENSOR);
    let frames = [
        client.send_number(1, &[b"1"]),
        client.send_number(2, &[b"2"]),
        client.send_as(other, CHANNEL, 3, &[b"not mine"]),
    ];
    let said = client.exchange(&mut world, &frames.concat());
    assert_eq!(rejects(&said), [(3, Reason::SenderMismatch)]);
    assert_eq!((acks(&said), appended(&world)), (vec![2], 2));
    let partition = world.shard.partitions().next().unwrap();
    assert_eq!(partition.sender(other).last, Sequence(0));
}

#[test]
fn nothing_behind_the_last_forged_frame_that_is_borne_counts() {
    let mut setup = Setup::new(AckMode::Durable);
    setup.limits = Limits {
        bad_signatures_max: 2,
        ..Limits::default()
    };
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let mut bytes = client.send_number(1, &[b"good"]);
    bytes.extend(forged(&mut client, 2));
    bytes.extend(forged(&mut client, 2));
    bytes.extend(client.send_number(2, &[b"too late"]));
    let said = client.exchange(&mut world, &bytes);
    assert!(matches!(said.last(), Some(Said::Goaway(_))), "{said:?}");
    assert_eq!(appended(&world), 1);
}

#[test]
fn what_is_written_to_a_journal_while_it_is_synced_is_synced_next() {
    let mut world = World::with_ack(AckMode::Local);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    receiver.exchange(&mut world, &fetch);
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    for body in [b"1", b"2"] {
        let frame = client.send(&[body]);
        client.exchange(&mut world, &frame);
    }
    let is_journal = |log: LogId| matches!(log, LogId::Queue(_));
    let count = |world: &World| {
        let journals = world.syncs.iter().filter(|ticket| is_journal(ticket.log));
        journals.count()
    };
    assert_eq!(count(&world), 1, "the second run waits for the first sync");
    world.release_syncs();
    world.settle();
    assert_eq!(bodies(&receiver.read(&mut world)), [b"1"]);
    // No time has passed: it is not the watermark's interval that brings the second one.
    assert_eq!(count(&world), 1);
    world.release_syncs();
    world.settle();
    assert_eq!(bodies(&receiver.read(&mut world)), [b"2"]);
}

#[test]
fn before_retention_takes_what_nobody_heard_the_journal_says_that_it_was_passed() {
    let setup = || {
        let mut setup = Setup::new(AckMode::Durable);
        setup.log_limits.retention_bytes = Some(3 << 20);
        let receiver = endpoint_in(&mut setup.parts, RECEIVER);
        receiver.receive.clear();
        setup
    };
    let mut world = World::new(setup());
    let mut client = Client::connect(&mut world, SENDER, 1);
    for _ in 0..30 {
        let frame = client.send(&[&[3u8; 200_000][..], &[4u8; 200_000]]);
        assert_eq!(rejects(&client.exchange(&mut world, &frame)), []);
        world.pass(Duration::from_millis(200));
    }
    world.settle();
    assert!(world.shard.partitions().next().unwrap().first().0 > 0);
    let mut again = World::on(world.disk.clone(), setup());
    again.settle();
    let fanout = &again.shard.counters().fanout;
    assert_eq!(fanout.records_lost, 0, "{fanout:?}");
}
