//! A new table beside many sessions: a turn looks at so many of them, and nobody whom it does not allow is heard or served meanwhile.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use support::*;
use wire::delivery::Source;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;
use wire::route::TableParts;

/// More than a turn looks at twice.
const MANY: usize = 600;

/// A world in which this many sessions of another sender stand before all that come later.
fn crowded(ack: AckMode) -> (World, Vec<Client>) {
    let mut setup = Setup::new(ack);
    setup.limits.bans.key_sessions_max = u32::MAX;
    let mut world = World::new(setup);
    let crowd = (0..MANY).map(|_| Client::connect(&mut world, SENSOR, 4));
    let crowd = crowd.collect();
    (world, crowd)
}

/// A table in which `change` is not all that is new.
fn another(change: impl FnOnce(&mut TableParts)) -> TableParts {
    let mut new = parts(AckMode::Local);
    new.epoch = 2;
    new.channels[1].name = "acme/prod/renamed".into();
    change(&mut new);
    new
}

/// The same of endpoints alone, but of more than a turn looks at.
fn many_changed(change: impl FnOnce(&mut TableParts)) -> TableParts {
    let mut new = parts(AckMode::Local);
    new.epoch = 2;
    for number in 0..MANY {
        let name = format!("acme/prod/meter-{number}");
        new.endpoints.push(endpoint(&name, vec![], vec![], vec![]));
    }
    change(&mut new);
    new
}

type Made = fn(fn(&mut TableParts)) -> TableParts;

const MADE: [(&str, Made); 2] = [
    ("all of it", |change| another(change)),
    ("many endpoints", |change| many_changed(change)),
];

fn revoke(parts: &mut TableParts, name: &str) {
    endpoint_in(parts, name).keys[0].revoked = true;
}

#[test]
fn a_turn_ends_so_many_sessions_and_the_next_ones_the_rest() {
    for (why, made) in MADE {
        let (mut world, crowd) = crowded(AckMode::Local);
        world.swap_table(made(|new| revoke(new, SENSOR)));
        world.turn();
        let left = world.shard.sessions();
        assert!((MANY - 300..MANY).contains(&left), "{why}: {left}");
        assert_eq!(world.shard.epoch(), 2, "{why}");
        assert!(world.output.more, "{why}: it is to go on at once");
        world.settle();
        assert_eq!(world.shard.sessions(), 0, "{why}");
        for mut client in crowd {
            let told = reason(&client.read(&mut world));
            assert_eq!(told, Reason::CredentialWithdrawn, "{why}");
        }
    }
}

#[test]
fn whoever_speaks_is_held_against_the_table_before_anything_is_taken() {
    for (why, made) in MADE {
        let (mut world, _crowd) = crowded(AckMode::Local);
        let mut revoked = Client::connect(&mut world, SENDER, 1);
        let mut relay = Client::connect(&mut world, RELAY, 3);
        let before = appended(&world);
        world.swap_table(made(|new| revoke(new, SENDER)));
        for (client, number) in [(&mut revoked, 1), (&mut relay, 1)] {
            let frame = client.send_number(number, &[b"x"]);
            world.receive(client.connection, &frame);
        }
        world.turn();
        assert!(world.output.more, "{why}: nobody has come to them");
        let said = revoked.read(&mut world);
        assert_eq!(reason(&said), Reason::CredentialWithdrawn, "{why}");
        assert_eq!(acks(&relay.read(&mut world)), [1], "{why}: it stays");
        assert_eq!(appended(&world), before + 1, "{why}");
    }
}

#[test]
fn whoever_was_withdrawn_is_delivered_nothing_and_resumes_nothing() {
    for (why, made) in MADE {
        let (mut world, _crowd) = crowded(AckMode::Local);
        let mut receiver = Client::connect(&mut world, RECEIVER, 2);
        let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
        receiver.exchange(&mut world, &fetch);
        let lost = Client::connect(&mut world, SENDER, 1);
        world.cut(lost.connection);
        let mut relay = Client::connect(&mut world, RELAY, 3);
        world.swap_table(made(|new| {
            revoke(new, RECEIVER);
            revoke(new, SENDER);
        }));
        let frame = relay.send_number(1, &[b"x"]);
        world.receive(relay.connection, &frame);
        let secret = lost.keys.as_ref().unwrap().resume;
        let mut next = Client::new(&mut world, SENDER, &secret);
        let hello = next.hello_bytes(Auth::Resume(lost.session), 0);
        world.receive(next.connection, &hello);
        world.turn();
        assert_eq!(acks(&relay.read(&mut world)), [1], "{why}");
        // What was sent is in its queue's journal now.
        world.turn();
        assert!(world.output.more, "{why}: nobody has come to them");
        let told = receiver.read(&mut world);
        assert_eq!(bodies(&told), Vec::<Vec<u8>>::new(), "{why}");
        assert_eq!(reason(&told), Reason::CredentialWithdrawn, "{why}");
        let refused = next.read(&mut world);
        assert_eq!(reason(&refused), Reason::SessionUnknown, "{why}");
    }
}

#[test]
fn a_table_in_each_turn_keeps_nobody_from_being_looked_at() {
    let (mut world, _crowd) = crowded(AckMode::Local);
    for epoch in 2..6 {
        world.swap_table(another(|new| {
            new.epoch = epoch;
            new.channels[1].name = format!("acme/prod/other-{epoch}").into();
            revoke(new, SENSOR);
        }));
        world.turn();
    }
    assert_eq!(world.shard.sessions(), 0);
}

#[test]
fn a_key_that_is_replaced_twice_before_its_session_is_looked_at_is_another_key() {
    let (mut world, _crowd) = crowded(AckMode::Local);
    let mut client = Client::connect(&mut world, SENDER, 1);
    for (epoch, number) in [(2, 9), (3, 10)] {
        world.swap_table(another(|new| {
            new.epoch = epoch;
            new.channels[1].name = format!("acme/prod/other-{epoch}").into();
            let key = &mut endpoint_in(new, SENDER).keys[0];
            key.material = wire::route::KeyMaterial::Symmetric(secret(number));
        }));
        world.turn();
    }
    let frame = client.send(&[b"x"]);
    world.receive(client.connection, &frame);
    world.turn();
    let told = client.read(&mut world);
    assert_eq!(reason(&told), Reason::CredentialWithdrawn);
}

fn appended(world: &World) -> u64 {
    let logs = world.shard.partitions();
    logs.map(|log| log.appended().0).sum()
}
