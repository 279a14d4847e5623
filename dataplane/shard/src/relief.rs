//! What a shard does while memory is short, besides refusing what comes: it tells senders of less credit, takes fewer deliveries on,
//! reads only from who makes room by it, and closes connections that hold most and take nothing.

use std::time::Duration;

use wire::ids::Direction;
use wire::limits::FRAME_BYTES_MAX;
use wire::reason::Reason;

use crate::budget::Pressure;
use crate::connection::Phase;
use crate::io::ConnectionId;
use crate::peers::{CROWDED_PATIENCE, Peers};

/// Unsent bytes of a connection below which it is not closed for want of memory, if memory is not all but used up.
const STUCK_LEAST: usize = 16 << 10;
/// Sixteenths of the budget beyond which nothing is begun that may wait: the rest is for what is under way.
const LAST: u64 = 15;
/// Unsent bytes of all connections below which deliveries are begun even then.
const FLOWS_LEAST: usize = 64 << 10;

/// Whether the bytes of a connection should go into the next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As any others.
    Now,
    /// Memory is short: not while their buffers can be spared.
    Later,
    /// Memory is short, and it has not taken what it was sent for what it sent before.
    NotYet,
}

impl Peers {
    /// What a session may have unacknowledged, as it is told: frames and bytes. Less while memory is short, but always a frame of
    /// the longest, whose answer tells when there is more again. What was sent on the strength of more is still taken.
    pub(crate) fn credit(&self) -> (u32, u32) {
        let (frames, bytes) = (self.limits.credit_frames, self.limits.credit_bytes);
        let share = match self.memory.pressure {
            Pressure::All => return (1, FRAME_BYTES_MAX as u32),
            Pressure::LowPriority => 8,
            _ => 1,
        };
        let least = FRAME_BYTES_MAX as u32;
        ((frames / share).max(1), (bytes / share).max(least))
    }

    /// Whether memory is so short that even who takes what they are sent gets nothing more now. What waits in queues leaves them
    /// by no other way, so a little may always be on its way.
    pub(crate) fn used_up(&self) -> bool {
        let on_its_way = self.on_the_way_out();
        let used = self.memory.used.total() + on_its_way as u64;
        used >= self.memory.sixteenths(LAST) && on_its_way >= FLOWS_LEAST
    }

    /// Let frames that are half there take as much as is left for them, and always one of the longest.
    pub(crate) fn bound_assembly(&mut self) {
        let reserved = self.assembly.reserved() as u64;
        let others = self.memory.used.total().saturating_sub(reserved);
        let left = self.memory.sixteenths(LAST).saturating_sub(others);
        let most = self.limits.assembly_bytes_max;
        let left = usize::try_from(left).unwrap_or(most);
        let kept = match self.memory.pressure {
            Pressure::None => self.limits.assembly_kept_bytes_max,
            _ => 0,
        };
        let left = left.clamp(FRAME_BYTES_MAX, most);
        self.assembly.bound(left, kept);
    }

    /// Whether what comes of a connection should go into the next turn.
    pub(crate) fn reading(&self, id: ConnectionId) -> Reading {
        if self.memory.pressure < Pressure::All {
            return Reading::Now;
        }
        let Some(connection) = self.connections.get(id) else {
            return Reading::Now;
        };
        let sends = |direction: Direction| direction == Direction::Ingress;
        let session = connection.session().and_then(|id| self.sessions.get(id));
        let sends = session.is_some_and(|session| sends(session.direction));
        match (connection.unsent > 0, sends) {
            (true, true) => Reading::NotYet,
            (false, true) if !connection.assembly.begun() => Reading::Later,
            // Settlements, the rest of a frame, a HELLO that is refused: all make room.
            _ => Reading::Now,
        }
    }

    /// What came of a connection waits for its turn: its peer is not silent. A frame that is half there is no sign of life.
    pub(crate) fn note_waiting(&mut self, id: ConnectionId, now: Duration) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.kept_waiting = true;
        if connection.session().is_some() && !connection.assembly.begun() {
            connection.received_at = connection.received_at.max(now);
        }
    }

    /// Close connections that have taken nothing for a while, those with most unsent first, until enough memory is on its way to
    /// be free for nothing to be shed.
    pub(crate) fn shed_stuck(&mut self) {
        let now = self.now.monotonic;
        let low = self.memory.low_water_bytes();
        let mut over = self.memory.used.total().saturating_sub(low);
        let mut stuck: Vec<(usize, ConnectionId)> = Vec::new();
        for connection in self.connections.iter() {
            let unsent = connection.unsent;
            if connection.phase == Phase::Closing {
                over = over.saturating_sub(unsent as u64);
            } else if unsent >= STUCK_LEAST
                && now.saturating_sub(connection.progress_at) >= CROWDED_PATIENCE
            {
                stuck.push((unsent, connection.id));
            }
        }
        stuck.sort_unstable_by(|one, other| other.cmp(one));
        for (unsent, id) in stuck {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(unsent as u64);
            self.counters.shed.stuck += 1;
            self.goaway(id, Reason::SlowReceiver, unsent as u64, 0);
        }
    }
}

/// How often connections that take nothing are looked for while memory is short.
pub(crate) const STUCK_LOOK: Duration = CROWDED_PATIENCE;
