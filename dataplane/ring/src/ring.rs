//! The ring.
use std::marker::PhantomData;
use std::net::{TcpListener, TcpStream};
use std::os::fd::RawFd;
use std::time::Duration;

use crate::{
    ConnectionId, Counters, Event, Features, Lease, ListenerId, RingError, RingLimits, Waker,
};

/// One io_uring of one thread, with its sockets and buffers. Neither `Send` nor `Sync`.
#[derive(Debug)]
pub struct Ring {
    _thread: PhantomData<*mut ()>,
}

#[expect(unused_variables, reason = "interface first")]
impl Ring {
    /// Make a ring on the thread that will use it.
    /// # Errors
    /// Any fault of the environment, with its remedy.
    pub fn new(limits: RingLimits, features: Features) -> Result<Self, RingError> {
        unimplemented!()
    }
    /// Features in use.
    pub fn features(&self) -> &Features {
        unimplemented!()
    }
    /// A handle that wakes this ring's owner from any thread.
    pub fn waker(&self) -> Waker {
        unimplemented!()
    }
    /// Descriptor that becomes readable (8 bytes) when there may be completions or a wake. A hint.
    pub fn eventfd(&self) -> RawFd {
        unimplemented!()
    }
    /// Accept on this listener.
    /// # Errors
    /// `ListenersFull`, `Descriptor`.
    pub fn listen(&mut self, listener: TcpListener) -> Result<ListenerId, RingError> {
        unimplemented!()
    }
    /// Stop accepting and close the listener.
    pub fn stop_listening(&mut self, listener: ListenerId) {
        unimplemented!()
    }
    /// Take over a connected socket.
    /// # Errors
    /// `ConnectionsFull`, `Descriptor`.
    pub fn attach(&mut self, stream: TcpStream) -> Result<ConnectionId, RingError> {
        unimplemented!()
    }
    /// Submit, take completions, append events. Returns how many events were appended.
    /// # Errors
    /// `Enter`.
    pub fn poll(&mut self, events: &mut Vec<Event>) -> Result<usize, RingError> {
        unimplemented!()
    }
    /// Submit and sleep until there is a completion, a wake, a signal, or the timeout has passed.
    /// # Errors
    /// `Enter`.
    pub fn wait(&mut self, timeout: Duration) -> Result<(), RingError> {
        unimplemented!()
    }
    /// Hand prepared operations to the kernel now, instead of at the next poll.
    /// # Errors
    /// `Enter`.
    pub fn submit(&mut self) -> Result<(), RingError> {
        unimplemented!()
    }
    /// The bytes of a lease.
    pub fn bytes(&self, lease: &Lease) -> &[u8] {
        unimplemented!()
    }
    /// Give a buffer back to the kernel.
    pub fn release(&mut self, lease: Lease) {
        unimplemented!()
    }
    /// Queue bytes for sending.
    pub fn send(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        unimplemented!()
    }
    /// Bytes queued and not yet taken by the kernel.
    pub fn queued_bytes(&self, connection: ConnectionId) -> usize {
        unimplemented!()
    }
    /// Close after what is queued was sent.
    pub fn close(&mut self, connection: ConnectionId) {
        unimplemented!()
    }
    /// Close at once with a reset; queued bytes are thrown away.
    pub fn abort(&mut self, connection: ConnectionId) {
        unimplemented!()
    }
    /// An empty buffer for `send`, recycled when there is one.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        unimplemented!()
    }
    /// Give a buffer that was not sent back to the pool.
    pub fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        unimplemented!()
    }
    /// Connections open or closing.
    pub fn connections(&self) -> usize {
        unimplemented!()
    }
    /// Totals.
    pub fn counters(&self) -> Counters {
        unimplemented!()
    }
    /// Check the invariants (in debug builds).
    pub fn check(&self) {
        unimplemented!()
    }
}
