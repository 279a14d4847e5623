//! What a turn is given: events of the ring, sorted, and the vectors they are sorted into. Also what turns have done, for those who
//! ask for numbers.

use std::sync::Arc;
use std::time::Duration;

use partition::{MappedSegment, MappedView};
use ring::{Event, Lease, Ring};
use shard::{ConnectionId, Opened, Peer, Pressure, Received, Sent, StorageEvent};
use wire::route::RouteTable;

use super::finishing::Finishing;
use crate::distribution::Distribution;
use crate::fair::Fair;
use crate::hubs::Handed;
use crate::status::TurnTimes;

/// Events of the ring, sorted for a turn, and the vectors they are sorted into.
#[derive(Default)]
pub(crate) struct Batch {
    pub(super) events: Vec<Event>,
    pub(super) opened: Vec<Opened>,
    pub(super) leases: Vec<(ConnectionId, Lease)>,
    /// What came and waits for a turn with room for it.
    pub(super) fair: Fair<Lease>,
    /// When those of which something waits are looked at next.
    pub(super) waiting_at: Duration,
    pub(super) received: Vec<Received<'static>>,
    /// What was received of connections that came from other shards, before they came.
    pub(super) brought: Vec<(ConnectionId, Vec<u8>)>,
    /// Nothing: what other shards say on a node that has none.
    pub(super) said: Vec<(u16, Peer<MappedView>)>,
    /// Connections from other shards for which there was no room.
    pub(super) refused_moves: u64,
    pub(super) sent: Vec<Sent>,
    pub(super) closed: Vec<ConnectionId>,
    pub(super) storage: Vec<StorageEvent<MappedSegment>>,
    pub(super) table: Option<Arc<RouteTable>>,
    /// What the epoch of the last table is counted in.
    pub(super) past: u64,
    pub(super) hubs: Vec<Handed>,
    /// What was taken over is to be served after the turn; these hubs have no logs then.
    pub(super) serve: Option<Arc<[u16]>>,
    pub(super) finishing: Finishing,
    /// Turns that took only a part of the events, because a slot changed hands in them.
    pub(super) cut_short: u64,
    pub(super) idle_waits: u64,
    /// What was shed when it was last said in the log.
    pub(super) pressure_told: Pressure,
    pub(super) turns: u64,
    /// How long turns took, what they asked for included.
    pub(super) took: TurnTimes,
    /// Frames that turns found, and messages they appended, none left out.
    pub(super) frames: Distribution<1>,
    pub(super) messages: Distribution<1>,
}

impl Batch {
    /// Count what one turn did.
    pub(super) fn note_work(&mut self, before: [u64; 2], after: [u64; 2]) {
        let [frames, messages] = [0, 1].map(|kind| after[kind] - before[kind]);
        if frames > 0 {
            self.frames.note(frames);
        }
        if messages > 0 {
            self.messages.note(messages);
        }
    }

    /// Everything was worked on: lent buffers go back to the ring.
    pub(super) fn clear(&mut self, ring: &mut Ring) {
        self.opened.clear();
        self.sent.clear();
        self.closed.clear();
        self.brought.clear();
        for (_, lease) in self.leases.drain(..) {
            ring.release(lease);
        }
    }
}

/// An empty vector in the memory of another one, for elements that borrow for another time.
pub(super) fn recycle<'a>(mut vector: Vec<Received<'_>>) -> Vec<Received<'a>> {
    vector.clear();
    vector
        .into_iter()
        .map(|_| unreachable!("it was just emptied"))
        .collect()
}
