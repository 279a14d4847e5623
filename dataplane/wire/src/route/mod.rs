//! The route table: who may send where, who hears what, with which keys. Control compiles it, shards read
//! it. It never changes once built; a new epoch is a new table.

mod allowance;
mod build;
mod endpoint;
mod index;
mod rated;
mod restriction;
mod transports;
mod window;

pub use allowance::{Allowance, Holder, Overdrawn, Rates, Unit, give_back, take};
pub use build::{ChannelParts, TableError, TableParts};
pub use endpoint::{Endpoint, Grant, Key, OnFull, QueueBounds};
pub use restriction::{AddressRange, AddressRangeError, Restriction};
pub use transports::{Transport, Transports};
pub use window::{Window, WindowError};

pub use crate::signature::KeyMaterial;

use std::time::Duration;

use crate::ids::{AckMode, ChannelId, EndpointId, PartitionId};
use index::Index;
use rated::Rated;

/// A hub: a set of partitions with one durability and one retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Its id, the high half of its partitions' ids.
    pub id: u16,
    /// Its full name.
    pub name: Box<str>,
    /// How many partitions it has, fixed when it was created.
    pub partitions: u16,
    /// What an ACK promises.
    pub ack: AckMode,
    /// Bytes of each segment file.
    pub segment_bytes: u32,
    /// Bytes of each partition beyond which its oldest segments expire.
    pub retention_bytes: Option<u64>,
    /// Age beyond which segments expire.
    pub retention_age: Option<Duration>,
}

/// Who owns endpoints: the first part of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: Box<str>,
    /// What all its endpoints together may send.
    pub rates: Rates,
}

/// Which channels are served first when not all can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Priority {
    /// Like any other.
    #[default]
    Normal,
    /// Messages to it are refused before any to a channel of normal priority is.
    Low,
}

/// A channel: what a route leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Its full name.
    pub name: Box<str>,
    /// Index of its hub.
    pub hub: u16,
    /// What is refused first.
    pub priority: Priority,
    /// Indexes of the endpoints that hear it, rising.
    pub subscribers: Vec<u32>,
}

/// The whole table. Lookups take constant time, allocate nothing, and give the same answer in every process.
#[derive(Debug, Clone)]
pub struct RouteTable {
    epoch: u64,
    queue_groups: u16,
    hubs: Vec<Hub>,
    channels: Vec<Channel>,
    endpoints: Vec<Endpoint>,
    channel_index: Index,
    endpoint_index: Index,
    rated: Rated,
}

impl RouteTable {
    /// Check the parts against each other and index them.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn build(parts: TableParts) -> Result<Self, TableError> {
        build::build(parts)
    }

    /// The version number of this table.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All endpoints, by rising name.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoint with this id.
    #[inline]
    pub fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoint_index(id)
            .map(|at| &self.endpoints[at as usize])
    }

    /// The index of the endpoint with this id.
    #[inline]
    pub fn endpoint_index(&self, id: EndpointId) -> Option<u32> {
        self.endpoint_index.get(id.0)
    }

    /// The endpoint with this index.
    pub fn endpoint_at(&self, index: u32) -> &Endpoint {
        &self.endpoints[index as usize]
    }

    /// The endpoint with this full name.
    pub fn endpoint_by_name(&self, name: &str) -> Option<&Endpoint> {
        let at = self
            .endpoints
            .binary_search_by(|endpoint| (*endpoint.name).cmp(name))
            .ok()?;
        Some(&self.endpoints[at])
    }

    /// The channel with this id.
    #[inline]
    pub fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channel_index
            .get(u64::from(id.0))
            .map(|at| &self.channels[at as usize])
    }

    /// All channels, by rising name.
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// All hubs, as they were given.
    pub fn hubs(&self) -> &[Hub] {
        &self.hubs
    }

    /// The hub of a channel of this table.
    #[inline]
    pub fn hub_of(&self, channel: &Channel) -> &Hub {
        &self.hubs[usize::from(channel.hub)]
    }

    /// Every partition of every hub.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, &Hub)> {
        self.hubs.iter().flat_map(|hub| {
            (0..hub.partitions).map(move |number| (PartitionId::new(hub.id, number), hub))
        })
    }

    /// The hub of a partition, if this table has that partition.
    pub fn hub_of_partition(&self, partition: PartitionId) -> Option<&Hub> {
        self.hubs
            .iter()
            .find(|hub| hub.id == partition.hub() && partition.number() < hub.partitions)
    }

    /// Where this endpoint's frames for this channel go: its id modulo the hub's partitions.
    #[inline]
    pub fn partition_of(&self, endpoint: EndpointId, channel: &Channel) -> PartitionId {
        let hub = self.hub_of(channel);
        PartitionId::new(hub.id, (endpoint.0 % u64::from(hub.partitions)) as u16)
    }

    /// The allowances that messages of the endpoint with this index to this channel are taken out of; mostly none.
    #[inline]
    pub fn allowances(
        &self,
        endpoint: u32,
        channel: ChannelId,
    ) -> impl Iterator<Item = &Allowance> + Clone {
        self.rated.of(endpoint, channel)
    }

    /// Whether the endpoint with this index has any rate that holds for all its channels.
    pub fn is_rated(&self, endpoint: u32) -> bool {
        self.rated.is_whole(endpoint)
    }

    /// Go on from what was taken of the allowances of an older table: a new table gives nobody a second's worth anew, and shards
    /// that have it take from the same allowances as those that do not have it yet. Allocates nothing.
    pub fn go_on_from(&mut self, before: &Self) {
        let Self {
            rated, endpoints, ..
        } = self;
        rated.go_on_from(endpoints, before);
    }

    /// How many groups the queues are spread over.
    pub fn queue_groups(&self) -> u16 {
        self.queue_groups
    }

    /// The group that holds this endpoint's queue.
    #[inline]
    pub fn queue_group_of(&self, endpoint: EndpointId) -> u16 {
        (endpoint.0 % u64::from(self.queue_groups)) as u16
    }
}
