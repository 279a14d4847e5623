//! What a ring counts. Totals since the ring was made; the owner takes differences.

/// Totals of one ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// `io_uring_enter` system calls.
    pub enters: u64,
    /// Of those, calls that may sleep (`Ring::wait`).
    pub waits: u64,
    /// Other system calls made for sockets: options, addresses, shutdowns, closes.
    pub socket_calls: u64,
    /// Operations handed to the kernel.
    pub submissions: u64,
    /// Completions taken from the kernel.
    pub completions: u64,
    /// Times the kernel had to keep completions aside because the completion queue was full.
    pub completion_overflows: u64,
    /// Operations that had to wait in memory because the submission queue was full.
    pub submissions_delayed: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Accepted connections closed at once because `connections_max` was reached.
    pub accepts_refused: u64,
    /// Accepted connections that were gone before they could be set up.
    pub accepts_vanished: u64,
    /// Failures told by `Event::AcceptFailed`.
    pub accepts_failed: u64,
    /// Connections closed.
    pub closed: u64,
    /// Connections that left for another ring.
    pub detached: u64,
    /// Connections that came from another ring.
    pub adopted: u64,
    /// Buffers received.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes received after `close`, and thrown away.
    pub discarded_bytes: u64,
    /// Receive operations started.
    pub receive_shots: u64,
    /// Receive operations that ended though the peer is still there; each is started again.
    pub receive_shots_ended: u64,
    /// Receive operations that ended because no buffer was left.
    pub enobufs: u64,
    /// Times a connection stopped receiving because it had `leases_max` buffers lent out.
    pub receives_held: u64,
    /// Leases dropped instead of released; the buffers were taken back.
    pub leases_dropped: u64,
    /// Send operations started.
    pub sends: u64,
    /// Buffers these sends carried.
    pub sent_buffers: u64,
    /// Bytes the kernel took from them.
    pub sent_bytes: u64,
    /// Sends of which the kernel took only a part.
    pub partial_sends: u64,
    /// Buffers given to `send` for a connection that was closing or gone.
    pub sends_refused: u64,
    /// Connections ended because more than `sends_bytes_max` was queued.
    pub sends_overflowed: u64,
    /// Cancellations requested.
    pub cancels: u64,
    /// Closings cut short by `RingLimits::close_timeout`.
    pub close_timeouts: u64,
    /// Syncs of files started.
    pub syncs: u64,
    /// Wake-ups by a `Waker` noticed in `Ring::wait`.
    pub wakes: u64,
}
