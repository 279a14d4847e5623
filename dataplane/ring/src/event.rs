//! What a ring tells its owner. Knows nothing of how it came to pass.

use std::fmt;
use std::net::SocketAddr;

use crate::buffers::Lease;
use crate::datagrams::Datagrams;
use crate::handover::Socket;

/// One connection of one ring: generation in the upper, slot in the lower 32 bits.
///
/// A slot used again has another generation, so the id of a closed connection never names a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One listener of one ring; built like [`ConnectionId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u64);

impl ConnectionId {
    /// Slot of the connection, below `RingLimits::connections_max`: an index for the owner's tables.
    #[must_use]
    pub fn slot(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot(), self.0 >> 32)
    }
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 & u64::from(u32::MAX), self.0 >> 32)
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause {
    /// The peer finished sending, and the owner then closed.
    Peer,
    /// The peer reset the connection, or vanished while it was being written to.
    Reset,
    /// `close` or `abort` was called before the peer finished.
    Local,
    /// The kernel reported this error number. `ENOBUFS` means that more than
    /// `RingLimits::sends_bytes_max` was queued for a peer that does not read.
    Error(i32),
}

/// One thing that happened, in the order the kernel told it for each connection.
#[derive(Debug)]
pub enum Event {
    /// A listener accepted a connection, which already receives.
    Accepted {
        /// Listener that accepted.
        listener: ListenerId,
        /// The new connection.
        connection: ConnectionId,
        /// Address of the peer.
        peer: SocketAddr,
    },
    /// Bytes arrived. Read them with `Ring::bytes`, then `Ring::release` the lease.
    Received {
        /// Connection they came on.
        connection: ConnectionId,
        /// The buffer that holds them.
        lease: Lease,
    },
    /// The peer finished sending (half-close). It may still read: send what is owed, then `close`.
    /// The connection stays until the owner closes it.
    Finished {
        /// Connection whose peer finished.
        connection: ConnectionId,
    },
    /// The kernel took bytes of this connection's queue.
    Sent {
        /// Connection that was written to.
        connection: ConnectionId,
        /// Bytes taken since the last such event.
        bytes: usize,
    },
    /// The connection is gone. Last event of this id.
    Closed {
        /// Connection that ended.
        connection: ConnectionId,
        /// Why it ended.
        cause: CloseCause,
    },
    /// A connection asked for with `Ring::detach` left this ring. Last event of this id: all bytes this ring
    /// received on it were told before, in order, and those it did not receive are still in the socket.
    Detached {
        /// Connection that left.
        connection: ConnectionId,
        /// Its socket, for `Ring::adopt` of any ring. Dropping it closes the connection.
        socket: Socket,
    },
    /// A sync asked for with `Ring::sync_data` ended.
    Synced {
        /// The token it was asked for with.
        token: u64,
        /// Whether every byte written to the file before is durable; else the kernel's error number.
        result: Result<(), i32>,
    },
    /// A train of datagrams came. Release it when it has been handled.
    Datagrams(Datagrams),
    /// All receive buffers are lent out: some connections stopped receiving until leases return.
    /// At most once in one `poll`.
    OutOfBuffers,
    /// Accepting failed. For want of descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`)
    /// the ring tries again when a connection closes or after `RingLimits::accept_retry`; after any
    /// other error the listener is dead and only `stop_listening` is left.
    AcceptFailed {
        /// Listener that failed.
        listener: ListenerId,
        /// The kernel's error number.
        errno: i32,
    },
}
