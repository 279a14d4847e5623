//! Everybody says the same: random questions of who may do what are put to a model written from the documents alone, to a shard in
//! frames, with the table that was compiled, and to the control plane's `why`. `FOREBAY_POLICY_QUESTIONS` says how many.
#![allow(
    clippy::disallowed_methods,
    reason = "who runs a test says how much of it"
)]

mod plan;
mod reference;
#[path = "../../../dataplane/shard/tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use control::model::Allow;
use control::seal::MasterKey;
use control::service::{self, Apply, Caller, NodeApplied, Publish, Service, Update};
use control::store::Store;
use fastrand::Rng;
use support::{Client, Said, Setup, World, acks, secret};
use wire::datagram;
use wire::diagnosis::Diagnosis;
use wire::handshake::Auth;
use wire::ids::{
    AckMode, ChannelId, Direction, EndpointId, Fingerprint, KeyId, PartitionId, Sequence, UnixNanos,
};
use wire::route::{RouteTable, TableParts, Transport};
use wire::send::SendBuilder;
use wire::signature::Signer;

use plan::{RELAY, RELAY_SECRET, secret_of};
use reference::{Endpoint, Question, Way, refusal};

/// Questions put to one plan.
const OF_A_PLAN: u64 = 250;

/// Takes the table that is published.
#[derive(Clone, Default)]
struct Taker(Arc<Mutex<Option<Arc<RouteTable>>>>);

impl Publish for Taker {
    fn check(&self, _: &RouteTable) -> Result<(), Diagnosis> {
        Ok(())
    }

    fn publish(&self, update: Update) {
        *self.0.lock().expect("whole") = Some(update.table);
    }

    fn applied(&self, _: u64, _: Duration) -> Vec<NodeApplied> {
        Vec::new()
    }
}

/// A control plane and a shard, of one plan.
struct Both {
    endpoints: Vec<Endpoint>,
    service: Service,
    table: Arc<RouteTable>,
    world: World,
    /// What was sent of each stream.
    sent: HashMap<(EndpointId, PartitionId), u64>,
    _folder: tempfile::TempDir,
}

impl Both {
    fn new(random: &mut Rng) -> Self {
        let endpoints = plan::endpoints(random);
        let text = |number| {
            let secret = secret(number);
            String::from_utf8(secret.text_bytes().to_vec()).expect("ASCII")
        };
        let text = plan::written(&endpoints, text);
        let model =
            control::plan::read(&text, "plan").unwrap_or_else(|fault| panic!("{fault}\n{text}"));
        let folder = tempfile::tempdir().expect("a folder");
        let master = Arc::new(MasterKey::new(&[7; 32]));
        let store = Store::open(&folder.path().join("store"), master).expect("a store");
        let taker = Taker::default();
        let clock = Box::new(|| 0);
        let service = Service::start(store, Box::new(taker.clone()), clock).expect("started");
        let apply = Apply {
            model,
            prune: false,
            create: false,
        };
        let applied = service.apply(&Caller::local(), &apply);
        applied.unwrap_or_else(|found| panic!("{}\n{text}", found[0].fault));
        let table = taker.0.lock().expect("whole").take().expect("published");
        let world = shard_of(&table);
        Self {
            endpoints,
            service,
            table,
            world,
            sent: HashMap::new(),
            _folder: folder,
        }
    }

    /// What the control plane says.
    fn told(&self, question: &Question) -> service::Reasons {
        let endpoint = &self.endpoints[question.endpoint];
        let question = service::Question {
            endpoint: endpoint.name.clone(),
            allow: match question.sends {
                true => Allow::Send,
                false => Allow::Receive,
            },
            channel: question.channel.clone(),
            key: Some(format!("k{}", question.key)),
            address: Some(question.address.into()),
            origin: None,
            body_bytes: Some(question.body as u64),
            at: Some(question.at),
            transport: match question.way {
                Way::Tcp => Some(Transport::Tcp),
                Way::Tls => Some(Transport::Tls),
                Way::Quic => Some(Transport::Quic),
                Way::Datagram => Some(Transport::QuicDatagram),
                Way::Relayed => None,
            },
            certificate: question.certificate.map(|one| Fingerprint([one; 32])),
        };
        let told = self.service.why(&Caller::local(), &question);
        told.expect("the endpoint is there")
    }

    /// Whether the shard does it.
    fn done(&mut self, question: &Question) -> Result<(), Vec<Said>> {
        self.world.now.unix = UnixNanos::from_seconds(question.at);
        self.world.now.monotonic += Duration::from_millis(50);
        let name = self.endpoints[question.endpoint].name.clone();
        let said = match question.way {
            Way::Relayed => self.relay(question, &name),
            _ => self.speak(question, &name),
        };
        self.world.settle();
        said
    }

    /// A client that has said HELLO, and what it was answered.
    fn greeted(
        &mut self,
        name: &str,
        (key, number): (u32, u8),
        question: &Question,
    ) -> (Client, Vec<Said>) {
        let world = &mut self.world;
        let peer = SocketAddr::new(question.address.into(), 4_000);
        let mut client = Client::from(world, peer, name, secret(number).text_bytes());
        let exporter = [9; 32];
        let shown = question.certificate.map(|one| Fingerprint([one; 32]));
        match question.way {
            Way::Tcp | Way::Relayed => {}
            Way::Tls => world.tunnel_showing(client.connection, exporter, shown),
            Way::Quic | Way::Datagram => world.lane_showing(client.connection, exporter, shown),
        }
        if !matches!(question.way, Way::Tcp | Way::Relayed) {
            client.exporter = exporter.to_vec();
        }
        let hello = client.hello_bytes(Auth::Key(KeyId(key)), 0);
        let said = client.exchange(world, &hello);
        (client, said)
    }

    /// The number of the endpoint's next frame to this channel, if its stream can be told.
    fn next(
        &self,
        endpoint: EndpointId,
        channel: ChannelId,
    ) -> Option<((EndpointId, PartitionId), u64)> {
        let channel = self.table.channel(channel)?;
        let stream = (endpoint, self.table.partition_of(endpoint, channel));
        Some((stream, self.sent.get(&stream).copied().unwrap_or(0) + 1))
    }

    /// With a session of its own.
    fn speak(&mut self, question: &Question, name: &str) -> Result<(), Vec<Said>> {
        let number = secret_of(question.endpoint, question.key);
        let (mut client, said) = self.greeted(name, (question.key, number), question);
        let connection = client.connection;
        let welcome = said.iter().find_map(|said| match said {
            Said::Welcome(fields, entries) => Some((fields.direction, entries.clone())),
            _ => None,
        });
        let Some((direction, entries)) = welcome else {
            self.world.cut(connection);
            return Err(said);
        };
        let channel = ChannelId::of(&question.channel);
        let done = match question.sends {
            true => self.send(question, &mut client),
            false => {
                let hears = entries.iter().any(|(id, ..)| *id == channel);
                let receives = direction == Direction::Egress && hears;
                if receives { Ok(()) } else { Err(said) }
            }
        };
        self.world.cut(connection);
        done
    }

    fn send(&mut self, question: &Question, client: &mut Client) -> Result<(), Vec<Said>> {
        let channel = ChannelId::of(&question.channel);
        let (stream, number) = self
            .next(client.endpoint, channel)
            .expect("a channel of the plan");
        let body = vec![7; question.body];
        if question.way == Way::Datagram {
            let mut bytes = Vec::new();
            datagram::begin(&mut bytes, 0, 1);
            let mut send =
                SendBuilder::begin(&mut bytes, client.endpoint, channel, Sequence(number));
            send.message(UnixNanos(0), &[], &body).expect("it fits");
            let key = &client.keys.as_ref().expect("welcomed").client;
            send.finish(Signer::Datagram { key, number: 1 })
                .expect("it fits");
            self.world.beside(client.connection, &bytes);
        } else {
            let frame = client.send_as(client.endpoint, &question.channel, number, &[&body]);
            self.world.receive(client.connection, &frame);
        }
        self.world.settle();
        let said = client.read(&mut self.world);
        self.judge(said, stream, number)
    }

    /// In an envelope, by the relay.
    fn relay(&mut self, question: &Question, name: &str) -> Result<(), Vec<Said>> {
        let (mut relay, said) = self.greeted(RELAY, (1, RELAY_SECRET), question);
        let welcomed = said.iter().any(|said| matches!(said, Said::Welcome(..)));
        assert!(welcomed, "nothing restricts the relay: {said:?}");
        let (endpoint, channel) = (EndpointId::of(name), ChannelId::of(&question.channel));
        let (stream, number) = self.next(endpoint, channel).expect("a channel of the plan");
        let key = secret(secret_of(question.endpoint, question.key));
        let mut inner = Vec::new();
        let mut send = SendBuilder::begin(&mut inner, endpoint, channel, Sequence(number));
        let body = vec![7; question.body];
        send.message(UnixNanos(0), &[], &body).expect("it fits");
        let (id, key) = (KeyId(question.key), key.mac());
        send.finish(Signer::Key { id, key }).expect("it fits");
        let frame = relay.relay(1, &inner);
        let said = relay.exchange(&mut self.world, &frame);
        self.world.cut(relay.connection);
        self.judge(said, stream, number)
    }

    /// Whether a frame was taken, by what was answered.
    fn judge(
        &mut self,
        said: Vec<Said>,
        stream: (EndpointId, PartitionId),
        number: u64,
    ) -> Result<(), Vec<Said>> {
        let refused =
            |said: &Said| matches!(said, Said::Reject(_) | Said::Goaway(_) | Said::Refused(_));
        if acks(&said).is_empty() || said.iter().any(refused) {
            return Err(said);
        }
        self.sent.insert(stream, number);
        Ok(())
    }
}

/// A shard that has everything of this table.
fn shard_of(table: &Arc<RouteTable>) -> World {
    let mut setup = Setup::new(AckMode::Local);
    setup.parts = TableParts {
        epoch: 0,
        queue_groups: table.queue_groups(),
        hubs: table.hubs().to_vec(),
        ..TableParts::default()
    };
    // Nobody is kept out for asking often.
    setup.limits.bans.key_sessions_max = u32::MAX;
    let mut world = World::new(setup);
    world.table = Some(Arc::clone(table));
    world.turn();
    world
}

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn the_documents_the_shard_and_the_control_plane_answer_every_question_alike() {
    let count = number("FOREBAY_POLICY_QUESTIONS", 3_000);
    let first = number("FOREBAY_POLICY_SEED", 1);
    let (mut allowed, mut why_not) = (0, HashMap::<&str, u64>::new());
    let (mut asked, mut seed) = (0, first);
    while asked < count {
        let mut random = Rng::with_seed(seed);
        let mut both = Both::new(&mut random);
        for _ in 0..OF_A_PLAN.min(count - asked) {
            let question = plan::question(&mut random, &both.endpoints);
            let endpoint = &both.endpoints[question.endpoint];
            let want = refusal(endpoint, &question);
            let shown = format!(
                "{question:?}\nof {endpoint:#?}\nagain: FOREBAY_POLICY_SEED={seed} FOREBAY_POLICY_QUESTIONS={OF_A_PLAN} \
                 cargo test -p forebay-control --test policy"
            );
            let done = both.done(&question);
            assert_eq!(
                done.is_ok(),
                want.is_none(),
                "{want:?}, the shard: {done:?}\n{shown}"
            );
            // What comes by a relay is nobody's session.
            if question.way != Way::Relayed {
                let told = both.told(&question);
                assert_eq!(
                    told.allowed,
                    want.is_none(),
                    "{want:?}, why: {told:#?}\n{shown}"
                );
            }
            asked += 1;
            match want {
                None => allowed += 1,
                Some(reason) => *why_not.entry(reason).or_default() += 1,
            }
        }
        seed += 1;
    }
    println!(
        "{asked} questions of seeds {first} to {}: {allowed} allowed; {why_not:?}",
        seed - 1
    );
    assert!(
        asked < 1_000 || allowed * 20 > asked,
        "{allowed} of {asked} are allowed"
    );
    assert!(
        asked < 1_000 || why_not.len() == 10,
        "each rule refuses something: {why_not:?}"
    );
}
