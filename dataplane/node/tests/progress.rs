//! Nobody waits for ever: whatever is scarce, every frame of every connection is answered, and the node still tells its numbers.
//!
//! `FOREBAY_STRESS_RUNS` sets how often each scarcity is played; the time-outs of the sockets end a run that stands still.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use node::NodeHandle;
use support::*;
use wire::ids::AckMode;
use wire::reason::Reason;

const BODIES: [&[u8]; 256] = [&[7; 100]; 256];
const SEGMENT_BYTES: u32 = 2 << 20;

/// What there is little of.
struct Scarcity {
    name: &'static str,
    connections: usize,
    /// Frames of each connection, and how many of them are unanswered at once.
    frames: u64,
    window: u64,
    /// Receive buffers and their bytes, where not the usual ones.
    buffers: Option<(u16, u32)>,
    /// Two segments in all, so that they are written over again and again.
    recycles: bool,
}

const USUAL: Scarcity = Scarcity {
    name: "nothing",
    connections: 64,
    frames: 6,
    window: 4,
    buffers: None,
    recycles: false,
};

const SCARCITIES: [Scarcity; 4] = [
    Scarcity {
        name: "segments",
        recycles: true,
        ..USUAL
    },
    Scarcity {
        name: "receive buffers",
        buffers: Some((8, 4096)),
        ..USUAL
    },
    Scarcity {
        name: "segments and receive buffers",
        buffers: Some((16, 4096)),
        recycles: true,
        ..USUAL
    },
    Scarcity {
        name: "turns for many connections",
        connections: 256,
        frames: 2,
        window: 1,
        recycles: true,
        ..USUAL
    },
];

/// What the clients saw, also of those that did not come to their end.
#[derive(Default)]
struct Seen {
    acked: AtomicU64,
    busy: AtomicU64,
}

fn start_with(data: &Path, scarcity: &Scarcity) -> NodeHandle {
    let mut parts = parts(AckMode::Durable, scarcity.connections);
    // Nobody listens: what is old may go.
    parts.endpoints.pop();
    let hub = &mut parts.hubs[0];
    hub.partitions = 1;
    hub.segment_bytes = SEGMENT_BYTES;
    if scarcity.recycles {
        hub.retention_bytes = Some(2 * u64::from(SEGMENT_BYTES));
    }
    let mut config = config(data);
    if let Some((buffers, bytes)) = scarcity.buffers {
        config.ring.buffers = buffers;
        config.ring.buffer_bytes = bytes;
    }
    try_start(config, table(parts)).unwrap()
}

/// Send every frame, go back when the node is busy, and end when all are acked.
fn send_all(addr: SocketAddr, number: usize, scarcity: &Scarcity, seen: &Seen) {
    let mut client = Client::connect(addr, &sender(number));
    client.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let (mut acked, mut open) = (0, scarcity.window);
    while acked < scarcity.frames {
        while client.sequence <= scarcity.frames && client.sequence - acked <= open {
            client.put_send(&BODIES);
        }
        client.flush();
        match client.read() {
            Said::Ack(ack) => {
                let more = ack.sequence.0.saturating_sub(acked);
                seen.acked.fetch_add(more, Ordering::Relaxed);
                (acked, open) = (acked + more, scarcity.window);
            }
            // What follows the refused frame is thrown away: one frame at a time until one is taken.
            Said::Reject(reject) if reject.notice.reason == Reason::Busy => {
                seen.busy.fetch_add(1, Ordering::Relaxed);
                client.sequence = reject.sequence.0;
                open = client.sequence - acked;
            }
            other => panic!("sender {number}: an answer was due, not {other:?}"),
        }
    }
}

fn play(scarcity: &'static Scarcity, replay: &str) {
    let data = tempfile::tempdir().unwrap();
    let node = start_with(data.path(), scarcity);
    let (addr, seen) = (node.listen_addr(), Arc::new(Seen::default()));
    let threads: Vec<_> = (0..scarcity.connections)
        .map(|number| {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || send_all(addr, number, scarcity, &seen))
        })
        .collect();
    let ended = threads.into_iter().map(std::thread::JoinHandle::join);
    let stuck = ended.filter(Result::is_err).count();
    let due = scarcity.connections as u64 * scarcity.frames;
    let (acked, busy) = (
        seen.acked.load(Ordering::Relaxed),
        seen.busy.load(Ordering::Relaxed),
    );
    let name = scarcity.name;
    println!("scarce: {name}; {acked} of {due} frames acked, {busy} times busy; {replay}");
    let syncs = metric(node.admin_addr(), "forebay_syncs_total");
    assert!(
        stuck == 0 && acked == due && syncs.is_some(),
        "scarce: {name}; {stuck} of {} connections ended or stood still, {acked} of {due} frames acked, \
         syncs told: {syncs:?}; {replay}",
        scarcity.connections
    );
    node.stop();
    let counters = node.join().unwrap().counters;
    assert_eq!(
        (counters.append.frames, counters.append.messages),
        (due, due * BODIES.len() as u64),
        "each frame once; {replay}"
    );
}

#[test]
fn every_frame_is_answered_whatever_is_scarce() {
    let runs = std::env::var("FOREBAY_STRESS_RUNS").map_or(1, |runs| runs.parse().unwrap());
    let replay = format!(
        "FOREBAY_STRESS_RUNS={runs} cargo test -p forebay-node --test progress -- --nocapture"
    );
    for _ in 0..runs {
        for scarcity in &SCARCITIES {
            play(scarcity, &replay);
        }
    }
}
