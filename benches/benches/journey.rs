//! The journey in memory: received bytes through parse, verify, route, append and commit, as `Shard::turn` takes
//! them, beside one verification of the same message with the `hmac` and `sha2` crates. Only turns are timed.
//! Frames are signed just ahead of their turns, so numbers never run out; they are then as warm as bytes are that
//! the kernel has just copied. Nobody subscribes; what stages 7 and 8 cost is in `fanout` and `deliver`.

use std::hint::black_box;
use std::time::Duration;

use benches::{Client, Node, ThreadCpu, criterion, put_frame, session_keys, timed};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shard::Received;

/// Frames in a turn.
const FRAMES: usize = 256;
/// Bytes of a receive buffer: where the pieces of a connection's stream are cut.
const BUFFER_BYTES: usize = 16 << 10;
/// Turns for which frames are signed in one go.
const TURNS_AHEAD: u64 = 16;
/// Rounds of the paired comparison, and messages on each side of one.
const PAIRS: usize = 51;
const PAIR_TURNS: u64 = 64;

/// Segments that have been used again before anything is timed, as in a node that has run for a while.
const SEGMENTS_RECYCLED: u64 = 4;

/// What a turn is made of.
struct Load {
    node: Node,
    clients: Vec<Client>,
    messages: u16,
    /// The streams of all connections, and where each turn's share of each ends.
    streams: Vec<Vec<u8>>,
    ends: Vec<Vec<usize>>,
}

impl Load {
    /// 256 frames of `messages` messages a turn, evenly from so many connections.
    fn new(connections: usize, messages: u16) -> Self {
        let mut node = Node::new(connections, 0);
        let clients = (0..connections).map(|number| node.sender(number)).collect();
        let mut load = Self {
            node,
            clients,
            messages,
            streams: vec![Vec::new(); connections],
            ends: vec![Vec::new(); connections],
        };
        while load.node.counters().commit.retired_segments < SEGMENTS_RECYCLED {
            load.turns(TURNS_AHEAD);
        }
        load
    }

    /// Processor time of so many turns.
    fn turns(&mut self, turns: u64) -> Duration {
        let before = self.node.counters().append.messages;
        let (mut left, mut total) = (turns, Duration::ZERO);
        while left > 0 {
            let ahead = left.min(TURNS_AHEAD);
            self.sign(ahead);
            total += (0..ahead as usize)
                .map(|turn| self.turn(turn))
                .sum::<Duration>();
            left -= ahead;
        }
        let appended = self.node.counters().append.messages - before;
        assert_eq!(
            appended,
            turns * FRAMES as u64 * u64::from(self.messages),
            "{:?}",
            self.node.counters()
        );
        total
    }

    fn sign(&mut self, turns: u64) {
        let share = FRAMES / self.clients.len();
        for ((client, stream), ends) in self
            .clients
            .iter_mut()
            .zip(&mut self.streams)
            .zip(&mut self.ends)
        {
            stream.clear();
            ends.clear();
            for _ in 0..turns {
                for _ in 0..share {
                    client.put_frame(stream, self.messages);
                }
                ends.push(stream.len());
            }
        }
    }

    fn turn(&mut self, turn: usize) -> Duration {
        let mut received = Vec::new();
        for ((client, stream), ends) in self.clients.iter().zip(&self.streams).zip(&self.ends) {
            let start = turn.checked_sub(1).map_or(0, |before| ends[before]);
            let pieces = stream[start..ends[turn]].chunks(BUFFER_BYTES);
            let connection = client.connection;
            received.extend(pieces.map(|bytes| Received { connection, bytes }));
        }
        self.node.turn(&received)
    }
}

/// One frame of one message, and its tag by the crates.
struct Reference {
    keyed: Hmac<Sha256>,
    frame: Vec<u8>,
    tag: Vec<u8>,
}

impl Reference {
    fn new() -> Self {
        let mut frame = Vec::new();
        put_frame(&mut frame, &session_keys(), 0, 1);
        frame.truncate(frame.len() - 32);
        let keyed = Hmac::<Sha256>::new_from_slice(&[7; 32]).expect("any length will do");
        let mut mac = keyed.clone();
        mac.update(&0u64.to_le_bytes());
        mac.update(&frame);
        let tag = mac.finalize().into_bytes().to_vec();
        Self { keyed, frame, tag }
    }

    /// The signature of a session over one frame: its index, then its bytes.
    fn verify(&self) {
        let mut mac = black_box(&self.keyed).clone();
        mac.update(&black_box(0u64).to_le_bytes());
        mac.update(black_box(&self.frame));
        mac.verify_slice(&self.tag).expect("the tag was made above");
    }
}

fn journey(c: &mut Criterion<ThreadCpu>) {
    let mut group = c.benchmark_group("journey");
    group.throughput(Throughput::Elements(1));
    let reference = Reference::new();
    group.bench_function("reference", |b| b.iter(|| reference.verify()));
    for (connections, messages) in [(1, 1), (64, 1), (1, 16), (64, 16)] {
        group.throughput(Throughput::Elements(FRAMES as u64 * u64::from(messages)));
        let id = BenchmarkId::new(format!("{connections}-connections"), messages);
        let mut load = Load::new(connections, messages);
        group.bench_function(id, |b| b.iter_custom(|turns| load.turns(turns)));
    }
    group.finish();
}

/// The ratio that counts, from rounds that alternate: what slows one side slows the other.
fn pairs(_: &mut Criterion<ThreadCpu>) {
    let reference = Reference::new();
    for (connections, messages) in [(1, 1), (64, 1), (1, 16)] {
        let mut load = Load::new(connections, messages);
        let count = PAIR_TURNS * FRAMES as u64;
        let mut ratios: Vec<f64> = (0..PAIRS)
            .map(|_| {
                let ours = load.turns(PAIR_TURNS).as_nanos() as f64 / f64::from(messages);
                let (theirs, ()) = timed(|| (0..count).for_each(|_| reference.verify()));
                ours / theirs.as_nanos() as f64
            })
            .collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let [low, median, high] = [PAIRS / 4, PAIRS / 2, PAIRS * 3 / 4].map(|at| ratios[at]);
        println!(
            "pairs: {connections} connections, {messages} messages a frame: journey / reference = \
             {median:.2} ({low:.2} to {high:.2}, {PAIRS} pairs)"
        );
    }
}

criterion_group!(name = benches; config = criterion(); targets = journey, pairs);
criterion_main!(benches);
