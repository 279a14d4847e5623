//! Many connections move between two rings on two threads while their peers send, finish and reset. In a
//! process of its own: it counts the process's descriptors.
//!
//! `FOREBAY_HANDOVERS` sets how many connections, `FOREBAY_SEED` what is random.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod peer;
mod shard;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::{Feature, Features, RingLimits};

use crate::peer::Peer;
use crate::shard::{HOPS, shard};

/// Long enough that only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections at once; each takes two descriptors of this process.
const AT_ONCE: usize = 1_000;

/// One run: what the peers do, and what the rings are short of.
#[derive(Clone)]
pub(crate) struct Plan {
    seed: u64,
    connections: usize,
    bytes_max: usize,
    /// Peers reset or go at any time, owners close and abort while connections leave.
    unkind: bool,
    limits: RingLimits,
    features: Features,
}

/// Descriptors open in this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Play a plan to its end; returns how often a connection moved.
fn play(plan: &Plan, why: &str) -> u64 {
    let before = descriptors();
    let ended = Arc::new(AtomicUsize::new(0));
    let shards = [0, 1].map(|_| shard(plan, &ended));
    let [(one, _), (other, _)] = &shards;
    (one.introduce)
        .send((other.inbox.clone(), other.waker.clone()))
        .unwrap();
    (other.introduce)
        .send((one.inbox.clone(), one.waker.clone()))
        .unwrap();
    let addresses = [one.address, other.address];
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut peers: Vec<Peer> = (0..plan.connections)
        .map(|number| Peer::new(addresses[number % 2], number as u64, plan, &mut random))
        .collect();
    let mut busy: Vec<usize> = (0..peers.len()).collect();
    while !busy.is_empty() {
        random.shuffle(&mut busy);
        busy.retain(|peer| peers[*peer].step(&mut random));
    }
    let mut ends = HashMap::new();
    let (mut left, mut came, mut vanished) = (0, 0, 0);
    for (_, thread) in shards {
        let (counters, outcomes) = thread.join().unwrap();
        assert_eq!(
            counters.close_timeouts, 0,
            "a peer was not heard finishing; {why}"
        );
        left += counters.detached;
        came += counters.adopted;
        vanished += counters.accepts_vanished as usize;
        ends.extend(outcomes);
    }
    assert_eq!(left, came, "{why}");
    assert_eq!(ends.len() + vanished, plan.connections, "{why}");
    for peer in &mut peers {
        let end = ends.get(&peer.name);
        peer.judge(end, why);
    }
    drop(peers);
    assert_eq!(descriptors(), before, "descriptors leak; {why}");
    left
}

/// Rings short of nothing, without multishot, and short of buffers.
fn scarcities() -> [(&'static str, RingLimits, Features); 3] {
    let features = Features::probe().unwrap();
    let limits = |buffers, buffer_bytes| RingLimits {
        entries: 64,
        buffers,
        buffer_bytes,
        connections_max: AT_ONCE as u32,
        files_reserved: 3 * AT_ONCE as u32,
        close_timeout: PATIENCE,
        ..RingLimits::default()
    };
    let one_shot = features.with_forced(&[Feature::MultishotReceive, Feature::MultishotAccept]);
    [
        ("plenty", limits(256, 1024), features),
        ("one-shot", limits(256, 1024), one_shot),
        ("few buffers", limits(8, 64), features),
    ]
}

fn number(variable: &str, usual: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => usual,
    }
}

/// Play as many connections as asked for, in portions, through every scarcity.
fn play_all(test: &str, bytes_max: usize, unkind: bool, judge: impl Fn(&Plan, u64, &str)) {
    // Descriptors are counted: one test at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let total = number("FOREBAY_HANDOVERS", AT_ONCE as u64);
    let first = number("FOREBAY_SEED", 1);
    for (scarcity, limits, features) in scarcities() {
        let (mut left, mut seed, mut moved) = (total as usize, first, 0);
        while left > 0 {
            let plan = Plan {
                seed,
                connections: left.min(AT_ONCE),
                bytes_max,
                unkind,
                limits: limits.clone(),
                features,
            };
            let why = format!(
                "{scarcity}; replay: FOREBAY_SEED={seed} FOREBAY_HANDOVERS={} cargo test -p forebay-ring --test handover {test}",
                plan.connections
            );
            let hops = play(&plan, &why);
            judge(&plan, hops, &why);
            left -= plan.connections;
            moved += hops;
            seed += 1;
        }
        println!(
            "{scarcity}: {total} connections moved {moved} times, 0 bytes lost or doubled, 0 descriptors left, seeds \
             {first}..{seed}; replay: FOREBAY_SEED={first} FOREBAY_HANDOVERS={total} cargo test -p forebay-ring --test handover {test}"
        );
    }
}

#[test]
fn connections_move_between_threads_while_their_peers_send_and_lose_no_byte() {
    let test = "connections_move";
    play_all(test, 4_000, false, |plan, hops, why| {
        assert_eq!(hops, (plan.connections * HOPS) as u64, "{why}");
    });
}

#[test]
fn peers_and_owners_may_end_a_connection_at_any_moment_of_its_move() {
    let test = "peers_and_owners";
    play_all(test, 2_000, true, |plan, hops, why| {
        let most = (plan.connections * HOPS) as u64;
        assert!(hops > 0 && hops < most.max(2), "{hops} of {most}; {why}");
    });
}
