//! What a shard does as its memory fills: who is refused first, with what reason, and that it goes on when there is room again.
//! Peers that do anything never take more than the budget, and everything refused is told and counted.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::collections::VecDeque;

use shard::{Pressure, Reading};
use support::*;
use wire::delivery::{Outcome, Source};
use wire::handshake::Auth;
use wire::ids::*;
use wire::limits::FRAME_BYTES_MAX;
use wire::reason::{Notice, Reason};
use wire::route::{Grant, OnFull, Priority};

/// A world in which the channel `OTHER` is of low priority and everybody may send to it.
fn setup() -> Setup {
    let mut setup = Setup::new(AckMode::Durable).of_little_memory();
    let mut channels = setup.parts.channels.iter_mut();
    let other = channels.find(|channel| *channel.name == *OTHER).unwrap();
    other.priority = Priority::Low;
    endpoint_in(&mut setup.parts, SENDER)
        .send
        .push(grant(OTHER));
    setup
}

/// Take so many sixteenths of the budget, as connections on their way to other shards would.
fn fill(world: &mut World, sixteenths: u64) {
    let used = world.shard.memory().used;
    let others = used.at_the_door() - used.mesh;
    world
        .shard
        .note_moving((BUDGET * sixteenths / 16).saturating_sub(others));
    world.turn();
}

fn notice(said: &[Said]) -> Notice {
    let told = said.iter().find_map(|said| match said {
        Said::Refused(notice) | Said::Goaway(notice) => Some(*notice),
        Said::Reject(reject) => Some(reject.notice),
        _ => None,
    });
    told.unwrap_or_else(|| panic!("nothing is refused: {said:?}"))
}

fn credit(said: &[Said]) -> (u32, u32) {
    let ack = said.iter().find_map(|said| match said {
        Said::Ack(ack) => Some((ack.credit_frames, ack.credit_bytes)),
        _ => None,
    });
    ack.unwrap()
}

#[test]
fn new_connections_go_first_then_strangers_then_low_priority_and_normal_work_last() {
    let mut world = World::new(setup());
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut stranger = Client::new(&mut world, RELAY, secret(3).text_bytes());
    world.settle();
    let used = world.shard.memory().used;
    assert!(used.total() < BUDGET / 16, "{used:?}");
    let frame = sender.send(&[b"calm"]);
    let said = sender.exchange(&mut world, &frame);
    assert_eq!(credit(&said), (1_024, 4 << 20));

    fill(&mut world, 11);
    assert_eq!(world.shard.memory().pressure, Pressure::NewConnections);
    let mut late = Client::new(&mut world, RELAY, secret(3).text_bytes());
    let hello = late.hello_bytes(Auth::Key(KeyId(1)), 0);
    let told = notice(&late.exchange(&mut world, &hello));
    assert_eq!(told.reason, Reason::ConnectionsShed);
    assert!(
        told.retry_after_ms > 0 && told.needed == BUDGET * 10 / 16,
        "{told}"
    );
    assert!(!world.closed(stranger.connection));

    fill(&mut world, 12);
    assert_eq!(world.shard.memory().pressure, Pressure::Strangers);
    world.turn();
    let told = notice(&stranger.read(&mut world));
    assert_eq!(
        (told.reason, told.needed),
        (Reason::StrangersShed, BUDGET * 11 / 16)
    );
    let low = sender.send_as(sender.endpoint, OTHER, 2, &[b"low"]);
    let said = sender.exchange(&mut world, &low);
    assert_eq!((acks(&said), credit(&said)), (vec![2], (1_024, 4 << 20)));

    fill(&mut world, 13);
    assert_eq!(world.shard.memory().pressure, Pressure::LowPriority);
    let low = sender.send_as(sender.endpoint, OTHER, 3, &[b"low"]);
    let told = notice(&sender.exchange(&mut world, &low));
    assert_eq!(told.reason, Reason::LowPriorityShed);
    assert_eq!((told.needed, told.retry_after_ms), (BUDGET * 12 / 16, 50));
    let frame = sender.send_number(3, &[b"normal"]);
    let said = sender.exchange(&mut world, &frame);
    assert_eq!(acks(&said), [3]);
    assert_eq!(credit(&said), (128, FRAME_BYTES_MAX as u32), "less is told");

    fill(&mut world, 14);
    assert_eq!(world.shard.memory().pressure, Pressure::All);
    let frame = sender.send_number(4, &[b"normal"]);
    let told = notice(&sender.exchange(&mut world, &frame));
    assert_eq!((told.reason, told.needed), (Reason::Busy, BUDGET * 13 / 16));
    fill(&mut world, 9);
    assert_eq!(world.shard.memory().pressure, Pressure::None);
    let frame = sender.send_number(4, &[b"normal"]);
    let said = sender.exchange(&mut world, &frame);
    assert_eq!((acks(&said), credit(&said)), (vec![4], (1_024, 4 << 20)));
    Client::connect(&mut world, RECEIVER, 2);
    let counters = world.shard.counters();
    let shed = &counters.shed;
    assert_eq!((shed.connections, shed.strangers), (1, 1));
    assert_eq!((shed.low_priority_frames, shed.normal_frames), (1, 1));
    assert_eq!(shed.high_waters, 1);
    for reason in [
        Reason::ConnectionsShed,
        Reason::LowPriorityShed,
        Reason::Busy,
    ] {
        assert_eq!(counters.of(reason), 1, "{reason}");
    }
}

/// As many receivers as fill a small budget with what waits for them, when they hear every other message of the log.
const AWAY: usize = 220;

fn receivers_that_are_away(memory_bytes: u64) -> Setup {
    let mut setup = setup();
    setup.limits.memory_bytes = memory_bytes;
    setup.limits.idle_timeout = std::time::Duration::from_secs(100_000);
    for at in 0..AWAY {
        let name = format!("acme/prod/away-{at}");
        let mut one = endpoint_in(&mut setup.parts, RECEIVER).clone();
        one.id = EndpointId::of(&name);
        one.name = name.as_str().into();
        one.receive = vec![grant(CHANNEL)];
        if at % 2 == 1 {
            one.queue.on_full = OnFull::DropOldest;
        }
        setup.parts.endpoints.push(one);
    }
    setup
}

/// Connect as a receiver that was away, and take all that waits.
fn take_all(world: &mut World, at: usize) -> usize {
    let mut receiver = Client::connect(world, &format!("acme/prod/away-{at}"), 2);
    let fetch = receiver.fetch(Source::Queue, 100_000, 60 << 20);
    world.receive(receiver.connection, &fetch);
    let mut taken = 0;
    loop {
        world.pass(std::time::Duration::from_secs(1));
        world.settle();
        let said = receiver.read(world);
        taken += bodies(&said).len();
        let last = said.iter().rev().find_map(|said| match said {
            Said::Deliver(_, messages) => messages.last().map(|last| last.number),
            _ => None,
        });
        let Some(last) = last else {
            let bye = receiver.bye();
            receiver.exchange(world, &bye);
            return taken;
        };
        let settle = receiver.settle(Source::Queue, Outcome::AcceptUpTo, last);
        world.receive(receiver.connection, &settle);
    }
}

#[test]
fn receivers_whose_queues_fill_the_memory_are_let_in_to_empty_them_also_after_a_restart() {
    // More than the budget of the node that starts again, which is the smallest there may be.
    let mut world = World::new(receivers_that_are_away(16 << 20));
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut sent = 0;
    while world.shard.memory().pressure == Pressure::None {
        assert!(sent < 4_000, "{:?}", world.shard.memory());
        let frames: Vec<u8> = (0..100)
            .flat_map(|_| {
                sent += 1;
                let channel = if sent % 2 == 0 { OTHER } else { CHANNEL };
                sender.send_as(sender.endpoint, channel, sent, &[b"x"])
            })
            .collect();
        let said = sender.exchange(&mut world, &frames);
        assert_eq!(acks(&said).last(), Some(&sent));
        world.pass(std::time::Duration::from_secs(1));
        world.settle();
    }
    let used = world.shard.memory().used;
    assert!(used.queues > used.total() / 8 * 7, "{used:?}");
    let heard = sent / 2;
    assert_eq!(take_all(&mut world, 0) as u64, heard, "it is let in");
    assert_eq!(world.shard.counters().shed.connections, 0);

    let mut world = World::on(world.disk.clone(), receivers_that_are_away(BUDGET));
    world.settle();
    let memory = world.shard.memory();
    assert!(memory.used.queues > BUDGET, "{:?}", memory.used);
    assert_eq!(memory.pressure, Pressure::All);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"too much"]);
    let told = notice(&sender.exchange(&mut world, &frame));
    assert_eq!(told.reason, Reason::Busy, "to send is another matter");
    for at in 1..AWAY {
        assert_eq!(take_all(&mut world, at) as u64, heard, "receiver {at}");
    }
    assert_eq!(world.shard.memory().pressure, Pressure::None);
    let frame = sender.send_number(sender.sequence - 1, &[b"fits again"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [sent + 1]);
}

/// A sender that keeps to the protocol and knows what became of everything it sent.
struct Sender {
    client: Client,
    channel: &'static str,
    /// What has no answer yet, by rising number; the first one's number.
    open: VecDeque<Vec<u8>>,
    next: u64,
    sent: u64,
    acked: u64,
    rejected: u64,
    lost: u64,
}

impl Sender {
    fn new(world: &mut World, name: &str, key: u8, channel: &'static str) -> Self {
        let client = Client::connect(world, name, key);
        Self {
            next: client.sequence,
            client,
            channel,
            open: VecDeque::new(),
            sent: 0,
            acked: 0,
            rejected: 0,
            lost: 0,
        }
    }

    /// Frames with the numbers from `from` on.
    fn frames(&mut self, from: usize) -> Vec<u8> {
        let first = self.next - self.open.len() as u64;
        let bodies: Vec<_> = self.open.iter().skip(from).cloned().collect();
        let frames = bodies.iter().enumerate().map(|(at, body)| {
            let number = first + (from + at) as u64;
            let endpoint = self.client.endpoint;
            self.client.send_as(endpoint, self.channel, number, &[body])
        });
        frames.collect::<Vec<_>>().concat()
    }

    fn send(&mut self, body: Vec<u8>) -> Vec<u8> {
        self.open.push_back(body);
        self.next += 1;
        self.sent += 1;
        self.frames(self.open.len() - 1)
    }

    /// Take what was said. Returns what has to be sent again.
    fn hear(&mut self, world: &mut World) -> Vec<u8> {
        let mut again = None;
        for said in self.client.read(world) {
            let first = self.next - self.open.len() as u64;
            match said {
                Said::Ack(ack) => {
                    let done = (ack.sequence.0 + 1).saturating_sub(first);
                    self.acked += done;
                    self.open.drain(..done as usize);
                }
                Said::Reject(reject) => {
                    let at = (reject.sequence.0 - first) as usize;
                    assert!(self.open.remove(at).is_some());
                    self.next -= 1;
                    self.rejected += 1;
                    again = Some(reject.sequence.0);
                }
                Said::Goaway(_) => {}
                other => panic!("{other:?} to a sender"),
            }
        }
        if world.dead(self.client.connection) {
            self.lost += self.open.len() as u64;
            self.open.clear();
            return Vec::new();
        }
        let first = self.next - self.open.len() as u64;
        again.map_or_else(Vec::new, |from| self.frames((from - first) as usize))
    }

    fn check(&self, why: &str) {
        let known = self.acked + self.rejected + self.lost + self.open.len() as u64;
        assert_eq!(self.sent, known, "{why}: {} open", self.open.len());
    }
}

/// Peers that do anything, for so many turns. Returns the highest level reached, and how much of the budget was used at most.
fn peers_that_do_anything(seed: u64, turns: u32) -> (Pressure, u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut setup = setup();
    setup.limits.unsent_bytes_total = 1 << 30;
    setup.limits.assembly_bytes_max = 64 << 20;
    setup.limits.deliver_bytes_per_turn = 256 << 10;
    let names: Vec<String> = (0..12).map(|at| format!("acme/prod/many-{at}")).collect();
    for name in &names {
        let mut one = endpoint_in(&mut setup.parts, SENDER).clone();
        one.id = EndpointId::of(name);
        one.name = name.as_str().into();
        let low = random.bool();
        one.send = vec![grant(if low { OTHER } else { CHANNEL })];
        setup.parts.endpoints.push(one);
    }
    let hear: Grant = grant(CHANNEL);
    let hearers: Vec<String> = (0..4).map(|at| format!("acme/prod/hear-{at}")).collect();
    for name in &hearers {
        let mut one = endpoint_in(&mut setup.parts, RECEIVER).clone();
        one.id = EndpointId::of(name);
        one.name = name.as_str().into();
        one.receive = vec![hear.clone()];
        setup.parts.endpoints.push(one);
    }
    let channel_of = |parts: &wire::route::TableParts, name: &str| {
        let found = parts.endpoints.iter().find(|one| *one.name == *name);
        match found.unwrap().send[0].channel == ChannelId::of(OTHER) {
            true => OTHER,
            false => CHANNEL,
        }
    };
    let channels: Vec<_> = names
        .iter()
        .map(|name| channel_of(&setup.parts, name))
        .collect();
    let mut world = World::new(setup);
    let mut senders: Vec<Sender> = (names.iter().zip(channels))
        .map(|(name, channel)| Sender::new(&mut world, name, 1, channel))
        .collect();
    let mut receivers: Vec<Client> = (hearers.iter())
        .map(|name| Client::connect(&mut world, name, 2))
        .collect();
    // What each has sent and the shard has not been handed, and the start of a frame that is sent in parts.
    let mut waiting: Vec<Vec<u8>> = vec![Vec::new(); senders.len()];
    let (mut most, mut level) = (0, Pressure::None);
    for turn in 0..turns {
        world.hold_syncs = turn % 97 < 60;
        world.pass(std::time::Duration::from_millis(5));
        for (sender, waiting) in senders.iter_mut().zip(&mut waiting) {
            if world.dead(sender.client.connection) {
                continue;
            }
            let few = sender.open.len() < 40 && waiting.len() < 512 << 10;
            if few && random.u8(..) < 160 {
                let bytes = match random.u8(..8) {
                    0 => random.usize(100_000..250_000),
                    _ => random.usize(..6_000),
                };
                waiting.extend(sender.send(vec![turn as u8; bytes]));
            }
            if random.u8(..) == 0 {
                match world.stuck.contains_key(&sender.client.connection) {
                    true => world.unstick(sender.client.connection),
                    false => world.stick(sender.client.connection),
                }
            }
        }
        for receiver in &mut receivers {
            let id = receiver.connection;
            if world.dead(id) {
                continue;
            }
            match random.u8(..) {
                0..40 => {
                    let fetch = receiver.fetch(Source::Queue, 100, 1 << 20);
                    world.receive(id, &fetch);
                }
                40..46 if !world.stuck.contains_key(&id) => world.stick(id),
                46..60 if world.stuck.contains_key(&id) => world.unstick(id),
                _ => {}
            }
        }
        if random.u8(..) < 20 {
            // One who never says a HELLO.
            let stranger = world.open();
            world.receive(stranger, &wire::preface::Preface::CLIENT.encode());
        }
        // A turn takes so much, by turns from each that should be read: as the node does it.
        let mut room = 256 << 10;
        for (sender, waiting) in senders.iter_mut().zip(&mut waiting) {
            let id = sender.client.connection;
            let take = waiting.len().min(64 << 10).min(room);
            let bytes = match world.shard.reading(id) {
                Reading::Now => take,
                Reading::Later if random.u8(..) < 8 => take,
                Reading::Later | Reading::NotYet => 0,
            };
            if bytes > 0 {
                let rest = waiting.split_off(bytes);
                world.receive(id, waiting);
                *waiting = rest;
                room -= bytes;
            }
        }
        world.turn();
        let status = world.shard.memory();
        let used = status.used.total();
        assert!(
            used <= BUDGET,
            "seed {seed}, turn {turn}: {:?}",
            status.used
        );
        (most, level) = (most.max(used), level.max(status.pressure));
        for (sender, waiting) in senders.iter_mut().zip(&mut waiting) {
            if !world.stuck.contains_key(&sender.client.connection) {
                let again = sender.hear(&mut world);
                waiting.extend(again);
                sender.check("under way");
            }
        }
        for receiver in &mut receivers {
            if world.stuck.contains_key(&receiver.connection) {
                continue;
            }
            let said = receiver.read(&mut world);
            let last = said.iter().rev().find_map(|said| match said {
                Said::Deliver(_, messages) => messages.last().map(|last| last.number),
                _ => None,
            });
            if let Some(last) = last
                && !world.dead(receiver.connection)
            {
                let settle = receiver.settle(Source::Queue, Outcome::AcceptUpTo, last);
                world.receive(receiver.connection, &settle);
            }
        }
    }
    // All take what waits for them, the disk is well again: what is left is answered, and counted on both sides.
    world.hold_syncs = false;
    for id in world.stuck.keys().copied().collect::<Vec<_>>() {
        world.unstick(id);
    }
    for _ in 0..400 {
        world.pass(std::time::Duration::from_millis(5));
        for (sender, waiting) in senders.iter_mut().zip(&mut waiting) {
            let id = sender.client.connection;
            let bytes = waiting.len().min(64 << 10);
            if !world.dead(id) && world.shard.reading(id) == Reading::Now && bytes > 0 {
                let rest = waiting.split_off(bytes);
                world.receive(id, waiting);
                *waiting = rest;
            }
        }
        world.release_syncs();
        world.turn();
        for (sender, waiting) in senders.iter_mut().zip(&mut waiting) {
            let again = sender.hear(&mut world);
            waiting.extend(again);
        }
    }
    let (mut rejected, mut acked) = (0, 0);
    for sender in &senders {
        sender.check("at the end");
        assert!(
            sender.open.is_empty(),
            "seed {seed}: all is answered or lost"
        );
        rejected += sender.rejected;
        acked += sender.acked;
    }
    let counters = world.shard.counters();
    let shed = counters.shed.low_priority_frames + counters.shed.normal_frames;
    assert!(rejected <= shed + counters.append.refused + counters.route.refused);
    assert!(
        counters.append.frames >= acked,
        "seed {seed}: what is acked is in the log"
    );
    (level, most)
}

#[expect(
    clippy::disallowed_methods,
    reason = "who runs the test says how much of it"
)]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// How many seeds: `FOREBAY_PRESSURE_SEEDS`; which one alone: `FOREBAY_PRESSURE_SEED`.
fn seeds() -> Vec<u64> {
    match number("FOREBAY_PRESSURE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("FOREBAY_PRESSURE_SEEDS").unwrap_or(2)).collect(),
    }
}

#[test]
fn peers_that_do_anything_never_take_more_than_the_budget_and_all_they_send_is_accounted_for() {
    let mut levels = std::collections::BTreeSet::new();
    for seed in seeds() {
        let (level, most) = peers_that_do_anything(seed, 600);
        println!(
            "seed {seed}: up to {most} of {BUDGET} bytes, {}; again with FOREBAY_PRESSURE_SEED={seed} \
             cargo test -p forebay-shard --test pressure peers_that",
            level.name()
        );
        levels.insert(level);
    }
    assert!(
        levels.contains(&Pressure::All),
        "{levels:?}: memory was never short"
    );
}
