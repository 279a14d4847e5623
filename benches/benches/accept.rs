//! Stage 1: connections and bytes out of the kernel, over loopback, on the side of the server alone: the peers
//! connect and write while the clock stands. `receive` drains 64 connections that are ready together; what the
//! kernel does for the ACKs it then sends is in the figure. `hand_over` is both rings' share of a move.

use std::hint::black_box;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use benches::{MESSAGES_PER_FRAME, ThreadCpu, criterion, put_frame, session_keys, timed};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::{ConnectionId, Event, Features, Ring, RingLimits, Socket};
use socket2::SockRef;

/// Connections that are ready together.
const CONNECTIONS: usize = 64;
/// More than a peer ever writes before the server reads.
const PEER_SEND_BYTES: usize = 1 << 20;

struct Server {
    ring: Ring,
    events: Vec<Event>,
    address: SocketAddr,
    accepted: Vec<ConnectionId>,
    detached: Vec<Socket>,
    received: usize,
    closed: usize,
}

impl Server {
    fn new() -> Self {
        let features = Features::probe().expect("this machine runs rings");
        let limits = RingLimits {
            connections_max: 1_024,
            ..RingLimits::default()
        };
        let mut ring = Ring::new(limits, features).expect("this machine runs rings");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        ring.listen(listener).expect("a listener fits");
        Self {
            ring,
            events: Vec::new(),
            address,
            accepted: Vec::new(),
            detached: Vec::new(),
            received: 0,
            closed: 0,
        }
    }

    /// Poll until the condition holds.
    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.ring
                .poll(&mut self.events)
                .expect("the kernel takes part");
            let mut events = std::mem::take(&mut self.events);
            events.drain(..).for_each(|event| self.note(event));
            self.events = events;
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Accepted { connection, .. } => self.accepted.push(connection),
            Event::Received { lease, .. } => {
                self.received += black_box(self.ring.bytes(&lease)).len();
                self.ring.release(lease);
            }
            Event::Finished { connection } => self.ring.close(connection),
            Event::Closed { .. } => self.closed += 1,
            Event::Sent { .. } => {}
            Event::Detached { socket, .. } => self.detached.push(socket),
            Event::OutOfBuffers
            | Event::AcceptFailed { .. }
            | Event::Synced { .. }
            | Event::Datagrams(_) => {
                panic!("{event:?}")
            }
        }
    }

    /// A peer whose end leaves no trace in the kernel's tables.
    fn peer(&self) -> TcpStream {
        let peer = TcpStream::connect(self.address).expect("the ring listens");
        let socket = SockRef::from(&peer);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("a socket can be told not to linger");
        socket
            .set_send_buffer_size(PEER_SEND_BYTES)
            .expect("a socket has a buffer");
        socket
            .set_tcp_nodelay(true)
            .expect("a socket can be told not to wait");
        peer
    }
}

fn connect(c: &mut Criterion<ThreadCpu>) {
    let mut server = Server::new();
    let mut group = c.benchmark_group("accept");
    group.throughput(Throughput::Elements(CONNECTIONS as u64));
    group.bench_function("connect", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| come_and_go(&mut server)).sum());
    });
    group.finish();
}

/// The server's share of 64 connections: to take them in, and to be rid of them.
fn come_and_go(server: &mut Server) -> Duration {
    (server.closed, server.accepted) = (0, Vec::with_capacity(CONNECTIONS));
    let peers: Vec<TcpStream> = (0..CONNECTIONS).map(|_| server.peer()).collect();
    let (coming, ()) = timed(|| server.until(|server| server.accepted.len() == CONNECTIONS));
    drop(peers);
    let (going, ()) = timed(|| server.until(|server| server.closed == CONNECTIONS));
    coming + going
}

fn receive(c: &mut Criterion<ThreadCpu>) {
    let mut server = Server::new();
    let mut peers: Vec<TcpStream> = (0..CONNECTIONS).map(|_| server.peer()).collect();
    server.until(|server| server.accepted.len() == CONNECTIONS);
    let mut group = c.benchmark_group("accept");
    for messages in MESSAGES_PER_FRAME {
        let mut bytes = Vec::new();
        (0..u64::from(messages)).for_each(|index| put_frame(&mut bytes, &session_keys(), index, 1));
        group.throughput(Throughput::Elements(
            CONNECTIONS as u64 * u64::from(messages),
        ));
        group.bench_function(BenchmarkId::new("receive", messages), |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| drain(&mut server, &mut peers, &bytes))
                    .sum()
            });
        });
    }
    group.finish();
}

/// Connections go to another ring and come back, alone or 64 together: what both rings do for one move.
fn hand_over(c: &mut Criterion<ThreadCpu>) {
    let mut group = c.benchmark_group("accept");
    for together in [1, CONNECTIONS] {
        let mut servers = [Server::new(), Server::new()];
        let _peers: Vec<TcpStream> = (0..together).map(|_| servers[0].peer()).collect();
        servers[0].until(|server| server.accepted.len() == together);
        group.throughput(Throughput::Elements(2 * together as u64));
        group.bench_function(BenchmarkId::new("hand_over", together), |b| {
            b.iter_custom(|rounds| {
                let round = |_| {
                    let [one, other] = &mut servers;
                    timed(|| (move_all(one, other), move_all(other, one))).0
                };
                (0..rounds).map(round).sum()
            });
        });
    }
    group.finish();
}

fn move_all(from: &mut Server, to: &mut Server) {
    let count = from.accepted.len();
    for connection in from.accepted.drain(..) {
        from.ring.detach(connection);
    }
    from.until(|from| from.detached.len() == count);
    for socket in from.detached.drain(..) {
        let connection = to.ring.adopt(socket).expect("there is room");
        to.accepted.push(connection);
    }
    to.ring.submit().expect("the kernel takes part");
}

fn drain(server: &mut Server, peers: &mut [TcpStream], bytes: &[u8]) -> Duration {
    for peer in peers.iter_mut() {
        peer.write_all(bytes).expect("the server is there");
    }
    let want = peers.len() * bytes.len();
    server.received = 0;
    let (took, ()) = timed(|| server.until(|server| server.received >= want));
    took
}

criterion_group!(name = benches; config = criterion(); targets = connect, receive, hand_over);
criterion_main!(benches);
