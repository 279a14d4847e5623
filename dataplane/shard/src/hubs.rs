//! Hubs that come while the shards run. First every shard of the node takes its part of their logs and listens to the others'; only
//! when all have does any of them serve these hubs, and tells of its logs: with a table that names them, or, if one has before, when
//! it is told to.
//!
//! A table may name hubs whose logs nobody could open. What is sent to their channels is refused with `hub_unavailable`; where nothing was
//! ever stored, WELCOME names the channels all the same, and their streams begin, or go on, when the logs are there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use partition::{LogId, Partition, Segment};
use wire::ids::{PartitionId, Sequence};

use crate::log::{HubModes, Log};
use crate::ownership::Ownership;
use crate::peers::Peers;
use crate::queue::LogEnd;
use crate::session::SessionRef;
use crate::tables::settle_ack_modes;
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
    /// Take over new hubs between two turns. They are served from the next table on, or from [`serve_hubs`](Self::serve_hubs) on,
    /// which no shard may come to before all shards of the node have taken them over.
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
        self.coming = Some(ownership);
    }

    /// Serve the hubs that all shards of the node have taken over, under the table in force.
    pub fn serve_hubs(&mut self) {
        if self.begin_hubs() {
            self.serve_begun();
        }
    }

    /// Hubs have begun under the table in force: who may send to them finds that out.
    pub(crate) fn serve_begun(&mut self) {
        settle_ack_modes(&mut self.peers, &self.logs);
        self.peers.hold_all_anew();
    }

    /// From the next table on these hubs of it have no logs on this node and never had any, by rising id.
    pub fn lack_hubs(&mut self, hubs: &[u16]) {
        debug_assert!(hubs.is_sorted(), "{hubs:?}");
        self.peers.without_logs = hubs.into();
    }

    /// What was taken over is sent to, and told of, from now on. Whether there was anything.
    pub(crate) fn begin_hubs(&mut self) -> bool {
        let coming = self.coming.take();
        let any = coming.is_some();
        if let Some(ownership) = coming {
            self.peers.ownership = ownership;
            self.owned.serve();
        }
        self.mesh.publish(&self.peers.ownership, &self.logs);
        any
    }
}

/// Where streams of sessions went back that have no log yet; of a session at most one for each grant that it has had on its connection.
#[derive(Debug, Default)]
pub(crate) struct Unopened(BTreeMap<(SessionRef, PartitionId), Sequence>);

impl Unopened {
    /// A frame of this number is refused. Whether that is told: what follows a refused one is discarded.
    fn refuse(&mut self, session: SessionRef, partition: PartitionId, number: Sequence) -> bool {
        let at = self.0.entry((session, partition)).or_insert(number);
        let told = number <= *at;
        *at = number.min(*at);
        told
    }

    /// The stream has a log: where it is to go on from, if it went back.
    pub(crate) fn take(&mut self, session: SessionRef, partition: PartitionId) -> Option<Sequence> {
        self.0.remove(&(session, partition))
    }

    /// The session has another connection, or is no more.
    pub(crate) fn forget(&mut self, session: SessionRef) {
        let of_session = (session, PartitionId(0))..=(session, PartitionId(u32::MAX));
        while let Some((key, _)) = self.0.range(of_session.clone()).next() {
            let key = *key;
            self.0.remove(&key);
        }
    }
}

/// Whether the refusal of a frame is told whose stream its session does not have. The streams of a hub that is not open go back as
/// those in logs do: those that the session has a grant for, so there is at most one for each. Where it has none there is no stream,
/// and each refusal is told.
pub(crate) fn goes_back_unopened(
    peers: &mut Peers,
    reference: SessionRef,
    partition: PartitionId,
    number: Sequence,
) -> bool {
    match number > Sequence(0) && is_unopened(peers, reference, partition) {
        true => peers.unopened.refuse(reference, partition, number),
        false => true,
    }
}

/// Whether a session may send to a partition of the table, and the partition's hub is not open.
fn is_unopened(peers: &Peers, reference: SessionRef, partition: PartitionId) -> bool {
    if peers.ownership.has(partition.hub()) {
        return false;
    }
    let table = &peers.table;
    let sender = peers
        .sessions
        .get(reference)
        .map(|session| session.endpoint);
    let Some(sender) = sender.and_then(|sender| table.endpoint(sender)) else {
        return false;
    };
    let mut granted = sender.send.iter();
    granted.any(|grant| {
        let channel = table.channel(grant.channel);
        channel.is_some_and(|channel| table.partition_of(sender.id, channel) == partition)
    })
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
