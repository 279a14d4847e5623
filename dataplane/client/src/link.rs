//! A connection that comes back: dialling, the handshake over tokio, reconnecting, and one round of reading and writing.

use crate::credentials::Credentials;
#[cfg(feature = "quic")]
use crate::datagrams::Datagrams;
use crate::diagnosis::{ClientError, refusal};
use crate::handshake::{ChannelTerms, Opened, Opening, Resume, Seal};
use crate::receiver::{FetchOptions, Receiver};
use crate::sender::Sender;
use crate::transport::{self, Home, Reach, Stream, Transport};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use wire::frame::{Frame, FrameKind, split};
use wire::handshake::WelcomeFields;
use wire::ids::{Direction, Sequence};
use wire::limits::FRAME_BYTES_MAX;
use wire::link::{encode_bye, encode_ping};
use wire::reason::{Notice, Reason};

const READ_BYTES: usize = 64 * 1024;
/// Plenty for one BYE; the session is forgotten by itself otherwise.
pub(crate) const BYE_TIMEOUT: Duration = Duration::from_millis(500);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Times and bounds of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long connecting and the handshake may take together.
    pub handshake_timeout: Duration,
    /// How long to go on trying after a connection dropped, before everything waiting fails.
    pub reconnect_for: Duration,
    /// How long a frame refused for now (BUSY, a full disk) is tried again.
    pub retry_for: Duration,
    /// Frames a sender may have unanswered; `send` waits beyond.
    pub in_flight_frames_max: usize,
    /// Bytes a sender may have unanswered; `send` waits beyond.
    pub in_flight_bytes_max: usize,
    /// How long `close` waits for what is unanswered.
    pub close_timeout: Duration,
    /// Plain, or through which tunnel, and whom to trust then.
    pub transport: Transport,
    /// Where the endpoint is at home, as [`Connection::home`] said before: over QUIC its first connection arrives there. One that arrives
    /// elsewhere, since this is not known or true no more, is told and left for another, so nothing is lost but a round trip.
    pub home: Option<Home>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            reconnect_for: Duration::from_secs(60),
            retry_for: Duration::from_secs(60),
            in_flight_frames_max: 1_024,
            in_flight_bytes_max: 16 << 20,
            close_timeout: Duration::from_secs(30),
            transport: Transport::Tcp,
            home: None,
        }
    }
}

/// An open session, before it is used for sending or receiving.
#[derive(Debug)]
pub struct Connection {
    pub(crate) link: Link,
    pub(crate) dialer: Dialer,
    pub(crate) channels: Vec<ChannelTerms>,
}

/// Connect to a node and open a session, with default [`Options`].
///
/// # Errors
/// The first fault: no connection, no answer, or the server's refusal.
pub async fn connect(
    addr: impl Into<String>,
    credentials: Credentials,
) -> Result<Connection, ClientError> {
    connect_with(addr, credentials, Options::default()).await
}

/// Connect to a node and open a session.
///
/// # Errors
/// The first fault: nobody to trust, no connection, no answer, or the server's refusal.
pub async fn connect_with(
    addr: impl Into<String>,
    credentials: Credentials,
    options: Options,
) -> Result<Connection, ClientError> {
    let reach = Reach::new(addr.into(), &options.transport)?;
    open(reach, credentials, options).await
}

async fn open(
    mut reach: Reach,
    credentials: Credentials,
    options: Options,
) -> Result<Connection, ClientError> {
    if let Some(home) = options.home {
        reach.aim(home);
    }
    let mut dialer = Dialer {
        reach,
        credentials,
        options,
        resume: None,
    };
    let (link, channels) = match dialer.dial().await {
        // A connection that was there may be about to end.
        Err(error) if error.is_passing() && dialer.reach.give_up_last().await => {
            dialer.dial().await?
        }
        other => other?,
    };
    Ok(Connection {
        link,
        dialer,
        channels,
    })
}

impl Connection {
    /// Open a session of another endpoint with the same node. Over QUIC it has a lane of its own on the same connection, as long as that has
    /// room for one and leads to its home: neither holds the other up, and there is one handshake. Otherwise it has a connection of its own.
    ///
    /// # Errors
    /// As [`connect_with`].
    pub async fn another(&self, credentials: Credentials) -> Result<Self, ClientError> {
        self.dialer.open_another(credentials).await
    }

    /// The server's limits, credit and times.
    pub fn terms(&self) -> &WelcomeFields {
        &self.link.terms
    }

    /// Where the endpoint is at home, for [`Options::home`] of the next time.
    pub fn home(&self) -> Home {
        home_of(self.terms())
    }

    /// Full names of the channels this endpoint may send to, or hears.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|terms| terms.name.as_str())
    }

    /// Use the session for sending.
    ///
    /// # Errors
    /// `FB-5109` when the credential is for receiving. Needs a tokio runtime.
    pub fn sender(self) -> Result<Sender, ClientError> {
        self.expect(Direction::Ingress)?;
        Ok(Sender::start(self))
    }

    /// Use the session for sending in datagrams, where what is lost on its way is not sent again.
    ///
    /// # Errors
    /// `FB-5109` when the credential is for receiving, `FB-5108` when the transport is not QUIC or the server takes no datagrams. Needs a
    /// tokio runtime.
    #[cfg(feature = "quic")]
    pub fn datagrams(self) -> Result<Datagrams, ClientError> {
        self.expect(Direction::Ingress)?;
        Datagrams::start(self)
    }

    /// Use the session for receiving from the endpoint's queue, or its dead letters.
    ///
    /// # Errors
    /// `FB-5109` when the credential is for sending. Needs a tokio runtime.
    pub fn receiver(self, options: FetchOptions) -> Result<Receiver, ClientError> {
        self.expect(Direction::Egress)?;
        Ok(Receiver::start(self, options))
    }

    fn expect(&self, needed: Direction) -> Result<(), ClientError> {
        let seen = self.link.terms.direction;
        let name = |direction| match direction {
            Direction::Ingress => "an ingress credential",
            Direction::Egress => "an egress credential",
        };
        match seen == needed {
            true => Ok(()),
            false => Err(ClientError::Direction {
                seen: name(seen),
                needed: name(needed),
            }),
        }
    }
}

/// Opens connections for one session.
#[derive(Debug)]
pub(crate) struct Dialer {
    reach: Reach,
    credentials: Credentials,
    pub(crate) options: Options,
    resume: Option<Resume>,
}

impl Dialer {
    async fn open_another(&self, credentials: Credentials) -> Result<Connection, ClientError> {
        let reach = self.reach.another(&self.options.transport)?;
        // Where another endpoint is at home is another matter.
        let options = Options {
            home: None,
            ..self.options.clone()
        };
        open(reach, credentials, options).await
    }

    /// Try once, and once more if that arrived at another shard than the endpoint's and the transport can choose: the frames
    /// of a long connection shall not all cross shards.
    async fn dial(&mut self) -> Result<(Link, Vec<ChannelTerms>), ClientError> {
        let opened = match self.dial_somewhere().await {
            Err(ClientError::Refused(notice)) if self.reach.sent_home(&notice) => {
                self.dial_somewhere().await?
            }
            other => other?,
        };
        let (stream, home) = (&opened.0.stream, home_of(&opened.0.terms));
        if !self.reach.learn(stream, home) {
            return Ok(opened);
        }
        // A session does not move between shards: this one ends and another is opened at home.
        let _ = tokio::time::timeout(BYE_TIMEOUT, opened.0.bye()).await;
        self.resume = None;
        self.dial_somewhere().await
    }

    /// Try once, resuming the session if there is one; a session the server no longer knows is opened anew.
    async fn dial_somewhere(&mut self) -> Result<(Link, Vec<ChannelTerms>), ClientError> {
        let timeout = self.options.handshake_timeout;
        let attempt = tokio::time::timeout(timeout, self.attempt()).await;
        let timed_out = || ClientError::NoAnswer(format!("nothing for {timeout:?}"));
        let opened = match attempt.unwrap_or_else(|_| Err(timed_out())) {
            Err(ClientError::Refused(notice))
                if self.resume.is_some() && forgotten(notice.reason) =>
            {
                self.resume = None;
                tokio::time::timeout(timeout, self.attempt())
                    .await
                    .unwrap_or_else(|_| Err(timed_out()))?
            }
            other => other?,
        };
        self.resume = Some(opened.0.seal.resume());
        Ok(opened)
    }

    /// Try until it works, the fault is one that time does not mend, or `reconnect_for` is over.
    pub(crate) async fn redial(&mut self) -> Result<(Link, Vec<ChannelTerms>), ClientError> {
        let deadline = Instant::now() + self.options.reconnect_for;
        let mut pause = BACKOFF_MIN;
        loop {
            self.reach.give_up_last().await;
            match self.dial().await {
                Err(error) if error.is_passing() && Instant::now() + pause < deadline => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
                other => return other,
            }
        }
    }

    async fn attempt(&mut self) -> Result<(Link, Vec<ChannelTerms>), ClientError> {
        let mut stream = self.reach.connect().await?;
        let lost = |error: std::io::Error| transport::lost(&self.reach.addr, &error);
        let (opening, flight) = Opening::begin(
            &self.credentials,
            self.resume.as_ref(),
            nonce()?,
            unix_seconds(),
            stream.exporter(),
        )?;
        stream.write_all(&flight).await.map_err(lost)?;
        let mut input = Vec::with_capacity(READ_BYTES);
        loop {
            if let Some((opened, taken)) = opening.read(&input)? {
                let Opened {
                    terms,
                    channels,
                    seal,
                } = opened;
                let link = Link {
                    stream,
                    terms,
                    seal,
                    input,
                    taken,
                    output: Vec::new(),
                    written: 0,
                    heard: Instant::now(),
                    spoke: Instant::now(),
                };
                return Ok((link, channels));
            }
            if stream.read_buf(&mut input).await.map_err(lost)? == 0 {
                return Err(ClientError::Lost("end of stream".to_owned()));
            }
        }
    }
}

fn home_of(terms: &WelcomeFields) -> Home {
    Home {
        shard: terms.home_shard,
        shards: terms.shards,
    }
}

/// Whether the server no longer knows the session that was to be resumed.
fn forgotten(reason: Reason) -> bool {
    matches!(reason, Reason::SessionUnknown | Reason::BadCredential)
}

fn nonce() -> Result<[u8; 32], ClientError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)
        .map_err(|error| ClientError::Lost(format!("no random bytes: {error}")))?;
    Ok(nonce)
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// One live connection after its handshake.
#[derive(Debug)]
pub(crate) struct Link {
    stream: Stream,
    pub(crate) terms: WelcomeFields,
    pub(crate) seal: Seal,
    input: Vec<u8>,
    taken: usize,
    pub(crate) output: Vec<u8>,
    written: usize,
    heard: Instant,
    spoke: Instant,
}

impl Link {
    /// The way beside it, if it is a lane of QUIC.
    #[cfg(feature = "quic")]
    pub(crate) fn beside(&self) -> Option<transport::quic::Beside> {
        self.stream.beside()
    }

    /// Wait until something can be read, or written if there is something to write.
    pub(crate) async fn ready(&mut self) {
        self.stream.ready(true, &self.output[self.written..]).await;
    }

    /// Write and read what goes without waiting.
    pub(crate) fn exchange(&mut self) -> std::io::Result<()> {
        self.write()?;
        self.read()
    }

    fn write(&mut self) -> std::io::Result<()> {
        while self.written < self.output.len() {
            match self.stream.try_write(&self.output[self.written..]) {
                Ok(bytes) => {
                    self.written += bytes;
                    self.spoke = Instant::now();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        match self.stream.try_flush() {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            flushed => flushed,
        }
    }

    fn read(&mut self) -> std::io::Result<()> {
        self.input.drain(..self.taken);
        self.taken = 0;
        while self.input.len() < FRAME_BYTES_MAX {
            self.input.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => self.heard = Instant::now(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hand every whole frame to `take`, its signature checked.
    pub(crate) fn frames(
        &mut self,
        mut take: impl FnMut(Frame<'_>) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let broken = |error: wire::ParseError| ClientError::Protocol(error.to_string());
        while let Some((frame, rest)) = split(&self.input[self.taken..]).map_err(broken)? {
            self.taken = self.input.len() - rest.len();
            if !self.seal.check(&frame) {
                return Err(ClientError::ServerSignature);
            }
            match frame.kind() {
                FrameKind::Pong => {}
                FrameKind::Goaway => return Err(refusal(frame).map_err(broken)?),
                _ => take(frame)?,
            }
        }
        Ok(())
    }

    /// When this side has to show life next.
    pub(crate) fn quiet_until(&self) -> Instant {
        self.spoke + self.idle() / 3
    }

    /// Show life when it is due; an error when the server has shown none for too long.
    pub(crate) fn keep_alive(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        if now.duration_since(self.heard) > self.idle() {
            return Err(ClientError::NoAnswer(format!(
                "nothing for {:?}",
                self.idle()
            )));
        }
        if now.duration_since(self.spoke) >= self.idle() / 3 {
            encode_ping(&mut self.output, Sequence(1), self.seal.signer());
            self.spoke = now;
        }
        Ok(())
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(u64::from(self.terms.idle_timeout_ms)).max(Duration::from_millis(300))
    }

    /// Say BYE and end the connection, whatever the server still sends.
    pub(crate) async fn bye(mut self) {
        let notice = Notice {
            reason: Reason::PeerBye,
            retry_after_ms: 0,
            seen: 0,
            needed: 0,
        };
        encode_bye(&mut self.output, notice, self.seal.signer());
        let rest = self.output.split_off(self.written);
        // The session lingers and is forgotten by itself if this does not arrive.
        let _ = self.stream.write_all(&rest).await;
        let _ = self.stream.shutdown().await;
        // The server's end of stream tells that it has taken everything.
        self.input.clear();
        while matches!(self.stream.read_buf(&mut self.input).await, Ok(bytes) if bytes > 0) {
            self.input.clear();
        }
    }
}
