//! Bounded queues between the shards of a node: one from every shard to every other, each with one thread at either end.
//!
//! A [`Port`] is a shard's end of all of them. Memory is fixed when the mesh is made and nothing is allocated later. A full queue
//! gives the item back to whoever wanted to send it, and to nobody else: what it belongs to waits where it came from, and the
//! port's own doorbell rings when there is room again. Doorbells ring once for a destination and turn, not for an item.
//!
//! The mesh knows neither frames nor rings: items are of any type, a doorbell is whatever wakes the thread it belongs to.
//!
//! # Nobody sleeps over an item
//! A turn that sends ends with [`Port::ring_doorbells`]; an owner that was rung looks at its port before it sleeps. So what was
//! sent is seen. Who is refused has said so in [`Room`] and has looked once more; who takes items looks there afterwards. Both
//! change that flag, so one of them comes second and sees what the other did. `tests/interleavings.rs` runs through every order.

use std::sync::Arc;

use ring::Waker;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

#[cfg(not(feature = "interleavings"))]
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "interleavings")]
use loom::sync::atomic::{AtomicBool, Ordering};

/// Wakes the thread that a port belongs to, if it sleeps.
pub trait Doorbell {
    /// Let the thread look at its port before it sleeps again. Whether it slept, or may have: whether ringing cost a system call.
    fn ring(&self) -> bool;
}

impl Doorbell for Waker {
    fn ring(&self) -> bool {
        self.wake()
    }
}

/// Why an item was not sent, with the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused<T> {
    /// No room. When there is room again, or the peer is gone, this port's own doorbell rings.
    Full(T),
    /// The peer's port is dropped: its thread has ended.
    Gone(T),
}

/// What passed between a port and one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerCounters {
    /// Items sent to the peer.
    pub sent: u64,
    /// Items taken from the peer.
    pub received: u64,
    /// Times an item began to wait because the queue to the peer was full; trying again before there is room counts no more.
    pub full: u64,
    /// Items refused because the peer was gone.
    pub gone: u64,
    /// Times the peer's doorbell was rung.
    pub doorbells: u64,
    /// Of these, the times it was found awake: no system call was needed.
    pub doorbells_awake: u64,
}

impl PeerCounters {
    /// Count what passed elsewhere, too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.full += other.full;
        self.gone += other.gone;
        self.doorbells += other.doorbells;
        self.doorbells_awake += other.doorbells_awake;
    }
}

/// Whether a sender waits for room in its queue.
///
/// Both ends write it in one step with reading it. If the sender's [`Room::want`] is first, [`Room::made`] tells the taker to ring;
/// if it is second, the sender has seen all that was taken before, and finds the room when it tries again.
#[derive(Debug)]
pub struct Room {
    wanted: AtomicBool,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            wanted: AtomicBool::new(false),
        }
    }
}

impl Room {
    /// The sender found no room. It must try once more before it waits for its doorbell.
    pub fn want(&self) {
        self.wanted.swap(true, Ordering::AcqRel);
    }

    /// The taker has made room. Whether the sender waits for it.
    #[must_use]
    pub fn made(&self) -> bool {
        self.wanted.swap(false, Ordering::AcqRel)
    }

    /// Stands before what loom does not see, an operation of the queue: a change that changes nothing and orders nothing, so that
    /// loom tries what the queue's other end does before it and after it.
    fn step(&self) {
        #[cfg(feature = "interleavings")]
        self.wanted.fetch_or(false, Ordering::Relaxed);
    }
}

/// One shard's end of the queues to and from all others. Shards are numbered from 0 in the order of their doorbells.
///
/// Dropping it tells every peer: they are rung, and from then on refused as [`Refused::Gone`].
#[derive(Debug)]
pub struct Port<T, D: Doorbell> {
    /// By shard; none at the port's own place.
    peers: Vec<Option<Peer<T, D>>>,
    /// Who is asked first the next time.
    first: usize,
}

#[derive(Debug)]
struct Peer<T, D> {
    outgoing: Producer<T>,
    incoming: Consumer<T>,
    outgoing_room: Arc<Room>,
    incoming_room: Arc<Room>,
    doorbell: D,
    /// The doorbell is to be rung at the end of the turn.
    to_ring: bool,
    /// The last item was refused because the queue was full.
    waits: bool,
    counters: PeerCounters,
}

/// Make the ports of all shards, one for each of `doorbells`, with room for `capacity` items from each shard to each other.
///
/// # Panics
/// If `capacity` is 0: nothing could ever be sent.
pub fn mesh<T, D: Doorbell + Clone>(doorbells: &[D], capacity: usize) -> Vec<Port<T, D>> {
    assert!(capacity > 0, "a mesh without room for an item");
    let shards = doorbells.len();
    let mut ports: Vec<Port<T, D>> = (0..shards)
        .map(|_| Port {
            peers: (0..shards).map(|_| None).collect(),
            first: 0,
        })
        .collect();
    for (a, b) in (0..shards).flat_map(|b| (0..b).map(move |a| (a, b))) {
        let (to_b, from_a) = lane(capacity);
        let (to_a, from_b) = lane(capacity);
        ports[a].peers[b] = Some(Peer::new(to_b, from_b, doorbells[b].clone()));
        ports[b].peers[a] = Some(Peer::new(to_a, from_a, doorbells[a].clone()));
    }
    ports
}

/// Bytes that the queues between `shards` shards hold for items, and their indices; not what the items own elsewhere.
#[must_use]
pub const fn mesh_bytes<T>(shards: usize, capacity: usize) -> usize {
    let lane = capacity * size_of::<T>() + size_of::<RingBuffer<T>>() + size_of::<Room>();
    shards * shards.saturating_sub(1) * lane
}

type Outgoing<T> = (Producer<T>, Arc<Room>);
type Incoming<T> = (Consumer<T>, Arc<Room>);

fn lane<T>(capacity: usize) -> (Outgoing<T>, Incoming<T>) {
    let (outgoing, incoming) = RingBuffer::new(capacity);
    let room = Arc::new(Room::default());
    ((outgoing, Arc::clone(&room)), (incoming, room))
}

impl<T, D: Doorbell> Port<T, D> {
    /// Send to shard `to`. The peer is told at [`Port::ring_doorbells`]. What it has not taken when it ends is lost with it.
    ///
    /// # Errors
    /// The item, if there is no room for it or nobody to take it.
    ///
    /// # Panics
    /// If `to` is the port's own shard, or none.
    pub fn send(&mut self, to: usize, item: T) -> Result<(), Refused<T>> {
        self.peer(to).send(item)
    }

    /// How many items can be sent to shard `to` for sure. None to one that is gone.
    ///
    /// # Panics
    /// As [`Port::send`].
    pub fn room(&mut self, to: usize) -> usize {
        let peer = self.peer(to);
        match peer.outgoing.is_abandoned() {
            true => 0,
            false => peer.outgoing.slots(),
        }
    }

    /// Whether shard `peer` has ended and all that it sent is received.
    ///
    /// # Panics
    /// As [`Port::send`].
    pub fn is_gone(&mut self, peer: usize) -> bool {
        let peer = self.peer(peer);
        // In this order: it sends nothing after it is gone.
        peer.incoming.is_abandoned() && peer.incoming.is_empty()
    }

    /// Append up to `max` items that peers sent to `into`, of each sender in its order. Every sender gets an equal share before
    /// anybody gets more, and they take turns at being first. Whether there is more.
    ///
    /// Allocates nothing if `into` has room for `max` more.
    pub fn receive(&mut self, into: &mut Vec<T>, max: usize) -> bool {
        let peers = self.peers.len();
        let share = max.div_ceil(peers.saturating_sub(1).max(1));
        let end = into.len().saturating_add(max);
        let first = self.first;
        self.first = (first + 1) % peers;
        for share in [share, max] {
            for peer in (first..peers).chain(0..first) {
                let left = end - into.len();
                if let Some(peer) = &mut self.peers[peer] {
                    peer.receive(into, share.min(left));
                }
            }
        }
        self.peers
            .iter()
            .flatten()
            .any(|peer| !peer.incoming.is_empty())
    }

    /// Wake those that were sent something, or wait for room that was made, since the last call. At the end of a turn.
    pub fn ring_doorbells(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            if std::mem::take(&mut peer.to_ring) {
                peer.ring();
            }
        }
    }

    /// What passed between this port and shard `peer`; nothing with itself.
    #[must_use]
    pub fn counters(&self, peer: usize) -> PeerCounters {
        let peer = self.peers.get(peer).and_then(Option::as_ref);
        peer.map_or_else(PeerCounters::default, |peer| peer.counters)
    }

    /// How many shards the mesh connects, this one included.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.peers.len()
    }

    fn peer(&mut self, shard: usize) -> &mut Peer<T, D> {
        let peer = self.peers.get_mut(shard).and_then(Option::as_mut);
        peer.expect("a shard of the mesh that is not this one")
    }
}

impl<T, D: Doorbell> Drop for Port<T, D> {
    /// The ends first, then the doorbells, so that who is rung finds this port gone.
    fn drop(&mut self) {
        for peer in self.peers.drain(..).flatten() {
            let Peer {
                outgoing,
                incoming,
                outgoing_room,
                incoming_room,
                doorbell,
                ..
            } = peer;
            outgoing_room.step();
            drop(outgoing);
            incoming_room.step();
            drop(incoming);
            doorbell.ring();
        }
    }
}

impl<T, D: Doorbell> Peer<T, D> {
    fn new(outgoing: Outgoing<T>, incoming: Incoming<T>, doorbell: D) -> Self {
        Self {
            outgoing: outgoing.0,
            incoming: incoming.0,
            outgoing_room: outgoing.1,
            incoming_room: incoming.1,
            doorbell,
            to_ring: false,
            waits: false,
            counters: PeerCounters::default(),
        }
    }

    fn send(&mut self, item: T) -> Result<(), Refused<T>> {
        self.outgoing_room.step();
        if self.outgoing.is_abandoned() {
            self.counters.gone += 1;
            return Err(Refused::Gone(item));
        }
        let sent = self.push(item).or_else(|PushError::Full(item)| {
            self.outgoing_room.want();
            self.push(item)
        });
        match sent {
            Ok(()) => {
                (self.to_ring, self.waits) = (true, false);
                self.counters.sent += 1;
                Ok(())
            }
            Err(PushError::Full(item)) => {
                self.counters.full += u64::from(!std::mem::replace(&mut self.waits, true));
                Err(Refused::Full(item))
            }
        }
    }

    fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        self.outgoing_room.step();
        self.outgoing.push(item)
    }

    fn receive(&mut self, into: &mut Vec<T>, max: usize) {
        self.incoming_room.step();
        let count = self.incoming.slots().min(max);
        if count == 0 {
            return;
        }
        self.incoming_room.step();
        let items = self.incoming.read_chunk(count);
        into.extend(items.expect("as many as were counted, or more"));
        self.counters.received += count as u64;
        self.to_ring |= self.incoming_room.made();
    }

    fn ring(&mut self) {
        self.counters.doorbells += 1;
        if !self.doorbell.ring() {
            self.counters.doorbells_awake += 1;
        }
    }
}
