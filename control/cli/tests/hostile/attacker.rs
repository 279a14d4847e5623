//! One hostile connection over a plain socket: the real handshake where it needs one, and everything that a good client
//! would never do.

use crate::node::{DRAIN, HANDSHAKE};
use crate::world::Keys;
use client::ClientError;
use client::handshake::{ChannelTerms, Opening, Seal};
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use wire::ids::{Direction, EndpointId};
use wire::reason::Reason;
use wire::signature::Signer;

/// What a limit may be late on a machine that is busy with something else. No speed is tested here, only that there is an end.
pub(crate) const SLACK: Duration = Duration::from_secs(15);
/// Receive buffer of those who do not mean to read.
const NARROW_BYTES: u32 = 4_096;

/// Whom to attack, as whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) keys: Keys,
}

impl Target {
    /// Preface and HELLO, and what reads the answer.
    pub(crate) fn hello(
        &self,
        direction: Direction,
        random: &mut fastrand::Rng,
    ) -> (Opening, Vec<u8>) {
        let mut nonce = [0; 32];
        random.fill(&mut nonce);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.map_or(0, |since| since.as_secs());
        let credentials = match direction {
            Direction::Ingress => &self.keys.ingress,
            Direction::Egress => &self.keys.egress,
        };
        Opening::begin(credentials, None, nonce, seconds, None)
            .expect("credentials that fit a HELLO")
    }
}

/// How long the node took to close, counted from when its limit began to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed(pub(crate) Duration);

/// One connection.
pub(crate) struct Attacker {
    stream: TcpStream,
    session: Option<(Seal, EndpointId, Vec<ChannelTerms>)>,
    /// When the last thing was done that the limit counts from.
    since: Instant,
}

impl Attacker {
    pub(crate) async fn connect(target: &Target, narrow: bool) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if narrow {
            socket.set_recv_buffer_size(NARROW_BYTES)?;
        }
        let stream = timeout(SLACK, socket.connect(target.address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            session: None,
            since: Instant::now(),
        })
    }

    /// Connect and open a session, as anybody with a key may.
    pub(crate) async fn open(
        target: &Target,
        direction: Direction,
        narrow: bool,
        random: &mut fastrand::Rng,
    ) -> std::io::Result<Self> {
        let mut attacker = Self::connect(target, narrow).await?;
        let (opening, hello) = target.hello(direction, random);
        attacker.put(&hello).await?;
        attacker.welcomed(&opening).await?;
        Ok(attacker)
    }

    async fn welcomed(&mut self, opening: &Opening) -> std::io::Result<()> {
        let mut input = Vec::new();
        loop {
            let bytes = timeout(HANDSHAKE + SLACK, self.stream.read_buf(&mut input)).await??;
            let answer = opening.read(&input).map_err(|error| match error {
                // On a busy machine this attacker may itself be too slow for its handshake.
                ClientError::Refused(notice) if notice.reason == Reason::HandshakeTimeout => {
                    Error::new(ErrorKind::ConnectionAborted, error)
                }
                other => Error::other(other),
            });
            if let Some((opened, _)) = answer? {
                self.session = Some((opened.seal, opened.terms.endpoint, opened.channels));
                self.since = Instant::now();
                return Ok(());
            }
            if bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Every byte that a client said on a good connection: its opening, and what came behind it.
    pub(crate) async fn overheard(
        target: &Target,
        random: &mut fastrand::Rng,
        send: &impl Fn(EndpointId) -> Vec<u8>,
    ) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
        let mut attacker = Self::connect(target, false).await?;
        let (opening, hello) = target.hello(Direction::Ingress, random);
        attacker.put(&hello).await?;
        attacker.welcomed(&opening).await?;
        let (mut said, frame) = (Vec::new(), send(attacker.endpoint()));
        crate::attacks::sealed(&mut said, &frame, attacker.signer());
        attacker.put(&said).await?;
        Ok((hello, said))
    }

    pub(crate) fn endpoint(&self) -> EndpointId {
        self.session.as_ref().expect("a session is open").1
    }

    /// The highest number of this endpoint in the log.
    pub(crate) fn last(&self) -> u64 {
        let channels = &self.session.as_ref().expect("a session is open").2;
        channels.first().map_or(0, |terms| terms.last_sequence.0)
    }

    pub(crate) fn signer(&mut self) -> Signer<'_> {
        let session = self.session.as_mut().expect("a session is open");
        session.0.signer()
    }

    /// Sign one frame and send it.
    pub(crate) async fn say(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>, Signer<'_>),
    ) -> std::io::Result<()> {
        let mut out = Vec::new();
        encode(&mut out, self.signer());
        self.put(&out).await
    }

    /// Send these bytes, whatever they are.
    pub(crate) async fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.since = Instant::now();
        Ok(())
    }

    /// Whether all these bytes were taken in so much time.
    pub(crate) async fn put_within(&mut self, bytes: &[u8], time: Duration) -> bool {
        matches!(timeout(time, self.put(bytes)).await, Ok(Ok(())))
    }

    /// Read something, if anything comes.
    pub(crate) async fn read_some(&mut self) -> std::io::Result<()> {
        let mut piece = [0; 4_096];
        timeout(SLACK, self.stream.read(&mut piece)).await??;
        Ok(())
    }

    /// Say that nothing more will come, and keep the connection.
    pub(crate) async fn finish_writing(&mut self) -> std::io::Result<()> {
        self.stream.shutdown().await
    }

    /// Break off with a RST.
    pub(crate) fn reset(self) -> std::io::Result<Closed> {
        self.stream.set_zero_linger()?;
        Ok(Closed(Duration::ZERO))
    }

    /// Read until the node closes; it must by `limit`.
    pub(crate) async fn until_closed(mut self, limit: Duration) -> std::io::Result<Closed> {
        let end = self.since + limit + SLACK;
        let mut piece = [0; 4_096];
        loop {
            let read = tokio::time::timeout_at(end, self.stream.read(&mut piece)).await;
            match read.map_err(|_| still_open(self.since))? {
                Ok(0) | Err(_) => return Ok(Closed(self.since.elapsed())),
                Ok(_) => {}
            }
        }
    }

    /// Send one byte at a time until the node closes. The limit counts from the first one.
    pub(crate) async fn drip_until_closed(
        mut self,
        bytes: &[u8],
        every: Duration,
    ) -> std::io::Result<Closed> {
        let (since, mut piece) = (self.since, [0; 4_096]);
        for byte in bytes {
            if self.stream.write_all(&[*byte]).await.is_err() {
                return Ok(Closed(since.elapsed()));
            }
            let pause = Instant::now() + every;
            loop {
                match tokio::time::timeout_at(pause, self.stream.read(&mut piece)).await {
                    Ok(Ok(0) | Err(_)) => return Ok(Closed(since.elapsed())),
                    Ok(Ok(_)) => {}
                    Err(_) => break,
                }
            }
            if since.elapsed() > crate::node::IDLE + SLACK {
                return Err(still_open(since));
            }
        }
        Err(Error::other("every byte was taken, and it is still open"))
    }

    /// Read nothing while the limit runs. After it the node has hung up: what it had sent is still there, then comes the end.
    pub(crate) async fn closed_unread(self, limit: Duration) -> std::io::Result<Closed> {
        let since = self.since;
        sleep(limit + DRAIN).await;
        let closed = self.until_closed(limit).await?;
        let _ = closed;
        Ok(Closed(since.elapsed().min(limit)))
    }
}

fn still_open(since: Instant) -> Error {
    let open = since.elapsed();
    Error::new(ErrorKind::TimedOut, format!("still open after {open:?}"))
}
