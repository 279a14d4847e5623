//! What has ended is as if it were taken away, and what was somebody else's is nobody's.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use support::*;
use wire::delivery::Source;
use wire::ids::*;
use wire::route::{KeyMaterial, TableParts};

/// What the receiver is delivered once everything has come to rest.
fn delivered(world: &mut World, receiver: &mut Client) -> Vec<Vec<u8>> {
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    let told = receiver.exchange(world, &fetch);
    bodies(&told)
}

type Ends = fn(&mut TableParts, Option<UnixNanos>);

#[test]
fn what_comes_while_a_grant_or_its_endpoint_is_over_is_in_no_queue_when_it_goes_on() {
    let ends: [(&str, Ends); 2] = [
        ("grant", |parts, end| {
            endpoint_in(parts, RECEIVER).receive[0].restriction.expires = end;
        }),
        ("endpoint", |parts, end| {
            endpoint_in(parts, RECEIVER).expires = end;
        }),
    ];
    for (why, set) in ends {
        let mut setup = Setup::new(AckMode::Local);
        set(&mut setup.parts, Some(UnixNanos::from_seconds(START + 5)));
        let mut world = World::new(setup);
        let mut sender = Client::connect(&mut world, SENDER, 1);
        let frame = sender.send(&[b"before"]);
        assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1], "{why}");
        world.pass(Duration::from_secs(6));
        let frame = sender.send(&[b"while it is over"]);
        assert_eq!(acks(&sender.exchange(&mut world, &frame)), [2], "{why}");
        let mut longer = parts(AckMode::Local);
        longer.epoch = 2;
        set(&mut longer, Some(UnixNanos::from_seconds(START + 3_600)));
        world.swap_table(longer);
        world.settle();
        let frame = sender.send(&[b"behind"]);
        assert_eq!(acks(&sender.exchange(&mut world, &frame)), [3], "{why}");
        let mut receiver = Client::connect(&mut world, RECEIVER, 2);
        let got = delivered(&mut world, &mut receiver);
        let want: [&[u8]; 2] = [b"before", b"behind"];
        assert_eq!(got, want, "{why}");
    }
}

/// Another party's plan: an endpoint and a channel under ids that were somebody else's, in a hub of its own.
fn theirs() -> TableParts {
    let mut parts = parts(AckMode::Local);
    parts.epoch = 3;
    let mut hub = parts.hubs[0].clone();
    (hub.id, hub.name) = (2, "other/prod/hub".into());
    parts.hubs.push(hub);
    parts.channels[0].name = "other/prod/channel".into();
    parts.channels[0].hub = 1;
    let receiver = endpoint_in(&mut parts, RECEIVER);
    receiver.name = "other/prod/receiver".into();
    receiver.keys[0] = key(1, Direction::Egress, KeyMaterial::Symmetric(secret(9)));
    parts
}

#[test]
fn messages_in_anothers_hub_are_delivered_to_nobody_who_has_the_ids_of_who_was_to_have_them() {
    let mut setup = Setup::new(AckMode::Local);
    // Its logs are there from the beginning; no table names a hub before they are.
    setup.parts.hubs.push(theirs().hubs.pop().unwrap());
    let mut world = World::new(setup);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"not for others"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1]);
    let mut gone = parts(AckMode::Local);
    gone.epoch = 2;
    gone.endpoints.retain(|one| *one.name != *RECEIVER);
    world.swap_table(gone);
    world.settle();
    world.swap_table(theirs());
    world.settle();
    let text = secret(9);
    let mut receiver = Client::new(&mut world, "other/prod/receiver", text.text_bytes());
    receiver.greet(&mut world, wire::handshake::Auth::Key(KeyId(1)));
    assert_eq!(delivered(&mut world, &mut receiver), Vec::<Vec<u8>>::new());
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"theirs"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1]);
    world.settle();
    assert_eq!(bodies(&receiver.read(&mut world)), [b"theirs"]);
}
