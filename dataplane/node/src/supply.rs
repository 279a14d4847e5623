//! What is known of the control plane that a node's tables come from, when it is another process: for metrics and probes.

use std::time::Duration;

/// The state of a node's supply of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supply {
    /// Whether the control plane is connected.
    pub connected: bool,
    /// How long ago this node's table was the newest for certain.
    pub age: Duration,
    /// Whether that is longer than it may be.
    pub stale: bool,
    /// Whether the node takes nothing because of that.
    pub refuses: bool,
}

/// Tells it at any time, without waiting.
pub type AskSupply = Box<dyn Fn() -> Supply + Send + Sync>;
