//! Opening the sessions of a run, before its clock starts: blocking, one after the other, over any transport.

use crate::diagnosis;
use crate::socket::Socket;
use client::handshake::{Opened, Opening};
use client::transport::quic::Quic;
use client::transport::{self, Home};
use client::{ClientError, Credentials, Transport};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::{Builder, Runtime};
use wire::diagnosis::Diagnosis;
use wire::link::encode_bye;
use wire::reason::{Notice, Reason};

const TIMEOUT: Duration = Duration::from_secs(10);

/// An open session and its connection.
#[derive(Debug)]
pub(crate) struct Dialled {
    /// The connection.
    pub(crate) socket: Socket,
    /// Terms, channels and keys.
    pub(crate) opened: Opened,
    /// What the server sent behind its WELCOME.
    pub(crate) rest: Vec<u8>,
}

impl Dialled {
    /// Say BYE: a session that is left in silence would linger.
    pub(crate) fn leave(mut self, timeout: Duration) {
        let mut bytes = Vec::new();
        let notice = Notice::new(Reason::PeerBye, 0, 0);
        encode_bye(&mut bytes, notice, self.opened.seal.signer());
        // The server may have ended it already, which is what was wanted.
        let _ = self.socket.write_all(&bytes, timeout);
    }
}

/// Opens sessions for one thread of a run. Connections of QUIC live on its runtime, which only moves while somebody waits on it.
#[derive(Debug)]
pub(crate) struct Dialler {
    addr: SocketAddr,
    how: How,
    /// Where endpoints are at home, by name and key: who comes again arrives there at once.
    homes: HashMap<(String, u32), Home>,
}

#[derive(Debug)]
enum How {
    Tcp,
    Tls(tls::Client),
    Quic(Box<Quic>, Arc<Runtime>),
}

impl Dialler {
    /// For the node at `addr`.
    ///
    /// # Errors
    /// `FB-5113` when there is nobody to trust.
    pub(crate) fn new(addr: SocketAddr, transport: &Transport) -> Result<Self, Diagnosis> {
        let named = addr.to_string();
        let failed = |error: ClientError| error.diagnosis();
        let how = match transport {
            Transport::Tcp => How::Tcp,
            Transport::Tls(security) => How::Tls(security.tunnels(&named).map_err(failed)?),
            Transport::Quic(security) => {
                let runtime = Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| diagnosis::thread(&error))?;
                let quic = Quic::new(&named, security).map_err(failed)?;
                How::Quic(Box::new(quic), Arc::new(runtime))
            }
        };
        let homes = HashMap::new();
        Ok(Self { addr, how, homes })
    }

    /// From now on so many sessions share a connection, where connections have lanes.
    pub(crate) fn share(&mut self, lanes: u32) {
        if let How::Quic(quic, _) = &mut self.how
            && lanes > 1
        {
            quic.share(lanes as usize);
        }
    }

    /// Connect, prove `endpoint`, and wait for WELCOME.
    ///
    /// # Errors
    /// The client's diagnosis: 51xx, or the server's reason.
    pub(crate) fn dial(
        &mut self,
        endpoint: &str,
        key_id: u32,
        key: &str,
    ) -> Result<Dialled, Diagnosis> {
        self.dial_within((endpoint, key_id, key), TIMEOUT)
    }

    /// The same, with at most so long a wait for each step.
    ///
    /// # Errors
    /// As `dial`.
    pub(crate) fn dial_within(
        &mut self,
        (endpoint, key_id, key): (&str, u32, &str),
        timeout: Duration,
    ) -> Result<Dialled, Diagnosis> {
        let credentials = Credentials::key(endpoint, key_id, key);
        let known = self.homes.get(&(endpoint.to_owned(), key_id)).copied();
        let opened =
            credentials.and_then(|credentials| self.open_at_home(&credentials, known, timeout));
        let dialled = opened.map_err(|error| error.diagnosis())?;
        if matches!(self.how, How::Quic(..)) {
            let home = home_of(&dialled);
            self.homes.insert((endpoint.to_owned(), key_id), home);
        }
        Ok(dialled)
    }

    /// Open a session. Over QUIC, one that arrived at another shard than its endpoint's ends at once, and another is opened at home.
    fn open_at_home(
        &mut self,
        credentials: &Credentials,
        known: Option<Home>,
        timeout: Duration,
    ) -> Result<Dialled, ClientError> {
        let dialled = match self.open(credentials, known, timeout) {
            Err(ClientError::Refused(notice)) => {
                let home = Home::named_by(&notice).ok_or(ClientError::Refused(notice))?;
                return self.open(credentials, Some(home), timeout);
            }
            other => other?,
        };
        let home = home_of(&dialled);
        match &dialled.socket {
            Socket::Quic(lane, _) if !home.is_met_by(lane.arrived_by()) => {
                dialled.leave(timeout);
                self.open(credentials, Some(home), timeout)
            }
            _ => Ok(dialled),
        }
    }

    fn open(
        &mut self,
        credentials: &Credentials,
        home: Option<Home>,
        timeout: Duration,
    ) -> Result<Dialled, ClientError> {
        let addr = self.addr.to_string();
        let lost = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                ClientError::NoAnswer(format!("nothing for {timeout:?}"))
            }
            _ => transport::lost(&addr, &error),
        };
        let mut socket = self.connect(home, timeout)?;
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| ClientError::Lost(error.to_string()))?;
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let exporter = socket.exporter();
        let (opening, flight) =
            Opening::begin(credentials, None, nonce, seconds, exporter.as_ref())?;
        socket.write_all(&flight, timeout).map_err(lost)?;
        let mut input = Vec::new();
        loop {
            if let Some((opened, taken)) = opening.read(&input)? {
                return Ok(Dialled {
                    socket,
                    opened,
                    rest: input.split_off(taken),
                });
            }
            if socket.read(&mut input, timeout).map_err(lost)? == 0 {
                return Err(ClientError::Lost("end of stream".to_owned()));
            }
        }
    }

    fn connect(&mut self, home: Option<Home>, timeout: Duration) -> Result<Socket, ClientError> {
        let addr = self.addr;
        match &mut self.how {
            How::Tcp => Ok(Socket::Tcp(stream(addr, timeout)?)),
            How::Tls(client) => {
                let named = addr.to_string();
                let tunnel = client.tunnel();
                let tunnel = tunnel.map_err(|error| ClientError::Lost(error.to_string()))?;
                let stream = stream(addr, timeout)?;
                Socket::tunnel(stream, tunnel).map_err(|error| transport::lost(&named, &error))
            }
            How::Quic(quic, runtime) => {
                quic.set_home(home);
                let lane = runtime
                    .block_on(async { tokio::time::timeout(timeout, quic.connect(addr)).await });
                let nothing = |_| ClientError::NoAnswer(format!("nothing for {timeout:?}"));
                let lane = lane.map_err(nothing)??;
                Ok(Socket::Quic(Box::new(lane), Arc::clone(runtime)))
            }
        }
    }
}

/// Where its endpoint is at home.
fn home_of(dialled: &Dialled) -> Home {
    Home {
        shard: dialled.opened.terms.home_shard,
        shards: dialled.opened.terms.shards,
    }
}

fn stream(addr: SocketAddr, timeout: Duration) -> Result<TcpStream, ClientError> {
    let failed = |error: std::io::Error| ClientError::Connect {
        addr: addr.to_string(),
        error: error.to_string(),
    };
    let stream = TcpStream::connect_timeout(&addr, timeout).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    Ok(stream)
}

/// A random number that names one run.
///
/// # Errors
/// When the system gives no random bytes.
pub(crate) fn run_id() -> Result<u64, Diagnosis> {
    getrandom::u64().map_err(|error| diagnosis::plan("random bytes", error, "a working getrandom"))
}
