//! The route table: who may send where, who hears what, with which keys. Control compiles it, shards read
//! it. It never changes once built; a new epoch is a new table.
//!
//! A table is one run of bytes (`rows` says which), read where they lie, and what changed since (`overlay`). A [`Delta`] makes
//! a table of another one without copying it, and what both have in common they share. All of it is off the shards: these
//! are handed a table and ask it.

mod allowance;
mod arena;
mod base;
mod build;
mod bytes;
mod delta;
mod digest;
mod endpoint;
mod head;
mod index;
mod layer;
mod material;
mod node;
mod overlay;
mod pages;
mod rated;
mod read;
mod restriction;
mod rows;
mod together;
mod transports;
mod view;
mod window;
mod write;

pub use allowance::{Allowance, Holder, Overdrawn, Rates, Unit, give_back, take};
pub use build::{KEYS_MAX, TableBuilder, TableError, TableParts};
pub use bytes::TableBytes;
pub use delta::{Delta, DeltaError, DeltaParts};
pub use digest::Digest;
pub use endpoint::{Endpoint, Grant, Key, OnFull, QueueBounds};
pub use head::{Account, Channel, HeadParts, Hub, Priority};
pub use node::{NODE_ADDRESS_BYTES_MAX, NODE_NAME_BYTES_MAX, Node};
pub use read::ReadError;
pub use restriction::{AddressRange, AddressRangeError, Restriction};
pub use together::TOGETHER;
pub use transports::{Transport, Transports};
pub use view::{EndpointView, GrantView, Grants, KeyView, Keys};
pub use window::{Window, WindowError};

pub use crate::signature::{KeyMaterial, KeyRef};

/// A channel as the parts of a table name it.
pub type ChannelParts = Channel;

use std::sync::Arc;

use crate::ids::{ChannelId, EndpointId, NodeId, PartitionId};
use base::Base;
use head::Head;
use layer::Layer;
use overlay::Overlay;
use rated::Rated;
use rows::{Kind, RatesRow};
use write::{Seen, Title, Writer};

/// The whole table. Lookups take constant time, allocate nothing, and give the same answer in every process. To clone it copies
/// nothing that grows with it.
///
/// Endpoints have indexes. One keeps its index from table to table as long as [`changes_since`](Self::changes_since) can tell
/// what changed.
#[derive(Debug, Clone)]
pub struct RouteTable {
    epoch: u64,
    digest: Digest,
    head: Arc<Head>,
    base: Arc<Base>,
    overlay: Arc<Overlay>,
    rated: Rated,
}

/// A base and what changed since.
#[derive(Clone, Copy)]
struct Both<'t> {
    base: &'t Base,
    overlay: &'t Overlay,
}

impl<'t> Both<'t> {
    #[inline]
    fn index_of(self, id: EndpointId) -> Option<u32> {
        let of_base = self.base.index_of(id);
        if self.overlay.is_empty() {
            return of_base;
        }
        let there = |index: &u32| self.overlay.slot(*index).is_none_or(|slot| !slot.gone);
        of_base
            .filter(there)
            .or_else(|| self.overlay.new_index(id.0))
    }

    #[inline]
    fn endpoint_at(self, index: u32) -> EndpointView<'t> {
        if self.overlay.is_empty() {
            return self.base.layer.endpoint(index);
        }
        match self.overlay.slot(index) {
            Some(slot) => self.overlay.endpoint(self.base, slot),
            None => self.base.layer.endpoint(index),
        }
    }

    fn by_name(self, name: &str) -> Option<u32> {
        let of_base = self.base.layer.by_name(name);
        let there = |index: &u32| self.overlay.slot(*index).is_none_or(|slot| !slot.gone);
        of_base.filter(there).or_else(|| {
            let names = self.overlay.names();
            let seen = |index: &u32| self.endpoint_at(*index).name().cmp(name);
            names.binary_search_by(seen).ok().map(|at| names[at])
        })
    }
}

impl RouteTable {
    /// Check the parts against each other and index them.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn build(parts: TableParts) -> Result<Self, TableError> {
        build::build(parts)
    }

    /// The table that these bytes are, without copying them.
    ///
    /// # Errors
    /// When they are none: whatever they are, this finds out.
    pub fn read(bytes: TableBytes) -> Result<Self, ReadError> {
        let parts = read::read(bytes, Kind::Table)?;
        let head = parts.head.ok_or(ReadError::Malformed("lengths"))?;
        Ok(Self::of(&parts.title, Head::new(head)?, parts.layer)?)
    }

    fn of(title: &Title, head: Head, layer: Layer) -> Result<Self, TableError> {
        let base = Base::new(layer, &head)?;
        Ok(Self {
            epoch: title.epoch,
            digest: title.digest,
            rated: Rated::new(&head, &base.layer),
            overlay: Arc::new(Overlay::beside(&base)),
            head: Arc::new(head),
            base: Arc::new(base),
        })
    }

    /// The whole table as bytes, to be sent or kept; secrets are among them. They are there already, unless something changed
    /// since the base: then it is written anew, which takes a second for a million endpoints.
    ///
    /// # Panics
    /// Never: what a table holds can be encoded.
    pub fn encode(&self) -> TableBytes {
        if self.is_as_read() {
            return self.base.layer.bytes.clone();
        }
        self.compacted().base.layer.bytes.clone()
    }

    /// Bytes that [`encode`](Self::encode) gives at most. Costs nothing.
    pub fn encoded_bytes_max(&self) -> u64 {
        let endpoints = self.base.layer.bytes.len() + self.overlay.layer_bytes();
        // The head of the base may be another.
        (endpoints + self.head.bytes) as u64
    }

    /// Whether the bytes of the base are those of the whole table.
    fn is_as_read(&self) -> bool {
        let bytes = &self.base.layer.bytes[self.base.layer.head_bytes()];
        let mut head = Vec::new();
        head::put_head(&mut head, &self.head.parts);
        self.overlay.is_empty() && head == bytes && self.base.layer.epoch() == self.epoch
    }

    /// The same table without anything beside its base. Takes a good part of a second for a million endpoints, and as much memory again.
    ///
    /// # Panics
    /// Never: what a table holds can be encoded.
    #[must_use]
    pub fn compacted(&self) -> Self {
        let keys = self.endpoints().map(|endpoint| endpoint.keys.len()).sum();
        let mut writer = Writer::with_room(self.endpoint_count(), keys);
        let small = "it was encoded before";
        let mut seen = Seen::of(&self.base.layer);
        for endpoint in self.endpoints() {
            let wrote = match std::ptr::eq(endpoint.place().0, &self.base.layer) {
                true => writer.copy(&endpoint, &mut seen),
                false => writer.push(endpoint.to_parts()),
            };
            wrote.expect(small);
        }
        let title = Title {
            kind: Kind::Table,
            epoch: self.epoch,
            digest: self.digest,
            base: (0, Digest([0; 32])),
        };
        let head = Head::new(self.head.parts.clone()).expect(small);
        let mut table = build::assemble(&title, head, writer).expect(small);
        table.go_on_from(self);
        table
    }

    /// Whether so much changed since the base that [`compacted`](Self::compacted) is worth its while.
    pub fn is_loose(&self) -> bool {
        self.overlay.is_loose(&self.base.layer)
    }

    /// The change that makes these parts of this table.
    ///
    /// # Errors
    /// When they are no change of it. Whether all that comes of it fits together shows in [`after`](Self::after).
    pub fn change(&self, parts: DeltaParts) -> Result<Delta, DeltaError> {
        Delta::of(self, parts)
    }

    /// This table after a change. It takes what the change is long, not what the table is, unless channels go or the rates of accounts
    /// change. What was taken of allowances stays taken.
    ///
    /// # Errors
    /// When the change is not one of this table, or what comes of it contradicts itself.
    pub fn after(&self, delta: &Delta) -> Result<Self, DeltaError> {
        if (self.epoch, self.digest) != (delta.base_epoch(), delta.base_digest()) {
            let (seen, needed) = (self.epoch, delta.base_epoch());
            return Err(DeltaError::Base { seen, needed });
        }
        // Who asks what changed since an epoch would not hear of it.
        if delta.epoch() <= self.epoch {
            let (seen, made) = (self.epoch, delta.epoch());
            return Err(DeltaError::Epoch { seen, made });
        }
        let head = delta.head().map_or(&self.head, |head| head);
        let mut overlay = (*self.overlay).clone();
        overlay.take(&self.base, head, delta)?;
        let both = Both {
            base: &self.base,
            overlay: &overlay,
        };
        let changed = overlay.changed_after(self.epoch).iter().map(|(_, index)| {
            let gone = overlay.slot(*index).is_some_and(|slot| slot.gone);
            (*index, (!gone).then(|| both.endpoint_at(*index)))
        });
        let rated = match self.rated.is_nobodys(delta.layer()) {
            // Nobody is looked at: that takes a fifth of a large change.
            true => self.rated.clone(),
            false => self.rated.after(changed),
        };
        let mut table = Self {
            epoch: delta.epoch(),
            digest: delta.digest(),
            head: Arc::clone(head),
            base: Arc::clone(&self.base),
            rated,
            overlay: Arc::new(overlay),
        };
        if delta.head().is_some() {
            table.settle_head(self)?;
        }
        Ok(table)
    }

    /// The head is another one than before.
    fn settle_head(&mut self, before: &Self) -> Result<(), TableError> {
        let goes = |channel: &Channel| self.channel(channel.id).is_none();
        if before.channels().iter().any(goes) {
            for endpoint in self.endpoints() {
                let grants = endpoint.send.iter().chain(endpoint.receive.iter());
                let missing = { grants }.find(|grant| self.channel(grant.channel).is_none());
                if let Some(grant) = missing {
                    let name = endpoint.name().into();
                    return Err(TableError::NoChannel(name, grant.channel));
                }
            }
        }
        if before
            .nodes()
            .iter()
            .any(|node| self.node(node.id).is_none())
        {
            for endpoint in self.endpoints() {
                check_home(&endpoint, &self.head)?;
            }
        }
        if before.head.parts.accounts != self.head.parts.accounts {
            let fresh = Rated::new(&self.head, &self.base.layer);
            let both = self.both();
            let changed = self.overlay.indexes().map(|(index, gone)| {
                let endpoint = (!gone).then(|| both.endpoint_at(index));
                (index, endpoint)
            });
            let mut rated = fresh.after(changed);
            rated.go_on_from(self, before);
            self.rated = rated;
        }
        Ok(())
    }

    #[inline]
    fn both(&self) -> Both<'_> {
        Both {
            base: &self.base,
            overlay: &self.overlay,
        }
    }

    /// Whether both tables have one base, and this one knows what the other did not.
    fn has_base_of(&self, before: &Self) -> bool {
        Arc::ptr_eq(&self.base, &before.base)
            && self.head.parts.accounts == before.head.parts.accounts
    }

    /// The version number of this table.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What it says, whatever its epoch.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Everything but the endpoints.
    pub fn head(&self) -> &HeadParts {
        &self.head.parts
    }

    /// Bytes of memory that it takes, if it shares them with no other.
    pub fn memory_bytes(&self) -> usize {
        self.base.memory_bytes() + self.overlay.memory_bytes()
    }

    /// What changed since this older table, if that is known and is nothing but endpoints: then all others have the indexes they had,
    /// and say what they said.
    pub fn changes_since(&self, before: &Self) -> Option<Changes<'_>> {
        let known = Arc::ptr_eq(&self.base, &before.base)
            && Arc::ptr_eq(&self.head, &before.head)
            && before.epoch <= self.epoch;
        known.then_some(Changes {
            table: self,
            epoch: before.epoch,
        })
    }

    /// All endpoints, by rising name.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointView<'_>> + Clone {
        let both = self.both();
        let there = move |index: &u32| both.overlay.slot(*index).is_none_or(|slot| !slot.gone);
        let of_base = (0..self.base.layer.endpoints).filter(there);
        let mut of_base = of_base.map(move |at| both.endpoint_at(at)).peekable();
        let new = self.overlay.names().iter();
        let mut new = new.map(move |at| both.endpoint_at(*at)).peekable();
        std::iter::from_fn(move || match (of_base.peek(), new.peek()) {
            (Some(a), Some(b)) if b.name() < a.name() => new.next(),
            (None, _) => new.next(),
            (Some(_), _) => of_base.next(),
        })
    }

    /// How many endpoints there are.
    pub fn endpoint_count(&self) -> usize {
        self.overlay.count(self.base.layer.endpoints)
    }

    /// The endpoint with this id.
    #[inline]
    pub fn endpoint(&self, id: EndpointId) -> Option<EndpointView<'_>> {
        self.endpoint_index(id).map(|at| self.endpoint_at(at))
    }

    /// The index of the endpoint with this id.
    #[inline]
    pub fn endpoint_index(&self, id: EndpointId) -> Option<u32> {
        self.both().index_of(id)
    }

    /// The endpoint with this index; one that is gone as it was.
    ///
    /// # Panics
    /// When there never was one.
    #[inline]
    pub fn endpoint_at(&self, index: u32) -> EndpointView<'_> {
        self.both().endpoint_at(index)
    }

    /// The endpoint with this full name.
    pub fn endpoint_by_name(&self, name: &str) -> Option<EndpointView<'_>> {
        let index = self.both().by_name(name)?;
        Some(self.endpoint_at(index))
    }

    /// The channel with this id.
    #[inline]
    pub fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.head.channel(id)
    }

    /// All channels, by rising name.
    pub fn channels(&self) -> &[Channel] {
        &self.head.parts.channels
    }

    /// Indexes of the endpoints that hear a channel; none of one that is not there.
    #[inline]
    pub fn subscribers(&self, channel: ChannelId) -> impl Iterator<Item = u32> {
        self.overlay.subscribers(&self.base, channel)
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.head.node(id)
    }

    /// The node with this name.
    pub fn node_by_name(&self, name: &str) -> Option<&Node> {
        let nodes = self.nodes();
        let at = nodes.binary_search_by(|node| (*node.name).cmp(name));
        at.ok().map(|at| &nodes[at])
    }

    /// All nodes that endpoints may be at home at, by rising name.
    pub fn nodes(&self) -> &[Node] {
        &self.head.parts.nodes
    }

    /// All hubs, as they were given.
    pub fn hubs(&self) -> &[Hub] {
        &self.head.parts.hubs
    }

    /// The hub of a channel of this table.
    #[inline]
    pub fn hub_of(&self, channel: &Channel) -> &Hub {
        &self.hubs()[usize::from(channel.hub)]
    }

    /// Every partition of every hub.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, &Hub)> {
        self.hubs().iter().flat_map(|hub| {
            (0..hub.partitions).map(move |number| (PartitionId::new(hub.id, number), hub))
        })
    }

    /// The hub of a partition, if this table has that partition.
    pub fn hub_of_partition(&self, partition: PartitionId) -> Option<&Hub> {
        self.hubs()
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
    /// that have it take from the same allowances as those that do not have it yet.
    pub fn go_on_from(&mut self, before: &Self) {
        let mut rated = std::mem::take(&mut self.rated);
        rated.go_on_from(self, before);
        self.rated = rated;
    }

    /// How many groups the queues are spread over.
    pub fn queue_groups(&self) -> u16 {
        self.head.parts.queue_groups
    }

    /// The group that holds this endpoint's queue.
    #[inline]
    pub fn queue_group_of(&self, endpoint: EndpointId) -> u16 {
        (endpoint.0 % u64::from(self.queue_groups())) as u16
    }
}

/// An endpoint is at home at a node of its table.
fn check_home(endpoint: &EndpointView<'_>, head: &Head) -> Result<(), TableError> {
    match endpoint.home() {
        Some(home) if head.node(home).is_none() => {
            Err(TableError::NoNode(endpoint.name().into(), home))
        }
        _ => Ok(()),
    }
}

/// What changed from one table to a newer one.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'t> {
    table: &'t RouteTable,
    epoch: u64,
}

impl Changes<'_> {
    /// Whether the endpoint with this index changed, or is gone.
    #[inline]
    pub fn has(&self, index: u32) -> bool {
        let slot = self.table.overlay.slot(index);
        slot.is_some_and(|slot| slot.epoch > self.epoch)
    }

    /// The epoch of the newer table.
    pub fn epoch(&self) -> u64 {
        self.table.epoch
    }

    /// How many changes there are; an endpoint that changed twice may count twice.
    pub fn count(&self) -> usize {
        self.table.overlay.changed_after(self.epoch).len()
    }

    /// The endpoints that changed, as they are or last were; one that changed twice may come twice.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointView<'_>> + Clone {
        let changed = self.table.overlay.changed_after(self.epoch).iter();
        changed.map(|(_, index)| self.table.endpoint_at(*index))
    }
}
