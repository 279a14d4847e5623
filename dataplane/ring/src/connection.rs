//! A connection's place in the ring: what is in flight for it, and how it ends.
//!
//! Ending always goes the same way: stop what is in flight, wait for every completion, close the
//! socket, tell `Closed`, free the slot. Nothing the kernel may use is freed before. Leaving for another
//! ring goes that way too, but for the socket, which stays open: see `handover`.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{cqueue, opcode};

use crate::error::RingError;
use crate::event::{CloseCause, ConnectionId, Event};
use crate::kernel::errno;
use crate::ring::Ring;
use crate::send::SendQueue;
use crate::socket;
use crate::token::{self, Key, Kind};

/// A connection and everything the kernel may use for it.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) phase: Phase,
    /// Why it ends, once that is known. The first cause stays.
    cause: Option<CloseCause>,
    pub(crate) receive: Receive,
    pub(crate) sends: SendQueue,
    /// Buffers lent out.
    pub(crate) leases: u32,
    /// The receive is being stopped: because of them, or because the connection leaves.
    pub(crate) holding: bool,
    timer: bool,
    /// Cancellations in flight.
    cancels: u32,
    cancelled: bool,
    writing_finished: bool,
    /// Close with a reset.
    reset: bool,
    /// In the ring's list of connections to look at.
    touched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// `detach` was called: send what is queued, stop receiving, then leave for another ring.
    Leaving,
    /// `close` was called: send what is queued, then wait for the peer to finish.
    Draining,
    /// Nothing more is sent or received; completions are awaited.
    Ending,
}

/// State of receiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receive {
    /// To be started.
    Idle,
    /// An operation is in flight.
    Armed,
    /// In the ring's queue for buffers.
    Waiting,
    /// Has too many buffers lent out.
    Held,
    /// The peer finished.
    Ended,
}

/// What to do next for a connection that is closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    FinishWriting,
    End,
    Cancel,
    Close,
    Leave,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            phase: Phase::Open,
            cause: None,
            receive: Receive::Idle,
            sends: SendQueue::default(),
            leases: 0,
            holding: false,
            timer: false,
            cancels: 0,
            cancelled: false,
            writing_finished: false,
            reset: false,
            touched: false,
        }
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Neither closing nor failed.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(crate) fn may_send(&self) -> bool {
        self.phase != Phase::Ending
    }

    pub(crate) fn may_receive(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining) && self.receive != Receive::Ended
    }

    /// Whether what was received is the owner's; else it is thrown away.
    pub(crate) fn may_tell(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Leaving)
    }

    /// Operations whose last completion has not been taken.
    pub(crate) fn operations(&self) -> usize {
        usize::from(self.receive == Receive::Armed)
            + usize::from(self.sends.is_in_flight())
            + usize::from(self.holding)
            + usize::from(self.timer)
            + self.cancels as usize
    }

    fn step(&self) -> Step {
        match self.phase {
            Phase::Open => Step::Nothing,
            Phase::Leaving if self.sends.is_idle() && self.operations() == 0 => Step::Leave,
            Phase::Leaving => Step::Nothing,
            Phase::Draining if !self.sends.is_idle() => Step::Nothing,
            Phase::Draining if !self.writing_finished => Step::FinishWriting,
            Phase::Draining if self.receive == Receive::Ended => Step::End,
            Phase::Draining => Step::Nothing,
            Phase::Ending if self.operations() == 0 => Step::Close,
            Phase::Ending if !self.cancelled => Step::Cancel,
            Phase::Ending => Step::Nothing,
        }
    }

    fn end(&mut self, cause: CloseCause) {
        self.phase = Phase::Ending;
        self.cause.get_or_insert(cause);
    }
}

impl Ring {
    /// Take over a connected socket. It receives at once.
    ///
    /// # Errors
    /// `ConnectionsFull`; `Descriptor` when the socket is not connected. The socket is closed then.
    pub fn attach(&mut self, stream: TcpStream) -> Result<ConnectionId, RingError> {
        if self.connections.is_full() {
            return Err(RingError::ConnectionsFull {
                max: self.limits.connections_max,
            });
        }
        let failed = |call| {
            move |e| RingError::Descriptor {
                call,
                errno: errno(&e),
            }
        };
        stream.set_nonblocking(false).map_err(failed("fcntl"))?;
        socket::prepare(&stream).map_err(failed("getpeername"))?;
        self.counters.socket_calls += 3;
        Ok(self.admit(stream))
    }

    /// Give a prepared socket a slot, which must be free, and start receiving.
    pub(crate) fn admit(&mut self, stream: TcpStream) -> ConnectionId {
        let key = self.connections.insert(Connection::new(stream));
        self.start_receive(key);
        ConnectionId(key)
    }

    /// Address of the peer; `None` for a connection that is gone.
    #[must_use]
    pub fn peer(&self, connection: ConnectionId) -> Option<SocketAddr> {
        self.connections.get(connection.0)?.stream.peer_addr().ok()
    }

    /// Close after everything queued was sent and the peer finished too, or after
    /// `RingLimits::close_timeout`. `Event::Closed` follows. From now on nothing more is received or
    /// accepted for sending. Ends a `detach` that is under way: `Event::Detached` does not follow then. Does
    /// nothing when the connection is closing or gone.
    pub fn close(&mut self, connection: ConnectionId) {
        let found = self.connections.get_mut(connection.0);
        let Some(open) = found.filter(|found| found.may_tell()) else {
            return;
        };
        open.phase = Phase::Draining;
        open.cause = Some(match open.receive {
            Receive::Ended => CloseCause::Peer,
            _ => CloseCause::Local,
        });
        open.timer = true;
        let entry = opcode::Timeout::new(&raw const self.clocks.close).build();
        let entry = entry.user_data(token::pack(Kind::CloseTimer, connection.0));
        // SAFETY: names no descriptor; the time is boxed and lives as long as the ring.
        unsafe { self.kernel.push(entry, &mut self.counters) };
        // From now on what comes is thrown away, so it needs no buffers: the peer's end is what is awaited.
        self.resume_held(connection.0);
        // A connection that was leaving may have stopped receiving already.
        self.start_receive(connection.0);
        self.touch(connection.0);
    }

    /// Close at once with a reset; what is queued is thrown away. `Event::Closed` follows. Also cuts a
    /// `close` or a `detach` short. Does nothing when the connection is gone.
    pub fn abort(&mut self, connection: ConnectionId) {
        let Some(found) = self.connections.get_mut(connection.0) else {
            return;
        };
        if found.phase != Phase::Ending {
            found.end(CloseCause::Local);
            found.reset = true;
            self.touch(connection.0);
        }
    }

    /// Connections open or closing.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// An operation of the connection failed for good.
    pub(crate) fn fail(&mut self, key: Key, errno: i32) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.end(match errno {
            errno if socket::is_reset(errno) => CloseCause::Reset,
            errno => CloseCause::Error(errno),
        });
        connection.reset = true;
        self.touch(key);
    }

    /// Look at this connection before the next enter.
    pub(crate) fn touch(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.touched
        {
            connection.touched = true;
            self.touched.push(key);
        }
    }

    /// Start sends of touched connections. Those that are closing stay in the list for `settle_touched`.
    pub(crate) fn start_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|key| {
            self.start_send(*key);
            let Some(connection) = self.connections.get_mut(*key) else {
                return false;
            };
            connection.touched = !connection.is_open();
            connection.touched
        });
        debug_assert!(self.touched.is_empty(), "starting a send touches nothing");
        self.touched = touched;
    }

    /// Take every touched connection that is closing as far as it can go now.
    pub(crate) fn settle_touched(&mut self, events: &mut Vec<Event>) {
        while let Some(key) = self.touched.pop() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.touched = false;
                self.settle(key, events);
            }
        }
    }

    fn settle(&mut self, key: Key, events: &mut Vec<Event>) {
        while let Some(connection) = self.connections.get_mut(key) {
            match connection.step() {
                Step::Nothing => return,
                Step::FinishWriting => {
                    connection.writing_finished = true;
                    self.counters.socket_calls += 1;
                    socket::finish_writing(&connection.stream);
                }
                Step::End => connection.phase = Phase::Ending,
                Step::Cancel => self.cancel_all(key),
                Step::Close => return self.finish(key, events),
                Step::Leave => self.leave(key, events),
            }
        }
    }

    fn cancel_all(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.cancelled = true;
        let in_flight = [
            (Kind::Receive, connection.receive == Receive::Armed),
            (Kind::Send, connection.sends.is_in_flight()),
            (Kind::CloseTimer, connection.timer),
        ];
        let kinds = in_flight
            .into_iter()
            .filter(|(_, flies)| *flies)
            .map(|(kind, _)| kind);
        for kind in kinds {
            connection.cancels += 1;
            self.counters.cancels += 1;
            let entry = opcode::AsyncCancel::new(token::pack(kind, key)).build();
            let entry = entry.user_data(token::pack(Kind::CloseCancel, key));
            // SAFETY: names no descriptor and no memory.
            unsafe { self.kernel.push(entry, &mut self.counters) };
        }
    }

    /// Every completion was taken: free the slot. The socket is still open, and the kernel uses nothing of it.
    pub(crate) fn take_out(&mut self, key: Key) -> Option<Connection> {
        let mut connection = self.connections.remove(key)?;
        assert!(
            connection.operations() == 0,
            "{} in flight",
            connection.operations()
        );
        if connection.receive == Receive::Waiting {
            // Connections that come and go while buffers are short must not fill the queue.
            self.waiting.remove(key);
        }
        connection.sends.clear(&mut self.pool);
        Some(connection)
    }

    /// Every completion was taken: close the socket, free the slot.
    fn finish(&mut self, key: Key, events: &mut Vec<Event>) {
        let Some(connection) = self.take_out(key) else {
            return;
        };
        if connection.reset {
            self.counters.socket_calls += 1;
            socket::reset_on_close(&connection.stream);
        }
        let cause = connection.cause.unwrap_or(CloseCause::Local);
        drop(connection);
        self.counters.socket_calls += 1;
        self.counters.closed += 1;
        events.push(Event::Closed {
            connection: ConnectionId(key),
            cause,
        });
        self.retry_accepts();
    }

    /// The time that `close` may take is over, or its timer was cancelled.
    pub(crate) fn on_close_timer(&mut self, key: Key, entry: &cqueue::Entry) {
        let connection = self
            .connections
            .get_mut(key)
            .expect("a slot waits for its completions");
        connection.timer = false;
        if entry.result() != -libc::ECANCELED && connection.phase == Phase::Draining {
            connection.phase = Phase::Ending;
            connection.reset = !connection.sends.is_idle();
            self.counters.close_timeouts += 1;
        }
        self.touch(key);
    }

    /// A cancellation was answered. An operation that runs cannot be cancelled; ending the socket ends it.
    pub(crate) fn on_close_cancel(&mut self, key: Key, entry: &cqueue::Entry) {
        let connection = self
            .connections
            .get_mut(key)
            .expect("a slot waits for its completions");
        connection.cancels -= 1;
        if entry.result() == -libc::EALREADY {
            self.counters.socket_calls += 1;
            socket::end_both(&connection.stream);
        }
        self.touch(key);
    }

    /// End every connection, for dropping the ring: the sockets close in the ordinary way.
    pub(crate) fn end_all(&mut self) {
        let keys: Vec<Key> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.end(CloseCause::Local);
            }
            self.touch(key);
        }
    }
}
