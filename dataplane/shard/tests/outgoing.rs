//! What peers that take nothing may make a shard hold: little over its budget, however many they are, and nothing that others
//! wait for.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use support::*;
use wire::delivery::Source;
use wire::ids::*;
use wire::reason::Reason;
use wire::route::KeyMaterial;

const SLOW: usize = 100;
const MESSAGES: usize = 160;
const BODY: [u8; 16 << 10] = [5; 16 << 10];

fn slow(number: usize) -> String {
    format!("acme/prod/slow{number}")
}

/// A world of a receiver and a hundred more, with messages of 2.5 MiB for each of them.
fn crowd(unsent_bytes_total: usize) -> World {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.unsent_bytes_total = unsent_bytes_total;
    for number in 0..SLOW {
        let material = KeyMaterial::Symmetric(secret(2));
        let keys = vec![key(1, Direction::Egress, material)];
        let receives = vec![grant(CHANNEL)];
        let more = endpoint(&slow(number), keys, vec![], receives);
        setup.parts.endpoints.push(more);
    }
    let mut world = World::new(setup);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    for _ in 0..MESSAGES / 4 {
        let frame = sender.send(&[&BODY[..]; 4]);
        sender.exchange(&mut world, &frame);
    }
    world
}

/// A receiver that asks for everything and takes nothing.
fn ask(world: &mut World, name: &str) -> Client {
    let mut client = Client::connect(world, name, 2);
    world.stick(client.connection);
    let fetch = client.fetch(Source::Queue, 1_000, 60 << 20);
    world.receive(client.connection, &fetch);
    world.settle();
    client
}

#[test]
fn a_hundred_receivers_that_take_nothing_hold_little_over_the_budget_and_nobody_else_up() {
    let total = 2 << 20;
    let mut world = crowd(total);
    let mut stuck: Vec<Client> = (0..SLOW)
        .map(|number| ask(&mut world, &slow(number)))
        .collect();
    let unsent = world.shard.unsent_bytes();
    // One frame overdraws the budget; then a message or two each.
    let bound = total + (512 << 10) + SLOW * (33 << 10);
    assert!((total..bound).contains(&unsent), "{unsent} of {bound}");
    assert!(
        stuck
            .iter_mut()
            .all(|client| !bodies(&client.read(&mut world)).is_empty())
    );

    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 1_000, 60 << 20);
    let got = bodies(&receiver.exchange(&mut world, &fetch)).len();
    assert_eq!(got, MESSAGES, "who takes what comes gets everything");
    assert_eq!(world.shard.unsent_bytes(), unsent);

    let late = &mut stuck[SLOW - 1];
    world.unstick(late.connection);
    world.settle();
    let rest = bodies(&late.read(&mut world)).len();
    assert!(
        (MESSAGES - 2..MESSAGES).contains(&rest),
        "{rest}: it takes again, nothing is lost"
    );

    for client in &stuck {
        world.cut(client.connection);
    }
    world.settle();
    assert_eq!(world.shard.unsent_bytes(), 0, "what is gone holds nothing");
}

#[test]
fn below_the_budget_a_connection_that_takes_nothing_is_given_up_to_its_own_bound() {
    let mut world = crowd(64 << 20);
    let mut stuck = ask(&mut world, RECEIVER);
    let got = bodies(&stuck.read(&mut world)).len() * BODY.len();
    assert!(((1 << 20)..(3 << 19)).contains(&got), "{got}");
}

#[test]
fn answers_that_nobody_reads_end_their_connection_earlier_while_all_hold_more_than_the_budget() {
    const MIB: usize = 1 << 20;
    for (why, name, budget, takes, most) in [
        ("a receiver", RECEIVER, 64 * MIB, false, 8 * MIB),
        ("while it is crowded", RECEIVER, MIB / 8, false, MIB / 2),
        (
            "but not one that takes some",
            RECEIVER,
            MIB / 8,
            true,
            8 * MIB,
        ),
        ("a sender", SENDER, 64 * MIB, false, 2 * MIB),
        ("while it is crowded", SENDER, MIB / 8, false, MIB / 4),
        (
            "but not one that takes some",
            SENDER,
            MIB / 8,
            true,
            2 * MIB,
        ),
    ] {
        let mut setup = Setup::new(AckMode::Local);
        setup.limits.unsent_bytes_high = 64 << 10;
        setup.limits.unsent_bytes_total = budget;
        setup.limits.pings_per_second = 1_000_000;
        setup.limits.slow_receiver_after = Duration::from_secs(3_600);
        let mut world = World::new(setup);
        let mut pinger = Client::connect(&mut world, name, if name == SENDER { 1 } else { 2 });
        world.stick(pinger.connection);
        let mut waited = 0;
        while !world.closed(pinger.connection) && waited <= 8 * MIB {
            let pings: Vec<u8> = (0..1_000).flat_map(|number| pinger.ping(number)).collect();
            world.receive(pinger.connection, &pings);
            world.pass(Duration::from_millis(300));
            if takes {
                world.take_one_byte(pinger.connection);
            }
            world.turn();
            waited += 48_000;
        }
        assert!(waited <= most + 96_000, "{why}, {name}: {waited} bytes");
        assert!(waited >= most / 2, "{why}, {name}: {waited} bytes");
        let said = pinger.read(&mut world);
        assert_eq!(
            reason(&said[said.len() - 1..]),
            Reason::SlowReceiver,
            "{why}"
        );
    }
}
