//! Channels.

use serde::{Deserialize, Serialize};

/// What a route leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// `account/environment/channel`.
    pub name: String,
    /// Explicit id when the derived one collides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Hub of the same environment (last part of its name), `default` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// What is refused first when memory is short, `normal` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
}

/// `priority = "normal" | "low"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Like any other.
    Normal,
    /// Refused before any of normal priority is.
    Low,
}
