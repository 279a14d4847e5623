//! The way of a table to the shards of the same process: the newest one that waits, from a thread of its own, until it is taken.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control::service::{NodeApplied, NodeSeen, Publish, Update};
use node::diagnosis::{Diagnosis, EXECUTOR_FAILED};
use node::{Tables, Unapplied};
use wire::route::RouteTable;

/// How long until shards that are behind with their commands are asked again.
const BEHIND: Duration = Duration::from_millis(2);
/// How long until a node that refused a table is asked again, at first and at most: the disk may have room again by then.
const REFUSED_FIRST: Duration = Duration::from_secs(1);
const REFUSED_LONGEST: Duration = Duration::from_secs(60);
/// What the node of this process is called.
pub(crate) const HERE: &str = "here";

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

    /// What this node is called.
    pub(super) fn name(&self) -> &str {
        HERE
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

    /// Until the end: take the newest table and hand it over, again and again while it is not taken and no newer one comes.
    fn carry(&self) {
        let (mut waiting, mut refused) = (self.lock(), 0);
        while !waiting.ended {
            let Some(table) = waiting.table.take() else {
                let woken = self.came.wait(waiting);
                waiting = woken.unwrap_or_else(PoisonError::into_inner);
                refused = 0;
                continue;
            };
            drop(waiting);
            let taken = self.tables.apply(Arc::clone(&table));
            waiting = self.lock();
            let Err(why) = taken else {
                refused = 0;
                continue;
            };
            let pause = pause(&why, &mut refused);
            if waiting.table.is_none() {
                waiting.table = Some(Arc::clone(&table));
                let same_one = |waiting: &mut Waiting| {
                    let there = waiting.table.as_ref();
                    !waiting.ended && there.is_some_and(|one| Arc::ptr_eq(one, &table))
                };
                let woken = self.came.wait_timeout_while(waiting, pause, same_one);
                waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// How long until a table is handed over again that was not taken for this; `refused` counts those that were refused in a row. Why stands
/// in the node's log, each time.
fn pause(why: &Unapplied, refused: &mut u32) -> Duration {
    match why {
        Unapplied::Behind => BEHIND,
        Unapplied::Refused(_) => {
            let pause = REFUSED_FIRST.saturating_mul(1 << (*refused).min(10));
            *refused = refused.saturating_add(1);
            pause.min(REFUSED_LONGEST)
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
            hubs_unopened: 0,
            unopened: None,
            shards,
            snapshots: 0,
            deltas: 0,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_that_are_behind_are_asked_at_once_and_a_node_that_refuses_seldom() {
        let refused = Diagnosis::new(EXECUTOR_FAILED, "a log", "no room", "room", "make some");
        let refused = Unapplied::Refused(refused);
        let mut count = 0;
        assert_eq!(pause(&Unapplied::Behind, &mut count), BEHIND);
        let pauses: Vec<u64> = (0..9)
            .map(|_| pause(&refused, &mut count).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(&Unapplied::Behind, &mut count), BEHIND);
        count = u32::MAX - 1;
        assert_eq!(pause(&refused, &mut count), REFUSED_LONGEST);
    }
}
