//! The world: one seed decides everything that happens, and when.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use partition::memory::{Crash, Disk, Fault};
use shard::{ConnectionId, Datagram, HandOver, Input, Opened, Received, Sent, Tunnel};
use wire::frame::{FrameKind, split};
use wire::ids::{ChannelId, QUEUE_STREAM};
use wire::route::RouteTable;

use crate::beacon::Beacon;
use crate::changes::by_change;
use crate::ledger::Ledger;
use crate::link::{hash_on, messages_of};
use crate::network::{Actor, Connection, Network, Way};
use crate::node::{self, Build, Medium, Node};
use crate::party::Context;
use crate::plan::{self, RECEIVERS, Rules, SENDERS};
use crate::receiver::Receiver;
use crate::relay::Relay;
use crate::sender::Sender;

const STEPS: u64 = 1_500;
const REST_STEPS: u64 = 40_000;

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Hash over every byte the shard gave out, and when.
    pub(crate) trace: u64,
    pub(crate) acked: usize,
    pub(crate) deliveries: u64,
    pub(crate) crashes: u32,
    /// Lanes that were opened, and those of them whose carrier died under them.
    pub(crate) lanes: u32,
    pub(crate) lanes_died: u32,
    /// Frames that were thrown in datagrams, those that were acked, and those that were refused.
    pub(crate) thrown: [u32; 3],
}

struct World {
    random: Rng,
    /// The node has several shards, another number of them after each restart.
    several: bool,
    /// A shard that makes no turn until then: its processor does something else.
    stuck: Option<(usize, Duration)>,
    now: Duration,
    node: Node,
    network: Network,
    ledger: Ledger,
    senders: Vec<Sender>,
    beacon: Beacon,
    relay: Relay,
    receivers: Vec<Receiver>,
    rules: Rules,
    table: Arc<RouteTable>,
    /// The tables that the shards have in force.
    in_force: Vec<Arc<RouteTable>>,
    /// Bytes that left, by shard.
    sent: Vec<Vec<Sent>>,
    restart_at: Option<Duration>,
    room_again_at: Option<Duration>,
    draining: bool,
    calm: bool,
    crashes: u32,
    lanes: u32,
    trace: u64,
    loud: bool,
}

/// Which nodes a run begins with and goes on with after each restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shards {
    /// One shard in every third run, up to eight in the others.
    Any,
    /// From two to eight.
    Several,
}

/// Run one seed to its end; panics at the first property that does not hold.
pub(crate) fn run(seed: u64, medium: Medium, shards: Shards) -> Outcome {
    let mut world = World::new(seed, medium, shards);
    for _ in 0..STEPS {
        world.mischief();
        world.step();
    }
    world.rest();
    Outcome {
        trace: world.trace,
        acked: world.ledger.acked_count(),
        deliveries: world.ledger.deliveries,
        crashes: world.crashes,
        lanes: world.lanes,
        lanes_died: world.network.lanes_died,
        thrown: [
            world.beacon.thrown,
            world.beacon.acked,
            world.beacon.rejected,
        ],
    }
}

impl World {
    fn new(seed: u64, medium: Medium, shards: Shards) -> Self {
        let rules = Rules::CALM;
        let table = Arc::new(plan::table(1, &rules));
        let now = Duration::from_secs(1);
        let mut random = Rng::with_seed(seed);
        let several = shards == Shards::Several || random.u8(..3) > 0;
        let build = Build {
            medium,
            shards: if several { random.u16(2..=8) } else { 1 },
            room: random.usize(1..12),
            expiring: random.bool(),
        };
        let node = Node::start(Disk::new(seed), build, Arc::clone(&table), node::at(now));
        Self {
            random,
            several,
            stuck: None,
            now,
            node,
            network: Network::default(),
            ledger: Ledger::new(build.expiring),
            senders: (0..SENDERS.len()).map(Sender::new).collect(),
            beacon: Beacon::new(),
            relay: Relay::new(),
            receivers: (0..RECEIVERS.len()).map(Receiver::new).collect(),
            rules,
            in_force: vec![Arc::clone(&table); build.shards.into()],
            table,
            sent: vec![Vec::new(); build.shards.into()],
            restart_at: None,
            room_again_at: None,
            draining: false,
            calm: false,
            crashes: 0,
            lanes: 0,
            trace: seed,
            loud: std::env::var_os("FOREBAY_SIM_TRACE").is_some(),
        }
    }

    /// Time passes, clients act, the shard takes a turn.
    fn step(&mut self) {
        self.now += Duration::from_micros(self.random.u64(10..3_000));
        if self.random.u16(..300) == 0 {
            self.now += Duration::from_millis(self.random.u64(..9_000));
        }
        self.act();
        self.turn();
        self.network.sweep();
        if self.restart_at.is_some_and(|at| at <= self.now) {
            self.restart(None);
        }
        if self.room_again_at.is_some_and(|at| at <= self.now) {
            self.room_again_at = None;
            self.node.disk.set_capacity(None);
        }
    }

    fn act(&mut self) {
        let mut cx = Context {
            random: &mut self.random,
            now: self.now,
            unix: node::at(self.now).unix,
            network: &mut self.network,
            ledger: &mut self.ledger,
            calm: self.calm,
            loud: self.loud,
        };
        for sender in &mut self.senders {
            sender.step(&mut cx);
        }
        self.beacon.step(&mut cx);
        self.relay.step(&mut cx);
        for receiver in &mut self.receivers {
            receiver.step(&mut cx);
        }
    }

    fn turn(&mut self) {
        self.ledger.turn += 1;
        let done = self.node.work(self.now);
        self.ledger.settled_safe = done.settled_safe;
        if done.sealed && self.restart_at.is_none() {
            self.restart_at = Some(self.now + Duration::from_millis(self.random.u64(..500)));
        }
        let mut shards: Vec<usize> = (0..self.node.shards.len()).collect();
        self.random.shuffle(&mut shards);
        let crashes = self.crashes;
        for shard in shards {
            // Shards run on processors of their own, each at its pace.
            let stuck = self
                .stuck
                .is_some_and(|(at, until)| at == shard && until > self.now);
            if !self.several || (!stuck && self.random.u8(..4) > 0) {
                self.turn_of(shard);
            }
            if self.crashes > crashes {
                return;
            }
        }
        self.node.check();
    }

    /// One turn of one shard.
    fn turn_of(&mut self, shard: usize) {
        let mut opened = self.open(shard);
        let mut pieces = self.come_home(shard, &mut opened);
        let tunnels: Vec<_> = opened.iter().filter_map(|new| self.tunnel(new)).collect();
        pieces.append(&mut self.arrive(shard));
        let received: Vec<_> = pieces
            .iter()
            .map(|(connection, bytes)| Received {
                connection: *connection,
                bytes,
            })
            .collect();
        let loose = self.network.loose(shard, self.now);
        let datagrams: Vec<_> = loose
            .iter()
            .map(|loose| Datagram {
                connection: loose.to,
                number: loose.number,
                bytes: &loose.bytes,
            })
            .collect();
        let mut closed = Vec::new();
        self.network.ended(shard, self.now, &mut closed);
        let sent = std::mem::take(&mut self.sent[shard]);
        let mut mesh = self.node.arrived(shard, self.now);
        let Node {
            shards,
            outputs,
            events,
            ..
        } = &mut self.node;
        let (output, events) = (&mut outputs[shard], &mut events[shard]);
        while output.buffers.len() < 4 {
            output.buffers.push(Vec::new());
        }
        let table = Arc::clone(&self.table);
        let newer = table.epoch() > self.in_force[shard].epoch();
        self.in_force[shard] = Arc::clone(&table);
        let mut input = Input {
            opened: &opened,
            tunnels: &tunnels,
            received: &received,
            datagrams: &datagrams,
            sent: &sent,
            closed: &closed,
            storage: events,
            mesh: &mut mesh,
            table: newer.then_some(table),
            drain: self.draining,
        };
        shards[shard].turn(node::at(self.now), &mut input, output);
        assert!(events.is_empty(), "storage events are consumed by the turn");
        assert!(mesh.is_empty(), "what others say is consumed by the turn");
        self.give_out(shard, &closed);
    }

    /// Connections that were handed over reach the shard where they belong.
    fn come_home(
        &mut self,
        shard: usize,
        opened: &mut Vec<Opened>,
    ) -> Vec<(ConnectionId, Vec<u8>)> {
        let mut pieces = Vec::new();
        let connections = self.network.connections.values();
        let due = connections.filter(|c| {
            let there = c.moves.as_ref().is_some_and(|(at, _)| *at <= self.now);
            c.shard == shard && there && !c.server_gone
        });
        for id in due.map(|c| c.id).collect::<Vec<_>>() {
            let (more, _) = self
                .network
                .arrive_at_server(id, self.now, &mut self.random);
            let connection = self.network.connections.get_mut(&id).expect("just listed");
            let (_, mut bytes) = connection.moves.take().expect("it was on its way");
            bytes.extend_from_slice(&more);
            let mut random = [0; 48];
            self.random.fill(&mut random);
            opened.push(Opened {
                connection: id,
                peer: ([127, 0, 0, 1], 40_000).into(),
                random,
                handed_over: true,
            });
            pieces.push((id, bytes));
        }
        pieces
    }

    /// The tunnel of a connection that was opened, if it has one.
    fn tunnel(&self, opened: &Opened) -> Option<Tunnel> {
        let (exporter, stays) = match self.network.connections.get(&opened.connection)?.way {
            Way::Plain => return None,
            Way::Tunnel(exporter) => (exporter, false),
            Way::Lane(_, exporter) => (exporter, true),
        };
        Some(Tunnel {
            connection: opened.connection,
            exporter,
            shown: None,
            stays,
        })
    }

    fn open(&mut self, shard: usize) -> Vec<Opened> {
        let mut opened = Vec::new();
        let fresh = |c: &&Connection| !c.opened && !c.server_gone && c.client_open;
        let fresh = self.network.connections.values().filter(fresh);
        for (id, way) in fresh.map(|c| (c.id, c.way)).collect::<Vec<_>>() {
            if self.random.u8(..3) > 0 && self.network.may_open(way, shard) {
                self.lanes += u32::from(matches!(way, Way::Lane(..)));
                let connection = self.network.connections.get_mut(&id).expect("just listed");
                connection.opened = true;
                connection.shard = shard;
                let mut random = [0; 48];
                self.random.fill(&mut random);
                let peer = ([127, 0, 0, 1], 40_000).into();
                opened.push(Opened {
                    connection: connection.id,
                    peer,
                    random,
                    handed_over: false,
                });
            }
        }
        opened
    }

    /// Bytes that reach the shard now, in any order of connections.
    fn arrive(&mut self, shard: usize) -> Vec<(ConnectionId, Vec<u8>)> {
        let connections = self.network.connections.values();
        let here = connections.filter(|c| c.shard == shard && c.moves.is_none());
        let mut ids: Vec<_> = here.map(|c| c.id).collect();
        self.random.shuffle(&mut ids);
        let mut pieces = Vec::new();
        for id in ids {
            if self.random.u8(..8) == 0 {
                continue;
            }
            let (bytes, notes) = self
                .network
                .arrive_at_server(id, self.now, &mut self.random);
            if !bytes.is_empty() {
                pieces.push((id, bytes));
            }
            for note in notes {
                let actor = Actor::Receiver(note.receiver);
                let of_receiver = self.network.connections.values();
                let open = of_receiver
                    .filter(|c| c.actor == actor && c.opened && !c.server_gone)
                    .count();
                if open == 1 && self.receivers[note.receiver].connection() == Some(id) {
                    self.ledger
                        .settled(note.receiver, note.number, &note.settled);
                }
            }
        }
        pieces
    }

    fn give_out(&mut self, shard: usize, closed: &[ConnectionId]) {
        for outgoing in std::mem::take(&mut self.node.outputs[shard].sends) {
            assert!(
                !closed.contains(&outgoing.connection),
                "bytes for a connection that is closed"
            );
            self.trace = hash_on(self.trace ^ outgoing.connection.0, &outgoing.bytes);
            self.witness(outgoing.connection, &outgoing.bytes);
            self.network.answer(
                outgoing.connection,
                outgoing.bytes,
                self.now,
                &mut self.random,
            );
        }
        for HandOver {
            connection,
            to,
            bytes,
        } in std::mem::take(&mut self.node.outputs[shard].hand_over)
        {
            let late = self.random.u64(..20_000);
            if let Some(c) = self.network.connections.get_mut(&connection) {
                assert_eq!(bytes, c.heard[8..], "what is handed over begins with HELLO");
                assert!(
                    !matches!(c.way, Way::Lane(..)),
                    "a lane cannot be handed over"
                );
                c.shard = to.into();
                c.moves = Some((self.now + Duration::from_micros(late), bytes));
                c.unsent = 0;
            }
        }
        for id in std::mem::take(&mut self.node.outputs[shard].closes) {
            self.network.server_closes(id, self.now, &mut self.random);
        }
        for connection in self
            .network
            .connections
            .values_mut()
            .filter(|c| c.shard == shard && !c.server_gone)
        {
            let leaves = connection.unsent > 0 && connection.client_open && self.random.bool();
            if leaves {
                let bytes = self.random.usize(1..=connection.unsent);
                connection.unsent -= bytes;
                self.sent[shard].push(Sent {
                    connection: connection.id,
                    bytes,
                });
            }
        }
        let turn = self.ledger.turn;
        self.node.request(shard, turn, self.now, &mut self.random);
        let drained = self.node.outputs.iter().all(|output| output.drained);
        if drained && self.draining {
            self.restart(None);
        }
    }

    /// Look at what the shard says to receivers, at the moment it says it.
    fn witness(&mut self, id: ConnectionId, bytes: &[u8]) {
        let connection = self.network.connections.get(&id);
        let Some((Actor::Receiver(receiver), shard)) = connection.map(|c| (c.actor, c.shard))
        else {
            return;
        };
        let mut rest = if bytes.starts_with(b"FBAY") {
            &bytes[8..]
        } else {
            bytes
        };
        while let Some((frame, after)) = split(rest).expect("the shard gives out whole frames") {
            rest = after;
            if frame.kind() == FrameKind::Deliver {
                for message in messages_of(frame) {
                    let hears = self.hears(shard, receiver, message.channel);
                    self.ledger.delivered(receiver, &message, hears);
                }
            } else if frame.kind() == FrameKind::Reject {
                let reject = wire::ack::Reject::parse(frame).expect("REJECT is well formed");
                assert_eq!(reject.partition, QUEUE_STREAM, "{reject:?}");
                self.ledger.unsettled(receiver, reject.sequence.0);
            }
        }
        assert!(rest.is_empty(), "the shard gave out half a frame");
    }

    fn hears(&self, shard: usize, receiver: usize, channel: ChannelId) -> bool {
        let endpoint = self.in_force[shard]
            .endpoint_by_name(RECEIVERS[receiver])
            .expect("it is in every plan");
        endpoint.receive_grant(channel).is_some()
    }

    /// Now and then something goes wrong.
    fn mischief(&mut self) {
        match self.random.u16(..1_600) {
            0 => self.crash(Crash::Lost),
            1 => {
                let seed = self.random.u64(..);
                self.crash(Crash::Seeded(seed));
            }
            2 => self.crash(Crash::Kept),
            3..5 => self.restart(None),
            5..25 => self.change_table(),
            25..28 => self.node.disk.inject(Fault::Sync(self.random.u64(1..4))),
            28..32 => {
                self.node.disk.set_capacity(Some(self.node.disk.bytes()));
                self.room_again_at =
                    Some(self.now + Duration::from_millis(self.random.u64(..2_000)));
            }
            32..34 => self.draining = true,
            47..57 => {
                let most = self.node.shards.len() as u16;
                let until = self.now + Duration::from_millis(self.random.u64(..4_000));
                self.stuck = Some((self.random.u16(..most).into(), until));
            }
            57..87 => self.network.trouble(self.now, &mut self.random),
            34..47 => {
                self.ledger
                    .audit(&self.node.disk, Crash::Lost, "durable now");
            }
            _ => {}
        }
    }

    fn change_table(&mut self) {
        self.rules = Rules {
            guest_hears: [self.random.bool(), self.random.bool()],
            valve_sends: self.random.u8(..3) > 0,
            gauge_revoked: self.random.u8(..4) == 0,
        };
        self.set_table();
    }

    fn set_table(&mut self) {
        let epoch = self.table.epoch() + 1;
        let next = plan::table(epoch, &self.rules);
        // Every other one comes as what it changes.
        self.table = Arc::new(match epoch % 2 {
            0 => by_change(&self.table, next),
            _ => next,
        });
    }

    /// The power goes, and with it some of what was not synced.
    fn crash(&mut self, crash: Crash) {
        self.restart(Some(crash));
    }

    /// The process ends, with all it knew; it starts again on what the disk holds.
    fn restart(&mut self, crash: Option<Crash>) {
        self.crashes += 1;
        if self.loud {
            eprintln!(
                "{:>12?} the node starts again, power cut: {crash:?}",
                self.now
            );
        }
        self.restart_at = None;
        self.room_again_at = None;
        self.draining = false;
        self.node.disk.heal();
        self.node.disk.set_capacity(None);
        self.ledger.died(crash.is_some());
        let disk = crash.map_or_else(
            || self.node.disk.clone(),
            |crash| self.node.disk.crash(crash),
        );
        self.network.server_dies(&mut self.random);
        let mut build = self.node.build;
        if self.several {
            build.shards = self.random.u16(1..=8);
        }
        self.begin(disk, build);
        self.ledger
            .audit(&self.node.disk, Crash::Kept, "after a restart");
    }

    /// A new process, with as many shards as it is given.
    fn begin(&mut self, disk: Disk, build: Build) {
        self.sent = vec![Vec::new(); build.shards.into()];
        self.in_force = vec![Arc::clone(&self.table); build.shards.into()];
        let table = Arc::clone(&self.table);
        self.node = Node::start(disk, build, table, node::at(self.now));
    }

    /// Several shards take all that is sent and bring it to everybody; a single one goes on from there.
    fn rest_apart(&mut self) {
        for step in 0..REST_STEPS {
            self.step();
            if step % 200 == 199 {
                self.now += Duration::from_secs(2);
                let senders = self.senders.iter().all(Sender::at_rest) && self.relay.at_rest();
                if senders && self.node.idle() {
                    let logged = self.ledger.audit(&self.node.disk, Crash::Kept, "apart");
                    if self.ledger.missing(&logged) == 0 {
                        break;
                    }
                }
            }
        }
        let logged = self.ledger.audit(&self.node.disk, Crash::Kept, "apart");
        self.ledger.check_arrived(&logged);
        assert!(
            self.senders.iter().all(Sender::at_rest),
            "a sender of several shards never came to rest"
        );
        assert!(self.relay.at_rest(), "the relay never came to rest");
        self.several = false;
        self.node.build.shards = 1;
        self.restart(None);
    }

    /// No more mischief: everything that was sent is settled one way or the other, and arrives.
    fn rest(&mut self) {
        self.calm = true;
        self.rules = Rules::CALM;
        self.set_table();
        self.node.disk.heal();
        let mut cx = Context {
            random: &mut self.random,
            now: self.now,
            unix: node::at(self.now).unix,
            network: &mut self.network,
            ledger: &mut self.ledger,
            calm: true,
            loud: self.loud,
        };
        // Its lock would not bring back what it forgot before the end of time.
        self.receivers[0].start_over(&mut cx);
        if self.several {
            self.rest_apart();
        }
        for step in 0..REST_STEPS {
            self.step();
            if step % 200 == 199 {
                self.now += Duration::from_secs(2);
                let senders = self.senders.iter().all(Sender::at_rest) && self.relay.at_rest();
                if senders && self.node.idle() {
                    let logged = self.ledger.audit(&self.node.disk, Crash::Kept, "at rest");
                    if self.ledger.missing(&logged) == 0 {
                        break;
                    }
                }
            }
        }
        assert!(
            self.senders.iter().all(Sender::at_rest),
            "a sender never came to rest"
        );
        assert!(self.relay.at_rest(), "the relay never came to rest");
        let logged = self
            .ledger
            .audit(&self.node.disk, Crash::Kept, "at the end");
        self.ledger.check_arrived(&logged);
        self.ledger
            .audit(&self.node.disk, Crash::Lost, "durable at the end");
    }
}
