//! Bounds for peers that anybody can be: connections without a proven peer, connections of one address, PINGs.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use shard::ConnectionId;
use support::*;
use wire::handshake::Auth;
use wire::ids::*;
use wire::preface::Preface;
use wire::reason::Reason;

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
