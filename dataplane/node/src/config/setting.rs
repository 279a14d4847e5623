//! The list of settings: key, kind, bounds, default and meaning of each. Everything that reads or shows settings goes by it.

/// What a setting's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// `ip:port`.
    Address,
    /// `ip:port`, or "none".
    AddressOrNone,
    /// A whole number within these bounds.
    Count(u64, u64),
    /// A power of two within these bounds.
    Power(u64, u64),
    /// Bytes within these bounds: a whole number, or text such as "64KiB".
    Bytes(u64, u64),
    /// Text such as "30s" or "250ms", within these bounds in milliseconds.
    Duration(u64, u64),
    /// `auto`, a number of shards, or a list of processors such as "0-3,6".
    Shards,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// One setting of the `[node]` table.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key below `node`, with dots: `ring.buffers`.
    pub key: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// Its value if nobody says otherwise, written as in the environment; `None` if it stays unset.
    pub default: Option<&'static str>,
    /// What it means, in one sentence.
    pub about: &'static str,
}

impl Setting {
    /// The environment variable that overrides it: `FOREBAY_NODE_RING_BUFFERS`.
    pub fn variable(&self) -> String {
        let key = self.key.replace('.', "_").to_ascii_uppercase();
        format!("{PREFIX}{key}")
    }
}

/// How every variable of ours begins.
pub(super) const PREFIX: &str = "FOREBAY_NODE_";

const fn setting(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting {
        key,
        kind,
        default: Some(default),
        about,
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;

/// Every setting of the `[node]` table, in the order of the file.
pub const SETTINGS: &[Setting] = &[
    setting(
        "data",
        Kind::Text,
        "forebay-data",
        "The folder that holds the logs.",
    ),
    setting(
        "listen",
        Kind::AddressOrNone,
        "127.0.0.1:7411",
        "Where frames over TCP are accepted, without encryption; \"none\": nowhere.",
    ),
    Setting {
        key: "listen_tls",
        kind: Kind::Address,
        default: None,
        about: "Where frames over TLS are accepted; needs tls.certificate and tls.key.",
    },
    Setting {
        key: "listen_quic",
        kind: Kind::Address,
        default: None,
        about: "Where frames over QUIC are accepted; needs tls.certificate and tls.key.",
    },
    setting(
        "plain",
        Kind::Choice(&["loopback", "anywhere"]),
        "loopback",
        "From where frames without encryption may come: this machine alone, or any other.",
    ),
    setting(
        "admin",
        Kind::Address,
        "127.0.0.1:7412",
        "Where metrics and probes are served; loopback only.",
    ),
    setting(
        "shards",
        Kind::Shards,
        "1",
        "How many shards this node runs, or on which processors.",
    ),
    Setting {
        key: "cpu",
        kind: Kind::Count(0, 1023),
        default: None,
        about: "The processor the shard is pinned to.",
    },
    setting(
        "backlog",
        Kind::Count(1, 65_535),
        "4096",
        "Connections that may wait to be accepted.",
    ),
    Setting {
        key: "stale_after",
        kind: Kind::Duration(100, 8760 * HOUR),
        default: None,
        about: "With [link]: how long ago the route table may have been the control plane's newest; unset: any time.",
    },
    setting(
        "when_stale",
        Kind::Choice(&["keep", "refuse"]),
        "keep",
        "What a node does beyond that: serve on and tell, or take nothing until it hears from the control plane.",
    ),
    setting(
        "ring.entries",
        Kind::Power(64, 32_768),
        "1024",
        "Submission queue entries of the ring.",
    ),
    setting(
        "ring.buffers",
        Kind::Power(16, 32_768),
        "256",
        "Receive buffers shared by all connections.",
    ),
    setting(
        "ring.buffer_bytes",
        Kind::Bytes(KIB, MIB),
        "64KiB",
        "Bytes of one receive buffer.",
    ),
    setting(
        "ring.connections_max",
        Kind::Count(1, 1 << 20),
        "16384",
        "Connections that may be open at once.",
    ),
    setting(
        "ring.sends_bytes_max",
        Kind::Bytes(2 * MIB, GIB),
        "16MiB",
        "Bytes that may wait on one connection.",
    ),
    setting(
        "quic.connections_max",
        Kind::Count(1, 1 << 20),
        "16384",
        "QUIC connections that may be open at once, and streams of all of them.",
    ),
    setting(
        "quic.streams_max",
        Kind::Count(1, 4096),
        "64",
        "Streams that one QUIC connection may have open at once.",
    ),
    setting(
        "quic.handshakes_per_second",
        Kind::Count(1, 1_000_000),
        "1000",
        "QUIC handshakes that a shard begins in a second; more are not answered, and clients ask again.",
    ),
    setting(
        "quic.retry_above",
        Kind::Count(0, 1 << 20),
        "64",
        "QUIC handshakes under way on a shard from which clients must prove their address first (Retry).",
    ),
    setting(
        "shard.sessions_max",
        Kind::Count(1, 1 << 20),
        "32768",
        "Sessions that may exist at once.",
    ),
    setting(
        "shard.strangers_max",
        Kind::Count(1, 1 << 20),
        "4096",
        "Connections whose peer has not proven who they are; the oldest makes room.",
    ),
    setting(
        "shard.connections_per_address_max",
        Kind::Count(1, 1 << 20),
        "4096",
        "Connections of one address, or of one /64 of IPv6.",
    ),
    setting(
        "shard.loopback",
        Kind::Choice(&["exempt", "counted"]),
        "exempt",
        "Whether this machine's own addresses have neither that bound nor bans.",
    ),
    setting(
        "shard.accepts_per_second",
        Kind::Count(1, 1_000_000),
        "20000",
        "Connections that a shard takes in a second, and at once after a pause.",
    ),
    setting(
        "shard.pings_per_second",
        Kind::Count(1, 1_000_000),
        "1000",
        "PINGs of a connection that are answered in a second, and at once after a pause.",
    ),
    setting(
        "shard.credit_frames",
        Kind::Count(1, 16_384),
        "1024",
        "Frames a session may have unacked.",
    ),
    setting(
        "shard.credit_bytes",
        Kind::Bytes(512 * KIB, GIB),
        "4MiB",
        "Bytes a session may have unacked.",
    ),
    Setting {
        key: "shard.memory_bytes",
        kind: Kind::Bytes(32 * MIB, 1024 * GIB),
        default: None,
        about: "Bytes of memory of a shard, above which it sheds work; unset: what its other bounds add up to.",
    },
    setting(
        "shard.unsent_bytes_high",
        Kind::Bytes(64 * KIB, 64 * MIB),
        "1MiB",
        "Bytes unsent on a connection above which it gets no more deliveries.",
    ),
    setting(
        "shard.unsent_bytes_total",
        Kind::Bytes(64 * MIB, 64 * GIB),
        "64MiB",
        "Bytes unsent on all connections of a shard above which one with any gets no more deliveries.",
    ),
    setting(
        "bans.window",
        Kind::Duration(100, HOUR),
        "10s",
        "The time in which so many connections, failures or sessions may come as the next three say.",
    ),
    setting(
        "bans.address_connections_max",
        Kind::Count(1, 1 << 30),
        "8192",
        "Connections of one address, or of one /64 of IPv6; more ban it for a while.",
    ),
    setting(
        "bans.address_failures_max",
        Kind::Count(1, 1 << 30),
        "256",
        "Handshakes of one address that fail; more ban it for a while.",
    ),
    setting(
        "bans.key_sessions_max",
        Kind::Count(1, 1 << 30),
        "200",
        "Sessions that one key opens or resumes; more ban it for a while.",
    ),
    setting(
        "bans.first",
        Kind::Duration(1, HOUR),
        "1s",
        "How long the first ban lasts; each one soon after another lasts twice as long.",
    ),
    setting(
        "bans.longest",
        Kind::Duration(1, 24 * HOUR),
        "300s",
        "How long a ban lasts at most.",
    ),
    Setting {
        key: "tls.certificate",
        kind: Kind::Text,
        default: None,
        about: "PEM file of the certificate that this node shows, followed by those that lead to its root.",
    },
    Setting {
        key: "tls.key",
        kind: Kind::Text,
        default: None,
        about: "PEM file of its private key.",
    },
    setting(
        "tls.client_certificates",
        Kind::Choice(&["off", "asked", "required"]),
        "off",
        "Whether clients over TLS and QUIC are asked for a certificate, and whether they may come without.",
    ),
    Setting {
        key: "tls.client_ca",
        kind: Kind::Text,
        default: None,
        about: "PEM file of the authorities that may sign clients' certificates; unset: any is taken, and known by its fingerprint.",
    },
    setting(
        "timeouts.handshake",
        Kind::Duration(100, 60 * SECOND),
        "10s",
        "From accept to a good HELLO.",
    ),
    setting(
        "timeouts.idle",
        Kind::Duration(SECOND, 24 * HOUR),
        "60s",
        "Silence, or a frame under way, after which a connection is closed.",
    ),
    setting(
        "timeouts.slow_receiver",
        Kind::Duration(100, HOUR),
        "30s",
        "How long bytes may wait for a peer that takes none of them.",
    ),
    setting(
        "timeouts.linger",
        Kind::Duration(1, HOUR),
        "120s",
        "How long a session outlives its connection.",
    ),
    setting(
        "timeouts.drain",
        Kind::Duration(100, HOUR),
        "10s",
        "How long a graceful stop may take.",
    ),
    setting(
        "disk.journal_segment_bytes",
        Kind::Bytes(64 * KIB, GIB),
        "16MiB",
        "Bytes of one segment of a queue journal.",
    ),
    setting(
        "log.format",
        Kind::Choice(&["text", "json"]),
        "text",
        "The shape of log lines.",
    ),
];

/// The setting with this key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The name of `known` nearest to `name`, if it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(steps, candidate)| *steps <= candidate.len().max(name.len()) / 2)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out or changed to get from `from` to `to`.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, other) in to.iter().enumerate() {
            let change = corner + usize::from(letter != *other);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[to.len()]
}
