//! The way of a table to the shards of the same process: the newest one that waits, from a thread of its own, until it is taken.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control::service::{NodeApplied, NodeSeen, Publish, Update};
use node::Tables;
use node::diagnosis::{Diagnosis, EXECUTOR_FAILED};
use wire::route::RouteTable;

/// How long until a node that did not take a table is asked again.
const AGAIN: Duration = Duration::from_millis(50);
/// What the node of this process is called.
const HERE: &str = "here";

/// The way.
#[derive(Debug, Clone)]
pub(super) struct Push(Arc<Way>);

#[derive(Debug)]
struct Way {
    tables: Tables,
    waiting: Mutex<Waiting>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    table: Option<Arc<RouteTable>>,
    ended: bool,
}

impl Push {
    /// Begin to carry tables to this node.
    pub(super) fn start(tables: Tables) -> Result<Self, Diagnosis> {
        let way = Arc::new(Way {
            tables,
            waiting: Mutex::default(),
            came: Condvar::new(),
        });
        let carrier = Arc::clone(&way);
        let thread = std::thread::Builder::new().name("push".into());
        let spawned = thread.spawn(move || carrier.carry());
        spawned.map(|_| Self(way)).map_err(|error| {
            let (what, needed) = ("push thread", "a thread more");
            let remedy = "raise `ulimit -u`";
            Diagnosis::new(EXECUTOR_FAILED, what, error.to_string(), needed, remedy)
        })
    }

    /// Carry nothing any more.
    pub(super) fn end(&self) {
        self.0.lock().ended = true;
        self.0.came.notify_all();
    }
}

impl Way {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What waits is whole, whoever panicked beside it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the end: take the newest table and hand it over, again and again while the node is behind and no newer one comes.
    fn carry(&self) {
        let mut waiting = self.lock();
        while !waiting.ended {
            let Some(table) = waiting.table.take() else {
                let woken = self.came.wait(waiting);
                waiting = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(waiting);
            // Why it was not taken stands in the node's log.
            let taken = self.tables.apply(Arc::clone(&table)).is_ok();
            waiting = self.lock();
            if !taken && waiting.table.is_none() {
                waiting.table = Some(table);
                let woken = self.came.wait_timeout(waiting, AGAIN);
                waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl Publish for Push {
    fn check(&self, table: &RouteTable) -> Result<(), Diagnosis> {
        self.0.tables.check(table)
    }

    fn publish(&self, update: Update) {
        self.0.lock().table = Some(update.table);
        self.0.came.notify_all();
    }

    fn applied(&self, epoch: u64, within: Duration) -> Vec<NodeApplied> {
        let epochs = self.0.tables.wait(epoch, within);
        vec![NodeApplied {
            node: HERE.to_owned(),
            shards: epochs.len(),
            applied: epochs.iter().filter(|has| **has >= epoch).count(),
        }]
    }

    fn nodes(&self) -> Vec<NodeSeen> {
        let tables = &self.0.tables;
        let shards = tables.wait(0, Duration::ZERO);
        let newest = tables.current().epoch();
        let waits = self.0.lock().table.is_some();
        vec![NodeSeen {
            name: HERE.to_owned(),
            connected: true,
            address: None,
            heard_seconds: None,
            version: Some(newest),
            current: !waits && shards.iter().all(|has| *has >= newest),
            kept: None,
            refused: None,
            shards,
            snapshots: 0,
            deltas: 0,
        }]
    }
}
