//! Hubs.

use serde::{Deserialize, Serialize};

use crate::quantity::{Age, Bytes};

/// A named set of partitions with one retention and durability setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// `account/environment/hub`.
    pub name: String,
    /// Explicit id, 0 to 65534, when the derived one collides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Number of partitions, 4 unless given; fixed once the hub has data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i64>,
    /// What an acknowledgement promises, `durable` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// Bytes of one segment file, 64 MiB unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_bytes: Option<Bytes>,
    /// Keep at most this many bytes per partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<Bytes>,
    /// Keep messages at most this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_age: Option<Age>,
}

/// `ack = "durable" | "local"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// After the sync: survives power loss on an intact disk.
    Durable,
    /// In the mapped log: survives a crash of the process.
    Local,
}
