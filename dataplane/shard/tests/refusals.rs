//! Every refusal that a shard can give, by its reason code.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use shard::Limits;
use support::*;
use wire::delivery::{Outcome, Source};
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;
use wire::route::*;
use wire::signature::Signer;
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
fn faults_in_a_send_reject_it_and_the_connection_goes_on() {
    fn edit(frame: &[u8], client: &Client, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = frame[..frame.len() - 32].to_vec();
        change(&mut bytes);
        let length = bytes.len() as u32 + 32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let key = &client.keys.as_ref().unwrap().client;
        wire::signature::sign_session(key, client.frames_out - 1, &mut bytes, 0);
        bytes
    }
    type Edit = fn(&mut Vec<u8>);
    let cases: [(&str, Edit, Reason); 9] = [
        ("no messages", |bytes| bytes[6] = 0, Reason::NoMessages),
        (
            "5,000 messages",
            |bytes| bytes[6..8].copy_from_slice(&5_000u16.to_le_bytes()),
            Reason::TooManyMessages,
        ),
        (
            "count too high",
            |bytes| bytes[6] = 2,
            Reason::MessageMalformed,
        ),
        ("reserved bits", |bytes| bytes[38] = 1, Reason::ReservedBits),
        (
            "body one byte too long",
            |bytes| bytes[32..36].copy_from_slice(&262_145u32.to_le_bytes()),
            Reason::BodyTooLong,
        ),
        (
            "headers one byte too long",
            |bytes| bytes[36..38].copy_from_slice(&8_193u16.to_le_bytes()),
            Reason::HeadersTooLong,
        ),
        (
            "another sender",
            |bytes| bytes[16] ^= 1,
            Reason::SenderMismatch,
        ),
        (
            "a channel that is not there",
            |bytes| bytes[24] ^= 1,
            Reason::UnknownChannel,
        ),
        (
            "sequence 0",
            |bytes| bytes[8..16].fill(0),
            Reason::OutOfSequence,
        ),
    ];
    for (why, change, want) in cases {
        let mut world = World::with_ack(AckMode::Local);
        let mut client = Client::connect(&mut world, SENDER, 1);
        let frame = client.send_number(1, &[b"body"]);
        let bytes = edit(&frame, &client, change);
        let said = client.exchange(&mut world, &bytes);
        assert_eq!(reason(&said), want, "{why}");
        let frame = client.send_number(1, &[b"mended"]);
        assert_eq!(
            acks(&client.exchange(&mut world, &frame)),
            [1],
            "{why}: the number was not spent"
        );
    }
}

#[test]
fn grants_and_restrictions_are_told_by_name() {
    let cases: [(&str, Change, &str, usize, Reason); 6] = [
        ("no grant", |_| {}, OTHER, 1, Reason::NotGranted),
        (
            "address of one of two grants",
            |setup| {
                let sender = endpoint_in(&mut setup.parts, SENDER);
                sender.send.push(grant(OTHER));
                sender.send[0].restriction.addresses = vec!["192.168.0.0/16".parse().unwrap()];
            },
            CHANNEL,
            1,
            Reason::RestrictedAddress,
        ),
        (
            "an origin, which TCP has not",
            |setup| {
                endpoint_in(&mut setup.parts, SENDER).send[0]
                    .restriction
                    .origins = vec!["https://a".into()];
            },
            CHANNEL,
            1,
            Reason::RestrictedOrigin,
        ),
        (
            "a longer body",
            |setup| {
                endpoint_in(&mut setup.parts, SENDER).send[0]
                    .restriction
                    .body_bytes_max = Some(3);
            },
            CHANNEL,
            1,
            Reason::RestrictedBody,
        ),
        (
            "more at once than a second's worth",
            |setup| {
                endpoint_in(&mut setup.parts, SENDER).send[0]
                    .restriction
                    .messages_per_second = Some(4);
            },
            CHANNEL,
            5,
            Reason::RestrictedRate,
        ),
        (
            "no channel",
            |_| {},
            "acme/prod/nowhere",
            1,
            Reason::UnknownChannel,
        ),
    ];
    for (why, change, channel, count, want) in cases {
        let mut setup = Setup::new(AckMode::Local);
        change(&mut setup);
        let mut world = World::new(setup);
        let mut client = Client::connect(&mut world, SENDER, 1);
        let frame = client.send_as(client.endpoint, channel, 1, &vec![&b"body"[..]; count]);
        assert_eq!(reason(&client.exchange(&mut world, &frame)), want, "{why}");
        assert_eq!(world.shard.counters().append.frames, 0, "{why}");
    }
}

#[test]
fn a_rate_fills_up_evenly_and_another_session_starts_no_new_one() {
    let mut setup = Setup::new(AckMode::Local);
    endpoint_in(&mut setup.parts, SENDER).send[0]
        .restriction
        .messages_per_second = Some(10);
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let frame = client.send(&[&b"x"[..]; 10]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [1]);
    let frame = client.send_number(2, &[&b"x"[..]; 2]);
    let said = client.exchange(&mut world, &frame);
    let [Said::Reject(reject)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        (reject.notice.reason, reject.notice.retry_after_ms),
        (Reason::RestrictedRate, 200)
    );
    let mut again = Client::connect(&mut world, SENDER, 1);
    let frame = again.send(&[&b"x"[..]; 2]);
    assert_eq!(
        reason(&again.exchange(&mut world, &frame)),
        Reason::RestrictedRate
    );
    world.pass(Duration::from_millis(200));
    let frame = again.send_number(2, &[&b"x"[..]; 2]);
    assert_eq!(acks(&again.exchange(&mut world, &frame)), [2]);
}

#[test]
fn bad_signatures_are_rejected_and_the_sixteenth_ends_the_connection() {
    let mut world = World::with_ack(AckMode::Local);
    let mut client = Client::connect(&mut world, SENDER, 1);
    for strike in 1..=16 {
        let mut frame = client.send_number(1, &[b"body"]);
        *frame.last_mut().unwrap() ^= 1;
        let said = client.exchange(&mut world, &frame);
        assert_eq!(rejects(&said), [(1, Reason::BadSignature)]);
        if strike == 16 {
            assert!(
                matches!(said[1], Said::Goaway(notice) if notice.reason == Reason::TooManyBadSignatures)
            );
        } else {
            assert_eq!(said.len(), 1);
        }
    }
    assert!(world.closed(client.connection));
    assert_eq!(world.shard.counters().append.frames, 0);
}

#[test]
fn frames_cannot_be_replayed_moved_or_left_out_inside_a_connection() {
    for why in ["replayed", "moved", "left out"] {
        let mut world = World::with_ack(AckMode::Local);
        let mut client = Client::connect(&mut world, SENDER, 1);
        let (first, second) = (client.send(&[b"one"]), client.send(&[b"two"]));
        let bytes = match why {
            "replayed" => [first.clone(), first].concat(),
            "moved" => [second, first].concat(),
            _ => second,
        };
        let said = client.exchange(&mut world, &bytes);
        assert!(
            world.shard.counters().verify.bad_signatures > 0,
            "{why}: {said:?}"
        );
        let want = match why {
            "replayed" => vec![(1, Reason::Replayed)],
            "moved" => vec![(2, Reason::BadSignature), (1, Reason::BadSignature)],
            _ => vec![(2, Reason::BadSignature)],
        };
        assert_eq!(rejects(&said), want, "{why}");
    }
}

/// Its claim is all that names the number of a frame with a bad signature. Told `bad_signature` for a number that is
/// appended and not acked yet, a sender would take the appended frame for refused, put another one under the number,
/// and believe that one acked.
#[test]
fn an_altered_frame_under_a_number_that_was_taken_refuses_nothing_that_is_appended() {
    let mut world = World::with_ack(AckMode::Durable);
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    let (one, mut two, three) = (
        client.send(&[b"one"]),
        client.send(&[b"two"]),
        client.send(&[b"three"]),
    );
    two[8] = 1; // its sequence
    let said = client.exchange(&mut world, &[one, two, three].concat());
    assert_eq!(
        rejects(&said),
        [(1, Reason::Replayed), (3, Reason::OutOfSequence)]
    );
    assert_eq!(world.shard.counters().verify.bad_signatures, 1);
    let again = [
        client.send_number(2, &[b"two"]),
        client.send_number(3, &[b"three"]),
    ];
    client.exchange(&mut world, &again.concat());
    world.hold_syncs = false;
    world.release_syncs();
    world.settle();
    assert_eq!(acks(&client.read(&mut world)).last(), Some(&3));
}

#[test]
fn a_direct_frame_is_signed_by_the_session_and_nothing_else() {
    let mut world = World::with_ack(AckMode::Local);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let mut bytes = Vec::new();
    let mut send = wire::send::SendBuilder::begin(
        &mut bytes,
        client.endpoint,
        ChannelId::of(CHANNEL),
        Sequence(1),
    );
    send.message(UnixNanos(0), &[], b"body").unwrap();
    send.finish(Signer::Key {
        id: KeyId(1),
        key: secret(1).mac(),
    })
    .unwrap();
    client.frames_out += 1;
    assert_eq!(
        reason(&client.exchange(&mut world, &bytes)),
        Reason::SignatureKind
    );
}

#[test]
fn each_direction_has_its_own_work() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = sender.fetch(Source::Queue, 1, 1);
    assert_eq!(
        reason(&sender.exchange(&mut world, &fetch)),
        Reason::WrongDirection
    );
    let settle = sender.settle(Source::Queue, Outcome::AcceptOne, 1);
    assert_eq!(
        reason(&sender.exchange(&mut world, &settle)),
        Reason::WrongDirection
    );
    let send = receiver.send(&[b"body"]);
    assert_eq!(
        reason(&receiver.exchange(&mut world, &send)),
        Reason::WrongDirection
    );
    let relay = receiver.relay(
        1,
        &envelope(
            1,
            Signer::Key {
                id: KeyId(1),
                key: secret(4).mac(),
            },
            &[b"x"],
        ),
    );
    assert_eq!(
        reason(&receiver.exchange(&mut world, &relay)),
        Reason::WrongDirection
    );
}

#[test]
fn fetch_and_settle_are_refused_by_name() {
    let mut world = World::with_ack(AckMode::Local);
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let limits = Limits::default();
    for (why, messages, bytes) in [
        ("messages", limits.fetch_messages_max as u32 + 1, 1),
        ("bytes", 1, limits.fetch_bytes_max + 1),
    ] {
        let fetch = receiver.fetch(Source::Queue, messages, bytes);
        assert_eq!(
            reason(&receiver.exchange(&mut world, &fetch)),
            Reason::FetchTooLarge,
            "{why}"
        );
    }
    for number in [0, 1, 77] {
        let settle = receiver.settle(Source::Queue, Outcome::AcceptUpTo, number);
        assert_eq!(
            reason(&receiver.exchange(&mut world, &settle)),
            Reason::NotDelivered,
            "{number}"
        );
    }
    let mut newer = Client::connect(&mut world, RECEIVER, 2);
    for client in [&mut receiver, &mut newer] {
        let fetch = client.fetch(Source::Queue, 1, 1);
        client.exchange(&mut world, &fetch);
    }
    assert_eq!(reason(&receiver.read(&mut world)), Reason::QueueTaken);
    let settle = receiver.settle(Source::Queue, Outcome::AcceptUpTo, 1);
    assert_eq!(
        reason(&receiver.exchange(&mut world, &settle)),
        Reason::QueueTaken
    );
}

#[test]
fn envelopes_are_refused_by_name_and_every_relay_number_is_answered() {
    let hmac = |number, id| {
        envelope(
            number,
            Signer::Key {
                id: KeyId(id),
                key: secret(4).mac(),
            },
            &[b"x"],
        )
    };
    let signing = signing_key();
    let ed25519 = |number| {
        envelope(
            number,
            Signer::Ed25519 {
                id: KeyId(2),
                key: &signing,
            },
            &[b"x"],
        )
    };
    let mut world = World::with_ack(AckMode::Local);
    let mut relay = Client::connect(&mut world, RELAY, 3);
    let damaged = |mut bytes: Vec<u8>| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let mut stranger = hmac(1, 1);
    stranger[16] ^= 1;
    for (number, why, inner, want) in [
        (1, "good HMAC", hmac(100, 1), None),
        (2, "good Ed25519", ed25519(101), None),
        (3, "seen before", hmac(100, 1), None),
        (4, "inside the window, unseen", hmac(38, 1), None),
        (5, "below the window", hmac(37, 1), Some(Reason::Replayed)),
        (
            6,
            "bad HMAC",
            damaged(hmac(102, 1)),
            Some(Reason::BadSignature),
        ),
        (
            7,
            "bad Ed25519",
            damaged(ed25519(103)),
            Some(Reason::BadSignature),
        ),
        (
            8,
            "key of another kind",
            hmac(104, 2),
            Some(Reason::BadSignature),
        ),
        (
            9,
            "key that is not there",
            hmac(104, 5),
            Some(Reason::UnknownSender),
        ),
        (
            10,
            "endpoint that is not there",
            stranger,
            Some(Reason::UnknownSender),
        ),
    ] {
        let frame = relay.relay(number, &inner);
        let said = relay.exchange(&mut world, &frame);
        assert_eq!(acks(&said), [number], "{why}: {said:?}");
        assert_eq!(
            rejects(&said),
            want.map(|want| vec![(number, want)]).unwrap_or_default(),
            "{why}"
        );
    }
    assert_eq!(world.shard.counters().append.frames, 3);
    let frame = relay.relay(12, &hmac(105, 1));
    assert_eq!(
        rejects(&relay.exchange(&mut world, &frame)),
        [(12, Reason::OutOfSequence)]
    );
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.relay(1, &hmac(105, 1));
    assert_eq!(
        reason(&sender.exchange(&mut world, &frame)),
        Reason::RelayNotAllowed
    );
}

#[test]
fn a_withdrawn_or_expired_key_signs_no_envelopes() {
    let cases: [(Change, Reason); 2] = [
        (
            |setup| endpoint_in(&mut setup.parts, SENSOR).keys[0].revoked = true,
            Reason::KeyRevoked,
        ),
        (
            |setup| {
                endpoint_in(&mut setup.parts, SENSOR).keys[0].expires =
                    Some(UnixNanos::from_seconds(START));
            },
            Reason::KeyExpired,
        ),
    ];
    for (change, want) in cases {
        let mut setup = Setup::new(AckMode::Local);
        change(&mut setup);
        let mut world = World::new(setup);
        let mut relay = Client::connect(&mut world, RELAY, 3);
        let inner = envelope(
            1,
            Signer::Key {
                id: KeyId(1),
                key: secret(4).mac(),
            },
            &[b"x"],
        );
        let frame = relay.relay(1, &inner);
        assert_eq!(reason(&relay.exchange(&mut world, &frame)), want);
    }
}

#[test]
fn a_partition_of_another_shard_is_not_ours() {
    let mut setup = Setup::new(AckMode::Local);
    setup.parts.hubs[0].partitions = 1;
    let mut parts = setup.parts.clone();
    let mut world = World::new(setup);
    // The new table moves the sender's channel to a hub that this shard owns nothing of.
    let mut hub = parts.hubs[0].clone();
    (hub.id, hub.name) = (2, "acme/prod/far".into());
    parts.hubs.push(hub);
    parts.channels[0].hub = 1;
    parts.epoch = 2;
    world.swap_table(parts);
    world.settle();
    let mut client = Client::connect(&mut world, SENDER, 1);
    let frame = client.send_number(1, &[b"x"]);
    assert_eq!(
        reason(&client.exchange(&mut world, &frame)),
        Reason::NotOwner
    );
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
fn a_session_without_credit_is_busy() {
    let mut setup = Setup::new(AckMode::Durable);
    setup.limits.credit_frames = 2;
    setup.limits.relay_window_max = 2;
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    let frames = [
        client.send(&[b"1"]),
        client.send(&[b"2"]),
        client.send(&[b"3"]),
        client.send(&[b"4"]),
    ]
    .concat();
    let said = client.exchange(&mut world, &frames);
    let [Said::Reject(reject)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!((reject.sequence.0, reject.notice.reason), (3, Reason::Busy));
    assert!(reject.notice.retry_after_ms > 0);
    world.hold_syncs = false;
    world.release_syncs();
    world.settle();
    client.sequence = 3;
    let frames = [client.send(&[b"3"]), client.send(&[b"4"])].concat();
    let said = [
        client.read(&mut world),
        client.exchange(&mut world, &frames),
    ]
    .concat();
    assert_eq!(acks(&said).last(), Some(&4));
}
