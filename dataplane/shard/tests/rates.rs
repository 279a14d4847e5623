//! Rates: of a grant, an endpoint, an account, one for all shards of a node, however many sessions and relays use them. And what
//! others have of a shard beside one who sends without end, and beside one who never reads.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use partition::memory::Disk;
use shard::Ownership;
use support::*;
use wire::delivery::Source;
use wire::ids::*;
use wire::reason::{Notice, Reason};
use wire::route::*;
use wire::signature::Signer;

fn account(messages: Option<u32>, bytes: Option<u64>) -> Account {
    Account {
        name: "acme".into(),
        rates: Rates {
            messages_per_second: messages,
            bytes_per_second: bytes,
        },
    }
}

fn rejected(said: &[Said]) -> Notice {
    let [Said::Reject(reject)] = said else {
        panic!("{said:?}")
    };
    reject.notice
}

#[test]
fn an_endpoint_s_rate_holds_over_all_its_channels_and_an_account_s_over_all_its_endpoints() {
    let mut setup = Setup::new(AckMode::Local);
    let sender = endpoint_in(&mut setup.parts, SENDER);
    sender.send.push(grant(OTHER));
    sender.rates.messages_per_second = Some(10);
    setup.parts.accounts = vec![account(Some(16), None)];
    let mut world = World::new(setup);
    let mut one = Client::connect(&mut world, SENDER, 1);
    let mut two = Client::connect(&mut world, SENSOR, 4);
    for (number, channel) in [(1, CHANNEL), (2, OTHER)] {
        let frame = one.send_as(one.endpoint, channel, number, &[&b"x"[..]; 5]);
        assert_eq!(acks(&one.exchange(&mut world, &frame)), [number]);
    }
    let frame = one.send_as(one.endpoint, OTHER, 3, &[b"x"]);
    let told = rejected(&one.exchange(&mut world, &frame));
    assert_eq!(
        (told.reason, told.seen, told.needed, told.retry_after_ms),
        (Reason::EndpointRate, 1, 10, 100)
    );
    let frame = two.send(&[&b"x"[..]; 6]);
    assert_eq!(acks(&two.exchange(&mut world, &frame)), [1]);
    let frame = two.send_number(2, &[b"x"]);
    let told = rejected(&two.exchange(&mut world, &frame));
    assert_eq!(
        (told.reason, told.seen, told.needed, told.retry_after_ms),
        (Reason::AccountRate, 1, 16, 63)
    );
    // What one was refused took nothing of what is the other's too.
    world.pass(Duration::from_millis(63));
    let frame = two.send_number(2, &[b"x"]);
    assert_eq!(acks(&two.exchange(&mut world, &frame)), [2]);
    assert_eq!(world.shard.counters().route.refused, 2);
}

#[test]
fn bytes_are_those_of_whole_frames_and_a_long_one_comes_at_some_time() {
    let mut setup = Setup::new(AckMode::Local);
    endpoint_in(&mut setup.parts, SENDER).rates.bytes_per_second = Some(100_000);
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let long = [7u8; 250_000];
    let frame = client.send(&[&long[..], &long]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [1]);
    let bytes = frame.len() as u64;
    let frame = client.send_number(2, &[&long[..], &long]);
    let told = rejected(&client.exchange(&mut world, &frame));
    assert_eq!((told.reason, told.seen), (Reason::EndpointByteRate, bytes));
    let wait = Duration::from_millis(told.retry_after_ms.into());
    world.pass(wait - Duration::from_millis(1));
    let frame = client.send_number(2, &[&long[..], &long]);
    let told = rejected(&client.exchange(&mut world, &frame));
    assert_eq!(told.retry_after_ms, 1, "the time told was true");
    world.pass(Duration::from_millis(1));
    let frame = client.send_number(2, &[&long[..], &long]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [2]);
}

#[test]
fn a_new_table_gives_nobody_a_second_s_worth_anew() {
    let parts = |epoch, rate| {
        let mut parts = parts(AckMode::Local);
        parts.epoch = epoch;
        endpoint_in(&mut parts, SENDER).rates.messages_per_second = Some(rate);
        parts
    };
    let mut setup = Setup::new(AckMode::Local);
    setup.parts = parts(1, 10);
    let old = RouteTable::build(setup.parts.clone()).unwrap();
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    // The world's table is another one than `old`, so it is swapped for one that goes on from that, too.
    let mut next = RouteTable::build(parts(2, 10)).unwrap();
    next.go_on_from(&old);
    world.table = Some(std::sync::Arc::new(next.clone()));
    let frame = client.send(&[&b"x"[..]; 10]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [1]);
    let mut faster = RouteTable::build(parts(3, 20)).unwrap();
    faster.go_on_from(&next);
    world.table = Some(std::sync::Arc::new(faster));
    let frame = client.send_number(2, &[b"x"]);
    let told = rejected(&client.exchange(&mut world, &frame));
    assert_eq!((told.reason, told.needed), (Reason::EndpointRate, 20));
    world.pass(Duration::from_millis(u64::from(told.retry_after_ms)));
    let frame = client.send_number(2, &[b"x"]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [2]);
}

#[test]
fn what_is_discarded_behind_a_refused_frame_costs_nothing_of_the_rate() {
    let mut setup = Setup::new(AckMode::Local);
    endpoint_in(&mut setup.parts, SENDER)
        .rates
        .messages_per_second = Some(10);
    let mut world = World::new(setup);
    let mut client = Client::connect(&mut world, SENDER, 1);
    let first = client.send(&[&b"x"[..]; 8]);
    let large = client.send(&[&b"x"[..]; 4]);
    // They would fit, each, but come behind one that did not.
    let small: Vec<u8> = (0..20).flat_map(|_| client.send(&[b"x"])).collect();
    let said = client.exchange(&mut world, &[first, large, small].concat());
    assert_eq!(
        (acks(&said), rejects(&said)),
        (vec![1], vec![(2, Reason::EndpointRate)])
    );
    let frame = client.send_number(2, &[&b"x"[..]; 2]);
    assert_eq!(acks(&client.exchange(&mut world, &frame)), [2]);
}

/// The shards of a node and a relay on each of two of them, which relays for one sensor.
fn two_relays() -> (Vec<World>, [usize; 2], [String; 2]) {
    let names = |at: usize| format!("acme/prod/gateway-{at}");
    let mut setup = Setup::new(AckMode::Local);
    setup.parts.hubs[0].partitions = 8;
    endpoint_in(&mut setup.parts, SENSOR).send[0]
        .restriction
        .messages_per_second = Some(100);
    for at in 0..8 {
        let mut relay = endpoint_in(&mut setup.parts, RELAY).clone();
        relay.id = EndpointId::of(&names(at));
        relay.name = names(at).as_str().into();
        setup.parts.endpoints.push(relay);
    }
    let table = RouteTable::build(setup.parts.clone()).unwrap();
    let ownership = Ownership::new(&table, 4);
    let home = |at: usize| {
        let relay = table.endpoint_by_name(&names(at)).unwrap();
        usize::from(ownership.home(&table, &relay, Direction::Ingress))
    };
    let other = (1..8).find(|at| home(*at) != home(0)).unwrap();
    let homes = [home(0), home(other)];
    let mut shards = World::shards(Disk::new(1), setup, 4);
    settle_all(&mut shards, usize::MAX);
    (shards, homes, [names(0), names(other)])
}

#[test]
fn a_rate_is_one_for_the_node_however_many_shards_relay_for_its_endpoint() {
    let (mut shards, homes, names) = two_relays();
    let mut relays = [0, 1].map(|at| Client::connect(&mut shards[homes[at]], &names[at], 3));
    let key = secret(4);
    let (mut inner, mut taken, mut refused) = (0, 0, 0);
    // Ten seconds of both relays as fast as they can: a second's worth at first, and what time pays for.
    for _ in 0..1_000 {
        for (relay, home) in relays.iter_mut().zip(homes) {
            inner += 1;
            let signer = Signer::Key {
                id: KeyId(1),
                key: key.mac(),
            };
            let envelope = envelope(inner, signer, &[b"x"]);
            let number = relay.sequence;
            relay.sequence += 1;
            let frame = relay.relay(number, &envelope);
            shards[home].receive(relay.connection, &frame);
            settle_all(&mut shards, usize::MAX);
            for (number, reason) in rejects(&relay.read(&mut shards[home])) {
                assert_eq!(reason, Reason::RestrictedRate, "relay number {number}");
                refused += 1;
            }
        }
        for shard in &mut shards {
            shard.pass(Duration::from_millis(10));
        }
    }
    for shard in &shards {
        taken += shard.shard.counters().append.frames;
    }
    assert_eq!(taken + refused, 2_000);
    assert!(
        (1_095..=1_100).contains(&taken),
        "{taken} of 2,000 at 100 a second, on two shards"
    );
}

/// What 64 senders see in `turns` turns, each with three messages in every turn, and how often a flooder beside them is refused.
fn senders_beside(flooder: bool, turns: u64) -> (Vec<(u64, Vec<u64>)>, u64, u64) {
    let mut setup = Setup::new(AckMode::Durable);
    let names: Vec<String> = (0..65).map(|at| format!("acme/prod/many-{at}")).collect();
    for name in &names {
        let mut one = endpoint_in(&mut setup.parts, SENDER).clone();
        one.id = EndpointId::of(name);
        one.name = name.as_str().into();
        setup.parts.endpoints.push(one);
    }
    let mut world = World::new(setup);
    let connect = |name: &String| Client::connect(&mut world, name, 1);
    let mut clients: Vec<Client> = names.iter().map(connect).collect();
    let mut noise = clients.pop().unwrap();
    world.hold_syncs = true;
    let (mut seen, mut busy, mut flooded) = (Vec::new(), 0, 0);
    for turn in 0..turns {
        for client in &mut clients {
            let frames: Vec<u8> = (0..3).flat_map(|_| client.send(&[&[7; 100]])).collect();
            world.receive(client.connection, &frames);
        }
        if flooder {
            // 200 a turn, with no heed of credit.
            let frames: Vec<u8> = (0..200).flat_map(|_| noise.send(&[&[9; 100]])).collect();
            flooded += 200;
            world.receive(noise.connection, &frames);
        }
        // The disk takes ten turns for a sync.
        if turn % 10 == 9 {
            world.release_syncs();
        }
        world.turn();
        for (at, client) in clients.iter_mut().enumerate() {
            let said = client.read(&mut world);
            assert_eq!(rejects(&said), [], "sender {at}, turn {turn}");
            let acked = acks(&said);
            if !acked.is_empty() {
                seen.push((turn << 8 | at as u64, acked));
            }
        }
        for (number, reason) in rejects(&noise.read(&mut world)) {
            assert_eq!(reason, Reason::Busy);
            busy += 1;
            noise.sequence = number;
        }
    }
    (seen, busy, flooded)
}

#[test]
fn beside_one_who_floods_64_senders_see_what_they_see_alone_and_the_flooder_is_told_busy() {
    let (alone, busy, _) = senders_beside(false, 200);
    assert_eq!(busy, 0);
    let (beside, busy, flooded) = senders_beside(true, 200);
    assert!(busy > 10, "{busy} times for {flooded} frames");
    assert_eq!(alone.len(), beside.len(), "as many acks");
    assert!(alone == beside, "the same acks in the same turns");
}

const TURNS: u64 = 150;

/// What four receivers that read get, turn by turn, and the work that delivering took.
fn receivers_beside(stuck: bool) -> (Vec<Vec<usize>>, u64) {
    let mut setup = Setup::new(AckMode::Local);
    let names: Vec<String> = (0..5).map(|at| format!("acme/prod/hear-{at}")).collect();
    for name in &names {
        let mut one = endpoint_in(&mut setup.parts, RECEIVER).clone();
        one.id = EndpointId::of(name);
        one.name = name.as_str().into();
        setup.parts.endpoints.push(one);
    }
    let mut world = World::new(setup);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let connect = |name: &String| Client::connect(&mut world, name, 2);
    let mut clients: Vec<Client> = names.iter().map(connect).collect();
    let mut silent = clients.pop().unwrap();
    if stuck {
        let fetch = silent.fetch(Source::Queue, 1 << 19, 32 << 20);
        world.receive(silent.connection, &fetch);
        world.turn();
        world.stick(silent.connection);
    }
    for client in &mut clients {
        let fetch = client.fetch(Source::Queue, 1 << 19, 32 << 20);
        world.receive(client.connection, &fetch);
    }
    let mut got = Vec::new();
    for _ in 0..TURNS {
        let frame = sender.send(&[&[7u8; 20_000][..]; 4]);
        world.receive(sender.connection, &frame);
        world.turn();
        let counts = clients
            .iter_mut()
            .map(|client| bodies(&client.read(&mut world)).len());
        got.push(counts.collect());
        sender.read(&mut world);
    }
    let deliver = &world.shard.counters().deliver;
    assert_eq!(deliver.messages_lost, 0);
    (got, deliver.backpressure)
}

#[test]
fn one_receiver_that_never_reads_costs_the_others_nothing() {
    let (alone, idle) = receivers_beside(false);
    let (beside, skipped) = receivers_beside(true);
    assert_eq!(idle, 0);
    assert!(alone == beside, "the same messages in the same turns");
    assert!(
        skipped <= TURNS,
        "{skipped}: at most one look in each of {TURNS} turns"
    );
}
