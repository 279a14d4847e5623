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
    /// Receives of datagrams started.
    pub datagram_shots: u64,
    /// Trains of datagrams received.
    pub datagram_trains: u64,
    /// Datagrams in them.
    pub datagrams_received: u64,
    /// Their bytes.
    pub datagram_received_bytes: u64,
    /// Trains thrown away because the kernel cut them short.
    pub datagrams_unreadable: u64,
    /// Receives of datagrams that ended because no buffer was left.
    pub datagram_enobufs: u64,
    /// Trains of datagrams given to the kernel.
    pub datagram_sends: u64,
    /// Datagrams in them.
    pub datagrams_sent: u64,
    /// Their bytes, of those it took.
    pub datagram_sent_bytes: u64,
    /// Trains it did not take.
    pub datagram_sends_failed: u64,
    /// Trains given back to the owner because too many were in flight.
    pub datagram_sends_refused: u64,
}

impl std::ops::AddAssign for Counters {
    /// What two rings counted, together.
    fn add_assign(&mut self, other: Self) {
        let Self {
            enters,
            waits,
            socket_calls,
            submissions,
            completions,
            completion_overflows,
            submissions_delayed,
            accepted,
            accepts_refused,
            accepts_vanished,
            accepts_failed,
            closed,
            detached,
            adopted,
            received,
            received_bytes,
            discarded_bytes,
            receive_shots,
            receive_shots_ended,
            enobufs,
            receives_held,
            leases_dropped,
            sends,
            sent_buffers,
            sent_bytes,
            partial_sends,
            sends_refused,
            sends_overflowed,
            cancels,
            close_timeouts,
            syncs,
            wakes,
            datagram_shots,
            datagram_trains,
            datagrams_received,
            datagram_received_bytes,
            datagrams_unreadable,
            datagram_enobufs,
            datagram_sends,
            datagrams_sent,
            datagram_sent_bytes,
            datagram_sends_failed,
            datagram_sends_refused,
        } = other;
        self.enters += enters;
        self.waits += waits;
        self.socket_calls += socket_calls;
        self.submissions += submissions;
        self.completions += completions;
        self.completion_overflows += completion_overflows;
        self.submissions_delayed += submissions_delayed;
        self.accepted += accepted;
        self.accepts_refused += accepts_refused;
        self.accepts_vanished += accepts_vanished;
        self.accepts_failed += accepts_failed;
        self.closed += closed;
        self.detached += detached;
        self.adopted += adopted;
        self.received += received;
        self.received_bytes += received_bytes;
        self.discarded_bytes += discarded_bytes;
        self.receive_shots += receive_shots;
        self.receive_shots_ended += receive_shots_ended;
        self.enobufs += enobufs;
        self.receives_held += receives_held;
        self.leases_dropped += leases_dropped;
        self.sends += sends;
        self.sent_buffers += sent_buffers;
        self.sent_bytes += sent_bytes;
        self.partial_sends += partial_sends;
        self.sends_refused += sends_refused;
        self.sends_overflowed += sends_overflowed;
        self.cancels += cancels;
        self.close_timeouts += close_timeouts;
        self.syncs += syncs;
        self.wakes += wakes;
        self.datagram_shots += datagram_shots;
        self.datagram_trains += datagram_trains;
        self.datagrams_received += datagrams_received;
        self.datagram_received_bytes += datagram_received_bytes;
        self.datagrams_unreadable += datagrams_unreadable;
        self.datagram_enobufs += datagram_enobufs;
        self.datagram_sends += datagram_sends;
        self.datagrams_sent += datagrams_sent;
        self.datagram_sent_bytes += datagram_sent_bytes;
        self.datagram_sends_failed += datagram_sends_failed;
        self.datagram_sends_refused += datagram_sends_refused;
    }
}
