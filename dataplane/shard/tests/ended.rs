//! What has ended is as if it were taken away; what only moved is not.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use support::*;
use wire::delivery::Source;
use wire::ids::*;
use wire::route::TableParts;

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

#[test]
fn what_waits_for_somebody_comes_though_its_channel_has_moved_to_another_hub() {
    let mut setup = Setup::new(AckMode::Local);
    let moved = |parts: &mut TableParts| {
        let mut hub = parts.hubs[0].clone();
        (hub.id, hub.name) = (2, "acme/prod/other".into());
        parts.hubs.push(hub);
    };
    // Its logs are there from the beginning; no table names a hub before they are.
    moved(&mut setup.parts);
    let mut world = World::new(setup);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"sent before"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1]);
    let mut next = parts(AckMode::Local);
    next.epoch = 2;
    moved(&mut next);
    next.channels[0].hub = 1;
    world.swap_table(next);
    world.settle();
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    assert_eq!(delivered(&mut world, &mut receiver), [b"sent before"]);
}
