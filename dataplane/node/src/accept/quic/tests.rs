//! The adaptation against a client of `quinn-proto`, in memory: no socket, no clock. The network loses, repeats, delays, cuts and
//! garbles datagrams as a seed says, and the client moves to other addresses in between.
//!
//! `FOREBAY_QUIC_SEEDS=1000 cargo test -p forebay-node --lib quic` plays more seeds, `FOREBAY_QUIC_SEED=7` one of them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use quinn_proto::VarInt;

use super::Quic;
use super::admission::AdmissionLimits;
use super::leaving::TRAIN_BYTES_MAX;
use super::script;
use super::settings::QuicLimits;
use super::streams::Wanted;
use super::world::{SECRETS, Trust, Weather, World};

mod attacker;
mod attacks;
mod ends;
mod resumed;
mod spoofed;
mod strangers;
mod windows;

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    match number("FOREBAY_QUIC_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("FOREBAY_QUIC_SEEDS").unwrap_or(default)).collect(),
    }
}

fn told(world: &World, seed: u64) -> String {
    let (talks, lost) = (&world.client.talks, &world.client.lost);
    let heard: Vec<(usize, usize, bool)> = talks
        .iter()
        .map(|talk| (talk.said, talk.heard.len(), talk.finished))
        .collect();
    format!(
        "seed {seed} after {:?}: lost {lost:?}, lanes {heard:?}, {:?}; FOREBAY_QUIC_SEED={seed} cargo test -p forebay-node --lib quic",
        world.now - world.began,
        world.quic.counters()
    )
}

/// Everything said comes back, each lane in its order, and nothing is left over at the end.
fn converse(trust: &Trust, weather: Weather, seed: u64, (lanes, bytes): (usize, usize)) -> World {
    let mut world = World::new(trust, QuicLimits::default(), weather, seed);
    let connected = world.run(Duration::from_secs(25), |world| {
        world.client.connected || world.client.lost.is_some()
    });
    assert!(
        connected && world.client.connected,
        "no handshake: {}",
        told(&world, seed)
    );
    world.talk(lanes, bytes);
    let over = |world: &World| world.client.talks.iter().all(|talk| talk.finished);
    let ended = world.run(Duration::from_secs(600), over);
    assert!(ended, "{}", told(&world, seed));
    for talk in &world.client.talks {
        assert!(
            talk.heard == talk.says,
            "other bytes: {}",
            told(&world, seed)
        );
    }
    world
}

#[test]
fn lanes_carry_their_bytes_whole_and_in_order_however_bad_the_network_is() {
    let trust = Trust::new();
    let seeds = seeds(40);
    let (tries, mut given_up) = (seeds.len(), 0);
    for seed in seeds {
        let mut rng = Rng::with_seed(seed);
        // Up to 30 of 100 datagrams lost, or garbled, or some of each.
        let (lost, garbled) = match rng.u8(..3) {
            0 => (rng.u8(0..=30), 0),
            1 => (0, rng.u8(0..=30)),
            _ => (rng.u8(0..=15), rng.u8(0..=15)),
        };
        let weather = Weather {
            lost,
            garbled,
            cut: rng.u8(0..=2),
            repeated: rng.u8(0..=30),
            late: Duration::from_millis(rng.u64(0..40)),
            moves_after: rng.bool().then(|| rng.u32(20..200)),
        };
        // Whoever tries so rarely after many losses is not to be given up.
        let limits = QuicLimits {
            idle: Duration::from_secs(600),
            unused: Duration::from_secs(600),
            ..QuicLimits::default()
        };
        let mut world = World::new(&trust, limits, weather, seed);
        let begun = |world: &World| world.client.connected || world.client.lost.is_some();
        world.run(Duration::from_secs(60), begun);
        if !world.client.connected {
            // One garbled packet can end a handshake, by another version, say; that has to be rare, and the next try is another one.
            assert!(weather.lost + weather.garbled > 0, "{}", told(&world, seed));
            given_up += 1;
            continue;
        }
        world.talk(rng.usize(1..9), rng.usize(1..60_000));
        let over = |world: &World| {
            world.client.lost.is_some() || world.client.talks.iter().all(|talk| talk.finished)
        };
        assert!(
            world.run(Duration::from_secs(3_600), over),
            "{}",
            told(&world, seed)
        );
        if world.quic.counters().connected == 0 {
            given_up += 1;
            continue;
        }
        assert_eq!(world.client.lost, None, "{}", told(&world, seed));
        for talk in &world.client.talks {
            assert!(
                talk.heard == talk.says,
                "other bytes: {}",
                told(&world, seed)
            );
        }
    }
    assert!(
        20 * given_up <= tries,
        "{given_up} handshakes of {tries} were given up"
    );
}

#[test]
fn a_train_is_never_longer_than_a_message_of_udp() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(2, 4 << 20);
    let over = |world: &World| world.client.talks.iter().all(|talk| talk.finished);
    assert!(world.run(Duration::from_secs(600), over));
    let (bytes, datagrams) = world.longest;
    println!("the longest train: {datagrams} datagrams, {bytes} bytes");
    assert!(datagrams > 20, "the node never had much to say");
    assert!(bytes <= TRAIN_BYTES_MAX);
}

#[test]
fn lanes_belong_to_the_address_of_the_handshake_wherever_later_datagrams_say_they_come_from() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    let proven = world.client.address;
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(1, 1);
    assert!(world.run(Duration::from_secs(5), |world| world.addresses.len() == 1));
    world.client.address = SocketAddr::from(([203, 0, 113, 9], 9));
    world.talk(1, 1);
    assert!(world.run(Duration::from_secs(5), |world| world.addresses.len() == 2));
    assert_eq!(world.addresses, [proven; 2]);
}

#[test]
fn a_conversation_over_leaves_nothing_behind() {
    let trust = Trust::new();
    let mut world = converse(&trust, Weather::default(), 1, (5, 100_000));
    let code = VarInt::from_u32(0);
    world.client.connection.close(world.now, code, Bytes::new());
    let gone = world.run(Duration::from_secs(60), |world| {
        world.quic.counters().connections == 0
    });
    assert!(gone, "{}", told(&world, 1));
    let counters = world.quic.counters();
    assert_eq!((counters.lanes, counters.handshaking), (0, 0));
    assert_eq!((counters.lanes_opened, counters.connections_ended), (5, 1));
    assert_eq!(world.quic.wake_at(), None, "no timer is left");
    assert_eq!(world.closed.len(), 5, "each lane's end was told once");
    assert_eq!(world.lanes.values().sum::<usize>(), 500_000);
}

#[test]
fn both_ends_export_the_same_value_which_no_other_connection_has() {
    let trust = Trust::new();
    let mut seen = Vec::new();
    for seed in 0..2 {
        let world = converse(&trust, Weather::default(), seed, (2, 10));
        let mut exported = [0; 32];
        let session = world.client.connection.crypto_session();
        let done =
            session.export_keying_material(&mut exported, b"EXPORTER-forebay-session-1", b"");
        done.expect("32 bytes");
        assert_eq!(world.exporters, [exported; 2]);
        seen.push(exported);
    }
    assert_ne!(seen[0], seen[1]);
}

#[test]
fn a_client_of_another_protocol_is_refused_and_forgotten() {
    let trust = Trust::new();
    let limits = QuicLimits::default();
    let mut world = World::with_alpn(&trust, limits, Weather::default(), 1, b"h3");
    let refused = world.run(Duration::from_secs(30), |world| world.client.lost.is_some());
    assert!(refused && !world.client.connected, "{}", told(&world, 1));
    let gone = world.run(Duration::from_secs(60), |world| {
        world.quic.counters().connections == 0
    });
    assert!(gone && world.lanes.is_empty(), "{}", told(&world, 1));
}

#[test]
fn a_lane_that_is_not_read_stops_its_client_at_its_window_and_no_other_lane() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    world.wanted = Wanted::Later;
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(1, 4 << 20);
    world.run(Duration::from_secs(5), |_| false);
    let said = world.client.talks[0].said;
    assert!(
        world
            .lanes
            .keys()
            .all(|lane| world.quic.waiting().any(|id| id == *lane)),
        "nobody is told that it waits"
    );
    // Its own send buffer takes more than the server's window.
    let sent = world.up_bytes;
    assert!(
        sent < 300 << 10,
        "{sent} bytes went to a server that reads nothing, {said} were taken"
    );
    world.wanted = Wanted::Known;
    let over = world.run(Duration::from_secs(600), |world| {
        world.client.talks[0].finished
    });
    assert!(over, "{}", told(&world, 1));
}

#[test]
fn a_node_that_began_again_tells_clients_of_before_that_nothing_is_left_and_no_other_node_does() {
    let trust = Trust::new();
    let other = [SECRETS[0], b"that of another folder"];
    for (secrets, heard) in [(SECRETS, true), (other, false)] {
        let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
        assert!(world.run(Duration::from_secs(5), |world| {
            world.quic.counters().connected == 1
        }));
        world.talk(1, 1_000);
        assert!(world.run(Duration::from_secs(5), |world| {
            world.client.talks[0].heard.len() == 1_000
        }));
        // As after a kill: nothing is known any more, but the secrets are the same, or the certificate's alone.
        let settings = trust.settings_of(QuicLimits::default(), secrets);
        world.quic = Quic::new(settings, (1, 4), 100, None);
        world.talk(1, 1_000);
        let told = world.run(Duration::from_secs(5), |world| world.client.lost.is_some());
        assert_eq!(told, heard, "{}", self::told(&world, 1));
        let reset = heard.then_some("reset by peer");
        assert_eq!(world.client.lost.as_deref(), reset);
        assert_eq!(world.quic.counters().connections, 0);
    }
}

/// Wide bounds, four shards of which this is the second, and a client that is there and has opened a lane.
const BEGUN: [u8; 13] = [3, 7, 5, 1, 4, 2, 3, 3, 3, 1, 1, 0, 0];

#[test]
fn scripts_that_fuzzing_begins_with_do_what_their_names_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/quic");
    // What comes behind the beginning, and lanes and their bytes in the end.
    let scripts: [(&str, &[u8], (u64, u64)); 6] = [
        (
            "a-conversation",
            &[25, 0, 100, 0, 0, 0, 29, 0, 200, 0, 0, 27, 0, 0, 0, 0, 0],
            (1, 100),
        ),
        (
            "a-client-that-moves",
            &[25, 0, 100, 0, 0, 0, 28, 0, 1, 0, 25, 0, 50, 0, 0, 0, 0],
            (1, 150),
        ),
        (
            "a-lane-that-is-reset",
            &[
                25, 0, 100, 0, 0, 0, 27, 0, 1, 0, 0, 24, 0, 25, 1, 9, 0, 0, 0,
            ],
            (2, 109),
        ),
        (
            "a-thief-is-first",
            &[25, 0, 100, 0, 0, 11, 17, 2, 0, 0, 0],
            (1, 100),
        ),
        (
            "a-train-cut-elsewhere",
            &[25, 0, 100, 0, 0, 11, 19, 7, 0, 10, 4, 0, 0],
            (1, 100),
        ),
        (
            "a-node-that-stops",
            &[25, 0, 100, 0, 0, 0, 31, 1, 0],
            (1, 100),
        ),
    ];
    for (name, rest, want) in scripts {
        let script = [&BEGUN[..], rest].concat();
        let path = folder.join(name);
        if std::env::var_os("FOREBAY_BLESS").is_some() {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
            std::fs::write(&path, &script).expect("the script can be written");
        }
        let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(stored, script, "{name}");
        let outcome = script::play(&stored);
        assert_eq!(
            (outcome.lanes, outcome.lane_bytes),
            want,
            "{name}: {outcome:?}"
        );
        assert_eq!(outcome.connected, 1, "{name}");
    }
}

/// Random scripts of an ordinary run; `FOREBAY_QUIC_SCRIPTS=100000 cargo test -p forebay-node --lib scripts` plays more.
const SCRIPTS: u64 = 200;

#[test]
fn whatever_scripts_of_any_bytes_do_bounds_hold_and_nothing_is_left() {
    let set = std::env::var("FOREBAY_QUIC_SCRIPTS").ok();
    let count = set.map_or(SCRIPTS, |text| text.parse().expect("a number"));
    let mut all = script::Outcome::default();
    for seed in 0..count {
        let mut random = Rng::with_seed(seed);
        let script: Vec<u8> = (0..random.usize(20..2_000))
            .map(|_| random.u8(..))
            .collect();
        let played = std::panic::catch_unwind(|| script::play(&script));
        let one = played.unwrap_or_else(|cause| {
            eprintln!("seed {seed} fails: {script:?}");
            std::panic::resume_unwind(cause)
        });
        all.connected += one.connected;
        all.lanes += one.lanes;
        all.lane_bytes += one.lane_bytes;
        all.datagrams += one.datagrams;
        all.dropped += one.dropped;
        all.retries += one.retries;
    }
    println!(
        "{count} scripts: {all:?}; replay with FOREBAY_QUIC_SCRIPTS=<seed + 1> cargo test -p forebay-node --lib scripts"
    );
    assert!(all.connected > count / 4 && all.lanes > count / 3 && all.retries > 0);
}

#[test]
fn the_kernel_gives_a_datagram_to_the_shard_that_does_not_find_it_astray() {
    let mut random = Rng::with_seed(1);
    for _ in 0..5_000 {
        let bytes: Vec<u8> = (0..random.usize(..12)).map(|_| random.u8(..)).collect();
        script::steering(&bytes);
    }
}
