//! A world in memory for tests: a shard that says everything back, a client of `quinn-proto`, and the network between them, which
//! loses, repeats, delays, cuts and garbles datagrams as a seed says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use fastrand::Rng;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint,
    EndpointConfig, Event, ReadError, StreamId, Transmit, TransportConfig, WriteError,
};
use shard::ConnectionId;
use tls::PROTOCOL as ALPN;
use tls::rustls;
use tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::heard::Heard;
use super::settings::{QuicLimits, Settings};
use super::streams::Wanted;
use super::{Arrival, Quic, Told};

pub(super) fn draw(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("random bytes");
}

/// What resets are made from.
pub(super) const SECRETS: [&[u8]; 2] = [b"the key of the certificate", b"that of the folder"];

pub(super) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate for `localhost`, and what trusts it.
pub(super) struct Trust {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) roots: Arc<rustls::RootCertStore>,
}

impl Trust {
    pub(super) fn new() -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        Self::of(made.cert.der().clone(), key)
    }

    /// Of this certificate.
    pub(super) fn of(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        Self {
            chain: vec![certificate],
            key,
            roots: Arc::new(roots),
        }
    }

    pub(super) fn settings(&self, limits: QuicLimits) -> Arc<Settings> {
        self.settings_of(limits, SECRETS)
    }

    pub(super) fn settings_of(&self, limits: QuicLimits, secrets: [&[u8]; 2]) -> Arc<Settings> {
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .expect("a pair");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let settings = Settings::new(Arc::new(tls).into(), limits, (draw, secrets));
        Arc::new(settings.expect("suites of QUIC"))
    }

    pub(super) fn tls(&self, alpn: &[u8]) -> Arc<rustls::ClientConfig> {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(tls)
    }

    pub(super) fn client(&self, alpn: &[u8]) -> ClientConfig {
        let crypto = QuicClientConfig::try_from(self.tls(alpn)).expect("suites of QUIC");
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
pub(super) struct Weather {
    pub(super) lost: u8,
    pub(super) garbled: u8,
    pub(super) cut: u8,
    pub(super) repeated: u8,
    pub(super) late: Duration,
    /// The client's address changes after so many of its datagrams.
    pub(super) moves_after: Option<u32>,
}

/// Datagrams on their way, by the time at which they come.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) under_way: BTreeMap<(Instant, u64), (SocketAddr, Vec<u8>)>,
    pub(super) number: u64,
}

impl Wire {
    pub(super) fn put(
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

    pub(super) fn take(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        let (at, _) = *self.under_way.first_key_value()?.0;
        (at <= now)
            .then(|| self.under_way.pop_first())?
            .map(|(_, what)| what)
    }
}

/// What one lane of the client sends and has heard.
pub(super) struct Talk {
    /// Once the server lets open one more.
    pub(super) stream: Option<StreamId>,
    pub(super) says: Vec<u8>,
    pub(super) said: usize,
    pub(super) heard: Vec<u8>,
    pub(super) finished: bool,
}

pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    pub(super) handle: ConnectionHandle,
    pub(super) connection: Connection,
    pub(super) address: SocketAddr,
    pub(super) sent: u32,
    pub(super) connected: bool,
    pub(super) lost: Option<String>,
    pub(super) talks: Vec<Talk>,
}

/// The server's address.
pub(super) fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 443))
}

/// A shard that says everything back, a client, and the network between them.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) began: Instant,
    pub(super) rng: Rng,
    pub(super) weather: Weather,
    pub(super) quic: Quic,
    pub(super) up: Wire,
    pub(super) down: Wire,
    pub(super) told: Told,
    /// What came of each lane, in all.
    pub(super) lanes: HashMap<ConnectionId, usize>,
    pub(super) closed: Vec<ConnectionId>,
    pub(super) exporters: Vec<[u8; 32]>,
    /// Whose the lanes are, as the shard hears it.
    pub(super) addresses: Vec<SocketAddr>,
    /// Bytes of the longest train, and its datagrams.
    pub(super) longest: (usize, usize),
    /// Bytes of datagrams to the server and from it.
    pub(super) up_bytes: usize,
    pub(super) down_bytes: usize,
    pub(super) wanted: Wanted,
    /// Lanes that are not read.
    pub(super) later: HashSet<ConnectionId>,
    /// One whose datagrams do not take part in the network, and what was sent to it.
    pub(super) apart: Option<SocketAddr>,
    pub(super) sent_apart: Vec<Vec<u8>>,
    pub(super) client: Client,
}

impl World {
    pub(super) fn new(trust: &Trust, limits: QuicLimits, weather: Weather, seed: u64) -> Self {
        Self::with_alpn(trust, limits, weather, seed, ALPN)
    }

    pub(super) fn with_alpn(
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
        let address = SocketAddr::from(([198, 51, 100, 7], 4000));
        let client = Client::connect(trust.client(alpn), now, seeds[0], address);
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
            later: HashSet::new(),
            apart: None,
            sent_apart: Vec::new(),
            client,
        }
    }

    /// Let the client say so much on so many lanes.
    pub(super) fn talk(&mut self, lanes: usize, bytes: usize) {
        for _ in 0..lanes {
            let says = (0..bytes).map(|_| self.rng.u8(..)).collect();
            self.client.talks.push(Talk {
                stream: None,
                says,
                said: 0,
                heard: Vec::new(),
                finished: false,
            });
        }
    }

    /// Until a condition holds, or so much time has passed. Whether it holds.
    pub(super) fn run(&mut self, most: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + most;
        while !done(self) {
            if self.now > until {
                return false;
            }
            self.step(until);
        }
        true
    }

    pub(super) fn step(&mut self, until: Instant) {
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

    pub(super) fn client_turn(&mut self) {
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

    pub(super) fn server_turn(&mut self) {
        let now = self.now;
        let wanted = self.wanted;
        self.quic.pass_time(now, |_| wanted == Wanted::Known);
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
        let mut heard = Heard::default();
        let later = &self.later;
        let wanted = |id: ConnectionId| match later.contains(&id) {
            true => Wanted::Later,
            false => wanted,
        };
        self.quic.read(now, 64 << 10, wanted, &mut heard);
        for (id, bytes) in heard.pieces() {
            *self.lanes.get_mut(&id).expect("it was opened before") += bytes.len();
            self.quic.send(now, id, bytes.to_vec());
        }
        for id in self.told.finished.drain(..) {
            self.quic.close_heard(now, id);
        }
        let (apart, sent_apart) = (self.apart, &mut self.sent_apart);
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
            if apart == Some(transmit.destination) {
                sent_apart.extend(datagrams(transmit, &bytes).map(<[u8]>::to_vec));
                return Ok(());
            }
            for datagram in datagrams(transmit, &bytes) {
                *down_bytes += datagram.len();
                down.put(now, server(), datagram, weather, rng);
            }
            Ok(())
        });
    }
}

pub(super) fn arrival(peer: SocketAddr, segment_bytes: usize) -> Arrival {
    Arrival {
        peer,
        local: Some(server().ip()),
        ecn: EcnCodepoint::Ect0 as u8,
        segment_bytes,
    }
}

pub(super) fn datagrams<'a>(
    transmit: &Transmit,
    bytes: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> {
    let each = transmit.segment_size.unwrap_or(transmit.size).max(1);
    bytes[..transmit.size].chunks(each)
}

impl Client {
    /// One that has its first packet ready.
    pub(super) fn connect(
        config: ClientConfig,
        now: Instant,
        seed: [u8; 32],
        address: SocketAddr,
    ) -> Self {
        let own = Arc::new(EndpointConfig::default());
        let mut endpoint = Endpoint::new(own, None, true, Some(seed));
        let begun = endpoint.connect(now, config, server(), "localhost");
        let (handle, connection) = begun.expect("a first packet");
        Self {
            endpoint,
            handle,
            connection,
            address,
            sent: 0,
            connected: false,
            lost: None,
            talks: Vec::new(),
        }
    }

    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let mut answer = Vec::new();
        let event = self
            .endpoint
            .handle(now, from, None, None, BytesMut::from(bytes), &mut answer);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.connection.handle_event(event);
        }
    }

    pub(super) fn settle(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
    }

    pub(super) fn listen(&mut self) {
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::ConnectionLost { reason } => self.lost = Some(reason.to_string()),
                _ => {}
            }
        }
    }

    /// Say what there is to say, and hear what has come.
    pub(super) fn work(&mut self) {
        if !self.connected {
            return;
        }
        for talk in &mut self.talks {
            let open = || self.connection.streams().open(Dir::Bi);
            let Some(stream) = talk.stream.or_else(open) else {
                continue;
            };
            talk.stream = Some(stream);
            let mut send = self.connection.send_stream(stream);
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
            let mut recv = self.connection.recv_stream(stream);
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
