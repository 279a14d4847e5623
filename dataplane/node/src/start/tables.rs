//! New route tables for a running node, from whoever compiles them in the same process.

use std::sync::Arc;
use std::time::Duration;

use wire::route::RouteTable;

use super::Control;
use crate::diagnosis::Diagnosis;
use crate::supply::AskSupply;

/// Why a table is not on its way to every shard; the one before stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unapplied {
    /// A shard is behind with its commands: ask again soon.
    Behind,
    /// The node does not take it, which its log tells.
    Refused(Diagnosis),
}

/// The way of tables into a node. It stays good when the node has stopped; tables change nothing then.
#[derive(Clone)]
pub struct Tables(pub(super) Arc<Control>);

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    /// Whether the node would take this table. Opens the logs of hubs that are new, which takes as long as the disk does.
    ///
    /// # Errors
    /// Why not: it counts partitions or queue groups otherwise than the data folder, or the logs of a hub that is new
    /// cannot be opened.
    pub fn check(&self, table: &RouteTable) -> Result<(), Diagnosis> {
        self.0.check(table)
    }

    /// Hand this table to every shard, each of which applies it between two turns. Does not wait for that.
    ///
    /// # Errors
    /// As [`check`](Self::check), or when a shard is behind with its commands; the table before stays in force then.
    pub fn apply(&self, table: Arc<RouteTable>) -> Result<u64, Unapplied> {
        self.0.apply(table, false)
    }

    /// The same with a table of another past: epochs that shards have say nothing about it, whichever is greater.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_anew(&self, table: Arc<RouteTable>) -> Result<u64, Unapplied> {
        self.0.apply(table, true)
    }

    /// The table that was handed over last.
    #[must_use]
    pub fn current(&self) -> Arc<RouteTable> {
        self.0.current()
    }

    /// Hubs of the table that are not served since their logs cannot be opened, by name, and why. They are tried again.
    #[must_use]
    pub fn unopened(&self) -> Vec<(String, Diagnosis)> {
        self.0.hubs.unopened()
    }

    /// Have every shard take nothing and send everybody away, or take everything again. Whether all will: otherwise ask again.
    #[must_use]
    pub fn suspend(&self, suspended: bool) -> bool {
        self.0.suspend(suspended)
    }

    /// Tell by metrics and probes of the control plane that tables come from. To be called once.
    pub fn supplied(&self, ask: AskSupply) {
        self.0.status.supplied(ask);
    }

    /// Wait until every shard has this epoch or a later one, at most so long; the epoch of each shard then.
    #[must_use]
    pub fn wait(&self, epoch: u64, within: Duration) -> Vec<u64> {
        self.0.status.epochs().wait(epoch, within)
    }
}
