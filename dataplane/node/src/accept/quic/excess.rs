//! Who says too much that leads to nothing: frames of a client without a session, and control frames of any.
//!
//! The protocol's own bounds hold for what each frame may do. These hold for how many there are: gaps, streams opened and given up,
//! connection IDs, challenges, empty packets. A client that does its work is far from them.

use std::time::{Duration, Instant};

use quinn_proto::{Connection, FrameStats};

use super::Quic;
use super::ending::Why;

/// Frames of a connection without a session, handshake included: a HELLO takes a handful, and losses some more.
const STRANGER_FRAMES_MAX: u64 = 1_000;
/// Frames in a second that neither carry bytes nor tell of windows nor acknowledge; how many at once, and besides for each stream that it
/// may have open: one that it gives up, in both directions.
const CONTROL_PER_SECOND: u32 = 500;
const CONTROL_AT_ONCE: u32 = 250;
const CONTROL_OF_STREAM: u32 = 2;
/// Datagrams of one who has a session after which that is looked at.
const LOOK_DATAGRAMS: u32 = 32;

/// What one client has said.
#[derive(Debug)]
pub(super) struct Said {
    /// Frames of all kinds when it had a session last.
    before: u64,
    /// Control frames when they were looked at last, and up to when time has paid for them.
    control: u64,
    paid: Instant,
    datagrams: u32,
}

impl Said {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            before: 0,
            control: 0,
            paid: now,
            datagrams: 0,
        }
    }

    /// A datagram came.
    pub(super) fn arrived(&mut self) {
        self.datagrams += 1;
    }

    /// It has no session any more.
    pub(super) fn unknown(&mut self, connection: &Connection) {
        let (control, others) = frames(&connection.stats().frame_rx);
        self.before = control + others;
    }

    /// Whether that is too much.
    fn is_too_much(
        &mut self,
        now: Instant,
        connection: &Connection,
        (known, streams): (bool, u32),
    ) -> bool {
        if known && self.datagrams < LOOK_DATAGRAMS || self.datagrams == 0 {
            return false;
        }
        self.datagrams = 0;
        let (control, others) = frames(&connection.stats().frame_rx);
        let new = (control - self.control).min(u32::MAX.into()) as u32;
        self.control = control;
        let each = Duration::from_secs(1) / CONTROL_PER_SECOND;
        self.paid = self.paid.max(now) + each.saturating_mul(new);
        let at_once = CONTROL_AT_ONCE + streams * CONTROL_OF_STREAM;
        let stranger = !known && control + others - self.before > STRANGER_FRAMES_MAX;
        stranger || self.paid > now + each * at_once
    }
}

/// Control frames of these, and the others.
fn frames(all: &FrameStats) -> (u64, u64) {
    let control = all.ack_frequency
        + all.connection_close
        + all.crypto
        + u64::from(all.handshake_done)
        + all.immediate_ack
        + all.new_connection_id
        + all.new_token
        + all.path_challenge
        + all.path_response
        + all.ping
        + all.reset_stream
        + all.retire_connection_id
        + all.stop_sending;
    let windows = all.data_blocked
        + all.max_data
        + all.max_stream_data
        + all.max_streams_bidi
        + all.max_streams_uni
        + all.stream_data_blocked
        + all.streams_blocked_bidi
        + all.streams_blocked_uni;
    let others = all.acks + all.datagram + all.stream + windows;
    (control, others)
}

impl Quic {
    /// End a connection whose client says too much.
    pub(super) fn look_at_excess(&mut self, now: Instant, at: usize) {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return;
        };
        if peer
            .said
            .is_too_much(now, &peer.connection, (peer.known, peer.streams))
        {
            self.end_connection(now, at, Why::Excess);
        }
    }
}
