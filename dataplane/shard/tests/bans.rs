//! Who is kept out, and that it is for what they did: not for what the node had no room for, was late with, or others did.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use shard::{BanLimits, Barred};
use support::*;
use wire::handshake::Auth;
use wire::ids::*;
use wire::preface::Preface;
use wire::reason::Reason;
use wire::token::{Token, mint};

/// A world that bans addresses that fail more than three times in ten seconds, and keys and tokens that open more than four sessions.
fn strict() -> Setup {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.bans = BanLimits {
        address_failures_max: 3,
        key_sessions_max: 4,
        ..BanLimits::default()
    };
    setup
}

/// One that also bans addresses that come more than six times.
fn stricter() -> Setup {
    let mut setup = strict();
    setup.limits.bans.address_connections_max = 6;
    setup
}

/// Connect, say a preface and go.
fn flap(world: &mut World, peer: &str) -> Option<Reason> {
    let connection = world.open_from(peer.parse().unwrap(), [7; 48]);
    world.receive(connection, &Preface::CLIENT.encode());
    world.turn();
    let refused = world.closed(connection).then(|| {
        let said = world.take_said(connection);
        let (frame, _) = wire::frame::split(&said[8..]).unwrap().unwrap();
        wire::link::parse_goaway(frame).unwrap().reason
    });
    world.cut(connection);
    world.turn();
    refused
}

/// Say HELLO from an address of its own; what is answered to it. The connection is cut after that.
fn try_in(world: &mut World, number: u8, name: &str, secret: &[u8], auth: Auth<'_>) -> Said {
    let mut client = Client::new(world, name, secret);
    world.cut(client.connection);
    let peer = format!("10.5.{number}.1:1").parse().unwrap();
    client.connection = world.open_from(peer, [number; 48]);
    client.nonce = [0; 32];
    client.nonce[0] = number;
    let hello = client.hello_bytes(auth, 0);
    let said = client.exchange(world, &hello);
    world.cut(client.connection);
    world.turn();
    said.into_iter().nth(1).unwrap()
}

fn fill(world: &mut World, sixteenths: u64) {
    let memory = world.shard.memory();
    let others = memory.used.total() - memory.used.mesh;
    let wanted = memory.budget_bytes * sixteenths / 16;
    world.shard.note_moving(wanted.saturating_sub(others));
    world.turn();
}

#[test]
fn who_is_turned_away_because_the_node_has_no_room_is_not_banned_for_coming_again() {
    type Short = fn(&mut Setup);
    let cases: [(&str, Short, u64, Option<Reason>); 4] = [
        ("memory", |_| {}, 12, Some(Reason::ConnectionsShed)),
        (
            "too many come",
            |setup| setup.limits.accepts_per_second = 1,
            0,
            Some(Reason::AcceptsLimited),
        ),
        (
            "its share of connections",
            |setup| setup.limits.connections_per_address_max = 1,
            0,
            Some(Reason::AddressCrowded),
        ),
        (
            "all connections",
            |setup| setup.limits.connections_max = 1,
            0,
            None,
        ),
    ];
    for (why, short, sixteenths, told) in cases {
        let mut setup = stricter().of_little_memory();
        short(&mut setup);
        let mut world = World::new(setup);
        let peer = "10.7.7.7:1";
        let holds = world.open_from(peer.parse().unwrap(), [1; 48]);
        world.turn();
        fill(&mut world, sixteenths);
        for at in 0..50 {
            match told {
                Some(_) => assert_eq!(flap(&mut world, peer), told, "{why}, {at}"),
                None => {
                    let connection = world.open_from(peer.parse().unwrap(), [7; 48]);
                    world.turn();
                    assert!(world.closed(connection), "{why}, {at}");
                }
            }
        }
        assert_eq!(world.shard.banned(9), [], "{why}");
        world.cut(holds);
        fill(&mut world, 0);
        world.pass(Duration::from_secs(5));
        assert_eq!(flap(&mut world, peer), None, "{why}: there is room again");
    }
}

#[test]
fn a_key_for_whose_sessions_there_is_no_room_is_not_banned_for_asking_again() {
    let mut setup = strict();
    setup.limits.sessions_max = 1;
    let mut world = World::new(setup);
    let mut holds = Client::connect(&mut world, RELAY, 3);
    let asks = |world: &mut World, number| {
        let key = secret(1);
        let auth = Auth::Key(KeyId(1));
        try_in(world, number, SENDER, key.text_bytes(), auth)
    };
    for number in 0..20 {
        let Said::Refused(told) = asks(&mut world, number) else {
            panic!("{number} is let in")
        };
        assert_eq!(told.reason, Reason::SessionsFull, "{number}");
    }
    assert_eq!(world.shard.banned(9), []);
    let bye = holds.bye();
    holds.exchange(&mut world, &bye);
    let said = asks(&mut world, 20);
    assert!(matches!(said, Said::Welcome(..)), "{said:?}");
}

#[test]
fn a_welcome_that_is_late_is_no_failure_of_who_waits_for_it() {
    let mut world = World::new(Setup {
        limits: shard::Limits {
            handshake_timeout: Duration::from_secs(1),
            bans: BanLimits {
                address_failures_max: 3,
                ..BanLimits::default()
            },
            ..Setup::new(AckMode::Durable).limits
        },
        ..Setup::new(AckMode::Durable)
    });
    let mut sender = Client::connect(&mut world, SENDER, 1);
    world.hold_syncs = true;
    let frame = sender.send(&[b"not on disk yet"]);
    sender.exchange(&mut world, &frame);
    for at in 0..10 {
        let mut again = Client::new(&mut world, SENDER, secret(1).text_bytes());
        let hello = again.hello_bytes(Auth::Key(KeyId(1)), 0);
        assert_eq!(again.exchange(&mut world, &hello).len(), 1, "the preface");
        world.pass(Duration::from_secs(1));
        world.settle();
        let said = again.read(&mut world);
        assert_eq!(reason(&said), Reason::HandshakeTimeout, "{at}");
        assert_eq!(world.shard.banned(9), [], "{at}");
    }
    // Who says nothing is at fault.
    for at in 0..4 {
        let connection = world.open();
        world.turn();
        world.pass(Duration::from_secs(1));
        world.settle();
        assert!(world.closed(connection), "{at}");
    }
    assert_eq!(world.shard.banned(9).len(), 1);
}

#[test]
fn a_hello_that_waits_for_a_turn_until_it_is_too_late_is_no_failure_of_who_said_it() {
    let mut world = World::new(Setup {
        limits: shard::Limits {
            handshake_timeout: Duration::from_secs(1),
            bans: BanLimits {
                address_failures_max: 3,
                ..BanLimits::default()
            },
            ..Setup::new(AckMode::Durable).limits
        },
        ..Setup::new(AckMode::Durable)
    });
    for at in 0..10 {
        let connection = world.open();
        world.turn();
        world.pass(Duration::from_millis(500));
        world.shard.note_waiting(connection, world.now.monotonic);
        world.pass(Duration::from_millis(500));
        world.settle();
        assert!(world.closed(connection), "{at}");
    }
    assert_eq!(world.shard.banned(9), []);
}

#[test]
fn who_has_a_token_can_have_it_banned_but_not_the_key_that_signed_it_nor_other_tokens() {
    let mut world = World::new(strict());
    let scope = format!("sb://forebay/{SENDER}");
    let token = |seconds| mint(secret(1).mac(), &scope, START + seconds, "key1");
    let (first, second) = (token(600), token(601));
    let signature = |text: &str| {
        let token = Token::parse(text).unwrap();
        token.expected_signature(secret(1).mac())
    };
    for number in 0..4 {
        let said = try_in(
            &mut world,
            number,
            SENDER,
            &signature(&first),
            Auth::Token(&first),
        );
        assert!(matches!(said, Said::Welcome(..)), "{number}: {said:?}");
    }
    let try_first = |world: &mut World, number, text: &str| {
        try_in(world, number, SENDER, &signature(&first), Auth::Token(text))
    };
    let bare = {
        let (head, tail) = first.split_once("&sig=").unwrap();
        format!("{head}&{}", tail.split_once('&').unwrap().1)
    };
    for (number, text) in [(4, &first), (5, &bare)] {
        let Said::Refused(told) = try_first(&mut world, number, text) else {
            panic!("{number} is let in")
        };
        assert_eq!(told.reason, Reason::KeyBanned, "however it is written");
    }
    let who: Vec<Barred> = world.shard.banned(9).iter().map(|ban| ban.who).collect();
    assert_eq!(who, [Barred::Token(EndpointId::of(SENDER), KeyId(1))]);
    let said = try_in(
        &mut world,
        6,
        SENDER,
        &signature(&second),
        Auth::Token(&second),
    );
    assert!(matches!(said, Said::Welcome(..)), "another token: {said:?}");
    Client::connect(&mut world, SENDER, 1);
}

#[test]
fn who_guesses_tokens_has_neither_key_nor_token_banned_but_the_address() {
    let mut world = World::new(strict());
    let text = mint(
        secret(1).mac(),
        &format!("sb://forebay/{SENDER}"),
        START + 600,
        "key1",
    );
    for number in 0..8 {
        let mut client = Client::new(&mut world, SENDER, &[number; 32]);
        let hello = client.hello_bytes(Auth::Token(&text), 0);
        let said = client.exchange(&mut world, &hello);
        let wanted = match number {
            0..4 => Reason::BadCredential,
            _ => Reason::AddressBanned,
        };
        assert_eq!(reason(&said), wanted, "{number}");
    }
    let who: Vec<Barred> = world.shard.banned(9).iter().map(|ban| ban.who).collect();
    assert!(matches!(who[..], [Barred::Address(_)]), "{who:?}");
}

#[test]
fn a_ban_holds_on_all_shards_and_so_does_how_long_the_next_one_lasts() {
    const SHARDS: u16 = 4;
    let mut shards = World::shards(partition::memory::Disk::new(1), stricter(), SHARDS);
    settle_all(&mut shards, usize::MAX);
    let (peer, mut tried) = ("10.7.7.7:1", 0);
    for round in 1..=3_u32 {
        // The kernel deals its connections out; whichever shard bans it first tells the others.
        let ban_on = round as usize % usize::from(SHARDS);
        for at in 0.. {
            let shard = match at {
                0..5 => (ban_on + 1) % usize::from(SHARDS),
                _ => ban_on,
            };
            tried += 1;
            if flap(&mut shards[shard], peer).is_some() {
                assert_eq!((shard, at), (ban_on, 11), "round {round}");
                break;
            }
        }
        settle_all(&mut shards, usize::MAX);
        for (at, shard) in shards.iter_mut().enumerate() {
            let banned = shard.shard.banned(9);
            let [ban] = &banned[..] else {
                panic!("shard {at}, round {round}: {banned:?}")
            };
            assert_eq!(
                ban.lasts,
                Duration::from_secs(1 << (round - 1)),
                "shard {at}"
            );
            assert_eq!(ban.bans, round, "shard {at}");
            assert_eq!(flap(shard, peer), Some(Reason::AddressBanned), "shard {at}");
            assert_eq!(flap(shard, "10.7.7.8:1"), None, "another address");
        }
        shards
            .iter_mut()
            .for_each(|shard| shard.pass(Duration::from_secs(1 << (round - 1))));
    }
    let began: u64 = (shards.iter())
        .map(|shard| shard.shard.counters().shed.address_bans)
        .sum();
    assert_eq!((tried, began), (36, 3), "each ban began on one shard");
}

#[test]
fn bans_that_wait_for_a_way_that_is_blocked_have_a_bound() {
    let mut setup = strict();
    setup.limits.bans.address_connections_max = 1;
    let mut shards = World::shards(partition::memory::Disk::new(1), setup, 2);
    settle_all(&mut shards, usize::MAX);
    let banned = |world: &World| world.shard.banned(usize::MAX).len();
    // The other shard takes nothing meanwhile.
    for at in 0..2_000 {
        let peer = format!("10.{}.{}.1:1", at / 250, at % 250);
        flap(&mut shards[0], &peer);
        assert_eq!(flap(&mut shards[0], &peer), Some(Reason::AddressBanned));
    }
    assert_eq!(banned(&shards[0]), 2_000);
    settle_all(&mut shards, usize::MAX);
    let told = banned(&shards[1]);
    assert!((1_000..2_000).contains(&told), "{told} of 2,000");
}
