//! Hubs that come while the shards of a node run: every shard takes its part of their logs before any is given a table that names
//! them, in whatever order and with whatever said in between.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use partition::memory::{Disk, MemoryStorage};
use partition::{LogId, Partition};
use shard::{NewHubs, Ownership, end_of};
use support::*;
use wire::delivery::Source;
use wire::ids::*;
use wire::route::{ChannelParts, Hub, RouteTable, TableParts};

/// A channel in a hub that comes later.
const LATE: &str = "acme/prod/late";

fn setup() -> Setup {
    let mut setup = Setup::new(AckMode::Durable);
    setup.parts.hubs[0].partitions = 3;
    setup.parts.queue_groups = 4;
    setup
}

/// The plan, with a hub more, a channel in it, and who sends to it and hears it.
fn later(id: u16, partitions: u16) -> Setup {
    let mut setup = setup();
    let parts = &mut setup.parts;
    parts.epoch = 2;
    let hub = Hub {
        id,
        name: "acme/prod/second".into(),
        partitions,
        ..parts.hubs[0].clone()
    };
    parts.hubs.push(hub);
    parts.channels.push(ChannelParts {
        id: ChannelId::of(LATE),
        name: LATE.into(),
        hub: 1,
        priority: Default::default(),
    });
    endpoint_in(parts, SENDER).send.push(grant(LATE));
    endpoint_in(parts, RECEIVER).receive.push(grant(LATE));
    endpoint_in(parts, SENSOR).send.push(grant(LATE));
    setup
}

struct Node {
    disk: Disk,
    shards: Vec<World>,
}

impl Node {
    fn on(disk: Disk, setup: Setup, count: u16) -> Self {
        let mut shards = World::shards(disk.clone(), setup, count);
        settle_all(&mut shards, usize::MAX);
        Self { disk, shards }
    }

    fn count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap()
    }

    fn settle(&mut self) {
        settle_all(&mut self.shards, usize::MAX);
    }

    /// Which shard an endpoint's session lives on.
    fn home(&self, parts: TableParts, name: &str, direction: Direction) -> usize {
        let table = RouteTable::build(parts).unwrap();
        let endpoint = table.endpoint_by_name(name).unwrap();
        usize::from(Ownership::new(&table, self.count()).home(&table, &endpoint, direction))
    }

    /// Open the logs of the hubs that `from` lacks, and give every shard its part, in this order.
    fn adopt(&mut self, from: &TableParts, to: &Setup, order: &[usize]) {
        let [old, new] = [from, &to.parts].map(|parts| RouteTable::build(parts.clone()).unwrap());
        let before = Ownership::new(&old, self.count());
        let mut ownership = before.clone();
        ownership.extend(&new);
        let mut storage = MemoryStorage::new(&self.disk);
        let now = self.shards[0].now.unix;
        let late = new.partitions().filter(|(id, _)| !before.has(id.hub()));
        let open = |(id, _): (PartitionId, &Hub)| {
            let log = LogId::partition(id);
            let opened = Partition::recover(&mut storage, log, to.log_limits, now);
            (id, opened.unwrap().0)
        };
        let late: Vec<_> = late.map(open).collect();
        let ends: Vec<_> = late.iter().filter_map(|(_, log)| end_of(log)).collect();
        let mut dealt: Vec<Vec<_>> = order.iter().map(|_| Vec::new()).collect();
        for (id, log) in late {
            dealt[usize::from(ownership.partition(id).unwrap())].push(log);
        }
        for &at in order {
            self.shards[at].shard.adopt(NewHubs {
                ownership: ownership.clone(),
                partitions: std::mem::take(&mut dealt[at]),
                ends: ends.clone(),
            });
            self.settle();
        }
    }

    /// Give every shard the table, in this order.
    fn apply(&mut self, parts: &TableParts, order: &[usize]) {
        for &at in order {
            self.shards[at].swap_table(parts.clone());
            self.settle();
        }
    }
}

fn exchange(node: &mut Node, at: usize, client: &mut Client, bytes: &[u8]) -> Vec<Said> {
    node.shards[at].receive(client.connection, bytes);
    node.settle();
    client.read(&mut node.shards[at])
}

/// A node, and sessions of a sender, a relay and a receiver that waits, with the shards that they are on.
fn begun(count: u16) -> (Node, [usize; 3], [Client; 3]) {
    let mut node = Node::on(Disk::new(7), setup(), count);
    let parts = setup().parts;
    let at = node.home(parts.clone(), SENDER, Direction::Ingress);
    let beside = node.home(parts.clone(), RELAY, Direction::Ingress);
    let end = node.home(parts, RECEIVER, Direction::Egress);
    let sender = connect(&mut node, at, SENDER, 1);
    let relay = connect(&mut node, beside, RELAY, 3);
    let mut receiver = connect(&mut node, end, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 100, 1 << 20);
    exchange(&mut node, end, &mut receiver, &fetch);
    (node, [at, beside, end], [sender, relay, receiver])
}

/// Send by an open session and by a relay, and hear it by another open session, all to a hub that comes in between.
fn late_hub(count: u16, id: u16, partitions: u16, orders: [Vec<usize>; 2]) {
    let why = format!("{count} shards, hub {id} of {partitions}, {orders:?}");
    let parts = setup().parts;
    let (mut node, [at, beside, end], [mut sender, mut relay, mut receiver]) = begun(count);
    let frame = sender.send_number(1, &[b"before"]);
    assert_eq!(
        acks(&exchange(&mut node, at, &mut sender, &frame)),
        [1],
        "{why}"
    );
    let new = later(id, partitions);
    let [first, second] = orders;
    node.adopt(&parts, &new, &first);
    node.apply(&new.parts, &second);
    // Each hub has streams of its own.
    let frame = sender.send_as(sender.endpoint, LATE, 1, &[b"sent"]);
    assert_eq!(
        acks(&exchange(&mut node, at, &mut sender, &frame)),
        [1],
        "{why}"
    );
    let inner = late_envelope();
    let frame = relay.relay(1, &inner);
    assert_eq!(
        acks(&exchange(&mut node, beside, &mut relay, &frame)),
        [1],
        "{why}"
    );
    let mut heard = bodies(&receiver.read(&mut node.shards[end]));
    heard.sort();
    assert_eq!(heard, [&b"before"[..], b"relayed", b"sent"], "{why}");
    let disk = node.disk.clone();
    drop(node);
    // After a restart, with the hub from the start: what was not settled comes again.
    let mut node = Node::on(disk, later(id, partitions), count);
    let end = node.home(new.parts, RECEIVER, Direction::Egress);
    let mut receiver = connect(&mut node, end, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 100, 1 << 20);
    let mut heard = bodies(&exchange(&mut node, end, &mut receiver, &fetch));
    heard.sort();
    assert_eq!(heard, [&b"before"[..], b"relayed", b"sent"], "{why}");
}

fn connect(node: &mut Node, at: usize, name: &str, number: u8) -> Client {
    connect_saying(node, at, name, number).0
}

fn connect_saying(node: &mut Node, at: usize, name: &str, number: u8) -> (Client, Vec<Said>) {
    let world = &mut node.shards[at];
    let mut client = Client::new(world, name, secret(number).text_bytes());
    let hello = client.hello_bytes(wire::handshake::Auth::Key(KeyId(1)), 0);
    let said = exchange(node, at, &mut client, &hello);
    assert!(matches!(said.get(1), Some(Said::Welcome(..))), "{said:?}");
    (client, said)
}

fn late_envelope() -> Vec<u8> {
    let mut bytes = Vec::new();
    let (sensor, channel) = (EndpointId::of(SENSOR), ChannelId::of(LATE));
    let mut send = wire::send::SendBuilder::begin(&mut bytes, sensor, channel, Sequence(1));
    send.message(UnixNanos(0), &[], b"relayed").unwrap();
    let key = secret(4);
    let (id, key) = (KeyId(1), key.mac());
    send.finish(wire::signature::Signer::Key { id, key })
        .unwrap();
    bytes
}

#[test]
fn a_hub_that_comes_while_shards_run_takes_messages_from_open_sessions_and_keeps_them() {
    for count in 1..=4 {
        for (id, partitions) in [(2, 1), (2, 4), (0, 5)] {
            let up: Vec<usize> = (0..usize::from(count)).collect();
            let down: Vec<usize> = up.iter().rev().copied().collect();
            late_hub(count, id, partitions, [up.clone(), down.clone()]);
            late_hub(count, id, partitions, [down, up]);
        }
    }
}

/// A table names a hub whose logs nobody has; later they are there.
fn hub_without_logs(count: u16, orders: [Vec<usize>; 3]) {
    let why = format!("{count} shards, {orders:?}");
    let parts = setup().parts;
    let (mut node, [at, beside, end], [mut sender, mut relay, mut receiver]) = begun(count);
    let new = later(2, 4);
    let [first, second, third] = orders;
    for &at in &first {
        node.shards[at].shard.lack_hubs(&[2]);
    }
    node.apply(&new.parts, &first);
    let unavailable = wire::reason::Reason::HubUnavailable;
    let refused = |node: &mut Node, sender: &mut Client| {
        let mut frames = sender.send_as(sender.endpoint, LATE, 1, &[b"one"]);
        frames.extend(sender.send_as(sender.endpoint, LATE, 2, &[b"two"]));
        rejects(&exchange(node, at, sender, &frames))
    };
    // What follows a refused frame is discarded, as in any stream.
    assert_eq!(refused(&mut node, &mut sender), [(1, unavailable)], "{why}");
    let frame = relay.relay(1, &late_envelope());
    let said = exchange(&mut node, beside, &mut relay, &frame);
    assert_eq!(rejects(&said), [(1, unavailable)], "{why}");
    // Nobody else is touched, and who comes now is told of the channel.
    let frame = sender.send_number(1, &[b"other hub"]);
    let said = exchange(&mut node, at, &mut sender, &frame);
    assert_eq!(acks(&said), [1], "{why}");
    let again = connect_saying(&mut node, at, SENDER, 1);
    let (mut sender, said) = again;
    let Some(Said::Welcome(_, entries)) = said.get(1) else {
        panic!("{why}: {said:?}");
    };
    let late = entries.iter().find(|entry| entry.0 == ChannelId::of(LATE));
    let late = late.expect("the grant is in force");
    let hub = (late.1.hub(), late.2);
    assert_eq!(hub, (2, Sequence(0)), "{why}");
    node.adopt(&parts, &new, &second);
    assert_eq!(refused(&mut node, &mut sender), [(1, unavailable)], "{why}");
    for &one in &third {
        node.shards[one].shard.lack_hubs(&[]);
        node.shards[one].shard.serve_hubs();
        node.settle();
    }
    let frame = sender.send_as(sender.endpoint, LATE, 3, &[b"three"]);
    assert_eq!(
        acks(&exchange(&mut node, at, &mut sender, &frame)),
        [0_u64; 0]
    );
    for (number, body) in [(1, b"one".as_slice()), (2, b"two")] {
        let frame = sender.send_as(sender.endpoint, LATE, number, &[body]);
        let said = exchange(&mut node, at, &mut sender, &frame);
        assert_eq!(acks(&said), [number], "{why}");
    }
    let frame = relay.relay(2, &late_envelope());
    let said = exchange(&mut node, beside, &mut relay, &frame);
    assert_eq!(acks(&said), [2], "{why}");
    let mut heard = bodies(&receiver.read(&mut node.shards[end]));
    heard.sort();
    let want = [&b"one"[..], b"other hub", b"relayed", b"two"];
    assert_eq!(heard, want, "{why}");
    let disk = node.disk.clone();
    drop(node);
    let mut node = Node::on(disk, later(2, 4), count);
    let end = node.home(new.parts, RECEIVER, Direction::Egress);
    let mut receiver = connect(&mut node, end, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 100, 1 << 20);
    let mut heard = bodies(&exchange(&mut node, end, &mut receiver, &fetch));
    heard.sort();
    assert_eq!(heard, want, "{why}");
}

#[test]
fn channels_of_a_hub_without_logs_are_refused_and_go_on_by_themselves_when_it_has_them() {
    for count in 1..=4 {
        let up: Vec<usize> = (0..usize::from(count)).collect();
        let down: Vec<usize> = up.iter().rev().copied().collect();
        hub_without_logs(count, [up.clone(), up.clone(), up.clone()]);
        hub_without_logs(count, [up.clone(), down.clone(), up.clone()]);
        hub_without_logs(count, [down.clone(), up, down]);
    }
}

#[test]
fn a_change_of_others_that_comes_before_a_hub_is_served_opens_it_to_sessions_that_are_there() {
    for count in 1..=3 {
        let mut node = Node::on(Disk::new(7), setup(), count);
        let all: Vec<usize> = (0..usize::from(count)).collect();
        let (parts, new) = (setup().parts, later(2, 4));
        let at = node.home(parts.clone(), SENDER, Direction::Ingress);
        let mut sender = connect(&mut node, at, SENDER, 1);
        node.apply(&new.parts, &all);
        let frame = sender.send_as(sender.endpoint, LATE, 1, &[b"one"]);
        let said = exchange(&mut node, at, &mut sender, &frame);
        let unavailable = wire::reason::Reason::HubUnavailable;
        assert_eq!(rejects(&said), [(1, unavailable)], "{count} shards");
        node.adopt(&parts, &new, &all);
        let mut next = new.parts.clone();
        next.epoch = 3;
        endpoint_in(&mut next, SENSOR).enabled = false;
        node.apply(&next, &all);
        for &one in &all {
            node.shards[one].shard.serve_hubs();
            node.settle();
        }
        let frame = sender.send_as(sender.endpoint, LATE, 1, &[b"one"]);
        let said = exchange(&mut node, at, &mut sender, &frame);
        assert_eq!(acks(&said), [1], "{count} shards");
    }
}

#[test]
fn a_channel_of_a_hub_that_may_have_messages_and_no_open_logs_is_not_told_as_empty() {
    let mut node = Node::on(Disk::new(7), setup(), 2);
    let parts = setup().parts;
    let at = node.home(parts, SENDER, Direction::Ingress);
    node.apply(&later(2, 4).parts, &[0, 1]);
    let (_, said) = connect_saying(&mut node, at, SENDER, 1);
    let Some(Said::Welcome(_, entries)) = said.get(1) else {
        panic!("{said:?}");
    };
    let late = ChannelId::of(LATE);
    assert!(!entries.iter().any(|entry| entry.0 == late), "{entries:?}");
}

#[test]
fn nothing_is_kept_of_streams_to_a_hub_without_logs_that_a_session_has_no_grant_for() {
    for count in 1..=3 {
        let mut node = Node::on(Disk::new(7), setup(), count);
        let all: Vec<usize> = (0..usize::from(count)).collect();
        let (parts, mut new) = (setup().parts, later(2, 4));
        endpoint_in(&mut new.parts, SENDER).send.pop();
        let at = node.home(parts.clone(), SENDER, Direction::Ingress);
        let mut sender = connect(&mut node, at, SENDER, 1);
        let each_told = |node: &mut Node, sender: &mut Client| {
            let mut frames = sender.send_as(sender.endpoint, LATE, 1, &[b"one"]);
            frames.extend(sender.send_as(sender.endpoint, LATE, 2, &[b"two"]));
            let said = exchange(node, at, sender, &frames);
            let not_granted = wire::reason::Reason::NotGranted;
            let want = [(1, not_granted), (2, not_granted)];
            assert_eq!(rejects(&said), want, "{count} shards");
        };
        node.apply(&new.parts, &all);
        each_told(&mut node, &mut sender);
        // As where the hub is open.
        node.adopt(&parts, &new, &all);
        for &one in &all {
            node.shards[one].shard.serve_hubs();
            node.settle();
        }
        each_told(&mut node, &mut sender);
    }
}

#[test]
fn a_hub_that_a_table_names_no_more_and_a_later_one_again_goes_on_where_it_was() {
    let mut node = Node::on(Disk::new(7), setup(), 3);
    let all = [0, 1, 2];
    let (parts, new) = (setup().parts, later(2, 4));
    let at = node.home(parts.clone(), SENDER, Direction::Ingress);
    let mut sender = connect(&mut node, at, SENDER, 1);
    node.adopt(&parts, &new, &all);
    node.apply(&new.parts, &all);
    let frame = sender.send_as(sender.endpoint, LATE, 1, &[b"one"]);
    assert_eq!(acks(&exchange(&mut node, at, &mut sender, &frame)), [1]);
    node.apply(&parts, &all);
    let frame = sender.send_as(sender.endpoint, LATE, 2, &[b"two"]);
    let said = exchange(&mut node, at, &mut sender, &frame);
    assert_eq!(reason(&said), wire::reason::Reason::UnknownChannel);
    node.apply(&new.parts, &all);
    let frame = sender.send_as(sender.endpoint, LATE, 2, &[b"two"]);
    assert_eq!(acks(&exchange(&mut node, at, &mut sender, &frame)), [2]);
}
