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

/// Frames in a turn, or one of each connection if those are more.
const FRAMES: usize = 256;
/// Bytes of a receive buffer: where the pieces of a connection's stream are cut.
const BUFFER_BYTES: usize = 16 << 10;
/// Frames that are signed in one go, for some turns ahead: no more than a cache holds.
const FRAMES_AHEAD: usize = 4_096;
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
    /// Frames of each connection in a turn.
    share: usize,
    /// Every signature is spoilt.
    forged: bool,
    /// The streams of all connections, and where each turn's share of each ends.
    streams: Vec<Vec<u8>>,
    ends: Vec<Vec<usize>>,
}

impl Load {
    /// 256 frames of `messages` messages a turn, evenly from so many connections, and at least one from each.
    fn new(connections: usize, messages: u16) -> Self {
        let mut node = Node::new(connections, 0);
        #[cfg(feature = "cycles")]
        node.count_cycles(ring::cycles);
        let clients = (0..connections).map(|number| node.sender(number)).collect();
        let mut load = Self {
            node,
            clients,
            messages,
            share: (FRAMES / connections).max(1),
            forged: false,
            streams: vec![Vec::new(); connections],
            ends: vec![Vec::new(); connections],
        };
        while load.node.counters().commit.retired_segments < SEGMENTS_RECYCLED {
            load.turns(16);
        }
        load
    }

    /// Frames of a turn.
    fn frames(&self) -> u64 {
        (self.share * self.clients.len()) as u64
    }

    /// Processor time of so many turns.
    fn turns(&mut self, turns: u64) -> Duration {
        let before = self.done();
        let (mut left, mut total) = (turns, Duration::ZERO);
        let most = (FRAMES_AHEAD as u64 / self.frames()).max(1);
        while left > 0 {
            let ahead = left.min(most);
            self.sign(ahead);
            total += (0..ahead as usize)
                .map(|turn| self.turn(turn))
                .sum::<Duration>();
            left -= ahead;
        }
        assert_eq!(
            self.done() - before,
            turns * self.frames() * u64::from(self.messages),
            "{:?}",
            self.node.counters()
        );
        total
    }

    /// Messages appended, or refused for their signature if that is what shall happen.
    fn done(&self) -> u64 {
        let counters = self.node.counters();
        match self.forged {
            true => counters.verify.bad_signatures * u64::from(self.messages),
            false => counters.append.messages,
        }
    }

    fn sign(&mut self, turns: u64) {
        let (share, forged) = (self.share, self.forged);
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
                    if forged && let Some(last) = stream.last_mut() {
                        *last ^= 1;
                        client.forget_frame();
                    }
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
    for (connections, messages) in [(1, 1), (64, 1), (1_000, 1), (1, 16), (64, 16)] {
        let mut load = Load::new(connections, messages);
        group.throughput(Throughput::Elements(load.frames() * u64::from(messages)));
        let id = BenchmarkId::new(format!("{connections}-connections"), messages);
        group.bench_function(id, |b| b.iter_custom(|turns| load.turns(turns)));
        #[cfg(feature = "cycles")]
        tell_cycles(&load);
    }
    group.finish();
}

/// Cycles of a message in each stage; the figures of all rounds together.
#[cfg(feature = "cycles")]
fn tell_cycles(load: &Load) {
    let counters = load.node.counters();
    let messages = counters.append.messages as f64;
    print!(
        "cycles: {} connections, {} a frame:",
        load.clients.len(),
        load.messages
    );
    for stage in shard::Stage::ALL {
        print!(
            " {} {:.0}",
            stage.name(),
            counters.cycles.of(stage) as f64 / messages
        );
    }
    println!();
}

/// The ratios that count, from rounds that alternate: what slows one side slows the other.
fn pairs(_: &mut Criterion<ThreadCpu>) {
    if std::env::args().any(|argument| argument == "--profile-time") {
        // A profile shall hold the one bench that was asked for.
        return;
    }
    let reference = Reference::new();
    for (connections, messages) in [(1, 1), (64, 1), (1_000, 1), (1, 16)] {
        let mut load = Load::new(connections, messages);
        let turns = PAIR_TURNS * FRAMES as u64 / load.frames();
        let count = turns * load.frames();
        tell(
            &format!("{connections} connections, {messages} messages a frame: journey / reference"),
            || {
                let ours = load.turns(turns).as_nanos() as f64 / f64::from(messages);
                let (theirs, ()) = timed(|| (0..count).for_each(|_| reference.verify()));
                ours / theirs.as_nanos() as f64
            },
        );
    }
    let (mut few, mut many) = (Load::new(64, 1), Load::new(1_000, 1));
    few.share = 1;
    tell(
        "1 frame of each connection in a turn: 1,000 connections / 64 connections",
        || {
            let ours = many.turns(16).as_nanos() as f64 / (16 * many.frames()) as f64;
            ours / (few.turns(256).as_nanos() as f64 / (256 * few.frames()) as f64)
        },
    );
    let (mut good, mut forged) = (Load::new(64, 1), Load::new(64, 1));
    forged.forged = true;
    tell("64 connections, 1 message a frame: forged / good", || {
        forged.turns(PAIR_TURNS).as_nanos() as f64 / good.turns(PAIR_TURNS).as_nanos() as f64
    });
}

fn tell(what: &str, ratio: impl FnMut() -> f64) {
    let mut ratio = ratio;
    let mut ratios: Vec<f64> = (0..PAIRS).map(|_| ratio()).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let [low, median, high] = [PAIRS / 4, PAIRS / 2, PAIRS * 3 / 4].map(|at| ratios[at]);
    println!("pairs: {what} = {median:.2} ({low:.2} to {high:.2}, {PAIRS} pairs)");
}

criterion_group!(name = benches; config = criterion(); targets = journey, pairs);
criterion_main!(benches);
