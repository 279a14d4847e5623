//! Sessions without the SDK, over every transport: such as say nothing of their own accord, and relays, which the SDK has none of.

use std::io;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use client::handshake::{Opening, Seal};
use client::transport::quic::{Lane, Quic};
use client::{ClientError, Credentials, Home, Transport};
use control::keys::new_secret;
use tls::Tunnel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::ack::{Ack, Reject};
use wire::frame::{FrameKind, split};
use wire::ids::{ChannelId, EndpointId, KeyId, Sequence, UnixNanos};
use wire::link::parse_goaway;
use wire::reason::Notice;
use wire::send::{SendBuilder, encode_relay};
use wire::signature::{Signer, SigningKey};

use super::world::Way;

/// Bytes in and bytes out.
enum Pipe {
    Tcp(TcpStream),
    Tls(TcpStream, Box<Tunnel>),
    Quic(Box<Lane>),
}

impl Pipe {
    async fn open(way: &Way, home: Option<Home>) -> io::Result<Self> {
        let address: SocketAddr = way.address.parse().expect("an address");
        match &way.transport {
            Transport::Tcp => Ok(Self::Tcp(TcpStream::connect(address).await?)),
            Transport::Tls(security) => {
                let tunnels = security
                    .tunnels(&way.address)
                    .expect("there is an authority");
                let tunnel = tunnels.tunnel().expect("there are random bytes");
                Self::tunnelled(TcpStream::connect(address).await?, tunnel).await
            }
            Transport::Quic(security) => {
                let mut quic = Quic::new(&way.address, security).expect("there is an authority");
                quic.set_home(home);
                let lane = quic.connect(address).await.expect("it listens");
                Ok(Self::Quic(Box::new(lane)))
            }
        }
    }

    async fn tunnelled(mut stream: TcpStream, mut tunnel: Tunnel) -> io::Result<Self> {
        let (mut out, mut early) = (Vec::new(), Vec::new());
        loop {
            tunnel.flush(&mut out);
            stream.write_all(&out).await?;
            out.clear();
            if tunnel.stands() {
                return Ok(Self::Tls(stream, Box::new(tunnel)));
            }
            let mut received = Vec::with_capacity(READ_BYTES);
            if stream.read_buf(&mut received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            tunnel
                .receive(&received, &mut early)
                .map_err(io::Error::other)?;
        }
    }

    fn exporter(&self) -> Option<[u8; 32]> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(_, tunnel) => tunnel.exporter(),
            Self::Quic(lane) => Some(*lane.exporter()),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Tls(stream, tunnel) => {
                let mut out = Vec::new();
                tunnel.send(bytes, &mut out);
                stream.write_all(&out).await
            }
            Self::Quic(lane) => lane.write_all(bytes).await,
        }
    }

    /// Add what comes; an error at the end.
    async fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let came = match self {
            Self::Tcp(stream) => stream.read_buf(bytes).await?,
            Self::Tls(stream, tunnel) => {
                let mut received = Vec::with_capacity(READ_BYTES);
                let came = stream.read_buf(&mut received).await?;
                let opened = tunnel.receive(&received, bytes);
                opened.map_err(io::Error::other)?;
                came
            }
            Self::Quic(lane) => lane.read_buf(bytes).await?,
        };
        match came {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

const READ_BYTES: usize = 16 << 10;

/// What the node says to a session.
#[derive(Debug)]
pub(crate) enum Heard {
    Ack(Ack),
    Reject(Reject),
    Goaway(Notice),
}

/// An open session that says nothing unless it is told to.
pub(crate) struct Bare {
    pipe: Pipe,
    seal: Seal,
    input: Vec<u8>,
    taken: usize,
    /// Number of the next RELAY.
    pub(crate) next: u64,
}

impl Bare {
    /// Open a session; over QUIC where its endpoint is at home, if it has to.
    pub(crate) async fn open(way: &Way, credentials: &Credentials) -> Result<Self, ClientError> {
        match Self::open_at(way, credentials, None).await {
            Err(ClientError::Refused(notice)) => match Home::named_by(&notice) {
                Some(home) => Self::open_at(way, credentials, Some(home)).await,
                None => Err(ClientError::Refused(notice)),
            },
            other => other,
        }
    }

    async fn open_at(
        way: &Way,
        credentials: &Credentials,
        home: Option<Home>,
    ) -> Result<Self, ClientError> {
        let lost = |error: io::Error| ClientError::Lost(error.to_string());
        let mut pipe = Pipe::open(way, home).await.map_err(lost)?;
        let nonce = new_secret().random();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let exporter = pipe.exporter();
        let seconds = now.expect("after 1970").as_secs();
        let (opening, flight) =
            Opening::begin(credentials, None, nonce, seconds, exporter.as_ref())?;
        pipe.write(&flight).await.map_err(lost)?;
        let mut input = Vec::new();
        loop {
            if let Some((opened, taken)) = opening.read(&input)? {
                return Ok(Self {
                    pipe,
                    seal: opened.seal,
                    input,
                    taken,
                    next: 1,
                });
            }
            pipe.read(&mut input).await.map_err(lost)?;
        }
    }

    /// The next thing that the node says; none at the end of the connection.
    pub(crate) async fn hear(&mut self) -> Option<Heard> {
        loop {
            self.input.drain(..std::mem::take(&mut self.taken));
            let whole = split(&self.input).expect("whole frames");
            if let Some((frame, rest)) = whole {
                self.taken = self.input.len() - rest.len();
                assert!(self.seal.check(&frame), "signed by the node");
                return Some(match frame.kind() {
                    FrameKind::Ack => Heard::Ack(Ack::parse(frame).expect("an ACK")),
                    FrameKind::Reject => Heard::Reject(Reject::parse(frame).expect("a REJECT")),
                    FrameKind::Goaway => Heard::Goaway(parse_goaway(frame).expect("a GOAWAY")),
                    other => panic!("{other:?}"),
                });
            }
            self.pipe.read(&mut self.input).await.ok()?;
        }
    }

    /// Pass an envelope on. Its number.
    pub(crate) async fn relay(&mut self, envelope: &[u8]) -> u64 {
        let (mut out, number) = (Vec::new(), self.next);
        self.next += 1;
        encode_relay(&mut out, Sequence(number), envelope, self.seal.signer());
        // Whether the node takes it shows in what it says.
        let _ = self.pipe.write(&out).await;
        number
    }
}

/// A frame of an endpoint that signs for itself.
pub(crate) fn envelope(
    (endpoint, channel): (&str, &str),
    (id, key): (u32, &SigningKey),
    sequence: u64,
    body: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    let (endpoint, channel) = (EndpointId::of(endpoint), ChannelId::of(channel));
    let mut send = SendBuilder::begin(&mut out, endpoint, channel, Sequence(sequence));
    send.message(UnixNanos(0), &[], body).expect("it is short");
    let id = KeyId(id);
    send.finish(Signer::Ed25519 { id, key })
        .expect("one message");
    out
}
