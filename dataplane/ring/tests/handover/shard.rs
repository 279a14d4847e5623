//! One thread with its ring: connections come by accepting or from the other shard, and go there.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use ring::{CloseCause, ConnectionId, Counters, Event, Ring, Socket, Waker};

use crate::{PATIENCE, Plan};

/// Times a connection moves.
pub(crate) const HOPS: usize = 3;
/// Leases a shard sits on before it returns the oldest.
const LEASES_KEPT: usize = 4;

/// Address it was accepted at, and the peer's: peers of different listeners may have the same.
pub(crate) type Name = (SocketAddr, SocketAddr);

/// What a shard knows of a connection; moves with it.
pub(crate) struct Life {
    name: Name,
    received: Vec<u8>,
    hops_left: usize,
    /// Received bytes at which it moves next.
    hop_at: usize,
    leaving: bool,
    /// The owner ended it.
    cut: bool,
    random: fastrand::Rng,
}

/// How a connection came to its end.
pub(crate) struct Outcome {
    pub(crate) received: Vec<u8>,
    pub(crate) cause: CloseCause,
    /// The owner ended it.
    pub(crate) cut: bool,
}

/// How the connections of a shard ended.
pub(crate) type Ends = HashMap<Name, Outcome>;

/// A ring made on its own thread, and what the other thread needs of it.
pub(crate) fn shard(
    plan: &Plan,
    ended: &Arc<AtomicUsize>,
) -> (Setup, std::thread::JoinHandle<(Counters, Ends)>) {
    let (plan, ended) = (plan.clone(), Arc::clone(ended));
    let (tell, told) = channel();
    let (introduce, introduced) = channel::<(Sender<(Socket, Life)>, Waker)>();
    let thread = std::thread::spawn(move || {
        let mut ring = Ring::new(plan.limits.clone(), plan.features).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        ring.listen(listener).unwrap();
        let (sender, inbox) = channel();
        tell.send((address, sender, ring.waker())).unwrap();
        let (other, wakes_other) = introduced.recv().unwrap();
        let shard = Shard {
            ring,
            lives: HashMap::new(),
            kept: VecDeque::new(),
            plan,
            inbox,
            other,
            wakes_other,
            ended,
            address,
            vanished: 0,
            outcomes: HashMap::new(),
        };
        shard.run()
    });
    let (address, inbox, waker) = told.recv().unwrap();
    let setup = Setup {
        address,
        inbox,
        waker,
        introduce,
    };
    (setup, thread)
}

/// What the rest of the process needs to know of a shard.
pub(crate) struct Setup {
    pub(crate) address: SocketAddr,
    pub(crate) inbox: Sender<(Socket, Life)>,
    pub(crate) waker: Waker,
    pub(crate) introduce: Sender<(Sender<(Socket, Life)>, Waker)>,
}

struct Shard {
    ring: Ring,
    lives: HashMap<ConnectionId, Life>,
    kept: VecDeque<ring::Lease>,
    plan: Plan,
    inbox: Receiver<(Socket, Life)>,
    other: Sender<(Socket, Life)>,
    wakes_other: Waker,
    ended: Arc<AtomicUsize>,
    address: SocketAddr,
    vanished: u64,
    outcomes: Ends,
}

impl Shard {
    /// Serve until every connection of both shards ended.
    fn run(mut self) -> (Counters, Ends) {
        let (mut events, start) = (Vec::new(), Instant::now());
        while self.ended.load(Ordering::SeqCst) < self.plan.connections {
            assert!(
                start.elapsed() < PATIENCE,
                "nothing more happens: {:?}",
                self.ring
            );
            self.adopt_all();
            let told = self.ring.poll(&mut events).unwrap();
            self.ring.check();
            // Reset before they could be accepted: they end without having begun.
            let vanished = self.ring.counters().accepts_vanished;
            (self.vanished..vanished).for_each(|_| self.count_end());
            self.vanished = vanished;
            events.drain(..).for_each(|event| self.note(event));
            if told == 0 {
                self.release_down_to(0);
                self.ring.wait(PATIENCE).unwrap();
            }
        }
        self.wakes_other.wake();
        self.release_down_to(0);
        self.ring.check();
        let counters = self.ring.counters();
        assert!(self.lives.is_empty() && self.ring.connections() == 0);
        assert_eq!(
            self.ring.buffers_free(),
            usize::from(self.plan.limits.buffers)
        );
        assert_eq!(
            counters.accepted + counters.adopted,
            counters.closed + counters.detached
        );
        (counters, self.outcomes)
    }

    fn adopt_all(&mut self) {
        while let Ok((socket, mut life)) = self.inbox.try_recv() {
            assert_eq!(socket.peer(), life.name.1);
            let connection = self.ring.adopt(socket).expect("there is room");
            life.leaving = false;
            life.plan_hop(self.plan.bytes_max);
            self.lives.insert(connection, life);
            self.move_on(connection);
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Accepted {
                connection, peer, ..
            } => {
                let seed = self.plan.seed ^ u64::from(peer.port());
                let life = Life::new((self.address, peer), seed, self.plan.bytes_max);
                assert!(self.lives.insert(connection, life).is_none());
                self.move_on(connection);
            }
            Event::Received { connection, lease } => {
                let life = self
                    .lives
                    .get_mut(&connection)
                    .expect("received before it left");
                life.received.extend_from_slice(self.ring.bytes(&lease));
                self.kept.push_back(lease);
                self.release_down_to(LEASES_KEPT);
                self.move_on(connection);
            }
            Event::Finished { connection } => {
                // One that leaves hears it again where it goes.
                if let Some(life) = self.lives.get(&connection)
                    && !life.leaving
                {
                    let answer = (life.received.len() as u64).to_le_bytes();
                    self.ring.send(connection, answer.to_vec());
                    self.ring.close(connection);
                }
            }
            Event::Detached { connection, socket } => {
                let life = self.lives.remove(&connection).expect("it leaves once");
                assert!(
                    life.leaving && !life.cut,
                    "it left though it was not let go"
                );
                self.other.send((socket, life)).unwrap();
                self.wakes_other.wake();
            }
            Event::Closed { connection, cause } => {
                let life = self.lives.remove(&connection).expect("it closes once");
                let (received, cut) = (life.received, life.cut);
                let outcome = Outcome {
                    received,
                    cause,
                    cut,
                };
                assert!(self.outcomes.insert(life.name, outcome).is_none());
                self.count_end();
            }
            Event::Sent { .. } | Event::OutOfBuffers => {}
            Event::Synced { .. } | Event::AcceptFailed { .. } | Event::Datagrams(_) => {
                panic!("{event:?}")
            }
        }
    }

    fn count_end(&self) {
        if self.ended.fetch_add(1, Ordering::SeqCst) + 1 == self.plan.connections {
            self.wakes_other.wake();
        }
    }

    /// Let a connection go when it is time, or, unkindly, end it while it goes.
    fn move_on(&mut self, connection: ConnectionId) {
        let Some(life) = self.lives.get_mut(&connection) else {
            return;
        };
        if life.leaving || life.hops_left == 0 || life.received.len() < life.hop_at {
            return;
        }
        life.leaving = true;
        life.hops_left -= 1;
        let whim = match self.plan.unkind {
            true => life.random.u8(..12),
            false => u8::MAX,
        };
        life.cut = whim < 2;
        if whim == 2 {
            self.ring.send(connection, vec![0; 10_000]);
        }
        self.ring.detach(connection);
        match whim {
            0 => self.ring.close(connection),
            1 => self.ring.abort(connection),
            _ => {}
        }
    }

    fn release_down_to(&mut self, kept: usize) {
        while self.kept.len() > kept {
            let lease = self.kept.pop_front().unwrap();
            self.ring.release(lease);
        }
    }
}

impl Life {
    fn new(name: Name, seed: u64, bytes_max: usize) -> Self {
        let mut life = Self {
            name,
            received: Vec::new(),
            hops_left: HOPS,
            hop_at: 0,
            leaving: false,
            cut: false,
            random: fastrand::Rng::with_seed(seed),
        };
        life.plan_hop(bytes_max);
        life
    }

    /// One time in three at once, else after some more bytes.
    fn plan_hop(&mut self, bytes_max: usize) {
        self.hop_at = match self.random.u8(..3) {
            0 => 0,
            _ => self.random.usize(self.received.len()..=bytes_max),
        };
    }
}
