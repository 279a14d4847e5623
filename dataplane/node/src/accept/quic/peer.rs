//! One QUIC connection, as this room sees it: whose it is, its lanes, and when it is to be ended.
//!
//! Computes; what is done about it is decided where connections are kept.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quinn_proto::{Connection, StreamId};
use shard::{ConnectionId, Shown};

use super::addresses::Addresses;
use super::excess::Said;
use super::settings::{FEW_STREAMS, STRANGER_WINDOW};
use super::under_way::Ticket;
use super::windows::Unread;

/// One QUIC connection.
pub(super) struct Peer {
    pub(super) connection: Connection,
    /// Where its handshake came from: who it is for bans and shares. A later one is taken at its word before it is proven.
    pub(super) address: SocketAddr,
    /// Where it may be sent to.
    pub(super) addresses: Addresses,
    /// Up to when it stands in the timers.
    pub(super) timer: Option<Instant>,
    pub(super) touched: bool,
    /// Its place among the handshakes under way, as long as it is one.
    pub(super) ticket: Option<Ticket>,
    /// Its handshake ended well.
    pub(super) connected: bool,
    pub(super) exporter: [u8; 32],
    /// The certificate that the client showed.
    pub(super) shown: Option<Shown>,
    pub(super) lanes: Vec<(StreamId, ConnectionId)>,
    /// Streams of lanes that are over, whose last bytes the client has not acknowledged.
    pub(super) ending: Vec<StreamId>,
    /// One of its lanes has a session; if not, since when.
    pub(super) known: bool,
    pub(super) unknown_since: Instant,
    /// It hears the rest of what was said to it, until then at most: its address is banned.
    pub(super) parts_at: Option<Instant>,
    /// It is forgotten as soon as it was told of its end.
    pub(super) crowded_out: bool,
    /// Its windows are those of the first who have a session.
    pub(super) trusted: bool,
    /// Its window as such, and for lanes that are not read; the number of these, and of those that are listed to be.
    pub(super) own_window: u32,
    pub(super) extra_window: usize,
    pub(super) waiting: u32,
    pub(super) listed: u32,
    /// Streams that it may have open.
    pub(super) streams: u32,
    pub(super) unread: Unread,
    pub(super) said: Said,
}

impl Peer {
    /// One whose handshake begins.
    pub(super) fn new(
        connection: Connection,
        addresses: Addresses,
        ticket: Ticket,
        now: Instant,
    ) -> Self {
        let address = connection.remote_address();
        Self {
            connection,
            address: SocketAddr::new(address.ip().to_canonical(), address.port()),
            addresses,
            timer: None,
            touched: false,
            ticket: Some(ticket),
            connected: false,
            exporter: [0; 32],
            shown: None,
            lanes: Vec::new(),
            ending: Vec::new(),
            known: false,
            unknown_since: now,
            parts_at: None,
            crowded_out: false,
            trusted: false,
            own_window: STRANGER_WINDOW,
            extra_window: 0,
            waiting: 0,
            listed: 0,
            streams: FEW_STREAMS,
            unread: Unread::default(),
            said: Said::new(now),
        }
    }

    /// Bytes that its client may have on the way.
    pub(super) fn window(&self) -> usize {
        self.own_window as usize + self.extra_window
    }

    /// When it is ended by this side: so long after it had a lane with a session last, twice as long if it has others. A HELLO has the
    /// time of a handshake, and its refusal is to be heard. What the client has not acknowledged of lanes that are over does not
    /// count: it may never do so.
    pub(super) fn ends_at(&self, unused: Duration) -> Option<Instant> {
        if self.connection.is_closed() {
            return None;
        }
        let patience = match self.lanes.is_empty() {
            true => unused,
            false => 2 * unused,
        };
        let unused = (!self.known).then(|| self.unknown_since + patience);
        [unused, self.parts_at].into_iter().flatten().min()
    }
}
