//! Hand-over: a connection leaves this ring, and a socket of another ring joins it. Knows nothing of
//! sessions; what the owner knows of a connection travels beside its socket.
//!
//! Leaving is asking the kernel to end the receive, then waiting for every completion, as closing does.
//! The kernel ends a receive without taking bytes for it, so each byte is either told here, before
//! `Detached`, or still in the socket. The end of a stream is not used up by being seen; an error is, and so
//! ends the connection here.

use std::net::{SocketAddr, TcpStream};

use crate::connection::Phase;
use crate::event::{ConnectionId, Event};
use crate::ring::Ring;
use crate::token::Key;

/// A connected socket between two rings, with its peer's address. May go to another thread.
///
/// Nothing is in flight for it. Dropping it closes the connection.
#[derive(Debug)]
#[must_use = "dropping it closes the connection"]
pub struct Socket {
    stream: TcpStream,
    peer: SocketAddr,
}

// An event carries a socket, and is no bigger for it than for an accepted connection.
const _: () = assert!(size_of::<Event>() <= 56);

impl Socket {
    /// Address of the peer.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl Ring {
    /// Let a connection leave this ring. `Event::Detached` follows, or `Event::Closed` when the connection
    /// failed first, never both.
    ///
    /// Until then bytes that this ring already received still come as `Event::Received`, and what is queued
    /// for sending is sent: a peer that does not read holds this up until `close` or `abort`, which end it.
    /// `send` is refused from now on, as for a connection that closes. That the peer finished is found out
    /// no more here but by the ring that adopts the socket, which also tells it again: pass over a
    /// `Finished` of this connection that the same `poll` had told. Leases stay valid and are released to
    /// this ring as ever. Does nothing when the connection is leaving, closing or gone.
    ///
    /// Costs one operation, and one system call for the peer's address.
    pub fn detach(&mut self, connection: ConnectionId) {
        let found = self.connections.get_mut(connection.0);
        let Some(open) = found.filter(|found| found.is_open()) else {
            return;
        };
        open.phase = Phase::Leaving;
        self.stop_receive(connection.0);
        self.touch(connection.0);
    }

    /// Take in a connection that left a ring. It receives at once, as one just accepted, but without an
    /// `Event::Accepted`. Makes no system call.
    ///
    /// # Errors
    /// The socket, untouched, when `RingLimits::connections_max` connections are open: drop it to close
    /// the connection, or let another ring adopt it, for example the one it came from.
    pub fn adopt(&mut self, socket: Socket) -> Result<ConnectionId, Socket> {
        if self.connections.is_full() {
            return Err(socket);
        }
        self.counters.adopted += 1;
        Ok(self.admit(socket.stream))
    }

    /// Every completion was taken, and nothing is queued: give the socket to the owner, free the slot. A
    /// socket that lost its peer's address was reset, and ends here.
    pub(crate) fn leave(&mut self, key: Key, events: &mut Vec<Event>) {
        self.counters.socket_calls += 1;
        let connection = ConnectionId(key);
        let Some(peer) = self.peer(connection) else {
            return self.fail(key, libc::ENOTCONN);
        };
        let Some(left) = self.take_out(key) else {
            return;
        };
        self.counters.detached += 1;
        let stream = left.stream;
        let socket = Socket { stream, peer };
        events.push(Event::Detached { connection, socket });
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use io_uring::opcode;

    use super::*;
    use crate::features::Features;
    use crate::limits::RingLimits;
    use crate::token::{self, Kind};

    #[test]
    fn a_receive_that_the_kernel_did_not_find_because_it_was_at_work_is_asked_again_to_end() {
        let features = Features::probe().expect("this machine runs rings");
        let mut ring = Ring::new(RingLimits::default(), features).expect("this machine runs rings");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stream = TcpStream::connect(address).expect("it listens");
        let connection = ring.attach(stream).expect("there is room");
        // As `detach`, but what it cancels is not there: the kernel answers ENOENT, and the receive goes on.
        let leaving = ring.connections.get_mut(connection.0).expect("it is there");
        leaving.phase = Phase::Leaving;
        leaving.holding = true;
        let nothing = token::pack(Kind::WakeCancel, 0);
        let entry = opcode::AsyncCancel::new(nothing).build();
        let entry = entry.user_data(token::pack(Kind::ReceiveCancel, connection.0));
        // SAFETY: names no descriptor and no memory.
        unsafe { ring.kernel.push(entry, &mut ring.counters) };
        let mut events = Vec::new();
        for _ in 0..100 {
            ring.poll(&mut events).expect("the kernel takes part");
            ring.check();
        }
        let peer = match &events[..] {
            [Event::Detached { socket, .. }] => socket.peer(),
            other => panic!("{other:?}"),
        };
        assert_eq!((peer, ring.counters().cancels), (address, 1));
    }
}
