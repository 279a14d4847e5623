//! Which shard owns what. A pure function of the route table that was in force at the start, of the hubs that came since, in the
//! order in which they came, and the number of shards: nothing about it is stored, so any number of shards may follow any other at
//! a restart.

use wire::ids::{Direction, PartitionId};
use wire::route::{EndpointView, Hub, RouteTable};

/// Who owns each partition and each queue group of a node.
///
/// A hub whose partitions can be dealt out evenly begins at shard 0, and so do the queue groups: where all counts are
/// multiples of the number of shards, everything of an endpoint lies on one shard. The other hubs are dealt out one
/// behind the other, so that no shard has more than one partition more than another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    shards: u16,
    queue_groups: u16,
    /// Of each hub, by rising id: its partitions, and the shard of the first one.
    hubs: Vec<(u16, u16, u16)>,
    /// The shard of the next partition that cannot be dealt out evenly.
    dealt: u16,
}

impl Ownership {
    /// Deal out what `table` has. Shards of one process are given the same table at their start.
    ///
    /// # Panics
    /// Without a shard.
    pub fn new(table: &RouteTable, shards: u16) -> Self {
        Self::without(table, shards, |_| false)
    }

    /// The same but for hubs that are not there, by their ids: nobody owns anything of them.
    ///
    /// # Panics
    /// Without a shard.
    pub fn without(table: &RouteTable, shards: u16, lacks: impl Fn(u16) -> bool) -> Self {
        assert!(shards > 0, "a node has a shard");
        let mut ownership = Self {
            shards,
            queue_groups: table.queue_groups(),
            hubs: Vec::new(),
            dealt: 0,
        };
        ownership.extend_by(table.hubs().iter().filter(|hub| !lacks(hub.id)));
        ownership
    }

    /// Deal out the hubs of `table` that are not dealt out yet; all others stay where they are. Shards of one process are given the
    /// same tables in the same order.
    pub fn extend(&mut self, table: &RouteTable) {
        self.extend_by(table.hubs().iter());
    }

    /// The same with these hubs alone.
    pub fn extend_by<'h>(&mut self, hubs: impl Iterator<Item = &'h Hub>) {
        let new = hubs.filter(|hub| !self.has(hub.id));
        let mut new: Vec<_> = new.map(|hub| (hub.id, hub.partitions, 0)).collect();
        new.sort_unstable();
        let shards = self.shards;
        for (_, partitions, first) in &mut new {
            let uneven = *partitions % shards;
            if uneven > 0 {
                *first = self.dealt;
                let dealt = u32::from(self.dealt) + u32::from(uneven);
                self.dealt = (dealt % u32::from(shards)) as u16;
            }
        }
        self.hubs.extend(new);
        self.hubs.sort_unstable();
    }

    /// Whether the hub with this id is dealt out.
    pub fn has(&self, hub: u16) -> bool {
        self.hubs
            .binary_search_by_key(&hub, |(id, _, _)| *id)
            .is_ok()
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The owner of a partition; `None` when the table had none of that name.
    pub fn partition(&self, id: PartitionId) -> Option<u16> {
        let at = self
            .hubs
            .binary_search_by_key(&id.hub(), |(hub, _, _)| *hub)
            .ok()?;
        let (_, partitions, first) = self.hubs[at];
        let dealt = (u32::from(first) + u32::from(id.number())) % u32::from(self.shards);
        (id.number() < partitions).then_some(dealt as u16)
    }

    /// The owner of a queue group.
    pub fn queue_group(&self, number: u16) -> u16 {
        number % self.shards
    }

    /// Whether a shard owns any queue group, and so reads every log.
    pub fn reads(&self, shard: u16) -> bool {
        shard < self.queue_groups
    }

    /// All partitions that a shard owns, by rising id.
    pub fn partitions_of(&self, shard: u16) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions()
            .filter(move |(_, owner)| *owner == shard)
            .map(|(id, _)| id)
    }

    /// All partitions and their owners, by rising id.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, u16)> + '_ {
        let of_hub = |&(hub, partitions, _): &(u16, u16, u16)| {
            (0..partitions).map(move |number| PartitionId::new(hub, number))
        };
        let all = self.hubs.iter().flat_map(of_hub);
        all.filter_map(|id| Some((id, self.partition(id)?)))
    }

    /// Where the sessions of an endpoint live: to send, with the partition of its first grant, or in the first hub if it
    /// has none; to receive, with its queue.
    pub fn home(
        &self,
        table: &RouteTable,
        endpoint: &EndpointView<'_>,
        direction: Direction,
    ) -> u16 {
        if direction == Direction::Egress {
            return self.queue_group(table.queue_group_of(endpoint.id));
        }
        let granted = endpoint
            .send
            .iter()
            .next()
            .and_then(|grant| table.channel(grant.channel));
        let partition = match (granted, table.hubs().first()) {
            (Some(channel), _) => Some(table.partition_of(endpoint.id, channel)),
            (None, Some(hub)) => {
                let number = endpoint.id.0 % u64::from(hub.partitions);
                Some(PartitionId::new(hub.id, number as u16))
            }
            (None, None) => None,
        };
        let owner = partition.and_then(|id| self.partition(id));
        owner.unwrap_or_else(|| (endpoint.id.0 % u64::from(self.shards)) as u16)
    }
}

#[cfg(test)]
mod tests {
    use wire::ids::AckMode;
    use wire::route::TableParts;

    use super::*;

    fn table(hubs: &[(u16, u16)], queue_groups: u16) -> RouteTable {
        let hub = |&(id, partitions): &(u16, u16)| Hub {
            id,
            name: format!("hub-{id}").into(),
            partitions,
            ack: AckMode::Durable,
            segment_bytes: 1 << 20,
            retention_bytes: None,
            retention_age: None,
        };
        let parts = TableParts {
            epoch: 1,
            queue_groups,
            hubs: hubs.iter().map(hub).collect(),
            ..TableParts::default()
        };
        RouteTable::build(parts).expect("the hubs fit together")
    }

    #[test]
    fn every_partition_has_one_owner_and_no_shard_has_two_more_than_another() {
        let hubs = [
            (7, 1),
            (3, 8),
            (1, 5),
            (9, 1),
            (4, 1),
            (2, 3),
            (60_000, 250),
        ];
        let table = table(&hubs, 16);
        for shards in 1..=16 {
            let ownership = Ownership::new(&table, shards);
            let mut counts = vec![0u32; usize::from(shards)];
            for (id, _) in table.partitions() {
                let owner = ownership.partition(id).expect("the table has it");
                counts[usize::from(owner)] += 1;
            }
            let (least, most) = (counts.iter().min(), counts.iter().max());
            let (least, most) = (least.expect("one"), most.expect("one"));
            assert!(most - least <= 1, "{shards} shards: {counts:?}");
            assert_eq!(ownership.partitions().count(), table.partitions().count());
            let of_each = (0..shards).map(|shard| ownership.partitions_of(shard).count());
            assert_eq!(of_each.sum::<usize>(), table.partitions().count());
        }
    }

    #[test]
    fn what_can_be_dealt_out_evenly_keeps_an_endpoint_on_one_shard() {
        let table = table(&[(1, 4), (2, 8), (3, 16)], 8);
        for shards in [1, 2, 4] {
            let ownership = Ownership::new(&table, shards);
            for id in 0..1_000u64 {
                let here = (id % u64::from(shards)) as u16;
                for hub in table.hubs() {
                    let number = (id % u64::from(hub.partitions)) as u16;
                    let owner = ownership.partition(PartitionId::new(hub.id, number));
                    assert_eq!(owner, Some(here), "endpoint {id}, hub {}", hub.id);
                }
                let group = table.queue_group_of(wire::ids::EndpointId(id));
                assert_eq!(ownership.queue_group(group), here);
            }
        }
    }

    #[test]
    fn a_hub_that_comes_later_leaves_all_others_where_they_are() {
        for shards in 1..=8 {
            let mut ownership = Ownership::new(&table(&[(5, 3), (9, 4)], 4), shards);
            let before: Vec<_> = ownership.partitions().collect();
            let later = table(&[(1, 2), (5, 3), (9, 4), (6, 1)], 4);
            assert!(!ownership.has(1) && ownership.has(5));
            ownership.extend(&later);
            for (id, owner) in before {
                assert_eq!(ownership.partition(id), Some(owner));
            }
            assert_eq!(ownership.partitions().count(), 10);
            let once = ownership.clone();
            ownership.extend(&later);
            assert_eq!(ownership, once, "what is dealt out is not dealt out again");
            // Without a hub it stays dealt out: it may come back.
            ownership.extend(&table(&[(9, 4)], 4));
            assert_eq!(ownership, once);
        }
    }

    #[test]
    fn what_the_table_does_not_have_nobody_owns() {
        let ownership = Ownership::new(&table(&[(1, 4)], 2), 8);
        assert_eq!(ownership.partition(PartitionId::new(1, 4)), None);
        assert_eq!(ownership.partition(PartitionId::new(2, 0)), None);
        let readers: Vec<u16> = (0..8).filter(|shard| ownership.reads(*shard)).collect();
        assert_eq!(readers, [0, 1], "six shards have no queue group");
    }
}
