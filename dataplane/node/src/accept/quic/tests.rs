//! The adaptation against a client of `quinn-proto`, in memory: no socket, no clock. The network loses, repeats, delays, cuts and
//! garbles datagrams as a seed says, and the client moves to other addresses in between.
//!
//! `FOREBAY_QUIC_SEEDS=1000 cargo test -p forebay-node --lib quic` plays more seeds, `FOREBAY_QUIC_SEED=7` one of them.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint,
    EndpointConfig, Event, ReadError, StreamId, Transmit, TransportConfig, VarInt, WriteError,
};
use shard::ConnectionId;
use tls::PROTOCOL as ALPN;
use tls::rustls;
use tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::admission::AdmissionLimits;
use super::leaving::TRAIN_BYTES_MAX;
use super::settings::{QuicLimits, Settings};
use super::streams::Wanted;
use super::{Arrival, Quic, Told};

mod strangers;

fn draw(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("random bytes");
}

/// What resets are made from.
const SECRET: &[u8] = b"the key of the certificate";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate for `localhost`, and what trusts it.
struct Trust {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<rustls::RootCertStore>,
}

impl Trust {
    fn new() -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        Self {
            chain: vec![made.cert.der().clone()],
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key"),
            roots: Arc::new(roots),
        }
    }

    fn settings(&self, limits: QuicLimits) -> Arc<Settings> {
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .expect("a pair");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let settings = Settings::new(Arc::new(tls), limits, (draw, SECRET));
        Arc::new(settings.expect("suites of QUIC"))
    }

    fn client(&self, alpn: &[u8]) -> ClientConfig {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).expect("suites of QUIC");
        let mut config = ClientConfig::new(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        let idle = Duration::from_secs(600).try_into().expect("seconds fit");
        transport.max_idle_timeout(Some(idle));
        // A server that has spent what it may send to a new address waits for a sign of life.
        transport.keep_alive_interval(Some(Duration::from_secs(15)));
        config.transport_config(Arc::new(transport));
        config
    }
}

/// How bad the network is: of 100 datagrams so many are lost, garbled, cut short, repeated, and how late they may be.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    lost: u8,
    garbled: u8,
    cut: u8,
    repeated: u8,
    late: Duration,
    /// The client's address changes after so many of its datagrams.
    moves_after: Option<u32>,
}

/// Datagrams on their way, by the time at which they come.
#[derive(Default)]
struct Wire {
    under_way: BTreeMap<(Instant, u64), (SocketAddr, Vec<u8>)>,
    number: u64,
}

impl Wire {
    fn put(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        weather: &Weather,
        rng: &mut Rng,
    ) {
        if rng.u8(..100) < weather.lost {
            return;
        }
        let copies = 1 + usize::from(rng.u8(..100) < weather.repeated);
        for _ in 0..copies {
            let mut bytes = bytes.to_vec();
            if rng.u8(..100) < weather.garbled {
                let at = rng.usize(..bytes.len());
                bytes[at] ^= 1 << rng.u8(..8);
            }
            if rng.u8(..100) < weather.cut {
                bytes.truncate(rng.usize(1..=bytes.len()));
            }
            let late = weather.late.mul_f64(rng.f64());
            self.number += 1;
            let at = now + Duration::from_millis(1) + late;
            self.under_way.insert((at, self.number), (from, bytes));
        }
    }

    fn take(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        let (at, _) = *self.under_way.first_key_value()?.0;
        (at <= now)
            .then(|| self.under_way.pop_first())?
            .map(|(_, what)| what)
    }
}

/// What one lane of the client sends and has heard.
struct Talk {
    stream: StreamId,
    says: Vec<u8>,
    said: usize,
    heard: Vec<u8>,
    finished: bool,
}

struct Client {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    address: SocketAddr,
    sent: u32,
    connected: bool,
    lost: Option<String>,
    talks: Vec<Talk>,
}

/// The server's address.
fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 443))
}

/// A shard that says everything back, a client, and the network between them.
struct World {
    now: Instant,
    began: Instant,
    rng: Rng,
    weather: Weather,
    quic: Quic,
    up: Wire,
    down: Wire,
    told: Told,
    /// What came of each lane, in all.
    lanes: HashMap<ConnectionId, usize>,
    closed: Vec<ConnectionId>,
    exporters: Vec<[u8; 32]>,
    /// Whose the lanes are, as the shard hears it.
    addresses: Vec<SocketAddr>,
    /// Bytes of the longest train, and its datagrams.
    longest: (usize, usize),
    /// Bytes of datagrams to the server and from it.
    up_bytes: usize,
    down_bytes: usize,
    wanted: Wanted,
    client: Client,
}

impl World {
    fn new(trust: &Trust, limits: QuicLimits, weather: Weather, seed: u64) -> Self {
        Self::with_alpn(trust, limits, weather, seed, ALPN)
    }

    fn with_alpn(
        trust: &Trust,
        limits: QuicLimits,
        weather: Weather,
        seed: u64,
        alpn: &[u8],
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        let now = Instant::now();
        let mut seeds = [[0; 32]; 2];
        seeds.iter_mut().for_each(|seed| rng.fill(seed));
        let mut endpoint = Endpoint::new(
            Arc::new(EndpointConfig::default()),
            None,
            true,
            Some(seeds[0]),
        );
        let (handle, connection) = endpoint
            .connect(now, trust.client(alpn), server(), "localhost")
            .expect("a first packet");
        Self {
            now,
            began: now,
            rng,
            weather,
            quic: Quic::new(trust.settings(limits), (1, 4), 100, Some(seeds[1])),
            up: Wire::default(),
            down: Wire::default(),
            told: Told::default(),
            lanes: HashMap::new(),
            closed: Vec::new(),
            exporters: Vec::new(),
            addresses: Vec::new(),
            longest: (0, 0),
            up_bytes: 0,
            down_bytes: 0,
            wanted: Wanted::Known,
            client: Client {
                endpoint,
                handle,
                connection,
                address: SocketAddr::from(([198, 51, 100, 7], 4000)),
                sent: 0,
                connected: false,
                lost: None,
                talks: Vec::new(),
            },
        }
    }

    /// Let the client say so much on so many lanes.
    fn talk(&mut self, lanes: usize, bytes: usize) {
        for _ in 0..lanes {
            let streams = &mut self.client.connection.streams();
            let stream = streams.open(Dir::Bi).expect("the server lets open so many");
            let says = (0..bytes).map(|_| self.rng.u8(..)).collect();
            self.client.talks.push(Talk {
                stream,
                says,
                said: 0,
                heard: Vec::new(),
                finished: false,
            });
        }
    }

    /// Until a condition holds, or so much time has passed. Whether it holds.
    fn run(&mut self, most: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + most;
        while !done(self) {
            if self.now > until {
                return false;
            }
            self.step(until);
        }
        true
    }

    fn step(&mut self, until: Instant) {
        self.client_turn();
        self.server_turn();
        let times = [
            self.up.under_way.first_key_value().map(|(key, _)| key.0),
            self.down.under_way.first_key_value().map(|(key, _)| key.0),
            self.client.connection.poll_timeout(),
            self.quic.wake_at(),
        ];
        let next = times.into_iter().flatten().min();
        let soon = self.now + Duration::from_micros(100);
        let next = next.map_or(soon + Duration::from_secs(1), |next| next.max(soon));
        self.now = next.min(until.max(self.now) + Duration::from_micros(1));
    }

    fn client_turn(&mut self) {
        let Self {
            client,
            now,
            down,
            up,
            weather,
            rng,
            ..
        } = self;
        while let Some((from, bytes)) = down.take(*now) {
            client.receive(*now, from, &bytes);
        }
        if client
            .connection
            .poll_timeout()
            .is_some_and(|at| at <= *now)
        {
            client.connection.handle_timeout(*now);
        }
        client.listen();
        client.work();
        let mut buffer = Vec::new();
        loop {
            client.settle();
            buffer.clear();
            let Some(transmit) = client.connection.poll_transmit(*now, 4, &mut buffer) else {
                break;
            };
            for datagram in datagrams(&transmit, &buffer) {
                client.sent += 1;
                if weather
                    .moves_after
                    .is_some_and(|after| client.sent.is_multiple_of(after))
                {
                    client.address.set_port(client.address.port() + 1);
                }
                self.up_bytes += datagram.len();
                up.put(*now, client.address, datagram, weather, rng);
            }
        }
    }

    fn server_turn(&mut self) {
        let now = self.now;
        self.quic.pass_time(now);
        while let Some((from, bytes)) = self.up.take(now) {
            self.quic.receive(now, &arrival(from, bytes.len()), &bytes);
        }
        self.quic.settle(now);
        self.quic.tell(&mut self.told);
        for opened in self.told.opened.drain(..) {
            self.lanes.insert(opened.id, 0);
            self.exporters.push(opened.exporter);
            self.addresses.push(opened.peer);
        }
        self.closed.append(&mut self.told.closed);
        self.told.sent.clear();
        self.told.spare.clear();
        let mut received = Vec::new();
        let wanted = self.wanted;
        self.quic.read(now, 64 << 10, |_| wanted, &mut received);
        for (id, bytes) in received {
            *self.lanes.get_mut(&id).expect("it was opened before") += bytes.len();
            self.quic.send(now, id, bytes.to_vec());
        }
        for id in self.told.finished.drain(..) {
            self.quic.close(now, id);
        }
        let (down, weather, rng, down_bytes, longest) = (
            &mut self.down,
            &self.weather,
            &mut self.rng,
            &mut self.down_bytes,
            &mut self.longest,
        );
        self.quic.transmit(now, 64, Vec::new, |transmit, bytes| {
            let train = (bytes.len(), datagrams(transmit, &bytes).count());
            *longest = train.max(*longest);
            for datagram in datagrams(transmit, &bytes) {
                *down_bytes += datagram.len();
                down.put(now, server(), datagram, weather, rng);
            }
            Ok(())
        });
    }
}

fn arrival(peer: SocketAddr, segment_bytes: usize) -> Arrival {
    Arrival {
        peer,
        local: Some(server().ip()),
        ecn: EcnCodepoint::Ect0 as u8,
        segment_bytes,
    }
}

fn datagrams<'a>(transmit: &Transmit, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let each = transmit.segment_size.unwrap_or(transmit.size).max(1);
    bytes[..transmit.size].chunks(each)
}

impl Client {
    fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let mut answer = Vec::new();
        let event = self
            .endpoint
            .handle(now, from, None, None, BytesMut::from(bytes), &mut answer);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.connection.handle_event(event);
        }
    }

    fn settle(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
    }

    fn listen(&mut self) {
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::ConnectionLost { reason } => self.lost = Some(reason.to_string()),
                _ => {}
            }
        }
    }

    /// Say what there is to say, and hear what has come.
    fn work(&mut self) {
        if !self.connected {
            return;
        }
        for talk in &mut self.talks {
            let mut send = self.connection.send_stream(talk.stream);
            while talk.said < talk.says.len() {
                match send.write(&talk.says[talk.said..]) {
                    Ok(bytes) => talk.said += bytes,
                    Err(WriteError::Blocked) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if talk.said == talk.says.len() {
                let _ = send.finish();
            }
            let mut recv = self.connection.recv_stream(talk.stream);
            let Ok(mut chunks) = recv.read(true) else {
                continue;
            };
            loop {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => talk.heard.extend_from_slice(&chunk.bytes),
                    Ok(None) => break talk.finished = true,
                    Err(ReadError::Blocked) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            let _ = chunks.finalize();
        }
    }
}

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    match number("FOREBAY_QUIC_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("FOREBAY_QUIC_SEEDS").unwrap_or(default)).collect(),
    }
}

fn told(world: &World, seed: u64) -> String {
    let (talks, lost) = (&world.client.talks, &world.client.lost);
    let heard: Vec<(usize, usize, bool)> = talks
        .iter()
        .map(|talk| (talk.said, talk.heard.len(), talk.finished))
        .collect();
    format!(
        "seed {seed} after {:?}: lost {lost:?}, lanes {heard:?}, {:?}; FOREBAY_QUIC_SEED={seed} cargo test -p forebay-node --lib quic",
        world.now - world.began,
        world.quic.counters()
    )
}

/// Everything said comes back, each lane in its order, and nothing is left over at the end.
fn converse(trust: &Trust, weather: Weather, seed: u64, (lanes, bytes): (usize, usize)) -> World {
    let mut world = World::new(trust, QuicLimits::default(), weather, seed);
    let connected = world.run(Duration::from_secs(25), |world| {
        world.client.connected || world.client.lost.is_some()
    });
    assert!(
        connected && world.client.connected,
        "no handshake: {}",
        told(&world, seed)
    );
    world.talk(lanes, bytes);
    let over = |world: &World| world.client.talks.iter().all(|talk| talk.finished);
    let ended = world.run(Duration::from_secs(600), over);
    assert!(ended, "{}", told(&world, seed));
    for talk in &world.client.talks {
        assert!(
            talk.heard == talk.says,
            "other bytes: {}",
            told(&world, seed)
        );
    }
    world
}

#[test]
fn lanes_carry_their_bytes_whole_and_in_order_however_bad_the_network_is() {
    let trust = Trust::new();
    let seeds = seeds(40);
    let (tries, mut given_up) = (seeds.len(), 0);
    for seed in seeds {
        let mut rng = Rng::with_seed(seed);
        // Up to 30 of 100 datagrams lost, or garbled, or some of each.
        let (lost, garbled) = match rng.u8(..3) {
            0 => (rng.u8(0..=30), 0),
            1 => (0, rng.u8(0..=30)),
            _ => (rng.u8(0..=15), rng.u8(0..=15)),
        };
        let weather = Weather {
            lost,
            garbled,
            cut: rng.u8(0..=2),
            repeated: rng.u8(0..=30),
            late: Duration::from_millis(rng.u64(0..40)),
            moves_after: rng.bool().then(|| rng.u32(20..200)),
        };
        // Whoever tries so rarely after many losses is not to be given up.
        let limits = QuicLimits {
            idle: Duration::from_secs(600),
            unused: Duration::from_secs(600),
            ..QuicLimits::default()
        };
        let mut world = World::new(&trust, limits, weather, seed);
        let begun = |world: &World| world.client.connected || world.client.lost.is_some();
        world.run(Duration::from_secs(60), begun);
        if !world.client.connected {
            // One garbled packet can end a handshake, by another version, say; that has to be rare, and the next try is another one.
            assert!(weather.lost + weather.garbled > 0, "{}", told(&world, seed));
            given_up += 1;
            continue;
        }
        world.talk(rng.usize(1..9), rng.usize(1..60_000));
        let over = |world: &World| {
            world.client.lost.is_some() || world.client.talks.iter().all(|talk| talk.finished)
        };
        assert!(
            world.run(Duration::from_secs(3_600), over),
            "{}",
            told(&world, seed)
        );
        if world.quic.counters().connected == 0 {
            given_up += 1;
            continue;
        }
        assert_eq!(world.client.lost, None, "{}", told(&world, seed));
        for talk in &world.client.talks {
            assert!(
                talk.heard == talk.says,
                "other bytes: {}",
                told(&world, seed)
            );
        }
    }
    assert!(
        20 * given_up <= tries,
        "{given_up} handshakes of {tries} were given up"
    );
}

#[test]
fn a_train_is_never_longer_than_a_message_of_udp() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(2, 4 << 20);
    let over = |world: &World| world.client.talks.iter().all(|talk| talk.finished);
    assert!(world.run(Duration::from_secs(600), over));
    let (bytes, datagrams) = world.longest;
    println!("the longest train: {datagrams} datagrams, {bytes} bytes");
    assert!(datagrams > 20, "the node never had much to say");
    assert!(bytes <= TRAIN_BYTES_MAX);
}

#[test]
fn lanes_belong_to_the_address_of_the_handshake_wherever_later_datagrams_say_they_come_from() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    let proven = world.client.address;
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(1, 1);
    assert!(world.run(Duration::from_secs(5), |world| world.addresses.len() == 1));
    world.client.address = SocketAddr::from(([203, 0, 113, 9], 9));
    world.talk(1, 1);
    assert!(world.run(Duration::from_secs(5), |world| world.addresses.len() == 2));
    assert_eq!(world.addresses, [proven; 2]);
}

#[test]
fn a_conversation_over_leaves_nothing_behind() {
    let trust = Trust::new();
    let mut world = converse(&trust, Weather::default(), 1, (5, 100_000));
    let code = VarInt::from_u32(0);
    world.client.connection.close(world.now, code, Bytes::new());
    let gone = world.run(Duration::from_secs(60), |world| {
        world.quic.counters().connections == 0
    });
    assert!(gone, "{}", told(&world, 1));
    let counters = world.quic.counters();
    assert_eq!((counters.lanes, counters.handshaking), (0, 0));
    assert_eq!((counters.lanes_opened, counters.connections_ended), (5, 1));
    assert_eq!(world.quic.wake_at(), None, "no timer is left");
    assert_eq!(world.closed.len(), 5, "each lane's end was told once");
    assert_eq!(world.lanes.values().sum::<usize>(), 500_000);
}

#[test]
fn both_ends_export_the_same_value_which_no_other_connection_has() {
    let trust = Trust::new();
    let mut seen = Vec::new();
    for seed in 0..2 {
        let world = converse(&trust, Weather::default(), seed, (2, 10));
        let mut exported = [0; 32];
        let session = world.client.connection.crypto_session();
        let done =
            session.export_keying_material(&mut exported, b"EXPORTER-forebay-session-1", b"");
        done.expect("32 bytes");
        assert_eq!(world.exporters, [exported; 2]);
        seen.push(exported);
    }
    assert_ne!(seen[0], seen[1]);
}

#[test]
fn a_client_of_another_protocol_is_refused_and_forgotten() {
    let trust = Trust::new();
    let limits = QuicLimits::default();
    let mut world = World::with_alpn(&trust, limits, Weather::default(), 1, b"h3");
    let refused = world.run(Duration::from_secs(30), |world| world.client.lost.is_some());
    assert!(refused && !world.client.connected, "{}", told(&world, 1));
    let gone = world.run(Duration::from_secs(60), |world| {
        world.quic.counters().connections == 0
    });
    assert!(gone && world.lanes.is_empty(), "{}", told(&world, 1));
}

#[test]
fn a_lane_that_is_not_read_stops_its_client_at_its_window_and_no_other_lane() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    world.wanted = Wanted::Later;
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(1, 4 << 20);
    world.run(Duration::from_secs(5), |_| false);
    let said = world.client.talks[0].said;
    // Its own send buffer takes more than the server's window.
    let sent = world.up_bytes;
    assert!(
        sent < 300 << 10,
        "{sent} bytes went to a server that reads nothing, {said} were taken"
    );
    world.wanted = Wanted::Known;
    let over = world.run(Duration::from_secs(600), |world| {
        world.client.talks[0].finished
    });
    assert!(over, "{}", told(&world, 1));
}

#[test]
fn a_connection_without_a_lane_is_ended() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    let lost = world.run(Duration::from_secs(11), |world| world.client.lost.is_some());
    assert!(lost, "{}", told(&world, 1));
    assert_eq!(world.quic.counters().connections_unused, 1);
}

#[test]
fn a_client_that_never_acknowledges_the_end_of_its_lane_does_not_keep_its_connection() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(1, 1);
    let id = |world: &World| world.lanes.keys().next().copied();
    assert!(world.run(Duration::from_secs(5), |world| id(world).is_some()));
    let (lane, began) = (id(&world).expect("it is there"), world.now);
    world.quic.close(began, lane);
    // It hears nothing, and goes on to say that it is there.
    let ended = |world: &World| world.quic.counters().connections_unused == 1;
    while !ended(&world) && world.now < began + Duration::from_secs(30) {
        world.step(began + Duration::from_secs(30));
        world.down.under_way.clear();
        world.client.connection.ping();
    }
    assert!(ended(&world), "{}", told(&world, 1));
}

#[test]
fn a_node_that_began_again_tells_clients_of_before_that_nothing_is_left() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| {
        world.quic.counters().connected == 1
    }));
    world.talk(1, 1_000);
    assert!(world.run(
        Duration::from_secs(5),
        |world| world.client.talks[0].heard.len() == 1_000
    ));
    // As after a kill: nothing is known any more, but the certificate's key is the same.
    world.quic = Quic::new(trust.settings(QuicLimits::default()), (1, 4), 100, None);
    world.talk(1, 1_000);
    let told = world.run(Duration::from_secs(5), |world| world.client.lost.is_some());
    assert!(told, "{}", self::told(&world, 1));
    assert_eq!(world.client.lost.as_deref(), Some("reset by peer"));
    assert_eq!(world.quic.counters().connections, 0);
}
