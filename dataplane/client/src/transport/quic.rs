//! QUIC, by the crate quinn: one long-lived bidirectional stream carries the connection.
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

const READ_BYTES: usize = 64 * 1024;
/// Bytes of the first destination connection ID; the longest that there are.
const ID_BYTES: usize = 20;
/// Silence after which a connection is over, as far as this side is concerned.
const IDLE: Duration = Duration::from_secs(60);
/// Half of the thirty seconds for which a NAT remembers silent UDP.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
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
        })
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
        let connection = connection.await.map_err(|error| refused(addr, &error))?;
        Lane::open((connection, socket), addr, id[0]).await
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
    /// What [`Lane::ready`] read, and how much it wrote.
    read_ahead: Vec<u8>,
    written_ahead: usize,
    buffer: Box<[u8]>,
    fault: Option<io::Error>,
}

impl Lane {
    async fn open(
        (connection, socket): (Connection, Arc<UdpSocket>),
        addr: SocketAddr,
        arrived_by: u8,
    ) -> Result<Self, ClientError> {
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
            socket,
            exporter,
            arrived_by,
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

    /// The two halves of the stream, and what keeps them alive.
    pub fn into_parts(self) -> (SendStream, RecvStream, Connection) {
        (self.send, self.receive, self.connection)
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

fn unwritten(error: &WriteError) -> io::Error {
    io::Error::other(error.to_string())
}

fn unread(error: &ReadError) -> io::Error {
    io::Error::other(error.to_string())
}
