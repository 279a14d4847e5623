//! Shards of one node: each owns some partitions and some queues, and all that they share is said in messages.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "who runs a test says how much of it"
)]

mod support;

use std::time::Duration;

use partition::memory::{Crash, Disk};
use shard::Ownership;
use support::*;
use wire::delivery::{Outcome, Source};
use wire::ids::*;
use wire::route::RouteTable;

/// A node of which the sender's partition and the receiver's queue lie on different shards.
struct Apart {
    setup: fn() -> Setup,
    shards: Vec<World>,
    of_log: usize,
    of_queue: usize,
}

fn plain() -> Setup {
    let mut setup = Setup::new(AckMode::Durable);
    setup.parts.hubs[0].partitions = 4;
    // With as many groups as partitions everything of an endpoint would lie together.
    setup.parts.queue_groups = 5;
    setup.log_limits.segment_bytes = 64 << 10;
    setup.log_limits.record_bytes_max = 8 << 10;
    setup.limits.idle_timeout = Duration::from_secs(4_000);
    setup
}

/// Five segments are kept.
fn short() -> Setup {
    let mut setup = plain();
    setup.log_limits.retention_bytes = Some(5 * (64 << 10));
    setup
}

impl Apart {
    fn on(disk: Disk, setup: fn() -> Setup, count: u16) -> Self {
        let table = RouteTable::build(setup().parts).unwrap();
        let ownership = Ownership::new(&table, count);
        let home = |name, direction| {
            let endpoint = table.endpoint_by_name(name).unwrap();
            usize::from(ownership.home(&table, &endpoint, direction))
        };
        let mut shards = World::shards(disk, setup(), count);
        settle_all(&mut shards, usize::MAX);
        Self {
            setup,
            shards,
            of_log: home(SENDER, Direction::Ingress),
            of_queue: home(RECEIVER, Direction::Egress),
        }
    }

    /// With the first number of shards from 2 on that has the two apart.
    fn new(setup: fn() -> Setup) -> Self {
        let nodes = (2..=8).map(|count| Self::on(Disk::new(1), setup, count));
        let apart = |node: &Self| node.of_log != node.of_queue;
        nodes.into_iter().find(apart).unwrap()
    }

    fn sender(&mut self) -> Client {
        Client::connect(&mut self.shards[self.of_log], SENDER, 1)
    }

    fn receiver(&mut self) -> Client {
        let mut receiver = Client::connect(&mut self.shards[self.of_queue], RECEIVER, 2);
        let fetch = receiver.fetch(Source::Queue, 10_000, 60 << 20);
        self.shards[self.of_queue].receive(receiver.connection, &fetch);
        self.settle();
        receiver
    }

    fn at_log(&mut self, client: &mut Client, bytes: &[u8]) -> Vec<Said> {
        client.exchange(&mut self.shards[self.of_log], bytes)
    }

    fn at_queue(&mut self, client: &mut Client, bytes: &[u8]) -> Vec<Said> {
        client.exchange(&mut self.shards[self.of_queue], bytes)
    }

    fn read(&mut self, receiver: &mut Client) -> Vec<Said> {
        receiver.read(&mut self.shards[self.of_queue])
    }

    fn pass(&mut self, time: Duration) {
        self.shards.iter_mut().for_each(|shard| shard.pass(time));
    }

    fn settle(&mut self) {
        settle_all(&mut self.shards, usize::MAX);
    }
}

#[test]
fn a_message_reaches_a_queue_of_another_shard_without_being_read_again_to_be_queued() {
    let mut node = Apart::new(plain);
    let mut receiver = node.receiver();
    let mut sender = node.sender();
    for body in [&b"one"[..], b"two", b"three"] {
        let frame = sender.send(&[body]);
        assert_eq!(acks(&node.at_log(&mut sender, &frame)).len(), 1);
        node.settle();
        assert_eq!(bodies(&node.read(&mut receiver)), [body]);
    }
    let shard = &node.shards[node.of_queue].shard;
    let (counters, groups) = (shard.counters(), shard.queue_groups().count() as u64);
    assert_eq!(
        (counters.fanout.records, counters.fanout.records_read_back),
        (3 * groups, 0)
    );
    assert!(counters.mesh.received > 0 && counters.mesh.sent > 0);
}

#[test]
fn what_a_full_way_kept_back_is_told_later_in_one_go_and_in_order() {
    let mut node = Apart::new(plain);
    let mut receiver = node.receiver();
    let mut sender = node.sender();
    let mut said = Vec::new();
    for number in 0u32..400 {
        let frame = sender.send(&[&number.to_le_bytes()]);
        node.at_log(&mut sender, &frame);
        let from = &mut node.shards[node.of_log];
        let waiting = from.output.mesh[node.of_queue].len();
        assert!(waiting <= 8, "{waiting} messages wait for a shard");
        if number % 50 == 49 {
            settle_all(&mut node.shards, 1);
            said.extend(bodies(&node.read(&mut receiver)));
        }
    }
    let want: Vec<Vec<u8>> = (0u32..400).map(|n| n.to_le_bytes().to_vec()).collect();
    assert!(said == want, "{} messages came", said.len());
    let counters = node.shards[node.of_log].shard.counters();
    assert!(counters.mesh.blocked > 0, "{:?}", counters.mesh);
}

/// Pairs of numbers of shards, one behind the other, unless `FOREBAY_SHARD_PAIRS` says otherwise.
const PAIRS: u64 = 50;

#[test]
fn any_number_of_shards_goes_on_where_any_other_stopped() {
    let pairs = std::env::var("FOREBAY_SHARD_PAIRS").ok();
    let pairs = pairs.map_or(PAIRS, |pairs| pairs.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(7);
    let mut disk = Disk::new(1);
    // Everything below `settled` is settled, everything below `sent` is acked.
    let (mut settled, mut sent) = (0u32, 0u32);
    for pair in 0..=pairs {
        let count = random.u16(1..=16);
        let mut node = Apart::on(disk.clone(), plain, count);
        let mut sender = node.sender();
        assert_eq!(sender.sequence, u64::from(sent) + 1, "{count} shards");
        let heard = random.bool();
        let mut receiver = heard.then(|| node.receiver());
        for _ in 0..random.u32(1..20) {
            let frame = sender.send(&[&sent.to_le_bytes()]);
            assert_eq!(acks(&node.at_log(&mut sender, &frame)).len(), 1);
            sent += 1;
        }
        if heard || random.bool() {
            settle_all(&mut node.shards, random.usize(1..4));
        }
        if let Some(receiver) = &mut receiver {
            let said = node.read(receiver);
            let messages = said.iter().flat_map(|said| match said {
                Said::Deliver(_, messages) => &messages[..],
                _ => &[],
            });
            let messages: Vec<_> = messages.collect();
            let got = messages.iter().map(|message| &message.body[..]);
            let want = (settled..sent).map(u32::to_le_bytes);
            assert!(got.eq(want), "pair {pair}: {said:?}");
            let accepted = random.usize(..messages.len());
            let number = messages[accepted].number;
            let settle = receiver.settle(Source::Queue, Outcome::AcceptUpTo, number);
            assert_eq!(node.at_queue(receiver, &settle), []);
            settled += accepted as u32 + 1;
        }
        disk = disk.crash(match random.bool() {
            true => Crash::Kept,
            false => Crash::Lost,
        });
    }
    eprintln!("{pairs} pairs of 1 to 16 shards: {sent} acked, {settled} settled, 0 lost, 0 twice");
}

#[test]
fn retention_waits_for_queues_of_other_shards_and_for_whoever_still_looks_at_a_segment() {
    let mut node = Apart::new(short);
    assert!((node.setup)().log_limits.retention_bytes.is_some());
    let mut sender = node.sender();
    let body = [7u8; 1_000];
    let mut fill = |node: &mut Apart| {
        for _ in 0..100 {
            let frame = sender.send(&[&body[..]; 4]);
            node.at_log(&mut sender, &frame);
            node.pass(Duration::from_millis(500));
        }
    };
    let retired = |node: &Apart| {
        let counters = node.shards[node.of_log].shard.counters();
        counters.commit.retired_segments
    };
    fill(&mut node);
    assert_eq!(retired(&node), 0, "the other shard has heard of nothing");
    node.settle();
    // The log's owner takes two segments, and the way to the other shard is cut: it goes on reading them.
    node.pass(Duration::from_secs(2));
    node.shards[node.of_log].settle();
    assert_eq!(retired(&node), 2, "of seven segments five are kept");
    let mut receiver = Client::connect(&mut node.shards[node.of_queue], RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 10_000, 60 << 20);
    let got = bodies(&node.at_queue(&mut receiver, &fetch)).len();
    assert_eq!(got, 400);
    let files = |node: &Apart| node.shards[0].disk.bytes();
    let before = files(&node);
    node.settle();
    fill(&mut node);
    node.settle();
    assert!(
        files(&node) <= before,
        "the segments given back are used again"
    );
}

/// A HELLO of the sender's, said to another shard than its own: in one piece, in two at this place, or byte by byte.
fn hand_over(node: &mut Apart, cuts: &[usize], behind: &[u8]) -> (Client, Vec<Said>) {
    let wrong = (node.of_log + 1) % node.shards.len();
    let at = &mut node.shards[wrong];
    let mut client = Client::new(at, SENDER, secret(1).text_bytes());
    let mut bytes = client.hello_bytes(wire::handshake::Auth::Key(KeyId(1)), 0);
    bytes.extend_from_slice(behind);
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        at.receive(client.connection, &bytes[from..cut]);
        from = cut;
        if cut % 2 == 0 {
            at.turn();
        }
    }
    at.settle();
    let greeting = client.read(at);
    assert!(matches!(greeting[..], [Said::Preface(_)]), "{greeting:?}");
    assert_eq!((at.shard.connections(), at.shard.strangers()), (0, 0));
    assert_eq!(at.shard.assembly_bytes(), 0);
    let [handed] = &mut at.hand_overs[..] else {
        panic!("{:?}", at.hand_overs)
    };
    assert_eq!(usize::from(handed.to), node.of_log);
    assert_eq!(handed.bytes, bytes[8..], "from HELLO on, untouched");
    let handed = at.hand_overs.pop().unwrap();
    let home = &mut node.shards[node.of_log];
    client.connection = home.adopt(handed, &[]);
    home.settle();
    let said = client.read(home);
    (client, said)
}

#[test]
fn a_connection_goes_home_once_with_all_that_came_from_its_hello_on() {
    let every: Vec<usize> = (1..134).collect();
    for cuts in [&[][..], &[8], &[3], &[20], &[8, 90], &[101], &every] {
        let mut node = Apart::new(plain);
        let (mut sender, said) = hand_over(&mut node, cuts, &[]);
        assert!(
            matches!(said[..], [Said::Welcome(..)]),
            "{cuts:?}: {said:?}"
        );
        let frame = sender.send(&[b"one"]);
        assert_eq!(acks(&node.at_log(&mut sender, &frame)), [1], "{cuts:?}");
        let home = node.shards[node.of_log].shard.counters();
        assert_eq!((home.mesh.handed_over_in, home.accept.connections), (1, 0));
        let wrong = (node.of_log + 1) % node.shards.len();
        let wrong = node.shards[wrong].shard.counters();
        assert_eq!((wrong.mesh.handed_over_out, wrong.session.refused), (1, 0));
    }
}

#[test]
fn what_came_behind_a_hello_is_judged_where_the_connection_went() {
    let mut node = Apart::new(plain);
    let (_, said) = hand_over(&mut node, &[], b"what no client may say before its WELCOME");
    assert_eq!(reason(&said), wire::reason::Reason::UnexpectedFrame);
}

#[test]
fn a_session_is_resumed_on_the_shard_where_it_lives_whichever_hears_of_it_first() {
    let mut node = Apart::new(plain);
    let sender = node.sender();
    let wrong = (node.of_log + 1) % node.shards.len();
    let secret = sender.keys.as_ref().unwrap().resume;
    let mut again = Client::new(&mut node.shards[wrong], SENDER, &secret);
    again.nonce[31] = 0x41;
    let hello = again.hello_bytes(wire::handshake::Auth::Resume(sender.session), 0);
    node.shards[wrong].receive(again.connection, &hello);
    node.shards[wrong].settle();
    again.read(&mut node.shards[wrong]);
    let handed = node.shards[wrong].hand_overs.pop().unwrap();
    assert_eq!(usize::from(handed.to), node.of_log);
    let home = &mut node.shards[node.of_log];
    again.connection = home.adopt(handed, &[]);
    home.settle();
    let said = again.read(home);
    assert!(matches!(said[..], [Said::Welcome(..)]), "{said:?}");
    assert_eq!(home.shard.counters().session.resumed, 1);
}

#[test]
fn a_connection_is_not_handed_on_a_second_time() {
    let mut node = Apart::new(plain);
    let wrong = (node.of_log + 1) % node.shards.len();
    let at = &mut node.shards[wrong];
    let mut client = Client::new(at, SENDER, secret(1).text_bytes());
    let hello = client.hello_bytes(wire::handshake::Auth::Key(KeyId(1)), 0);
    at.receive(client.connection, &hello);
    at.settle();
    client.read(at);
    let handed = at.hand_overs.pop().unwrap();
    client.connection = at.adopt(handed, &[]);
    at.settle();
    assert_eq!(reason(&client.read(at)), wire::reason::Reason::Busy);
    assert!(at.hand_overs.is_empty());
}

/// A relay and a sensor whose log lies on another shard than the relay's session.
fn relayed(count: u16) -> Option<(Vec<World>, usize, usize)> {
    let table = RouteTable::build(plain().parts).unwrap();
    let ownership = Ownership::new(&table, count);
    let relay = table.endpoint_by_name(RELAY).unwrap();
    let home = usize::from(ownership.home(&table, &relay, Direction::Ingress));
    let sensor = table.endpoint_by_name(SENSOR).unwrap();
    let channel = table.channel(ChannelId::of(CHANNEL)).unwrap();
    let log = ownership.partition(table.partition_of(sensor.id, channel));
    let log = usize::from(log.unwrap());
    (home != log).then(|| {
        let mut shards = World::shards(Disk::new(1), plain(), count);
        settle_all(&mut shards, usize::MAX);
        (shards, home, log)
    })
}

#[test]
fn envelopes_for_a_log_of_another_shard_go_there_in_a_batch_and_are_acked_when_they_are_durable() {
    let (mut shards, home, log) = (2..=8).find_map(relayed).unwrap();
    let mut relay = Client::connect(&mut shards[home], RELAY, 3);
    let key = secret(4);
    let sign = || wire::signature::Signer::Key {
        id: KeyId(1),
        key: key.mac(),
    };
    let mut bytes = Vec::new();
    for number in 1..=50 {
        let envelope = envelope(number, sign(), &[b"body"]);
        bytes.extend(relay.relay(number, &envelope));
    }
    shards[log].hold_syncs = true;
    assert_eq!(relay.exchange(&mut shards[home], &bytes), []);
    assert_eq!(shards[home].output.mesh[log].len(), 1, "one batch");
    settle_all(&mut shards, usize::MAX);
    assert_eq!(relay.read(&mut shards[home]), [], "nothing is durable yet");
    shards[log].hold_syncs = false;
    shards[log].release_syncs();
    settle_all(&mut shards, usize::MAX);
    assert_eq!(acks(&relay.read(&mut shards[home])), [50]);
    // Once more, and one that its log has never seen.
    let seen = envelope(7, sign(), &[b"body"]);
    let new = envelope(51, sign(), &[b"body"]);
    let mut bytes = relay.relay(51, &seen);
    bytes.extend(relay.relay(52, &new));
    relay.exchange(&mut shards[home], &bytes);
    settle_all(&mut shards, usize::MAX);
    assert_eq!(acks(&relay.read(&mut shards[home])).last(), Some(&52));
    let counters = shards[log].shard.counters();
    assert_eq!(
        (counters.append.frames, counters.append.duplicates),
        (51, 1)
    );
    let out = shards[home].shard.counters().mesh.envelopes_out;
    assert_eq!((out, counters.mesh.envelopes_in), (52, 52));
}

#[test]
fn what_waits_for_a_full_way_to_a_log_has_a_bound_and_beyond_it_senders_are_told_to_wait() {
    let (mut shards, home, _) = (2..=8).find_map(relayed).unwrap();
    let mut relay = Client::connect(&mut shards[home], RELAY, 3);
    let key = secret(4);
    let body = [1u8; 6_000];
    let (mut refused, mut taken) = (0, 0);
    for number in 1..=400 {
        let sign = wire::signature::Signer::Key {
            id: KeyId(1),
            key: key.mac(),
        };
        let envelope = envelope(number, sign, &[&body]);
        let frame = relay.relay(number, &envelope);
        match &relay.exchange(&mut shards[home], &frame)[..] {
            [] => taken += 1,
            said => {
                assert_eq!(reason(said), wire::reason::Reason::Busy);
                refused += 1;
            }
        }
    }
    assert!(
        (100..200).contains(&taken),
        "{taken} taken, {refused} refused"
    );
    settle_all(&mut shards, usize::MAX);
    assert_eq!(acks(&relay.read(&mut shards[home])).last(), Some(&400));
}
