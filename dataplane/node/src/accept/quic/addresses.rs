//! Where a client is, and what may be sent there: to an address at which nobody has been proven to be, three times the bytes that came
//! from it (RFC 9000, sections 8.1 and 9.3.1). Whoever makes one up otherwise turns a node against somebody else.
//!
//! `quinn-proto` keeps to that but for the last datagram it begins, and looks for longer packets and answers challenges whatever it may
//! send: 34 bytes brought 2,526. Here each datagram is counted. What is too much waits for more to come from there, since it may be
//! what the address is proven with.

use std::net::SocketAddr;

use quinn_proto::{Connection, ConnectionStats, Transmit};

/// Bytes that may be sent for each that came.
const TIMES: u64 = 3;
/// Addresses of one client that are not proven and of which is known what came from there. For any other it counts from nothing again, and the
/// bound holds all the same.
const OTHERS_MAX: usize = 4;

/// The addresses of one client.
#[derive(Debug)]
pub(super) struct Addresses {
    /// That of the handshake.
    first: SocketAddr,
    /// The one that was proven last, and the one before: a client that was not there after all is sent to where it was.
    proven: [Option<SocketAddr>; 2],
    others: Vec<Unproven>,
}

#[derive(Debug)]
struct Unproven {
    address: SocketAddr,
    came: u64,
    went: u64,
    /// The last datagram that was too much.
    waits: Option<(Transmit, Box<[u8]>)>,
}

impl Unproven {
    fn allows(&self, bytes: usize) -> bool {
        self.went + bytes as u64 <= TIMES * self.came
    }
}

impl Addresses {
    /// Of one who has begun from this address with so many bytes.
    pub(super) fn new(address: SocketAddr, proven: bool, bytes: usize) -> Self {
        let mut this = Self {
            first: address,
            proven: [None; 2],
            others: Vec::new(),
        };
        match proven {
            true => this.prove(address),
            false => this.came(address, bytes),
        }
        this
    }

    /// Whether somebody is proven to be there.
    pub(super) fn is_proven(&self, address: SocketAddr) -> bool {
        self.proven[0] == Some(address) || self.proven[1] == Some(address)
    }

    /// So many bytes came from there.
    pub(super) fn came(&mut self, address: SocketAddr, bytes: usize) {
        if self.is_proven(address) {
            return;
        }
        let mut others = self.others.iter_mut();
        if let Some(other) = others.find(|other| other.address == address) {
            other.came += bytes as u64;
            return;
        }
        if self.others.len() == OTHERS_MAX {
            self.others.remove(0);
        }
        self.others.push(Unproven {
            address,
            came: bytes as u64,
            went: 0,
            waits: None,
        });
    }

    /// The handshake is over: only who hears what is sent there comes so far.
    pub(super) fn prove_first(&mut self) {
        self.prove(self.first);
    }

    /// Somebody is there.
    pub(super) fn prove(&mut self, address: SocketAddr) {
        if self.proven[0] != Some(address) {
            self.proven = [Some(address), self.proven[0]];
        }
        self.others.retain(|other| other.address != address);
    }

    /// Whether a datagram of so many bytes may be sent there; then it counts.
    pub(super) fn allows(&mut self, address: SocketAddr, bytes: usize) -> bool {
        let mut others = self.others.iter_mut();
        match others.find(|other| other.address == address) {
            Some(other) if other.allows(bytes) => {
                other.went += bytes as u64;
                true
            }
            Some(_) => false,
            None => self.is_proven(address),
        }
    }

    /// One that may not is kept until it may, or until the next one.
    pub(super) fn keep(&mut self, transmit: Transmit, bytes: &[u8]) {
        let mut others = self.others.iter_mut();
        if let Some(other) = others.find(|other| other.address == transmit.destination) {
            let bytes = bytes[..transmit.size].into();
            other.waits = Some((transmit, bytes));
        }
    }

    /// One that was kept and may be sent now; it counts.
    pub(super) fn due(&mut self) -> Option<(Transmit, Box<[u8]>)> {
        let due = self.others.iter_mut().find_map(|other| {
            let bytes = other.waits.as_ref().map(|(_, bytes)| bytes.len())?;
            other.allows(bytes).then_some((other, bytes))
        });
        let (other, bytes) = due?;
        other.went += bytes as u64;
        other.waits.take()
    }
}

/// What a connection had sent before it was asked for more, if what it sends next may show that its address is proven.
pub(super) struct Before(ConnectionStats);

impl Before {
    pub(super) fn of(connection: &Connection) -> Self {
        Self(connection.stats())
    }

    /// Whether a datagram was one that looks for longer packets: whatever becomes of it, nothing depends on it.
    pub(super) fn is_probe(&self, connection: &Connection) -> bool {
        connection.stats().path.sent_plpmtud_probes != self.0.path.sent_plpmtud_probes
    }

    /// Whether it shows that somebody was proven to be where it goes. Until then every packet that goes where the client is believed to be
    /// carries a challenge, unless it is a probe or a last word.
    pub(super) fn is_of_proven(&self, connection: &Connection, transmit: &Transmit) -> bool {
        let challenges = |stats: &ConnectionStats| stats.frame_tx.path_challenge;
        transmit.destination == connection.remote_address()
            && !connection.is_handshaking()
            && !connection.is_closed()
            && !self.is_probe(connection)
            && challenges(&connection.stats()) == challenges(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 9))
    }

    fn to(address: SocketAddr, size: usize) -> Transmit {
        Transmit {
            destination: address,
            ecn: None,
            size,
            segment_size: None,
            src_ip: None,
        }
    }

    #[test]
    fn three_times_what_came_may_go_and_anything_once_somebody_is_proven_to_be_there() {
        let [first, second] = [1, 2].map(address);
        let mut addresses = Addresses::new(first, false, 100);
        assert!(addresses.allows(first, 300) && !addresses.allows(first, 1));
        assert!(!addresses.allows(second, 1), "nothing came from there");
        addresses.keep(to(first, 50), &[7; 50]);
        assert!(addresses.due().is_none());
        addresses.came(first, 17);
        let due = addresses
            .due()
            .map(|(transmit, bytes)| (transmit.size, bytes));
        assert_eq!(due, Some((50, [7; 50].into())));
        assert!(addresses.due().is_none(), "once");
        assert!(addresses.allows(first, 1) && !addresses.allows(first, 1));
        addresses.keep(to(first, 50), &[7; 50]);
        addresses.prove(first);
        assert!(addresses.allows(first, 1 << 20) && addresses.due().is_none());
        addresses.came(second, 10);
        assert!(!addresses.allows(second, 31) && addresses.allows(second, 30));
        addresses.prove(second);
        addresses.prove(address(3));
        let proven = [1, 2, 3].map(|last| addresses.is_proven(address(last)));
        assert_eq!(proven, [false, true, true]);
    }

    #[test]
    fn however_many_addresses_there_are_no_more_goes_to_one_than_three_times_what_came() {
        let mut addresses = Addresses::new(address(0), true, 1_200);
        let (mut came, mut went) = ([0; 16], [0; 16]);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let (at, bytes) = (random.usize(1..16), random.usize(1..1_500));
            let other = address(at as u8);
            match random.u8(..4) {
                0 => {
                    addresses.came(other, bytes);
                    came[at] += bytes;
                }
                1 => addresses.keep(to(other, bytes), &[0; 1_500]),
                2 => {
                    went[at] += if addresses.allows(other, bytes) {
                        bytes
                    } else {
                        0
                    }
                }
                _ => {
                    if let Some((transmit, bytes)) = addresses.due() {
                        let at = (1..16).find(|at| address(*at as u8) == transmit.destination);
                        went[at.expect("one of them")] += bytes.len();
                    }
                }
            }
            assert!(addresses.others.len() <= OTHERS_MAX);
        }
        for (came, went) in came.iter().zip(went) {
            assert!(went <= 3 * came, "{went} for {came}");
        }
        assert!(went.iter().sum::<usize>() > 0);
    }
}
