//! The serving thread: it accepts, keeps what all connections share, and commits for all of them together.

use crate::halves::{Reading, Writing, halves};
use crate::log::{Gathered, Log, LogFiles, ToFile, Waiting};
use crate::peer::Peer;
use crate::session::{self, CREDIT_BYTES, CREDIT_FRAMES, Entries, IDLE_SECONDS};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{Error, Result, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use wire::ack::Ack;
use wire::handshake::WelcomeEntry;
use wire::route::{EndpointView, RouteTable};
use wire::{AckMode, EndpointId, PartitionId, Sequence, UnixNanos};

const BACKLOG: u32 = 4_096;

/// What the connections share.
pub(crate) struct Server {
    pub(crate) table: RouteTable,
    pub(crate) log: RefCell<Log>,
    /// Something waits for its commit.
    pub(crate) appended: Notify,
    ack_mode: AckMode,
    senders: RefCell<HashMap<EndpointId, Rc<Sender>>>,
    peers: RefCell<Vec<Weak<Peer>>>,
    /// Seconds since the start, moved by a timer.
    second: Cell<u64>,
}

/// One endpoint's numbers; they outlive its connections.
#[derive(Default)]
pub(crate) struct Sender {
    owner: Cell<u64>,
    streams: RefCell<Vec<Rc<Stream>>>,
}

/// The numbers of one endpoint in one partition.
pub(crate) struct Stream {
    partition: PartitionId,
    /// The highest number appended.
    pub(crate) last: Cell<u64>,
    /// The highest number committed.
    committed: Cell<u64>,
    /// A number was refused; higher ones are discarded until it comes.
    pub(crate) refused: Cell<bool>,
}

impl Sender {
    /// The newest session owns the endpoint's streams; returns its number.
    pub(crate) fn take_over(&self) -> u64 {
        self.owner.set(self.owner.get() + 1);
        self.owner.get()
    }

    pub(crate) fn owner(&self) -> u64 {
        self.owner.get()
    }

    pub(crate) fn stream(&self, partition: PartitionId) -> Rc<Stream> {
        let mut streams = self.streams.borrow_mut();
        let known = streams.iter().find(|stream| stream.partition == partition);
        if let Some(stream) = known {
            return Rc::clone(stream);
        }
        let stream = Rc::new(Stream {
            partition,
            last: Cell::new(0),
            committed: Cell::new(0),
            refused: Cell::new(false),
        });
        streams.push(Rc::clone(&stream));
        stream
    }
}

/// Where QUIC is spoken, and the files of certificate and key.
pub(crate) struct Quic {
    pub(crate) listen: SocketAddr,
    pub(crate) pair: [std::path::PathBuf; 2],
}

/// Serve until killed, on so many threads.
pub(crate) fn run(
    plan: &Path,
    (listen, quic): (SocketAddr, Option<Quic>),
    data: &Path,
    threads: usize,
) -> Result<()> {
    let text = std::fs::read_to_string(plan)?;
    let table = control::compile(&text, &plan.display().to_string())
        .map_err(|faults| Error::other(format!("{faults:?}")))?;
    let hub = table.hubs().first();
    let hub = hub.ok_or_else(|| Error::other("the plan has no hub"))?;
    let (ack_mode, files) = (hub.ack, LogFiles::create(data, hub)?);
    let mut runtime = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let others = threads.saturating_sub(1).max(1);
    let runtime = runtime.worker_threads(others).enable_all().build()?;
    let server = Rc::new(Server {
        table,
        log: RefCell::new(Log::new()),
        appended: Notify::new(),
        ack_mode,
        senders: RefCell::default(),
        peers: RefCell::default(),
        second: Cell::new(0),
    });
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(server, listen, quic, files))
}

async fn serve(
    server: Rc<Server>,
    listen: SocketAddr,
    quic: Option<Quic>,
    files: LogFiles,
) -> Result<()> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    let listener = socket.listen(BACKLOG)?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    if let Some(Quic {
        listen,
        pair: [certificate, key],
    }) = quic
    {
        let endpoint = open_quic(listen, &certificate, &key)?;
        writeln!(out, "listening with QUIC on {}", endpoint.local_addr()?)?;
        tokio::task::spawn_local(accept_quic(Rc::clone(&server), endpoint));
    }
    out.flush()?;
    tokio::task::spawn_local(tick(Rc::clone(&server)));
    tokio::task::spawn_local(accept(Rc::clone(&server), listener));
    match server.ack_mode {
        AckMode::Durable => commit_durable(&server, files).await,
        AckMode::Local => commit_local(&server, files).await,
    }
}

async fn accept(server: Rc<Server>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                drop(tokio::task::spawn_local(session::serve(
                    Rc::clone(&server),
                    halves(stream),
                    Vec::new(),
                )));
            }
            // No descriptor is left: one must be closed first.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// The same by QUIC, as quinn does it: a task for the socket, one for each connection, one for each stream.
async fn accept_quic(server: Rc<Server>, endpoint: quinn::Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        let server = Rc::clone(&server);
        tokio::task::spawn_local(async move {
            let Ok(connection) = incoming.await else {
                return;
            };
            let mut exporter = vec![0; 32];
            let label = b"EXPORTER-forebay-session-1";
            if (connection.export_keying_material(&mut exporter, label, b"")).is_err() {
                return;
            }
            while let Ok((write, read)) = connection.accept_bi().await {
                tokio::task::spawn_local(session::serve(
                    Rc::clone(&server),
                    (Reading::Quic(read), Writing::Quic(write)),
                    exporter.clone(),
                ));
            }
        });
    }
}

/// A QUIC port with this certificate.
fn open_quic(listen: SocketAddr, certificate: &Path, key: &Path) -> Result<quinn::Endpoint> {
    let pair = tls::Certificate::from_pem(&std::fs::read(certificate)?, &std::fs::read(key)?);
    let served = tls::Served::new(pair.map_err(Error::other)?);
    let tls = tls::Server::new(served).map_err(Error::other)?.config();
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).map_err(Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(std::sync::Arc::new(crypto));
    let mut acks = quinn::AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(quinn::VarInt::from_u32(10));
    let mut transport = quinn::TransportConfig::default();
    transport.ack_frequency_config(Some(acks));
    config.transport_config(std::sync::Arc::new(transport));
    quinn::Endpoint::server(config, listen)
}

/// One timer for all connections: it cuts those that have been silent for too long.
async fn tick(server: Rc<Server>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        let second = server.second.get() + 1;
        server.second.set(second);
        server
            .peers
            .borrow_mut()
            .retain(|peer| match peer.upgrade() {
                Some(peer) if second > peer.heard.get() + IDLE_SECONDS => {
                    peer.cut();
                    false
                }
                other => other.is_some(),
            });
    }
}

/// One write and one sync at a time, on a thread of their own; what gathers meanwhile is the next.
async fn commit_durable(server: &Rc<Server>, files: LogFiles) -> Result<()> {
    let (asked, asks) = channel();
    let (tell, mut done) = unbounded_channel();
    std::thread::Builder::new()
        .name("sync".to_owned())
        .spawn(move || files.serve(&asks, &tell))?;
    let mut batch = Gathered::default();
    loop {
        server.appended.notified().await;
        while server.log.borrow_mut().take(&mut batch) {
            batch.records = sync(&asked, &mut done, std::mem::take(&mut batch.records)).await?;
            server.acknowledge(&mut batch.waiting);
        }
    }
}

async fn sync(
    asked: &ToFile,
    done: &mut UnboundedReceiver<Result<Vec<u8>>>,
    records: Vec<u8>,
) -> Result<Vec<u8>> {
    let ended = || Error::other("the thread that syncs has ended");
    asked.send(records).map_err(|_| ended())?;
    // Nobody knows what the disk holds after a failed sync: the server ends.
    done.recv().await.ok_or_else(ended)?
}

/// Written to the file is enough: the kernel has it when this process dies.
async fn commit_local(server: &Rc<Server>, mut files: LogFiles) -> Result<()> {
    let mut batch = Gathered::default();
    loop {
        server.appended.notified().await;
        if server.log.borrow_mut().take(&mut batch) {
            files.write(&batch.records)?;
            batch.records.clear();
            server.acknowledge(&mut batch.waiting);
        }
    }
}

impl Server {
    fn acknowledge(&self, waiting: &mut Vec<Waiting>) {
        for waiting in waiting.drain(..) {
            waiting.stream.committed.set(waiting.sequence.0);
            waiting.peer.ack(&Ack {
                partition: waiting.stream.partition,
                sequence: waiting.sequence,
                ack_mode: self.ack_mode,
                offset: waiting.offset,
                credit_frames: CREDIT_FRAMES,
                credit_bytes: CREDIT_BYTES,
            });
        }
    }

    pub(crate) fn endpoint(&self, name: &str) -> Option<(usize, EndpointView<'_>)> {
        let endpoint = self.table.endpoint_by_name(name)?;
        let index = self.table.endpoint_index(endpoint.id)?;
        endpoint.enabled.then_some((index as usize, endpoint))
    }

    pub(crate) fn sender(&self, endpoint: EndpointId) -> Rc<Sender> {
        let mut senders = self.senders.borrow_mut();
        Rc::clone(senders.entry(endpoint).or_default())
    }

    /// What an endpoint may send to, for its WELCOME.
    pub(crate) fn entries(&self, endpoint: usize, sender: &Sender) -> Entries<'_> {
        let endpoint = self.table.endpoint_at(endpoint as u32);
        let granted = endpoint.send.iter();
        let granted = granted.filter_map(|grant| self.table.channel(grant.channel));
        let entry = granted.map(|channel| {
            let partition = self.table.partition_of(endpoint.id, channel);
            WelcomeEntry {
                channel: channel.id,
                partition,
                last_sequence: Sequence(sender.stream(partition).committed.get()),
                ack_mode: self.ack_mode,
                name: &channel.name,
            }
        });
        entry.collect()
    }

    /// A session was opened.
    pub(crate) fn open(&self, peer: &Rc<Peer>) {
        peer.heard.set(self.second.get());
        self.peers.borrow_mut().push(Rc::downgrade(peer));
    }

    /// The peer was heard now.
    pub(crate) fn heard(&self, peer: &Peer) -> UnixNanos {
        peer.heard.set(self.second.get());
        unix_now()
    }
}

pub(crate) fn unix_now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixNanos(since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }))
}
