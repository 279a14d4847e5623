//! Signatures that are wrong, of another, or of an earlier frame: what is refused, and what that leaves alone.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use support::*;
use wire::ids::*;
use wire::reason::Reason;
use wire::signature::Signer;

type Change = fn(&mut Setup);

/// The next SEND with its signature spoilt.
fn forged(client: &mut Client) -> Vec<u8> {
    let number = client.sequence;
    let mut frame = client.send_number(number, &[b"forged"]);
    *frame.last_mut().unwrap() ^= 1;
    frame
}

#[test]
fn rejects_that_are_signed_together_reach_their_peers_in_order_whatever_else_happens_in_the_turn() {
    let mut world = World::with_ack(AckMode::Local);
    let mut peers: Vec<Client> = (0..3)
        .map(|_| Client::connect(&mut world, RELAY, 3))
        .collect();
    let mut old = Client::connect(&mut world, SENDER, 1);
    // An odd number of them, mixed over the connections, with what else is said on either side of them.
    let lost = forged(&mut peers[2]);
    world.receive(peers[2].connection, &lost);
    world.cut(peers[2].connection);
    for at in [0, 1, 0, 1, 0] {
        let frame = forged(&mut peers[at]);
        world.receive(peers[at].connection, &frame);
        let ping = peers[at].ping(7);
        world.receive(peers[at].connection, &ping);
    }
    let bye = peers[1].bye();
    world.receive(peers[1].connection, &bye);
    // The session goes on over another connection, under other keys, right behind a forged frame.
    let frame = forged(&mut old);
    world.receive(old.connection, &frame);
    let keys = old.keys.as_ref().unwrap();
    let mut new = Client::new(&mut world, SENDER, &keys.resume);
    let hello = new.hello_bytes(wire::handshake::Auth::Resume(old.session), 0);
    world.receive(new.connection, &hello);
    world.settle();
    let bad = |said: &[Said]| rejects(said).len();
    assert_eq!(bad(&peers[0].read(&mut world)), 3);
    assert_eq!(bad(&peers[1].read(&mut world)), 2);
    let said = old.read(&mut world);
    assert!(matches!(said.last(), Some(Said::Goaway(_))), "{said:?}");
    let said = new.read(&mut world);
    assert!(matches!(said.last(), Some(Said::Welcome(..))), "{said:?}");
    let frame = new.send_number(1, &[b"good"]);
    assert_eq!(acks(&new.exchange(&mut world, &frame)), [1]);
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
