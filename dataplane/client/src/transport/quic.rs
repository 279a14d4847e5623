//! QUIC, by the crate quinn: one long-lived bidirectional stream, a lane, carries the connection; a QUIC connection may carry several.
//!
//! The first byte of the first destination connection ID names a shard (`PROTOCOL.md`, section 2), so a client that knows where its
//! endpoint is at home arrives there and no frame has to cross shards.

use super::{Home, Security};
use crate::diagnosis::ClientError;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, ConnectError, Connection, ConnectionError, ConnectionId,
    Endpoint, EndpointConfig, IdleTimeout, ReadError, RecvStream, SendStream, TokioRuntime,
    TransportConfig, VarInt, WriteError,
};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tls::{EXPORTER_BYTES, EXPORTER_LABEL};
use tokio::sync::Mutex;

const READ_BYTES: usize = 64 * 1024;
/// Bytes of the first destination connection ID; the longest that there are.
const ID_BYTES: usize = 20;
/// Silence after which a connection is over, as far as this side is concerned.
const IDLE: Duration = Duration::from_secs(60);
/// Half of the thirty seconds for which a NAT remembers silent UDP.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After so long without an answer it is asked whether anybody is there, and an answer to that is waited for so long.
const ASK_AFTER: Duration = Duration::from_millis(250);
/// Packets after which the server is asked to acknowledge.
const ACK_AFTER: u32 = 10;
/// TLS alerts with which this side blames the server's certificate or what was signed with it, as codes of QUIC.
const CERTIFICATE_ALERTS: [u64; 8] = [0x12a, 0x12b, 0x12c, 0x12d, 0x12e, 0x130, 0x131, 0x133];

/// What makes connections to one node. Its sockets are there from the first connection on.
#[derive(Debug)]
pub struct Quic {
    config: ClientConfig,
    name: String,
    v4: Option<(Endpoint, Arc<UdpSocket>)>,
    v6: Option<(Endpoint, Arc<UdpSocket>)>,
    home: Option<Home>,
    /// Connections on which further lanes may be opened, if they are shared.
    shared: Option<Arc<Mutex<Shared>>>,
    /// The connection of the last lane, and whether it was there before.
    last: Option<(usize, bool)>,
}

/// Connections, and how many lanes each may have.
#[derive(Debug)]
struct Shared {
    made: Vec<Made>,
    lanes_max: usize,
}

/// One connection, and how many lanes it has: as many as there are copies of `lanes` but this one.
#[derive(Debug, Clone)]
struct Made {
    connection: Connection,
    socket: Arc<UdpSocket>,
    addr: SocketAddr,
    arrived_by: u8,
    lanes: Arc<()>,
}

impl Made {
    fn takes(&self, addr: SocketAddr, home: Option<Home>, lanes_max: usize) -> bool {
        self.addr == addr
            && home.is_none_or(|home| home.is_met_by(self.arrived_by))
            && Arc::strong_count(&self.lanes) <= lanes_max
    }
}

impl Quic {
    /// For the node at `addr`.
    ///
    /// # Errors
    /// `FB-5113`, see [`Security::tunnels`].
    pub fn new(addr: &str, security: &Security) -> Result<Self, ClientError> {
        let client = security.tunnels(addr)?;
        let crypto = QuicClientConfig::try_from(client.config());
        let crypto = crypto.map_err(|error| ClientError::Tunnel {
            addr: addr.to_owned(),
            error: error.to_string(),
        })?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport()));
        Ok(Self {
            config,
            name: client.name(),
            v4: None,
            v6: None,
            home: None,
            shared: None,
            last: None,
        })
    }

    /// Open up to so many lanes on one connection, from now on and for [`Quic::another`] likewise.
    pub fn share(&mut self, lanes_max: usize) {
        self.shared = Some(Arc::new(Mutex::new(Shared {
            made: Vec::new(),
            lanes_max,
        })));
    }

    /// The same for another endpoint: its lanes share the connections of this one, if any are shared.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            config: self.config.clone(),
            name: self.name.clone(),
            v4: self.v4.clone(),
            v6: self.v6.clone(),
            home: None,
            shared: self.shared.clone(),
            last: None,
        }
    }

    /// Open no further lane on the connection of the last one: something was wrong with it. Whether it had been there before.
    pub async fn forget_last(&mut self) -> bool {
        let (Some(shared), Some((last, before))) = (&self.shared, self.last.take()) else {
            return false;
        };
        let mut shared = shared.lock().await;
        shared
            .made
            .retain(|made| made.connection.stable_id() != last);
        before
    }

    /// Where connections shall arrive from now on; `None` for anywhere.
    pub fn set_home(&mut self, home: Option<Home>) {
        self.home = home;
    }

    /// Connect and open a lane.
    ///
    /// # Errors
    /// `FB-5101` when there is no connection, `FB-5114` when the server's certificate is not to be trusted, `FB-5115` when
    /// TLS fails otherwise.
    pub async fn connect(&mut self, addr: SocketAddr) -> Result<Lane, ClientError> {
        let Some(shared) = self.shared.clone() else {
            let made = self.shake_hands(addr).await?;
            return self.open(&made, false).await;
        };
        // Whoever comes meanwhile waits, and finds what was made.
        let mut shared = shared.lock().await;
        let lanes_max = shared.lanes_max;
        let open = |made: &Made| made.connection.close_reason().is_none();
        shared.made.retain(open);
        let takes = |made: &&Made| made.takes(addr, self.home, lanes_max);
        if let Some(made) = shared.made.iter().find(takes).cloned()
            && let Ok(lane) = self.open(&made, true).await
        {
            return Ok(lane);
        }
        let made = self.shake_hands(addr).await?;
        shared.made.push(made.clone());
        self.open(&made, false).await
    }

    async fn open(&mut self, made: &Made, before: bool) -> Result<Lane, ClientError> {
        self.last = Some((made.connection.stable_id(), before));
        Lane::open(made).await
    }

    async fn shake_hands(&mut self, addr: SocketAddr) -> Result<Made, ClientError> {
        let failed = |error: String| ClientError::Connect {
            addr: addr.to_string(),
            error,
        };
        let mut id = [0; ID_BYTES];
        getrandom::fill(&mut id).map_err(|error| failed(error.to_string()))?;
        if let Some(home) = self.home {
            id[0] = home.byte(id[0]);
        }
        let mut config = self.config.clone();
        config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&id)));
        let made = self.endpoint(addr);
        let (endpoint, socket) = made.map_err(|error| failed(error.to_string()))?.clone();
        let connecting = endpoint.connect_with(config, addr, &self.name);
        let connection = connecting.map_err(|error| unmade(addr, &self.name, &error))?;
        let connection = tokio::select! {
            connection = connection => connection.map_err(|error| refused(addr, &error))?,
            error = nobody(addr) => return Err(failed(error.to_string())),
        };
        Ok(Made {
            connection,
            socket,
            addr,
            arrived_by: id[0],
            lanes: Arc::default(),
        })
    }

    /// What speaks to this family of addresses.
    fn endpoint(&mut self, addr: SocketAddr) -> io::Result<&(Endpoint, Arc<UdpSocket>)> {
        let (endpoint, any): (_, SocketAddr) = match addr {
            SocketAddr::V4(_) => (&mut self.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&mut self.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        if let Some(endpoint) = endpoint {
            return Ok(endpoint);
        }
        let socket = UdpSocket::bind(any)?;
        let kept = Arc::new(socket.try_clone()?);
        let config = EndpointConfig::default();
        let made = Endpoint::new(config, None, socket, Arc::new(TokioRuntime))?;
        Ok(endpoint.insert((made, kept)))
    }
}

/// The error of a port where nobody is, once it is certain. A handshake would go on asking for ten seconds: sockets that speak to
/// many, as those of QUIC do, are not told what the kernel hears. One that is bound to this address is; it is asked when no answer has come
/// for a moment, with a byte that is no packet.
async fn nobody(addr: SocketAddr) -> io::Error {
    loop {
        tokio::time::sleep(ASK_AFTER).await;
        if let Err(error) = ask(addr).await
            && error.kind() == ErrorKind::ConnectionRefused
        {
            return error;
        }
    }
}

/// Send a byte there, and wait for what is said of it.
async fn ask(addr: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(addr).await?;
    socket.send(&[0]).await?;
    match tokio::time::timeout(ASK_AFTER, socket.recv(&mut [0; 1])).await {
        Ok(said) => said.map(|_| ()),
        Err(_) => Ok(()),
    }
}

fn transport() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_AFTER));
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE).expect("a minute fits");
    transport
        .ack_frequency_config(Some(acks))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    transport
}

/// What it means to a client that a connection cannot even be tried.
fn unmade(addr: SocketAddr, name: &str, error: &ConnectError) -> ClientError {
    match error {
        ConnectError::InvalidServerName(_) => ClientError::Trust {
            what: "server name",
            seen: name.to_owned(),
            needed: "a host name or an address",
        },
        _ => ClientError::Connect {
            addr: addr.to_string(),
            error: error.to_string(),
        },
    }
}

/// What it means to a client that a handshake fails.
fn refused(addr: SocketAddr, error: &ConnectionError) -> ClientError {
    let (addr, text) = (addr.to_string(), error.to_string());
    match error {
        ConnectionError::TransportError(own)
            if CERTIFICATE_ALERTS.contains(&u64::from(own.code)) =>
        {
            ClientError::Untrusted { addr, error: text }
        }
        ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::VersionMismatch => ClientError::Tunnel { addr, error: text },
        _ => ClientError::Connect { addr, error: text },
    }
}

/// A connection and its stream.
#[derive(Debug)]
pub struct Lane {
    send: SendStream,
    receive: RecvStream,
    connection: Connection,
    socket: Arc<UdpSocket>,
    exporter: [u8; EXPORTER_BYTES],
    /// First byte of the ID that it arrived with.
    arrived_by: u8,
    /// As long as this is there its connection counts it.
    held: Arc<()>,
    /// What [`Lane::ready`] read, and how much it wrote.
    read_ahead: Vec<u8>,
    written_ahead: usize,
    buffer: Box<[u8]>,
    fault: Option<io::Error>,
}

impl Lane {
    async fn open(made: &Made) -> Result<Self, ClientError> {
        let (connection, addr) = (made.connection.clone(), made.addr);
        let (send, receive) = connection
            .open_bi()
            .await
            .map_err(|error| refused(addr, &error))?;
        let mut exporter = [0; EXPORTER_BYTES];
        let exported = connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]);
        exported
            .map_err(|_| ClientError::Protocol("a tunnel without an exporter value".to_owned()))?;
        Ok(Self {
            send,
            receive,
            connection,
            socket: Arc::clone(&made.socket),
            exporter,
            arrived_by: made.arrived_by,
            held: Arc::clone(&made.lanes),
            read_ahead: Vec::new(),
            written_ahead: 0,
            buffer: vec![0; READ_BYTES].into(),
            fault: None,
        })
    }

    /// The tunnel's exporter value.
    pub fn exporter(&self) -> &[u8; EXPORTER_BYTES] {
        &self.exporter
    }

    /// First byte of the ID that it arrived with.
    pub fn arrived_by(&self) -> u8 {
        self.arrived_by
    }

    /// The socket of all connections to this node, for who wants to know when something has come on it.
    pub fn socket(&self) -> &Arc<UdpSocket> {
        &self.socket
    }

    /// The way beside it: datagrams for its session.
    pub fn beside(&self) -> Beside {
        Beside {
            connection: self.connection.clone(),
            lane: self.send.id().index(),
            _held: Arc::clone(&self.held),
        }
    }

    /// The two halves of the stream, and the way beside it, which keeps them alive.
    pub fn into_parts(self) -> (SendStream, RecvStream, Beside) {
        let beside = self.beside();
        (self.send, self.receive, beside)
    }

    /// Write all of it.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.send.write_all(bytes).await;
        written.map_err(|error| unwritten(&error))
    }

    /// Wait for something to read and add it; 0 at the end. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn read_buf(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        self.ready(true, &[]).await;
        self.try_read_buf(bytes)
    }

    /// Wait until something was read, if that is of interest, or some of `unsent` was written. Neither is lost:
    /// the calls that follow give it.
    pub(super) async fn ready(&mut self, read: bool, unsent: &[u8]) {
        poll_fn(|context| self.poll(context, read, unsent)).await;
    }

    fn poll(&mut self, context: &mut Context<'_>, read: bool, unsent: &[u8]) -> Poll<()> {
        let mut ready = self.fault.is_some() || self.written_ahead > 0;
        ready |= read && !self.read_ahead.is_empty();
        if ready {
            return Poll::Ready(());
        }
        if !unsent.is_empty()
            && let Poll::Ready(written) = self.poll_write(context, unsent)
        {
            ready = true;
            match written {
                Ok(bytes) => self.written_ahead = bytes,
                Err(error) => self.fault = Some(error),
            }
        }
        if read && let Poll::Ready(came) = self.poll_read(context) {
            ready = true;
            match came {
                Ok(bytes) => self.read_ahead.extend_from_slice(&self.buffer[..bytes]),
                Err(error) => self.fault = Some(error),
            }
        }
        match ready {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.send).poll_write(context, bytes);
        written.map_err(|error| unwritten(&error))
    }

    /// An end is an error here: the stream is read once more to tell it.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.receive.poll_read(context, &mut self.buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(bytes)) => Poll::Ready(Ok(bytes)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(unread(&error))),
        }
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written_ahead > 0 {
            return Ok(std::mem::take(&mut self.written_ahead));
        }
        match self.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn try_read_buf(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        if !self.read_ahead.is_empty() {
            let count = self.read_ahead.len();
            bytes.append(&mut self.read_ahead);
            return Ok(count);
        }
        let came = match self.fault.take() {
            Some(fault) => Poll::Ready(Err(fault)),
            None => self.poll_read(&mut Context::from_waker(Waker::noop())),
        };
        match came {
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(count)) => {
                bytes.extend_from_slice(&self.buffer[..count]);
                Ok(count)
            }
        }
    }

    /// Say that nothing more will be written.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.send.finish().map_err(io::Error::other)
    }
}

/// Sends datagrams (RFC 9221) beside a lane: one frame each, which may be lost.
#[derive(Debug, Clone)]
pub struct Beside {
    connection: Connection,
    lane: u64,
    /// As long as this is there its connection counts the lane.
    _held: Arc<()>,
}

impl Beside {
    /// What a datagram names its lane.
    pub fn lane(&self) -> u64 {
        self.lane
    }

    /// Bytes of the longest datagram that has room in a packet now; `None` when the server takes none.
    pub fn bytes_max(&self) -> Option<usize> {
        self.connection.max_datagram_size()
    }

    /// Send one. It may be lost on its way, or here when more are sent than leave.
    ///
    /// # Errors
    /// When it has no room in a packet, or the connection is lost.
    pub fn send(&self, datagram: Vec<u8>) -> io::Result<()> {
        let sent = self.connection.send_datagram(datagram.into());
        sent.map_err(|error| io::Error::other(error.to_string()))
    }

    /// End the connection, and all its lanes, at once.
    pub fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

fn unwritten(error: &WriteError) -> io::Error {
    io::Error::other(error.to_string())
}

fn unread(error: &ReadError) -> io::Error {
    io::Error::other(error.to_string())
}
