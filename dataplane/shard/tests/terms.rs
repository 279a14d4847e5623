//! Endpoints and grants that end, that hold in hours of the week, and that name what they run over.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use shard::ConnectionId;
use support::*;
use wire::datagram;
use wire::delivery::Source;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::{Notice, Reason};
use wire::route::{Restriction, TableParts, Transport, Transports};
use wire::send::SendBuilder;
use wire::signature::Signer;

const BY_KEY: Auth<'static> = Auth::Key(KeyId(1));

/// The plan, altered.
fn plan(alter: impl FnOnce(&mut TableParts)) -> TableParts {
    let mut parts = parts(AckMode::Local);
    alter(&mut parts);
    parts
}

fn world(alter: impl FnOnce(&mut TableParts)) -> World {
    let mut setup = Setup::new(AckMode::Local);
    setup.parts = plan(alter);
    World::new(setup)
}

/// So many seconds after a world begins, which is on a Saturday at noon.
fn second(seconds: u64) -> UnixNanos {
    UnixNanos::from_seconds(START + seconds)
}

fn pass(world: &mut World, seconds: u64) {
    world.pass(Duration::from_secs(seconds));
    world.settle();
}

/// What a HELLO by this key is refused with.
fn refused(world: &mut World, name: &str, number: u8) -> Notice {
    let mut client = Client::new(world, name, secret(number).text_bytes());
    let hello = client.hello_bytes(BY_KEY, 0);
    notice(&client.exchange(world, &hello))
}

fn notice(said: &[Said]) -> Notice {
    let notices = said.iter().filter_map(|said| match said {
        Said::Refused(notice) | Said::Goaway(notice) => Some(*notice),
        Said::Reject(reject) => Some(reject.notice),
        _ => None,
    });
    let mut notices = notices;
    notices.next().unwrap_or_else(|| panic!("{said:?}"))
}

fn send_restriction(parts: &mut TableParts) -> &mut Restriction {
    &mut endpoint_in(parts, SENDER).send[0].restriction
}

#[test]
fn an_endpoint_that_ends_ends_its_sessions_at_that_second_and_opens_none() {
    for (name, number) in [(SENDER, 1), (RECEIVER, 2)] {
        let mut world = world(|parts| endpoint_in(parts, name).expires = Some(second(5)));
        let mut client = Client::connect(&mut world, name, number);
        let due = world.output.wake_at.unwrap();
        assert!(due <= world.now.monotonic + Duration::from_secs(5));
        pass(&mut world, 4);
        assert_eq!(client.read(&mut world), []);
        pass(&mut world, 1);
        let told = notice(&client.read(&mut world));
        assert_eq!(
            told,
            Notice::new(Reason::EndpointExpired, START + 5, START + 5)
        );
        assert_eq!(world.shard.sessions(), 0, "it cannot be resumed");
        let told = refused(&mut world, name, number);
        assert_eq!(told.reason, Reason::EndpointExpired);
    }
}

#[test]
fn a_session_ends_with_its_hours_and_opens_again_when_they_do() {
    for (name, number) in [(SENDER, 1), (RECEIVER, 2)] {
        let hours = || vec!["sat,sun 10:00-12:01".parse().unwrap()];
        let mut world = world(|parts| endpoint_in(parts, name).windows = hours());
        let mut client = Client::connect(&mut world, name, number);
        pass(&mut world, 40);
        let ping = client.ping(1);
        client.exchange(&mut world, &ping);
        pass(&mut world, 20);
        let (closed, opens) = (START + 60, START + 22 * 3_600);
        let wait = u32::try_from((opens - closed) * 1_000).unwrap();
        let want = Notice::new(Reason::OutsideHours, closed, opens).retry_after(wait);
        assert_eq!(notice(&client.read(&mut world)), want);
        assert_eq!(refused(&mut world, name, number), want);
        world.now.unix = UnixNanos::from_seconds(opens);
        Client::connect(&mut world, name, number);
    }
}

/// A sender whose connection was lost before its hours were over, and what it was.
fn lingering_outside_its_hours() -> (World, Client) {
    let mut world = world(|parts| {
        endpoint_in(parts, SENDER).windows = vec!["sat 00:00-12:01".parse().unwrap()];
    });
    let client = Client::connect(&mut world, SENDER, 1);
    world.cut(client.connection);
    world.settle();
    pass(&mut world, 60);
    (world, client)
}

#[test]
fn who_lingers_is_not_resumed_outside_the_hours() {
    let (mut world, client) = lingering_outside_its_hours();
    assert_eq!(world.shard.sessions(), 1, "it lingers");
    let resume = client.keys.as_ref().unwrap().resume;
    let mut next = Client::new(&mut world, SENDER, &resume);
    let hello = next.hello_bytes(Auth::Resume(client.session), 0);
    let told = notice(&next.exchange(&mut world, &hello));
    assert_eq!(told.reason, Reason::OutsideHours);
}

/// What these bytes are refused with on a connection of their own.
fn refused_bytes(world: &mut World, hello: &[u8]) -> Reason {
    let mut client = Client::new(world, SENDER, secret(1).text_bytes());
    notice(&client.exchange(world, hello)).reason
}

/// What proves to have this token of the sender's.
fn token_secret(token: &str) -> [u8; 32] {
    let token = wire::token::Token::parse(token).unwrap();
    token.expected_signature(secret(1).mac())
}

#[test]
fn a_hello_that_was_refused_for_its_credential_opens_nothing_when_that_is_good_again() {
    type Alter = fn(&mut TableParts);
    let states: [(Reason, Alter); 3] = [
        (Reason::EndpointDisabled, |parts| {
            endpoint_in(parts, SENDER).enabled = false;
        }),
        (Reason::KeyRevoked, |parts| {
            endpoint_in(parts, SENDER).keys[0].revoked = true;
        }),
        (Reason::KeyExpired, |parts| {
            endpoint_in(parts, SENDER).keys[0].expires = Some(second(0));
        }),
    ];
    let key = secret(1);
    let token = wire::token::mint(key.mac(), "sb://hub/acme", START + 600, "key1");
    for (want, alter) in states {
        for (auth, secret) in [
            (BY_KEY, &key.text_bytes()[..]),
            (Auth::Token(&token), &token_secret(&token)),
        ] {
            let mut world = world(alter);
            let mut client = Client::new(&mut world, SENDER, secret);
            let hello = client.hello_bytes(auth, START);
            let mut spoiled = hello.clone();
            *spoiled.last_mut().unwrap() ^= 1;
            assert_eq!(refused_bytes(&mut world, &spoiled), Reason::BadCredential);
            assert_eq!(notice(&client.exchange(&mut world, &hello)).reason, want);
            let mut good = plan(|_| {});
            good.epoch = 2;
            world.swap_table(good);
            let told = refused_bytes(&mut world, &hello);
            assert_eq!(told, Reason::HelloReplayed, "{want}");
            assert_eq!(world.shard.sessions(), 0, "{want}");
        }
    }
}

#[test]
fn a_token_that_was_refused_spends_the_nonce_of_its_hello() {
    let key = secret(1);
    for (scope, seconds, want) in [
        ("sb://hub/acme", 0, Reason::TokenExpired),
        ("sb://hub/another", 600, Reason::TokenScope),
    ] {
        let token = wire::token::mint(key.mac(), scope, START + seconds, "key1");
        let mut world = world(|_| {});
        let mut client = Client::new(&mut world, SENDER, &token_secret(&token));
        let hello = client.hello_bytes(Auth::Token(&token), START);
        assert_eq!(notice(&client.exchange(&mut world, &hello)).reason, want);
        assert_eq!(refused_bytes(&mut world, &hello), Reason::HelloReplayed);
    }
}

#[test]
fn a_resumption_that_was_refused_outside_the_hours_resumes_nothing_when_they_are_back() {
    let (mut world, client) = lingering_outside_its_hours();
    let resume = client.keys.as_ref().unwrap().resume;
    let mut next = Client::new(&mut world, SENDER, &resume);
    let hello = next.hello_bytes(Auth::Resume(client.session), START);
    let told = notice(&next.exchange(&mut world, &hello));
    assert_eq!(told.reason, Reason::OutsideHours);
    let mut longer = plan(|_| {});
    longer.epoch = 2;
    world.swap_table(longer);
    assert_eq!(world.shard.sessions(), 1, "it lingers");
    assert_eq!(refused_bytes(&mut world, &hello), Reason::HelloReplayed);
    let mut again = Client::new(&mut world, SENDER, &resume);
    let said = again.greet(&mut world, Auth::Resume(client.session));
    assert!(matches!(said[1], Said::Welcome(..)), "{said:?}");
}

#[test]
fn a_grant_that_ends_stops_what_is_sent_by_it_and_nothing_else() {
    let mut world = world(|parts| {
        endpoint_in(parts, SENDER).send.push(grant(OTHER));
        send_restriction(parts).expires = Some(second(5));
    });
    let mut client = Client::connect(&mut world, SENDER, 1);
    pass(&mut world, 4);
    let frame = client.send(&[b"in time"]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [1]);
    pass(&mut world, 1);
    let frame = client.send_number(2, &[b"too late"]);
    let told = notice(&client.exchange(&mut world, &frame));
    assert_eq!(
        told,
        Notice::new(Reason::GrantExpired, START + 5, START + 5)
    );
    let frame = client.send_as(client.endpoint, OTHER, 2, &[b"another channel"]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [2]);
}

#[test]
fn what_is_sent_outside_the_hours_of_a_grant_is_rejected_until_they_begin() {
    let mut world = world(|parts| {
        send_restriction(parts).windows = vec!["sat 12:01-13:00".parse().unwrap()];
    });
    let mut client = Client::connect(&mut world, SENDER, 1);
    let frame = client.send_number(1, &[b"early"]);
    let told = notice(&client.exchange(&mut world, &frame));
    let want = Notice::new(Reason::RestrictedHours, START, START + 60);
    assert_eq!(told, want.retry_after(60_000));
    world.now.unix = second(60);
    let frame = client.send_number(1, &[b"in time"]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [1]);
    world.now.unix = second(3_600);
    let frame = client.send_number(2, &[b"late"]);
    let said = client.exchange(&mut world, &frame);
    assert_eq!(rejects(&said), [(2, Reason::RestrictedHours)]);
}

#[test]
fn a_rate_of_bytes_of_a_grant_is_one_of_whole_frames() {
    let rate = wire::limits::FRAME_BYTES_MAX as u64;
    let mut world = world(|parts| send_restriction(parts).bytes_per_second = Some(rate));
    let mut client = Client::connect(&mut world, SENDER, 1);
    let body = vec![7; 100_000];
    let frames: Vec<Vec<u8>> = (0..8).map(|_| client.send(&[&body])).collect();
    let fits = rate / frames[0].len() as u64;
    let said = client.exchange(&mut world, &frames.concat());
    assert_eq!(acks(&said), [fits]);
    let told = notice(&said);
    assert_eq!(
        (told.reason, told.needed),
        (Reason::RestrictedByteRate, rate)
    );
    pass(&mut world, 1);
    client.sequence = fits + 1;
    let frame = client.send(&[&body]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [fits + 1]);
}

#[test]
fn what_waits_by_a_grant_to_hear_is_not_delivered_once_it_has_ended() {
    let mut world = world(|parts| {
        endpoint_in(parts, RECEIVER).receive[0].restriction.expires = Some(second(5));
    });
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    receiver.exchange(&mut world, &fetch);
    let frame = sender.send(&[b"in time"]);
    sender.exchange(&mut world, &frame);
    assert_eq!(bodies(&receiver.read(&mut world)), [b"in time"]);
    pass(&mut world, 5);
    let frame = sender.send(&[b"too late"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [2]);
    assert_eq!(receiver.read(&mut world), [], "and its session goes on");
    let mut again = Client::new(&mut world, RECEIVER, secret(2).text_bytes());
    let said = again.greet(&mut world, BY_KEY);
    let Some(Said::Welcome(_, entries)) = said.get(1) else {
        panic!("{said:?}")
    };
    assert!(entries.is_empty(), "it hears nothing: {entries:?}");
}

#[test]
fn what_was_sent_after_a_grant_to_hear_had_ended_does_not_come_when_it_is_given_anew() {
    let mut world = world(|parts| {
        endpoint_in(parts, RECEIVER).receive[0].restriction.expires = Some(second(5));
    });
    let mut sender = Client::connect(&mut world, SENDER, 1);
    pass(&mut world, 5);
    let frame = sender.send(&[b"while it had none"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1]);
    let mut anew = plan(|_| {});
    anew.epoch = 2;
    world.swap_table(anew);
    world.settle();
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10, 1 << 20);
    assert_eq!(receiver.exchange(&mut world, &fetch), []);
    let frame = sender.send(&[b"with one"]);
    sender.exchange(&mut world, &frame);
    assert_eq!(bodies(&receiver.read(&mut world)), [b"with one"]);
}

#[test]
fn who_receives_keeps_the_hours_of_all_that_it_hears() {
    let mut world = world(|parts| {
        let receive = &mut endpoint_in(parts, RECEIVER).receive;
        receive.push(grant(OTHER));
        receive[1].restriction.windows = vec!["sat 12:00-12:01".parse().unwrap()];
    });
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    pass(&mut world, 59);
    let ping = receiver.ping(1);
    receiver.exchange(&mut world, &ping);
    pass(&mut world, 1);
    let told = notice(&receiver.read(&mut world));
    assert_eq!(told.reason, Reason::OutsideHours);
    let told = refused(&mut world, RECEIVER, 2);
    assert_eq!(told.reason, Reason::OutsideHours);
    let mut new = plan(|parts| {
        let receive = &mut endpoint_in(parts, RECEIVER).receive;
        receive.push(grant(OTHER));
        receive[1].restriction.windows = vec!["sat 12:00-12:01".parse().unwrap()];
        receive[1].restriction.expires = Some(second(1));
    });
    new.epoch = 2;
    world.swap_table(new);
    Client::connect(&mut world, RECEIVER, 2);
}

#[test]
fn an_envelope_is_taken_as_long_as_its_endpoint_is_good_and_in_its_hours() {
    let key = secret(4);
    let inner = |number| {
        envelope(
            number,
            Signer::Key {
                id: KeyId(1),
                key: key.mac(),
            },
            &[b"x"],
        )
    };
    for (why, alter, want) in [
        (
            "ended",
            (|parts| endpoint_in(parts, SENSOR).expires = Some(second(5))) as fn(&mut TableParts),
            Reason::EndpointExpired,
        ),
        (
            "outside its hours",
            |parts| {
                endpoint_in(parts, SENSOR).windows = vec!["fri 23:00-12:01".parse().unwrap()];
            },
            Reason::OutsideHours,
        ),
        (
            "its grant ended",
            |parts| endpoint_in(parts, SENSOR).send[0].restriction.expires = Some(second(60)),
            Reason::GrantExpired,
        ),
    ] {
        let mut world = world(alter);
        let mut relay = Client::connect(&mut world, RELAY, 3);
        let frame = relay.relay(1, &inner(1));
        let said = relay.exchange(&mut world, &frame);
        assert_eq!((acks(&said), rejects(&said)), (vec![1], vec![]), "{why}");
        world.now.unix = second(60);
        let frame = relay.relay(2, &inner(2));
        let said = relay.exchange(&mut world, &frame);
        assert_eq!(rejects(&said), [(2, want)], "{why}");
    }
}

#[test]
fn sessions_run_over_the_transports_that_their_endpoint_names() {
    let plain = |_: &mut World, _: ConnectionId| {};
    let tls = |world: &mut World, id| world.tunnel(id, [9; 32]);
    let quic = |world: &mut World, id| world.lane(id, [9; 32]);
    type Over = fn(&mut World, ConnectionId);
    let ways: [(Transport, Over); 3] = [
        (Transport::Tcp, plain),
        (Transport::Tls, tls),
        (Transport::Quic, quic),
    ];
    for bits in 0..16 {
        let named = Transports::from_bits(bits).unwrap();
        for (transport, over) in ways {
            let mut world = world(|parts| endpoint_in(parts, SENDER).transports = named);
            let mut client = Client::new(&mut world, SENDER, secret(1).text_bytes());
            over(&mut world, client.connection);
            if transport != Transport::Tcp {
                client.exporter = vec![9; 32];
            }
            if named.has(transport) {
                client.greet(&mut world, BY_KEY);
                let mut new = plan(|parts| {
                    endpoint_in(parts, SENDER).transports = Transports::NONE;
                });
                new.epoch = 2;
                world.swap_table(new);
                world.settle();
            } else {
                let hello = client.hello_bytes(BY_KEY, 0);
                world.receive(client.connection, &hello);
                world.settle();
            }
            let told = notice(&client.read(&mut world));
            let needed = if named.has(transport) {
                0
            } else {
                u64::from(bits)
            };
            let want = Notice::new(Reason::TransportRefused, transport as u64, needed);
            assert_eq!(told, want, "{transport:?} of {bits}");
        }
    }
}

#[test]
fn datagrams_are_taken_from_who_names_them() {
    for named in [
        Transports::default(),
        Transports::NONE.with(Transport::Quic),
    ] {
        let mut world = world(|parts| endpoint_in(parts, SENDER).transports = named);
        let mut client = Client::new(&mut world, SENDER, secret(1).text_bytes());
        world.lane(client.connection, [9; 32]);
        client.exporter = vec![9; 32];
        client.greet(&mut world, BY_KEY);
        let mut bytes = Vec::new();
        datagram::begin(&mut bytes, 0, 1);
        let channel = ChannelId::of(CHANNEL);
        let mut send = SendBuilder::begin(&mut bytes, client.endpoint, channel, Sequence(1));
        send.message(UnixNanos(0), &[], b"x").unwrap();
        let key = &client.keys.as_ref().unwrap().client;
        send.finish(Signer::Datagram { key, number: 1 }).unwrap();
        world.beside(client.connection, &bytes);
        world.settle();
        let said = client.read(&mut world);
        match named.has(Transport::QuicDatagram) {
            true => assert_eq!(acks(&said), [1]),
            false => assert_eq!(rejects(&said), [(1, Reason::TransportRefused)]),
        }
        let counters = &world.shard.counters().datagram;
        assert_eq!(counters.appended + counters.refused, 1);
    }
}

#[test]
fn an_end_that_a_new_table_brings_is_kept_though_it_was_later_before() {
    type Alter = fn(&mut TableParts);
    let cases: [(Alter, Reason); 3] = [
        (
            |parts| endpoint_in(parts, SENDER).keys[0].expires = Some(second(3)),
            Reason::KeyExpired,
        ),
        (
            |parts| endpoint_in(parts, SENDER).expires = Some(second(3)),
            Reason::EndpointExpired,
        ),
        (
            |parts| endpoint_in(parts, SENDER).windows = vec!["fri 12:00-11:59".parse().unwrap()],
            Reason::OutsideHours,
        ),
    ];
    for (alter, want) in cases {
        let mut world = world(|_| {});
        let mut client = Client::connect(&mut world, SENDER, 1);
        let mut new = plan(alter);
        new.epoch = 2;
        world.swap_table(new);
        world.settle();
        pass(&mut world, 3);
        assert_eq!(notice(&client.read(&mut world)).reason, want);
        assert_eq!(world.shard.sessions(), 0);
    }
}

#[test]
fn a_clock_that_is_set_forward_ends_within_five_seconds_what_has_ended() {
    let mut world = world(|parts| {
        endpoint_in(parts, SENDER).keys[0].expires = Some(second(86_400));
    });
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.now.unix = second(86_400);
    pass(&mut world, 5);
    let told = notice(&client.read(&mut world));
    assert_eq!(told.reason, Reason::KeyExpired);
}
