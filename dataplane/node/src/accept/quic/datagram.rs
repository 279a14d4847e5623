//! RFC 9221 datagrams: frames that come beside the lanes, each for the session of the lane that it names.
//!
//! Nothing of them is kept for long and nothing is asked for again: what no turn takes in time is dropped and counted.

use bytes::Bytes;
use quinn_proto::{Dir, Side, StreamId};
use shard::ConnectionId;
use wire::datagram::Datagram;

use super::Quic;

/// Bytes of datagrams that wait for a turn.
const WAITING_BYTES_MAX: usize = 512 << 10;
/// What each is reckoned to take besides its bytes.
const EACH_BYTES: usize = 64;

/// One whole datagram, and the lane it is for.
#[derive(Debug)]
pub(crate) struct Loose {
    lane: ConnectionId,
    number: u64,
    frame: Bytes,
}

impl Loose {
    pub(crate) fn view(&self) -> shard::Datagram<'_> {
        shard::Datagram {
            connection: self.lane,
            number: self.number,
            bytes: &self.frame,
        }
    }
}

/// What waits for a turn.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    all: Vec<Loose>,
    bytes: usize,
}

impl Waiting {
    /// What it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Quic {
    /// Take the datagrams that a connection has.
    pub(super) fn take_datagrams(&mut self, at: usize) {
        loop {
            let Some(Some(peer)) = self.peers.get_mut(at) else {
                return;
            };
            let Some(bytes) = peer.connection.datagrams().recv() else {
                return;
            };
            self.take_datagram(at, &bytes);
        }
    }

    fn take_datagram(&mut self, at: usize, bytes: &Bytes) {
        let parsed = Datagram::parse(bytes);
        let stream = parsed.and_then(|parsed| lane_stream(parsed.lane));
        let lane = stream.and_then(|stream| self.lane_of(at, stream));
        let (Some(parsed), Some(lane)) = (parsed, lane) else {
            self.counters.loose_without_lane += 1;
            return;
        };
        let takes = bytes.len() + EACH_BYTES;
        if self.loose.bytes + takes > WAITING_BYTES_MAX {
            self.counters.loose_crowded_out += 1;
            return;
        }
        self.loose.bytes += takes;
        self.loose.all.push(Loose {
            lane,
            number: parsed.number,
            frame: bytes.slice_ref(parsed.frame),
        });
    }

    /// What waits for a turn; the turn takes all of it.
    pub(crate) fn loose(&self) -> &[Loose] {
        &self.loose.all
    }

    /// A turn has taken it.
    pub(crate) fn loose_taken(&mut self) {
        self.loose.all.clear();
        self.loose.bytes = 0;
    }
}

/// The stream of a lane: bidirectional, opened by the client.
fn lane_stream(lane: u64) -> Option<StreamId> {
    (lane < 1 << 60).then(|| StreamId::new(Side::Client, Dir::Bi, lane))
}
