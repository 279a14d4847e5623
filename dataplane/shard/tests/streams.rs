//! The sequence rule: a number is spent only by an append, what was sent again is acked and not appended,
//! and after a refusal a stream goes back.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use support::*;
use wire::delivery::Source;
use wire::ids::*;
use wire::reason::Reason;
use wire::route::TableParts;
use wire::signature::Signer;

fn appended(world: &World) -> u64 {
    world.shard.partitions().next().unwrap().appended().0
}

#[test]
fn after_a_gap_the_stream_goes_back_and_ends_complete() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let frames = [1, 3, 4, 5]
        .map(|number| client.send_number(number, &[b"x"]))
        .concat();
    let said = client.exchange(&mut world, &frames);
    let [Said::Reject(reject), Said::Ack(ack)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        (reject.sequence.0, reject.notice.seen, reject.notice.needed),
        (3, 3, 2),
        "4 and 5 are discarded"
    );
    assert_eq!(ack.sequence.0, 1);
    let frames = [2, 3, 4, 5]
        .map(|number| client.send_number(number, &[b"x"]))
        .concat();
    assert_eq!(acks(&client.exchange(&mut world, &frames)), [5]);
    assert_eq!(
        (appended(&world), world.shard.counters().append.discarded),
        (5, 2)
    );
}

#[test]
fn a_cumulative_ack_never_covers_a_refused_frame_whichever_stage_refused_it() {
    type Refused = fn(&mut Client) -> Vec<u8>;
    let cases: [(&str, Refused, Reason); 4] = [
        (
            "parse",
            |client| {
                let mut frame = client.send_number(2, &[b"x"]);
                frame[38] = 1;
                frame
            },
            Reason::ReservedBits,
        ),
        (
            "verify",
            |client| {
                let mut frame = client.send_number(2, &[b"x"]);
                *frame.last_mut().unwrap() ^= 1;
                frame
            },
            Reason::BadSignature,
        ),
        (
            "route",
            |client| client.send_as(client.endpoint, OTHER, 2, &[b"x"]),
            Reason::NotGranted,
        ),
        (
            "append",
            |client| client.send_number(9, &[b"x"]),
            Reason::OutOfSequence,
        ),
    ];
    for (stage, refused, want) in cases {
        let mut world = World::with_ack(AckMode::Durable);
        let mut client = Client::connect(&mut world, SENDER, 1);
        let mut bytes = client.send_number(1, &[b"one"]);
        bytes.extend(refused(&mut client));
        for number in if stage == "append" { [10, 11] } else { [3, 4] } {
            bytes.extend(client.send_number(number, &[b"behind"]));
        }
        let said = client.exchange(&mut world, &bytes);
        assert_eq!(acks(&said), [1], "{stage}");
        assert_eq!(
            rejects(&said).len(),
            1,
            "{stage}: what follows is discarded silently"
        );
        assert_eq!(rejects(&said)[0].1, want, "{stage}");
        let mended = [2, 3]
            .map(|number| client.send_number(number, &[b"again"]))
            .concat();
        assert_eq!(acks(&client.exchange(&mut world, &mended)), [3], "{stage}");
        assert_eq!(appended(&world), 3, "{stage}");
    }
}

#[test]
fn what_is_sent_again_after_a_reconnect_is_acked_and_appended_once() {
    for resume in [true, false] {
        let mut world = World::with_ack(AckMode::Durable);
        let mut client = Client::connect(&mut world, SENDER, 1);
        let frames = [
            client.send(&[b"1"]),
            client.send(&[b"2"]),
            client.send(&[b"3"]),
        ]
        .concat();
        client.exchange(&mut world, &frames);
        world.cut(client.connection);
        world.settle();
        let mut next = if resume {
            client.resume(&mut world)
        } else {
            Client::connect(&mut world, SENDER, 1)
        };
        assert_eq!(next.sequence, 4, "WELCOME names the last one");
        let again = [2, 3, 4]
            .map(|number| next.send_number(number, &[b"x"]))
            .concat();
        let said = next.exchange(&mut world, &again);
        assert_eq!(acks(&said).last(), Some(&4));
        assert_eq!(rejects(&said), []);
        assert_eq!(
            (appended(&world), world.shard.counters().append.duplicates),
            (4, 2)
        );
    }
}

#[test]
fn a_number_that_was_received_on_this_connection_is_a_replay() {
    let mut world = World::with_ack(AckMode::Local);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let frames = [client.send(&[b"1"]), client.send(&[b"2"])].concat();
    client.exchange(&mut world, &frames);
    let frames = [
        client.send_number(1, &[b"1"]),
        client.send_number(3, &[b"3"]),
    ]
    .concat();
    let said = client.exchange(&mut world, &frames);
    assert_eq!(rejects(&said), [(1, Reason::Replayed)]);
    assert_eq!(acks(&said), [3], "a replay leaves no gap");
}

#[test]
fn what_was_sent_again_is_acked_only_once_it_is_durable() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    let frame = client.send(&[b"1"]);
    client.exchange(&mut world, &frame);
    world.cut(client.connection);
    let keys = client.keys.clone().unwrap();
    let mut next = Client::new(&mut world, SENDER, &keys.resume);
    let hello = next.hello_bytes(wire::handshake::Auth::Resume(client.session), 0);
    assert_eq!(
        next.exchange(&mut world, &hello).len(),
        1,
        "WELCOME waits until it can name the last number"
    );
    world.release_syncs();
    world.settle();
    let said = next.read(&mut world);
    let [Said::Welcome(_, entries)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(entries[0].2, Sequence(1));
    let again = next.send_number(1, &[b"1"]);
    assert_eq!(acks(&next.exchange(&mut world, &again)), [1]);
    assert_eq!(appended(&world), 1);
}

#[test]
fn frames_sent_again_wait_for_a_slow_disk_only_within_the_credit() {
    let mut setup = Setup::new(AckMode::Durable);
    setup.limits.credit_frames = 64;
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    for _ in 0..4 {
        let frames: Vec<u8> = (0..50).flat_map(|_| client.send(&[b"x"])).collect();
        client.exchange(&mut world, &frames);
    }
    let mut again = Client::connect(&mut world, SENDER, 1);
    assert_eq!(again.sequence, 201);
    world.hold_syncs = true;
    let mut other = Client::connect(&mut world, RELAY, 3);
    let frame = other.send(&[b"not synced yet"]);
    other.exchange(&mut world, &frame);
    let frames: Vec<u8> = (1..=200)
        .flat_map(|n| again.send_number(n, &[b"x"]))
        .collect();
    let said = again.exchange(&mut world, &frames);
    assert_eq!(reason(&said), Reason::Busy, "{said:?}");
    assert!(world.closed(again.connection));
    assert_eq!(rejects(&said), [], "what is in the log is not refused");
    assert!(world.shard.counters().append.duplicates <= 64);
}

#[test]
fn a_newer_session_takes_the_streams_over_from_a_connection_that_is_half_open() {
    let mut world = World::with_ack(AckMode::Local);
    let mut old = Client::connect(&mut world, SENDER, 1);
    let frame = old.send(&[b"1"]);
    old.exchange(&mut world, &frame);
    let late = old.send(&[b"late"]);
    let mut new = Client::connect(&mut world, SENDER, 1);
    assert_eq!(new.sequence, 2);
    assert_eq!(
        reason(&old.exchange(&mut world, &late)),
        Reason::SessionUnknown
    );
    let frame = new.send(&[b"new"]);
    assert_eq!(acks(&new.exchange(&mut world, &frame)), [2]);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    assert_eq!(
        bodies(&receiver.exchange(&mut world, &fetch)),
        [b"1".to_vec(), b"new".to_vec()]
    );
}

#[test]
fn a_stream_that_a_new_grant_opens_is_the_newest_session_s_and_no_earlier_one_s() {
    for lingers in [true, false] {
        let mut setup = two_hubs(AckMode::Local);
        let with = setup.parts.clone();
        endpoint_in(&mut setup.parts, SENDER).send.retain(|grant| {
            let far = ChannelId::of(FAR);
            grant.channel != far
        });
        let mut world = World::new(setup);
        // The first place among the sessions becomes free, and is the newest one's.
        let mut first = Client::connect(&mut world, RELAY, 3);
        let mut earlier = Client::connect(&mut world, SENDER, 1);
        let bye = first.bye();
        first.exchange(&mut world, &bye);
        let mut newest = Client::connect(&mut world, SENDER, 1);
        if lingers {
            world.cut(earlier.connection);
            world.settle();
        }
        world.swap_table(TableParts { epoch: 2, ..with });
        world.settle();
        let frame = newest.send_as(newest.endpoint, FAR, 1, &[b"x"]);
        let said = newest.exchange(&mut world, &frame);
        assert_eq!(acks(&said), [1], "{lingers}: {said:?}");
        if lingers {
            let mut again = earlier.resume(&mut world);
            let frame = again.send_as(again.endpoint, FAR, 2, &[b"x"]);
            assert_eq!(acks(&again.exchange(&mut world, &frame)), [2]);
        } else {
            let frame = earlier.send_as(earlier.endpoint, FAR, 2, &[b"x"]);
            let said = earlier.exchange(&mut world, &frame);
            assert_eq!(reason(&said), Reason::SessionUnknown);
        }
    }
}

#[test]
fn an_envelope_that_is_relayed_twice_is_appended_once_and_answered_twice() {
    let mut world = World::with_ack(AckMode::Durable);
    let inner = envelope(
        7,
        Signer::Key {
            id: KeyId(1),
            key: secret(4).mac(),
        },
        &[b"reading"],
    );
    for connection in 0..2 {
        let mut relay = Client::connect(&mut world, RELAY, 3);
        let frames = [relay.relay(1, &inner), relay.relay(2, &inner)].concat();
        assert_eq!(
            acks(&relay.exchange(&mut world, &frames)),
            [2],
            "connection {connection}"
        );
    }
    assert_eq!(
        (appended(&world), world.shard.counters().append.duplicates),
        (1, 3)
    );
}

#[test]
fn an_envelope_for_another_log_than_the_relays_own_stream_is_appended_there() {
    for partitions in 1..=8 {
        let mut setup = Setup::new(AckMode::Durable);
        setup.parts.hubs[0].partitions = partitions;
        let mut world = World::new(setup);
        let mut relay = Client::connect(&mut world, RELAY, 3);
        let key = secret(4);
        for number in 1..=3 {
            let sign = Signer::Key {
                id: KeyId(1),
                key: key.mac(),
            };
            let inner = envelope(number, sign, &[b"reading"]);
            let frames = [
                relay.relay(number, &inner),
                relay.send_number(number, &[b"own"]),
            ];
            let said = acks(&relay.exchange(&mut world, &frames.concat()));
            assert_eq!(said, [number; 2], "{partitions} partitions");
        }
        let logs = world.shard.partitions();
        let appended: u64 = logs.map(|log| log.appended().0).sum();
        assert_eq!(appended, 6, "{partitions} partitions");
    }
}

#[test]
fn relay_numbers_are_acked_only_as_far_as_all_of_them_are_answered() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut relay = Client::connect(&mut world, RELAY, 3);
    world.hold_syncs = true;
    let good = envelope(
        1,
        Signer::Key {
            id: KeyId(1),
            key: secret(4).mac(),
        },
        &[b"x"],
    );
    let bad = envelope(
        2,
        Signer::Key {
            id: KeyId(9),
            key: secret(4).mac(),
        },
        &[b"x"],
    );
    let frames = [relay.relay(1, &good), relay.relay(2, &bad)].concat();
    let said = relay.exchange(&mut world, &frames);
    assert_eq!(
        (acks(&said), rejects(&said)),
        (vec![], vec![(2, Reason::UnknownSender)])
    );
    world.release_syncs();
    world.settle();
    assert_eq!(acks(&relay.read(&mut world)), [2]);
}

#[test]
fn many_envelopes_of_one_turn_are_verified_together_and_stay_in_order() {
    let mut world = World::with_ack(AckMode::Local);
    let mut relay = Client::connect(&mut world, RELAY, 3);
    let signing = signing_key();
    let mut bytes = Vec::new();
    for number in 1..=20u64 {
        let body = number.to_le_bytes();
        let inner = if number % 2 == 0 {
            envelope(
                number,
                Signer::Ed25519 {
                    id: KeyId(2),
                    key: &signing,
                },
                &[&body],
            )
        } else {
            envelope(
                number,
                Signer::Key {
                    id: KeyId(1),
                    key: secret(4).mac(),
                },
                &[&body],
            )
        };
        bytes.extend(relay.relay(number, &inner));
    }
    assert_eq!(acks(&relay.exchange(&mut world, &bytes)), [20]);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 100, 1 << 20);
    let want: Vec<Vec<u8>> = (1..=20u64)
        .map(|number| number.to_le_bytes().to_vec())
        .collect();
    assert_eq!(bodies(&receiver.exchange(&mut world, &fetch)), want);
    let counters = &world.shard.counters().verify;
    assert_eq!(
        (counters.key_envelopes, counters.ed25519_envelopes),
        (10, 10)
    );
}
