//! Every way in which a shard turns away a peer: its HELLO, its framing, its silence.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use support::*;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;
use wire::route::*;
use wire::token::mint;

type Change = fn(&mut Setup);
type MakeHello = Box<dyn Fn(&mut Client) -> Vec<u8>>;

/// A HELLO to a world that was changed, and what it is refused with.
fn refuse_hello(change: Change, hello: impl Fn(&mut Client) -> Vec<u8>) -> Reason {
    let mut setup = Setup::new(AckMode::Local);
    change(&mut setup);
    let mut world = World::new(setup);
    let mut client = Client::new(&mut world, SENDER, secret(1).text_bytes());
    let bytes = hello(&mut client);
    let said = client.exchange(&mut world, &bytes);
    assert!(world.closed(client.connection), "a refused connection ends");
    assert_eq!(world.shard.sessions(), 0);
    reason(&said)
}

fn sender_key(setup: &mut Setup) -> &mut Key {
    &mut endpoint_in(&mut setup.parts, SENDER).keys[0]
}

fn token(name: &str, number: u8, expiry: u64, key_name: &str) -> String {
    mint(
        secret(number).mac(),
        &format!("sb://forebay/{name}"),
        expiry,
        key_name,
    )
}

fn hello_with_token(client: &mut Client, text: &str) -> Vec<u8> {
    let parsed = wire::token::Token::parse(text).unwrap();
    client.secret = parsed.expected_signature(secret(1).mac()).to_vec();
    client.hello_bytes(Auth::Token(text), 0)
}

#[test]
fn hello_is_refused_by_name() {
    let as_is: Change = |_| {};
    let plain = |client: &mut Client| client.hello_bytes(Auth::Key(KeyId(1)), 0);
    let cases: Vec<(&str, Change, MakeHello, Reason)> = vec![
        (
            "wrong key",
            as_is,
            Box::new(|client| {
                client.secret = secret(9).text_bytes().to_vec();
                client.hello_bytes(Auth::Key(KeyId(1)), 0)
            }),
            Reason::BadCredential,
        ),
        (
            "unknown endpoint",
            as_is,
            Box::new(|client| {
                client.name = "acme/prod/nobody".into();
                client.hello_bytes(Auth::Key(KeyId(1)), 0)
            }),
            Reason::BadCredential,
        ),
        (
            "unknown key",
            as_is,
            Box::new(|client| client.hello_bytes(Auth::Key(KeyId(7)), 0)),
            Reason::BadCredential,
        ),
        (
            "revoked key",
            |setup| sender_key(setup).revoked = true,
            Box::new(plain),
            Reason::KeyRevoked,
        ),
        (
            "expired key",
            |setup| sender_key(setup).expires = Some(UnixNanos::from_seconds(START)),
            Box::new(plain),
            Reason::KeyExpired,
        ),
        (
            "disabled endpoint",
            |setup| endpoint_in(&mut setup.parts, SENDER).enabled = false,
            Box::new(plain),
            Reason::EndpointDisabled,
        ),
        (
            "Ed25519 key, of which a stranger learns nothing",
            as_is,
            Box::new(|client| {
                client.name = SENSOR.into();
                client.hello_bytes(Auth::Key(KeyId(2)), 0)
            }),
            Reason::BadCredential,
        ),
        (
            "clock too late",
            as_is,
            Box::new(|client| client.hello_bytes(Auth::Key(KeyId(1)), START + 301)),
            Reason::ClockSkew,
        ),
        (
            "clock too early",
            as_is,
            Box::new(|client| client.hello_bytes(Auth::Key(KeyId(1)), START - 301)),
            Reason::ClockSkew,
        ),
        (
            "session that never was",
            as_is,
            Box::new(|client| client.hello_bytes(Auth::Resume(SessionId([5; 16])), 0)),
            Reason::SessionUnknown,
        ),
        (
            "token that is none",
            as_is,
            Box::new(|client| client.hello_bytes(Auth::Token("Bearer x"), 0)),
            Reason::TokenMalformed,
        ),
        (
            "expired token",
            as_is,
            Box::new(|client| hello_with_token(client, &token(SENDER, 1, START, "key1"))),
            Reason::TokenExpired,
        ),
        (
            "token for another endpoint",
            as_is,
            Box::new(|client| hello_with_token(client, &token(RECEIVER, 1, START + 60, "key1"))),
            Reason::TokenScope,
        ),
        (
            "token signed with another key",
            as_is,
            Box::new(|client| hello_with_token(client, &token(SENDER, 9, START + 60, "key1"))),
            Reason::BadCredential,
        ),
        (
            "token naming another key",
            as_is,
            Box::new(|client| hello_with_token(client, &token(SENDER, 1, START + 60, "key9"))),
            Reason::BadCredential,
        ),
        (
            "address that no grant holds for",
            |setup| {
                let grant = &mut endpoint_in(&mut setup.parts, SENDER).send[0];
                grant.restriction.addresses = vec!["192.168.0.0/16".parse().unwrap()];
            },
            Box::new(plain),
            Reason::AddressRefused,
        ),
        (
            "a name of two parts",
            as_is,
            Box::new(|client| {
                let mut bytes = client.hello_bytes(Auth::Key(KeyId(1)), 0);
                let slash = bytes.iter().rposition(|byte| *byte == b'/').unwrap();
                bytes[slash] = b'-';
                bytes
            }),
            Reason::HelloMalformed,
        ),
        (
            "a frame that is no HELLO",
            as_is,
            Box::new(|client| {
                let mut bytes = wire::preface::Preface::CLIENT.encode().to_vec();
                client.keys = Some(wire::signature::SessionKeys::derive(
                    &[1],
                    &[0; 32],
                    &[0; 32],
                    SessionId([0; 16]),
                    &[],
                ));
                bytes.extend(client.ping(1));
                bytes
            }),
            Reason::UnexpectedFrame,
        ),
        (
            "a HELLO longer than one can be",
            as_is,
            Box::new(|client| {
                let mut bytes = client.hello_bytes(Auth::Key(KeyId(1)), 0);
                bytes[8..12].copy_from_slice(&4_000u32.to_le_bytes());
                bytes
            }),
            Reason::FrameTooLong,
        ),
    ];
    for (why, change, hello, want) in cases {
        assert_eq!(refuse_hello(change, |client| hello(client)), want, "{why}");
    }
}

#[test]
fn an_egress_session_needs_every_grant_to_hold() {
    let change: [(Change, Reason); 2] = [
        (
            |setup| {
                let grant = &mut endpoint_in(&mut setup.parts, RECEIVER).receive[0];
                grant.restriction.addresses = vec!["192.168.0.0/16".parse().unwrap()];
            },
            Reason::AddressRefused,
        ),
        (
            |setup| {
                endpoint_in(&mut setup.parts, RECEIVER).receive[0]
                    .restriction
                    .origins = vec!["https://a".into()];
            },
            Reason::RestrictedOrigin,
        ),
    ];
    for (change, want) in change {
        let seen = refuse_hello(change, |client| {
            client.name = RECEIVER.into();
            client.secret = secret(2).text_bytes().to_vec();
            client.hello_bytes(Auth::Key(KeyId(1)), 0)
        });
        assert_eq!(seen, want);
    }
}

#[test]
fn strangers_are_told_nothing_and_newer_clients_our_versions() {
    let mut world = World::with_ack(AckMode::Local);
    for (why, bytes, want) in [
        ("web traffic", &b"GET / HTTP/1.1\r\n"[..], &b""[..]),
        ("a reserved byte", b"FBAY\0\x01\x01\x01", b""),
        (
            "only newer versions",
            b"FBAY\0\x02\x03\0",
            b"FBAY\0\x01\x01\0",
        ),
    ] {
        let connection = world.open();
        world.receive(connection, bytes);
        world.settle();
        assert_eq!(world.take_said(connection), want, "{why}");
        assert!(world.closed(connection), "{why}");
    }
    assert_eq!(world.shard.counters().of(Reason::UnsupportedVersion), 1);
}

#[test]
fn a_table_full_of_sessions_refuses_the_next_but_lets_lingering_ones_go() {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.sessions_max = 2;
    let mut world = World::new(setup);
    let first = Client::connect(&mut world, SENDER, 1);
    let _second = Client::connect(&mut world, RECEIVER, 2);
    let mut third = Client::new(&mut world, RELAY, secret(3).text_bytes());
    let hello = third.hello_bytes(Auth::Key(KeyId(1)), 0);
    assert_eq!(
        reason(&third.exchange(&mut world, &hello)),
        Reason::SessionsFull
    );
    world.cut(first.connection);
    world.settle();
    Client::connect(&mut world, RELAY, 3);
    assert_eq!(world.shard.sessions(), 2);
}

#[test]
fn framing_faults_end_the_connection_by_name() {
    let header = |bytes: u32, kind: u8, signature: u8, count: u16, sequence: u64| {
        let mut frame = bytes.to_le_bytes().to_vec();
        frame.extend([kind, signature]);
        frame.extend(count.to_le_bytes());
        frame.extend(sequence.to_le_bytes());
        frame
    };
    for (why, bytes, want) in [
        (
            "shorter than a header",
            header(15, 6, 1, 0, 0),
            Reason::FrameTooShort,
        ),
        (
            "longer than any frame",
            header(524_289, 2, 1, 1, 1),
            Reason::FrameTooLong,
        ),
        (
            "a kind that is not there",
            header(64, 0x33, 1, 0, 0),
            Reason::UnknownKind,
        ),
        (
            "a count where none is",
            header(48, 6, 1, 3, 0),
            Reason::ReservedBits,
        ),
        (
            "a signature kind that PING has not",
            header(48, 6, 2, 0, 0),
            Reason::SignatureKind,
        ),
        (
            "a kind that only we send",
            [header(48, 0x86, 1, 0, 0), vec![0; 32]].concat(),
            Reason::UnexpectedFrame,
        ),
        (
            "a second HELLO",
            [header(112, 1, 2, 0, 0), vec![0; 96]].concat(),
            Reason::UnexpectedFrame,
        ),
    ] {
        let mut world = World::with_ack(AckMode::Local);
        let mut client = Client::connect(&mut world, SENDER, 1);
        let mut all = client.send(&[b"before the fault"]);
        all.extend(bytes);
        let said = client.exchange(&mut world, &all);
        assert_eq!(acks(&said), [1], "{why}: what came before counts");
        assert_eq!(reason(&said), want, "{why}");
        assert!(world.closed(client.connection), "{why}");
    }
}

#[test]
fn peers_that_say_nothing_are_let_go() {
    let mut world = World::with_ack(AckMode::Local);
    let mut silent = Client::new(&mut world, SENDER, &[]);
    let mut slow = Client::new(&mut world, SENDER, secret(1).text_bytes());
    let half = slow.hello_bytes(Auth::Key(KeyId(1)), 0);
    world.receive(slow.connection, &half[..30]);
    let mut idle = Client::connect(&mut world, SENDER, 1);
    world.pass(Duration::from_secs(10));
    world.settle();
    assert_eq!(reason(&silent.read(&mut world)), Reason::HandshakeTimeout);
    assert_eq!(reason(&slow.read(&mut world)), Reason::HandshakeTimeout);
    world.pass(Duration::from_secs(49));
    let ping = idle.ping(5);
    assert_eq!(idle.exchange(&mut world, &ping), [Said::Pong(Sequence(5))]);
    world.pass(Duration::from_secs(59));
    world.settle();
    assert_eq!(idle.read(&mut world), []);
    world.pass(Duration::from_secs(1));
    world.settle();
    assert_eq!(reason(&idle.read(&mut world)), Reason::IdleTimeout);
    assert_eq!(world.shard.assembly_bytes(), 0);
}

#[test]
fn who_is_not_read_is_not_silent_but_a_frame_that_is_half_there_is_no_sign_of_life() {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.idle_timeout = Duration::from_secs(10);
    let mut world = World::new(setup);
    let mut waits = Client::connect(&mut world, SENDER, 1);
    let mut half = Client::connect(&mut world, RELAY, 3);
    let (frame, begun) = (waits.send(&[b"held back"]), half.send(&[b"half"]));
    world.receive(half.connection, &begun[..20]);
    for _ in 0..9 {
        world.pass(Duration::from_secs(4));
        // As the node does it for connections whose bytes it holds.
        for client in [&waits, &half] {
            let now = world.now.monotonic;
            world.shard.note_waiting(client.connection, now);
        }
        world.settle();
    }
    assert_eq!(reason(&half.read(&mut world)), Reason::IdleTimeout);
    assert_eq!(acks(&waits.exchange(&mut world, &frame)), [1]);
    world.pass(Duration::from_secs(10));
    world.settle();
    assert_eq!(reason(&waits.read(&mut world)), Reason::IdleTimeout);
}
