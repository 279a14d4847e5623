//! Room that a shard makes while memory is short: who is not read, who is refused a session in the very turn in which it becomes
//! short, and which of those that take nothing are closed.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use shard::{Pressure, Reading};
use support::*;
use wire::delivery::Source;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;

fn setup() -> Setup {
    Setup::new(AckMode::Durable).of_little_memory()
}

/// Take so many bytes of the budget.
fn fill(world: &mut World, bytes: u64) {
    let used = world.shard.memory().used;
    let others = used.total() - used.mesh;
    world.shard.note_moving(bytes - others);
    world.turn();
}

#[test]
fn only_senders_are_not_read_and_none_who_makes_room_by_being_read() {
    let mut world = World::new(setup());
    let sender = Client::connect(&mut world, SENDER, 1);
    let mut half = Client::connect(&mut world, SENSOR, 4);
    let mut stuck = Client::connect(&mut world, RELAY, 3);
    let receiver = Client::connect(&mut world, RECEIVER, 2);
    let stranger = world.open();
    world.settle();
    let frame = half.send(&[&[7u8; 1_000]]);
    half.exchange(&mut world, &frame[..500]);
    world.stick(stuck.connection);
    let frame = stuck.ping(1);
    stuck.exchange(&mut world, &frame);
    let told = |world: &World| {
        [
            sender.connection,
            stuck.connection,
            half.connection,
            receiver.connection,
            stranger,
        ]
        .map(|id| world.shard.reading(id))
    };
    fill(&mut world, BUDGET * 11 / 16);
    assert_eq!(told(&world), [Reading::Now; 5]);
    fill(&mut world, BUDGET * 14 / 16);
    let (later, not_yet) = (Reading::Later, Reading::NotYet);
    let want = [later, not_yet, Reading::Now, Reading::Now, Reading::Now];
    assert_eq!(told(&world), want);
    fill(&mut world, BUDGET * 9 / 16);
    assert_eq!(told(&world), [Reading::Now; 5]);
}

#[test]
fn a_hello_in_the_turn_in_which_memory_becomes_short_is_refused() {
    let mut world = World::new(setup());
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut stranger = Client::new(&mut world, RELAY, secret(3).text_bytes());
    world.settle();
    fill(&mut world, BUDGET * 12 / 16 - 100_000);
    assert_eq!(world.shard.memory().pressure, Pressure::NewConnections);
    world.hold_syncs = true;
    let frames = (0..64).map(|_| sender.send(&[&[7u8; 4_000]]));
    let frames = frames.collect::<Vec<_>>().concat();
    world.receive(sender.connection, &frames);
    let hello = stranger.hello_bytes(Auth::Key(KeyId(1)), 0);
    world.receive(stranger.connection, &hello);
    world.turn();
    assert_eq!(
        reason(&stranger.read(&mut world)),
        Reason::StrangersShed,
        "{:?}",
        world.shard.memory().used
    );
    world.hold_syncs = false;
    world.release_syncs();
    assert_eq!(
        acks(&sender.exchange(&mut world, &[])).last(),
        Some(&64),
        "what was taken is kept"
    );
}

#[test]
fn of_those_that_take_nothing_those_with_most_are_closed_and_no_more_than_it_takes() {
    let mut setup = setup();
    setup.limits.unsent_bytes_high = 4 << 20;
    let names: Vec<String> = (0..3).map(|at| format!("acme/prod/hear-{at}")).collect();
    for name in &names {
        let mut one = endpoint_in(&mut setup.parts, RECEIVER).clone();
        one.id = EndpointId::of(name);
        one.name = name.as_str().into();
        setup.parts.endpoints.push(one);
    }
    let mut world = World::new(setup);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let connect = |name: &String| Client::connect(&mut world, name, 2);
    let mut receivers: Vec<Client> = names.iter().map(connect).collect();
    // In an order that is not that of what they hold.
    for (receiver, kib) in receivers.iter_mut().zip([300, 2_300, 1_000]) {
        world.stick(receiver.connection);
        let fetch = receiver.fetch(Source::Queue, 1_000, kib << 10);
        receiver.exchange(&mut world, &fetch);
    }
    for _ in 0..60 {
        let frame = sender.send(&[&[7u8; 50_000]]);
        sender.exchange(&mut world, &frame);
    }
    let held = |world: &World, at: usize| world.stuck[&receivers[at].connection];
    let holds = [0, 1, 2].map(|at| held(&world, at));
    assert!(holds[0] < holds[2] && holds[2] < holds[1], "{holds:?}");
    // What the one with most holds is enough to come below low water; nothing of the others' is needed.
    let over = BUDGET * 3 / 16;
    assert!(holds[1] as u64 > over + 100_000, "{holds:?}");
    world.pass(Duration::from_millis(300));
    fill(&mut world, BUDGET * 13 / 16 + 1_000);
    world.turn();
    world.turn();
    let closed = |at: usize| world.closed(receivers[at].connection);
    assert_eq!([0, 1, 2].map(closed), [false, true, false]);
    assert_eq!(world.shard.counters().shed.stuck, 1);
}
