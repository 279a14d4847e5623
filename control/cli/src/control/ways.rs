//! The ways of a table to every node: to the one of the same process, and to those that have connected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use control::model::Node;
use control::service::{NodeApplied, NodeSeen, Publish, Update};
use link::diagnosis::table_too_long;
use link::{Fleet, Lineage, Newest};
use node::diagnosis::Diagnosis;
use wire::route::RouteTable;

use super::push::Push;
use crate::node::tables::{Whole, delta, version};

/// All of them.
pub(super) struct Ways {
    /// To the node of this process, if there is one.
    pub(super) here: Option<Push>,
    /// To the others, if there may be any.
    pub(super) fleet: Option<Fleet>,
    /// The past of the store.
    pub(super) lineage: Lineage,
    /// Bytes of a table that the link carries.
    pub(super) table_bytes_max: u64,
}

impl Publish for Ways {
    /// Nodes in other processes say for themselves what they refuse.
    fn check(&self, table: &RouteTable) -> Result<(), Diagnosis> {
        self.here.as_ref().map_or(Ok(()), |here| here.check(table))
    }

    /// It is written to know its length only where that may be too much.
    fn carries(&self, table: &RouteTable, before: &RouteTable) -> Result<(), Diagnosis> {
        let most = self.table_bytes_max;
        if self.fleet.is_none() || table.encoded_bytes_max() <= most {
            return Ok(());
        }
        let bytes = table.encode().len() as u64;
        match bytes > most && bytes >= before.encode().len() as u64 {
            true => Err(table_too_long(bytes, most)),
            false => Ok(()),
        }
    }

    /// The node of this process needs no link, and nobody else is let in under its name.
    fn admit(&self, nodes: &mut dyn Iterator<Item = &Node>) {
        if let Some(fleet) = &self.fleet {
            let here = self.here.as_ref().map(Push::name);
            let others = nodes.filter(|node| Some(node.name.as_str()) != here);
            fleet.set_defined(others.map(|node| (node.name.clone(), node.is_enabled())));
        }
    }

    fn publish(&self, update: Update) {
        if let Some(fleet) = &self.fleet {
            fleet.publish(Newest {
                version: version(self.lineage, &update.table),
                snapshot: Arc::new(Whole(Arc::clone(&update.table))),
                delta: (update.delta.as_deref()).map(|one| delta(self.lineage, one)),
            });
        }
        if let Some(here) = &self.here {
            here.publish(update);
        }
    }

    fn applied(&self, epoch: u64, within: Duration) -> Vec<NodeApplied> {
        let by = Instant::now() + within;
        let here = self.here.iter();
        let mut all: Vec<_> = here.flat_map(|here| here.applied(epoch, within)).collect();
        let left = by.saturating_duration_since(Instant::now());
        if let Some(fleet) = &self.fleet {
            all.extend(fleet.wait(epoch, left).into_iter().map(|one| NodeApplied {
                node: one.node,
                shards: one.shards,
                applied: one.applied,
            }));
        }
        all
    }

    fn nodes(&self) -> Vec<NodeSeen> {
        let here = self.here.iter().flat_map(Publish::nodes);
        let fleet = self.fleet.iter().flat_map(Fleet::seen);
        let others = fleet.map(|one| NodeSeen {
            name: one.name,
            connected: one.connected,
            address: one.address,
            heard_seconds: one.heard_seconds,
            version: one.epoch,
            current: one.current,
            kept: (one.kept > 0).then_some(one.kept),
            refused: one.refused,
            hubs_unopened: one.hubs_unopened,
            unopened: one.unopened,
            shards: one.shards,
            snapshots: one.snapshots,
            deltas: one.deltas,
        });
        here.chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use link::diagnosis::TABLE_TOO_LONG;
    use wire::ids::NodeId;
    use wire::route::TableParts;

    use super::*;

    #[test]
    fn a_table_that_the_link_does_not_carry_is_refused_before_it_is_made() {
        let of = |nodes: u32| {
            let node = |id: u32| wire::route::Node {
                id: NodeId(id),
                name: format!("n{id}").into(),
                address: None,
            };
            let parts = TableParts {
                epoch: 1,
                queue_groups: 1,
                nodes: (0..nodes).map(node).collect(),
                ..TableParts::default()
            };
            RouteTable::build(parts).expect("well formed")
        };
        let (table, shorter, longer) = (of(2), of(1), of(3));
        let bytes = table.encode().len() as u64;
        let carried = |others: bool, table_bytes_max, before: &RouteTable| {
            let fleet = others.then(|| Fleet::new(Vec::new(), Vec::new()));
            let ways = Ways {
                here: None,
                fleet,
                lineage: [1; 16],
                table_bytes_max,
            };
            assert_eq!(ways.check(&table), Ok(()), "what there is, is served");
            ways.carries(&table, before).map_err(|fault| fault.code)
        };
        assert_eq!(carried(true, bytes, &shorter), Ok(()));
        assert_eq!(carried(true, bytes - 1, &shorter), Err(TABLE_TOO_LONG));
        assert_eq!(carried(true, bytes - 1, &table), Err(TABLE_TOO_LONG));
        assert_eq!(carried(true, bytes - 1, &longer), Ok(()), "the way out");
        assert_eq!(
            carried(false, bytes - 1, &shorter),
            Ok(()),
            "nobody is sent it"
        );
    }
}
