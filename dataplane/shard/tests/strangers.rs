//! Bounds for peers that anybody can be: connections without a proven peer, connections of one address, PINGs.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use shard::{BanLimits, Barred, ConnectionId};
use support::*;
use wire::handshake::Auth;
use wire::ids::*;
use wire::preface::Preface;
use wire::reason::{Notice, Reason};

/// A world with few places.
fn narrow() -> World {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.strangers_max = 4;
    setup.limits.connections_per_address_max = 3;
    setup.limits.pings_per_second = 10;
    World::new(setup)
}

/// A connection from an address, that says only its preface.
fn knock(world: &mut World, peer: &str, number: u8) -> ConnectionId {
    let peer: SocketAddr = peer.parse().unwrap();
    let connection = world.open_from(peer, [number; 48]);
    world.receive(connection, &Preface::CLIENT.encode());
    connection
}

/// The reason told on a connection without a session.
fn told(world: &mut World, connection: ConnectionId) -> Reason {
    let said = world.take_said(connection);
    let (frame, _) = wire::frame::split(&said[8..]).unwrap().unwrap();
    wire::link::parse_goaway(frame).unwrap().reason
}

#[test]
fn the_stranger_who_came_first_makes_room_and_a_client_that_says_hello_is_none() {
    let mut world = narrow();
    let mut client = Client::connect(&mut world, SENDER, 1);
    let all: Vec<_> = (0..6)
        .map(|at| knock(&mut world, &format!("10.0.0.{at}:9"), at))
        .collect();
    world.turn();
    assert_eq!(world.shard.strangers(), 4);
    for (at, connection) in all.iter().enumerate() {
        assert_eq!(world.closed(*connection), at < 2, "connection {at}");
    }
    assert_eq!(told(&mut world, all[0]), Reason::HandshakeTimeout);
    let counters = world.shard.counters();
    assert_eq!(counters.accept.strangers_crowded_out, 2);
    assert_eq!(counters.of(Reason::HandshakeTimeout), 2);
    // Whoever comes now and says HELLO gets in, and who is in is not touched.
    let mut late = Client::connect(&mut world, RECEIVER, 2);
    for client in [&mut client, &mut late] {
        let ping = client.ping(7);
        let said = client.exchange(&mut world, &ping);
        assert_eq!(said, [Said::Pong(Sequence(7))]);
    }
}

#[test]
fn one_address_has_its_share_of_connections_and_no_more_and_others_have_theirs() {
    let mut world = narrow();
    let cases = [
        ("three of one", "10.9.9.9:1", false),
        ("three of one", "10.9.9.9:2", false),
        ("three of one", "10.9.9.9:3", false),
        ("a fourth", "10.9.9.9:4", true),
        ("the same, written as IPv6", "[::ffff:10.9.9.9]:5", true),
        ("another", "10.9.9.8:1", false),
    ];
    for (at, (why, peer, refused)) in cases.into_iter().enumerate() {
        let connection = knock(&mut world, peer, at as u8);
        world.turn();
        assert_eq!(world.closed(connection), refused, "{why}");
        if refused {
            assert_eq!(
                told(&mut world, connection),
                Reason::AddressCrowded,
                "{why}"
            );
        }
    }
    assert_eq!(world.shard.counters().accept.addresses_crowded, 2);
}

#[test]
fn an_address_gets_its_places_back_when_its_connections_are_gone() {
    let mut world = narrow();
    for round in 0..20 {
        let three: Vec<_> = (0..3)
            .map(|at| knock(&mut world, &format!("[2001:db8::{at}]:1"), at))
            .collect();
        world.turn();
        for connection in three {
            assert!(!world.closed(connection), "round {round}");
            world.cut(connection);
        }
        world.turn();
        assert_eq!(world.shard.strangers(), 0, "round {round}");
    }
    assert_eq!(world.shard.counters().accept.addresses_crowded, 0);
}

#[test]
fn this_machine_has_no_bound_of_its_own() {
    let mut world = narrow();
    for at in 0..4 {
        let connection = knock(&mut world, &format!("127.0.0.1:{at}"), at);
        world.turn();
        assert!(!world.closed(connection), "{at}");
    }
}

/// A world that bans who comes or fails more than a few times in ten seconds.
fn strict() -> World {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.bans = BanLimits {
        address_connections_max: 6,
        address_failures_max: 3,
        longest: Duration::from_secs(60),
        ..BanLimits::default()
    };
    World::new(setup)
}

/// The notice told on a connection without a session.
fn notice(world: &mut World, connection: ConnectionId) -> Notice {
    let said = world.take_said(connection);
    let (frame, _) = wire::frame::split(&said[8..]).unwrap().unwrap();
    wire::link::parse_goaway(frame).unwrap()
}

/// Connect and go, so many times. Returns how often the address was let in before it was not.
fn flap(world: &mut World, peer: &str, times: usize) -> usize {
    for at in 0..times {
        let connection = knock(world, peer, at as u8);
        world.turn();
        if world.closed(connection) {
            return at;
        }
        world.cut(connection);
        world.turn();
    }
    times
}

#[test]
fn an_address_that_comes_and_goes_is_kept_out_for_a_while_that_doubles_and_others_are_not() {
    let mut world = strict();
    let mut lasted = Vec::new();
    for _ in 0..8 {
        assert_eq!(flap(&mut world, "10.7.7.7:1", 20), 6);
        let banned = world.shard.banned(10);
        let [ban] = &banned[..] else {
            panic!("{banned:?}")
        };
        assert_eq!(ban.who, Barred::Address("10.7.7.7".parse().unwrap()));
        assert_eq!(ban.bans as usize, lasted.len() + 1);
        lasted.push(ban.lasts.as_secs());
        assert_eq!(flap(&mut world, "10.7.7.8:1", 1), 1, "another address");
        world.pass(ban.left - Duration::from_millis(1));
        let late = knock(&mut world, "10.7.7.7:2", 9);
        world.turn();
        let told = notice(&mut world, late);
        assert_eq!(
            (told.reason, told.retry_after_ms),
            (Reason::AddressBanned, 1)
        );
        world.pass(Duration::from_millis(1));
        world.turn();
        assert_eq!(world.shard.banned(10), []);
    }
    assert_eq!(lasted, [1, 2, 4, 8, 16, 32, 60, 60]);
    let shed = &world.shard.counters().shed;
    assert_eq!((shed.address_bans, shed.banned_addresses), (8, 16));
    assert_eq!(world.shard.counters().of(Reason::AddressBanned), 16);
}

#[test]
fn an_address_whose_handshakes_fail_is_kept_out_and_whose_succeed_is_not() {
    let mut world = strict();
    for at in 0..4 {
        let peer = "10.6.6.6:1".parse().unwrap();
        let mut client = Client::new(&mut world, SENDER, secret(9).text_bytes());
        world.cut(client.connection);
        client.connection = world.open_from(peer, [at; 48]);
        let hello = client.hello_bytes(Auth::Key(KeyId(1)), 0);
        let said = client.exchange(&mut world, &hello);
        assert_eq!(reason(&said), Reason::BadCredential, "{at}");
        world.cut(client.connection);
        world.turn();
    }
    let late = knock(&mut world, "10.6.6.6:9", 9);
    world.turn();
    assert_eq!(notice(&mut world, late).reason, Reason::AddressBanned);
    assert_eq!(flap(&mut world, "10.6.6.5:1", 5), 5);
}

#[test]
fn a_key_that_opens_session_after_session_is_kept_out_and_only_who_has_it_can_do_that() {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.bans.key_sessions_max = 4;
    let mut world = World::new(setup);
    let try_in = |world: &mut World, number: u8, key: &str| {
        let peer = format!("10.5.{number}.1:1").parse().unwrap();
        let mut client = Client::new(world, key, secret(1).text_bytes());
        world.cut(client.connection);
        client.connection = world.open_from(peer, [number; 48]);
        client.nonce = [0; 32];
        client.nonce[0] = number;
        let hello = client.hello_bytes(Auth::Key(KeyId(1)), 0);
        let said = client.exchange(world, &hello);
        world.cut(client.connection);
        world.turn();
        said
    };
    for at in 0..20 {
        // In the name of another, without its key.
        let said = try_in(&mut world, at, RELAY);
        assert_eq!(reason(&said), Reason::BadCredential, "{at}");
    }
    for at in 20..24 {
        let said = try_in(&mut world, at, SENDER);
        assert!(matches!(said[1], Said::Welcome(..)), "{at}: {said:?}");
    }
    let said = try_in(&mut world, 24, SENDER);
    let [_, Said::Refused(told)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        (told.reason, told.retry_after_ms),
        (Reason::KeyBanned, 1_000)
    );
    let banned: Vec<Barred> = (world.shard.banned(10).iter()).map(|ban| ban.who).collect();
    assert_eq!(banned, [Barred::Key(EndpointId::of(SENDER), KeyId(1))]);
    Client::connect(&mut world, RELAY, 3);
    world.pass(Duration::from_secs(1));
    let said = try_in(&mut world, 25, SENDER);
    assert!(
        matches!(said[1], Said::Welcome(..)),
        "the ban is over: {said:?}"
    );
    let shed = &world.shard.counters().shed;
    assert_eq!((shed.key_bans, shed.banned_keys), (1, 1));
}

#[test]
fn this_machine_is_kept_out_only_where_it_is_counted() {
    for (exempt, let_in) in [(true, 30), (false, 6)] {
        let mut setup = Setup::new(AckMode::Local);
        setup.limits.bans.address_connections_max = 6;
        setup.limits.loopback_exempt = exempt;
        let mut world = World::new(setup);
        assert_eq!(flap(&mut world, "127.0.0.1:1", 30), let_in);
    }
}

#[test]
fn so_many_connections_come_in_a_second_and_at_once_after_a_pause_and_no_more() {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.accepts_per_second = 10;
    let mut world = World::new(setup);
    let burst = |world: &mut World, count: u8| {
        let all: Vec<_> = (0..count)
            .map(|at| knock(world, &format!("10.4.4.{at}:1"), at))
            .collect();
        world.turn();
        let refused: Vec<_> = all
            .iter()
            .filter(|id| world.closed(**id))
            .copied()
            .collect();
        refused.first().map_or((0, 0), |first| {
            let told = notice(world, *first);
            assert_eq!((told.reason, told.needed), (Reason::AcceptsLimited, 10));
            (refused.len(), told.retry_after_ms)
        })
    };
    assert_eq!(burst(&mut world, 12), (2, 100));
    world.pass(Duration::from_millis(500));
    assert_eq!(burst(&mut world, 5), (0, 0));
    assert_eq!(burst(&mut world, 1), (1, 100));
    assert_eq!(world.shard.counters().shed.accepts, 3);
}

#[test]
fn pings_are_answered_at_their_rate_and_more_end_the_connection_with_the_reason() {
    let mut world = narrow();
    let mut client = Client::new(&mut world, SENDER, secret(1).text_bytes());
    client.greet(&mut world, Auth::Key(KeyId(1)));
    let mut burst = |world: &mut World, count: u64| {
        let pings: Vec<u8> = (0..count).flat_map(|at| client.ping(at)).collect();
        client.exchange(world, &pings)
    };
    assert_eq!(burst(&mut world, 10).len(), 10, "after a pause");
    for second in 0..5 {
        world.pass(Duration::from_secs(1));
        assert_eq!(burst(&mut world, 10).len(), 10, "second {second}");
    }
    world.pass(Duration::from_millis(500));
    let said = burst(&mut world, 9);
    assert_eq!(said.len(), 6, "five are paid for: {said:?}");
    assert_eq!(reason(&said[5..]), Reason::TooManyPings);
    assert!(world.closed(client.connection));
    assert_eq!(world.shard.counters().of(Reason::TooManyPings), 1);
}
