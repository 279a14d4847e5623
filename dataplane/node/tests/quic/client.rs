//! A QUIC client of another make, quinn over tokio, under the blocking client that all tests here use: each of its streams is carried
//! to a socket of this process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use tls::rustls::{self, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::support::{Client, PATIENCE, Said, fail};

/// Bytes of a connection ID.
const ID_BYTES: usize = 8;

/// One QUIC connection to a node.
pub(crate) struct Quic {
    runtime: Arc<Runtime>,
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) connection: quinn::Connection,
}

/// A runtime for connections.
pub(crate) fn runtime() -> Arc<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Arc::new(builder.worker_threads(1).enable_all().build().unwrap())
}

/// What a client is: whom it trusts, what it speaks.
pub(crate) fn config(authority: &[u8], alpn: &[u8]) -> quinn::ClientConfig {
    let mut roots = RootCertStore::empty();
    let certificates = tls::certificates(authority).unwrap();
    roots.add(certificates[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    let idle = quinn::IdleTimeout::try_from(PATIENCE).unwrap();
    transport.max_idle_timeout(Some(idle));
    let mut acks = quinn::AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(quinn::VarInt::from_u32(10));
    transport.ack_frequency_config(Some(acks));
    config.transport_config(Arc::new(transport));
    config
}

/// The same, with a first connection ID that names a shard.
pub(crate) fn naming(
    mut config: quinn::ClientConfig,
    shard: u64,
    shards: u64,
) -> quinn::ClientConfig {
    config.initial_dst_cid_provider(Arc::new(move || {
        let mut id = [0; ID_BYTES];
        getrandom::fill(&mut id).unwrap();
        let bytes = (256 - shard).div_ceil(shards);
        id[0] = (shard + shards * (u64::from(id[0]) % bytes)) as u8;
        quinn::ConnectionId::new(&id)
    }));
    config
}

/// First packets of connections that will not go on.
pub(crate) fn first_packets(
    config: &quinn::ClientConfig,
    addr: SocketAddr,
    count: usize,
) -> Vec<Vec<u8>> {
    let first = |_| {
        let own = Arc::new(quinn_proto::EndpointConfig::default());
        let mut endpoint = quinn_proto::Endpoint::new(own, None, false, None);
        let now = Instant::now();
        let begun = endpoint.connect(now, config.clone(), addr, "localhost");
        let (_, mut connection) = begun.unwrap();
        let mut bytes = Vec::new();
        let transmit = connection.poll_transmit(now, 1, &mut bytes).unwrap();
        bytes.truncate(transmit.size);
        bytes
    };
    (0..count).map(first).collect()
}

impl Quic {
    /// Connect, or say why not.
    pub(crate) fn try_connect(
        runtime: &Arc<Runtime>,
        addr: SocketAddr,
        config: quinn::ClientConfig,
    ) -> Result<Self, quinn::ConnectionError> {
        let _inside = runtime.enter();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let endpoint = quinn::Endpoint::client(any).unwrap();
        let connecting = endpoint.connect_with(config, addr, "localhost").unwrap();
        let connection = runtime.block_on(connecting)?;
        Ok(Self {
            runtime: Arc::clone(runtime),
            endpoint,
            connection,
        })
    }

    pub(crate) fn connect(
        runtime: &Arc<Runtime>,
        addr: SocketAddr,
        config: quinn::ClientConfig,
    ) -> Self {
        let connected = Self::try_connect(runtime, addr, config);
        connected.unwrap_or_else(|error| fail(&format!("no QUIC connection: {error}")))
    }

    pub(crate) fn exporter(&self) -> [u8; 32] {
        let mut exporter = [0; 32];
        let exported =
            (self.connection).export_keying_material(&mut exporter, tls::EXPORTER_LABEL, b"");
        exported.unwrap();
        exporter
    }

    /// Open a stream, and carry it to a socket.
    pub(crate) fn lane(&self) -> TcpStream {
        self.try_lane().unwrap()
    }

    /// The same, or say why there is no connection any more.
    pub(crate) fn try_lane(&self) -> Result<TcpStream, quinn::ConnectionError> {
        let (mut send, mut recv) = self.runtime.block_on(self.connection.open_bi())?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        near.set_nodelay(true).unwrap();
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        far.set_nodelay(true).unwrap();
        far.set_nonblocking(true).unwrap();
        self.runtime.spawn(async move {
            let far = tokio::net::TcpStream::from_std(far).unwrap();
            let (mut from, mut to) = far.into_split();
            let out = tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from.read(&mut bytes).await {
                    if send.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
                // Over already if the server ended it.
                let _ = send.finish();
                let _ = send.stopped().await;
            });
            let mut bytes = vec![0; 64 << 10];
            while let Ok(Some(count)) = recv.read(&mut bytes).await {
                if to.write_all(&bytes[..count]).await.is_err() {
                    break;
                }
            }
            drop(to);
            let _ = out.await;
        });
        Ok(near)
    }

    /// A session on a stream of its own.
    pub(crate) fn client(&self, name: &str) -> Client {
        self.try_client(name)
            .unwrap_or_else(|said| fail(&format!("{name} is not welcome: {said:?}")))
    }

    pub(crate) fn try_client(&self, name: &str) -> Result<Client, Said> {
        Client::try_greet(self.lane(), None, Some(self.exporter()), name)
    }

    /// Send a datagram beside all lanes.
    pub(crate) fn throw(&self, bytes: Vec<u8>) {
        let _inside = self.runtime.enter();
        self.connection.send_datagram(bytes.into()).unwrap();
    }

    /// Go on from another port.
    pub(crate) fn move_on(&self) {
        let _inside = self.runtime.enter();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        self.endpoint.rebind(socket).unwrap();
    }
}
