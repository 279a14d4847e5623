//! Hubs that come while the shards run. First every shard of the node takes its part of their logs and listens to the others'; only
//! when all have is any of them given a table that names these hubs, and with it begins to tell of its logs.

use std::fmt;
use std::sync::Arc;

use partition::{LogId, Partition, Segment};

use crate::log::{HubModes, Log};
use crate::ownership::Ownership;
use crate::queue::LogEnd;
use crate::turn::Shard;

/// New hubs, as one shard is given them. All shards of the node are given the same ownership and the same ends.
pub struct NewHubs<S: Segment> {
    /// Who owns what from now on.
    pub ownership: Ownership,
    /// The logs that this shard owns of them, recovered.
    pub partitions: Vec<Partition<S>>,
    /// The ends of all their logs.
    pub ends: Vec<LogEnd>,
}

impl<S: Segment> fmt::Debug for NewHubs<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewHubs")
            .field("partitions", &self.partitions.len())
            .finish_non_exhaustive()
    }
}

impl<S: Segment> Shard<S> {
    /// Take over new hubs between two turns. No table may name them before all shards of the node have.
    ///
    /// # Panics
    /// When one of the partitions is there already, or is another shard's.
    pub fn adopt(&mut self, hubs: NewHubs<S>) {
        let NewHubs {
            ownership,
            partitions,
            ends,
        } = hubs;
        let table = Arc::clone(&self.peers.table);
        let modes = HubModes::of(&table);
        let seed = self.peers.limits.hash_seed;
        for partition in partitions {
            let log = Log::new(partition, &modes, seed);
            let owner = ownership.partition(log.id);
            assert_eq!(owner, Some(self.peers.limits.shard), "{}", log.id);
            self.owned.add(log.id, self.logs.len() as u32);
            self.logs.push(log);
        }
        if ownership.reads(self.peers.limits.shard) {
            self.mesh.follow(&ownership);
        }
        for group in &mut self.groups {
            group.queues.adopt(&ends);
        }
        self.peers.ownership = ownership;
    }
}

/// Where the log of a partition ends.
#[must_use]
pub fn end_of<S: Segment>(partition: &Partition<S>) -> Option<LogEnd> {
    match partition.log() {
        LogId::Partition(id) => Some(LogEnd {
            partition: id,
            first: partition.first(),
            end: partition.appended(),
        }),
        LogId::Queue(_) => None,
    }
}
