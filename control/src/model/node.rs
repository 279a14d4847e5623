//! Nodes: the processes that serve endpoints. They are of the whole system, and no account's.

use serde::{Deserialize, Serialize};
use wire::ids::{ChannelId, NodeId};

/// The rule for the name of a node, as messages state it.
pub const NODE_NAME_NEEDED: &str =
    "small letters, digits and '-', at most 63, a letter among them, '-' not at an end";

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name: the one that its certificate is for.
    pub name: String,
    /// Explicit id when the derived one collides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// False sends its process away and gives it no tables any more; true unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where clients reach it, `host:port`: told to those that come to another node than their home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Node {
    /// Whether its process may connect.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// The id of a node that was given none.
#[must_use]
pub fn node_hash(name: &str) -> NodeId {
    NodeId(ChannelId::of(name).0)
}
