//! Everything that was said once is said again: nothing is appended twice.

use fastrand::Rng;
use partition::memory::Crash;
use wire::handshake::Auth;
use wire::ids::*;
use wire::signature::Signer;

use crate::number;
use crate::support::*;

/// Frames overheard on one connection, byte for byte.
struct Overheard {
    /// Preface and HELLO.
    hello: Vec<u8>,
    frames: Vec<Vec<u8>>,
}

struct Tape {
    sends: Overheard,
    relays: Overheard,
    /// SENDs inside the relays.
    envelopes: Vec<Vec<u8>>,
}

const FRAMES: u64 = 40;
/// More than a replay window holds, so that the first ones lie below it.
const ENVELOPES: u64 = 200;

fn record(world: &mut World) -> Tape {
    let greet = |world: &mut World, name: &str, key: u8| {
        let mut client = Client::new(world, name, secret(key).text_bytes());
        let hello = client.hello_bytes(Auth::Key(KeyId(1)), START);
        world.receive(client.connection, &hello);
        world.settle();
        client.read(world);
        (client, hello)
    };
    let (mut sender, hello) = greet(world, SENDER, 1);
    let mut sends = Overheard {
        hello,
        frames: Vec::new(),
    };
    for number in 0..FRAMES {
        let frame = sender.send(&[&number.to_le_bytes()]);
        assert_eq!(acks(&sender.exchange(world, &frame)), [number + 1]);
        sends.frames.push(frame);
    }
    let (mut relay, hello) = greet(world, RELAY, 3);
    let mut relays = Overheard {
        hello,
        frames: Vec::new(),
    };
    let mut envelopes = Vec::new();
    for number in 1..=ENVELOPES {
        let (hmac, ed25519) = (secret(4), signing_key());
        let signer = match number % 16 {
            0 => Signer::Ed25519 {
                id: KeyId(2),
                key: &ed25519,
            },
            _ => Signer::Key {
                id: KeyId(1),
                key: hmac.mac(),
            },
        };
        let inner = envelope(number, signer, &[&number.to_le_bytes()]);
        let frame = relay.relay(number, &inner);
        relay.exchange(world, &frame);
        envelopes.push(inner);
        relays.frames.push(frame);
    }
    assert_eq!(world.shard.counters().append.frames, FRAMES + ENVELOPES);
    Tape {
        sends,
        relays,
        envelopes,
    }
}

#[test]
fn nothing_that_is_said_again_is_appended_twice() {
    let wanted = number("FOREBAY_REPLAYS", 20_000);
    let seed = number("FOREBAY_REPLAY_SEED", 1);
    let mut random = Rng::with_seed(seed);
    let mut world = World::with_ack(AckMode::Durable);
    let tape = record(&mut world);
    let appended = end(&world);
    let mut counts = [0u64; 6];
    let mut again = 0;
    while counts.iter().sum::<u64>() < wanted {
        let kind = random.usize(..counts.len());
        counts[kind] += match kind {
            0 => whole_connection(&mut world, &tape, &mut random),
            1 => inside_the_session(&mut world, &mut random, &mut again),
            2 => in_another_session(&mut world, &tape, &mut random, RELAY, 3),
            3 => in_another_session(&mut world, &tape, &mut random, SENDER, 1),
            4 => envelopes(&mut world, &tape, &mut random),
            _ => {
                let disk = world.disk.crash(Crash::Kept);
                world = World::on(disk, Setup::new(AckMode::Durable));
                // Nonces do not outlive the process: HELLO is answered, but no frame fits the new session.
                (0..8)
                    .map(|_| whole_connection(&mut world, &tape, &mut random))
                    .sum()
            }
        };
        assert_eq!(end(&world), appended + again, "seed {seed}, {counts:?}");
    }
    eprintln!(
        "{} replays: {} of whole connections, {} inside the session, {} and {} in other sessions, {} of envelopes, \
         {} after a restart; 0 appended twice; again with FOREBAY_REPLAYS={wanted} FOREBAY_REPLAY_SEED={seed} cargo test \
         -p forebay-shard --test torture said_again",
        counts.iter().sum::<u64>(),
        counts[0],
        counts[1],
        counts[2],
        counts[3],
        counts[4],
        counts[5]
    );
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// Messages in the log.
fn end(world: &World) -> u64 {
    let partitions = world.shard.partitions();
    partitions.map(|log| log.appended().0).sum()
}

/// Preface, HELLO and what followed, as it was overheard, on a connection of the attacker's.
fn whole_connection(world: &mut World, tape: &Tape, random: &mut Rng) -> u64 {
    let tape = match random.bool() {
        true => &tape.sends,
        false => &tape.relays,
    };
    let connection = world.open();
    world.receive(connection, &tape.hello);
    let first = random.usize(..tape.frames.len());
    let frames = tape.frames[first..].iter().take(14);
    let count = frames.len() as u64;
    frames.for_each(|frame| world.receive(connection, frame));
    finish(world, connection);
    count + 1
}

/// Frames of a session are said again in it: at once, later, and after others.
fn inside_the_session(world: &mut World, random: &mut Rng, appended: &mut u64) -> u64 {
    let mut client = Client::connect(world, SENDER, 1);
    let frames: Vec<_> = (0..3).map(|_| client.send(&[b"inside"])).collect();
    frames
        .iter()
        .for_each(|frame| world.receive(client.connection, frame));
    world.settle();
    *appended += frames.len() as u64;
    let count = random.u64(1..15);
    for _ in 0..count {
        world.receive(client.connection, &frames[random.usize(..frames.len())]);
    }
    finish(world, client.connection);
    count
}

/// Frames of one session are said in another one.
fn in_another_session(
    world: &mut World,
    tape: &Tape,
    random: &mut Rng,
    name: &str,
    key: u8,
) -> u64 {
    let client = Client::connect(world, name, key);
    let frames = tape.sends.frames.iter().chain(&tape.relays.frames);
    let frames: Vec<_> = frames.collect();
    let count = random.u64(1..15);
    for _ in 0..count {
        world.receive(client.connection, frames[random.usize(..frames.len())]);
    }
    finish(world, client.connection);
    count
}

/// A relay carries envelopes again, inside the replay window and below it.
fn envelopes(world: &mut World, tape: &Tape, random: &mut Rng) -> u64 {
    let mut relay = Client::connect(world, RELAY, 3);
    let count = random.u64(1..200);
    for number in 1..=count {
        let inner = &tape.envelopes[random.usize(..tape.envelopes.len())];
        let frame = relay.relay(number, inner);
        world.receive(relay.connection, &frame);
    }
    world.settle();
    let answered = acks(&relay.read(world)).last().copied();
    assert_eq!(answered, Some(count), "every one is answered");
    finish(world, relay.connection);
    count
}

fn finish(world: &mut World, connection: shard::ConnectionId) {
    world.settle();
    world.cut(connection);
    world.settle();
    world.take_said(connection);
}

#[test]
fn numbers_in_any_order_and_any_number_of_times_are_appended_once_and_in_order() {
    for seed in 0..20 {
        let mut random = Rng::with_seed(seed);
        let mut world = World::with_ack(AckMode::Durable);
        let mut client = Client::connect(&mut world, SENDER, 1);
        for _ in 0..300 {
            let next = end(&world) + 1;
            let number = random.u64(next.saturating_sub(3).max(1)..next + 3);
            let frame = client.send_number(number, &[&number.to_le_bytes()]);
            world.receive(client.connection, &frame);
            if random.bool() {
                world.settle();
            }
            if random.u8(..20) == 0 {
                world.cut(client.connection);
                world.settle();
                client = Client::connect(&mut world, SENDER, 1);
            }
        }
        world.settle();
        let log = world.shard.partitions().next().unwrap();
        let records = log.records_from(log.first()).map(Result::unwrap);
        let numbers: Vec<u64> = records
            .filter(|record| record.kind() == partition::RecordKind::Frame)
            .map(|record| record.sequence().0)
            .collect();
        let want: Vec<u64> = (1..=end(&world)).collect();
        assert_eq!(numbers, want, "seed {seed}");
        assert!(want.len() > 20, "seed {seed}: too tame, {}", want.len());
    }
}
