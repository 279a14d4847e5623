//! What a run measures while it sends, and which of its messages count.

use crate::histogram::Latencies;
use wire::ids::AckMode;
use wire::reason::Notice;

/// When messages are due and which are measured, in nanoseconds since the start.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Messages due before are not measured.
    pub warm_up: u64,
    /// No message is due from here on.
    pub end: u64,
    /// Nothing is waited for from here on.
    pub deadline: u64,
    /// As fast as credit allows.
    pub saturate: bool,
}

/// What was measured while sending.
#[derive(Debug, Default)]
pub struct Measured {
    /// From due to acked.
    pub ack: Latencies,
    /// From put on the wire to acked, of frames that were admitted.
    pub wire: Latencies,
    /// From due (or from when credit was there) to handed to the kernel.
    pub lateness: Latencies,
    /// Frames put on the wire, those sent again counted again.
    pub frames: u64,
    /// Measured messages put on the wire.
    pub sent: u64,
    /// Measured messages acked before `Times::end`.
    pub acked_in_time: u64,
    /// When the last measured message was put on the wire.
    pub last_sent: u64,
    /// Reasons of rejects and how often each came.
    pub reasons: Vec<(Notice, u64)>,
    /// The ack mode, as the last ACK named it.
    pub ack_mode: Option<AckMode>,
}

/// Running totals, in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Put on the wire.
    pub sent: u64,
    /// Acked.
    pub acked: u64,
    /// Rejected.
    pub rejected: u64,
}
