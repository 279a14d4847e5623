//! What the tests of sockets share: a ring with its owner's loop, and every combination of features.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ring::{
    CloseCause, ConnectionId, Event, Feature, Features, Lease, ListenerId, Ring, RingError,
    RingLimits, Socket,
};

/// Long enough that only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A ring, and what it told so far.
pub(crate) struct Owner {
    pub(crate) ring: Ring,
    pub(crate) events: Vec<Event>,
    pub(crate) accepted: Vec<(ConnectionId, SocketAddr)>,
    pub(crate) received: HashMap<ConnectionId, Vec<u8>>,
    pub(crate) finished: Vec<ConnectionId>,
    pub(crate) closed: Vec<(ConnectionId, CloseCause)>,
    pub(crate) detached: Vec<(ConnectionId, Socket)>,
    pub(crate) sent: HashMap<ConnectionId, usize>,
    pub(crate) failures: Vec<i32>,
    pub(crate) out_of_buffers: usize,
    pub(crate) synced: Vec<(u64, Result<(), i32>)>,
    /// Keep leases instead of releasing them.
    pub(crate) hold: bool,
    pub(crate) held: Vec<Lease>,
    /// Send back what is received, and close when the peer finished.
    pub(crate) echo: bool,
}

impl Owner {
    pub(crate) fn new(limits: RingLimits, features: Features) -> Self {
        let ring = Ring::new(limits, features).expect("this machine runs rings");
        Self {
            ring,
            events: Vec::new(),
            accepted: Vec::new(),
            received: HashMap::new(),
            finished: Vec::new(),
            closed: Vec::new(),
            detached: Vec::new(),
            sent: HashMap::new(),
            failures: Vec::new(),
            out_of_buffers: 0,
            synced: Vec::new(),
            hold: false,
            held: Vec::new(),
            echo: false,
        }
    }

    pub(crate) fn listen(&mut self) -> (ListenerId, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        (
            self.ring.listen(listener).expect("a listener fits"),
            address,
        )
    }

    /// One accepted connection and its other end.
    pub(crate) fn pair(&mut self) -> (ConnectionId, TcpStream) {
        let (listener, address) = self.listen();
        let before = self.accepted.len();
        let peer = TcpStream::connect(address).expect("the ring listens");
        peer.set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        self.run(|owner| owner.accepted.len() > before);
        self.ring.stop_listening(listener);
        (self.accepted[before].0, peer)
    }

    /// Poll once and note what was told. Returns how much.
    pub(crate) fn turn(&mut self) -> usize {
        self.look(Ring::poll)
    }

    /// As `turn`, without entering the kernel when there is nothing to take.
    pub(crate) fn take(&mut self) -> usize {
        self.look(Ring::take)
    }

    fn look(
        &mut self,
        how: impl Fn(&mut Ring, &mut Vec<Event>) -> Result<usize, RingError>,
    ) -> usize {
        let mut events = std::mem::take(&mut self.events);
        let count = how(&mut self.ring, &mut events).expect("the kernel takes part");
        assert_eq!(count, events.len());
        for event in events.drain(..) {
            self.note(event);
        }
        self.events = events;
        count
    }

    /// Poll, and sleep when there is nothing, until the condition holds.
    pub(crate) fn run(&mut self, done: impl Fn(&Self) -> bool) {
        let start = std::time::Instant::now();
        while !done(self) {
            assert!(
                start.elapsed() < PATIENCE,
                "nothing more happens: {:?}",
                self.ring
            );
            if self.turn() == 0 {
                self.ring.wait(PATIENCE).expect("the kernel takes part");
            }
        }
        if self.held.is_empty() {
            self.ring.check();
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Accepted {
                connection, peer, ..
            } => {
                self.accepted.push((connection, peer));
                self.received.insert(connection, Vec::new());
            }
            Event::Received { connection, lease } => self.note_received(connection, lease),
            Event::Finished { connection } => {
                self.finished.push(connection);
                if self.echo {
                    self.ring.close(connection);
                }
            }
            Event::Sent { connection, bytes } => *self.sent.entry(connection).or_default() += bytes,
            Event::Closed { connection, cause } => {
                assert!(
                    !self.closed.iter().any(|(id, _)| *id == connection),
                    "closed twice"
                );
                self.closed.push((connection, cause));
            }
            Event::OutOfBuffers => self.out_of_buffers += 1,
            Event::Datagrams(_) => panic!("no datagram socket is bound"),
            Event::AcceptFailed { errno, .. } => self.failures.push(errno),
            Event::Detached { connection, socket } => self.detached.push((connection, socket)),
            Event::Synced { token, result } => self.synced.push((token, result)),
        }
    }

    fn note_received(&mut self, connection: ConnectionId, lease: Lease) {
        assert!(
            !self.closed.iter().any(|(id, _)| *id == connection),
            "received after closed"
        );
        if self.echo {
            let mut buffer = self.ring.take_buffer();
            buffer.extend_from_slice(self.ring.bytes(&lease));
            self.ring.send(connection, buffer);
        } else {
            let bytes = self.ring.bytes(&lease);
            self.received
                .entry(connection)
                .or_default()
                .extend_from_slice(bytes);
        }
        if self.hold {
            self.held.push(lease);
        } else {
            self.ring.release(lease);
        }
    }

    pub(crate) fn release_held(&mut self) {
        for lease in std::mem::take(&mut self.held) {
            self.ring.release(lease);
        }
    }

    pub(crate) fn cause(&self, connection: ConnectionId) -> Option<CloseCause> {
        self.closed
            .iter()
            .find(|(id, _)| *id == connection)
            .map(|(_, cause)| *cause)
    }
}

/// Limits for tests: small tables, buffers as asked.
pub(crate) fn limits(buffers: u16, buffer_bytes: u32) -> RingLimits {
    RingLimits {
        entries: 64,
        buffers,
        buffer_bytes,
        connections_max: 256,
        ..RingLimits::default()
    }
}

pub(crate) fn probed() -> Features {
    Features::probe().expect("this machine runs rings")
}

/// The probe's answer with every combination of features switched off. `MinimumWait` changes nothing but how
/// a wait ends, so it is switched off alone and with everything else.
pub(crate) fn combinations() -> Vec<(String, Features)> {
    let switches = [
        Feature::MultishotAccept,
        Feature::MultishotReceive,
        Feature::DeferTaskrun,
        Feature::CooperativeTaskrun,
        Feature::RegisteredRing,
    ];
    let choose = |mask: usize| {
        let off = switches
            .iter()
            .enumerate()
            .filter(move |(bit, _)| mask >> bit & 1 == 1);
        off.map(|(_, feature)| *feature).collect::<Vec<_>>()
    };
    let mut chosen: Vec<Vec<Feature>> = (0..1 << switches.len()).map(choose).collect();
    chosen.push(vec![Feature::MinimumWait]);
    chosen.push([&switches[..], &[Feature::MinimumWait]].concat());
    let named = chosen
        .into_iter()
        .map(|off| (format!("without {off:?}"), probed().with_forced(&off)));
    named.collect()
}

/// Bytes that tell their place, so that loss, doubling and disorder show.
pub(crate) fn pattern(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..bytes).map(|_| random.u8(..)).collect()
}

/// Write from another thread, then finish. Errors are the test's to notice at the other end.
pub(crate) fn write_aside(peer: &TcpStream, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    let mut peer = peer.try_clone().expect("a descriptor is free");
    std::thread::spawn(move || {
        let _ = peer.write_all(&bytes);
        let _ = peer.shutdown(std::net::Shutdown::Write);
    })
}
