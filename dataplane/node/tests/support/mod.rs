//! A node in this process, and a blocking client that speaks the protocol over a real socket.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tls::Tunnel;

use node::config::{LogFormat, NodeConfig};
use node::diagnosis::Diagnosis;
use node::log::Log;
use node::{CertificateFiles, NodeHandle, Reload};
use wire::ack::{Ack, Reject};
use wire::delivery::{Deliver, Fetch, Outcome, Settle, Source};
use wire::frame::{FrameKind, split};
use wire::handshake::{Auth, HelloFields, Welcome, WelcomeFields, encode_hello, parse_refused};
use wire::ids::*;
use wire::preface::Preface;
use wire::reason::Notice;
use wire::route::*;
use wire::send::{SendBuilder, encode_relay};
use wire::signature::{MacKey, SecretKey, SessionKeys, Signer, verify_session};

pub const CHANNEL: &str = "acme/prod/telemetry";
pub const RECEIVER: &str = "acme/prod/billing";
/// Long enough for a busy machine; a test that needs it has failed anyway.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn sender(number: usize) -> String {
    format!("acme/prod/pump-{number}")
}

fn secret() -> SecretKey {
    SecretKey::from_random([7; 32])
}

fn endpoint(name: &str, direction: Direction) -> Endpoint {
    let grant = Grant {
        channel: ChannelId::of(CHANNEL),
        restriction: Restriction::default(),
    };
    let key = Key {
        id: KeyId(1),
        name: "primary".into(),
        direction,
        material: KeyMaterial::Symmetric(secret()),
        expires: None,
        revoked: false,
    };
    let ingress = direction == Direction::Ingress;
    Endpoint {
        id: EndpointId::of(name),
        name: name.into(),
        enabled: true,
        relay: false,
        keys: vec![key],
        certificates: Vec::new(),
        transports: Default::default(),
        windows: Vec::new(),
        expires: None,
        home: None,
        send: if ingress { vec![grant.clone()] } else { vec![] },
        receive: if ingress { vec![] } else { vec![grant] },
        queue: QueueBounds::default(),
        rates: Default::default(),
    }
}

/// One hub of `partitions`, `senders` senders, one receiver.
pub fn parts(ack: AckMode, senders: usize) -> TableParts {
    let mut endpoints: Vec<Endpoint> = (0..senders)
        .map(|number| endpoint(&sender(number), Direction::Ingress))
        .collect();
    endpoints.push(endpoint(RECEIVER, Direction::Egress));
    TableParts {
        epoch: 1,
        queue_groups: 1,
        hubs: vec![Hub {
            id: 1,
            name: "acme/prod/main".into(),
            partitions: 2,
            ack,
            segment_bytes: 4 << 20,
            retention_bytes: None,
            retention_age: None,
        }],
        channels: vec![ChannelParts {
            id: ChannelId::of(CHANNEL),
            name: CHANNEL.into(),
            hub: 0,
            priority: Default::default(),
        }],
        endpoints,
        accounts: Vec::new(),
        nodes: Vec::new(),
    }
}

pub fn table(parts: TableParts) -> Arc<RouteTable> {
    Arc::new(RouteTable::build(parts).unwrap())
}

/// A configuration on free ports with small files. Nobody is let go for being slow: a test of that says so itself.
pub fn config(data: &Path) -> NodeConfig {
    let mut config = NodeConfig::new(data);
    config.disk.journal_segment_bytes = 4 << 20;
    config.timeouts.handshake = Duration::from_secs(60);
    config.timeouts.idle = 2 * PATIENCE;
    config.timeouts.slow_receiver = 2 * PATIENCE;
    config.timeouts.drain = Duration::from_secs(60);
    config
}

/// For benches: lines that nobody sees.
pub fn quiet() -> Arc<Log> {
    Arc::new(Log::new(LogFormat::Text, Box::new(std::io::sink())))
}

/// Lines that are shown when their test fails, and then only.
pub fn captured() -> Arc<Log> {
    Arc::new(Log::new(LogFormat::Text, Box::new(Captured)))
}

struct Captured;

impl Write for Captured {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        // Not to standard error as it is: what is printed is kept by the test harness.
        print!("{}", String::from_utf8_lossy(line));
        Ok(line.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn no_reload() -> Reload {
    Box::new(|| panic!("nobody asks for a reload here"))
}

pub fn try_start(config: NodeConfig, table: Arc<RouteTable>) -> Result<NodeHandle, Diagnosis> {
    start_logged(config, table, no_reload(), captured())
}

/// The nodes of this process, by their admin ports.
static STARTED: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());

/// As [`node::start_logged`], and what this node has counted is shown when somebody cannot connect.
pub fn start_logged(
    config: NodeConfig,
    table: Arc<RouteTable>,
    reload: Reload,
    log: Arc<Log>,
) -> Result<NodeHandle, Diagnosis> {
    let node = node::start_logged(config, table, reload, log)?;
    STARTED.lock().unwrap().push(node.admin_addr());
    Ok(node)
}

/// Fail, and show what the nodes of this process have counted until now.
pub fn fail(why: &str) -> ! {
    let nodes = STARTED.lock().map_or(Vec::new(), |nodes| nodes.clone());
    for node in nodes {
        let page = ask(node, "GET", "/metrics").unwrap_or_else(|error| error.to_string());
        let something = |line: &&str| !line.starts_with('#') && !line.ends_with(" 0");
        let counted: Vec<&str> = page.lines().filter(something).collect();
        println!("node {node}:\n{}", counted.join("\n"));
    }
    panic!("{why}");
}

pub fn start(data: &Path, table: Arc<RouteTable>) -> NodeHandle {
    try_start(config(data), table).unwrap()
}

fn ask(addr: SocketAddr, method: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// One answer of the admin port: status and body.
pub fn http(addr: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let answer = ask(addr, method, path).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// The metrics page, with the numbers of the shards if the node serves: on a busy machine one may answer too late for a page.
pub fn metrics(addr: SocketAddr) -> String {
    let by = Instant::now() + PATIENCE;
    loop {
        let (_, page) = http(addr, "GET", "/metrics");
        let lacks = |line: &str| !page.lines().any(|known| known.starts_with(line));
        if lacks("forebay_ready 1") || !lacks("forebay_append_messages_total ") {
            return page;
        }
        assert!(Instant::now() < by, "shards do not answer:\n{page}");
    }
}

/// The value of a series on the metrics page.
pub fn metric(addr: SocketAddr, series: &str) -> Option<f64> {
    let page = metrics(addr);
    let value = page.lines().find_map(|line| line.strip_prefix(series));
    value.map(|value| value.trim().parse().unwrap())
}

/// Until `is` holds, looking again and again.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let by = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < by, "never: {what}");
        std::thread::yield_now();
    }
}

/// What the server said, as far as these tests look.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Welcome(Box<WelcomeFields>, Vec<(ChannelId, Sequence)>),
    Ack(Ack),
    Reject(Reject),
    /// First number, bodies.
    Deliver(u64, Vec<Vec<u8>>),
    /// Instead of WELCOME.
    Refused(Notice),
    Other(FrameKind),
    /// The connection ended.
    End,
}

/// A client on one connection.
pub struct Client {
    pub stream: TcpStream,
    /// What the connection runs through, if it does.
    pub tunnel: Option<Tunnel>,
    exporter: Vec<u8>,
    nonce: [u8; 32],
    endpoint: EndpointId,
    keys: Option<SessionKeys>,
    frames_out: u64,
    frames_in: u64,
    /// The number of the next SEND.
    pub sequence: u64,
    /// What WELCOME said.
    terms: Option<Box<WelcomeFields>>,
    /// And of each channel.
    entries: Vec<(ChannelId, Sequence)>,
    out: Vec<u8>,
    inbox: Vec<u8>,
    used: usize,
}

/// Make a certificate for this machine in a folder, or replace the one that is there: its files, and the PEM of its
/// authority, which is itself.
pub fn certificate(folder: &Path) -> (CertificateFiles, Vec<u8>) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let files = CertificateFiles {
        certificate: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.pem().into_bytes())
}

/// Whoever trusts the authority of [`certificate`].
pub fn trusting(authority: &[u8]) -> tls::Client {
    tls::Client::new(&tls::Trust::Roots(authority.to_vec()), "localhost").unwrap()
}

/// A connection to a node.
pub fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Make a tunnel of a connection, or say why there is none.
pub fn shake(stream: &TcpStream, trusts: &tls::Client) -> Result<Tunnel, String> {
    let mut tunnel = trusts.tunnel().unwrap();
    let mut plain = Vec::new();
    let mut buffer = [0; 16 << 10];
    let write = |tunnel: &mut Tunnel| {
        let mut out = Vec::new();
        tunnel.flush(&mut out);
        let mut stream = stream;
        let written = stream.write_all(&out);
        written.map_err(|error| format!("writing: {error}"))
    };
    while !tunnel.stands() {
        write(&mut tunnel)?;
        let bytes = match read_some(stream, &mut buffer) {
            Ok(0) => return Err("the end".to_owned()),
            Ok(bytes) => bytes,
            Err(error) => return Err(format!("reading: {error}")),
        };
        if let Err(broken) = tunnel.receive(&buffer[..bytes], &mut plain) {
            // The server may not want to hear of it any more.
            let _ = write(&mut tunnel);
            return Err(broken.to_string());
        }
    }
    write(&mut tunnel)?;
    assert!(plain.is_empty(), "the server waits for HELLO");
    Ok(tunnel)
}

/// Read once; a call that a signal cuts short is made again, its bytes are still to come.
fn read_some(mut stream: &TcpStream, bytes: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// A client nonce that no HELLO of this process has had.
fn fresh_nonce() -> [u8; 32] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut nonce = [9; 32];
    nonce[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    nonce
}

impl Client {
    /// Connect, say HELLO, take the WELCOME.
    pub fn connect(addr: SocketAddr, name: &str) -> Self {
        Self::greet(dial(addr), None, name)
    }

    /// The same through a tunnel.
    pub fn connect_tls(addr: SocketAddr, trusts: &tls::Client, name: &str) -> Self {
        let stream = dial(addr);
        let tunnel = shake(&stream, trusts);
        let tunnel = tunnel.unwrap_or_else(|why| fail(&format!("{name} has no tunnel: {why}")));
        Self::greet(stream, Some(tunnel), name)
    }

    /// Say HELLO, take the WELCOME.
    fn greet(stream: TcpStream, tunnel: Option<Tunnel>, name: &str) -> Self {
        let exporter = tunnel.as_ref().and_then(Tunnel::exporter);
        let greeted = Self::try_greet(stream, tunnel, exporter, name);
        greeted.unwrap_or_else(|said| fail(&format!("{name} is not welcome: {said:?}")))
    }

    /// Say HELLO bound to this exporter value; what the server said instead of WELCOME.
    pub fn try_greet(
        stream: TcpStream,
        tunnel: Option<Tunnel>,
        exporter: Option<[u8; 32]>,
        name: &str,
    ) -> Result<Self, Said> {
        let nonce = fresh_nonce();
        let mut client = Self {
            stream,
            tunnel,
            exporter: exporter.map_or(Vec::new(), |exporter| exporter.to_vec()),
            nonce,
            endpoint: EndpointId::of(name),
            keys: None,
            frames_out: 0,
            frames_in: 0,
            sequence: 1,
            terms: None,
            entries: Vec::new(),
            out: Vec::new(),
            inbox: Vec::new(),
            used: 0,
        };
        let mut bytes = Preface::CLIENT.encode().to_vec();
        let fields = HelloFields {
            auth: Auth::Key(KeyId(1)),
            name,
            client_nonce: nonce,
            unix_seconds: 0,
        };
        encode_hello(&mut bytes, &fields, secret().text_bytes(), &client.exporter).unwrap();
        client.write(&bytes);
        if !client.fill(8) {
            return Err(Said::End);
        }
        client.used = 8;
        client.entries = match client.read() {
            Said::Welcome(terms, entries) => {
                client.terms = Some(terms);
                entries
            }
            other => return Err(other),
        };
        client.sequence = client.last(CHANNEL) + 1;
        Ok(client)
    }

    /// What WELCOME said.
    pub fn terms(&self) -> &WelcomeFields {
        self.terms.as_ref().unwrap()
    }

    /// The highest number of a channel's stream that WELCOME named; 0 for none.
    pub fn last(&self, channel: &str) -> u64 {
        let mut entries = self.entries.iter();
        let entry = entries.find(|(id, _)| *id == ChannelId::of(channel));
        entry.map_or(0, |(_, last)| last.0)
    }

    fn sign(&mut self, encode: impl FnOnce(&mut Vec<u8>, Signer<'_>)) {
        let key = &self.keys.as_ref().unwrap().client;
        let frame_index = self.frames_out;
        encode(&mut self.out, Signer::Session { key, frame_index });
        self.frames_out += 1;
    }

    /// Add a SEND to what will be written.
    pub fn put_send(&mut self, bodies: &[&[u8]]) {
        let (endpoint, number) = (self.endpoint, self.sequence);
        self.sequence += 1;
        self.sign(|out, signer| {
            let channel = ChannelId::of(CHANNEL);
            let mut send = SendBuilder::begin(out, endpoint, channel, Sequence(number));
            for body in bodies {
                send.message(UnixNanos(0), &[], body).unwrap();
            }
            send.finish(signer).unwrap();
        });
    }

    /// The same to any channel, under any number.
    pub fn put_send_to(&mut self, channel: &str, number: u64, body: &[u8]) {
        let (endpoint, channel) = (self.endpoint, ChannelId::of(channel));
        self.sign(|out, signer| {
            let mut send = SendBuilder::begin(out, endpoint, channel, Sequence(number));
            send.message(UnixNanos(0), &[], body).unwrap();
            send.finish(signer).unwrap();
        });
    }

    /// A QUIC datagram with a SEND of this session, which is that of a lane.
    pub fn datagram(&self, lane: u64, (number, sequence): (u64, u64), body: &[u8]) -> Vec<u8> {
        let (channel, sequence) = (ChannelId::of(CHANNEL), Sequence(sequence));
        let key = &self.keys.as_ref().unwrap().client;
        let (mut bytes, mut frame) = (Vec::new(), Vec::new());
        wire::datagram::begin(&mut bytes, lane, number);
        let mut send = SendBuilder::begin(&mut frame, self.endpoint, channel, sequence);
        send.message(UnixNanos(0), &[], body).unwrap();
        send.finish(Signer::Datagram { key, number }).unwrap();
        bytes.append(&mut frame);
        bytes
    }

    /// Everything that was put, to be written later.
    pub fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Add a RELAY of a sender's SEND, which the sender signed with its own key, to what will be written.
    pub fn put_relay(&mut self, number: u64, sender: &str, sequence: u64, body: &[u8]) {
        let mut inner = Vec::new();
        let (endpoint, channel) = (EndpointId::of(sender), ChannelId::of(CHANNEL));
        let mut send = SendBuilder::begin(&mut inner, endpoint, channel, Sequence(sequence));
        send.message(UnixNanos(0), &[], body).unwrap();
        let key = MacKey::new(secret().text_bytes());
        let signer = Signer::Key {
            id: KeyId(1),
            key: &key,
        };
        send.finish(signer).unwrap();
        self.sign(|out, signer| encode_relay(out, Sequence(number), &inner, signer));
    }

    fn write(&mut self, bytes: &[u8]) {
        let bytes = self.seal(bytes.to_vec());
        self.stream.write_all(&bytes).unwrap();
    }

    /// As the socket takes it: in records, if there is a tunnel.
    pub fn seal(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let Some(tunnel) = &mut self.tunnel else {
            return bytes;
        };
        let mut sealed = Vec::new();
        tunnel.send(&bytes, &mut sealed);
        sealed
    }

    /// Write everything that was put.
    pub fn flush(&mut self) {
        let out = std::mem::take(&mut self.out);
        self.write(&out);
    }

    pub fn send(&mut self, bodies: &[&[u8]]) {
        self.put_send(bodies);
        self.flush();
    }

    /// Ask for so many messages, with room for long ones.
    pub fn fetch(&mut self, messages: u32) {
        self.fetch_bytes(messages, 1 << 24);
    }

    pub fn fetch_bytes(&mut self, messages: u32, bytes: u64) {
        self.sign(|out, signer| {
            let source = Source::Queue;
            Fetch {
                source,
                messages,
                bytes,
            }
            .encode(out, signer);
        });
        self.flush();
    }

    pub fn settle(&mut self, number: u64) {
        self.sign(|out, signer| {
            Settle {
                source: Source::Queue,
                number: Sequence(number),
                outcome: Outcome::AcceptUpTo,
            }
            .encode(out, signer);
        });
        self.flush();
    }

    /// Read until so many bytes wait. False at the end of the connection.
    fn fill(&mut self, bytes: usize) -> bool {
        let mut block = [0; 16 << 10];
        while self.inbox.len() - self.used < bytes {
            match read_some(&self.stream, &mut block) {
                Ok(0) => return false,
                Ok(more) => match &mut self.tunnel {
                    Some(tunnel) => tunnel.receive(&block[..more], &mut self.inbox).unwrap(),
                    None => self.inbox.extend_from_slice(&block[..more]),
                },
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    println!("reading: {error}");
                    return false;
                }
                Err(error) => fail(&format!("reading: {error}")),
            }
        }
        true
    }

    /// The next thing the server says, its signature checked.
    pub fn read(&mut self) -> Said {
        if self.used > 1 << 20 {
            self.inbox.drain(..self.used);
            self.used = 0;
        }
        loop {
            if let Some((frame, _)) = split(&self.inbox[self.used..]).unwrap() {
                let (bytes, said) = (frame.bytes().len(), self.understand(frame));
                let (said, keys) = said;
                if let Some(keys) = keys {
                    self.keys = Some(keys);
                }
                self.used += bytes;
                self.frames_in += 1;
                return said;
            }
            let have = self.inbox.len() - self.used;
            if !self.fill(have + 1) {
                return Said::End;
            }
        }
    }

    fn understand(&self, frame: wire::Frame<'_>) -> (Said, Option<SessionKeys>) {
        if frame.kind() == FrameKind::Welcome {
            let welcome = Welcome::parse(frame).unwrap();
            let (fields, secret) = (&welcome.fields, secret());
            let (nonce, id) = (&fields.server_nonce, fields.session_id);
            let keys =
                SessionKeys::derive(secret.text_bytes(), &self.nonce, nonce, id, &self.exporter);
            assert!(verify_session(&keys.server, 0, &frame), "WELCOME is signed");
            let entries = welcome.entries();
            let entries = entries.map(|entry| (entry.channel, entry.last_sequence));
            return (
                Said::Welcome(Box::new(*fields), entries.collect()),
                Some(keys),
            );
        }
        if frame.kind() == FrameKind::Refused {
            return (Said::Refused(parse_refused(frame).unwrap()), None);
        }
        let keys = self.keys.as_ref().unwrap();
        let good = verify_session(&keys.server, self.frames_in, &frame);
        assert!(good, "{:?} is signed", frame.kind());
        let said = match frame.kind() {
            FrameKind::Ack => Said::Ack(Ack::parse(frame).unwrap()),
            FrameKind::Reject => Said::Reject(Reject::parse(frame).unwrap()),
            FrameKind::Deliver => deliver(&Deliver::parse(frame).unwrap()),
            kind => Said::Other(kind),
        };
        (said, None)
    }

    /// Read ACKs until this number is covered.
    pub fn wait_acked(&mut self, number: u64) -> Ack {
        loop {
            match self.read() {
                Said::Ack(ack) if ack.sequence.0 >= number => return ack,
                Said::Ack(_) => {}
                other => panic!("an ACK was due, not {other:?}"),
            }
        }
    }

    /// Read deliveries until there are so many bodies; the number of the last one with them.
    pub fn take(&mut self, messages: usize) -> (u64, Vec<Vec<u8>>) {
        let (mut last, mut bodies) = (0, Vec::new());
        while bodies.len() < messages {
            match self.read() {
                Said::Deliver(first, more) => {
                    last = first + more.len() as u64 - 1;
                    bodies.extend(more);
                }
                other => panic!("a DELIVER was due, not {other:?}"),
            }
        }
        (last, bodies)
    }
}

fn deliver(deliver: &Deliver<'_>) -> Said {
    let messages = deliver.groups().flat_map(|group| group.messages());
    let bodies = messages.map(|message| message.body.to_vec()).collect();
    Said::Deliver(deliver.number().0, bodies)
}

/// Frames of every length, many at once: what is sent comes to a receiver that connects afterwards, whole and in order.
pub fn comes_whole_and_in_order(sender: &mut Client, receiver: impl FnOnce() -> Client) {
    let bodies: Vec<Vec<u8>> = (0_usize..200)
        .map(|number| vec![number as u8; number * number + 1])
        .collect();
    for body in &bodies {
        sender.put_send(&[body, b"tail"]);
    }
    sender.flush();
    sender.wait_acked(bodies.len() as u64);
    let mut receiver = receiver();
    receiver.fetch(1_000);
    let (_, got) = receiver.take(2 * bodies.len());
    let heads: Vec<_> = got.iter().step_by(2).collect();
    assert!(heads.iter().zip(&bodies).all(|(got, want)| *got == want));
}
