//! Sending datagrams: trains of equal ones in one operation (`UDP_SEGMENT`), many operations in flight side by side.

use std::net::{IpAddr, SocketAddr};

use io_uring::{cqueue, opcode, types};

use super::ancillary::{Control, Name};
use crate::ring::Ring;
use crate::token::{self, Key, Kind};

/// Pieces of one train at most: what every kernel since 4.18 takes.
const SEGMENTS_MAX: usize = 64;
/// Places kept for the next trains.
const KEPT_MAX: usize = 64;

/// Where a train goes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: SocketAddr,
    /// The address it is sent from, if the kernel is not to choose: of the host, not of the network.
    pub from: Option<IpAddr>,
    /// ECN mark, two bits.
    pub ecn: u8,
    /// Length of each datagram but the last, which may be shorter, if there are several.
    pub segment_bytes: Option<u16>,
}

/// A train in flight: what a SENDMSG names, stable until its completion.
pub(crate) struct Departure {
    message: libc::msghdr,
    vector: libc::iovec,
    name: Name,
    control: Control,
    bytes: Vec<u8>,
}

impl Departure {
    fn boxed() -> Box<Self> {
        let nowhere = std::ptr::null_mut();
        Box::new(Self {
            message: libc::msghdr {
                msg_name: nowhere,
                msg_namelen: 0,
                msg_iov: std::ptr::null_mut(),
                msg_iovlen: 0,
                msg_control: nowhere,
                msg_controllen: 0,
                msg_flags: 0,
            },
            vector: libc::iovec {
                iov_base: nowhere,
                iov_len: 0,
            },
            name: Name::of(SocketAddr::from(([0; 4], 0))),
            control: Control::default(),
            bytes: Vec::new(),
        })
    }

    /// Fill in what is sent. It has the address it will have until its completion: it is boxed.
    fn load(&mut self, route: &Route, bytes: Vec<u8>) {
        self.name = Name::of(route.to);
        self.control = Control::of(route.to, route.segment_bytes, route.ecn, route.from);
        self.bytes = bytes;
        self.vector.iov_base = self.bytes.as_mut_ptr().cast();
        self.vector.iov_len = self.bytes.len();
        self.message.msg_name = self.name.bytes.as_mut_ptr().cast();
        self.message.msg_namelen = self.name.used;
        self.message.msg_iov = &raw mut self.vector;
        self.message.msg_iovlen = 1;
        self.message.msg_control = match self.control.used {
            0 => std::ptr::null_mut(),
            _ => self.control.bytes.as_mut_ptr().cast(),
        };
        self.message.msg_controllen = self.control.used;
    }
}

impl Ring {
    /// Datagrams that one train may hold: 1 where the network card turned out not to cut trains.
    #[must_use]
    pub fn segments_max(&self) -> usize {
        match &self.datagrams {
            Some(socket) if socket.cuts_trains => SEGMENTS_MAX,
            _ => 1,
        }
    }

    /// Whether there is room for another train. Without room `send_datagrams` gives the bytes back.
    #[must_use]
    pub fn may_send_datagrams(&self) -> bool {
        (self.datagrams.as_ref()).is_some_and(|socket| !socket.stopping && !socket.sends.is_full())
    }

    /// Send a train of datagrams. It leaves with the next `poll`, `wait` or `submit`; like every datagram it may be lost, also
    /// because the kernel has no way to its address. The buffer goes to the pool of `take_buffer` when it has left.
    ///
    /// # Errors
    /// Gives the bytes back when there is no datagram socket or too many trains are in flight.
    ///
    /// # Panics
    /// With no bytes, or more datagrams than `segments_max` of the kernel.
    pub fn send_datagrams(&mut self, route: &Route, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        if !self.may_send_datagrams() {
            self.counters.datagram_sends_refused += 1;
            return Err(bytes);
        }
        let socket = self.datagrams.as_mut().expect("asked for just now");
        let count = count_of(bytes.len(), route.segment_bytes);
        assert!(
            (1..=SEGMENTS_MAX).contains(&count),
            "a train of {count} datagrams"
        );
        let mut departure = socket.kept.pop().unwrap_or_else(Departure::boxed);
        departure.load(route, bytes);
        self.counters.datagram_sends += 1;
        self.counters.datagrams_sent += count as u64;
        let message = &raw const departure.message;
        let fd = socket.descriptor();
        let key = socket.sends.insert(departure);
        let entry = opcode::SendMsg::new(types::Fd(fd), message).build();
        let entry = entry.user_data(token::pack(Kind::DatagramSend, key));
        // SAFETY: the socket is closed only when nothing is in flight. All that the message names lies in a box that stays in its
        // slot, unchanged, until the completion.
        unsafe { self.kernel.push(entry, &mut self.counters) };
        self.kernel.pushed_send();
        Ok(())
    }

    /// A train has left, or not.
    pub(crate) fn on_datagram_send(&mut self, key: Key, entry: &cqueue::Entry) {
        let socket = self.datagrams.as_mut().expect("there as long as the ring");
        let departure = socket.sends.remove(key);
        let mut departure = departure.expect("a slot waits for its completion");
        let train = departure.control.used > 0;
        match entry.result() {
            0.. => self.counters.datagram_sent_bytes += departure.bytes.len() as u64,
            failed => {
                self.counters.datagram_sends_failed += 1;
                // What a network card says that does not compute checksums of cut trains.
                socket.cuts_trains &= !(train && -failed == libc::EIO);
            }
        }
        self.pool.put(std::mem::take(&mut departure.bytes));
        if socket.kept.len() < KEPT_MAX {
            socket.kept.push(departure);
        }
    }
}

/// Datagrams in a train.
fn count_of(bytes: usize, segment_bytes: Option<u16>) -> usize {
    match segment_bytes {
        Some(each) if each > 0 => bytes.div_ceil(usize::from(each)),
        _ => usize::from(bytes > 0),
    }
}
