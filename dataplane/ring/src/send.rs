//! Sending: per connection one queue of buffers and at most one operation in flight, so that order
//! holds; finished buffers go back to a pool.

use std::collections::VecDeque;

use io_uring::{cqueue, opcode, squeue, types};

use crate::event::{ConnectionId, Event};
use crate::limits::RingLimits;
use crate::ring::Ring;
use crate::socket;
use crate::token::{self, Key, Kind};

/// Buffers one operation carries at most.
const VECTORS_MAX: usize = 64;
/// Bytes one operation carries at most: the kernel takes less than 2 GiB, and a result is an `i32`.
const OPERATION_BYTES_MAX: usize = 1 << 30;

/// Headers kept for the next operation with several buffers.
const HEADERS_MAX: usize = 64;
/// A queue with room for more buffers than this is freed, not kept.
const QUEUE_MAX: usize = 64;

/// What waits to be sent on one connection.
///
/// While an operation is in flight the kernel reads the first buffers of the queue and the header, so
/// neither is dropped, cut or rewritten until its completion: only `complete` ends a flight.
#[derive(Default)]
pub(crate) struct SendQueue {
    /// Made when something waits, given up when nothing does: an idle connection has none.
    queued: VecDeque<Vec<u8>>,
    /// Bytes of the first buffer that were sent already.
    offset: usize,
    /// Bytes not sent yet.
    bytes: usize,
    /// Bytes the operation in flight carries, 0 for none.
    flight: usize,
    /// There while an operation with several buffers is in flight. Boxed: it must not move with the connection.
    header: Option<Box<Header>>,
}

/// What a SENDMSG names: stable until its completion.
struct Header {
    message: libc::msghdr,
    vectors: [libc::iovec; VECTORS_MAX],
}

/// The memory an operation is to send.
pub(crate) enum Flight {
    One {
        start: *const u8,
        bytes: u32,
    },
    Many {
        message: *const libc::msghdr,
        buffers: usize,
    },
}

impl SendQueue {
    pub(crate) fn push(&mut self, buffer: Vec<u8>, pool: &mut Pool) {
        self.bytes += buffer.len();
        if self.queued.capacity() == 0 {
            self.queued = pool.queues.pop().unwrap_or_default();
        }
        self.queued.push_back(buffer);
    }

    /// Bytes not sent yet.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.flight > 0
    }

    /// Nothing queued, nothing in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.bytes == 0 && self.flight == 0
    }

    /// Start a flight with as much of the queue as one operation carries. `None` when there is nothing
    /// to send or a flight is under way.
    pub(crate) fn depart(&mut self, pool: &mut Pool) -> Option<Flight> {
        let first = self.queued.front()?;
        if self.flight > 0 {
            return None;
        }
        let rest = &first[self.offset..];
        if self.queued.len() == 1 || rest.len() >= OPERATION_BYTES_MAX {
            self.flight = rest.len().min(OPERATION_BYTES_MAX);
            return Some(Flight::One {
                start: rest.as_ptr(),
                bytes: self.flight as u32,
            });
        }
        Some(self.depart_with_many(pool))
    }

    fn depart_with_many(&mut self, pool: &mut Pool) -> Flight {
        let kept = || pool.headers.pop().unwrap_or_else(Header::boxed);
        let header = self.header.get_or_insert_with(kept);
        let mut skip = self.offset;
        let mut buffers = 0;
        for (vector, buffer) in header.vectors.iter_mut().zip(&self.queued) {
            let rest = &buffer[skip..];
            if self.flight + rest.len() > OPERATION_BYTES_MAX {
                break;
            }
            vector.iov_base = rest.as_ptr().cast_mut().cast();
            vector.iov_len = rest.len();
            self.flight += rest.len();
            buffers += 1;
            skip = 0;
        }
        header.message.msg_iov = header.vectors.as_mut_ptr();
        header.message.msg_iovlen = buffers;
        Flight::Many {
            message: &raw const header.message,
            buffers,
        }
    }

    /// The flight ended and the kernel took `bytes` of it. Returns whether that was only a part.
    pub(crate) fn complete(&mut self, bytes: usize, pool: &mut Pool) -> bool {
        assert!(
            bytes <= self.flight,
            "{bytes} bytes sent of {}",
            self.flight
        );
        let partial = bytes < self.flight;
        self.flight = 0;
        self.bytes -= bytes;
        self.offset += bytes;
        while let Some(first) = self.queued.front() {
            if self.offset < first.len() {
                break;
            }
            self.offset -= first.len();
            if let Some(buffer) = self.queued.pop_front() {
                pool.put(buffer);
            }
        }
        self.give_up(pool);
        partial
    }

    /// What nothing needs now serves other connections. The flight is over, so the kernel does not use it.
    fn give_up(&mut self, pool: &mut Pool) {
        if let Some(header) = self.header.take() {
            pool.put_header(header);
        }
        if self.queued.is_empty() {
            pool.put_queue(std::mem::take(&mut self.queued));
        }
    }

    /// Give up what is queued.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        assert!(self.flight == 0, "{} bytes are in flight", self.flight);
        self.queued.drain(..).for_each(|buffer| pool.put(buffer));
        self.offset = 0;
        self.bytes = 0;
        self.give_up(pool);
    }
}

impl Header {
    fn boxed() -> Box<Self> {
        const EMPTY: libc::iovec = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let message = libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: std::ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        Box::new(Self {
            message,
            vectors: [EMPTY; VECTORS_MAX],
        })
    }
}

/// Empty buffers kept for the next message, and what else sending needs only while it lasts.
pub(crate) struct Pool {
    buffers: Vec<Vec<u8>>,
    #[expect(
        clippy::vec_box,
        reason = "a header goes to its next owner as it is, at the address it has"
    )]
    headers: Vec<Box<Header>>,
    queues: Vec<VecDeque<Vec<u8>>>,
    /// Bytes the buffers have room for.
    bytes: usize,
    buffers_max: usize,
    buffer_bytes_max: usize,
    bytes_max: usize,
}

impl Pool {
    pub(crate) fn new(limits: &RingLimits) -> Self {
        Self {
            buffers: Vec::with_capacity(limits.send_buffers_max),
            headers: Vec::new(),
            queues: Vec::with_capacity(limits.send_buffers_max),
            bytes: 0,
            buffers_max: limits.send_buffers_max,
            buffer_bytes_max: limits.send_buffer_bytes_max,
            bytes_max: limits.send_buffers_bytes_max,
        }
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    fn put_header(&mut self, header: Box<Header>) {
        if self.headers.len() < HEADERS_MAX {
            self.headers.push(header);
        }
    }

    fn put_queue(&mut self, queue: VecDeque<Vec<u8>>) {
        let usual = (1..=QUEUE_MAX).contains(&queue.capacity());
        if usual && self.queues.len() < self.buffers_max {
            self.queues.push(queue);
        }
    }

    /// Keep a buffer for the next message. One that a burst has made big is freed: kept, it would never be small again, and
    /// in time every buffer would be as big as the biggest burst.
    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let fits = self.buffers.len() < self.buffers_max && self.bytes + capacity <= self.bytes_max;
        if fits && (1..=self.buffer_bytes_max).contains(&capacity) {
            buffer.clear();
            self.bytes += capacity;
            self.buffers.push(buffer);
        }
    }
}

impl Ring {
    /// Queue bytes for sending. Takes the buffer; when sent it goes to the pool of `take_buffer`.
    ///
    /// Buffers queued before the next `poll`, `wait` or `submit` leave in one operation. Bytes for a
    /// connection that is closing or gone are thrown away and counted. More than `sends_bytes_max`
    /// queued ends the connection with `CloseCause::Error(ENOBUFS)`.
    pub fn send(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        let found = self.connections.get_mut(connection.0);
        let Some(open) = found.filter(|found| found.is_open()) else {
            self.counters.sends_refused += 1;
            return self.pool.put(bytes);
        };
        if bytes.is_empty() {
            return self.pool.put(bytes);
        }
        open.sends.push(bytes, &mut self.pool);
        if open.sends.bytes() > self.limits.sends_bytes_max {
            self.counters.sends_overflowed += 1;
            return self.fail(connection.0, libc::ENOBUFS);
        }
        self.touch(connection.0);
    }

    /// Bytes queued for a connection and not yet taken by the kernel; 0 for one that is gone.
    #[must_use]
    pub fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.connections
            .get(connection.0)
            .map_or(0, |found| found.sends.bytes())
    }

    /// An empty buffer for `send`, recycled when there is one.
    #[must_use]
    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.pool.take()
    }

    /// Put a buffer that is not needed after all into the pool of `take_buffer`.
    pub fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        self.pool.put(buffer);
    }

    /// Start a send if there is something to send and none is in flight.
    pub(crate) fn start_send(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !connection.may_send() {
            return;
        }
        let Some(flight) = connection.sends.depart(&mut self.pool) else {
            return;
        };
        let fd = types::Fd(connection.descriptor());
        let (entry, buffers) = match flight {
            Flight::One { start, bytes } => (
                opcode::Send::new(fd, start, bytes)
                    .flags(libc::MSG_NOSIGNAL)
                    .build(),
                1,
            ),
            Flight::Many { message, buffers } => {
                let flags = libc::MSG_NOSIGNAL as u32;
                (
                    opcode::SendMsg::new(fd, message).flags(flags).build(),
                    buffers,
                )
            }
        };
        self.counters.sends += 1;
        self.counters.sent_buffers += buffers as u64;
        let entry: squeue::Entry = entry.user_data(token::pack(Kind::Send, key));
        // SAFETY: socket, buffers and header belong to the connection, which stays in its slot until its
        // last completion; the queue keeps buffers and header unchanged while a flight is under way.
        unsafe { self.kernel.push(entry, &mut self.counters) };
        self.kernel.pushed_send();
    }

    /// A send completed.
    pub(crate) fn on_send(&mut self, key: Key, entry: &cqueue::Entry, events: &mut Vec<Event>) {
        let connection = self
            .connections
            .get_mut(key)
            .expect("a slot waits for its completions");
        let sent = usize::try_from(entry.result()).unwrap_or(0);
        if connection.sends.complete(sent, &mut self.pool) && sent > 0 {
            self.counters.partial_sends += 1;
        }
        if sent > 0 {
            self.counters.sent_bytes += sent as u64;
            events.push(Event::Sent {
                connection: ConnectionId(key),
                bytes: sent,
            });
        }
        let errno = -entry.result();
        let stopped = errno == libc::ECANCELED || socket::is_passing(errno);
        if errno > 0 && !stopped {
            self.fail(key, errno);
        }
        self.touch(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::new(&RingLimits {
            send_buffers_max: 2,
            ..RingLimits::default()
        })
    }

    fn flight_bytes(queue: &mut SendQueue, pool: &mut Pool) -> Vec<u8> {
        match queue.depart(pool).expect("something is queued") {
            Flight::One { start, bytes } => {
                // SAFETY: the queue names bytes of its first buffer, which stays until `complete`.
                unsafe { std::slice::from_raw_parts(start, bytes as usize) }.to_vec()
            }
            Flight::Many { buffers, .. } => {
                let header = queue.header.as_ref().expect("many buffers need a header");
                let vectors = &header.vectors[..buffers];
                let bytes = vectors.iter().flat_map(|vector| {
                    // SAFETY: each vector names bytes of a queued buffer, which stays until `complete`.
                    unsafe { std::slice::from_raw_parts(vector.iov_base.cast(), vector.iov_len) }
                });
                bytes.copied().collect()
            }
        }
    }

    #[test]
    fn whatever_part_the_kernel_takes_the_bytes_go_out_once_and_in_order() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut queue, mut pool) = (SendQueue::default(), pool());
            let (mut queued, mut sent) = (Vec::new(), Vec::new());
            for _ in 0..200 {
                for _ in 0..random.usize(..4) {
                    let buffer: Vec<u8> = (0..random.usize(1..50)).map(|_| random.u8(..)).collect();
                    queued.extend_from_slice(&buffer);
                    queue.push(buffer, &mut pool);
                }
                if queue.bytes() == 0 {
                    continue;
                }
                let flight = flight_bytes(&mut queue, &mut pool);
                assert!(queue.depart(&mut pool).is_none(), "one flight at a time");
                let taken = random.usize(..=flight.len());
                sent.extend_from_slice(&flight[..taken]);
                assert_eq!(
                    queue.complete(taken, &mut pool),
                    taken < flight.len(),
                    "seed {seed}"
                );
                assert_eq!(queue.bytes(), queued.len() - sent.len(), "seed {seed}");
            }
            assert_eq!(sent, queued[..sent.len()], "seed {seed}");
            queue.clear(&mut pool);
            assert!(queue.is_idle() && pool.buffers.len() == 2, "seed {seed}");
            let kept = queue.queued.capacity() + usize::from(queue.header.is_some());
            assert_eq!(kept, 0, "seed {seed}: an idle connection keeps nothing");
        }
    }

    #[test]
    fn a_burst_through_every_buffer_leaves_the_pool_within_its_bytes() {
        let mut pool = Pool::new(&RingLimits {
            send_buffer_bytes_max: 1_000,
            send_buffers_bytes_max: 10_000,
            ..RingLimits::default()
        });
        for round in 0..3 {
            let sent: Vec<Vec<u8>> = (0..1_024)
                .map(|place| {
                    let mut buffer = pool.take();
                    // One in three is as big as a burst.
                    let bytes = if (place + round) % 3 == 0 {
                        900_000
                    } else {
                        700
                    };
                    buffer.reserve_exact(bytes);
                    buffer
                })
                .collect();
            sent.into_iter().for_each(|buffer| pool.put(buffer));
            let held: usize = pool.buffers.iter().map(Vec::capacity).sum();
            assert_eq!(held, pool.bytes, "round {round}");
            assert!(
                (9_000..=10_000).contains(&held),
                "round {round}: {held} bytes"
            );
        }
        while pool.take().capacity() > 0 {}
        assert_eq!(pool.bytes, 0);
    }

    #[test]
    fn the_pool_keeps_a_bounded_number_of_buffers_and_none_too_big_or_empty() {
        let mut pool = pool();
        pool.put(Vec::new());
        pool.put(Vec::with_capacity(2 << 20));
        assert_eq!(pool.buffers.len(), 0);
        (0..3).for_each(|_| pool.put(vec![1, 2, 3]));
        assert_eq!(pool.buffers.len(), 2);
        assert!(pool.take().is_empty() && pool.take().capacity() >= 3);
    }
}
