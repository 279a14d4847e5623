//! The bulk of a table: all endpoints as they were at some epoch, found by id, and who hears each channel.

use super::head::Head;
use super::index::{IdMap, Index, Look, NewIndex};
use super::layer::Layer;
use super::{TableError, check_home};
use crate::ids::{ChannelId, EndpointId};

/// All endpoints of one epoch.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) layer: Layer,
    index: Index,
    /// Where in `subscribers` those of a channel begin, and how many they are.
    heard: IdMap<u32, (u32, u32)>,
    subscribers: Box<[u32]>,
}

impl Base {
    /// Index a layer, and check what its endpoints say of each other and of channels.
    pub(super) fn new(mut layer: Layer, head: &Head) -> Result<Self, TableError> {
        layer.bytes = layer.bytes.settled();
        let mut index = NewIndex::with_room(layer.endpoints as usize);
        let mut heard = IdMap::<u32, (u32, u32)>::default();
        for at in 0..layer.endpoints {
            let endpoint = layer.endpoint(at);
            let is = |at: u32| layer.id(at) == endpoint.id;
            if let Some(other) = index.insert(endpoint.id.0, at, is) {
                let other = layer.endpoint(other).name().into();
                let name = endpoint.name().into();
                return Err(TableError::IdTwice("endpoints", other, name, endpoint.id.0));
            }
            check_home(&endpoint, head)?;
            for grant in endpoint.send.iter().chain(endpoint.receive.iter()) {
                if head.channel(grant.channel).is_none() {
                    let name = endpoint.name().into();
                    return Err(TableError::NoChannel(name, grant.channel));
                }
            }
            for grant in endpoint.receive.iter() {
                heard.entry(grant.channel.0).or_default().1 += 1;
            }
        }
        let subscribers = subscribers(&layer, &mut heard);
        Ok(Self {
            layer,
            index: index.done(),
            heard,
            subscribers,
        })
    }

    /// The index of the endpoint with this id.
    #[inline]
    pub(super) fn index_of(&self, id: EndpointId) -> Option<u32> {
        self.index.get(id.0, |at| self.layer.id(at) == id)
    }

    /// See [`Index::look`].
    #[inline]
    pub(super) fn look(&self, id: EndpointId) -> Look {
        self.index.look(id.0)
    }

    /// See [`Index::likely`].
    #[inline]
    pub(super) fn likely(&self, id: EndpointId, look: Look) -> Option<u32> {
        self.index.likely(id.0, look)
    }

    /// Indexes of those who hear a channel, rising.
    #[inline]
    pub(super) fn subscribers(&self, channel: ChannelId) -> &[u32] {
        let of = self.heard.get(&channel.0);
        of.map_or(&[], |&(from, count)| {
            &self.subscribers[from as usize..(from + count) as usize]
        })
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let heard = self.heard.capacity() * size_of::<(u32, (u32, u32))>();
        let subscribers = size_of_val(&*self.subscribers);
        self.layer.memory_bytes() + self.index.memory_bytes() + subscribers + heard
    }
}

/// Deal out the places that were counted, and put everyone in theirs.
fn subscribers(layer: &Layer, heard: &mut IdMap<u32, (u32, u32)>) -> Box<[u32]> {
    let mut total = 0;
    for (from, count) in heard.values_mut() {
        (*from, total) = (total, total + *count);
        *count = 0;
    }
    let mut subscribers = vec![0; total as usize];
    for at in 0..layer.endpoints {
        for grant in layer.endpoint(at).receive.iter() {
            let place = heard.get_mut(&grant.channel.0);
            let (from, count) = place.expect("it was counted");
            subscribers[(*from + *count) as usize] = at;
            *count += 1;
        }
    }
    subscribers.into()
}
