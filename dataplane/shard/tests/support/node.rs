//! A node of several shards, and a sender of which one log is another shard's.

use std::time::Duration;

use partition::memory::Disk;
use shard::Ownership;
use wire::frame::split;
use wire::handshake::Auth;
use wire::ids::*;
use wire::route::*;
use wire::send::Send;

use super::*;

/// In a hub of its own.
pub const FAR: &str = "acme/prod/far";
/// In the same hub, without a grant.
pub const SHUT: &str = "acme/prod/shut";

pub fn two_hubs(ack: AckMode) -> Setup {
    let mut setup = Setup::new(ack);
    let mut hub = setup.parts.hubs[0].clone();
    (hub.id, hub.name) = (2, "acme/prod/far".into());
    setup.parts.hubs.push(hub);
    for name in [FAR, SHUT] {
        setup.parts.channels.push(ChannelParts {
            id: ChannelId::of(name),
            name: name.into(),
            hub: 1,
            priority: Default::default(),
        });
    }
    for name in [SENDER, RELAY, SENSOR] {
        endpoint_in(&mut setup.parts, name).send.push(grant(FAR));
    }
    setup.log_limits.segment_bytes = 64 << 10;
    setup.log_limits.record_bytes_max = 8 << 10;
    setup.limits.idle_timeout = Duration::from_secs(4_000);
    setup
}

/// A node on which the sender is at home with one of its two channels, and the other one's log is another shard's; or, of
/// one shard, at home with both.
pub struct Node {
    pub shards: Vec<World>,
    pub home: usize,
    pub owner: usize,
    /// The channel whose log is at home, and the other one.
    pub near: &'static str,
    pub far: &'static str,
    pub partition: PartitionId,
}

impl Node {
    pub fn on(disk: Disk, setup: Setup, count: u16) -> Self {
        let table = RouteTable::build(setup.parts.clone()).unwrap();
        let ownership = Ownership::new(&table, count);
        let sender = table.endpoint_by_name(SENDER).unwrap();
        let home = ownership.home(&table, &sender, Direction::Ingress);
        let partition = |name| {
            let channel = table.channel(ChannelId::of(name)).unwrap();
            table.partition_of(sender.id, channel)
        };
        // The first of its grants decides where it is at home.
        let first = sender.send.at(0).channel == ChannelId::of(CHANNEL);
        let (near, far) = if first {
            (CHANNEL, FAR)
        } else {
            (FAR, CHANNEL)
        };
        let owner = ownership.partition(partition(far)).unwrap();
        let partition = partition(far);
        let mut shards = World::shards(disk, setup, count);
        settle_all(&mut shards, usize::MAX);
        Self {
            shards,
            home: home.into(),
            owner: owner.into(),
            near,
            far,
            partition,
        }
    }

    pub fn new(count: u16) -> Self {
        Self::on(Disk::new(1), two_hubs(AckMode::Durable), count)
    }

    /// Say HELLO; the WELCOME comes when everybody has been asked.
    pub fn greet(&mut self, client: &mut Client, auth: Auth<'_>) -> Vec<Said> {
        let bytes = client.hello_bytes(auth, 0);
        self.exchange(client, &bytes)
    }

    pub fn connect(&mut self) -> Client {
        let mut client = Client::new(&mut self.shards[self.home], SENDER, secret(1).text_bytes());
        let said = self.greet(&mut client, Auth::Key(KeyId(1)));
        assert!(matches!(said[..], [_, Said::Welcome(..)]), "{said:?}");
        client
    }

    pub fn resume(&mut self, client: &Client) -> (Client, Vec<Said>) {
        let secret = client.keys.as_ref().unwrap().resume;
        let mut next = Client::new(&mut self.shards[self.home], SENDER, &secret);
        let said = self.greet(&mut next, Auth::Resume(client.session));
        (next, said)
    }

    pub fn exchange(&mut self, client: &mut Client, bytes: &[u8]) -> Vec<Said> {
        self.shards[self.home].receive(client.connection, bytes);
        settle_all(&mut self.shards, usize::MAX);
        client.read(&mut self.shards[self.home])
    }

    pub fn send(&self, client: &mut Client, number: u64, body: &[u8]) -> Vec<u8> {
        client.send_as(EndpointId::of(SENDER), self.far, number, &[body])
    }

    /// Let bytes come in without passing on what the shards say to each other.
    pub fn at_home(&mut self, client: &mut Client, bytes: &[u8]) -> Vec<Said> {
        client.exchange(&mut self.shards[self.home], bytes)
    }

    /// Hand what one shard said on to another one, which makes no turn for it.
    pub fn pass(&mut self, from: usize, to: usize) {
        let said: Vec<_> = self.shards[from].output.mesh[to].drain(..).collect();
        let said = said.into_iter().map(|message| (from as u16, message));
        self.shards[to].mesh.extend(said);
    }

    /// Numbers and bodies in the log that is another shard's.
    pub fn log(&self) -> Vec<(u64, Vec<u8>)> {
        let logs = self.shards[self.owner].shard.partitions();
        let mut logs = logs.filter(|log| log.log() == partition::LogId::partition(self.partition));
        let log = logs.next().unwrap();
        let records = log.records_from(log.first()).map(|record| record.unwrap());
        let frames = records.filter(|record| record.kind() == partition::RecordKind::Frame);
        frames
            .map(|record| {
                let (frame, _) = split(record.payload()).unwrap().unwrap();
                let send = Send::parse(frame).unwrap();
                let bodies = send.messages().flat_map(|message| message.body.to_vec());
                (send.sequence().0, bodies.collect())
            })
            .collect()
    }

    pub fn mesh(&self, shard: usize) -> (u64, u64) {
        let mesh = &self.shards[shard].shard.counters().mesh;
        (mesh.frames_out, mesh.frames_in)
    }
}
