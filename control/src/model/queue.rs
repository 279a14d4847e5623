//! Bounds of an endpoint's queue.

use serde::{Deserialize, Serialize};

use crate::quantity::{Age, Bytes};

/// `on_full = "park" | "drop-oldest"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFull {
    /// Leave the rest in the log and go on from there later.
    Park,
    /// Forget the oldest delivery.
    DropOldest,
}

/// Bounds of an endpoint's queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Most messages queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_max: Option<i64>,
    /// Most bytes queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<Bytes>,
    /// Longest stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_max: Option<Age>,
    /// What happens at a bound, `park` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_full: Option<OnFull>,
    /// How long a delivery may stay unsettled, 30 s unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Age>,
    /// Deliveries before a message goes to the dead letters, 10 unless given, 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries_max: Option<i64>,
}
