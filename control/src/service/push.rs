//! How tables come to nodes, as the control plane sees it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use wire::diagnosis::Diagnosis;
use wire::route::{Delta, RouteTable};

use crate::model::Node;

/// How far one node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeApplied {
    /// Its name.
    pub node: String,
    /// Its shards.
    pub shards: usize,
    /// Those that have the version asked for, or a later one.
    pub applied: usize,
}

/// A table on its way to the nodes. To hold it costs little: tables share what they have in common.
#[derive(Debug, Clone)]
pub struct Update {
    /// The whole table.
    pub table: Arc<RouteTable>,
    /// How it differs from the one published before, if that is little: what a node needs that has that one.
    pub delta: Option<Arc<Delta>>,
}

/// What is known of one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeSeen {
    /// Its name.
    pub name: String,
    /// Whether it is connected, or is in this process.
    pub connected: bool,
    /// From where it is, or was last.
    pub address: Option<String>,
    /// Seconds since it was heard.
    pub heard_seconds: Option<f64>,
    /// The version that it has or works towards.
    pub version: Option<u64>,
    /// Whether every shard has the newest one.
    pub current: bool,
    /// The version that it has on disk and would start from.
    pub kept: Option<u64>,
    /// Code of why it does not take the newest version, if it does not.
    pub refused: Option<String>,
    /// Hubs of its table that it does not serve, since it cannot open their logs.
    pub hubs_unopened: u16,
    /// Code of why, of the first one of them.
    pub unopened: Option<String>,
    /// The version of each shard.
    pub shards: Vec<u64>,
    /// Whole tables sent to it since the control plane started.
    pub snapshots: u64,
    /// Changes sent to it since then.
    pub deltas: u64,
}

/// Takes tables to nodes.
pub trait Publish: Send + Sync {
    /// Whether every node would take this table.
    ///
    /// # Errors
    /// Why one would not.
    fn check(&self, table: &RouteTable) -> Result<(), Diagnosis>;

    /// Whether nodes elsewhere can be sent this table after `before`. What a store holds already is served as far as it can be, and a
    /// shorter table is never refused: it is the way out.
    ///
    /// # Errors
    /// When it is too long.
    fn carries(&self, _table: &RouteTable, _before: &RouteTable) -> Result<(), Diagnosis> {
        Ok(())
    }

    /// These nodes are defined from now on: whoever is no longer among those that are enabled gets nothing more, at once.
    fn admit(&self, _: &mut dyn Iterator<Item = &Node>) {}

    /// Take this table to every node, as soon as it can be; a later one may overtake it. Does not wait.
    fn publish(&self, update: Update);

    /// Wait until every shard has this epoch or a later one, at most so long; how far each node is.
    fn applied(&self, epoch: u64, within: Duration) -> Vec<NodeApplied>;

    /// Every node, by name.
    fn nodes(&self) -> Vec<NodeSeen> {
        Vec::new()
    }
}

/// No nodes at all: for a control plane that is looked at offline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unpublished;

impl Publish for Unpublished {
    fn check(&self, _: &RouteTable) -> Result<(), Diagnosis> {
        Ok(())
    }

    fn publish(&self, _: Update) {}

    fn applied(&self, _: u64, _: Duration) -> Vec<NodeApplied> {
        Vec::new()
    }
}
