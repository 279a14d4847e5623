//! How much may be on the way, and how much there is: windows in both directions, streams that may be open, and an account of what is
//! held of it.
//!
//! A stranger gets what a HELLO and its answer take. Who has a session gets more, and the first of them all that a fast path takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use quinn_proto::{Dir, VarInt};
use shard::ConnectionId;

use super::Quic;
use super::peer::Peer;
use super::settings::{
    FEW_STREAMS, KNOWN_SEND_WINDOW, KNOWN_WINDOW, STRANGER_SEND_WINDOW, STRANGER_WINDOW,
    STREAM_WINDOW, TRUSTED_SEND_WINDOW,
};

/// What a lane that is not read adds to the window of its connection: what it may hold, and so much more that the rest is worth telling
/// the client of, which is done by eighths of the window.
const WAITING_WINDOW: usize = STREAM_WINDOW as usize / 4 * 5;
/// What a datagram has around the bytes of a stream, about.
const AROUND_BYTES: usize = 48;

/// Bytes that streams hold until their client has acknowledged them, of all connections of a shard.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<AtomicUsize>);

/// A piece of them. What is said often is short, and then stands in the one place that is allocated anyway.
struct Piece<B: AsRef<[u8]>> {
    bytes: B,
    count: usize,
    held: Held,
}

/// Bytes of a short piece: an acknowledgement of some frames.
const SHORT_BYTES: usize = 256;

impl Held {
    /// A copy of bytes that counts as long as anybody has it.
    pub(super) fn copy(&self, bytes: &[u8]) -> Bytes {
        let count = bytes.len();
        self.0.fetch_add(count, Ordering::Relaxed);
        let held = self.clone();
        if count > SHORT_BYTES {
            let bytes: Box<[u8]> = bytes.into();
            return Bytes::from_owner(Piece { bytes, count, held });
        }
        let mut short = [0; SHORT_BYTES];
        short[..count].copy_from_slice(bytes);
        Bytes::from_owner(Piece {
            bytes: short,
            count,
            held,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Piece<B> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes.as_ref()[..self.count]
    }
}

impl<B: AsRef<[u8]>> Drop for Piece<B> {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// What came of one client and was not read, reckoned: what a connection keeps of it cannot be asked for.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Of datagrams that had something for a lane, and what was read, since nothing was left.
    came: usize,
    read: usize,
    /// Datagrams of which is not known yet whether they had.
    new: usize,
    /// As it counts.
    pub(super) bytes: usize,
}

impl Unread {
    /// A datagram came.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.new += bytes.saturating_sub(AROUND_BYTES);
    }

    /// What came was looked at: it had something for lanes, or not.
    fn sort(&mut self, for_lanes: bool) {
        let new = std::mem::take(&mut self.new);
        self.came += if for_lanes { new } else { 0 };
    }

    /// So much of it was read; of no lane there is more that could be. What lies behind a gap cannot: then little was read.
    fn read(&mut self, bytes: usize, all: bool) {
        self.read += bytes;
        if all && 2 * self.read >= self.came {
            (self.came, self.read) = (0, 0);
        }
    }
}

impl Quic {
    /// Bytes that connections hold beyond what each takes: those on their way to clients, and those that nobody has taken.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.bytes() + self.unread_bytes + self.loose.bytes()
    }

    /// What came of a connection was looked at: if there was something for its lanes, some are listed to be read.
    pub(super) fn note_arrived(&mut self, at: usize) {
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            peer.unread.sort(peer.listed > 0);
            self.reckon(at);
        }
    }

    /// It has no lane any more: nothing of it is kept to be read.
    pub(super) fn note_no_lanes(&mut self, at: usize) {
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            (peer.unread.came, peer.unread.read) = (0, 0);
            self.reckon(at);
        }
    }

    /// So many bytes of it were read.
    pub(super) fn note_read(&mut self, at: usize, bytes: usize) {
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            peer.unread.read(bytes, peer.listed == 0);
            self.reckon(at);
        }
    }

    fn reckon(&mut self, at: usize) {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        // A client cannot have more here than its window, and little beside it.
        let most = peer.window() + peer.window() / 2;
        let unread = &mut peer.unread;
        let now = unread.came.saturating_sub(unread.read).min(most);
        self.unread_bytes = self.unread_bytes - unread.bytes + now;
        unread.bytes = now;
    }

    /// A lane is not read, or is again: its connection's window grows by what the lane may hold of it, as long as all together stay in
    /// their bound, so that the other lanes of it go on.
    pub(super) fn note_waits(&mut self, id: ConnectionId, waits: bool) {
        let Some(lane) = self.lanes.get(id).filter(|lane| lane.waits != waits) else {
            return;
        };
        lane.waits = waits;
        let at = lane.peer;
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            match waits {
                true => peer.waiting += 1,
                false => peer.waiting -= 1,
            }
        }
        self.adjust(at);
    }

    /// Give a connection the windows and the streams that it is to have now.
    pub(super) fn adjust(&mut self, at: usize) {
        let limits = &self.settings.limits;
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        match (peer.known, peer.trusted) {
            (true, false) if self.trusted < limits.trusted_max => {
                peer.trusted = true;
                self.trusted += 1;
            }
            (false, true) => {
                peer.trusted = false;
                self.trusted -= 1;
            }
            _ => {}
        }
        let (receive, send) = match (peer.known, peer.trusted) {
            (_, true) => (limits.known_window, TRUSTED_SEND_WINDOW),
            (true, false) => (KNOWN_WINDOW, KNOWN_SEND_WINDOW),
            (false, false) => (STRANGER_WINDOW, STRANGER_SEND_WINDOW),
        };
        let left = limits.waiting_window_max - (self.waiting_window - peer.extra_window);
        let waiting = if peer.known { peer.waiting as usize } else { 0 };
        let extra = (waiting * WAITING_WINDOW).min(left);
        self.waiting_window = self.waiting_window - peer.extra_window + extra;
        let extra_bytes = u32::try_from(extra).unwrap_or(u32::MAX);
        if (peer.own_window, peer.extra_window) != (receive, extra) {
            (peer.own_window, peer.extra_window) = (receive, extra);
            let window = VarInt::from_u32(receive.saturating_add(extra_bytes));
            peer.connection.set_receive_window(window);
            peer.connection.set_send_window(send);
        }
        let streams = match peer.known {
            true => (2 * peer.lanes.len() as u32).next_power_of_two(),
            false => 0,
        };
        let streams = streams.max(FEW_STREAMS).min(limits.streams_max);
        // As many as there are may be opened once more, and they are never taken back from who has a session.
        if streams > peer.streams || !peer.known && streams < peer.streams {
            peer.streams = streams;
            let count = VarInt::from_u32(streams);
            peer.connection.set_max_concurrent_streams(Dir::Bi, count);
        }
        self.touch(at);
    }

    /// Nothing is left of a connection.
    pub(super) fn give_back(&mut self, peer: &Peer) {
        self.trusted -= usize::from(peer.trusted);
        self.waiting_window -= peer.extra_window;
        self.unread_bytes -= peer.unread.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_as_long_as_a_piece_of_it_is_there() {
        let held = Held::default();
        let long = held.copy(&[9; 1_000]);
        assert_eq!((&long[..], held.bytes()), (&[9; 1_000][..], 1_000));
        drop(long);
        let mut first = held.copy(&[7; 100]);
        assert_eq!(first, [7; 100][..]);
        let second = held.copy(&[8; 10]);
        let part = first.split_to(1);
        drop((first, second));
        assert_eq!(held.bytes(), 100);
        drop(part);
        assert_eq!(held.bytes(), 0);
    }

    #[test]
    fn what_lies_behind_a_gap_counts_until_it_is_read() {
        let mut unread = Unread::default();
        let bytes = |unread: &Unread| unread.came - unread.read;
        unread.arrived(1_248);
        unread.sort(false);
        assert_eq!(bytes(&unread), 0, "nothing of it was for lanes");
        for _ in 0..10 {
            unread.arrived(1_248);
            unread.sort(true);
            unread.read(0, true);
        }
        assert_eq!(bytes(&unread), 12_000);
        unread.read(1_200, false);
        assert_eq!(bytes(&unread), 10_800);
        unread.read(10_700, true);
        assert_eq!(bytes(&unread), 0, "the rest was around it");
    }
}
