//! A control plane and the shards of a node, of one plan; and clients that do what is asked about.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::model::Allow;
use control::seal::MasterKey;
use control::service::{self, Apply, Caller, NodeApplied, Publish, Service, Update};
use control::store::Store;
use partition::memory::Disk;
use shard::{Ownership, Shown};
use wire::datagram;
use wire::delivery::Source;
use wire::diagnosis::Diagnosis;
use wire::handshake::Auth;
use wire::ids::{
    AckMode, ChannelId, Direction, EndpointId, Fingerprint, KeyId, PartitionId, Sequence, UnixNanos,
};
use wire::route::{RouteTable, TableParts, Transport};
use wire::send::SendBuilder;
use wire::signature::{SecretKey, Signer, SigningKey};
use wire::token::{Token, mint};

use super::plan::{Defined, NODES, RELAY, RELAY_SECRET};
use super::reference::{Endpoint, Key, Proof, Question, Way};
use super::support::{Client, Said, Setup, World, acks, settle_all};
use super::written;

/// Of tunnels.
const EXPORTER: [u8; 32] = [9; 32];

/// Takes the table that is published, as a node does.
#[derive(Clone, Default)]
struct Taker(Arc<Mutex<Option<Arc<RouteTable>>>>);

impl Publish for Taker {
    fn check(&self, _: &RouteTable) -> Result<(), Diagnosis> {
        Ok(())
    }

    fn publish(&self, update: Update) {
        let mut kept = self.0.lock().expect("whole");
        let mut table = (*update.table).clone();
        if let Some(before) = &*kept {
            if let Some(delta) = &update.delta {
                table = before.after(delta).expect("of what came before");
                assert_eq!(table.digest(), update.table.digest());
            }
            table.go_on_from(before);
        }
        *kept = Some(Arc::new(table));
    }

    fn applied(&self, _: u64, _: Duration) -> Vec<NodeApplied> {
        Vec::new()
    }
}

/// A client with an open session.
pub(crate) struct Open {
    pub(crate) client: Client,
    pub(crate) shard: usize,
    pub(crate) way: Way,
    datagrams: u64,
}

impl Open {
    /// Whether datagrams of it cannot come to the log of this channel.
    pub(crate) fn is_elsewhere(&self, node: &Node, question: &Question) -> bool {
        let owner = node.owner_of(self.client.endpoint, &question.channel);
        self.way == Way::Datagram && owner.is_some_and(|owner| owner != self.shard)
    }
}

/// What was done, or what was said instead.
pub(crate) type Done = Result<(), Vec<Said>>;

/// The whole of it.
pub(crate) struct Node {
    pub(crate) service: Service,
    clock: Arc<AtomicU64>,
    taker: Taker,
    pub(crate) table: Arc<RouteTable>,
    pub(crate) shards: Vec<World>,
    ownership: Ownership,
    secrets: Vec<String>,
    /// What was sent of each stream.
    sent: HashMap<(EndpointId, PartitionId), u64>,
    nonces: u64,
    /// A planted fault: the shards get tables in which nobody has a home.
    ignores_homes: bool,
    /// Bytes of the last frame that was sent.
    pub(crate) frame_bytes: u64,
    _folder: tempfile::TempDir,
}

/// The line of a document that says what a key is made of.
pub(crate) fn material(secrets: &[String]) -> impl Fn(&Key) -> String {
    |key| match key.pair {
        true => format!(
            "public = \"{}\"",
            STANDARD.encode(pair_of(key.secret).verifying_key().to_bytes())
        ),
        false => format!("secret = \"{}\"", secrets[key.secret]),
    }
}

fn pair_of(number: usize) -> SigningKey {
    let mut bytes = [3; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    SigningKey::from_bytes(&bytes)
}

/// The text of a secret that nothing else has.
fn secret_of(number: usize) -> String {
    let mut bytes = [5; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    let text = SecretKey::from_random(bytes);
    String::from_utf8(text.text_bytes().to_vec()).expect("ASCII")
}

fn key_of(text: &str) -> SecretKey {
    SecretKey::from_base64(text).expect("it was made here")
}

impl Node {
    pub(crate) fn new(defined: &Defined, shards: u16, at: u64) -> Self {
        let secrets: Vec<String> = (0..defined.secrets).map(secret_of).collect();
        let text = written::everything(defined, &material(&secrets));
        let model =
            control::plan::read(&text, "plan").unwrap_or_else(|fault| panic!("{fault}\n{text}"));
        let folder = tempfile::tempdir().expect("a folder");
        let master = Arc::new(MasterKey::new(&[7; 32]));
        let store = Store::open(&folder.path().join("store"), master).expect("a store");
        let (taker, clock) = (Taker::default(), Arc::new(AtomicU64::new(at)));
        let hand = Arc::clone(&clock);
        let told = Box::new(move || hand.load(Ordering::Relaxed));
        let service = Service::start(store, Box::new(taker.clone()), told).expect("started");
        let apply = Apply {
            model,
            prune: false,
            create: false,
        };
        let applied = service.apply(&Caller::local(), &apply);
        applied.unwrap_or_else(|found| panic!("{}\n{text}", found[0].fault));
        let table = taker.0.lock().expect("whole").clone().expect("published");
        let ownership = Ownership::new(&table, shards);
        let mut node = Self {
            shards: shards_of(&table, shards, defined.node),
            service,
            clock,
            taker,
            table,
            ownership,
            secrets,
            sent: HashMap::new(),
            nonces: 0,
            ignores_homes: false,
            frame_bytes: 0,
            _folder: folder,
        };
        node.hand_over_table();
        node
    }

    pub(crate) fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// A secret that was made elsewhere.
    pub(crate) fn learn(&mut self, text: &str) -> usize {
        self.secrets.push(text.to_owned());
        self.secrets.len() - 1
    }

    pub(crate) fn learn_new(&mut self) -> usize {
        let text = secret_of(1_000_000 + self.secrets.len());
        self.learn(&text)
    }

    /// It is this time, in nanoseconds since 1970.
    pub(crate) fn set_time(&mut self, at: u128) {
        let nanos = u64::try_from(at).expect("a time of this century");
        self.clock.store(nanos / 1_000_000_000, Ordering::Relaxed);
        for shard in &mut self.shards {
            let passed = nanos - shard.now.unix.0;
            shard.now.unix = UnixNanos(nanos);
            shard.now.monotonic += Duration::from_nanos(passed);
        }
        self.settle();
    }

    /// Every shard gets the table that was published last.
    pub(crate) fn hand_over_table(&mut self) {
        let newest = self.taker.0.lock().expect("whole").clone();
        self.table = newest.expect("published");
        if self.ignores_homes {
            self.table = Arc::new(homeless(&self.table));
        }
        for shard in &mut self.shards {
            shard.table = Some(Arc::clone(&self.table));
        }
        self.settle();
    }

    /// From now on the shards know of no homes.
    pub(crate) fn ignore_homes(&mut self) {
        self.ignores_homes = true;
        self.hand_over_table();
    }

    pub(crate) fn settle(&mut self) {
        settle_all(&mut self.shards, usize::MAX);
    }

    /// What the control plane says.
    pub(crate) fn told(&self, defined: &Defined, question: &Question) -> service::Reasons {
        let endpoint = &defined.endpoints[question.endpoint];
        let key = endpoint.keys.iter().find(|key| key.id == question.key);
        let question = service::Question {
            endpoint: endpoint.name.clone(),
            allow: match question.sends {
                true => Allow::Send,
                false => Allow::Receive,
            },
            channel: question.channel.clone(),
            key: Some(key.map_or("none".to_owned(), |key| key.name.clone())),
            address: Some(question.address),
            origin: question.origin.map(str::to_owned),
            body_bytes: question.bodies.iter().max().map(|longest| *longest as u64),
            at: Some(question.at),
            transport: match question.way {
                Way::Tcp => Some(Transport::Tcp),
                Way::Tls => Some(Transport::Tls),
                Way::Quic => Some(Transport::Quic),
                Way::Datagram => Some(Transport::QuicDatagram),
                Way::Relayed => None,
            },
            certificate: question.certificate.map(|one| Fingerprint([one; 32])),
            node: Some(question.node.to_owned()).filter(|node| NODES.contains(&node.as_str())),
        };
        let told = self.service.why(&Caller::local(), &question);
        told.expect("the endpoint is there")
    }

    fn id_of(&self, name: &str) -> EndpointId {
        let endpoint = self.table.endpoint_by_name(name);
        endpoint.expect("nobody is deleted").id
    }

    /// The id of a channel; of one that is not there, that which it would have.
    pub(crate) fn channel_of(&self, name: &str) -> ChannelId {
        let mut channels = self.table.channels().iter();
        let found = channels.find(|channel| *channel.name == *name);
        found.map_or(ChannelId::of(name), |channel| channel.id)
    }

    /// The stream that frames of this endpoint for a channel are of, and the number of the next one; any where there is none.
    fn next(&self, endpoint: EndpointId, channel: ChannelId) -> ((EndpointId, PartitionId), u64) {
        let partition = match self.table.channel(channel) {
            Some(channel) => self.table.partition_of(endpoint, channel),
            None => PartitionId(u32::MAX),
        };
        let stream = (endpoint, partition);
        (stream, self.sent.get(&stream).copied().unwrap_or(0) + 1)
    }

    /// Where a connection begins: anywhere, but where it can only be of use on one shard.
    fn door(&self, question: &Question, name: &str, anywhere: usize) -> usize {
        let endpoint = self.table.endpoint_by_name(name).expect("it is there");
        match (question.way, question.sends) {
            (Way::Quic, false) => {
                let home = self
                    .ownership
                    .home(&self.table, &endpoint, Direction::Egress);
                home.into()
            }
            (Way::Datagram, _) => {
                let owner = self.owner_of(endpoint.id, &question.channel);
                owner.unwrap_or(anywhere)
            }
            _ => anywhere,
        }
    }

    /// A client that says this HELLO, wherever that leads, and what it was answered.
    fn hello(
        &mut self,
        (name, secret): (&str, &[u8]),
        auth: Auth<'_>,
        question: &Question,
        door: usize,
    ) -> (Open, Vec<Said>) {
        let peer = SocketAddr::new(question.address, 4_000);
        let world = &mut self.shards[door];
        let mut client = Client::from(world, peer, name, secret);
        self.nonces += 1;
        client.nonce[..8].copy_from_slice(&self.nonces.to_le_bytes());
        client.nonce[8..16].copy_from_slice(b"policies");
        client.endpoint = self.id_of(name);
        let (way, shown) = (question.way, question.certificate);
        let shown = shown.map(|one| Shown {
            certificate: Fingerprint([one; 32]),
            ends: None,
        });
        let world = &mut self.shards[door];
        match way {
            Way::Tcp | Way::Relayed => {}
            Way::Tls => world.tunnel_showing(client.connection, EXPORTER, shown),
            Way::Quic | Way::Datagram => world.lane_showing(client.connection, EXPORTER, shown),
        }
        if !matches!(way, Way::Tcp | Way::Relayed) {
            client.exporter = EXPORTER.to_vec();
        }
        let hello = client.hello_bytes(auth, 0);
        world.receive(client.connection, &hello);
        self.settle();
        let mut said = client.read(&mut self.shards[door]);
        let mut shard = door;
        if let Some(handed) = self.shards[door].hand_overs.pop() {
            shard = usize::from(handed.to);
            let home = &mut self.shards[shard];
            client.connection = home.adopt(handed, &[]);
            home.move_last(peer);
            if way == Way::Tls {
                home.tunnel_showing(client.connection, EXPORTER, shown);
            }
            self.settle();
            said.extend(client.read(&mut self.shards[shard]));
        }
        let open = Open {
            client,
            shard,
            way,
            datagrams: 0,
        };
        (open, said)
    }

    /// A session by key or token; or what was said instead.
    pub(crate) fn open(
        &mut self,
        defined: &Defined,
        question: &Question,
        anywhere: usize,
    ) -> Result<(Open, Vec<Said>), Vec<Said>> {
        let endpoint = &defined.endpoints[question.endpoint];
        let key = endpoint.keys.iter().find(|key| key.id == question.key);
        // Who has no such key shows one that nobody has.
        let unknown = secret_of(9_999_999);
        let text = match (&question.proof, key) {
            (Proof::Forged, _) | (_, None) => unknown,
            // The name of a pair, with what could be taken for its secret.
            (_, Some(key)) if key.pair => unknown,
            (_, Some(key)) => self.secrets[key.secret].clone(),
        };
        let name = &endpoint.name;
        let door = self.door(question, name, anywhere);
        let (open, said) = match &question.proof {
            Proof::Token { scope, expires } => {
                let key_name = key.map_or("none", |key| &key.name);
                let token = mint(key_of(&text).mac(), scope, *expires, key_name);
                let parsed = Token::parse(&token).expect("it was made here");
                let secret = parsed.expected_signature(key_of(&text).mac());
                self.hello((name, &secret), Auth::Token(&token), question, door)
            }
            _ => {
                let auth = Auth::Key(KeyId(question.key));
                self.hello((name, text.as_bytes()), auth, question, door)
            }
        };
        self.welcomed(open, said)
    }

    /// Take a session up again.
    pub(crate) fn resume(
        &mut self,
        before: &Open,
        question: &Question,
        anywhere: usize,
    ) -> Result<(Open, Vec<Said>), Vec<Said>> {
        let keys = before.client.keys.as_ref().expect("it was welcomed");
        let (name, secret) = (before.client.name.clone(), keys.resume);
        let auth = Auth::Resume(before.client.session);
        // What comes by QUIC stays where it comes.
        let door = match question.way {
            Way::Quic | Way::Datagram => before.shard,
            _ => anywhere,
        };
        let (open, said) = self.hello((&name, &secret[..]), auth, question, door);
        self.welcomed(open, said)
    }

    fn welcomed(&mut self, open: Open, said: Vec<Said>) -> Result<(Open, Vec<Said>), Vec<Said>> {
        if said.iter().any(|said| matches!(said, Said::Welcome(..))) {
            return Ok((open, said));
        }
        self.cut(&open);
        Err(said)
    }

    pub(crate) fn cut(&mut self, open: &Open) {
        self.shards[open.shard].cut(open.client.connection);
        self.settle();
    }

    /// What was said to a client since it was read last.
    pub(crate) fn read(&mut self, open: &mut Open) -> Vec<Said> {
        open.client.read(&mut self.shards[open.shard])
    }

    /// Whether WELCOME says that it hears the channel; then it asks for everything.
    pub(crate) fn hear(&mut self, open: &mut Open, channel: &str, said: &[Said]) -> Vec<Said> {
        let fetch = open.client.fetch(Source::Queue, 10_000, 60 << 20);
        self.shards[open.shard].receive(open.client.connection, &fetch);
        self.settle();
        let mut answers = self.read(open);
        let channel = self.channel_of(channel);
        let heard = said.iter().any(|said| match said {
            Said::Welcome(fields, entries) => {
                let named = entries.iter().any(|(id, ..)| *id == channel);
                fields.direction == Direction::Egress && named
            }
            _ => false,
        });
        if !heard {
            answers.extend(said.iter().cloned());
        }
        answers
    }

    /// Send what is asked about in a session of its own.
    pub(crate) fn send(&mut self, defined: &Defined, open: &mut Open, question: &Question) -> Done {
        let channel = self.channel_of(&question.channel);
        let (stream, number) = self.next(open.client.endpoint, channel);
        let bodies: Vec<Vec<u8>> = question.bodies.iter().map(|&one| vec![7; one]).collect();
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let build = |out: &mut Vec<u8>, sender, signer: Signer<'_>| {
            let mut send = SendBuilder::begin(out, sender, channel, Sequence(number));
            for body in &bodies {
                send.message(UnixNanos(0), &[], body).expect("it fits");
            }
            send.finish(signer).expect("it fits");
        };
        let sender = match question.poses_as {
            Some(other) => self.id_of(&defined.endpoints[other].name),
            None => open.client.endpoint,
        };
        if open.way == Way::Datagram {
            open.datagrams += 1;
            let mut bytes = Vec::new();
            datagram::begin(&mut bytes, 0, open.datagrams);
            let before = bytes.len();
            let key = &open.client.keys.as_ref().expect("welcomed").client;
            let number = open.datagrams;
            build(&mut bytes, sender, Signer::Datagram { key, number });
            self.frame_bytes = (bytes.len() - before) as u64;
            self.shards[open.shard].beside(open.client.connection, &bytes);
        } else {
            let frame = open.client.sign(|out, signer| build(out, sender, signer));
            self.frame_bytes = frame.len() as u64;
            self.shards[open.shard].receive(open.client.connection, &frame);
        }
        self.settle();
        let said = self.read(open);
        self.judge(said, stream, number)
    }

    /// In an envelope, by the relay.
    pub(crate) fn relay(&mut self, defined: &Defined, question: &Question, door: usize) -> Done {
        let plain = Question {
            way: Way::Tcp,
            certificate: None,
            ..question.clone()
        };
        let secret = self.secrets[RELAY_SECRET].clone();
        let auth = Auth::Key(KeyId(1));
        let (relay, said) = self.hello((RELAY, secret.as_bytes()), auth, &plain, door);
        let (mut relay, _) = self
            .welcomed(relay, said)
            .unwrap_or_else(|said| panic!("nothing restricts the relay: {said:?}"));
        let endpoint = &defined.endpoints[question.endpoint];
        let key = endpoint.keys.iter().find(|key| key.id == question.key);
        let channel = self.channel_of(&question.channel);
        let sender = self.id_of(&endpoint.name);
        let (stream, number) = self.next(sender, channel);
        let mut inner = Vec::new();
        let mut send = SendBuilder::begin(&mut inner, sender, channel, Sequence(number));
        for body in &question.bodies {
            let body = vec![7; *body];
            send.message(UnixNanos(0), &[], &body).expect("it fits");
        }
        let id = KeyId(question.key);
        let forged = question.proof == Proof::Forged;
        let number_of = |key: &Key| if forged { 9_999_998 } else { key.secret };
        match key {
            Some(key) if key.pair => {
                let key = &pair_of(number_of(key));
                send.finish(Signer::Ed25519 { id, key }).expect("it fits");
            }
            found => {
                let text = match found.filter(|_| !forged) {
                    Some(key) => self.secrets[key.secret].clone(),
                    None => secret_of(9_999_999),
                };
                let key = key_of(&text);
                let key = key.mac();
                send.finish(Signer::Key { id, key }).expect("it fits");
            }
        }
        self.frame_bytes = inner.len() as u64;
        let frame = relay.client.relay(1, &inner);
        self.shards[relay.shard].receive(relay.client.connection, &frame);
        self.settle();
        let said = self.read(&mut relay);
        self.cut(&relay);
        self.judge(said, stream, number)
    }

    /// Whether a frame was taken, by what was answered.
    fn judge(&mut self, said: Vec<Said>, stream: (EndpointId, PartitionId), number: u64) -> Done {
        let refused =
            |said: &Said| matches!(said, Said::Reject(_) | Said::Goaway(_) | Said::Refused(_));
        if acks(&said).is_empty() || said.iter().any(refused) {
            return Err(said);
        }
        self.sent.insert(stream, number);
        Ok(())
    }

    /// The shard that has the log of this endpoint for a channel.
    fn owner_of(&self, endpoint: EndpointId, channel: &str) -> Option<usize> {
        let channel = self.table.channel(self.channel_of(channel))?;
        let partition = self.table.partition_of(endpoint, channel);
        self.ownership.partition(partition).map(usize::from)
    }

    /// The id of an endpoint, for who is told who sent something.
    pub(crate) fn sender(&self, endpoint: &Endpoint) -> EndpointId {
        self.id_of(&endpoint.name)
    }
}

/// The same table without anybody's home.
fn homeless(table: &RouteTable) -> RouteTable {
    let head = table.head().clone();
    let mut endpoints: Vec<_> = table.endpoints().map(|one| one.to_parts()).collect();
    endpoints.iter_mut().for_each(|one| one.home = None);
    let mut without = RouteTable::build(TableParts {
        epoch: table.epoch(),
        queue_groups: head.queue_groups,
        hubs: head.hubs,
        channels: head.channels,
        accounts: head.accounts,
        nodes: head.nodes,
        endpoints,
    })
    .expect("it was a table with homes");
    without.go_on_from(table);
    without
}

/// So many shards of the node that is called so, that have everything of this table.
fn shards_of(table: &Arc<RouteTable>, count: u16, called: &str) -> Vec<World> {
    let mut setup = Setup::new(AckMode::Local);
    setup.parts = TableParts {
        epoch: 0,
        queue_groups: table.queue_groups(),
        hubs: table.hubs().to_vec(),
        ..TableParts::default()
    };
    setup.limits.node = Some(called.into());
    // Nobody is kept out for asking often, or for silence.
    let limits = &mut setup.limits;
    limits.bans.key_sessions_max = u32::MAX;
    limits.bans.address_connections_max = u32::MAX;
    limits.bans.address_failures_max = u32::MAX;
    limits.idle_timeout = Duration::from_secs(4_000_000);
    limits.linger = Duration::from_secs(4_000_000);
    World::shards(Disk::new(1), setup, count)
}
