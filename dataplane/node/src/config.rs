//! The `[node]` table of the configuration file: read strictly, overridden by the environment, checked once.
//!
//! What comes out is a [`NodeConfig`] of plain numbers and addresses; after start-up nothing else of the configuration travels. Where
//! each value came from is kept for `forebay config show`. This room reads text and a list of variables; it opens no file.

mod origin;
mod setting;
mod value;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use origin::{Effective, Origin};
pub use setting::{Kind, SETTINGS, Setting};

use crate::certificates::{Ask, CertificateFiles, ClientCertificates};
use crate::diagnosis::{Diagnosis, PLAIN_EXPOSED, SETTINGS_CONFLICT, diagnose};
use crate::placement::Shards;
use origin::Values;

/// How one node is set up. Made by [`NodeConfig::parse`] or [`NodeConfig::new`] only, so every value is within its bounds.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The folder that holds the logs.
    pub data: PathBuf,
    /// Where frames over TCP are accepted without encryption; nowhere without it. Port 0 lets the kernel choose.
    pub listen: Option<SocketAddr>,
    /// Where connections come in that begin with TLS; nowhere without it.
    pub listen_tls: Option<SocketAddr>,
    /// Where QUIC connections come in; nowhere without it.
    pub listen_quic: Option<SocketAddr>,
    /// The files of the certificate that this node shows, and of its key.
    pub tls: Option<CertificateFiles>,
    /// Whether clients are asked for certificates of their own.
    pub clients: ClientCertificates,
    /// Where metrics and probes are served.
    pub admin: SocketAddr,
    /// How many shards, or on which processors.
    pub shards: Shards,
    /// The processor the first shard is pinned to; `None` leaves it to the scheduler.
    pub cpu: Option<usize>,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Bounds of the sockets' ring.
    pub ring: RingConfig,
    /// Bounds of QUIC.
    pub quic: QuicConfig,
    /// Bounds of the shard's own state.
    pub shard: ShardConfig,
    /// Who is kept out for a while.
    pub bans: BansConfig,
    /// How long to wait for whom.
    pub timeouts: Timeouts,
    /// How files are treated.
    pub disk: DiskConfig,
    /// The shape of log lines.
    pub log_format: LogFormat,
    /// How long ago the table may have been the newest, when it comes from a control plane in another process.
    pub stale_after: Option<Duration>,
    /// Whether the node takes nothing beyond that.
    pub refuse_when_stale: bool,
    /// What this node is called in route tables, if anything; no setting, but what whoever starts the node knows.
    pub name: Option<Box<str>>,
    /// Take nothing from the start; no setting, but what whoever starts the node knows.
    pub suspended: bool,
    /// Take tables with hubs whose logs cannot be opened, and do without these hubs until they can; no setting, but what whoever
    /// starts the node knows: that nobody asks it before a table is what holds.
    pub takes_unopenable: bool,
    /// Frames without encryption may come from other machines.
    plain_anywhere: bool,
    effective: Vec<Effective>,
}

/// `[node.quic]`: bounds of QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuicConfig {
    /// Connections that may be open at once, and streams of all of them.
    pub connections_max: u32,
    /// Streams that one connection may have open at once.
    pub streams_max: u32,
    /// Handshakes that a shard begins in a second.
    pub handshakes_per_second: u32,
    /// Handshakes under way on a shard from which clients must prove their address.
    pub retry_above: u32,
}

/// `[node.ring]`: bounds of the sockets' ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingConfig {
    /// Submission queue entries.
    pub entries: u32,
    /// Receive buffers shared by all connections; a power of two.
    pub buffers: u16,
    /// Bytes of one receive buffer.
    pub buffer_bytes: u32,
    /// Connections that may be open at once.
    pub connections_max: u32,
    /// Bytes that may wait to be sent on one connection before it is closed as too slow.
    pub sends_bytes_max: u64,
}

/// `[node.shard]`: bounds of the shard's own state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardConfig {
    /// Sessions that may exist at once.
    pub sessions_max: u32,
    /// Connections whose peer has not proven who they are; one more, and the oldest makes room.
    pub strangers_max: u32,
    /// Connections of one address, or of one /64 of IPv6.
    pub connections_per_address_max: u32,
    /// Connections that may come in a second, and at once after a pause.
    pub accepts_per_second: u32,
    /// Whether this machine's own addresses have neither that bound nor bans.
    pub loopback_exempt: bool,
    /// PINGs of a connection that are answered in a second, and at once after a pause.
    pub pings_per_second: u32,
    /// Frames a session may have unacked.
    pub credit_frames: u32,
    /// Bytes a session may have unacked.
    pub credit_bytes: u32,
    /// Bytes of memory that a shard may use; `None`: what its other bounds add up to.
    pub memory_bytes: Option<u64>,
    /// Bytes put to one connection and not yet sent, above which nothing more is delivered to it.
    pub unsent_bytes_high: u64,
    /// Bytes put to all connections of a shard and not yet sent, above which one that has any is not delivered to.
    pub unsent_bytes_total: u64,
}

/// `[node.bans]`: who is kept out for a while, each shard by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BansConfig {
    /// The time in which the numbers below may come.
    pub window: Duration,
    /// Connections of one address, or of one /64 of IPv6.
    pub address_connections_max: u32,
    /// Handshakes of it that fail.
    pub address_failures_max: u32,
    /// Sessions that one key opens or resumes.
    pub key_sessions_max: u32,
    /// How long the first ban lasts; each soon after another lasts twice as long.
    pub first: Duration,
    /// How long one lasts at most.
    pub longest: Duration,
}

/// `[node.timeouts]`: how long to wait for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to a good HELLO.
    pub handshake: Duration,
    /// Silence after which a connection is closed.
    pub idle: Duration,
    /// How long bytes may wait for a peer that takes none of them.
    pub slow_receiver: Duration,
    /// How long a session outlives its connection.
    pub linger: Duration,
    /// How long a graceful stop may take.
    pub drain: Duration,
}

/// `[node.disk]`: how files are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskConfig {
    /// Bytes of one segment of a queue journal.
    pub journal_segment_bytes: u32,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `time level event key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

impl NodeConfig {
    /// Read the `[node]` table of `text` and lay the variables that begin with `FOREBAY_NODE_` over it.
    ///
    /// `env` may be the whole environment. The tables `[plan]`, `[control]`, `[link]` and `[client]` of the same file belong to others and are skipped;
    /// any further one is refused.
    ///
    /// # Errors
    /// A diagnosis of the range 20xx that names the line and the nearest known name.
    pub fn parse(
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Diagnosis> {
        let mut values = Values::defaults();
        origin::read_file(text, &mut values)?;
        origin::read_environment(env, &mut values)?;
        Self::assemble(&values)
    }

    /// The defaults, with this data folder, free ports on the loopback address and no pinning. Used by tests and `quickstart`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let mut values = Values::defaults();
        values.put_text("listen", "127.0.0.1:0");
        values.put_text("admin", "127.0.0.1:0");
        let mut config = Self::assemble(&values).expect("the defaults are within their own bounds");
        config.data = data.into();
        config
    }

    fn assemble(values: &Values) -> Result<Self, Diagnosis> {
        let config = Self {
            data: PathBuf::from(values.text("data")),
            listen: values.optional_address("listen"),
            listen_tls: values.optional_address("listen_tls"),
            listen_quic: values.optional_address("listen_quic"),
            tls: files(values)?,
            clients: ClientCertificates {
                ask: match values.text("tls.client_certificates") {
                    "required" => Ask::Required,
                    "asked" => Ask::Asked,
                    _ => Ask::Off,
                },
                authority: values.optional_text("tls.client_ca").map(PathBuf::from),
            },
            admin: values.address("admin"),
            shards: Shards::parse(values.text("shards")).expect("its text was checked"),
            cpu: values.optional_count("cpu").map(|cpu| cpu as usize),
            backlog: values.narrow("backlog"),
            ring: RingConfig {
                entries: values.narrow("ring.entries"),
                buffers: values.narrow("ring.buffers"),
                buffer_bytes: values.narrow("ring.buffer_bytes"),
                connections_max: values.narrow("ring.connections_max"),
                sends_bytes_max: values.count("ring.sends_bytes_max"),
            },
            quic: QuicConfig {
                connections_max: values.narrow("quic.connections_max"),
                streams_max: values.narrow("quic.streams_max"),
                handshakes_per_second: values.narrow("quic.handshakes_per_second"),
                retry_above: values.narrow("quic.retry_above"),
            },
            shard: ShardConfig {
                sessions_max: values.narrow("shard.sessions_max"),
                strangers_max: values.narrow("shard.strangers_max"),
                connections_per_address_max: values.narrow("shard.connections_per_address_max"),
                accepts_per_second: values.narrow("shard.accepts_per_second"),
                loopback_exempt: values.text("shard.loopback") == "exempt",
                pings_per_second: values.narrow("shard.pings_per_second"),
                credit_frames: values.narrow("shard.credit_frames"),
                credit_bytes: values.narrow("shard.credit_bytes"),
                memory_bytes: values.optional_count("shard.memory_bytes"),
                unsent_bytes_high: values.count("shard.unsent_bytes_high"),
                unsent_bytes_total: values.count("shard.unsent_bytes_total"),
            },
            bans: BansConfig {
                window: values.duration("bans.window"),
                address_connections_max: values.narrow("bans.address_connections_max"),
                address_failures_max: values.narrow("bans.address_failures_max"),
                key_sessions_max: values.narrow("bans.key_sessions_max"),
                first: values.duration("bans.first"),
                longest: values.duration("bans.longest"),
            },
            timeouts: Timeouts {
                handshake: values.duration("timeouts.handshake"),
                idle: values.duration("timeouts.idle"),
                slow_receiver: values.duration("timeouts.slow_receiver"),
                linger: values.duration("timeouts.linger"),
                drain: values.duration("timeouts.drain"),
            },
            disk: DiskConfig {
                journal_segment_bytes: values.narrow("disk.journal_segment_bytes"),
            },
            log_format: match values.text("log.format") {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
            stale_after: values.optional_duration("stale_after"),
            refuse_when_stale: values.text("when_stale") == "refuse",
            name: None,
            suspended: false,
            takes_unopenable: false,
            plain_anywhere: values.text("plain") == "anywhere",
            effective: values.effective(),
        };
        config.check()?;
        Ok(config)
    }

    /// What no single setting can show.
    fn check(&self) -> Result<(), Diagnosis> {
        self.check_ports()?;
        self.check_tunnels()?;
        if !self.admin.ip().is_loopback() {
            return Err(diagnose(
                SETTINGS_CONFLICT,
                "node.admin",
                self.admin.to_string(),
                "a loopback address, because the admin port asks nobody who they are",
                "use 127.0.0.1 and let a local agent forward the metrics",
            ));
        }
        let frame = wire::limits::FRAME_BYTES_MAX as u64;
        if u64::from(self.shard.credit_bytes) < frame {
            return Err(diagnose(
                SETTINGS_CONFLICT,
                "node.shard.credit_bytes",
                self.shard.credit_bytes.to_string(),
                format!("at least {frame}, the longest frame"),
                "raise it, or such a frame could never be sent",
            ));
        }
        Ok(())
    }

    /// One address, one listener.
    fn check_ports(&self) -> Result<(), Diagnosis> {
        let all = [
            ("node.listen", self.listen),
            ("node.listen_tls", self.listen_tls),
            ("node.admin", Some(self.admin)),
        ];
        for (at, (name, address)) in all.iter().enumerate() {
            let Some(address) = address.filter(|address| address.port() != 0) else {
                continue;
            };
            let before = all[..at].iter().find(|(_, other)| *other == Some(address));
            if let Some((other, _)) = before {
                return Err(diagnose(
                    SETTINGS_CONFLICT,
                    *name,
                    format!("{address}, the same as {other}"),
                    "another address or port",
                    format!("give {name} a port of its own"),
                ));
            }
        }
        Ok(())
    }

    /// A tunnel needs a certificate, a certificate somewhere to be shown, and who goes without says so.
    fn check_tunnels(&self) -> Result<(), Diagnosis> {
        let ways = [
            ("node.listen_tls", self.listen_tls),
            ("node.listen_quic", self.listen_quic),
        ];
        let mut ways = ways
            .into_iter()
            .filter_map(|(name, way)| way.map(|way| (name, way)));
        match (ways.next(), &self.tls) {
            (Some((name, address)), None) => Err(diagnose(
                SETTINGS_CONFLICT,
                name,
                format!("{address}, and no certificate"),
                "tls.certificate and tls.key",
                "name the files of both; `forebay cert dev` makes a pair for tests",
            )),
            (None, Some(files)) => Err(diagnose(
                SETTINGS_CONFLICT,
                "node.tls.certificate",
                format!("{}, and nothing that shows it", files.certificate.display()),
                "listen_tls or listen_quic",
                "set listen_tls to the address where TLS comes in, listen_quic to that of QUIC",
            )),
            _ => Ok(()),
        }?;
        self.check_clients()?;
        let plain = self.listen.filter(|plain| !plain.ip().is_loopback());
        if let Some(plain) = plain.filter(|_| !self.plain_anywhere) {
            return Err(diagnose(
                PLAIN_EXPOSED,
                "node.listen",
                format!("{plain}, which other machines reach without encryption"),
                "a loopback address, or plain = \"anywhere\"",
                "set listen_tls to this address and listen to 127.0.0.1, or say plain = \"anywhere\" if the network is trusted",
            ));
        }
        Ok(())
    }

    /// Whoever is asked for a certificate comes through a tunnel, and an authority judges only what is asked for.
    fn check_clients(&self) -> Result<(), Diagnosis> {
        if self
            .listen
            .or(self.listen_tls)
            .or(self.listen_quic)
            .is_none()
        {
            return Err(diagnose(
                SETTINGS_CONFLICT,
                "node.listen",
                "\"none\", and neither TLS nor QUIC",
                "an address where anybody comes in",
                "set listen_tls or listen_quic, or take listen out",
            ));
        }
        match (&self.clients.ask, &self.tls, &self.clients.authority) {
            (Ask::Asked | Ask::Required, None, _) => Err(diagnose(
                SETTINGS_CONFLICT,
                "node.tls.client_certificates",
                "clients to be asked, and neither TLS nor QUIC",
                "listen_tls or listen_quic, with tls.certificate and tls.key",
                "set them, or take client_certificates out",
            )),
            (Ask::Off, _, Some(authority)) => Err(diagnose(
                SETTINGS_CONFLICT,
                "node.tls.client_ca",
                format!("{}, and clients are not asked", authority.display()),
                "tls.client_certificates = \"asked\" or \"required\"",
                "set it, or take client_ca out",
            )),
            _ => Ok(()),
        }
    }

    /// Every setting with its value and where it came from, in the order of the file.
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// The configuration in force as TOML, one setting a line, its source behind it. Reading it again gives the same node.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let mut table = None;
        for setting in &self.effective {
            let (inside, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
            if table != Some(inside) {
                let dot = if inside.is_empty() { "" } else { "." };
                let gap = if table.is_some() { "\n" } else { "" };
                let _ = writeln!(out, "{gap}[node{dot}{inside}]");
                table = Some(inside);
            }
            let line = match &setting.value {
                Some(value) => format!("{name} = {value}"),
                None => format!("# {name} is not set"),
            };
            let _ = writeln!(out, "{line:<40} # {}", setting.origin);
        }
        out
    }
}

/// The files of the certificate and of its key: both or none.
fn files(values: &Values) -> Result<Option<CertificateFiles>, Diagnosis> {
    let (certificate, key) = ("tls.certificate", "tls.key");
    match (values.optional_text(certificate), values.optional_text(key)) {
        (Some(certificate), Some(key)) => Ok(Some(CertificateFiles {
            certificate: PathBuf::from(certificate),
            key: PathBuf::from(key),
        })),
        (None, None) => Ok(None),
        (there, _) => {
            let [given, missing] = match there {
                Some(_) => [certificate, key],
                None => [key, certificate],
            };
            Err(diagnose(
                SETTINGS_CONFLICT,
                format!("node.{given}"),
                format!("no {missing}"),
                "both or none",
                format!("set {missing} as well"),
            ))
        }
    }
}
