//! Sessions: they outlive connections, not their credentials.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use support::*;
use wire::delivery::{Outcome, Source};
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;
use wire::token::mint;

type Swap = fn(&mut wire::route::TableParts);

#[test]
fn a_token_opens_a_session_which_ends_when_the_token_does() {
    let mut world = World::with_ack(AckMode::Local);
    let text = mint(
        secret(1).mac(),
        &format!("sb://forebay/{SENDER}"),
        START + 3,
        "key1",
    );
    let secret = wire::token::Token::parse(&text)
        .unwrap()
        .expected_signature(secret(1).mac());
    let mut client = Client::new(&mut world, SENDER, &secret);
    client.greet(&mut world, Auth::Token(&text));
    let frame = client.send(&[b"x"]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [1]);
    let due = world.output.wake_at.unwrap();
    assert!(
        due <= world.now.monotonic + Duration::from_secs(3),
        "the shard asks to be woken for it"
    );
    world.pass(Duration::from_secs(3));
    world.settle();
    assert_eq!(reason(&client.read(&mut world)), Reason::TokenExpired);
    assert_eq!(world.shard.sessions(), 0, "it cannot be resumed");
}

#[test]
fn a_token_may_leave_its_signature_out() {
    let mut world = World::with_ack(AckMode::Local);
    let whole = mint(
        secret(1).mac(),
        &format!("sb://forebay/{SENDER}"),
        START + 60,
        "key1",
    );
    let (head, tail) = whole.split_once("&sig=").unwrap();
    let bare = format!("{head}&{}", tail.split_once('&').unwrap().1);
    let secret = wire::token::Token::parse(&bare)
        .unwrap()
        .expected_signature(secret(1).mac());
    let mut client = Client::new(&mut world, SENDER, &secret);
    client.greet(&mut world, Auth::Token(&bare));
}

#[test]
fn a_key_that_expires_ends_its_sessions() {
    let mut setup = Setup::new(AckMode::Local);
    endpoint_in(&mut setup.parts, SENDER).keys[0].expires =
        Some(UnixNanos::from_seconds(START + 5));
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.pass(Duration::from_secs(4));
    world.settle();
    assert_eq!(client.read(&mut world), []);
    world.pass(Duration::from_secs(1));
    world.settle();
    assert_eq!(reason(&client.read(&mut world)), Reason::KeyExpired);
}

#[test]
fn a_new_table_ends_the_sessions_of_withdrawn_credentials_and_no_others() {
    let cases: [(&str, Swap); 5] = [
        ("revoked", |parts| {
            endpoint_in(parts, SENDER).keys[0].revoked = true
        }),
        ("disabled", |parts| {
            endpoint_in(parts, SENDER).enabled = false
        }),
        ("expired", |parts| {
            endpoint_in(parts, SENDER).keys[0].expires = Some(UnixNanos(1))
        }),
        ("made anew under its id", |parts| {
            endpoint_in(parts, SENDER).keys[0].material =
                wire::route::KeyMaterial::Symmetric(secret(99))
        }),
        ("gone", |parts| {
            parts.endpoints.retain(|endpoint| *endpoint.name != *SENDER)
        }),
    ];
    for (why, change) in cases {
        let mut world = World::with_ack(AckMode::Local);
        let mut sender = Client::connect(&mut world, SENDER, 1);
        let mut relay = Client::connect(&mut world, RELAY, 3);
        let mut new = parts(AckMode::Local);
        new.epoch = 2;
        change(&mut new);
        world.swap_table(new);
        let late = sender.send(&[b"too late"]);
        assert_eq!(
            reason(&sender.exchange(&mut world, &late)),
            Reason::CredentialWithdrawn,
            "{why}"
        );
        assert_eq!(
            world.shard.counters().append.frames,
            0,
            "{why}: not even in the same turn"
        );
        assert!(world.closed(sender.connection), "{why}");
        assert_eq!(
            (world.shard.sessions(), world.shard.epoch()),
            (1, 2),
            "{why}"
        );
        let frame = relay.send(&[b"x"]);
        assert_eq!(
            acks(&relay.exchange(&mut world, &frame)),
            [1],
            "{why}: others go on"
        );
    }
}

#[test]
fn a_new_table_takes_grants_away_and_gives_them_between_two_turns() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut new = parts(AckMode::Local);
    let endpoint = endpoint_in(&mut new, SENDER);
    endpoint.send = vec![grant(OTHER)];
    world.swap_table(new);
    let frame = sender.send_number(1, &[b"x"]);
    assert_eq!(
        reason(&sender.exchange(&mut world, &frame)),
        Reason::NotGranted
    );
    let frame = sender.send_as(sender.endpoint, OTHER, 1, &[b"x"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1]);
}

#[test]
fn a_withdrawn_grant_to_hear_stops_what_waits() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"secret"]);
    sender.exchange(&mut world, &frame);
    let mut new = parts(AckMode::Local);
    endpoint_in(&mut new, RECEIVER).receive.clear();
    world.swap_table(new);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    assert_eq!(receiver.exchange(&mut world, &fetch), []);
    assert_eq!(
        world
            .shard
            .depth(receiver.endpoint, shard::queue::Source::Queue)
            .messages,
        0
    );
}

#[test]
fn a_receiver_whose_address_a_new_table_excludes_hears_nothing_more() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    receiver.exchange(&mut world, &fetch);
    let mut new = parts(AckMode::Local);
    new.epoch = 2;
    endpoint_in(&mut new, RECEIVER).receive[0]
        .restriction
        .addresses = vec!["192.168.0.0/16".parse().unwrap()];
    world.swap_table(new);
    let frame = sender.send(&[b"not for you there"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1]);
    let said = receiver.read(&mut world);
    assert_eq!(bodies(&said), Vec::<Vec<u8>>::new());
    assert_eq!(reason(&said), Reason::AddressRefused);
    assert!(world.closed(receiver.connection));
}

#[test]
fn withdrawn_messages_are_given_up_within_the_bounds_of_a_turn() {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.deliver_bytes_per_turn = 1 << 18;
    let mut world = World::new(setup);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frames: Vec<u8> = (0..1_000).flat_map(|_| sender.send(&[b"x"])).collect();
    assert_eq!(acks(&sender.exchange(&mut world, &frames)), [1_000]);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let mut new = parts(AckMode::Local);
    new.epoch = 2;
    endpoint_in(&mut new, RECEIVER).receive.clear();
    world.swap_table(new);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    world.receive(receiver.connection, &fetch);
    world.turn();
    let depth = |world: &World| {
        let depth = world
            .shard
            .depth(receiver.endpoint, shard::queue::Source::Queue);
        depth.messages
    };
    let left = depth(&world);
    assert!((1..1_000).contains(&left), "{left} left after one turn");
    assert!(world.output.more, "the rest is for the next turn");
    world.settle();
    assert_eq!(depth(&world), 0);
}

#[test]
fn a_session_lingers_for_its_time_and_resumes_under_new_keys() {
    let mut world = World::with_ack(AckMode::Local);
    let first = Client::connect(&mut world, SENDER, 1);
    world.cut(first.connection);
    world.settle();
    world.pass(Duration::from_secs(100));
    let second = first.resume(&mut world);
    assert_eq!(second.session, first.session);
    assert_ne!(second.keys, first.keys);
    let mut thief = Client::new(&mut world, SENDER, &first.keys.as_ref().unwrap().resume);
    let hello = thief.hello_bytes(Auth::Resume(first.session), 0);
    assert_eq!(
        reason(&thief.exchange(&mut world, &hello)),
        Reason::BadCredential,
        "an old secret is no secret"
    );
    world.cut(second.connection);
    world.settle();
    world.pass(Duration::from_secs(120));
    world.settle();
    let mut late = Client::new(&mut world, SENDER, &second.keys.as_ref().unwrap().resume);
    let hello = late.hello_bytes(Auth::Resume(second.session), 0);
    assert_eq!(
        reason(&late.exchange(&mut world, &hello)),
        Reason::SessionUnknown
    );
}

#[test]
fn resuming_ends_the_earlier_connection_and_what_it_still_says_does_not_count() {
    let mut world = World::with_ack(AckMode::Local);
    let mut old = Client::connect(&mut world, SENDER, 1);
    let keys = old.keys.clone().unwrap();
    let mut new = Client::new(&mut world, SENDER, &keys.resume);
    let late = old.send(&[b"late"]);
    let hello = new.hello_bytes(Auth::Resume(old.session), 0);
    world.receive(old.connection, &late);
    let said = new.exchange(&mut world, &hello);
    assert!(matches!(said[1], Said::Welcome(..)), "{said:?}");
    assert_eq!(reason(&old.read(&mut world)), Reason::SessionUnknown);
    assert_eq!(world.shard.counters().append.frames, 0);
    let frame = new.send(&[b"on"]);
    assert_eq!(acks(&new.exchange(&mut world, &frame)), [1]);
}

#[test]
fn what_a_lost_receiver_had_in_flight_comes_again_and_what_it_settled_does_not() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"1", b"2", b"3"]);
    sender.exchange(&mut world, &frame);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    receiver.exchange(&mut world, &fetch);
    let settle = receiver.settle(Source::Queue, Outcome::AcceptOne, 2);
    receiver.exchange(&mut world, &settle);
    world.cut(receiver.connection);
    world.settle();
    let mut receiver = receiver.resume(&mut world);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    assert_eq!(bodies(&receiver.exchange(&mut world, &fetch)), [b"1", b"3"]);
}

#[test]
fn bye_ends_the_session_after_what_was_sent_before() {
    let mut world = World::with_ack(AckMode::Local);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let frames = [client.send(&[b"last"]), client.bye()].concat();
    assert_eq!(acks(&client.exchange(&mut world, &frames)), [1]);
    assert!(world.closed(client.connection));
    assert_eq!((world.shard.sessions(), world.shard.connections()), (0, 0));
}

#[test]
fn released_and_buried_messages_go_where_they_were_sent() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"1", b"2"]);
    sender.exchange(&mut world, &frame);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    receiver.exchange(&mut world, &fetch);
    let settle = receiver.settle(Source::Queue, Outcome::ReleaseOne, 1);
    assert_eq!(
        bodies(&receiver.exchange(&mut world, &settle)),
        [b"1", b"2"],
        "all that is unsettled goes again"
    );
    let settle = receiver.settle(Source::Queue, Outcome::DeadLetterOne, 1);
    receiver.exchange(&mut world, &settle);
    let fetch = receiver.fetch(Source::DeadLetters, 10, 1 << 20);
    let said = receiver.exchange(&mut world, &fetch);
    assert!(
        matches!(&said[..], [Said::Deliver(Source::DeadLetters, _)]),
        "{said:?}"
    );
    assert_eq!(bodies(&said), [b"1"]);
}

#[test]
fn a_hello_that_was_overheard_opens_nothing_and_disturbs_nobody() {
    for unix_seconds in [0, START] {
        let mut world = World::with_ack(AckMode::Local);
        let mut client = Client::new(&mut world, SENDER, secret(1).text_bytes());
        let hello = client.hello_bytes(Auth::Key(KeyId(1)), unix_seconds);
        client.exchange(&mut world, &hello);
        let mut listener = Client::new(&mut world, SENDER, secret(1).text_bytes());
        let said = listener.exchange(&mut world, &hello);
        assert_eq!(reason(&said), Reason::HelloReplayed);
        let frame = client.send(&[b"x"]);
        let said = client.exchange(&mut world, &frame);
        assert_eq!(acks(&said), [1], "the sender's streams are still its own");
    }
}

/// A client of the sender in the tunnel that has this exporter value; it believes to be in the one of `believed`.
fn in_tunnel(
    world: &mut World,
    (actual, believed): (Option<[u8; 32]>, Option<[u8; 32]>),
    secret: &[u8],
) -> Client {
    let mut client = Client::new(world, SENDER, secret);
    if let Some(exporter) = actual {
        world.tunnel(client.connection, exporter);
    }
    client.exporter = believed.map_or(Vec::new(), |exporter| exporter.to_vec());
    client
}

#[test]
fn a_hello_is_good_in_the_tunnel_it_was_made_for_and_nowhere_else() {
    const ONE: Option<[u8; 32]> = Some([1; 32]);
    const OTHER: Option<[u8; 32]> = Some([2; 32]);
    const ZEROS: Option<[u8; 32]> = Some([0; 32]);
    let key = *secret(1).text_bytes();
    for (why, actual, believed, good) in [
        ("no tunnel", None, None, true),
        ("the same tunnel", ONE, ONE, true),
        ("another tunnel", ONE, OTHER, false),
        ("made for a tunnel, said in plain", None, ONE, false),
        ("made for zeros, said in plain", None, ZEROS, false),
        ("made for plain, said in a tunnel", ONE, None, false),
        (
            "made for plain, said where the value is zero",
            ZEROS,
            None,
            false,
        ),
    ] {
        let mut world = World::with_ack(AckMode::Local);
        let mut client = in_tunnel(&mut world, (actual, believed), &key);
        if good {
            client.greet(&mut world, Auth::Key(KeyId(1)));
            let frame = client.send(&[b"x"]);
            assert_eq!(acks(&client.exchange(&mut world, &frame)), [1], "{why}");
            continue;
        }
        let hello = client.hello_bytes(Auth::Key(KeyId(1)), 0);
        let said = client.exchange(&mut world, &hello);
        assert_eq!(reason(&said), Reason::BadCredential, "{why}");
        assert_eq!(world.shard.sessions(), 0, "{why}");
    }
}

#[test]
fn a_session_is_resumed_in_a_new_tunnel_by_who_is_in_it_and_by_nobody_who_carries_it_elsewhere() {
    let mut world = World::with_ack(AckMode::Local);
    let (one, two) = (Some([1; 32]), Some([2; 32]));
    let key = *secret(1).text_bytes();
    let mut first = in_tunnel(&mut world, (one, one), &key);
    first.greet(&mut world, Auth::Key(KeyId(1)));
    let resume = first.keys.as_ref().unwrap().resume;
    for (why, actual, believed, want) in [
        (
            "carried into another tunnel",
            two,
            one,
            Reason::BadCredential,
        ),
        ("carried out of it", None, one, Reason::BadCredential),
        ("its owner, in plain", None, None, Reason::SessionUnknown),
    ] {
        let mut thief = in_tunnel(&mut world, (actual, believed), &resume);
        let hello = thief.hello_bytes(Auth::Resume(first.session), 0);
        assert_eq!(reason(&thief.exchange(&mut world, &hello)), want, "{why}");
        let frame = first.send(&[b"still there"]);
        let acked = acks(&first.exchange(&mut world, &frame));
        assert_eq!(acked.len(), 1, "{why}: the session goes on as it was");
    }
    let mut second = in_tunnel(&mut world, (two, two), &resume);
    second.greet(&mut world, Auth::Resume(first.session));
    assert_eq!(second.session, first.session);
    assert_ne!(second.keys, first.keys);
    let frame = second.send(&[b"on"]);
    assert_eq!(acks(&second.exchange(&mut world, &frame)), [4]);
}
