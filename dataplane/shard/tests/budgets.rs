//! What peers may hold of what all share, and what an ack may not say: room for frames that straddle, numbers that envelopes
//! left out, hubs whose acks became durable, segments that are not ready.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use support::*;
use wire::delivery::Source;
use wire::handshake::HELLO_BYTES_MAX;
use wire::ids::*;
use wire::limits::FRAME_BYTES_MAX;
use wire::preface::Preface;
use wire::reason::Reason;
use wire::signature::Signer;

/// A world whose frames that straddle have room for the longest one, and no more.
fn tight() -> World {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.assembly_bytes_max = FRAME_BYTES_MAX;
    World::new(setup)
}

fn long_frame(client: &mut Client) -> Vec<u8> {
    client.send(&[&[7u8; 200_000][..], &[8; 200_000]])
}

fn sensor_envelope(number: u64, body: &[u8]) -> Vec<u8> {
    let secret = secret(4);
    let signer = Signer::Key {
        id: KeyId(1),
        key: secret.mac(),
    };
    envelope(number, signer, &[body])
}

#[test]
fn a_long_frame_that_was_only_announced_takes_no_room_from_others() {
    let mut world = tight();
    let mut holders = Vec::new();
    for _ in 0..32 {
        let mut holder = Client::connect(&mut world, RELAY, 3);
        let frame = long_frame(&mut holder);
        assert_eq!(holder.exchange(&mut world, &frame[..1_000]), []);
        holders.push(holder);
    }
    let held = world.shard.assembly_bytes();
    assert!(held <= 32 * 4_096, "{held} bytes for 32,000");
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[&[9u8; 200_000][..]]);
    world.receive(sender.connection, &frame[..150_000]);
    world.settle();
    assert_eq!(acks(&sender.exchange(&mut world, &frame[150_000..])), [1]);
    assert!(
        holders
            .iter_mut()
            .all(|holder| holder.read(&mut world).is_empty())
    );
    assert_eq!(world.shard.counters().parse.assembly_full, 0);
}

#[test]
fn a_full_pool_takes_its_room_from_the_frame_begun_first_never_from_who_comes() {
    let mut world = tight();
    let mut holders = Vec::new();
    for at in 0..12 {
        let mut holder = Client::connect(&mut world, RELAY, 3);
        let frame = long_frame(&mut holder);
        assert_eq!(
            holder.exchange(&mut world, &frame[..100_000]),
            [],
            "holder {at}"
        );
        holders.push(holder);
        assert!(world.shard.assembly_bytes() <= FRAME_BYTES_MAX);
    }
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = long_frame(&mut sender);
    for piece in frame.chunks(16 << 10) {
        world.receive(sender.connection, piece);
        world.settle();
        assert!(world.shard.assembly_bytes() <= FRAME_BYTES_MAX);
    }
    assert_eq!(
        acks(&sender.read(&mut world)),
        [1],
        "the newcomer is served"
    );
    for holder in &mut holders {
        let said = holder.read(&mut world);
        let [Said::Goaway(notice)] = &said[..] else {
            panic!("{said:?}")
        };
        assert_eq!(notice.reason, Reason::Busy);
        assert!(notice.retry_after_ms > 0);
    }
    assert_eq!(world.shard.assembly_bytes(), 0);
    assert_eq!(world.shard.counters().parse.assembly_full, 12);
}

#[test]
fn what_came_before_a_frame_that_had_to_make_room_still_counts() {
    let mut world = tight();
    let mut holder = Client::connect(&mut world, RELAY, 3);
    let whole = holder.ping(7);
    let half = long_frame(&mut holder);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = long_frame(&mut sender);
    world.receive(holder.connection, &[&whole[..], &half[..300_000]].concat());
    world.receive(sender.connection, &frame[..300_000]);
    world.settle();
    let said = holder.read(&mut world);
    assert!(
        matches!(
            said[..],
            [Said::Goaway(_), Said::Pong(Sequence(7))] | [Said::Pong(Sequence(7)), Said::Goaway(_)]
        ),
        "{said:?}"
    );
    assert_eq!(acks(&sender.exchange(&mut world, &frame[300_000..])), [1]);
}

#[test]
fn who_has_not_said_who_they_are_gets_room_for_a_hello() {
    let mut world = tight();
    let mut strangers: Vec<Client> = (0..40)
        .map(|_| Client::new(&mut world, SENDER, secret(1).text_bytes()))
        .collect();
    for stranger in &strangers {
        let hello = stranger.hello_bytes(wire::handshake::Auth::Key(KeyId(1)), 0);
        world.receive(stranger.connection, &hello[..40]);
    }
    world.settle();
    let held = world.shard.assembly_bytes();
    assert!(held <= 40 * HELLO_BYTES_MAX, "{held} bytes");
    let mut long = Preface::CLIENT.encode().to_vec();
    long.extend_from_slice(&(FRAME_BYTES_MAX as u32).to_le_bytes());
    long.extend_from_slice(&[1, 2, 0, 0]);
    let greedy = &mut strangers[0];
    let mut greedy = Client::new(&mut world, &greedy.name.clone(), &[]);
    assert_eq!(
        reason(&greedy.exchange(&mut world, &long)),
        Reason::FrameTooLong
    );
}

#[test]
fn a_direct_number_that_envelopes_left_out_is_appended_and_never_only_acked() {
    let mut world = World::with_ack(AckMode::Local);
    let mut relay = Client::connect(&mut world, RELAY, 3);
    let relayed = relay.relay(1, &sensor_envelope(3, b"three"));
    assert_eq!(acks(&relay.exchange(&mut world, &relayed)), [1]);
    let mut sensor = Client::connect(&mut world, SENSOR, 4);
    for (number, body, appended) in [
        (1, b"one", 2),
        (2, b"two", 3),
        (3, b"thr", 3),
        (4, b"fou", 4),
    ] {
        let frame = sensor.send_number(number, &[body]);
        assert_eq!(acks(&sensor.exchange(&mut world, &frame)), [number]);
        let counters = &world.shard.counters().append;
        assert_eq!(counters.messages, appended, "after number {number}");
    }
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    assert_eq!(
        bodies(&receiver.exchange(&mut world, &fetch)),
        [&b"three"[..], b"one", b"two", b"fou"]
    );
}

#[test]
fn a_direct_number_of_which_the_log_cannot_tell_is_not_acked() {
    let mut world = World::with_ack(AckMode::Local);
    let mut relay = Client::connect(&mut world, RELAY, 3);
    for (at, number) in [2, 200].into_iter().enumerate() {
        let relayed = relay.relay(at as u64 + 1, &sensor_envelope(number, b"ahead"));
        relay.exchange(&mut world, &relayed);
    }
    let mut sensor = Client::connect(&mut world, SENSOR, 4);
    for (number, want) in [
        (2, Some(Reason::Replayed)),
        (136, Some(Reason::Replayed)),
        (137, None),
        (201, None),
    ] {
        let frame = sensor.send_number(number, &[b"x"]);
        let said = sensor.exchange(&mut world, &frame);
        let want: Vec<(u64, Reason)> = want.map(|reason| (number, reason)).into_iter().collect();
        assert_eq!(rejects(&said), want, "{number}");
        assert_eq!(acks(&said).is_empty(), !want.is_empty(), "{number}");
    }
}

#[test]
fn a_left_out_number_needs_the_grant_that_one_in_the_log_needs_no_more() {
    let mut world = World::with_ack(AckMode::Local);
    let mut relay = Client::connect(&mut world, RELAY, 3);
    let relayed = relay.relay(1, &sensor_envelope(3, b"three"));
    relay.exchange(&mut world, &relayed);
    let mut sensor = Client::connect(&mut world, SENSOR, 4);
    let mut changed = parts(AckMode::Local);
    changed.epoch = 2;
    endpoint_in(&mut changed, SENSOR).send.clear();
    world.swap_table(changed);
    world.settle();
    let frame = sensor.send_number(2, &[b"two"]);
    assert_eq!(
        rejects(&sensor.exchange(&mut world, &frame)),
        [(2, Reason::NotGranted)]
    );
    assert_eq!(world.shard.counters().append.messages, 1);
}

#[test]
fn when_acks_become_durable_what_was_committed_before_waits_for_its_sync() {
    let mut world = World::with_ack(AckMode::Local);
    world.hold_syncs = true;
    let mut first = Client::connect(&mut world, SENDER, 1);
    let frame = first.send(&[b"one"]);
    assert_eq!(acks(&first.exchange(&mut world, &frame)), [1], "local");
    let mut second = Client::connect(&mut world, SENDER, 1);
    let mut durable = parts(AckMode::Durable);
    durable.epoch = 2;
    world.swap_table(durable);
    world.settle();
    let again = second.send_number(1, &[b"one"]);
    assert_eq!(
        acks(&second.exchange(&mut world, &again)),
        [],
        "it is in the log, but not on disk"
    );
    let mut third = Client::new(&mut world, SENDER, secret(1).text_bytes());
    let hello = third.hello_bytes(wire::handshake::Auth::Key(KeyId(1)), 0);
    let said = third.exchange(&mut world, &hello);
    assert_eq!(
        said.len(),
        1,
        "no WELCOME says what is not durable: {said:?}"
    );
    world.hold_syncs = false;
    world.release_syncs();
    world.settle();
    assert_eq!(acks(&second.read(&mut world)), [1]);
    let said = third.read(&mut world);
    let [Said::Welcome(_, entries)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        (entries[0].2, entries[0].3),
        (Sequence(1), AckMode::Durable)
    );
}

#[test]
fn neighbours_in_the_log_go_to_the_queues_as_one_and_are_acked_as_one() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frames: Vec<u8> = (0..100u64)
        .flat_map(|at| sender.send(&[&at.to_le_bytes()]))
        .collect();
    let before = world.shard.counters().turns;
    assert_eq!(acks(&sender.exchange(&mut world, &frames)), [100]);
    let counters = world.shard.counters();
    assert_eq!(
        (counters.commit.frames, counters.fanout.records),
        (100, 100),
        "in {} turns",
        counters.turns - before
    );
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 1_000, 1 << 20);
    let want: Vec<Vec<u8>> = (0..100u64).map(|at| at.to_le_bytes().to_vec()).collect();
    assert_eq!(bodies(&receiver.exchange(&mut world, &fetch)), want);
}
