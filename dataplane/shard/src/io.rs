//! What goes into a turn and what comes out of it: bytes and storage results in, bytes and storage
//! requests out. Nothing here does any I/O; the node, or a simulator, carries it out.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use partition::{CommitTicket, LogId, Segment, StorageError};
use wire::ids::{Fingerprint, UnixNanos};
use wire::route::RouteTable;

use crate::mesh::Peer;

/// The time of a turn, read once by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since any fixed moment of this process; never goes back.
    pub monotonic: Duration,
    /// Wall time, for append times, expiries and clock checks.
    pub unix: UnixNanos,
}

/// A connection: `generation << 32 | slot`. The slot is reused only with a new generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// The place in the connection table.
    #[must_use]
    pub fn slot(self) -> usize {
        (self.0 & 0xFFFF_FFFF) as usize
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 & 0xFFFF_FFFF, self.0 >> 32)
    }
}

/// A connection that was accepted. Randomness is an argument as time is.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    /// Its name until `closed` names it.
    pub connection: ConnectionId,
    /// Where the peer is; grants may be restricted to address ranges.
    pub peer: SocketAddr,
    /// Fresh random bytes: 16 for a session id, 32 for the server nonce.
    pub random: [u8; 48],
    /// It comes from another shard: its preface was answered there, and its HELLO is what comes first.
    pub handed_over: bool,
}

/// A certificate that a client showed in its handshake, and proved to have the key of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Which one.
    pub certificate: Fingerprint,
    /// When it ends, if it has to be good.
    pub ends: Option<UnixNanos>,
}

/// A connection whose tunnel stands, under TLS or QUIC. Said once, before its first bytes: its HELLO and its session are bound
/// to this tunnel.
#[derive(Clone, Copy)]
pub struct Tunnel {
    /// Which one.
    pub connection: ConnectionId,
    /// The tunnel's exporter value (`PROTOCOL.md`, section 4).
    pub exporter: [u8; 32],
    /// The certificate that the client showed there, if it did.
    pub shown: Option<Shown>,
    /// It cannot go to another shard: it is one of many on a QUIC connection, which stays where its datagrams come.
    pub stays: bool,
}

/// Bytes of one connection, in order of arrival. They are borrowed for one turn only.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Where they came from.
    pub connection: ConnectionId,
    /// A piece of the stream; cuts may be anywhere.
    pub bytes: &'a [u8],
}

/// What came in one datagram of a lane's session: no part of its stream, and in no order.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The lane.
    pub connection: ConnectionId,
    /// What the answer calls it; 0 asks for none.
    pub number: u64,
    /// One whole frame, or it is dropped.
    pub bytes: &'a [u8],
}

/// Bytes that have left for the peer.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Where they went.
    pub connection: ConnectionId,
    /// How many since the last such event.
    pub bytes: usize,
}

/// The result of a storage request.
#[derive(Debug)]
pub enum StorageEvent<S> {
    /// A segment asked for by `StorageRequest::Prepare` is ready.
    Prepared {
        /// The log that asked.
        log: LogId,
        /// The prepared spare.
        segment: S,
    },
    /// A segment could not be prepared or recycled, most often because the disk is full.
    PrepareFailed {
        /// The log that asked.
        log: LogId,
        /// Why.
        error: StorageError,
    },
    /// The sync asked for by `StorageRequest::Sync` ended.
    Synced {
        /// The ticket of the request.
        ticket: CommitTicket,
        /// Whether everything the ticket covers is durable.
        result: Result<(), StorageError>,
    },
}

/// What a turn works on. Everything in it is consumed by the turn: how much is handed in at once is
/// the caller's bound on the work of a turn.
pub struct Input<'a, S: Segment> {
    /// Connections accepted since the last turn.
    pub opened: &'a [Opened],
    /// Connections whose tunnel has come to stand since.
    pub tunnels: &'a [Tunnel],
    /// Bytes received; several pieces of one connection stand in order.
    pub received: &'a [Received<'a>],
    /// Datagrams received.
    pub datagrams: &'a [Datagram<'a>],
    /// Bytes that left.
    pub sent: &'a [Sent],
    /// Connections that are gone. Comes last and once for each connection.
    pub closed: &'a [ConnectionId],
    /// Results of storage requests; drained by the turn.
    pub storage: &'a mut Vec<StorageEvent<S>>,
    /// What other shards said, and which of them, in the order in which each said it; drained by the turn.
    pub mesh: &'a mut Vec<(u16, Peer<S::View>)>,
    /// A new route table, taken over before anything else of this turn.
    pub table: Option<Arc<RouteTable>>,
    /// Stop taking work: commit what is appended, say GOAWAY, report `drained`.
    pub drain: bool,
}

/// Bytes to send to one connection, at most one buffer for a connection in a turn.
#[derive(Debug)]
pub struct Outgoing {
    /// Where they go.
    pub connection: ConnectionId,
    /// Whole frames, in order. The buffer is given away.
    pub bytes: Vec<u8>,
}

/// A connection that belongs to another shard. The shard that says so has forgotten it. The caller lets leave what was sent to
/// it, takes it off its ring, adds to `bytes` whatever else it has received of it by then, and brings both to the other
/// shard, where it is opened as `handed_over` and `bytes` are the first that are received. If it ends on the way, nobody
/// needs to be told.
#[derive(Debug, PartialEq, Eq)]
pub struct HandOver {
    /// Its name here.
    pub connection: ConnectionId,
    /// The shard it belongs to.
    pub to: u16,
    /// What was received from its HELLO on.
    pub bytes: Vec<u8>,
}

/// Storage work that a turn asks for.
#[derive(Debug)]
pub enum StorageRequest<S> {
    /// Prepare a spare segment of `bytes`; answered by `Prepared` or `PrepareFailed`.
    Prepare {
        /// The log that needs it.
        log: LogId,
        /// Its capacity.
        bytes: u32,
    },
    /// Make everything the ticket covers durable; answered by `Synced`.
    Sync(CommitTicket),
    /// A segment beyond its retention: recycle it or delete it. One that was recycled may come back as
    /// `Prepared`.
    Retire {
        /// The log it belonged to.
        log: LogId,
        /// The segment.
        segment: S,
    },
}

/// What a turn asks the caller to do. The caller empties the vectors and hands the same value in again.
pub struct Output<S: Segment> {
    /// Bytes to send.
    pub sends: Vec<Outgoing>,
    /// Empty buffers with capacity, topped up by the caller; `sends` takes from here.
    pub buffers: Vec<Vec<u8>>,
    /// Connections to close after what was sent to them has left. One that is named again has not been
    /// reported as closed for `Limits::slow_receiver_after`: break it off.
    pub closes: Vec<ConnectionId>,
    /// Connections that go to another shard.
    pub hand_over: Vec<HandOver>,
    /// Storage work.
    pub storage: Vec<StorageRequest<S>>,
    /// What to say to other shards, by their numbers; empty on a node of one. The caller takes from the front as much as
    /// there is room for on the way and leaves the rest where it is: nothing is added to what is left.
    pub mesh: Vec<VecDeque<Peer<S::View>>>,
    /// The monotonic time at which the next timer is due; call `turn` then at the latest.
    pub wake_at: Option<Duration>,
    /// A bound of `Limits` cut work short: call `turn` again without waiting.
    pub more: bool,
    /// After `Input::drain`: everything that can be is durable, and everything said has been sent.
    pub drained: bool,
}

impl<S: Segment> Default for Output<S> {
    fn default() -> Self {
        Self {
            sends: Vec::new(),
            buffers: Vec::new(),
            closes: Vec::new(),
            hand_over: Vec::new(),
            storage: Vec::new(),
            mesh: Vec::new(),
            wake_at: None,
            more: false,
            drained: false,
        }
    }
}

impl<S: Segment> fmt::Debug for Output<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("sends", &self.sends.len())
            .field("closes", &self.closes)
            .field("hand_over", &self.hand_over.len())
            .field("storage", &self.storage.len())
            .field("wake_at", &self.wake_at)
            .field("more", &self.more)
            .field("drained", &self.drained)
            .finish_non_exhaustive()
    }
}
