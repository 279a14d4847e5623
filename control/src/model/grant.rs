//! Permissions and their restrictions.

use serde::{Deserialize, Serialize};

use super::{Moment, written};
use crate::quantity::Bytes;

/// `allow = "send" | "receive"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allow {
    /// May send to the channel.
    #[default]
    Send,
    /// May hear the channel.
    Receive,
}

/// One permission and its restrictions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Channel: full name, or the last part for a channel of the endpoint's own environment.
    pub channel: String,
    /// What is permitted.
    pub allow: Allow,
    /// Of a grant to receive: whether the channel's messages come to the queue; they do unless this is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<bool>,
    /// Peer address ranges (`10.0.0.0/8`, `::1`); none means anywhere.
    #[serde(
        default,
        deserialize_with = "written::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub addresses: Vec<String>,
    /// Web origins; none means any. A session without an origin fails a listed one.
    #[serde(
        default,
        deserialize_with = "written::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub origins: Vec<String>,
    /// Windows of the week in UTC, such as `mon-fri 08:00-17:30`; none means always.
    #[serde(
        default,
        deserialize_with = "written::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub hours: Vec<String>,
    /// When it ends: it is as if it were not there then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Moment>,
    /// Messages per second, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<i64>,
    /// Bytes of frames per second, from 1 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Bytes>,
    /// Longest body accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes_max: Option<Bytes>,
}
