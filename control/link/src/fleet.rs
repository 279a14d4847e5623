//! Every node of a control plane: who is connected, which table each has on each shard, and what each gets next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::diagnosis::{LINK_OTHER_PAST, LINK_REPLACED, LINK_UNKNOWN_NODE};
use crate::frame::{Lineage, Unopened, Version};
use crate::history::{History, Newest, Next};
use crate::pipe::Ended;

/// The nodes of a control plane.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    history: Mutex<History>,
    /// Rises with every new table.
    changed: watch::Sender<u64>,
    nodes: Mutex<Nodes>,
    /// Pasts that the one of the newest table comes from.
    ancestors: Vec<Lineage>,
    came: Condvar,
}

#[derive(Default)]
struct Nodes {
    /// Those that may connect.
    by_name: BTreeMap<String, Node>,
    connections: u64,
    /// Names that the configuration lists.
    listed: BTreeSet<String>,
    /// Those that are defined, and whether each is enabled.
    defined: BTreeMap<String, bool>,
}

/// What is known of one node.
#[derive(Default)]
struct Node {
    /// The connection that counts; none is 0.
    connection: u64,
    address: Option<SocketAddr>,
    heard: Option<Instant>,
    has: Option<Version>,
    kept: u64,
    refused: u16,
    unopened: Unopened,
    shards: Vec<u64>,
    snapshots: u64,
    deltas: u64,
}

/// How far one node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProgress {
    /// Its name.
    pub node: String,
    /// Its shards; at least 1.
    pub shards: usize,
    /// Those that have the epoch asked for, or a later one; never all of a node whose disk does not have it.
    pub applied: usize,
}

/// What is known of one node, to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSeen {
    /// Its name.
    pub name: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// From where it is, or was last.
    pub address: Option<String>,
    /// Seconds since it was heard.
    pub heard_seconds: Option<f64>,
    /// The epoch of the table it has or works towards.
    pub epoch: Option<u64>,
    /// Whether every shard has the newest table.
    pub current: bool,
    /// The epoch that it has on disk.
    pub kept: u64,
    /// Code of why it does not take the newest table, if it does not.
    pub refused: Option<String>,
    /// Hubs of its table that it does not serve, since it cannot open their logs.
    pub hubs_unopened: u16,
    /// Code of why, of the first one of them.
    pub unopened: Option<String>,
    /// The epoch of each shard.
    pub shards: Vec<u64>,
    /// Snapshots sent to it.
    pub snapshots: u64,
    /// Deltas sent to it.
    pub deltas: u64,
}

/// A connection of a node, while it counts.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) name: String,
    connection: u64,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

impl Fleet {
    /// Of nodes with these names and no others until some are defined, each without a table or with one of the past of what is published,
    /// or of these `ancestors` of that: whoever follows another control plane is not supplied by mistake.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>, ancestors: Vec<Lineage>) -> Self {
        let mut nodes = Nodes {
            listed: names.into_iter().collect(),
            ..Nodes::default()
        };
        nodes.settle();
        Self(Arc::new(Inner {
            history: Mutex::default(),
            changed: watch::channel(0).0,
            nodes: Mutex::new(nodes),
            ancestors,
            came: Condvar::new(),
        }))
    }

    /// Let nodes of these names connect from now on, besides those that are defined: one whose name is not among either gets nothing more.
    pub fn set_names(&self, names: impl IntoIterator<Item = String>) {
        let mut nodes = self.nodes();
        nodes.listed = names.into_iter().collect();
        self.let_in(nodes);
    }

    /// These nodes are defined from now on, and those may connect that are enabled; also of one that the configuration lists, this decides.
    pub fn set_defined(&self, defined: impl IntoIterator<Item = (String, bool)>) {
        let mut nodes = self.nodes();
        let defined = defined.into_iter().collect();
        // Most changes are not about nodes, and wake nobody for it.
        if nodes.defined != defined {
            nodes.defined = defined;
            self.let_in(nodes);
        }
    }

    /// Have those that may connect follow what was said of them.
    fn let_in(&self, mut nodes: MutexGuard<'_, Nodes>) {
        nodes.settle();
        drop(nodes);
        self.0.came.notify_all();
        // Whoever supplies a node looks whether it still is one.
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// There is a new table: every node gets it as soon as it can. Does not wait.
    pub fn publish(&self, newest: Newest) {
        self.history().put(newest);
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// Wait until every shard of every node has this epoch or a later one, and has it on disk, at most so long; how far each is.
    #[must_use]
    pub fn wait(&self, epoch: u64, within: Duration) -> Vec<NodeProgress> {
        let by = Instant::now() + within;
        let mut nodes = self.nodes();
        while !nodes.by_name.values().all(|node| self.is_at(node, epoch)) {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.came.wait_timeout(nodes, left);
            nodes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let progress = |(name, node): (&String, &Node)| {
            let shards = node.shards.len().max(1);
            let applied = node.shards.iter().filter(|has| **has >= epoch).count();
            NodeProgress {
                node: name.clone(),
                shards,
                applied: match (self.is_ours(node), node.kept >= epoch) {
                    (false, _) => 0,
                    (true, true) => applied,
                    // One that would start again without it does not have it.
                    (true, false) => applied.min(shards - 1),
                },
            }
        };
        nodes.by_name.iter().map(progress).collect()
    }

    /// Every node, by name.
    #[must_use]
    pub fn seen(&self) -> Vec<NodeSeen> {
        let newest = self.history().newest();
        let nodes = self.nodes();
        let seen = |(name, node): (&String, &Node)| NodeSeen {
            name: name.clone(),
            connected: node.connection > 0,
            address: node.address.map(|address| address.to_string()),
            heard_seconds: node.heard.map(|heard| heard.elapsed().as_secs_f64()),
            epoch: node.has.map(|has| has.epoch),
            current: newest.is_some_and(|newest| {
                node.has == Some(newest) && node.has_everywhere(newest.epoch)
            }),
            kept: node.kept,
            refused: code(node.refused),
            hubs_unopened: node.unopened.hubs,
            unopened: code(node.unopened.code),
            shards: node.shards.clone(),
            snapshots: node.snapshots,
            deltas: node.deltas,
        };
        nodes.by_name.iter().map(seen).collect()
    }

    /// Whether every shard of a node has this epoch of ours, or a later one, and its disk.
    fn is_at(&self, node: &Node, epoch: u64) -> bool {
        node.has_everywhere(epoch) && self.is_ours(node)
    }

    /// Whether a node's table is of our past: a store that was restored counts epochs anew that some nodes have had otherwise.
    fn is_ours(&self, node: &Node) -> bool {
        node.has.is_some_and(|has| self.history().knows(has))
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // It is whole after every change, whoever panicked beside it.
        (self.0.history.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        (self.0.nodes.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    pub(crate) fn newest(&self) -> Option<Version> {
        self.history().newest()
    }

    pub(crate) fn knows(&self, version: Version) -> bool {
        self.history().knows(version)
    }

    /// What someone who has this gets next.
    pub(crate) fn next(&self, has: Option<Version>) -> Result<Next, Ended> {
        let history = self.history();
        let newest = history.newest().map(|newest| newest.lineage);
        if let Some((has, newest)) = has.zip(newest)
            && has.lineage != newest
            && !self.0.ancestors.contains(&has.lineage)
        {
            let text = format!("the node has table {has}, which this store does not come from");
            return Err(Ended::new(LINK_OTHER_PAST, text));
        }
        Ok(history.next(has))
    }

    /// A node has connected. It is the one of its name from now on.
    pub(crate) fn admit(&self, name: &str, address: SocketAddr) -> Result<Admitted, Ended> {
        let mut nodes = self.nodes();
        nodes.connections += 1;
        let connection = nodes.connections;
        let Some(node) = nodes.by_name.get_mut(name) else {
            return Err(unknown(name));
        };
        (node.connection, node.address) = (connection, Some(address));
        node.heard = Some(Instant::now());
        Ok(Admitted {
            name: name.to_owned(),
            connection,
        })
    }

    /// The node of this connection, if no later one took its place.
    fn with(&self, of: &Admitted, change: impl FnOnce(&mut Node)) -> Result<(), Ended> {
        let mut nodes = self.nodes();
        let Some(node) = nodes.by_name.get_mut(&of.name) else {
            return Err(unknown(&of.name));
        };
        if node.connection != of.connection {
            let text = "the node connected again";
            return Err(Ended::new(LINK_REPLACED, text));
        }
        change(node);
        drop(nodes);
        self.0.came.notify_all();
        Ok(())
    }

    pub(crate) fn applied(
        &self,
        of: &Admitted,
        (has, kept): (Version, u64),
        (refused, unopened): (u16, Unopened),
        shards: Vec<u64>,
    ) -> Result<(), Ended> {
        self.with(of, |node| {
            node.heard = Some(Instant::now());
            // One without a table says so by a version of zeros.
            let has = (has != Version::default()).then_some(has);
            (node.has, node.kept) = (has, kept);
            (node.refused, node.unopened) = (refused, unopened);
            node.shards = shards;
        })
    }

    pub(crate) fn sent(&self, of: &Admitted, snapshot: bool) -> Result<(), Ended> {
        self.with(of, |node| match snapshot {
            true => node.snapshots += 1,
            false => node.deltas += 1,
        })
    }

    /// Whether this connection is still the one of its node.
    pub(crate) fn counts(&self, of: &Admitted) -> Result<(), Ended> {
        self.with(of, |_| {})
    }

    pub(crate) fn left(&self, of: &Admitted) {
        // Another one may have come: then there is nothing to note.
        let _ = self.with(of, |node| node.connection = 0);
    }
}

/// A code as people see it; 0 is none.
fn code(code: u16) -> Option<String> {
    (code > 0).then(|| format!("FB-{code}"))
}

fn unknown(name: &str) -> Ended {
    Ended::new(LINK_UNKNOWN_NODE, format!("there is no node {name:?}"))
}

impl Nodes {
    /// Keep what is known of those that may still connect, and forget the others.
    fn settle(&mut self) {
        let mut before = std::mem::take(&mut self.by_name);
        let listed = self.listed.iter();
        let listed = listed.filter(|name| !self.defined.contains_key(*name));
        let enabled = self.defined.iter().filter(|(_, enabled)| **enabled);
        let names = enabled.map(|(name, _)| name).chain(listed);
        let kept = names.map(|name| {
            let node = before.remove(name).unwrap_or_default();
            (name.clone(), node)
        });
        self.by_name = kept.collect();
    }
}

impl Node {
    /// Whether every shard has this epoch or a later one, and the disk.
    fn has_everywhere(&self, epoch: u64) -> bool {
        !self.shards.is_empty() && self.kept >= epoch && self.shards.iter().all(|has| *has >= epoch)
    }
}
