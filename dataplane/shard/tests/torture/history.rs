//! A busy shard and the truth about it: what was sent, acknowledged, delivered and settled. Whatever happens to the
//! disk then, [`History::check`] reads everything that is left out of a shard that starts on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use partition::PartitionLimits;
use partition::memory::Disk;
use shard::queue::{QueueLimits, Source as List};
use wire::delivery::{Outcome, Source};
use wire::ids::*;
use wire::route::*;

use crate::support::*;

pub(crate) const SENDERS: [&str; 3] = ["acme/prod/pump", "acme/prod/valve", "acme/prod/gauge"];
pub(crate) const RECEIVERS: [&str; 3] = ["acme/prod/wide", "acme/prod/narrow", "acme/prod/clumsy"];
const CLUMSY: usize = 2;

/// Two partitions, three senders, and receivers that take all, park, and bury.
pub(crate) fn setup() -> Setup {
    let mut setup = Setup::new(AckMode::Durable);
    let symmetric = |number| KeyMaterial::Symmetric(secret(number));
    setup.parts.hubs[0].partitions = 2;
    let senders = SENDERS.iter().enumerate().map(|(at, name)| {
        let key = key(1, Direction::Ingress, symmetric(10 + at as u8));
        endpoint(name, vec![key], vec![grant(CHANNEL), grant(OTHER)], vec![])
    });
    let receivers = RECEIVERS.iter().enumerate().map(|(at, name)| {
        let key = key(1, Direction::Egress, symmetric(20 + at as u8));
        let mut hears = vec![grant(CHANNEL), grant(OTHER)];
        hears.truncate(hears_channels(at).len());
        let mut endpoint = endpoint(name, vec![key], vec![], hears);
        endpoint.queue.deliveries_max = if at == CLUMSY { 2 } else { 0 };
        endpoint.queue.messages_max = if at == 1 { 5 } else { 1_000_000 };
        endpoint
    });
    setup.parts.endpoints = senders.chain(receivers).collect();
    let (segment_bytes, record_bytes_max) = (32 * 1024, 8 * 1024);
    setup.log_limits = PartitionLimits {
        segment_bytes,
        record_bytes_max,
        ..setup.log_limits
    };
    setup.queue_limits = QueueLimits {
        runs_max: 12,
        record_ops_max: 8,
        batch_ops_max: 16,
        catch_up_records_max: 6,
        snapshot_every_bytes: 6 * 1024,
        snapshot_ops_max: 6,
        ..QueueLimits::default()
    };
    setup
}

fn hears_channels(receiver: usize) -> &'static [&'static str] {
    match receiver {
        CLUMSY => &[CHANNEL],
        _ => &[CHANNEL, OTHER],
    }
}

/// Sender and serial of a message; its body begins with them.
pub(crate) type Id = (u64, u64);

fn body(id: Id, bytes: usize) -> Vec<u8> {
    let mut body = [id.0.to_le_bytes(), id.1.to_le_bytes()].concat();
    body.resize(16 + bytes, (id.0 ^ id.1) as u8);
    body
}

fn id_of(body: &[u8]) -> Option<Id> {
    let (sender, rest) = body.split_first_chunk::<8>()?;
    let serial = rest.first_chunk::<8>()?;
    Some((u64::from_le_bytes(*sender), u64::from_le_bytes(*serial)))
}

/// A shard at work, and everything known of it.
pub(crate) struct History {
    pub(crate) world: World,
    random: Rng,
    senders: Vec<Client>,
    receivers: Vec<Client>,
    /// Bodies and channels of everything sent.
    sent: BTreeMap<Id, (Vec<u8>, &'static str)>,
    serials: [u64; 3],
    /// Frames of each sender that are not acked yet: number and messages.
    unacked: [Vec<(u64, Vec<Id>)>; 3],
    acked: BTreeSet<Id>,
    /// Which message a number of a list was.
    numbers: [BTreeMap<(bool, u64), Id>; 3],
    /// Messages whose settlement a shard took, in order, and how many of these are in a journal that is synced.
    settled: [Vec<(bool, Id)>; 3],
    /// Messages that were told to be dead letters.
    buried: BTreeSet<(usize, Id)>,
    settled_safe: [usize; 3],
    /// Settlements that the journal sync under way covers.
    settled_syncing: Option<[usize; 3]>,
}

/// What a shard that started on some disk gave out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) delivered: u64,
    /// Messages whose settlement was safe and that came again all the same.
    pub(crate) again: u64,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = World::on(Disk::new(seed), setup());
        let connect = |world: &mut World, name: &&str, first: usize, at: usize| {
            Client::connect(world, name, (first + at) as u8)
        };
        let senders = SENDERS.iter().enumerate();
        let senders = senders
            .map(|(at, name)| connect(&mut world, name, 10, at))
            .collect();
        let receivers = RECEIVERS.iter().enumerate();
        let receivers = receivers
            .map(|(at, name)| connect(&mut world, name, 20, at))
            .collect();
        Self {
            world,
            random: Rng::with_seed(seed),
            senders,
            receivers,
            sent: BTreeMap::new(),
            serials: [0; 3],
            unacked: Default::default(),
            acked: BTreeSet::new(),
            numbers: Default::default(),
            settled: Default::default(),
            buried: BTreeSet::new(),
            settled_safe: [0; 3],
            settled_syncing: None,
        }
    }

    /// Everybody does something; then one turn. Syncs wait where the world holds them.
    pub(crate) fn turn(&mut self) {
        for at in 0..SENDERS.len() {
            if self.random.u8(..3) > 0 && self.unacked[at].len() < 8 {
                self.send(at);
            }
        }
        for at in 0..RECEIVERS.len() {
            if self.random.u8(..3) == 0 {
                let (list, count) = (self.list(at), self.random.u32(1..12));
                let fetch = self.receivers[at].fetch(list, count, 1 << 20);
                self.world.receive(self.receivers[at].connection, &fetch);
            }
        }
        self.world.turn();
        self.note_syncs();
        for at in 0..SENDERS.len() {
            self.hear_acks(at);
        }
        for at in 0..RECEIVERS.len() {
            self.hear_deliveries(at);
        }
    }

    fn list(&mut self, receiver: usize) -> Source {
        match receiver == CLUMSY && self.random.u8(..4) == 0 {
            true => Source::DeadLetters,
            false => Source::Queue,
        }
    }

    /// Let everything that is under way come to rest and be synced.
    pub(crate) fn settle(&mut self) {
        for _ in 0..200 {
            // A journal that would only move its watermark is synced about once a second.
            self.world.pass(Duration::from_millis(20));
            self.world.turn();
            self.note_syncs();
            (0..SENDERS.len()).for_each(|at| self.hear_acks(at));
            (0..RECEIVERS.len()).for_each(|at| self.hear_deliveries(at));
            self.release();
        }
        assert!(self.unacked.iter().all(Vec::is_empty), "nothing holds acks");
    }

    /// Do the syncs that wait.
    pub(crate) fn release(&mut self) {
        self.world.release_syncs();
        if let Some(safe) = self.settled_syncing.take() {
            self.settled_safe = safe;
        }
    }

    fn send(&mut self, at: usize) {
        let channel = if self.random.u8(..4) == 0 {
            OTHER
        } else {
            CHANNEL
        };
        let mut ids = Vec::new();
        for _ in 0..self.random.u8(1..4) {
            self.serials[at] += 1;
            let id = (at as u64, self.serials[at]);
            self.sent
                .insert(id, (body(id, self.random.usize(..60)), channel));
            ids.push(id);
        }
        let bodies: Vec<&[u8]> = ids.iter().map(|id| &self.sent[id].0[..]).collect();
        let client = &mut self.senders[at];
        let number = client.sequence;
        client.sequence += 1;
        let frame = client.send_as(client.endpoint, channel, number, &bodies);
        self.world.receive(client.connection, &frame);
        self.unacked[at].push((number, ids));
    }

    fn hear_acks(&mut self, at: usize) {
        let said = self.senders[at].read(&mut self.world);
        assert_eq!(rejects(&said), [], "{}", SENDERS[at]);
        let upto = acks(&said).last().copied().unwrap_or(0);
        for (_, ids) in self.unacked[at].extract_if(.., |(number, _)| *number <= upto) {
            self.acked.extend(ids);
        }
    }

    /// Settle, one way or another, what came.
    fn hear_deliveries(&mut self, at: usize) {
        for said in self.receivers[at].read(&mut self.world) {
            let Said::Deliver(source, messages) = said else {
                assert!(matches!(said, Said::Reject(_)), "{said:?}");
                continue;
            };
            let dead = source == Source::DeadLetters;
            for message in &messages {
                self.check_message(at, dead, message);
            }
            let last = messages.last().unwrap();
            let outcome = match self.random.u8(..6) {
                0 => Outcome::AcceptOne,
                1 if at == CLUMSY && !dead => Outcome::DeadLetterOne,
                2 if at == CLUMSY && !dead => Outcome::ReleaseOne,
                3 => continue,
                _ => Outcome::AcceptUpTo,
            };
            let settle = self.receivers[at].settle(source, outcome, last.number);
            self.world.receive(self.receivers[at].connection, &settle);
            // The shard takes it with the next turn, in which nothing else of this receiver comes before it.
            self.world.turn();
            let id = id_of(&last.body).unwrap();
            match outcome {
                Outcome::AcceptUpTo => {
                    let list = self.numbers[at].range((dead, 0)..=(dead, last.number));
                    let ids = list.map(|(_, id)| (dead, *id));
                    self.settled[at].extend(
                        ids.filter(|(dead, id)| *dead || !self.buried.contains(&(at, *id))),
                    );
                }
                Outcome::AcceptOne => self.settled[at].push((dead, id)),
                // It is in the other list now.
                Outcome::DeadLetterOne => {
                    self.buried.insert((at, id));
                }
                Outcome::ReleaseOne => {}
            }
            self.note_syncs();
        }
    }

    fn check_message(&mut self, at: usize, dead: bool, message: &Delivered) -> Id {
        let name = RECEIVERS[at];
        let id = id_of(&message.body).unwrap_or_else(|| panic!("{name}: {message:?}"));
        let (body, channel) = self
            .sent
            .get(&id)
            .unwrap_or_else(|| panic!("{name} got {message:?}, which nobody sent"));
        assert_eq!(body, &message.body, "{name} got an altered body");
        assert_eq!(ChannelId::of(channel), message.header.channel);
        assert!(
            hears_channels(at).contains(channel),
            "{name} does not hear {channel}"
        );
        let first = *self.numbers[at].entry((dead, message.number)).or_insert(id);
        assert_eq!(
            first, id,
            "{name}: number {} was given twice",
            message.number
        );
        id
    }

    /// A journal sync that begins now covers the settlements made so far.
    fn note_syncs(&mut self) {
        let journal =
            |ticket: &partition::CommitTicket| matches!(ticket.log, partition::LogId::Queue(_));
        if self.settled_syncing.is_none() && self.world.syncs.iter().any(journal) {
            self.settled_syncing = Some([0, 1, 2].map(|at| self.settled[at].len()));
        }
        if !self.world.hold_syncs {
            self.settled_syncing = None;
        }
    }

    /// Start a shard on `disk` and read everything out of it, as each receiver: whatever was acked and not settled
    /// must come, nothing that was not sent, nothing to somebody else, in order, no number for another message.
    pub(crate) fn check(&self, disk: Disk, why: &str) -> (World, Found) {
        let mut world = World::on(disk, setup());
        let mut found = Found::default();
        for at in 0..RECEIVERS.len() {
            self.check_receiver(&mut world, at, why, &mut found);
        }
        (world, found)
    }

    fn check_receiver(&self, world: &mut World, at: usize, why: &str, found: &mut Found) {
        let name = RECEIVERS[at];
        let mut got = BTreeSet::new();
        let safe: BTreeSet<&(bool, Id)> =
            self.settled[at][..self.settled_safe[at]].iter().collect();
        for source in [Source::Queue, Source::DeadLetters] {
            let mut client = Client::connect(world, name, (20 + at) as u8);
            let mut last = BTreeMap::new();
            let fetch = client.fetch(source, 1_000_000, 1 << 24);
            let mut messages = delivered(client.exchange(world, &fetch));
            while let Some(upto) = messages.last().map(|message| message.number) {
                for message in &messages {
                    let id = self.check_again(at, source, message, why);
                    let place = (id.0, message.header.partition);
                    let before = last.insert(place, id.1).filter(|_| source == Source::Queue);
                    assert!(
                        before.is_none_or(|before| before < id.1),
                        "{why}: {name} got {id:?} after {before:?}"
                    );
                    found.again += u64::from(safe.contains(&(source == Source::DeadLetters, id)));
                    got.insert(id);
                }
                found.delivered += messages.len() as u64;
                let settle = client.settle(source, Outcome::AcceptUpTo, upto);
                messages = delivered(client.exchange(world, &settle));
            }
            let bye = client.bye();
            client.exchange(world, &bye);
        }
        let taken: BTreeSet<Id> = self.settled[at].iter().map(|(_, id)| *id).collect();
        for id in &self.acked {
            let heard = hears_channels(at).contains(&self.sent[id].1);
            assert!(
                !heard || got.contains(id) || taken.contains(id),
                "{why}: {name} never got {id:?}, which was acked"
            );
        }
    }

    fn check_again(&self, at: usize, source: Source, message: &Delivered, why: &str) -> Id {
        let name = RECEIVERS[at];
        let id = id_of(&message.body).unwrap_or_else(|| panic!("{why}: {name} {message:?}"));
        let sent = self.sent.get(&id);
        let (body, channel) =
            sent.unwrap_or_else(|| panic!("{why}: {name} got {id:?}, which nobody sent"));
        assert_eq!(body, &message.body, "{why}: {name} got an altered body");
        assert!(
            hears_channels(at).contains(channel)
                && ChannelId::of(channel) == message.header.channel,
            "{why}: {name} does not hear {channel}"
        );
        let before = self.numbers[at].get(&(source == Source::DeadLetters, message.number));
        assert!(
            before.is_none_or(|before| *before == id),
            "{why}: {name}: number {} was {before:?} before and is {id:?}",
            message.number
        );
        id
    }

    /// Everything that queues know, list by list.
    pub(crate) fn state(world: &World) -> Vec<String> {
        let mut state = Vec::new();
        for name in RECEIVERS {
            for list in [List::Queue, List::DeadLetters] {
                let groups = world.shard.queue_groups();
                let depths = groups.map(|group| group.depth(EndpointId::of(name), list));
                state.push(format!("{name} {list:?} {:?}", depths.collect::<Vec<_>>()));
            }
        }
        for partition in 0..2 {
            let id = PartitionId::new(1, partition);
            let groups = world.shard.queue_groups();
            let marks: Vec<_> = groups.map(|group| group.watermark(id)).collect();
            state.push(format!("{id:?} {marks:?}"));
        }
        state
    }
}

fn delivered(said: Vec<Said>) -> Vec<Delivered> {
    said.into_iter()
        .flat_map(|said| match said {
            Said::Deliver(_, messages) => messages,
            _ => Vec::new(),
        })
        .collect()
}
