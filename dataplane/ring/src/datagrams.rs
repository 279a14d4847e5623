//! Datagrams: one UDP socket of a ring, one receive that goes on by itself into buffers of its own, trains of equal datagrams in one
//! piece both ways.
//!
//! Knows addresses and bytes, no protocol. A buffer holds the longest train the kernel makes, so nothing is ever cut off.

mod ancillary;
mod departure;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod steering;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use io_uring::types::RecvMsgOut;
use io_uring::{cqueue, opcode, types};

pub(crate) use self::departure::Departure;
pub use self::departure::Route;
pub use self::steering::steer_by_connection_id;

use self::ancillary::{CONTROL_BYTES, NAME_BYTES, read_control, read_name};
use crate::buffers::{Buffers, Lease};
use crate::error::RingError;
use crate::event::Event;
use crate::kernel::DATAGRAM_GROUP;
use crate::ring::Ring;
use crate::slab::Slab;
use crate::token::{self, Kind};

/// Bytes of a buffer: the longest train of the kernel, 65,535, and what is told beside it.
const BUFFER_BYTES: u32 = 68 * 1024;
/// Bytes before the datagrams: `struct io_uring_recvmsg_out`, address, control bytes, each of fixed length.
const HEADER_BYTES: usize = 16 + NAME_BYTES + CONTROL_BYTES;
const _: () = assert!(BUFFER_BYTES as usize >= 65_535 + HEADER_BYTES);
/// Key of the ring's one datagram socket.
const KEY: token::Key = 0;

/// Bounds of a datagram socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramLimits {
    /// Receive buffers of 68 KiB, a power of two, 1 to 32768; each holds one train. Memory is touched when used.
    pub buffers: u16,
    /// Trains on their way out at once, 1 or more.
    pub sends_max: u32,
    /// Bytes that may wait in the socket; the kernel's own limit holds for who may not exceed it.
    pub receive_bytes: u32,
}

impl Default for DatagramLimits {
    fn default() -> Self {
        Self {
            buffers: 256,
            sends_max: 256,
            receive_bytes: 8 << 20,
        }
    }
}

/// A train of datagrams of one sender, as it came: what [`Ring::datagrams`] shows. Cannot be cloned; goes back by
/// [`Ring::release_datagrams`].
#[derive(Debug)]
#[must_use = "release it: until then the kernel cannot use its buffer"]
pub struct Datagrams {
    lease: Lease,
}

/// What a train holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Train<'a> {
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address it was sent to, if the kernel told it.
    pub local: Option<IpAddr>,
    /// ECN mark, two bits.
    pub ecn: u8,
    /// Length of each datagram but the last, which may be shorter; at least 1.
    pub segment_bytes: usize,
    /// One datagram behind the other.
    pub bytes: &'a [u8],
}

impl Train<'_> {
    /// Datagrams in it, at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bytes.len().div_ceil(self.segment_bytes).max(1)
    }
}

/// The socket and what the kernel may use for it.
pub(crate) struct DatagramSocket {
    socket: UdpSocket,
    buffers: Buffers,
    /// Lengths of address and control bytes for the receive in flight. Boxed: the kernel is given its address.
    shape: Box<libc::msghdr>,
    receive: Receive,
    cancelling: bool,
    stopping: bool,
    /// The network card cuts trains, as far as is known.
    cuts_trains: bool,
    #[expect(
        clippy::vec_box,
        reason = "the kernel is given the address of what is boxed"
    )]
    kept: Vec<Box<Departure>>,
    sends: Slab<Box<Departure>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receive {
    Idle,
    Armed,
    /// Every buffer is lent out.
    Waiting,
}

impl DatagramSocket {
    /// Lengths of address and control bytes of every receive, and nothing else.
    fn shape() -> libc::msghdr {
        let nothing = std::ptr::null_mut();
        libc::msghdr {
            msg_name: nothing,
            msg_namelen: NAME_BYTES as u32,
            msg_iov: std::ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: nothing,
            msg_controllen: CONTROL_BYTES,
            msg_flags: 0,
        }
    }

    fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Operations whose last completion has not been taken.
    pub(crate) fn operations(&self) -> usize {
        usize::from(self.receive == Receive::Armed)
            + usize::from(self.cancelling)
            + self.sends.len()
    }

    /// Make buffers ready for the receives of one enter.
    pub(crate) fn stock(&mut self) {
        self.buffers.stock();
    }

    /// Never free what the kernel may still use.
    pub(crate) fn leak(&mut self) {
        self.buffers.leak();
        std::mem::forget(std::mem::replace(&mut self.sends, Slab::new(1)));
    }
}

impl Ring {
    /// Receive and send datagrams on this socket. A ring has one such socket at most, as long as it lives.
    ///
    /// # Errors
    /// `FeatureMissing` where a receive does not go on by itself; `Limit`, `Memory`, `Register`; `Descriptor` when the socket
    /// cannot be used, `ListenersFull` when there is one already. The socket is closed then.
    pub fn bind_datagrams(
        &mut self,
        socket: UdpSocket,
        limits: DatagramLimits,
    ) -> Result<(), RingError> {
        if self.datagrams.is_some() {
            return Err(RingError::ListenersFull { max: 1 });
        }
        if !self.features.multishot_receive {
            return Err(RingError::FeatureMissing {
                name: "io_uring multishot recvmsg",
            });
        }
        limits.check()?;
        steering::prepare(&socket, limits.receive_bytes)?;
        let buffers = Buffers::new(limits.buffers, BUFFER_BYTES)?;
        let (address, entries) = buffers.shared();
        let registered =
            // SAFETY: the buffer ring is mapped, page aligned and has `entries` entries. It stays in this ring, whose field
            // `kernel` comes before it and is therefore dropped first, and nothing takes it out before.
            unsafe { self.kernel.register_buffers(address, entries, DATAGRAM_GROUP) };
        registered?;
        self.datagrams = Some(DatagramSocket {
            socket,
            buffers,
            shape: Box::new(DatagramSocket::shape()),
            receive: Receive::Idle,
            cancelling: false,
            stopping: false,
            cuts_trains: true,
            kept: Vec::new(),
            sends: Slab::new(limits.sends_max),
        });
        Ok(())
    }

    /// Receive and send no more datagrams. What was received before still comes. The socket stays open until the ring is dropped,
    /// so that its place among those that share its port does not change.
    pub fn stop_datagrams(&mut self) {
        let Some(socket) = self.datagrams.as_mut().filter(|socket| !socket.stopping) else {
            return;
        };
        socket.stopping = true;
        if socket.receive != Receive::Armed {
            return;
        }
        socket.cancelling = true;
        self.counters.cancels += 1;
        let entry = opcode::AsyncCancel::new(token::pack(Kind::DatagramReceive, KEY)).build();
        let entry = entry.user_data(token::pack(Kind::DatagramCancel, KEY));
        // SAFETY: names no descriptor and no memory.
        unsafe { self.kernel.push(entry, &mut self.counters) };
    }

    /// What a train holds. Panics on one of another ring.
    #[must_use]
    pub fn datagrams(&self, datagrams: &Datagrams) -> Train<'_> {
        let socket = self.datagrams.as_ref().expect("it was received here");
        let bytes = socket.buffers.bytes(&datagrams.lease);
        read(bytes, &socket.shape).expect("only what can be read is told")
    }

    /// Give a train's buffer back to the kernel. Panics on one of another ring.
    pub fn release_datagrams(&mut self, datagrams: Datagrams) {
        let socket = self.datagrams.as_mut().expect("it was received here");
        let _ = socket.buffers.release(datagrams.lease);
    }

    /// Take back what was dropped, and receive if nothing does and there are buffers.
    pub(crate) fn start_datagrams(&mut self) {
        let Some(socket) = &mut self.datagrams else {
            return;
        };
        while socket.buffers.collect_dropped().is_some() {
            self.counters.leases_dropped += 1;
        }
        if socket.stopping || socket.receive == Receive::Armed {
            return;
        }
        if socket.buffers.free() == 0 {
            socket.receive = Receive::Waiting;
            return;
        }
        socket.receive = Receive::Armed;
        self.counters.datagram_shots += 1;
        let fd = types::Fd(socket.descriptor());
        let entry = opcode::RecvMsgMulti::new(fd, &raw const *socket.shape, DATAGRAM_GROUP).build();
        let entry = entry.user_data(token::pack(Kind::DatagramReceive, KEY));
        // SAFETY: socket and shape stay as they are until nothing is in flight; the memory is the arena's, which lives as long.
        unsafe { self.kernel.push(entry, &mut self.counters) };
    }

    /// A receive yielded a train, or ended. Errors of a datagram socket are those of single datagrams: it receives again.
    pub(crate) fn on_datagrams(&mut self, entry: &cqueue::Entry, events: &mut Vec<Event>) {
        let socket = self.datagrams.as_mut().expect("there as long as the ring");
        if !cqueue::more(entry.flags()) {
            socket.receive = Receive::Idle;
        }
        match (entry.result(), cqueue::buffer_select(entry.flags())) {
            (0.., Some(buffer)) => self.on_train(buffer, entry.result() as u32, events),
            (_, Some(buffer)) => socket.buffers.pass_back(buffer),
            (result, None) if -result == libc::ENOBUFS => {
                self.counters.datagram_enobufs += 1;
                let _ = socket.buffers.missed();
            }
            (_, None) => {}
        }
    }

    fn on_train(&mut self, buffer: u16, bytes: u32, events: &mut Vec<Event>) {
        let socket = self.datagrams.as_mut().expect("the caller has it");
        let lease = socket.buffers.lend(buffer, bytes, KEY);
        let Some(train) = read(socket.buffers.bytes(&lease), &socket.shape) else {
            self.counters.datagrams_unreadable += 1;
            let _ = socket.buffers.release(lease);
            return;
        };
        self.counters.datagram_trains += 1;
        self.counters.datagrams_received += train.count() as u64;
        self.counters.datagram_received_bytes += train.bytes.len() as u64;
        events.push(Event::Datagrams(Datagrams { lease }));
    }

    /// The request to stop receiving was answered.
    pub(crate) fn on_datagram_cancel(&mut self) {
        let socket = self.datagrams.as_mut().expect("there as long as the ring");
        socket.cancelling = false;
        // It was just at work and was not found: ask again.
        if socket.receive == Receive::Armed {
            socket.stopping = false;
            self.stop_datagrams();
        }
    }
}

impl DatagramLimits {
    fn check(&self) -> Result<(), RingError> {
        let rules = [
            (
                "datagram buffers",
                u64::from(self.buffers),
                self.buffers.is_power_of_two() && self.buffers <= 32768,
                "a power of two, 1 to 32768",
            ),
            (
                "datagram sends_max",
                u64::from(self.sends_max),
                (1..=1 << 24).contains(&self.sends_max),
                "1 to 16777216",
            ),
        ];
        match rules.into_iter().find(|(_, _, good, _)| !good) {
            Some((name, seen, _, needed)) => Err(RingError::Limit { name, seen, needed }),
            None => Ok(()),
        }
    }
}

/// Read a buffer as the kernel fills it: lengths, address, control bytes, datagrams. `None` of what was cut short.
fn read<'a>(buffer: &'a [u8], shape: &libc::msghdr) -> Option<Train<'a>> {
    let out = RecvMsgOut::parse(buffer, shape).ok()?;
    if out.is_payload_truncated() || out.is_control_data_truncated() {
        return None;
    }
    let told = read_control(out.control_data());
    let bytes = &buffer[HEADER_BYTES..];
    Some(Train {
        peer: read_name(out.name_data())?,
        local: told.local,
        ecn: told.ecn,
        segment_bytes: told.segment_bytes.map_or(bytes.len().max(1), usize::from),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers as the kernel fills them, spoiled, and bytes of any kind. `FOREBAY_TRAINS=1000000 cargo test -p forebay-ring --lib trains`
    /// tries more.
    #[test]
    fn trains_of_any_bytes_are_read_or_left_out_and_what_is_said_is_read_as_it_was_said() {
        let set = std::env::var("FOREBAY_TRAINS").ok();
        let count = set.map_or(20_000, |text| text.parse().expect("a number"));
        let mut random = fastrand::Rng::with_seed(5);
        let (mut readable, mut several) = (0, 0);
        for _ in 0..count {
            let mut buffer = vec![0; random.usize(..HEADER_BYTES + 600)];
            random.fill(&mut buffer);
            fuzzing::control(&buffer);
            fuzzing::said_is_read(&buffer);
            well_formed(&mut buffer, &mut random);
            if random.u8(..4) > 0 && !buffer.is_empty() {
                let at = random.usize(..buffer.len());
                buffer[at] = random.u8(..);
            }
            if let Some(train) = fuzzing::train(&buffer) {
                readable += 1;
                several += u32::from(train.count() > 1);
            }
        }
        println!(
            "{count} buffers from seed 5: {readable} readable, {several} of them with several datagrams"
        );
        assert!(readable > count / 4 && several > count / 8);
    }

    /// Lengths, address and a length of pieces where the kernel puts them, as far as there is room.
    fn well_formed(buffer: &mut [u8], random: &mut fastrand::Rng) {
        if buffer.len() < HEADER_BYTES {
            return;
        }
        let name = ancillary::Name::of(([192, 0, 2, 1], 7).into());
        let piece = i32::from(random.u16(..300)).to_ne_bytes();
        let mut told = ancillary::Control::default();
        told.push(libc::SOL_UDP, libc::UDP_GRO, &piece);
        let lengths = [name.used, told.used as u32, 0, 0];
        for (place, length) in buffer.chunks_exact_mut(4).zip(lengths) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        buffer[16..][..NAME_BYTES].copy_from_slice(&name.bytes);
        buffer[16 + NAME_BYTES..][..told.used].copy_from_slice(&told.bytes[..told.used]);
    }

    #[test]
    fn the_program_names_the_byte_of_the_connection_id_modulo_the_sockets() {
        for sockets in [1, 2, 3, 4, 7, 64, 255, 256] {
            for byte in 0..=255_u8 {
                let want = u16::from(byte) % sockets;
                let short = [0x40, byte, 1, 2];
                let long = [0xC0, 0, 0, 0, 1, 8, byte, 3];
                assert_eq!(fuzzing::steered_to(&short, sockets), want);
                assert_eq!(fuzzing::steered_to(&long, sockets), want);
                assert_eq!(fuzzing::steered_to(&long[..6], sockets), 0, "too short");
            }
            assert_eq!(fuzzing::steered_to(&[], sockets), 0);
            assert_eq!(fuzzing::steered_to(&[0x7F], sockets), 0);
        }
    }
}
