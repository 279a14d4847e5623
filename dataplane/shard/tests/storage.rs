//! What a shard does when its disk is full, fails, or the process is to stop.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use partition::LogState;
use partition::memory::{Crash, Fault};
use support::*;
use wire::delivery::Source;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;
use wire::route::Endpoint;
use wire::signature::Signer;

#[test]
fn a_full_disk_rejects_by_name_and_recovers_by_itself() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.disk.set_capacity(Some(world.disk.bytes()));
    let body = [7u8; 200_000];
    let mut full = None;
    for _ in 0..40 {
        let frame = client.send(&[&body[..], &body]);
        let said = client.exchange(&mut world, &frame);
        if let Some(reject) = rejects(&said).first() {
            full = Some(*reject);
            let Said::Reject(reject) = &said[0] else {
                panic!("{said:?}")
            };
            assert!(reject.notice.retry_after_ms > 0);
            break;
        }
    }
    let (number, reason) = full.expect("the disk is full at last");
    assert_eq!(reason, Reason::StorageFull);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 1, 1 << 20);
    assert_eq!(
        bodies(&receiver.exchange(&mut world, &fetch)).len(),
        1,
        "readers go on"
    );
    world.disk.set_capacity(None);
    world.pass(Duration::from_secs(1));
    world.settle();
    let frame = client.send_number(number, &[&body[..]]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [number]);
}

#[test]
fn who_sent_something_is_owed_an_answer_until_the_disk_has_it() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let mut relay = Client::connect(&mut world, RELAY, 3);
    let both = [client.connection, relay.connection];
    assert_eq!(both.map(|id| world.shard.owes(id)), [false; 2]);
    world.hold_syncs = true;
    let sent = client.send(&[b"one"]);
    world.receive(client.connection, &sent);
    let sensor = secret(4);
    let signer = Signer::Key {
        id: KeyId(1),
        key: sensor.mac(),
    };
    let relayed = relay.relay(1, &envelope(1, signer, &[b"two"]));
    world.receive(relay.connection, &relayed);
    world.settle();
    assert_eq!(both.map(|id| world.shard.owes(id)), [true; 2]);
    world.hold_syncs = false;
    world.release_syncs();
    world.settle();
    assert_eq!(acks(&client.read(&mut world)), [1]);
    assert_eq!(acks(&relay.read(&mut world)), [1]);
    assert_eq!(both.map(|id| world.shard.owes(id)), [false; 2]);
    assert!(
        !world.shard.owes(shard::ConnectionId(77)),
        "nobody knows it"
    );
}

#[test]
fn a_failed_sync_seals_the_partition_acks_nothing_and_says_so() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let mut relay = Client::connect(&mut world, RELAY, 3);
    let frame = client.send(&[b"durable"]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [1]);
    world.disk.inject(Fault::Sync(1));
    let inner = envelope(
        1,
        Signer::Key {
            id: KeyId(1),
            key: secret(4).mac(),
        },
        &[b"x"],
    );
    let relayed = relay.relay(1, &inner);
    world.receive(relay.connection, &relayed);
    let frames = [client.send(&[b"lost"]), client.send(&[b"lost too"])].concat();
    let said = client.exchange(&mut world, &frames);
    assert_eq!(
        (acks(&said), rejects(&said)),
        (vec![], vec![(2, Reason::PartitionSealed)])
    );
    assert_eq!(
        rejects(&relay.read(&mut world)),
        [(1, Reason::PartitionSealed)]
    );
    let frame = client.send_number(2, &[b"again"]);
    assert_eq!(
        reason(&client.exchange(&mut world, &frame)),
        Reason::PartitionSealed
    );
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    assert_eq!(
        bodies(&receiver.exchange(&mut world, &fetch)),
        [b"durable"],
        "what is durable is delivered"
    );
    assert_eq!(world.shard.counters().commit.sealed_frames, 3);
}

#[test]
fn a_seal_told_in_the_turn_in_which_the_session_moves_is_signed_with_the_keys_of_before() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut old = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    let frame = old.send(&[b"lost"]);
    world.receive(old.connection, &frame);
    world.turn();
    world.disk.inject(Fault::Sync(1));
    world.hold_syncs = false;
    world.release_syncs();
    let keys = old.keys.as_ref().unwrap();
    let new = Client::new(&mut world, SENDER, &keys.resume);
    let hello = new.hello_bytes(Auth::Resume(old.session), 0);
    world.receive(new.connection, &hello);
    world.settle();
    let said = old.read(&mut world);
    assert_eq!(rejects(&said), [(1, Reason::PartitionSealed)]);
    assert!(matches!(said.last(), Some(Said::Goaway(_))), "{said:?}");
}

#[test]
fn whatever_was_acked_as_durable_survives_any_loss_of_unsynced_writes() {
    for seed in 0..20 {
        let mut world = World::with_ack(AckMode::Durable);
        let mut client = Client::connect(&mut world, SENDER, 1);
        let mut acked = 0;
        for round in 0..6u64 {
            world.hold_syncs = (seed + round) % 3 == 0;
            let frame = client.send(&[&round.to_le_bytes()]);
            acked = acks(&client.exchange(&mut world, &frame))
                .last()
                .copied()
                .unwrap_or(acked);
        }
        let crash = if seed == 0 {
            Crash::Lost
        } else {
            Crash::Seeded(seed)
        };
        let mut world = World::on(world.disk.crash(crash), Setup::new(AckMode::Durable));
        let mut client = Client::connect(&mut world, SENDER, 1);
        assert!(
            client.sequence > acked,
            "seed {seed}: {acked} was acked, {} is next",
            client.sequence
        );
        let mut receiver = Client::connect(&mut world, RECEIVER, 2);
        let frame = client.send(&[b"after"]);
        client.exchange(&mut world, &frame);
        let fetch = receiver.fetch(Source::Queue, 100, 1 << 20);
        let bodies = bodies(&receiver.exchange(&mut world, &fetch));
        assert_eq!(
            bodies.len() as u64,
            client.sequence - 1,
            "seed {seed}: every one once"
        );
    }
}

#[test]
fn a_message_costs_a_sync_of_its_log_and_of_the_journals_that_hear_it_and_no_other() {
    let frames = 50;
    for (why, heard, most) in [
        ("one group hears it", true, 2),
        ("nobody hears it", false, 1),
    ] {
        let mut parts = parts(AckMode::Durable);
        parts.queue_groups = 4;
        if !heard {
            parts
                .endpoints
                .iter_mut()
                .for_each(|endpoint| endpoint.receive.clear());
        }
        let mut setup = Setup::new(AckMode::Durable);
        setup.parts = parts;
        let mut world = World::new(setup);
        let mut client = Client::connect(&mut world, SENDER, 1);
        let before = world.shard.counters().commit.syncs;
        for number in 1..=frames {
            let frame = client.send(&[b"x"]);
            assert_eq!(
                acks(&client.exchange(&mut world, &frame)),
                [number],
                "{why}"
            );
        }
        let syncs = world.shard.counters().commit.syncs - before;
        // Watermarks alone are synced too, but only about once a second.
        assert!(
            (frames..=frames * most + 4).contains(&syncs),
            "{why}: {syncs} syncs for {frames} frames"
        );
        world.drain = true;
        world.settle();
        client.read(&mut world);
        world.settle();
        assert!(
            world.output.drained,
            "{why}: what is left is synced before the end"
        );
    }
}

#[test]
fn what_is_ready_together_is_one_sync_and_what_comes_while_it_runs_is_the_next() {
    const READY: u64 = 64;
    let mut setup = Setup::new(AckMode::Durable);
    let nobody = |endpoint: &mut Endpoint| endpoint.receive.clear();
    setup.parts.endpoints.iter_mut().for_each(nobody);
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let mut put = |world: &mut World, frames: u64| {
        for _ in 0..frames {
            let frame = client.send(&[b"ready"]);
            world.receive(client.connection, &frame);
        }
        world.turn();
    };
    let before = world.shard.counters().commit.syncs;
    let mut windows = 0;
    for round in 0..10 {
        world.hold_syncs = true;
        put(&mut world, READY);
        windows += 1;
        let covered = world.shard.partitions().next().unwrap().appended();
        // While it is under way no other one begins, however much comes.
        (0..round).for_each(|_| put(&mut world, READY));
        let syncs = world.shard.counters().commit.syncs - before;
        assert_eq!((world.syncs.len(), syncs), (1, windows), "round {round}");
        world.release_syncs();
        world.turn();
        let partition = world.shard.partitions().next().unwrap();
        assert_eq!(partition.synced(), covered, "round {round}");
        windows += u64::from(round > 0);
        world.hold_syncs = false;
        world.release_syncs();
        world.settle();
        let partition = world.shard.partitions().next().unwrap();
        assert_eq!(partition.synced(), partition.appended(), "round {round}");
        let syncs = world.shard.counters().commit.syncs - before;
        assert_eq!(syncs, windows, "round {round}");
    }
}

#[test]
fn a_segment_that_cannot_be_renamed_or_removed_is_told_and_stops_nobody() {
    for (what, fault) in [
        ("nothing", None),
        ("the first rename", Some(Fault::Rename(1))),
        ("a later rename", Some(Fault::Rename(3))),
        ("the first removal", Some(Fault::Remove(1))),
        ("a later removal", Some(Fault::Remove(2))),
    ] {
        let mut setup = Setup::new(AckMode::Durable);
        setup.log_limits.retention_age = Some(Duration::from_secs(60));
        let mut world = World::new(setup);
        let put = |world: &mut World| {
            let mut client = Client::connect(world, SENDER, 1);
            for _ in 0..40 {
                let frame = client.send(&[&[5u8; 200_000][..], &[6u8; 200_000]]);
                let number = client.sequence - 1;
                assert_eq!(acks(&client.exchange(world, &frame)), [number], "{what}");
            }
        };
        put(&mut world);
        if let Some(fault) = fault {
            world.disk.inject(fault);
        }
        // All but the newest segments are too old now, more than a log keeps as spares.
        world.pass(Duration::from_secs(61));
        for _ in 0..20 {
            world.pass(Duration::from_secs(1));
            world.settle();
        }
        put(&mut world);
        assert_eq!(world.failed_retires, u64::from(fault.is_some()), "{what}");
        let counters = world.shard.counters();
        assert_eq!(counters.commit.prepare_failures, world.failed_retires);
        let partition = world.shard.partitions().next().unwrap();
        assert_ne!(partition.state(), LogState::Sealed, "{what}");
        let (first, end) = (partition.first(), partition.appended());
        assert!(first.0 > 40 && end == Offset(160), "{what}: {first:?}");
        // The next start finds the same log, whatever was left of the segment.
        let disk = world.disk.crash(Crash::Lost);
        let world = World::on(disk, Setup::new(AckMode::Durable));
        let partition = world.shard.partitions().next().unwrap();
        assert_eq!((partition.first(), partition.appended()), (first, end));
        let (reports, _) = &world.recovered;
        assert!(reports.iter().all(|report| report.damage.is_empty()));
        let read = partition.records_from(first).filter(Result::is_ok).count();
        assert_eq!(read as u64 * 2, end.0 - first.0, "{what}");
    }
}

#[test]
fn draining_refuses_what_is_new_commits_what_is_there_and_says_goaway() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    let frame = client.send(&[b"appended"]);
    client.exchange(&mut world, &frame);
    world.drain = true;
    let mut late = Client::new(&mut world, RECEIVER, secret(2).text_bytes());
    let hello = late.hello_bytes(Auth::Key(KeyId(1)), 0);
    assert_eq!(reason(&late.exchange(&mut world, &hello)), Reason::Draining);
    let frame = client.send(&[b"too late"]);
    assert_eq!(
        rejects(&client.exchange(&mut world, &frame)),
        [(2, Reason::Draining)]
    );
    assert!(!world.output.drained, "the sync has not ended");
    world.hold_syncs = false;
    world.release_syncs();
    world.settle();
    let said = client.read(&mut world);
    let [Said::Ack(ack), Said::Goaway(notice)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!((ack.sequence.0, notice.reason), (1, Reason::Draining));
    assert!(world.output.drained);
}

#[test]
fn a_drained_shard_waits_until_its_last_words_have_left() {
    let mut world = World::with_ack(AckMode::Local);
    let _client = Client::connect(&mut world, SENDER, 1);
    world.report_sent = false;
    world.drain = true;
    world.turn();
    assert!(!world.output.drained);
}

#[test]
fn a_receiver_that_asks_for_a_long_backlog_does_not_hold_off_the_drain() {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.deliver_bytes_per_turn = 1 << 18;
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    for _ in 0..40 {
        let frame = client.send(&[&[1u8; 200_000][..]]);
        client.exchange(&mut world, &frame);
    }
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 40, 40 << 20);
    world.receive(receiver.connection, &fetch);
    world.turn();
    assert!(
        world.output.more,
        "there is more to deliver than a turn may"
    );
    world.drain = true;
    let drained = (0..5).any(|_| {
        world.turn();
        world.output.drained
    });
    assert!(drained, "deliveries wait in their queue");
    assert!(bodies(&receiver.read(&mut world)).len() < 20);
}

#[test]
fn a_log_keeps_to_its_retention_however_fast_it_fills() {
    let mut setup = Setup::new(AckMode::Durable);
    setup.log_limits.retention_bytes = Some(3 << 20);
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    // No time passes: what happens once a second does not happen.
    for _ in 0..60 {
        let frame = client.send(&[&[3u8; 200_000][..], &[4u8; 200_000]]);
        assert_eq!(rejects(&client.exchange(&mut world, &frame)), []);
        world.settle();
    }
    let partition = world.shard.partitions().next().unwrap();
    assert!(partition.bytes() <= 6 << 20, "{}", partition.bytes());
    let commit = &world.shard.counters().commit;
    assert!(commit.retired_segments > 10, "{}", commit.retired_segments);
}

#[test]
fn segments_beyond_their_retention_are_retired_but_not_before_they_are_fanned_out() {
    let mut setup = Setup::new(AckMode::Local);
    setup.log_limits.retention_bytes = Some(3 << 20);
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    for _ in 0..30 {
        let frame = client.send(&[&[3u8; 200_000][..], &[4u8; 200_000]]);
        assert_eq!(rejects(&client.exchange(&mut world, &frame)), []);
        world.pass(Duration::from_secs(1));
        world.settle();
        let ping = client.ping(1);
        client.exchange(&mut world, &ping);
    }
    assert!(world.shard.counters().commit.retired_segments > 0);
    let partition = world.shard.partitions().next().unwrap();
    assert!(partition.bytes() <= 6 << 20, "{}", partition.bytes());
    assert!(partition.first().0 > 0);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 1_000, 60 << 20);
    let said = receiver.exchange(&mut world, &fetch);
    let first = world.shard.partitions().next().unwrap().first().0;
    assert_eq!(
        bodies(&said).len() as u64,
        60 - first,
        "what is kept is delivered, what is gone is passed over"
    );
}
