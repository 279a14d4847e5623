//! A client that is known says that it is elsewhere: where nobody has proven to be is sent three times as much as came from there at most, and
//! a client that really is there is found.

use std::collections::HashMap;

use super::super::world::arrival;
use super::attacker::{Attacker, frame, stream};
use super::*;

/// Bytes that came from each address but the client's own, and that went there.
#[derive(Default)]
struct Books(HashMap<SocketAddr, (usize, usize)>);

/// Hand the node a datagram, and let it answer everybody.
fn give(world: &mut World, books: &mut Books, from: SocketAddr, bytes: &[u8]) {
    world
        .quic
        .receive(world.now, &arrival(from, bytes.len()), bytes);
    books.0.entry(from).or_default().0 += bytes.len();
    turn(world, books);
}

fn turn(world: &mut World, books: &mut Books) {
    world.quic.pass_time(world.now, |_| true);
    world.quic.settle(world.now);
    world
        .quic
        .transmit(world.now, 16, Vec::new, |transmit, bytes| {
            books.0.entry(transmit.destination).or_default().1 += bytes.len();
            Ok(())
        });
}

#[test]
fn an_address_that_a_known_client_makes_up_is_sent_three_times_what_came_from_it_at_most() {
    let trust = Trust::new();
    type Says = fn(&mut Attacker, u64) -> Vec<u8>;
    let says: [(&str, Says); 4] = [
        ("a ping", |_, _| vec![1]),
        ("a challenge", |_, at| frame(0x1A, &[], &at.to_be_bytes())),
        ("bytes of a lane", |_, at| stream(0, 5 + at, b"x")),
        ("a lane and its end", |_, at| {
            [
                stream(4 * at + 4, 0, b"x"),
                frame(4, &[4 * at + 4, 0, 1], b""),
            ]
            .concat()
        }),
    ];
    for (what, says) in says {
        // One made up address, a few in turn, many; with and without much from the client's own meanwhile.
        for (others, own) in [(1, false), (1, true), (3, true), (200, false), (200, true)] {
            let limits = QuicLimits::default();
            let mut world = World::new(&trust, limits, Weather::default(), 1);
            let home = SocketAddr::from(([203, 0, 113, 66], 66));
            let mut attacker = Attacker::connect(&mut world, &trust, home);
            let mut books = Books::default();
            let hello = attacker.say(stream(0, 0, b"hello"));
            give(&mut world, &mut books, home, &hello);
            // The node has much to say to it.
            world.quic.tell(&mut world.told);
            let lane = world.told.opened[0].id;
            world.quic.send(world.now, lane, vec![7; 200_000]);
            for at in 0..400 {
                let said = says(&mut attacker, at);
                let packet = attacker.say(said);
                let made_up = SocketAddr::from(([198, 18, 0, (at % others) as u8], 9));
                give(&mut world, &mut books, made_up, &packet);
                if own && at % 3 == 0 {
                    let packet = attacker.say(vec![0; 1_100]);
                    give(&mut world, &mut books, home, &packet);
                }
                world.now += Duration::from_millis(20);
                turn(&mut world, &mut books);
                for (address, (came, went)) in &books.0 {
                    assert!(
                        went <= &(3 * came) || *address == home,
                        "{what} {at}, {others} addresses, own {own}: {came} bytes from {address} brought {went}; {:?}",
                        world.quic.counters()
                    );
                }
            }
            let counters = world.quic.counters();
            assert!(counters.datagrams_held_back > 0, "{what}: {counters:?}");
        }
    }
}

#[test]
fn a_client_that_is_elsewhere_and_says_little_is_found_there() {
    let trust = Trust::new();
    for there in [([198, 51, 100, 7], 4001), ([203, 0, 113, 9], 9)] {
        let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
        assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
        world.talk(1, 100);
        assert!(world.run(Duration::from_secs(5), |world| {
            world.client.talks[0].finished
        }));
        world.run(Duration::from_secs(1), |_| false);
        let (moved, before) = (world.now, world.down_bytes);
        // Nobody is where it was.
        world.apart = Some(world.client.address);
        world.client.address = SocketAddr::from(there);
        // An empty packet with a PING: nothing is shorter.
        world.client.connection.ping();
        world.talk(1, 50_000);
        let over = |world: &World| world.client.talks.iter().all(|talk| talk.finished);
        assert!(
            world.run(Duration::from_secs(600), over),
            "{}",
            told(&world, 1)
        );
        println!(
            "{there:?}: all is said {:?} later, {} bytes",
            world.now - moved,
            world.down_bytes - before
        );
        assert!(
            world.now - moved < Duration::from_secs(30),
            "{}",
            told(&world, 1)
        );
        // One that sends nothing but signs of life.
        world.apart = Some(world.client.address);
        world.client.address.set_port(5000);
        let (moved, held) = (world.now, world.quic.counters().datagrams_held_back);
        let (up, down) = (world.up_bytes, world.down_bytes);
        let challenged = world.client.connection.stats().frame_rx.path_challenge;
        world.client.connection.ping();
        let found = world.run(Duration::from_secs(120), |world| {
            let peers = world.quic.peers.iter().flatten();
            peers
                .into_iter()
                .all(|peer| peer.addresses.is_proven(world.client.address))
        });
        assert!(found, "{}", told(&world, 1));
        let (up, down) = (world.up_bytes - up, world.down_bytes - down);
        let challenges = world.client.connection.stats().frame_rx.path_challenge - challenged;
        println!(
            "a ping alone: found {:?} later, {up} bytes from it, {down} to it, {challenges} challenges",
            world.now - moved
        );
        assert!(challenges > 0, "it was believed");
        assert!(
            world.quic.counters().datagrams_held_back > held,
            "34 bytes allow no challenge"
        );
    }
}
