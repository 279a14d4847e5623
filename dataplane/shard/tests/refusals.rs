//! Every refusal of a frame that a shard can give, by its reason code. Those of signatures stand in `forgeries.rs`.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use shard::Limits;
use support::*;
use wire::delivery::{Outcome, Source};
use wire::ids::*;
use wire::reason::Reason;
use wire::signature::Signer;

type Change = fn(&mut Setup);

#[test]
fn faults_in_a_send_reject_it_and_the_connection_goes_on() {
    fn edit(frame: &[u8], client: &Client, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = frame[..frame.len() - 32].to_vec();
        change(&mut bytes);
        let length = bytes.len() as u32 + 32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let key = &client.keys.as_ref().unwrap().client;
        wire::signature::sign_session(key, client.frames_out - 1, &mut bytes, 0);
        bytes
    }
    type Edit = fn(&mut Vec<u8>);
    let cases: [(&str, Edit, Reason); 9] = [
        ("no messages", |bytes| bytes[6] = 0, Reason::NoMessages),
        (
            "5,000 messages",
            |bytes| bytes[6..8].copy_from_slice(&5_000u16.to_le_bytes()),
            Reason::TooManyMessages,
        ),
        (
            "count too high",
            |bytes| bytes[6] = 2,
            Reason::MessageMalformed,
        ),
        ("reserved bits", |bytes| bytes[38] = 1, Reason::ReservedBits),
        (
            "body one byte too long",
            |bytes| bytes[32..36].copy_from_slice(&262_145u32.to_le_bytes()),
            Reason::BodyTooLong,
        ),
        (
            "headers one byte too long",
            |bytes| bytes[36..38].copy_from_slice(&8_193u16.to_le_bytes()),
            Reason::HeadersTooLong,
        ),
        (
            "another sender",
            |bytes| bytes[16] ^= 1,
            Reason::SenderMismatch,
        ),
        (
            "a channel that is not there",
            |bytes| bytes[24] ^= 1,
            Reason::UnknownChannel,
        ),
        (
            "sequence 0",
            |bytes| bytes[8..16].fill(0),
            Reason::OutOfSequence,
        ),
    ];
    for (why, change, want) in cases {
        let mut world = World::with_ack(AckMode::Local);
        let mut client = Client::connect(&mut world, SENDER, 1);
        let frame = client.send_number(1, &[b"body"]);
        let bytes = edit(&frame, &client, change);
        let said = client.exchange(&mut world, &bytes);
        assert_eq!(reason(&said), want, "{why}");
        let frame = client.send_number(1, &[b"mended"]);
        assert_eq!(
            acks(&client.exchange(&mut world, &frame)),
            [1],
            "{why}: the number was not spent"
        );
    }
}

#[test]
fn grants_and_restrictions_are_told_by_name() {
    let cases: [(&str, Change, &str, usize, Reason); 6] = [
        ("no grant", |_| {}, OTHER, 1, Reason::NotGranted),
        (
            "address of one of two grants",
            |setup| {
                let sender = endpoint_in(&mut setup.parts, SENDER);
                sender.send.push(grant(OTHER));
                sender.send[0].restriction.addresses = vec!["192.168.0.0/16".parse().unwrap()];
            },
            CHANNEL,
            1,
            Reason::RestrictedAddress,
        ),
        (
            "an origin, which TCP has not",
            |setup| {
                endpoint_in(&mut setup.parts, SENDER).send[0]
                    .restriction
                    .origins = vec!["https://a".into()];
            },
            CHANNEL,
            1,
            Reason::RestrictedOrigin,
        ),
        (
            "a longer body",
            |setup| {
                endpoint_in(&mut setup.parts, SENDER).send[0]
                    .restriction
                    .body_bytes_max = Some(3);
            },
            CHANNEL,
            1,
            Reason::RestrictedBody,
        ),
        (
            "more at once than a second's worth",
            |setup| {
                endpoint_in(&mut setup.parts, SENDER).send[0]
                    .restriction
                    .messages_per_second = Some(4);
            },
            CHANNEL,
            5,
            Reason::RestrictedRate,
        ),
        (
            "no channel",
            |_| {},
            "acme/prod/nowhere",
            1,
            Reason::UnknownChannel,
        ),
    ];
    for (why, change, channel, count, want) in cases {
        let mut setup = Setup::new(AckMode::Local);
        change(&mut setup);
        let mut world = World::new(setup);
        let mut client = Client::connect(&mut world, SENDER, 1);
        let frame = client.send_as(client.endpoint, channel, 1, &vec![&b"body"[..]; count]);
        assert_eq!(reason(&client.exchange(&mut world, &frame)), want, "{why}");
        assert_eq!(world.shard.counters().append.frames, 0, "{why}");
    }
}

#[test]
fn a_rate_fills_up_evenly_and_another_session_starts_no_new_one() {
    let mut setup = Setup::new(AckMode::Local);
    endpoint_in(&mut setup.parts, SENDER).send[0]
        .restriction
        .messages_per_second = Some(10);
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let frame = client.send(&[&b"x"[..]; 10]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [1]);
    let frame = client.send_number(2, &[&b"x"[..]; 2]);
    let said = client.exchange(&mut world, &frame);
    let [Said::Reject(reject)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        (reject.notice.reason, reject.notice.retry_after_ms),
        (Reason::RestrictedRate, 200)
    );
    let mut again = Client::connect(&mut world, SENDER, 1);
    let frame = again.send(&[&b"x"[..]; 2]);
    assert_eq!(
        reason(&again.exchange(&mut world, &frame)),
        Reason::RestrictedRate
    );
    world.pass(Duration::from_millis(200));
    let frame = again.send_number(2, &[&b"x"[..]; 2]);
    assert_eq!(acks(&again.exchange(&mut world, &frame)), [2]);
}

#[test]
fn each_direction_has_its_own_work() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = sender.fetch(Source::Queue, 1, 1);
    assert_eq!(
        reason(&sender.exchange(&mut world, &fetch)),
        Reason::WrongDirection
    );
    let settle = sender.settle(Source::Queue, Outcome::AcceptOne, 1);
    assert_eq!(
        reason(&sender.exchange(&mut world, &settle)),
        Reason::WrongDirection
    );
    let send = receiver.send(&[b"body"]);
    assert_eq!(
        reason(&receiver.exchange(&mut world, &send)),
        Reason::WrongDirection
    );
    let relay = receiver.relay(
        1,
        &envelope(
            1,
            Signer::Key {
                id: KeyId(1),
                key: secret(4).mac(),
            },
            &[b"x"],
        ),
    );
    assert_eq!(
        reason(&receiver.exchange(&mut world, &relay)),
        Reason::WrongDirection
    );
}

#[test]
fn fetch_and_settle_are_refused_by_name() {
    let mut world = World::with_ack(AckMode::Local);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let limits = Limits::default();
    for (why, messages, bytes) in [
        ("messages", limits.fetch_messages_max as u32 + 1, 1),
        ("bytes", 1, limits.fetch_bytes_max + 1),
    ] {
        let fetch = receiver.fetch(Source::Queue, messages, bytes);
        assert_eq!(
            reason(&receiver.exchange(&mut world, &fetch)),
            Reason::FetchTooLarge,
            "{why}"
        );
    }
    for number in [0, 1, 77] {
        let settle = receiver.settle(Source::Queue, Outcome::AcceptUpTo, number);
        assert_eq!(
            reason(&receiver.exchange(&mut world, &settle)),
            Reason::NotDelivered,
            "{number}"
        );
    }
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"one", b"two", b"three"]);
    sender.exchange(&mut world, &frame);
    let fetch = receiver.fetch(Source::Queue, 2, 1 << 20);
    receiver.exchange(&mut world, &fetch);
    let settle = receiver.settle(Source::Queue, Outcome::AcceptUpTo, 3);
    let said = receiver.exchange(&mut world, &settle);
    let [Said::Reject(reject)] = &said[..] else {
        panic!("{said:?}")
    };
    let notice = reject.notice;
    assert_eq!(
        (notice.reason, notice.seen, notice.needed),
        (Reason::NotDelivered, 3, 3),
        "one past the highest number delivered"
    );
    let mut newer = Client::connect(&mut world, RECEIVER, 2);
    for client in [&mut receiver, &mut newer] {
        let fetch = client.fetch(Source::Queue, 1, 1);
        client.exchange(&mut world, &fetch);
    }
    assert_eq!(reason(&receiver.read(&mut world)), Reason::QueueTaken);
    let settle = receiver.settle(Source::Queue, Outcome::AcceptUpTo, 1);
    assert_eq!(
        reason(&receiver.exchange(&mut world, &settle)),
        Reason::QueueTaken
    );
}

#[test]
fn a_hub_of_the_table_whose_logs_nobody_has_is_unavailable() {
    let mut setup = Setup::new(AckMode::Local);
    setup.parts.hubs[0].partitions = 1;
    let mut parts = setup.parts.clone();
    let mut world = World::new(setup);
    // The new table moves the sender's channel to a hub that no shard of the node has.
    let mut hub = parts.hubs[0].clone();
    (hub.id, hub.name) = (2, "acme/prod/far".into());
    parts.hubs.push(hub);
    parts.channels[0].hub = 1;
    parts.epoch = 2;
    world.swap_table(parts);
    world.settle();
    let mut client = Client::connect(&mut world, SENDER, 1);
    let frame = client.send_number(1, &[b"x"]);
    assert_eq!(
        reason(&client.exchange(&mut world, &frame)),
        Reason::HubUnavailable
    );
}

#[test]
fn a_session_without_credit_is_busy() {
    let mut setup = Setup::new(AckMode::Durable);
    setup.limits.credit_frames = 2;
    setup.limits.relay_window_max = 2;
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    let frames = [
        client.send(&[b"1"]),
        client.send(&[b"2"]),
        client.send(&[b"3"]),
        client.send(&[b"4"]),
    ]
    .concat();
    let said = client.exchange(&mut world, &frames);
    let [Said::Reject(reject)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!((reject.sequence.0, reject.notice.reason), (3, Reason::Busy));
    assert!(reject.notice.retry_after_ms > 0);
    world.hold_syncs = false;
    world.release_syncs();
    world.settle();
    client.sequence = 3;
    let frames = [client.send(&[b"3"]), client.send(&[b"4"])].concat();
    let said = [
        client.read(&mut world),
        client.exchange(&mut world, &frames),
    ]
    .concat();
    assert_eq!(acks(&said).last(), Some(&4));
}
