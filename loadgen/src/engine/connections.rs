//! The connections of one thread of a run, whatever carries them: sockets on a ring, with or without tunnels, or streams of QUIC.

mod sockets;
mod streams;

use super::Sockets;
use super::sending::Port;
use crate::diagnosis;
use crate::socket::Socket;
use sockets::RingSockets;
use std::time::Duration;
use streams::QuicStreams;
use wire::diagnosis::Diagnosis;

/// Longest wait for something to come.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(20);
/// How long a connection that says BYE may take, nanoseconds.
pub(super) const BYE_TIME: u64 = 500_000_000;

/// The connections of one thread; their indexes are the caller's.
pub(super) enum Connections {
    Sockets(Box<RingSockets>),
    Streams(Box<QuicStreams>),
}

/// Call the same method of either.
macro_rules! either {
    ($self:ident, $each:ident => $call:expr) => {
        match $self {
            Connections::Sockets($each) => $call,
            Connections::Streams($each) => $call,
        }
    };
}

impl Connections {
    /// The connections, and what had come on each before; there is room for `spare` more. All are of one kind.
    pub(super) fn new(
        sockets: Sockets,
        spare: usize,
        buffers: (u16, u32),
    ) -> Result<(Self, Vec<Vec<u8>>), Diagnosis> {
        let Sockets { streams, rests } = sockets;
        let connections = match streams.first() {
            Some(Socket::Quic(_, runtime)) => {
                let runtime = std::sync::Arc::clone(runtime);
                Self::Streams(Box::new(QuicStreams::new(streams, runtime)?))
            }
            _ => Self::Sockets(Box::new(RingSockets::new(streams, spare, buffers)?)),
        };
        Ok((connections, rests))
    }

    /// Put another connection in the place of this one, if there is room already.
    pub(super) fn replace(&mut self, index: usize, socket: Socket) -> Result<(), Diagnosis> {
        either!(self, each => each.replace(index, socket))
    }

    /// Break a connection off, so that it can be replaced.
    pub(super) fn give_up(&mut self, index: usize) {
        either!(self, each => each.give_up(index));
    }

    /// Whether one more connection can be attached.
    pub(super) fn has_room(&self) -> bool {
        either!(self, each => each.has_room())
    }

    /// Connections that have not ended.
    pub(super) fn open(&self) -> usize {
        either!(self, each => each.open())
    }

    /// Take what has come: bytes by connection, and which connections ended. True when there was something.
    pub(super) fn poll(
        &mut self,
        take: impl FnMut(usize, Result<&[u8], String>),
    ) -> Result<bool, Diagnosis> {
        either!(self, each => each.poll(take))
    }

    /// Hand over everything that was sent: to the kernel, or to QUIC, which sends it as its congestion control allows.
    pub(super) fn submit(&mut self) -> Result<(), Diagnosis> {
        either!(self, each => each.submit())
    }

    /// Wait for something to come, at most so long.
    pub(super) fn wait(&mut self, most: Duration) -> Result<(), Diagnosis> {
        either!(self, each => each.wait(most.min(WAIT_MAX)))
    }

    /// End a connection behind what was sent.
    pub(super) fn close(&mut self, index: usize) {
        either!(self, each => each.close(index));
    }
}

impl Port for Connections {
    fn buffer(&mut self) -> Vec<u8> {
        either!(self, each => each.buffer())
    }

    fn send(&mut self, lane: usize, bytes: Vec<u8>) {
        either!(self, each => each.send(lane, bytes));
    }

    fn throw(&mut self, lane: usize, bytes: Vec<u8>) {
        match self {
            Self::Streams(streams) => streams.throw(lane, bytes),
            Self::Sockets(_) => unreachable!("the plan was checked: datagrams are QUIC's"),
        }
    }
}

/// A connection of another kind than those beside it.
fn mixed() -> Diagnosis {
    diagnosis::plan(
        "transport",
        "two kinds",
        "one for all connections of a thread",
    )
}
