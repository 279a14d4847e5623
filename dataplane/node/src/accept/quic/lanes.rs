//! Lanes: bidirectional streams of QUIC connections, each a connection of its own to the shard, under a name as a socket has one.
//!
//! Knows names, buffers and where a lane belongs; no packet. A name is used again only in the turn after its end was told.

use std::collections::VecDeque;

use bytes::Bytes;
use quinn_proto::StreamId;
use shard::ConnectionId;

/// Bytes that a stream is given at once: what it does not take yet counts twice, as unsent and as held.
const PIECE_BYTES: usize = 16 << 10;

/// One lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) id: ConnectionId,
    /// The QUIC connection, by its place, and the stream of it.
    pub(crate) peer: usize,
    pub(crate) stream: StreamId,
    /// What the stream has not taken yet: a piece that it is to take next, and buffers, of the first of which so much was cut off.
    pub(crate) piece: Bytes,
    pub(crate) queued: VecDeque<Vec<u8>>,
    pub(crate) offset: usize,
    /// Stands in the list of lanes that may have something to read.
    pub(crate) listed: bool,
    /// Nothing more is read from it.
    pub(crate) deaf: bool,
    /// To be ended when all that is queued was taken.
    pub(crate) closing: bool,
    /// The shard has closed it.
    pub(crate) closed: bool,
    /// It has a session.
    pub(crate) known: bool,
    /// It is not read though it may have something.
    pub(crate) waits: bool,
}

impl Lane {
    /// Whether the stream has taken all.
    pub(crate) fn is_written(&self) -> bool {
        self.piece.is_empty() && self.queued.is_empty()
    }

    /// Cut the next piece off, if the stream has taken the last one. Returns the buffer if it is empty now.
    pub(crate) fn cut(&mut self, copy: impl Fn(&[u8]) -> Bytes) -> Option<Vec<u8>> {
        if !self.piece.is_empty() {
            return None;
        }
        let rest = &self.queued.front()?[self.offset..];
        let bytes = rest.len().min(PIECE_BYTES);
        self.piece = copy(&rest[..bytes]);
        self.offset += bytes;
        if bytes < rest.len() {
            return None;
        }
        self.offset = 0;
        self.queued.pop_front()
    }
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    lane: Option<Box<Lane>>,
}

/// All lanes of a shard.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// Slots below this one are those of sockets.
    first_slot: usize,
    places: Vec<Place>,
    free: Vec<u32>,
    /// Ended in this turn.
    ended: Vec<u32>,
    count_max: usize,
}

impl Lanes {
    /// At most so many lanes, under names behind those of so many sockets.
    pub(crate) fn new(first_slot: usize, count_max: usize) -> Self {
        Self {
            first_slot,
            places: Vec::new(),
            free: Vec::new(),
            ended: Vec::new(),
            count_max,
        }
    }

    /// Whether a connection is one of these, now or before.
    pub(crate) fn owns(&self, id: ConnectionId) -> bool {
        id.slot() >= self.first_slot
    }

    pub(crate) fn count(&self) -> usize {
        self.places.len() - self.free.len() - self.ended.len()
    }

    /// Take in a stream; `None` when there are too many.
    pub(crate) fn open(&mut self, peer: usize, stream: StreamId) -> Option<ConnectionId> {
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None if self.places.len() < self.count_max => {
                self.places.push(Place::default());
                self.places.len() - 1
            }
            None => return None,
        };
        let place = &mut self.places[index];
        // As of sockets: 24 bits, never 0.
        place.generation = place.generation % ((1 << 24) - 1) + 1;
        let slot = (self.first_slot + index) as u64;
        let id = ConnectionId(u64::from(place.generation) << 32 | slot);
        place.lane = Some(Box::new(Lane {
            id,
            peer,
            stream,
            piece: Bytes::new(),
            queued: VecDeque::new(),
            offset: 0,
            listed: false,
            deaf: false,
            closing: false,
            closed: false,
            known: false,
            waits: false,
        }));
        Some(id)
    }

    pub(crate) fn get(&mut self, id: ConnectionId) -> Option<&mut Lane> {
        let place = self
            .places
            .get_mut(id.slot().checked_sub(self.first_slot)?)?;
        place.lane.as_deref_mut().filter(|lane| lane.id == id)
    }

    /// Forget a lane. Its name rests until `rest`.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Box<Lane>> {
        self.get(id)?;
        let index = id.slot() - self.first_slot;
        self.ended.push(index as u32);
        self.places[index].lane.take()
    }

    /// The shard has heard of all ends: their places are free.
    pub(crate) fn rest(&mut self) {
        self.free.append(&mut self.ended);
    }

    /// Bytes that streams have not taken yet.
    #[cfg(test)]
    pub(crate) fn queued_bytes(&self) -> usize {
        let lanes = self.places.iter().filter_map(|place| place.lane.as_ref());
        lanes
            .map(|lane| {
                lane.queued.iter().map(Vec::len).sum::<usize>() - lane.offset + lane.piece.len()
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::{Dir, Side};

    use super::*;

    #[test]
    fn a_name_is_used_again_only_after_its_end_was_told_and_then_as_another() {
        let stream = StreamId::new(Side::Client, Dir::Bi, 0);
        let mut lanes = Lanes::new(1000, 1);
        let old = lanes.open(3, stream).expect("there is room");
        assert_eq!((old.slot(), lanes.count()), (1000, 1));
        assert!(lanes.owns(old) && !lanes.owns(ConnectionId(1 << 32 | 999)));
        assert_eq!(lanes.open(3, stream), None, "one at most");
        assert!(lanes.remove(old).is_some());
        assert!(lanes.get(old).is_none() && lanes.remove(old).is_none());
        assert_eq!((lanes.open(3, stream), lanes.count()), (None, 0), "not yet");
        lanes.rest();
        let new = lanes.open(3, stream).expect("there is room again");
        assert_eq!(new.slot(), old.slot());
        assert_ne!(new, old);
        assert!(lanes.get(old).is_none());
    }

    #[test]
    fn what_is_queued_leaves_in_pieces_and_gives_its_buffers_back() {
        let mut lanes = Lanes::new(0, 1);
        let id = lanes
            .open(0, StreamId::new(Side::Client, Dir::Bi, 0))
            .expect("there is room");
        let lane = lanes.get(id).expect("just opened");
        let long = vec![1; PIECE_BYTES + 1];
        lane.queued.extend([long.clone(), vec![4]]);
        let copy = Bytes::copy_from_slice;
        let taken = |lane: &mut Lane| (lane.cut(copy), std::mem::take(&mut lane.piece).len());
        assert_eq!(taken(lane), (None, PIECE_BYTES));
        assert_eq!(taken(lane), (Some(long), 1));
        assert!(!lane.is_written());
        assert_eq!(taken(lane), (Some(vec![4]), 1));
        assert_eq!(taken(lane), (None, 0));
        assert!(lane.is_written());
        assert_eq!(lanes.queued_bytes(), 0);
    }
}
