//! What goes between the shards of a node, as one loop sees it: what shards say to each other, and connections that move to the
//! shard their endpoint lives on, each with its socket and what was received of it.
//!
//! Nothing piles up: what a shard wants to say waits in its own output until there is room, and a connection that moves waits as
//! one connection, with a bound on what comes after its HELLO until the kernel has let go of it and one on how many wait.

use std::collections::VecDeque;

use partition::{MappedSegment, MappedView};
use ring::{ConnectionId, Socket, Waker};
use shard::{HandOver, Output, Peer};

use crate::accept::tls::{End, TUNNEL_BYTES, Tunnels};
use crate::mesh::{PeerCounters, Port, Refused};

/// Items that a shard may have on the way to each other one.
pub(crate) const ROOM: usize = 1024;
/// Items taken in a turn.
const TAKEN_MAX: usize = 4096;
/// Bytes behind a HELLO while its connection moves. A client that has not been welcomed has nothing more to say; one that says so
/// much is closed.
const BEHIND_BYTES_MAX: usize = 1 << 20;
/// Connections that wait for room on their way; one more is closed. No ring counts them, and each keeps a descriptor.
const DELAYED_MAX: usize = ROOM;

/// One thing on its way.
pub(crate) struct Item {
    from: u16,
    what: What,
}

enum What {
    Said(Peer<MappedView>),
    Moves(Moved),
    /// The sender has nothing left to do before it ends.
    Drained,
}

/// A connection on its way to its home.
pub(crate) struct Moved {
    pub(crate) socket: Socket,
    /// What was received of it, from its HELLO on.
    pub(crate) bytes: Vec<u8>,
    /// The tunnel it runs through, if it does.
    pub(crate) tunnel: Option<Box<End>>,
}

/// The way between this shard and all others.
pub(crate) struct Between {
    port: Port<Item, Waker>,
    shard: u16,
    arrived: Vec<Item>,
    /// What other shards said, for the next turn.
    pub(crate) said: Vec<(u16, Peer<MappedView>)>,
    /// Connections that came, for the next turn.
    pub(crate) moved: Vec<Moved>,
    /// Connections that the kernel has not let go of yet.
    leaving: Vec<HandOver>,
    /// Connections that found no room on their way.
    delayed: VecDeque<(u16, Moved)>,
    /// Connections closed because too many waited for room.
    crowded_out: u64,
    /// Something that the shard says found no room.
    waits: bool,
    /// This shard has drained.
    drained: bool,
    /// Which shards know that.
    told: Vec<bool>,
    /// Which shards have drained; this one counts as one of them.
    others_drained: Vec<bool>,
}

impl Between {
    /// Of this shard, by its port.
    pub(crate) fn new(shard: u16, port: Port<Item, Waker>) -> Self {
        let own = |peer| peer == usize::from(shard);
        let marks: Vec<bool> = (0..port.shards()).map(own).collect();
        Self {
            port,
            shard,
            arrived: Vec::with_capacity(TAKEN_MAX),
            said: Vec::with_capacity(TAKEN_MAX),
            moved: Vec::new(),
            leaving: Vec::new(),
            delayed: VecDeque::new(),
            crowded_out: 0,
            waits: false,
            drained: false,
            told: marks.clone(),
            others_drained: marks,
        }
    }

    /// Take what other shards have sent. Whether there is anything for a turn.
    pub(crate) fn receive(&mut self) -> bool {
        // What is left comes with the next call: a loop that was busy does not sleep before it.
        let _ = self.port.receive(&mut self.arrived, TAKEN_MAX);
        let mut drained = false;
        for Item { from, what } in self.arrived.drain(..) {
            match what {
                What::Said(message) => self.said.push((from, message)),
                What::Moves(moved) => self.moved.push(moved),
                What::Drained => {
                    self.others_drained[usize::from(from)] = true;
                    drained = true;
                }
            }
        }
        drained || !(self.said.is_empty() && self.moved.is_empty())
    }

    /// Send what there is room for, and ring. Called after each turn, and before each sleep. Whether something left that had waited
    /// for room: then the shard may have more to say.
    pub(crate) fn send(&mut self, output: &mut Output<MappedSegment>) -> bool {
        for _ in 0..self.delayed.len() {
            if let Some((to, moved)) = self.delayed.pop_front() {
                self.send_moved(to, moved);
            }
        }
        let waited = std::mem::replace(&mut self.waits, false);
        for (to, said) in output.mesh.iter_mut().enumerate() {
            while let Some(message) = said.pop_front() {
                if let Err(message) = self.say(to, message) {
                    said.push_front(message);
                    self.waits = true;
                    break;
                }
            }
        }
        if self.drained {
            self.tell_drained();
        }
        self.port.ring_doorbells();
        waited && !self.waits
    }

    /// This shard has drained: the others are told. Whether all of them have, too, or are gone. Until then one of them may need
    /// this one: what it carried here is still to be appended and answered.
    pub(crate) fn drained(&mut self) -> bool {
        if !std::mem::replace(&mut self.drained, true) {
            self.tell_drained();
            self.port.ring_doorbells();
        }
        let mut others = self.others_drained.iter().enumerate();
        others.all(|(peer, drained)| *drained || self.port.is_gone(peer))
    }

    /// Tell those that have not been told.
    fn tell_drained(&mut self) {
        for (peer, told) in self.told.iter_mut().enumerate() {
            let item = || Item {
                from: self.shard,
                what: What::Drained,
            };
            *told = *told || !matches!(self.port.send(peer, item()), Err(Refused::Full(_)));
        }
    }

    /// Say something to a shard. To one that has ended nothing needs to be said: this one will end, too.
    fn say(&mut self, to: usize, message: Peer<MappedView>) -> Result<(), Peer<MappedView>> {
        let item = Item {
            from: self.shard,
            what: What::Said(message),
        };
        match self.port.send(to, item) {
            Err(Refused::Full(Item {
                what: What::Said(message),
                ..
            })) => Err(message),
            _ => Ok(()),
        }
    }

    fn send_moved(&mut self, to: u16, moved: Moved) {
        let item = Item {
            from: self.shard,
            what: What::Moves(moved),
        };
        if let Err(Refused::Full(item)) = self.port.send(to.into(), item)
            && let What::Moves(moved) = item.what
        {
            match self.delayed.len() < DELAYED_MAX {
                true => self.delayed.push_back((to, moved)),
                false => self.crowded_out += 1,
            }
        }
    }

    /// A connection is on its way out of the ring.
    pub(crate) fn leaves(&mut self, leaves: HandOver) {
        self.leaving.push(leaves);
    }

    /// Whether a connection is on its way out of the ring.
    pub(crate) fn goes(&self, connection: ConnectionId) -> bool {
        let mut leaving = self.leaving.iter();
        leaving.any(|leaves| leaves.connection.0 == connection.0)
    }

    /// Bytes of a connection that goes go with it, out of its tunnel. Whether they are good, and as few as they may be: otherwise it
    /// is to be closed.
    pub(crate) fn take_along(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
        tunnels: &mut Tunnels,
    ) -> bool {
        let mut leaving = self.leaving.iter_mut();
        let found = leaving.find(|leaves| leaves.connection.0 == connection.0);
        let leaves = found.expect("asked for one that goes");
        let good = tunnels.take_along(connection, bytes, &mut leaves.bytes);
        good && leaves.bytes.len() <= BEHIND_BYTES_MAX
    }

    /// The kernel has let go of a connection: it goes on to its home.
    pub(crate) fn detached(
        &mut self,
        connection: ConnectionId,
        socket: Socket,
        tunnel: Option<Box<End>>,
    ) {
        if let Some(HandOver { to, bytes, .. }) = self.gone(connection) {
            let moved = Moved {
                socket,
                bytes,
                tunnel,
            };
            self.send_moved(to, moved);
        }
    }

    /// A connection that was to go is gone from here, or for good.
    pub(crate) fn gone(&mut self, connection: ConnectionId) -> Option<HandOver> {
        let mut leaving = self.leaving.iter();
        let at = leaving.position(|leaves| leaves.connection.0 == connection.0)?;
        Some(self.leaving.swap_remove(at))
    }

    /// Bytes held of connections that move.
    pub(crate) fn moving_bytes(&self) -> u64 {
        let leaving = self.leaving.iter().map(|leaves| leaves.bytes.capacity());
        let of = |moved: &Moved| {
            moved.bytes.capacity() + moved.tunnel.as_ref().map_or(0, |_| TUNNEL_BYTES)
        };
        let delayed = self.delayed.iter().map(|(_, moved)| of(moved));
        leaving.chain(delayed).sum::<usize>() as u64
    }

    /// Connections closed because too many waited for room on their way.
    pub(crate) fn crowded_out(&self) -> u64 {
        self.crowded_out
    }

    /// What passed between this shard and all others.
    pub(crate) fn counters(&self) -> PeerCounters {
        let peers = (0..self.port.shards()).map(|peer| self.port.counters(peer));
        peers.fold(PeerCounters::default(), |mut sum, peer| {
            sum.add(&peer);
            sum
        })
    }
}
