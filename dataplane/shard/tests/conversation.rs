//! The worked conversation of PROTOCOL.md is, byte for byte, what a shard says.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use shard::ConnectionId;
use support::*;
use wire::ids::*;
use wire::route::*;
use wire::signature::SecretKey;

const CONVERSATION: &str = include_str!("../../wire/tests/golden/conversation.txt");

/// One thing that one side says: on which connection, which side, what, the bytes.
struct Line {
    connection: usize,
    client: bool,
    /// In a datagram of the client's, beside the lane.
    beside: bool,
    title: String,
    bytes: Vec<u8>,
}

fn lines() -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for text in CONVERSATION.lines().map(str::trim) {
        if let Some(head) = text.strip_prefix("[connection ") {
            let (number, rest) = head.split_once(", ").unwrap();
            let beside = rest.starts_with("beside the lane");
            let client = rest.starts_with("client") || beside;
            let connection = number.parse().unwrap();
            lines.push(Line {
                connection,
                client,
                beside,
                title: text.to_owned(),
                bytes: Vec::new(),
            });
        } else if let Some(line) = lines.last_mut()
            && let Some(bytes) = unhex(text)
        {
            line.bytes.extend(bytes);
        }
    }
    lines
}

/// The bytes of a line that is nothing but hexadecimal digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    digits.then(|| (0..text.len()).step_by(2).map(byte).collect())
}

fn key_of(first: u8) -> SecretKey {
    SecretKey::from_random(std::array::from_fn(|at| first + at as u8))
}

fn setup() -> Setup {
    let (sender, receiver) = ("acme/prod/pump-7", "acme/prod/billing");
    let mut setup = Setup::new(AckMode::Durable);
    let mut primary = key(1, Direction::Egress, KeyMaterial::Symmetric(key_of(0x20)));
    primary.name = "primary".into();
    let ingress = key(1, Direction::Ingress, KeyMaterial::Symmetric(key_of(0)));
    setup.parts.epoch = 7;
    setup.parts.hubs[0].partitions = 4;
    setup.parts.endpoints = vec![
        endpoint(sender, vec![ingress], vec![grant(CHANNEL)], vec![]),
        endpoint(receiver, vec![primary], vec![], vec![grant(CHANNEL)]),
    ];
    setup.limits.logs = LogsId(0x1095_1095_1095_1095);
    setup.limits.credit_frames = 64;
    setup.limits.credit_bytes = 8 << 20;
    setup.limits.idle_timeout = Duration::from_secs(60);
    setup.limits.linger = Duration::from_secs(30);
    setup
}

fn open(world: &mut World, session: u8, nonce: u8) -> ConnectionId {
    let random = std::array::from_fn(|at| {
        if at < 16 {
            session
        } else {
            nonce + (at - 16) as u8
        }
    });
    world.open_from("10.1.2.3:4000".parse().unwrap(), random)
}

#[test]
fn a_shard_says_the_worked_conversation_byte_for_byte() {
    let mut world = World::new(setup());
    let connections = [
        open(&mut world, 0xA1, 0x80),
        open(&mut world, 0xB2, 0xC0),
        open(&mut world, 0xC3, 0x30),
    ];
    world.tunnel(connections[2], std::array::from_fn(|at| 0xE0 + at as u8));
    let (mut expected, mut titles) = (Vec::new(), Vec::new());
    let (mut at, mut checked) = (connections[0], 0);
    for line in lines() {
        if line.client && !expected.is_empty() {
            world.settle();
            assert_eq!(world.take_said(at), expected, "{titles:?}");
            expected.clear();
            titles.clear();
        }
        at = connections[line.connection - 1];
        if line.beside {
            world.beside(at, &line.bytes);
        } else if line.client {
            world.receive(at, &line.bytes);
        } else {
            checked += 1;
            expected.extend(line.bytes);
            titles.push(line.title);
        }
    }
    world.settle();
    assert_eq!(world.take_said(at), expected, "nothing is said behind BYE");
    assert_eq!(checked, 11, "frames of the server");
    assert!(
        connections
            .iter()
            .all(|connection| world.closed(*connection))
    );
}
