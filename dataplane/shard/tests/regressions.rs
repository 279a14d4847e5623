//! Defects that once were there and that no other test shows: each test failed before its defect was mended. The list
//! of all of them is `dataplane/BUGS.md`.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use partition::PartitionLimits;
use partition::memory::{Disk, Fault, MemoryStorage};
use shard::queue::{FanOut, LogEnd, QueueGroup, QueueLimits, Span};
use support::*;
use wire::delivery::{Outcome, Source};
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;
use wire::route::RouteTable;

#[test]
fn a_fetch_read_in_the_turn_of_a_resumption_gives_the_new_connection_no_credit() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"1", b"2"]);
    sender.exchange(&mut world, &frame);
    let mut old = Client::connect(&mut world, RECEIVER, 2);
    let keys = old.keys.clone().unwrap();
    let mut new = Client::new(&mut world, RECEIVER, &keys.resume);
    let late = old.fetch(Source::Queue, 10, 1 << 20);
    let hello = new.hello_bytes(Auth::Resume(old.session), 0);
    world.receive(old.connection, &late);
    let said = new.exchange(&mut world, &hello);
    assert!(matches!(said[1], Said::Welcome(..)), "{said:?}");
    assert_eq!(bodies(&said), Vec::<Vec<u8>>::new(), "nobody asked there");
    let fetch = new.fetch(Source::Queue, 10, 1 << 20);
    assert_eq!(bodies(&new.exchange(&mut world, &fetch)), [b"1", b"2"]);
}

#[test]
fn a_segment_that_is_not_ready_yet_is_busy_and_not_a_full_disk() {
    let mut world = World::with_ack(AckMode::Local);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let body = [7u8; 200_000];
    // More in one turn than a segment and its spare hold: the third one cannot be ready.
    let frames: Vec<u8> = (0..24).flat_map(|_| client.send(&[&body[..]])).collect();
    let said = client.exchange(&mut world, &frames);
    let refused = said.iter().find_map(|said| match said {
        Said::Reject(reject) => Some(reject),
        _ => None,
    });
    let refused = refused.unwrap_or_else(|| panic!("all was taken: {said:?}"));
    assert_eq!(refused.notice.reason, Reason::Busy);
    assert!(refused.notice.retry_after_ms > 0);
    assert_eq!(world.shard.counters().of(Reason::StorageFull), 0);
    let number = refused.sequence.0;
    let frame = client.send_number(number, &[&body[..]]);
    let said = client.exchange(&mut world, &frame);
    assert_eq!(acks(&said), [number], "the segment is there");
}

#[test]
fn a_frame_that_may_be_in_the_log_is_not_refused_for_want_of_a_grant() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let frame = client.send(&[b"granted when it was appended"]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [1]);
    let mut new = parts(AckMode::Durable);
    new.epoch = 2;
    endpoint_in(&mut new, SENDER).send = vec![grant(OTHER)];
    world.swap_table(new);
    let again = client.send_number(1, &[b"granted when it was appended"]);
    let said = client.exchange(&mut world, &again);
    assert_eq!(rejects(&said), [(1, Reason::Replayed)], "not for the grant");
    world.cut(client.connection);
    world.settle();
    let mut client = client.resume(&mut world);
    let again = client.send_number(1, &[b"granted when it was appended"]);
    let said = client.exchange(&mut world, &again);
    assert_eq!((acks(&said), rejects(&said)), (vec![1], vec![]));
}

#[test]
fn what_a_failed_sync_made_uncertain_is_never_refused_for_another_reason() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.disk.inject(Fault::Sync(1));
    let frame = client.send(&[b"may be in the log"]);
    let said = client.exchange(&mut world, &frame);
    assert_eq!(rejects(&said), [(1, Reason::PartitionSealed)]);
    let mut new = parts(AckMode::Durable);
    new.epoch = 2;
    endpoint_in(&mut new, SENDER).send = vec![grant(OTHER)];
    world.swap_table(new);
    let again = client.send_number(1, &[b"may be in the log"]);
    let said = client.exchange(&mut world, &again);
    assert_eq!(rejects(&said), [(1, Reason::PartitionSealed)]);
}

#[test]
fn whoever_hears_a_last_word_before_any_preface_gets_one_preface() {
    let mut world = World::with_ack(AckMode::Local);
    let silent = world.open();
    world.turn();
    world.drain = true;
    world.settle();
    let said = world.take_said(silent);
    let prefaces = said.windows(4).filter(|four| four == b"FBAY").count();
    assert!(said.starts_with(b"FBAY"), "{said:?}");
    assert_eq!(prefaces, 1, "{said:?}");
    assert!(world.closed(silent));
}

#[test]
fn releasing_or_burying_what_is_settled_does_not_go_back_over_what_is_in_flight() {
    for outcome in [Outcome::ReleaseOne, Outcome::DeadLetterOne] {
        let mut world = World::with_ack(AckMode::Local);
        let mut sender = Client::connect(&mut world, SENDER, 1);
        let frame = sender.send(&[b"1", b"2"]);
        sender.exchange(&mut world, &frame);
        let mut receiver = Client::connect(&mut world, RECEIVER, 2);
        let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
        receiver.exchange(&mut world, &fetch);
        let settle = receiver.settle(Source::Queue, Outcome::AcceptOne, 1);
        receiver.exchange(&mut world, &settle);
        let again = receiver.settle(Source::Queue, outcome, 1);
        assert_eq!(receiver.exchange(&mut world, &again), [], "{outcome:?}");
        let fetch = receiver.fetch(Source::DeadLetters, 10, 1 << 20);
        assert_eq!(receiver.exchange(&mut world, &fetch), [], "{outcome:?}");
    }
}

#[test]
fn a_parked_queue_goes_on_when_a_new_table_gives_it_more_room() {
    parked_until_a_table_of(2);
}

#[test]
fn a_parked_queue_goes_on_with_a_table_of_another_past_that_has_come_to_the_same_epoch() {
    parked_until_a_table_of(1);
}

fn parked_until_a_table_of(epoch: u64) {
    let mut setup = Setup::new(AckMode::Local);
    endpoint_in(&mut setup.parts, RECEIVER).queue.messages_max = 2;
    let mut world = World::new(setup);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frames: Vec<u8> = (0..6).flat_map(|_| sender.send(&[b"x"])).collect();
    sender.exchange(&mut world, &frames);
    assert_eq!(world.shard.epoch(), 1);
    let depth = |world: &World| {
        let endpoint = EndpointId::of(RECEIVER);
        world
            .shard
            .depth(endpoint, shard::queue::Source::Queue)
            .messages
    };
    assert_eq!(depth(&world), 2, "the rest is parked in the log");
    let mut new = parts(AckMode::Local);
    new.epoch = epoch;
    world.swap_table(new);
    world.settle();
    assert_eq!(depth(&world), 6);
}

#[test]
fn a_shard_that_stops_is_not_kept_by_those_who_still_fetch() {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.deliver_bytes_per_turn = 1 << 18;
    let mut world = World::new(setup);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let frames: Vec<u8> = (0..100)
        .flat_map(|_| sender.send(&[&[1; 20_000]]))
        .collect();
    assert_eq!(acks(&sender.exchange(&mut world, &frames)), [100]);
    let fetch = receiver.fetch(Source::Queue, 100, 16 << 20);
    world.receive(receiver.connection, &fetch);
    world.turn();
    world.drain = true;
    let before = world.shard.counters().deliver.messages;
    for _ in 0..3 {
        world.turn();
    }
    assert!(
        world.output.drained,
        "three turns after it was told to stop"
    );
    assert_eq!(world.shard.counters().deliver.messages, before);
}

#[test]
fn a_journal_without_room_does_not_ask_for_turn_after_turn() {
    let mut small = parts(AckMode::Local);
    endpoint_in(&mut small, RECEIVER).queue.messages_max = 2;
    let table = RouteTable::build(small).unwrap();
    let (partition, _) = table.partitions().next().unwrap();
    let limits = PartitionLimits {
        segment_bytes: 64 << 10,
        record_bytes_max: 8 << 10,
        ..PartitionLimits::default()
    };
    let (now, mut storage) = (UnixNanos(0), MemoryStorage::new(&Disk::new(1)));
    let ends = [LogEnd {
        partition,
        first: Offset(0),
        end: Offset(0),
    }];
    let queues = QueueLimits::default();
    let (mut group, _) = QueueGroup::recover(&mut storage, 0, limits, queues, &ends, now).unwrap();
    let paused = (0..100_000).any(|number| {
        // The queue is parked: its watermark is all that moves.
        group.write_watermarks();
        let span = Span {
            partition,
            channel: ChannelId::of(CHANNEL),
            first: Offset(number),
            count: 1,
            bytes: 10,
        };
        group.fan_out(&[span], &table, now) == FanOut::Paused
    });
    assert!(paused, "nobody gives the journal a spare");
    let mut new = parts(AckMode::Local);
    new.epoch = 2;
    let new = RouteTable::build(new).unwrap();
    let again = group.catch_up(&new, now, |_| None);
    assert!(!again, "to come again at once would change nothing");
}
