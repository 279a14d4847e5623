//! What frames that cross to another shard's log take, and give back: credit, rates, memory, a part of the owner's turns. Whatever a
//! client sends and whenever it goes away, nothing of it grows, and nothing is lost or had twice.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use partition::memory::Disk;
use shard::Pressure;
use support::*;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;
use wire::route::Priority;
use wire::signature::Signer;

/// A number that no stream comes to.
const MADE_UP: u64 = 1 << 60;

/// At most ten messages a second.
fn rated() -> Setup {
    let mut setup = two_hubs(AckMode::Durable);
    let sender = endpoint_in(&mut setup.parts, SENDER);
    sender.rates.messages_per_second = Some(10);
    setup
}

fn small() -> Setup {
    two_hubs(AckMode::Durable).of_little_memory()
}

/// Take so many sixteenths of a shard's budget.
fn fill(world: &mut World, sixteenths: u64) {
    let used = world.shard.memory().used;
    let others = used.total() - used.mesh;
    let bytes = (BUDGET * sixteenths / 16).saturating_sub(others);
    world.shard.note_moving(bytes);
    world.turn();
}

/// Frames with these numbers, of one message each.
fn frames(node: &Node, client: &mut Client, numbers: impl Iterator<Item = u64>) -> Vec<u8> {
    let frames = numbers.map(|number| node.send(client, number, b"body"));
    frames.collect::<Vec<_>>().concat()
}

/// One frame of ten messages.
fn ten(node: &Node, client: &mut Client, number: u64) -> Vec<u8> {
    client.send_as(client.endpoint, node.far, number, &[&b"x"[..]; 10])
}

#[test]
fn a_number_that_a_client_made_up_lets_it_pass_by_no_rate() {
    let answers = |count: u16| {
        let mut node = Node::on(Disk::new(1), rated(), count);
        let mut client = node.connect();
        let mut told = Vec::new();
        for _ in 0..5 {
            let last = node.log().len() as u64;
            let frame = node.send(&mut client, MADE_UP, b"body");
            told.extend(rejects(&node.exchange(&mut client, &frame)));
            let bytes = frames(&node, &mut client, last + 1..last + 50);
            told.extend(rejects(&node.exchange(&mut client, &bytes)));
        }
        (node.log().len(), told)
    };
    let alone = answers(1);
    assert_eq!(alone.0, 10, "of 245 that were sent at once");
    assert_eq!(answers(2), alone);
}

#[test]
fn a_number_that_a_client_made_up_lets_it_pass_by_no_shortage_of_memory() {
    let mut node = Node::on(Disk::new(1), small(), 2);
    let mut client = node.connect();
    let frame = node.send(&mut client, MADE_UP, b"body");
    let said = node.exchange(&mut client, &frame);
    assert_eq!(reason(&said), Reason::OutOfSequence);
    let home = node.home;
    fill(&mut node.shards[home], 14);
    let frame = node.send(&mut client, 1, b"body");
    let said = node.exchange(&mut client, &frame);
    assert_eq!(rejects(&said), [(1, Reason::Busy)]);
    assert_eq!(node.log(), []);
}

#[test]
fn an_owner_whose_memory_is_short_refuses_direct_frames_of_other_shards_too() {
    let far = Node::on(Disk::new(1), small(), 2).far;
    let mut setup = small();
    let mut channels = setup.parts.channels.iter_mut();
    let channel = channels.find(|channel| *channel.name == *far);
    channel.unwrap().priority = Priority::Low;
    for (setup, sixteenths, want) in [
        (small(), 13, None),
        (small(), 14, Some(Reason::Busy)),
        (setup, 13, Some(Reason::LowPriorityShed)),
    ] {
        let mut node = Node::on(Disk::new(1), setup, 2);
        let owner = node.owner;
        let mut client = node.connect();
        let frame = node.send(&mut client, 1, b"calm");
        assert_eq!(acks(&node.exchange(&mut client, &frame)), [1]);
        fill(&mut node.shards[owner], sixteenths);
        assert!(node.shards[owner].shard.memory().pressure >= Pressure::LowPriority);
        let frame = node.send(&mut client, 2, b"short");
        let said = node.exchange(&mut client, &frame);
        match want {
            None => assert_eq!(acks(&said), [2]),
            Some(reason) => assert_eq!(rejects(&said), [(2, reason)]),
        }
        let shed = &node.shards[owner].shard.counters().shed;
        let shed = shed.low_priority_frames + shed.normal_frames;
        assert_eq!(shed, u64::from(want.is_some()));
        // What is there already is acked again all the same.
        let (mut next, _) = node.resume(&client);
        let frame = node.send(&mut next, 1, b"calm");
        assert_eq!(acks(&node.exchange(&mut next, &frame)).len(), 1);
        fill(&mut node.shards[owner], 9);
        let last = node.log().len() as u64;
        let frame = node.send(&mut next, last + 1, b"calm");
        assert_eq!(acks(&node.exchange(&mut next, &frame)), [last + 1]);
    }
}

#[test]
fn what_an_owner_refuses_or_discards_costs_nothing_of_the_rate() {
    for count in [1, 2, 5] {
        let mut node = Node::on(Disk::new(1), rated(), count);
        let mut client = node.connect();
        // Out of sequence, and two that are discarded behind it: one where the log is, one here.
        let bytes = frames(&node, &mut client, 5..7);
        let said = node.exchange(&mut client, &bytes);
        assert_eq!(rejects(&said), [(5, Reason::OutOfSequence)]);
        let frame = frames(&node, &mut client, 7..8);
        assert_eq!(node.exchange(&mut client, &frame), []);
        let frame = ten(&node, &mut client, 1);
        assert_eq!(acks(&node.exchange(&mut client, &frame)), [1], "{count}");
        for world in &mut node.shards {
            world.pass(Duration::from_secs(1));
        }
        // The stream is another session's.
        let mut new = node.connect();
        let frame = ten(&node, &mut client, 2);
        let said = node.exchange(&mut client, &frame);
        assert_eq!(reason(&said), Reason::SessionUnknown);
        let frame = ten(&node, &mut new, 2);
        assert_eq!(acks(&node.exchange(&mut new, &frame)), [2], "{count}");
    }
}

#[test]
fn what_has_no_credit_costs_nothing_of_the_rate() {
    for count in [1, 2] {
        let mut setup = rated();
        setup.limits.credit_frames = 1;
        let mut node = Node::on(Disk::new(1), setup, count);
        let mut client = node.connect();
        let owner = node.owner;
        node.shards[owner].hold_syncs = true;
        let frame = frames(&node, &mut client, 1..2);
        assert_eq!(node.exchange(&mut client, &frame), []);
        for _ in 0..20 {
            let frame = client.send_as(client.endpoint, node.far, 2, &[&b"x"[..]; 9]);
            let said = node.exchange(&mut client, &frame);
            assert_eq!(rejects(&said), [(2, Reason::Busy)], "{count}");
        }
        node.shards[owner].hold_syncs = false;
        node.shards[owner].release_syncs();
        assert_eq!(acks(&node.exchange(&mut client, &[])), [1]);
        let frame = client.send_as(client.endpoint, node.far, 2, &[&b"x"[..]; 9]);
        assert_eq!(acks(&node.exchange(&mut client, &frame)), [2]);
    }
}

#[test]
fn what_a_connection_sent_that_its_session_has_left_costs_nothing_of_the_rate() {
    let mut node = Node::on(Disk::new(1), rated(), 1);
    let mut client = node.connect();
    let resume = client.keys.as_ref().unwrap().resume;
    let mut next = Client::new(&mut node.shards[0], SENDER, &resume);
    let hello = next.hello_bytes(Auth::Resume(client.session), 0);
    // Both in one turn: the HELLO is answered before the frame comes to its log.
    let frame = ten(&node, &mut client, 1);
    node.shards[0].receive(client.connection, &frame);
    let said = node.exchange(&mut next, &hello);
    assert!(matches!(said[..], [_, Said::Welcome(..)]), "{said:?}");
    assert_eq!(node.log(), []);
    let frame = ten(&node, &mut next, 1);
    assert_eq!(acks(&node.exchange(&mut next, &frame)), [1]);
}

#[test]
fn an_envelope_that_an_owner_refuses_costs_nothing_of_the_rate() {
    let mut setup = small();
    let sender = endpoint_in(&mut setup.parts, SENDER);
    sender.rates.messages_per_second = Some(10);
    let mut node = Node::on(Disk::new(1), setup, 2);
    let (home, owner) = (node.home, node.owner);
    let mut relay = Client::new(&mut node.shards[home], RELAY, secret(3).text_bytes());
    node.greet(&mut relay, Auth::Key(KeyId(1)));
    let far = ChannelId::of(node.far);
    let envelope = || {
        let (mut bytes, sender) = (Vec::new(), EndpointId::of(SENDER));
        let mut send = wire::send::SendBuilder::begin(&mut bytes, sender, far, Sequence(1));
        for _ in 0..10 {
            send.message(UnixNanos(0), &[], b"x").unwrap();
        }
        let (id, key) = (KeyId(1), secret(1));
        send.finish(Signer::Key { id, key: key.mac() }).unwrap();
        bytes
    };
    fill(&mut node.shards[owner], 14);
    let frame = relay.relay(1, &envelope());
    let said = node.exchange(&mut relay, &frame);
    assert_eq!(rejects(&said), [(1, Reason::Busy)]);
    fill(&mut node.shards[owner], 9);
    let frame = relay.relay(2, &envelope());
    assert_eq!(acks(&node.exchange(&mut relay, &frame)), [2]);
    assert_eq!(node.log().len(), 1);
}

#[test]
fn a_window_is_whole_again_when_a_connection_ends_between_a_refusal_and_what_it_discards() {
    let mut setup = two_hubs(AckMode::Durable);
    setup.limits.credit_frames = 12;
    let mut node = Node::on(Disk::new(1), setup, 2);
    let (home, owner) = (node.home, node.owner);
    let mut client = node.connect();
    let refused = frames(&node, &mut client, 5..6);
    node.at_home(&mut client, &refused);
    node.pass(home, owner);
    let behind = frames(&node, &mut client, 6..17);
    node.at_home(&mut client, &behind);
    node.shards[owner].settle();
    node.pass(owner, home);
    let said = node.at_home(&mut client, &[]);
    assert_eq!(rejects(&said), [(5, Reason::OutOfSequence)]);
    node.shards[home].cut(client.connection);
    node.shards[home].settle();
    // What came behind it is discarded only now.
    settle_all(&mut node.shards, usize::MAX);
    let (mut next, _) = node.resume(&client);
    let window = frames(&node, &mut next, 1..13);
    assert_eq!(node.at_home(&mut next, &window), []);
    let more = frames(&node, &mut next, 13..14);
    assert_eq!(node.at_home(&mut next, &more), []);
    let said = node.exchange(&mut next, &[]);
    assert_eq!(rejects(&said), [(13, Reason::Busy)]);
    assert_eq!(acks(&said).last(), Some(&12));
}

#[test]
fn while_a_disk_stands_still_one_session_of_an_endpoint_waits_for_it_and_earlier_ones_are_told_to_come_later()
 {
    let mut node = Node::new(2);
    let (home, owner) = (node.home, node.owner);
    let mut client = node.connect();
    node.shards[owner].hold_syncs = true;
    let frame = node.send(&mut client, 1, b"body");
    assert_eq!(node.exchange(&mut client, &frame), []);
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut next = Client::new(&mut node.shards[home], SENDER, secret(1).text_bytes());
        node.greet(&mut next, Auth::Key(KeyId(1)));
        clients.push(next);
    }
    let mut last = clients.pop().unwrap();
    for client in &mut clients {
        let said = node.exchange(client, &[]);
        assert_eq!(reason(&said), Reason::Busy);
        assert!(node.shards[home].closed(client.connection));
    }
    node.shards[owner].hold_syncs = false;
    node.shards[owner].release_syncs();
    let said = node.exchange(&mut last, &[]);
    let Some(Said::Welcome(_, entries)) = said.last() else {
        panic!("{said:?}")
    };
    let far = entries.iter().find(|entry| entry.1 == node.partition);
    assert_eq!(far.unwrap().2, Sequence(1));
}

#[test]
fn a_shard_takes_a_part_of_what_others_carried_to_it_in_each_turn_and_its_own_connections_have_theirs()
 {
    let mut setup = two_hubs(AckMode::Local);
    setup.log_limits.segment_bytes = 8 << 20;
    let mut node = Node::on(Disk::new(1), setup, 2);
    let (home, owner) = (node.home, node.owner);
    let mut client = node.connect();
    // Somebody who is at home where the log is.
    let mut near = None;
    for (name, key) in [(RELAY, 3), (SENSOR, 4), (RECEIVER, 2)] {
        let mut other = Client::new(&mut node.shards[owner], name, secret(key).text_bytes());
        let hello = other.hello_bytes(Auth::Key(KeyId(1)), 0);
        other.exchange(&mut node.shards[owner], &hello);
        if node.shards[owner].hand_overs.drain(..).count() == 0 {
            settle_all(&mut node.shards, usize::MAX);
            other.read(&mut node.shards[owner]);
            near = Some(other);
        }
    }
    let mut near = near.unwrap();
    // The sender's shard is quick, the owner slow: many batches wait for it.
    let body = [7u8; 4_000];
    let (mut number, batches) = (0, 40);
    for _ in 0..batches {
        let numbers = number + 1..number + 17;
        number += 16;
        let sent = numbers.map(|number| node.send(&mut client, number, &body));
        let bytes = sent.collect::<Vec<_>>().concat();
        assert_eq!(node.at_home(&mut client, &bytes), []);
        node.pass(home, owner);
    }
    let (mut turns, mut taken) = (0, 0);
    while taken < number {
        turns += 1;
        let ping = near.ping(turns);
        node.shards[owner].receive(near.connection, &ping);
        node.shards[owner].turn();
        let now = node.mesh(owner).1;
        let bytes = (now - taken) * 4_000;
        assert!(
            (1..=400_000).contains(&bytes),
            "{bytes} bytes of another shard's in one turn"
        );
        taken = now;
        let said = near.read(&mut node.shards[owner]);
        assert_eq!(said, [Said::Pong(Sequence(turns))]);
        assert!(node.shards[owner].output.more || taken == number);
    }
    assert!((8..=40).contains(&turns), "{turns} turns");
    assert_eq!(acks(&node.exchange(&mut client, &[])).last(), Some(&number));
}

#[test]
fn refusals_that_only_a_slow_owner_can_tell_have_a_bound() {
    let mut setup = two_hubs(AckMode::Durable);
    setup.limits.credit_frames = 1;
    let mut node = Node::on(Disk::new(1), setup, 2);
    let (home, owner) = (node.home, node.owner);
    let mut client = node.connect();
    let frame = node.send(&mut client, 1, b"body");
    node.at_home(&mut client, &frame);
    let mut refused = 0;
    while !node.shards[home].dead(client.connection) {
        assert!(refused < 40_000, "nothing bounds what has no answer");
        // Always the same number, and no credit for it.
        let bytes = frames(&node, &mut client, [1; 200].into_iter());
        refused += 200;
        node.at_home(&mut client, &bytes);
        // They are on their way at once, but their owner makes no turn.
        node.pass(home, owner);
    }
    settle_all(&mut node.shards, usize::MAX);
    let mut next = node.connect();
    let frame = node.send(&mut next, 2, b"body");
    assert_eq!(acks(&node.exchange(&mut next, &frame)), [2]);
}

#[test]
fn a_repeat_that_is_refused_where_it_came_in_does_not_take_its_stream_back() {
    let answers = |count: u16| {
        let mut node = Node::new(count);
        let mut client = node.connect();
        let bytes = frames(&node, &mut client, 1..3);
        node.exchange(&mut client, &bytes);
        // Out of sequence, and behind it a repeat that was changed on the way.
        let mut bytes = frames(&node, &mut client, [5, 2].into_iter());
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let mut told = vec![rejects(&node.exchange(&mut client, &bytes))];
        // What comes behind the refused frame is discarded, whoever has the stream since.
        node.connect();
        let frame = frames(&node, &mut client, 6..7);
        let said = node.exchange(&mut client, &frame);
        assert_eq!(said, [], "{count} shards");
        let frame = frames(&node, &mut client, 3..4);
        told.push(vec![(3, reason(&node.exchange(&mut client, &frame)))]);
        told
    };
    let alone = answers(1);
    assert_eq!(alone[0].len(), 2);
    assert_eq!(alone[1], [(3, Reason::SessionUnknown)]);
    assert_eq!(answers(2), alone);
}

/// A client that comes, sends, goes and comes back, while what shards say to each other takes its time.
struct Wild {
    node: Node,
    client: Client,
    random: fastrand::Rng,
}

impl Wild {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut setup = two_hubs(AckMode::Durable);
        setup.limits.credit_frames = WINDOW as u32;
        let mut node = Node::on(Disk::new(seed), setup, random.u16(2..=4));
        let client = node.connect();
        Self {
            node,
            client,
            random,
        }
    }

    /// Come back over a new connection, by the session or by a new one, while the old one still stands or not.
    fn come_back(&mut self) {
        let home = self.node.home;
        if self.random.bool() {
            self.node.shards[home].cut(self.client.connection);
        }
        let resume = self.client.keys.as_ref().map(|keys| keys.resume);
        let (secret, auth) = match resume.filter(|_| self.random.u8(..4) > 0) {
            Some(secret) => (secret.to_vec(), Auth::Resume(self.client.session)),
            None => (secret(1).text_bytes().to_vec(), Auth::Key(KeyId(1))),
        };
        self.client = Client::new(&mut self.node.shards[home], SENDER, &secret);
        let hello = self.client.hello_bytes(auth, 0);
        self.node.shards[home].receive(self.client.connection, &hello);
    }

    fn send(&mut self) {
        if self.client.keys.is_none() {
            return;
        }
        let last = self.node.log().last().map_or(0, |(number, _)| *number);
        let mut next = last + self.random.u64(..4);
        for _ in 0..self.random.u8(1..12) {
            next = match self.random.u8(..16) {
                0 => next.saturating_sub(self.random.u64(1..5)),
                1 => 0,
                2 => next + 2,
                3 => next,
                _ => next + 1,
            };
            let number = match self.random.u8(..30) {
                0 => MADE_UP,
                _ => next,
            };
            // One that no record holds: only the owner of the log knows.
            let body = vec![7u8; if self.random.u8(..10) == 0 { 9_000 } else { 20 }];
            let frame = self.node.send(&mut self.client, number, &body);
            let home = self.node.home;
            self.node.shards[home].receive(self.client.connection, &frame);
        }
    }

    fn step(&mut self) {
        let (home, owner) = (self.node.home, self.node.owner);
        match self.random.u8(..40) {
            0 => self.come_back(),
            1 => self.node.shards[owner].hold_syncs ^= true,
            2 => self.node.shards[owner].release_syncs(),
            3..8 => self.node.pass(home, owner),
            8..13 => self.node.pass(owner, home),
            13..20 => self.node.shards[home].turn(),
            20..27 => self.node.shards[owner].turn(),
            _ => self.send(),
        }
        self.client.read(&mut self.node.shards[home]);
        if self.node.shards[home].dead(self.client.connection) {
            self.come_back();
        }
    }

    /// All is answered: exactly a window can be sent.
    fn check(&mut self, seed: u64) {
        let (home, owner) = (self.node.home, self.node.owner);
        self.node.shards[owner].hold_syncs = false;
        self.node.shards[owner].release_syncs();
        settle_all(&mut self.node.shards, usize::MAX);
        self.client.read(&mut self.node.shards[home]);
        let resumes = self.client.keys.is_some();
        if resumes {
            let (next, said) = self.node.resume(&self.client);
            assert!(matches!(said[..], [_, Said::Welcome(..)]), "seed {seed}");
            self.client = next;
        } else {
            self.client = self.node.connect();
        }
        let last = self.node.log().last().map_or(0, |(number, _)| *number);
        let window = last + 1..last + 1 + WINDOW;
        let bytes = frames(&self.node, &mut self.client, window.clone());
        self.node.at_home(&mut self.client, &bytes);
        let bytes = frames(&self.node, &mut self.client, window.end..window.end + 1);
        self.node.at_home(&mut self.client, &bytes);
        let said = self.node.exchange(&mut self.client, &[]);
        let busy = [(window.end, Reason::Busy)];
        assert_eq!(rejects(&said), busy, "seed {seed}: {resumes}");
        assert_eq!(acks(&said).last(), Some(&(window.end - 1)), "seed {seed}");
    }
}

/// Frames of a window, and runs, unless `FOREBAY_CREDIT_RUNS` says otherwise.
const WINDOW: u64 = 12;
const RUNS: u64 = 60;

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "who runs the test says how much of it"
)]
fn whatever_a_client_sends_and_whenever_it_goes_its_window_is_whole_when_all_is_answered() {
    let runs = std::env::var("FOREBAY_CREDIT_RUNS").ok();
    let runs = runs.map_or(RUNS, |runs| runs.parse().unwrap());
    let (mut taken, mut refused, mut discarded) = (0, 0, 0);
    for seed in 0..runs {
        let mut wild = Wild::new(seed);
        for _ in 0..300 {
            wild.step();
        }
        wild.check(seed);
        for world in &wild.node.shards {
            let append = &world.shard.counters().append;
            taken += append.frames;
            refused += append.refused;
            discarded += append.discarded;
        }
    }
    eprintln!(
        "{runs} runs: {taken} frames taken, {refused} refused, {discarded} discarded; every window whole"
    );
    assert!(
        taken.min(refused).min(discarded) > runs,
        "too little happened"
    );
}
