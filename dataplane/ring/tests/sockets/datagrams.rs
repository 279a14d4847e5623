//! Datagrams over real sockets of this machine: trains come whole with what the kernel tells beside them, and each to the socket
//! that its connection ID names.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use ring::{DatagramLimits, Event, Feature, Ring, RingError, Route, steer_by_connection_id};
use socket2::{Domain, Protocol, Socket, Type};

use crate::support::{PATIENCE, limits, pattern, probed};

/// A ring with a datagram socket, and what it received.
struct Station {
    ring: Ring,
    address: SocketAddr,
    hold: bool,
    held: Vec<ring::Datagrams>,
    /// Each train: its datagrams, and the rest of what was told.
    trains: Vec<Vec<Vec<u8>>>,
    told: Vec<(SocketAddr, Option<IpAddr>, u8)>,
}

impl Station {
    fn new(address: &str, buffers: u16) -> Self {
        let mut ring = Ring::new(limits(4, 4096), probed()).unwrap();
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let bounds = DatagramLimits {
            buffers,
            ..DatagramLimits::default()
        };
        ring.bind_datagrams(socket, bounds).unwrap();
        Self {
            ring,
            address,
            hold: false,
            held: Vec::new(),
            trains: Vec::new(),
            told: Vec::new(),
        }
    }

    fn turn(&mut self) -> usize {
        let mut events = Vec::new();
        let count = self.ring.poll(&mut events).unwrap();
        for event in events {
            let Event::Datagrams(train) = event else {
                panic!("{event:?} on a ring of datagrams")
            };
            let came = self.ring.datagrams(&train);
            let each = came.bytes.chunks(came.segment_bytes);
            let each: Vec<Vec<u8>> = each.map(<[u8]>::to_vec).collect();
            assert_eq!(came.count(), each.len().max(1));
            self.told.push((came.peer, came.local, came.ecn));
            self.trains.push(each);
            match self.hold {
                true => self.held.push(train),
                false => self.ring.release_datagrams(train),
            }
        }
        count
    }

    fn datagrams(&self) -> usize {
        self.trains.iter().map(Vec::len).sum()
    }

    fn run(&mut self, done: impl Fn(&Self) -> bool) {
        let start = std::time::Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "no more: {:?}", self.ring);
            if self.turn() == 0 {
                self.ring.wait(Duration::from_millis(100)).unwrap();
            }
        }
        if self.held.is_empty() {
            self.ring.check();
        }
    }

    fn send(&mut self, to: SocketAddr, segment_bytes: Option<u16>, ecn: u8, bytes: Vec<u8>) {
        let from = Some(self.address.ip());
        let route = Route {
            to,
            from,
            ecn,
            segment_bytes,
        };
        self.ring.send_datagrams(&route, bytes).unwrap();
        self.ring.submit().unwrap();
    }
}

#[test]
fn a_train_comes_as_it_was_sent_with_its_mark_and_both_addresses() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let mut sender = Station::new(address, 4);
        let mut receiver = Station::new(address, 4);
        for (count, each, last, ecn) in [
            (64, 900, 900, 2),
            (3, 1200, 1, 1),
            (1, 1, 1, 0),
            (54, 1200, 7, 3),
        ] {
            let bytes = pattern(count as u64, (count - 1) * each + last);
            let segment = (count > 1).then_some(each as u16);
            sender.send(receiver.address, segment, ecn, bytes.clone());
            let before = receiver.datagrams();
            receiver.run(|receiver| receiver.datagrams() >= before + count);
            let came: Vec<u8> = receiver.trains.drain(..).flatten().flatten().collect();
            assert_eq!(
                came.len(),
                bytes.len(),
                "{address}: {count} of {each} bytes"
            );
            assert!(came == bytes, "{address}: other bytes");
            let all = receiver.told.drain(..);
            let want = (sender.address, Some(receiver.address.ip()), ecn);
            all.for_each(|told| assert_eq!(told, want));
        }
        let (sent, received) = (sender.ring.counters(), receiver.ring.counters());
        assert_eq!(received.datagrams_received, 64 + 3 + 1 + 54);
        assert_eq!(sent.datagrams_sent, received.datagrams_received);
        sender.run(|sender| sender.ring.counters().datagram_sent_bytes > 0);
        assert!(
            received.datagram_trains < received.datagrams_received / 8,
            "the kernel handed over {} trains of {} datagrams",
            received.datagram_trains,
            received.datagrams_received
        );
    }
}

#[test]
fn datagrams_of_a_plain_socket_come_one_by_one_in_their_order() {
    let mut receiver = Station::new("127.0.0.1:0", 4);
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..200_u8 {
        plain
            .send_to(&vec![number; usize::from(number)], receiver.address)
            .unwrap();
    }
    receiver.run(|receiver| receiver.told.len() == 200);
    let lengths = receiver.trains.iter().map(|train| train.concat().len());
    assert!(lengths.eq(0..200), "{:?}", receiver.told.len());
    let from = plain.local_addr().unwrap();
    assert!(
        receiver
            .told
            .iter()
            .all(|(peer, _, ecn)| (*peer, *ecn) == (from, 0))
    );
}

#[test]
fn without_buffers_datagrams_wait_in_the_socket_until_one_is_released() {
    let mut receiver = Station::new("127.0.0.1:0", 2);
    receiver.hold = true;
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..10 {
        plain.send_to(&[number], receiver.address).unwrap();
    }
    receiver.run(|receiver| receiver.held.len() == 2);
    for _ in 0..3 {
        receiver.turn();
    }
    assert_eq!(receiver.held.len(), 2, "there are two buffers");
    while receiver.datagrams() < 10 {
        let train = receiver.held.remove(0);
        receiver.ring.release_datagrams(train);
        let before = receiver.datagrams();
        receiver.run(|receiver| receiver.datagrams() > before);
    }
    let came: Vec<u8> = receiver
        .trains
        .iter()
        .flatten()
        .flatten()
        .copied()
        .collect();
    assert_eq!(came, (0..10).collect::<Vec<u8>>());
    assert!(receiver.ring.counters().datagram_enobufs > 0);
    // Dropped, not released: the ring takes them back.
    receiver.held.clear();
    receiver.hold = false;
    plain.send_to(&[10], receiver.address).unwrap();
    receiver.trains.clear();
    receiver.turn();
    receiver.run_dropped();
    assert_eq!(receiver.ring.counters().leases_dropped, 2);
}

impl Station {
    /// As `run` until a train comes, where leases were dropped: `check` would rightly stop at that.
    fn run_dropped(&mut self) {
        while self.trains.is_empty() {
            if self.turn() == 0 {
                self.ring.wait(PATIENCE).unwrap();
            }
        }
    }
}

#[test]
fn a_datagram_ends_a_sleep_and_a_stopped_socket_tells_nothing_more() {
    let mut receiver = Station::new("127.0.0.1:0", 4);
    assert_eq!(receiver.turn(), 0);
    let to = receiver.address;
    let aside = std::thread::spawn(move || {
        let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
        plain.send_to(b"awake", to).unwrap();
        plain
    });
    receiver.run(|receiver| receiver.trains.len() == 1);
    let plain = aside.join().unwrap();
    receiver.ring.stop_datagrams();
    while receiver.turn() > 0 {}
    plain.send_to(b"late", to).unwrap();
    assert_eq!((receiver.turn(), receiver.trains.len()), (0, 1));
    let route = Route {
        to,
        from: None,
        ecn: 0,
        segment_bytes: None,
    };
    assert!(receiver.ring.send_datagrams(&route, vec![1]).is_err());
    receiver.ring.check();
}

#[test]
fn a_ring_has_one_datagram_socket_and_needs_a_receive_that_goes_on() {
    let mut station = Station::new("127.0.0.1:0", 1);
    let another = UdpSocket::bind("127.0.0.1:0").unwrap();
    let refused = station
        .ring
        .bind_datagrams(another, DatagramLimits::default());
    assert!(matches!(refused, Err(RingError::ListenersFull { max: 1 })));
    let features = probed().with_forced(&[Feature::MultishotReceive]);
    let mut ring = Ring::new(limits(4, 4096), features).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let refused = ring.bind_datagrams(socket, DatagramLimits::default());
    assert!(matches!(refused, Err(RingError::FeatureMissing { .. })));
    let mut ring = Ring::new(limits(4, 4096), probed()).unwrap();
    for (buffers, sends_max) in [(3, 1), (0, 1), (1, 0)] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let bounds = DatagramLimits {
            buffers,
            sends_max,
            receive_bytes: 1,
        };
        let refused = ring.bind_datagrams(socket, bounds);
        assert!(matches!(refused, Err(RingError::Limit { .. })));
    }
}

/// Sockets on one port, in the order in which they were bound.
fn sharing(count: u16) -> Vec<UdpSocket> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut open = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from(socket);
        address = socket.local_addr().unwrap();
        socket
    };
    (0..count).map(|_| open()).collect()
}

#[test]
fn every_datagram_goes_to_the_socket_that_its_connection_id_names() {
    for shards in [1_u16, 2, 3, 4, 7, 16] {
        let sockets = sharing(shards);
        steer_by_connection_id(&sockets[0], shards).unwrap();
        let to = sockets[0].local_addr().unwrap();
        let mut random = fastrand::Rng::with_seed(u64::from(shards));
        let mut wanted = vec![0; usize::from(shards)];
        let mut came = wanted.clone();
        for source in 0..64 {
            let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
            for number in 0..8_u8 {
                let mut datagram = [random.u8(..); 32];
                let long = number % 2 == 0;
                datagram[0] = if long { 0xC0 } else { 0x40 };
                let id = random.u8(..);
                datagram[if long { 6 } else { 1 }] = id;
                datagram[31] = id;
                plain.send_to(&datagram, to).unwrap();
                wanted[usize::from(id) % usize::from(shards)] += 1;
            }
            // Too short to have an ID: to the first.
            if source == 0 {
                plain.send_to(&[0xC0, 1], to).unwrap();
            }
            // No more wait in a socket at once than the smallest buffer takes.
            for (shard, socket) in sockets.iter().enumerate() {
                came[shard] += drain(shard, socket, shards);
            }
        }
        assert_eq!(came, wanted, "{shards} shards");
    }
}

/// Take out what waits in a socket. Returns how many datagrams with an ID there were.
fn drain(shard: usize, socket: &UdpSocket, shards: u16) -> i32 {
    let (mut came, mut buffer) = (0, [0; 64]);
    while let Ok(bytes) = socket.recv(&mut buffer) {
        if bytes == 2 {
            assert_eq!(shard, 0);
            continue;
        }
        assert_eq!(usize::from(buffer[31]) % usize::from(shards), shard);
        came += 1;
    }
    came
}
