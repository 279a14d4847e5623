//! Frames that every implementation makes, and takes, byte for byte.

use wire::ack::{Ack, Reject};
use wire::delivery::{DeliverBuilder, Fetch, GroupHeader, Outcome, Settle, Source};
use wire::handshake::{Auth, HelloFields, encode_hello, encode_refused, encode_welcome};
use wire::home::Home;
use wire::link::{encode_bye, encode_goaway, encode_ping, encode_pong};
use wire::preface::Preface;
use wire::send::{SendBuilder, encode_relay};
use wire::signature::{MacKey, Signer};
use wire::{
    AckMode, Direction, KeyId, Notice, Offset, QUEUE_STREAM, RELAY_STREAM, Reason, Sequence,
    UnixNanos,
};

use crate::golden::{Block, assert_same};
use crate::parties::*;

/// Headers of the golden messages.
pub(crate) const HEADERS: [(&str, &[u8]); 2] = [
    ("content-type", b"application/json"),
    ("unit", b"\xC2\xB0C"),
];

fn key() -> MacKey {
    Connection::ingress().keys.client.clone()
}

fn made(encode: impl FnOnce(&mut Vec<u8>, Signer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(
        &mut out,
        Signer::Session {
            key: &key(),
            frame_index: 0,
        },
    );
    out
}

pub(crate) fn send(messages: &[Content<'_>], signer: Signer<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut builder = SendBuilder::begin(&mut out, sender(), channel(), Sequence(1));
    for (headers, body) in messages {
        builder
            .message(UnixNanos::from_seconds(NOW), headers, body)
            .expect("within all limits");
    }
    builder.finish(signer).expect("at least one message");
    out
}

pub(crate) fn hello(auth: Auth<'_>, name: &str) -> Vec<u8> {
    let connection = Connection::ingress();
    let fields = HelloFields {
        auth,
        name,
        client_nonce: connection.client_nonce,
        unix_seconds: NOW,
    };
    let mut out = Vec::new();
    encode_hello(&mut out, &fields, &connection.secret, &[]).expect("within all limits");
    out
}

pub(crate) fn group(number: u64, offset: u64, count: u16) -> GroupHeader {
    GroupHeader {
        number: Sequence(number),
        sender: sender(),
        offset: Offset(offset),
        append_time: UnixNanos::from_seconds(NOW),
        partition: partition(),
        channel: channel(),
        count,
        attempt: 1,
    }
}

fn deliver(groups: &[(GroupHeader, &[u8])]) -> Vec<u8> {
    made(|out, signer| {
        let mut builder = DeliverBuilder::begin(out, Source::Queue);
        groups
            .iter()
            .for_each(|(header, messages)| assert!(builder.group(header, messages)));
        assert!(builder.finish(signer));
    })
}

/// Whoever is at home elsewhere is told so.
const NOT_HOME: Notice = Notice::new(Reason::NotHome, 7, 9);
const HOME: Home<'_> = Home {
    node: "north",
    address: Some("north.example:7410"),
};
const NOWHERE: Home<'_> = Home {
    node: "north",
    address: None,
};

fn handshake() -> Vec<Block> {
    let connection = Connection::ingress();
    let token = wire::token::mint(
        receiver_secret().mac(),
        "sb://forebay.example/acme/prod/billing",
        NOW + 3_600,
        "primary",
    );
    let welcome = |direction, entries: Vec<_>| {
        made(|out, signer| {
            encode_welcome(
                out,
                &connection.welcome(SENDER, direction),
                entries.into_iter(),
                signer,
            )
        })
    };
    let refused = Notice::new(Reason::BadCredential, 0, 0);
    let mut out = Vec::new();
    encode_refused(&mut out, refused, None);
    let mut away = Vec::new();
    encode_refused(&mut away, NOT_HOME, Some(HOME));
    vec![
        Block::new(
            "preface of a client",
            "preface",
            Preface::CLIENT.encode().to_vec(),
        ),
        Block::new(
            "preface of a server",
            "preface",
            Preface::CLIENT.answer().encode().to_vec(),
        ),
        Block::new(
            "preface of a server without a common version",
            "preface",
            Preface {
                chosen: 0,
                min: 2,
                max: 9,
            }
            .answer()
            .encode()
            .to_vec(),
        ),
        Block::new(
            "hello with a key",
            "hello",
            hello(Auth::Key(SENDER_KEY), SENDER),
        ),
        Block::new(
            "hello with a token",
            "hello",
            hello(Auth::Token(&token), RECEIVER),
        ),
        Block::new(
            "hello with a token that leaves sig out",
            "hello",
            hello(Auth::Token(&receiver_token()), RECEIVER),
        ),
        Block::new(
            "hello that resumes",
            "hello",
            hello(Auth::Resume(connection.session), SENDER),
        ),
        Block::new(
            "hello with the shortest name",
            "hello",
            hello(Auth::Key(SENDER_KEY), "a/b/c"),
        ),
        Block::new(
            "welcome to send to one channel",
            "welcome",
            welcome(Direction::Ingress, vec![ingress_entry()]),
        ),
        Block::new(
            "welcome to hear two",
            "welcome",
            welcome(Direction::Egress, vec![egress_entry(), egress_entry()]),
        ),
        Block::new(
            "welcome without a channel",
            "welcome",
            welcome(Direction::Ingress, vec![]),
        ),
        Block::new("refused", "refused", out),
        Block::new("refused to another node", "refused", away),
    ]
}

fn sends() -> Vec<Block> {
    let (key, secret, ed25519) = (key(), sender_secret(), ed25519());
    let session = Signer::Session {
        key: &key,
        frame_index: 0,
    };
    let with_key = Signer::Key {
        id: KeyId(1),
        key: secret.mac(),
    };
    let with_ed25519 = Signer::Ed25519 {
        id: KeyId(3),
        key: &ed25519,
    };
    let one: &[Content<'_>] = &[(&[], b"21.5")];
    let two: &[Content<'_>] = &[(&HEADERS, b"21.5"), (&[("empty", b"")], b"")];
    let relay = |inner: Vec<u8>| made(|out, signer| encode_relay(out, Sequence(1), &inner, signer));
    vec![
        Block::new("send of one message", "send", send(one, session)),
        Block::new(
            "send of two messages with headers",
            "send",
            send(two, session),
        ),
        Block::new(
            "send of an empty message",
            "send",
            send(&[(&[], b"")], session),
        ),
        Block::new("envelope with a key", "send", send(one, with_key)),
        Block::new("envelope with ed25519", "send", send(one, with_ed25519)),
        Block::new(
            "relay of an envelope with a key",
            "relay",
            relay(send(one, with_key)),
        ),
        Block::new(
            "relay of an envelope with ed25519",
            "relay",
            relay(send(two, with_ed25519)),
        ),
    ]
}

fn answers() -> Vec<Block> {
    let ack = Ack {
        partition: partition(),
        sequence: Sequence(9),
        ack_mode: AckMode::Durable,
        offset: Offset(41),
        credit_frames: 64,
        credit_bytes: 1 << 20,
    };
    let relays = Ack {
        partition: RELAY_STREAM,
        ack_mode: AckMode::Local,
        offset: Offset(0),
        ..ack
    };
    let busy = Notice::new(Reason::Busy, 65, 64).retry_after(20);
    let reject = Reject {
        partition: partition(),
        sequence: Sequence(10),
        notice: busy,
    };
    let taken = Notice::new(Reason::QueueTaken, 0, 0);
    let queue = Reject {
        partition: QUEUE_STREAM,
        sequence: Sequence(0),
        notice: taken,
    };
    vec![
        Block::new(
            "ack of a partition",
            "ack",
            made(|out, signer| ack.encode(out, signer)),
        ),
        Block::new(
            "ack of relays",
            "ack",
            made(|out, signer| relays.encode(out, signer)),
        ),
        Block::new(
            "reject of a send",
            "reject",
            made(|out, signer| reject.encode(out, signer)),
        ),
        Block::new(
            "reject of a fetch",
            "reject",
            made(|out, signer| queue.encode(out, signer)),
        ),
    ]
}

fn deliveries() -> Vec<Block> {
    let mut messages = Vec::new();
    for body in [&b"21.5"[..], b"21.6"] {
        wire::message::put_message(&mut messages, UnixNanos(1), &[], body)
            .expect("within all limits");
    }
    let one = &messages[..20];
    let fetch = Fetch {
        source: Source::Queue,
        messages: 100,
        bytes: 1 << 20,
    };
    let dead = Fetch {
        source: Source::DeadLetters,
        messages: 1,
        bytes: u64::MAX,
    };
    let mut blocks = vec![
        Block::new(
            "fetch",
            "fetch",
            made(|out, signer| fetch.encode(out, signer)),
        ),
        Block::new(
            "fetch of dead letters",
            "fetch",
            made(|out, signer| dead.encode(out, signer)),
        ),
        Block::new(
            "deliver of one group",
            "deliver",
            deliver(&[(group(1, 40, 2), &messages)]),
        ),
        Block::new(
            "deliver of two groups",
            "deliver",
            deliver(&[(group(5, 40, 2), &messages), (group(9, 77, 1), one)]),
        ),
    ];
    for (title, outcome) in [
        ("settle: accept up to", Outcome::AcceptUpTo),
        ("settle: accept one", Outcome::AcceptOne),
        ("settle: release one", Outcome::ReleaseOne),
        ("settle: dead-letter one", Outcome::DeadLetterOne),
    ] {
        let settle = Settle {
            source: Source::Queue,
            number: Sequence(2),
            outcome,
        };
        blocks.push(Block::new(
            title,
            "settle",
            made(|out, signer| settle.encode(out, signer)),
        ));
    }
    blocks
}

fn link() -> Vec<Block> {
    let draining = Notice::new(Reason::Draining, 0, 0).retry_after(1_000);
    let mut unsigned = Vec::new();
    encode_goaway(
        &mut unsigned,
        Notice::new(Reason::HandshakeTimeout, 10_001, 10_000),
        None,
        Signer::None,
    );
    vec![
        Block::new(
            "ping",
            "ping",
            made(|out, signer| encode_ping(out, Sequence(77), signer)),
        ),
        Block::new(
            "pong",
            "pong",
            made(|out, signer| encode_pong(out, Sequence(77), signer)),
        ),
        Block::new(
            "bye",
            "bye",
            made(|out, signer| encode_bye(out, Notice::new(Reason::PeerBye, 0, 0), signer)),
        ),
        Block::new(
            "goaway in a session",
            "goaway",
            made(|out, signer| encode_goaway(out, draining, None, signer)),
        ),
        Block::new(
            "goaway to a node whose address is not told",
            "goaway",
            made(|out, signer| encode_goaway(out, NOT_HOME, Some(NOWHERE), signer)),
        ),
        Block::new("goaway before a session", "goaway", unsigned),
    ]
}

/// All of them.
pub(crate) fn blocks() -> Vec<Block> {
    [handshake(), sends(), answers(), deliveries(), link()].concat()
}

/// The bytes of the one with this title.
pub(crate) fn bytes(title: &str) -> Vec<u8> {
    blocks()
        .into_iter()
        .find(|block| block.title == title)
        .expect("a golden frame of this title")
        .bytes
}

#[test]
fn accepted_frames_are_made_and_taken_byte_for_byte() {
    let blocks = blocks();
    assert_same("accepted.txt", &blocks);
    for block in &blocks {
        assert_eq!(
            crate::refused::parse(&block.note, &block.bytes),
            Ok(()),
            "{}",
            block.title
        );
    }
}

#[test]
fn a_frame_that_has_not_come_whole_asks_for_more() {
    for block in blocks().iter().filter(|block| block.note != "preface") {
        for end in 0..block.bytes.len() {
            let part = &block.bytes[..end];
            assert_eq!(wire::split(part), Ok(None), "{} cut at {end}", block.title);
            let need = (end >= 4).then_some(block.bytes.len());
            assert_eq!(
                wire::frame_bytes(part),
                Ok(need),
                "{} cut at {end}",
                block.title
            );
        }
    }
}
