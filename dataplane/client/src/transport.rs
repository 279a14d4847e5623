//! What carries a connection's bytes: plain TCP, or a tunnel, which is TLS over TCP or a stream of QUIC. To the rest of this crate they are all the same:
//! bytes in, bytes out, and in a tunnel the exporter value that binds the session to it.

#[cfg(feature = "quic")]
pub mod quic;
mod tunnel;

use crate::diagnosis::ClientError;
use std::fmt;
use std::io::{self, ErrorKind};
use tls::{Certificate, Fingerprint, Trust, TrustFault};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tunnel::Tunnelled;
use wire::reason::{Notice, Reason};
use zeroize::Zeroizing;

/// How to reach the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Transport {
    /// Plain TCP: everybody on the way can read it.
    #[default]
    Tcp,
    /// TLS over TCP.
    Tls(Security),
    /// QUIC over UDP.
    #[cfg(feature = "quic")]
    Quic(Security),
}

impl Transport {
    /// Its name in reports and options: `tcp`, `tls` or `quic`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls(_) => "tls",
            #[cfg(feature = "quic")]
            Self::Quic(_) => "quic",
        }
    }
}

/// Whom to trust, and who to be, in a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// Whose certificates are taken.
    pub trust: Trust,
    /// The name or address that the server's certificate must be for; the host of the node's address if it is `None`.
    pub server_name: Option<String>,
    /// The certificate that is shown to a server which asks for one.
    pub identity: Option<Identity>,
}

/// A certificate of the client's own, and its key. `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Identity {
    /// Of the PEM texts of a chain, its own certificate first, and of a private key.
    pub fn new(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self {
            certificate: certificate.into(),
            key: Zeroizing::new(key.into()),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Identity({} bytes of PEM)", self.certificate.len())
    }
}

impl Default for Security {
    /// Trusts the roots of this machine.
    fn default() -> Self {
        Self {
            trust: Trust::System,
            server_name: None,
            identity: None,
        }
    }
}

impl Security {
    /// Trust nobody but the authorities of this PEM text.
    pub fn authority(pem: impl Into<Vec<u8>>) -> Self {
        Self {
            trust: Trust::Roots(pem.into()),
            ..Self::default()
        }
    }

    /// Trust nothing but the certificate with this fingerprint, whatever names it has.
    pub fn pinned(fingerprint: Fingerprint) -> Self {
        Self {
            trust: Trust::Pin(fingerprint),
            ..Self::default()
        }
    }

    /// What makes tunnels to the node at `addr`, `HOST:PORT`. Keep it: it holds the tickets that make the next tunnels cheaper.
    ///
    /// # Errors
    /// `FB-5113` when there is nobody to trust, or the name is none.
    pub fn tunnels(&self, addr: &str) -> Result<tls::Client, ClientError> {
        let name = self.server_name.as_deref().unwrap_or_else(|| host(addr));
        let own = self.identity.as_ref();
        let own = own.map(|own| Certificate::from_pem(&own.certificate, &own.key));
        let own = own.transpose().map_err(|fault| ClientError::Trust {
            what: "the client's certificate",
            seen: fault.to_string(),
            needed: "a certificate and its key in PEM",
        })?;
        let client = tls::Client::showing(&self.trust, name, own.as_ref());
        client.map_err(|fault| untrusting(&fault))
    }
}

/// The host of `HOST:PORT` or `[HOST]:PORT`.
fn host(addr: &str) -> &str {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

fn untrusting(fault: &TrustFault) -> ClientError {
    let (what, needed) = match fault {
        TrustFault::Roots(_) => ("trusted authorities", "certificates in PEM"),
        TrustFault::NoSystemRoots(_) => (
            "trust",
            "an authority, a pinned fingerprint, or roots of this machine",
        ),
        TrustFault::Name(_) => ("server name", "a host name or an address"),
        TrustFault::Tls(_) => ("trusted authorities", "certificates that can be roots"),
    };
    ClientError::Trust {
        what,
        seen: fault.to_string(),
        needed,
    }
}

/// Lanes that are opened on one QUIC connection; servers allow more, and what is more would wait for them.
#[cfg(feature = "quic")]
const LANES_MAX: usize = 32;
/// Shards that one byte can name.
const SHARDS_MAX: u16 = 256;

/// The shard where an endpoint is at home, and of how many, as WELCOME says. A connection that can choose arrives there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    /// Its number.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
}

impl Home {
    /// The home that a refusal names, if it is for having arrived elsewhere.
    pub fn named_by(notice: &Notice) -> Option<Self> {
        let home = Self {
            shard: u16::try_from(notice.needed).ok()?,
            shards: u16::try_from(notice.seen).ok()?,
        };
        let elsewhere = notice.reason == Reason::AnotherShard && home.shard < home.shards;
        elsewhere.then_some(home)
    }

    /// Whether a connection whose first ID began with this byte arrived there.
    pub fn is_met_by(self, byte: u8) -> bool {
        self.shards == 0 || u16::from(byte) % self.shards == self.shard
    }

    /// Of all bytes that name the shard, the one that a random byte chooses.
    pub fn byte(self, random: u8) -> u8 {
        let shards = self.shards.clamp(1, SHARDS_MAX);
        let shard = self.shard % shards;
        let bytes = (SHARDS_MAX - shard).div_ceil(shards);
        (shard + shards * (u16::from(random) % bytes)) as u8
    }
}

/// One node and how it is reached. What one connection learned for the next ones is kept here.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(crate) addr: String,
    how: How,
}

#[derive(Debug)]
enum How {
    Tcp,
    Tls(tls::Client),
    #[cfg(feature = "quic")]
    Quic(Box<quic::Quic>),
}

impl Reach {
    /// # Errors
    /// `FB-5113`, see [`Security::tunnels`].
    pub(crate) fn new(addr: String, transport: &Transport) -> Result<Self, ClientError> {
        let how = match transport {
            Transport::Tcp => How::Tcp,
            Transport::Tls(security) => How::Tls(security.tunnels(&addr)?),
            #[cfg(feature = "quic")]
            Transport::Quic(security) => {
                let mut quic = quic::Quic::new(&addr, security)?;
                quic.share(LANES_MAX);
                How::Quic(Box::new(quic))
            }
        };
        Ok(Self { addr, how })
    }

    /// The way to the same node for another endpoint: over QUIC on the same connections.
    ///
    /// # Errors
    /// As [`Reach::new`].
    pub(crate) fn another(&self, transport: &Transport) -> Result<Self, ClientError> {
        match &self.how {
            #[cfg(feature = "quic")]
            How::Quic(quic) => Ok(Self {
                addr: self.addr.clone(),
                how: How::Quic(Box::new(quic.another())),
            }),
            _ => Self::new(self.addr.clone(), transport),
        }
    }

    /// The last connection was lost, or did not answer: the next one is another. Whether others had been there before it on that one.
    pub(crate) async fn give_up_last(&mut self) -> bool {
        match &mut self.how {
            #[cfg(feature = "quic")]
            How::Quic(quic) => quic.forget_last().await,
            _ => false,
        }
    }

    /// Connect; in a tunnel its handshake is done then, and the server is who it should be.
    pub(crate) async fn connect(&mut self) -> Result<Stream, ClientError> {
        match &mut self.how {
            How::Tcp => Ok(Stream::Tcp(socket(&self.addr).await?)),
            How::Tls(client) => {
                let socket = socket(&self.addr).await?;
                let tunnelled = Tunnelled::connect(socket, client, &self.addr).await?;
                Ok(Stream::Tls(Box::new(tunnelled)))
            }
            #[cfg(feature = "quic")]
            How::Quic(quic) => {
                let lane = lane(quic, &self.addr).await?;
                Ok(Stream::Quic(Box::new(lane)))
            }
        }
    }

    /// Learn from a refusal where the endpoint is at home, if that is what it says.
    pub(crate) fn sent_home(&mut self, notice: &Notice) -> bool {
        Home::named_by(notice).is_some_and(|home| self.aim(home))
    }

    /// Arrive there from now on. False when the transport cannot choose.
    pub(crate) fn aim(&mut self, home: Home) -> bool {
        match (&mut self.how, home) {
            #[cfg(feature = "quic")]
            (How::Quic(quic), home) => {
                quic.set_home(Some(home));
                true
            }
            _ => false,
        }
    }

    /// Learn from WELCOME where the endpoint is at home. True when this connection arrived elsewhere and another one
    /// would arrive there.
    pub(crate) fn learn(&mut self, arrived: &Stream, home: Home) -> bool {
        match arrived {
            #[cfg(feature = "quic")]
            Stream::Quic(lane) => self.aim(home) && !home.is_met_by(lane.arrived_by()),
            _ => self.aim(home),
        }
    }
}

fn unconnected(addr: &str, error: &io::Error) -> ClientError {
    ClientError::Connect {
        addr: addr.to_owned(),
        error: error.to_string(),
    }
}

async fn socket(addr: &str) -> Result<TcpStream, ClientError> {
    let failed = |error: io::Error| unconnected(addr, &error);
    let stream = TcpStream::connect(addr).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// One to the first address of the node that answers.
#[cfg(feature = "quic")]
async fn lane(quic: &mut quic::Quic, addr: &str) -> Result<quic::Lane, ClientError> {
    let found = tokio::net::lookup_host(addr).await;
    let mut fault = unconnected(addr, &ErrorKind::NotFound.into());
    for each in found.map_err(|error| unconnected(addr, &error))? {
        match quic.connect(each).await {
            Err(error) if error.is_passing() => fault = error,
            done => return done,
        }
    }
    Err(fault)
}

/// The bytes of one connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Tls(Box<Tunnelled>),
    #[cfg(feature = "quic")]
    Quic(Box<quic::Lane>),
}

/// What it means to a client that a stream fails before WELCOME: a server may refuse a tunnel after it stands.
pub fn lost(addr: &str, error: &io::Error) -> ClientError {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(broken) => tunnel::refused(addr, broken),
        None => ClientError::Lost(error.to_string()),
    }
}

impl Stream {
    /// The way beside a lane of QUIC.
    #[cfg(feature = "quic")]
    pub(crate) fn beside(&self) -> Option<quic::Beside> {
        match self {
            Self::Quic(lane) => Some(lane.beside()),
            _ => None,
        }
    }

    /// The tunnel's exporter value.
    pub(crate) fn exporter(&self) -> Option<&[u8; tls::EXPORTER_BYTES]> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(tunnelled) => Some(tunnelled.exporter()),
            #[cfg(feature = "quic")]
            Self::Quic(lane) => Some(lane.exporter()),
        }
    }

    /// Wait until `unsent` can be written, if it is not empty, or something can be read, if that is of interest.
    pub(crate) async fn ready(&mut self, read: bool, unsent: &[u8]) {
        let (stream, unsent) = match self {
            Self::Tcp(stream) => (&*stream, !unsent.is_empty()),
            Self::Tls(tunnelled) => (
                tunnelled.socket(),
                !unsent.is_empty() || tunnelled.has_unsent(),
            ),
            #[cfg(feature = "quic")]
            Self::Quic(lane) => return lane.ready(read, unsent).await,
        };
        let interest = match (read, unsent) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (_, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
        };
        // An error shows again, with its cause, in the read that follows.
        let _ = stream.ready(interest).await;
    }

    /// Write what goes without waiting. The same bytes must be given again until they are taken.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Tls(tunnelled) => tunnelled.try_write(bytes),
            #[cfg(feature = "quic")]
            Self::Quic(lane) => lane.try_write(bytes),
        }
    }

    /// Pass on what was taken and is still here, or `WouldBlock`.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Tls(tunnelled) => tunnelled.try_flush(),
            #[cfg(feature = "quic")]
            Self::Quic(_) => Ok(()),
        }
    }

    /// Read what is there without waiting; 0 at the end.
    pub(crate) fn try_read_buf(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(bytes),
            Self::Tls(tunnelled) => tunnelled.try_read_buf(bytes),
            #[cfg(feature = "quic")]
            Self::Quic(lane) => lane.try_read_buf(bytes),
        }
    }

    /// Write all of it and pass it on.
    pub(crate) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let written = match bytes.is_empty() {
                true => self.try_flush().map(|()| 0),
                false => self.try_write(bytes),
            };
            match written {
                Ok(0) if bytes.is_empty() => return Ok(()),
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready(false, bytes).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Wait for something to read and add it; 0 at the end.
    pub(crate) async fn read_buf(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            match self.try_read_buf(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready(true, &[]).await,
                done => return done,
            }
        }
    }

    /// Say that nothing more will be written.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        if let Self::Tls(tunnelled) = self {
            tunnelled.finish();
        }
        self.write_all(&[]).await?;
        match self {
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Tls(tunnelled) => tunnelled.shutdown().await,
            #[cfg(feature = "quic")]
            Self::Quic(lane) => lane.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_server_is_the_host_of_its_address_unless_another_is_given() {
        for (addr, want) in [
            ("node.example:7413", "node.example"),
            ("127.0.0.1:7413", "127.0.0.1"),
            ("[::1]:7413", "::1"),
            ("node.example", "node.example"),
        ] {
            assert_eq!(host(addr), want, "{addr}");
        }
    }

    #[test]
    fn who_trusts_nobody_makes_no_tunnel() {
        for (why, security) in [
            ("no certificate", Security::authority("")),
            (
                "a text that is none",
                Security::authority(
                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                ),
            ),
            (
                "a certificate of its own that is none",
                Security {
                    identity: Some(Identity::new("", "")),
                    ..Security::pinned(Fingerprint([0; 32]))
                },
            ),
            (
                "no name",
                Security {
                    server_name: Some("a name".to_owned()),
                    ..Security::pinned(Fingerprint([0; 32]))
                },
            ),
        ] {
            let error = security.tunnels("127.0.0.1:1").expect_err(why);
            assert!(error.to_string().starts_with("FB-5113"), "{why}: {error}");
        }
    }

    #[test]
    fn every_byte_that_an_home_chooses_names_its_shard_and_all_that_do_are_chosen() {
        for shards in [1, 2, 3, 4, 7, 16, 255, 256] {
            for shard in [0, shards / 2, shards - 1] {
                let home = Home { shard, shards };
                let mut bytes: Vec<u8> = (0..=255).map(|random| home.byte(random)).collect();
                assert!(bytes.iter().all(|byte| home.is_met_by(*byte)), "{home:?}");
                bytes.sort_unstable();
                bytes.dedup();
                let all = (0..=255).filter(|byte| home.is_met_by(*byte)).count();
                assert_eq!(bytes.len(), all, "{home:?}");
            }
        }
    }
}
