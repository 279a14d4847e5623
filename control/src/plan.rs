//! The plan file: what the operator writes, as it is written.
//!
//! Names of endpoints, channels and hubs are full names, `account/environment/name`. Every value that can be
//! wrong by reference keeps its place in the file, so that a refusal can name the line. This module knows the
//! text form only; what it means is decided in `compile`.

use serde::Deserialize;
use toml::Spanned;

use crate::quantity::{Age, Bytes};

/// A whole plan file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Number of queue journals that endpoints' queues are spread over; fixed for the life of a data folder.
    #[serde(default)]
    pub queue_groups: Option<Spanned<i64>>,
    /// Accounts: who owns.
    #[serde(default)]
    pub accounts: Vec<AccountText>,
    /// Environments, `account/environment`.
    #[serde(default)]
    pub environments: Vec<Named>,
    /// Hubs; every environment has a hub `default` whether it is written or not.
    #[serde(default)]
    pub hubs: Vec<HubText>,
    /// Channels.
    #[serde(default)]
    pub channels: Vec<ChannelText>,
    /// Endpoints with their keys, grants and queues.
    #[serde(default)]
    pub endpoints: Vec<EndpointText>,
}

/// An account, and what all its endpoints together may send.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountText {
    /// Its name.
    pub name: Spanned<String>,
    /// Messages per second, from 1.
    pub messages_per_second: Option<Spanned<i64>>,
    /// Bytes of frames per second, from 1 KiB.
    pub bytes_per_second: Option<Spanned<Bytes>>,
}

/// An environment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its name.
    pub name: Spanned<String>,
}

/// A named set of partitions with one retention and durability setting.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubText {
    /// `account/environment/hub`.
    pub name: Spanned<String>,
    /// Explicit id, 0 to 65535, when the derived one collides.
    pub id: Option<Spanned<i64>>,
    /// Number of partitions, 4 unless given; fixed once the hub has data.
    pub partitions: Option<Spanned<i64>>,
    /// What an acknowledgement promises, `durable` unless given.
    pub ack: Option<AckText>,
    /// Bytes of one segment file, 64 MiB unless given.
    pub segment_bytes: Option<Spanned<Bytes>>,
    /// Keep at most this many bytes per partition.
    pub retention_bytes: Option<Spanned<Bytes>>,
    /// Keep messages at most this long.
    pub retention_age: Option<Age>,
}

/// `ack = "durable" | "local"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckText {
    /// After the sync: survives power loss on an intact disk.
    Durable,
    /// In the mapped log: survives a crash of the process.
    Local,
}

/// What a route leads to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelText {
    /// `account/environment/channel`.
    pub name: Spanned<String>,
    /// Explicit id when the derived one collides.
    pub id: Option<Spanned<i64>>,
    /// Hub of the same environment (last part of its name), `default` unless given.
    pub hub: Option<Spanned<String>>,
    /// What is refused first when memory is short, `normal` unless given.
    pub priority: Option<PriorityText>,
}

/// `priority = "normal" | "low"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PriorityText {
    /// Like any other.
    Normal,
    /// Refused before any of normal priority is.
    Low,
}

/// The guarded boundary of one outside party.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointText {
    /// `account/environment/endpoint`.
    pub name: Spanned<String>,
    /// Explicit id when the derived one collides.
    pub id: Option<Spanned<i64>>,
    /// False refuses every session; true unless given.
    pub enabled: Option<bool>,
    /// May relay envelopes of other endpoints; false unless given.
    pub relay: Option<bool>,
    /// Messages per second over all its channels, from 1.
    pub messages_per_second: Option<Spanned<i64>>,
    /// Bytes of frames per second over all its channels, from 1 KiB.
    pub bytes_per_second: Option<Spanned<Bytes>>,
    /// Credentials.
    #[serde(default)]
    pub keys: Vec<KeyText>,
    /// SHA-256 of certificates in hexadecimal, one of which it must show in its tunnel; none means it need not.
    #[serde(default)]
    pub certificates: Vec<Spanned<String>>,
    /// Permissions.
    #[serde(default)]
    pub grants: Vec<GrantText>,
    /// Bounds of the queue.
    pub queue: Option<QueueText>,
}

/// `direction = "ingress" | "egress"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectionText {
    /// Opens sessions that send.
    Ingress,
    /// Opens sessions that receive.
    Egress,
}

/// `kind = "hmac-sha256" | "ed25519"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KindText {
    /// A shared secret of 256 bits.
    HmacSha256,
    /// A public key; signs envelopes only.
    Ed25519,
}

/// One credential.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyText {
    /// Number of the key within its endpoint, from 1.
    pub id: Spanned<i64>,
    /// Name of the key within its endpoint; `skn` of a token.
    pub name: Spanned<String>,
    /// What the key opens.
    pub direction: DirectionText,
    /// Kind of key, `hmac-sha256` unless given.
    pub kind: Option<KindText>,
    /// Base64 of 32 random bytes, for `hmac-sha256`.
    pub secret: Option<Spanned<String>>,
    /// Base64 of the 32-byte public key, for `ed25519`.
    pub public: Option<Spanned<String>>,
    /// From this moment on the key is refused; a date and time with `Z` or an offset.
    pub expires: Option<Spanned<toml::value::Datetime>>,
    /// True refuses the key at once.
    pub revoked: Option<bool>,
}

impl std::fmt::Debug for KeyText {
    /// Names the key and keeps its secret out of every log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("KeyText")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// `allow = "send" | "receive"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AllowText {
    /// May send to the channel.
    Send,
    /// Hears the channel.
    Receive,
}

/// One permission and its restrictions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantText {
    /// Channel: full name, or the last part for a channel of the endpoint's own environment.
    pub channel: Spanned<String>,
    /// What is permitted.
    pub allow: AllowText,
    /// Peer address ranges (`10.0.0.0/8`, `::1`); none means anywhere.
    #[serde(default)]
    pub addresses: Vec<Spanned<String>>,
    /// Web origins; none means any. A session without an origin fails a listed one.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Messages per second, from 1.
    pub messages_per_second: Option<Spanned<i64>>,
    /// Longest body accepted.
    pub body_bytes_max: Option<Spanned<Bytes>>,
}

/// `on_full = "park" | "drop-oldest"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFullText {
    /// Leave the rest in the log and go on from there later.
    Park,
    /// Forget the oldest delivery.
    DropOldest,
}

/// Bounds of an endpoint's queue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueText {
    /// Most messages queued.
    pub messages_max: Option<Spanned<i64>>,
    /// Most bytes queued.
    pub bytes_max: Option<Spanned<Bytes>>,
    /// Longest stay.
    pub age_max: Option<Age>,
    /// What happens at a bound, `park` unless given.
    pub on_full: Option<OnFullText>,
    /// How long a delivery may stay unsettled, 30 s unless given.
    pub lock: Option<Age>,
    /// Deliveries before a message goes to the dead letters, 10 unless given, 0 for never.
    pub deliveries_max: Option<Spanned<i64>>,
}
