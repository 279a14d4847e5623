//! What changed since the base: looked at before it, never copied with it. Indexes stay what they are: an endpoint that is
//! changed keeps its own, one that is new has the next.

use std::sync::Arc;

use super::base::Base;
use super::delta::{Delta, DeltaError};
use super::head::Head;
use super::index::IdMap;
use super::layer::Layer;
use super::view::EndpointView;
use super::{Both, TableError, check_home};
use crate::ids::ChannelId;

/// Entries that are few whatever the base.
const ENTRIES_FEW: usize = 4_096;
/// Bytes of changes that are few whatever the base.
const BYTES_FEW: usize = 8 << 20;
/// One in so many endpoints may have an entry before the table is loose.
const BASE_SHARE: usize = 64;

/// Where the newest form of an endpoint is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    layer: u32,
    row: u32,
    /// Of the table that brought it.
    pub(super) epoch: u64,
    /// It was taken away; what it was last is still there.
    pub(super) gone: bool,
}

/// The layer number that stands for the base.
const BASE: u32 = u32::MAX;

/// Who hears a channel otherwise than the base says; both rising.
#[derive(Debug, Clone, Default)]
struct Heard {
    added: Vec<u32>,
    removed: Vec<u32>,
}

/// Changes since the base.
#[derive(Debug, Clone)]
pub(super) struct Overlay {
    layers: Vec<Arc<Layer>>,
    /// Bytes of their encodings; heads are among them.
    layer_bytes: usize,
    by_index: IdMap<u32, Slot>,
    /// Indexes of endpoints that the base does not have, by id.
    new: IdMap<u64, u32>,
    /// The same by rising name.
    names: Vec<u32>,
    next: u32,
    /// How many of the base's are gone.
    gone_of_base: u32,
    heard: IdMap<u32, Arc<Heard>>,
    /// What changed, in this order, with the epoch that changed it.
    log: Vec<(u64, u32)>,
}

impl Overlay {
    /// Nothing, beside this base.
    pub(super) fn beside(base: &Base) -> Self {
        Self {
            layers: Vec::new(),
            layer_bytes: 0,
            by_index: IdMap::default(),
            new: IdMap::default(),
            names: Vec::new(),
            next: base.layer.endpoints,
            gone_of_base: 0,
            heard: IdMap::default(),
            log: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }

    #[inline]
    pub(super) fn slot(&self, index: u32) -> Option<&Slot> {
        self.by_index.get(&index)
    }

    /// Every index that has an entry, and whether its endpoint is gone.
    pub(super) fn indexes(&self) -> impl Iterator<Item = (u32, bool)> {
        self.by_index
            .iter()
            .map(|(index, slot)| (*index, slot.gone))
    }

    /// The index of an endpoint that the base does not have.
    pub(super) fn new_index(&self, id: u64) -> Option<u32> {
        self.new.get(&id).copied()
    }

    /// Indexes of endpoints that the base does not have, by rising name.
    pub(super) fn names(&self) -> &[u32] {
        &self.names
    }

    /// How many endpoints there are beside a base of so many.
    pub(super) fn count(&self, base: u32) -> usize {
        (base - self.gone_of_base) as usize + self.names.len()
    }

    /// Indexes that changed after this epoch, some of them more than once.
    pub(super) fn changed_after(&self, epoch: u64) -> &[(u64, u32)] {
        let from = self.log.partition_point(|(at, _)| *at <= epoch);
        &self.log[from..]
    }

    /// Whether so much changed that a new base is worth its while.
    pub(super) fn is_loose(&self, base: &Layer) -> bool {
        let most = ENTRIES_FEW.max(base.endpoints as usize / BASE_SHARE);
        let bytes_most = BYTES_FEW.max(base.bytes.len() / 8);
        self.by_index.len() > most || self.log.len() > 4 * most || self.layer_bytes > bytes_most
    }

    /// The endpoint in this slot.
    pub(super) fn endpoint<'t>(&'t self, base: &'t Base, slot: &Slot) -> EndpointView<'t> {
        match slot.layer {
            BASE => base.layer.endpoint(slot.row),
            layer => self.layers[layer as usize].endpoint(slot.row),
        }
    }

    /// Who hears a channel.
    #[inline]
    pub(super) fn subscribers<'t>(
        &'t self,
        base: &'t Base,
        channel: ChannelId,
    ) -> impl Iterator<Item = u32> + 't {
        let heard = match self.heard.is_empty() {
            true => None,
            false => self.heard.get(&channel.0),
        };
        let (added, removed) = heard.map_or((&[][..], &[][..]), |heard| {
            (&heard.added[..], &heard.removed[..])
        });
        let stays = move |at: &u32| removed.is_empty() || removed.binary_search(at).is_err();
        let of_base = base.subscribers(channel).iter().copied().filter(stays);
        of_base.chain(added.iter().copied())
    }

    /// Bytes of the changes that have endpoints, as they were encoded.
    pub(super) fn layer_bytes(&self) -> usize {
        self.layer_bytes
    }

    /// Bytes of memory that it takes, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        let layers = self.layers.iter().map(|layer| layer.memory_bytes());
        let heard = self.heard.values();
        let heard = heard.map(|heard| 4 * (heard.added.capacity() + heard.removed.capacity()));
        layers.sum::<usize>()
            + heard.sum::<usize>()
            + self.by_index.capacity() * (size_of::<(u32, Slot)>() + 1)
            + self.new.capacity() * (size_of::<(u64, u32)>() + 1)
            + 4 * self.names.capacity()
            + 16 * self.log.capacity()
    }

    /// Take a change in; on failure nothing of this is of use.
    pub(super) fn take(
        &mut self,
        base: &Base,
        head: &Head,
        delta: &Delta,
    ) -> Result<(), DeltaError> {
        let epoch = delta.epoch();
        self.take_away(base, delta, epoch)?;
        let layer = delta.layer();
        let number = self.layers.len() as u32;
        // One that changes no endpoint has nothing to be found in it, but a whole head.
        if layer.endpoints > 0 {
            self.layers.push(Arc::clone(layer));
            self.layer_bytes += layer.bytes.len();
        }
        let before = self.names.len();
        for row in 0..layer.endpoints {
            let endpoint = layer.endpoint(row);
            check_home(&endpoint, head)?;
            for grant in endpoint.send.iter().chain(endpoint.receive.iter()) {
                if head.channel(grant.channel).is_none() {
                    let name = endpoint.name().into();
                    return Err(TableError::NoChannel(name, grant.channel).into());
                }
            }
            let index = self.put(base, &endpoint)?;
            self.log.push((epoch, index));
            let slot = Slot {
                layer: number,
                row,
                epoch,
                gone: false,
            };
            if self
                .by_index
                .insert(index, slot)
                .is_some_and(|old| old.gone)
                && index < base.layer.endpoints
            {
                self.gone_of_base -= 1;
            }
        }
        if self.names.len() > before {
            let mut names = std::mem::take(&mut self.names);
            let both = Both {
                base,
                overlay: self,
            };
            let name = |at: &u32| both.endpoint_at(*at).name();
            names.sort_by(|a, b| name(a).cmp(name(b)));
            // While they came they were not in order, so one may have been overlooked.
            if let Some(two) = names.windows(2).find(|two| name(&two[0]) == name(&two[1])) {
                let twice = TableError::NameTwice("endpoints", name(&two[0]).into());
                return Err(twice.into());
            }
            self.names = names;
        }
        Ok(())
    }

    fn take_away(&mut self, base: &Base, delta: &Delta, epoch: u64) -> Result<(), DeltaError> {
        let both = Both {
            base,
            overlay: self,
        };
        let index = |id| both.index_of(id).ok_or(DeltaError::NotThere(id));
        let gone: Result<Vec<u32>, _> = delta.layer().gone().map(index).collect();
        let mut gone = gone?;
        gone.sort_unstable();
        for &index in &gone {
            let both = Both {
                base,
                overlay: self,
            };
            let endpoint = both.endpoint_at(index);
            let (id, heard) = (endpoint.id, channels(&endpoint));
            for channel in heard {
                self.unhear(base, channel, index);
            }
            let in_base = Slot {
                layer: BASE,
                row: index,
                epoch,
                gone: true,
            };
            let slot = self.by_index.entry(index).or_insert(in_base);
            (slot.epoch, slot.gone) = (epoch, true);
            if self.new.remove(&id.0).is_none() {
                self.gone_of_base += 1;
            }
            self.log.push((epoch, index));
        }
        if gone
            .last()
            .is_some_and(|last| *last >= base.layer.endpoints)
        {
            let by_index = &self.by_index;
            self.names.retain(|index| !by_index[index].gone);
        }
        Ok(())
    }

    /// Find the index of an endpoint that is set, and let those channels know of it that it hears now and did not before.
    fn put(&mut self, base: &Base, endpoint: &EndpointView<'_>) -> Result<u32, DeltaError> {
        let both = Both {
            base,
            overlay: self,
        };
        let now = channels(endpoint);
        let Some(index) = both.index_of(endpoint.id) else {
            if both.by_name(endpoint.name()).is_some() {
                let twice = TableError::NameTwice("endpoints", endpoint.name().into());
                return Err(twice.into());
            }
            let index = self.new_place(base, endpoint);
            for channel in now {
                self.hear(base, channel, index);
            }
            return Ok(index);
        };
        let old = both.endpoint_at(index);
        if old.name() != endpoint.name() {
            let (other, name) = (old.name().into(), endpoint.name().into());
            let twice = TableError::IdTwice("endpoints", other, name, endpoint.id.0);
            return Err(twice.into());
        }
        let before = channels(&old);
        for channel in &before {
            if now.binary_search(channel).is_err() {
                self.unhear(base, *channel, index);
            }
        }
        for channel in &now {
            if before.binary_search(channel).is_err() {
                self.hear(base, *channel, index);
            }
        }
        Ok(index)
    }

    /// The index of one that is not there: that which it had in the base, if it was in it, or the next.
    fn new_place(&mut self, base: &Base, endpoint: &EndpointView<'_>) -> u32 {
        let was = base.index_of(endpoint.id);
        let same = |at: &u32| base.layer.endpoint(*at).name() == endpoint.name();
        if let Some(index) = was.filter(same) {
            return index;
        }
        let index = self.next;
        self.next += 1;
        self.new.insert(endpoint.id.0, index);
        self.names.push(index);
        index
    }

    fn hear(&mut self, base: &Base, channel: ChannelId, index: u32) {
        let of_base = base.subscribers(channel).binary_search(&index).is_ok();
        let heard = Arc::make_mut(self.heard.entry(channel.0).or_default());
        match of_base {
            true => remove(&mut heard.removed, index),
            false => insert(&mut heard.added, index),
        }
    }

    fn unhear(&mut self, base: &Base, channel: ChannelId, index: u32) {
        let of_base = base.subscribers(channel).binary_search(&index).is_ok();
        let heard = Arc::make_mut(self.heard.entry(channel.0).or_default());
        match of_base {
            true => insert(&mut heard.removed, index),
            false => remove(&mut heard.added, index),
        }
    }
}

/// What an endpoint hears, rising.
fn channels(endpoint: &EndpointView<'_>) -> Vec<ChannelId> {
    endpoint.receive.iter().map(|grant| grant.channel).collect()
}

fn insert(sorted: &mut Vec<u32>, index: u32) {
    if let Err(at) = sorted.binary_search(&index) {
        sorted.insert(at, index);
    }
}

fn remove(sorted: &mut Vec<u32>, index: u32) {
    if let Ok(at) = sorted.binary_search(&index) {
        sorted.remove(at);
    }
}
