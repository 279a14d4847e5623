//! The simulator: one seed runs a real shard, its storage, a network, a clock and clients good and bad, and
//! checks what must always hold. The same seed gives the same history, so a failure replays with
//! `FOREBAY_SIM_SEED=<seed> cargo test -p forebay-shard --test sim one_seed -- --nocapture`; with
//! `FOREBAY_SIM_TRACE=1` it tells what everybody hears and says.
//!
//! Properties: acknowledged implies durable; durable implies delivered to everyone who hears the channel;
//! order per sender; nothing appended twice, altered or forged; nothing delivered to somebody without the
//! grant; what is settled stays settled, short of a crash that lost the settlement; credit is never exceeded.
//!
//! Clients come on sockets, through tunnels and on lanes. Lanes that share a carrier lose, repeat and reorder their packets each by itself,
//! stand still and die together, and end alone. One throws its frames in datagrams beside its lane.

mod beacon;
#[path = "../support/changes.rs"]
mod changes;
mod ids;
mod ledger;
mod link;
mod lossy;
mod network;
mod node;
mod party;
mod plan;
mod receiver;
mod relay;
mod sender;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use link::hash;
use node::Medium;
use world::{Outcome, Shards};

/// Seeds of a run without planted bugs, unless `FOREBAY_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 50;
/// Seeds whose histories are compared.
const SAME: [u64; 3] = [3, 14, 159];
/// Seeds within which the canary must fail.
const CANARY_SEEDS: u64 = 20;

#[expect(
    clippy::disallowed_methods,
    reason = "who runs the simulator says how much of it"
)]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(seed: u64) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| {
        world::run(seed, Medium::Honest, Shards::Any)
    }))
    .unwrap_or_else(|cause| {
        eprintln!("seed {seed} fails; replay it with");
        eprintln!(
            "FOREBAY_SIM_SEED={seed} cargo test -p forebay-shard --test sim one_seed -- --nocapture"
        );
        std::panic::resume_unwind(cause)
    })
}

#[test]
fn one_seed() {
    let seed = number("FOREBAY_SIM_SEED").unwrap_or(0);
    eprintln!("seed {seed}: {:?}", run(seed));
}

#[test]
fn every_property_holds_for_every_seed() {
    let seeds = number("FOREBAY_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("FOREBAY_SIM_FIRST").unwrap_or(0);
    let outcomes: Vec<_> = (first..first + seeds).map(run).collect();
    let acked: usize = outcomes.iter().map(|outcome| outcome.acked).sum();
    let deliveries: u64 = outcomes.iter().map(|outcome| outcome.deliveries).sum();
    let crashes: u32 = outcomes.iter().map(|outcome| outcome.crashes).sum();
    let lanes: u32 = outcomes.iter().map(|outcome| outcome.lanes).sum();
    let died: u32 = outcomes.iter().map(|outcome| outcome.lanes_died).sum();
    let [thrown, loose_acked, loose_refused] = [0, 1, 2].map(|at| {
        outcomes
            .iter()
            .map(|outcome| outcome.thrown[at])
            .sum::<u32>()
    });
    let traces = outcomes.iter().map(|outcome| outcome.trace.to_le_bytes());
    let trace = hash(traces.flatten().collect::<Vec<_>>().as_slice());
    eprintln!(
        "{seeds} seeds from {first}: {acked} messages acked, {deliveries} delivered, {crashes} restarts, \
         {lanes} lanes, {died} of them died with their carrier, {thrown} datagrams thrown, {loose_acked} acked, {loose_refused} refused, trace {trace:016x}"
    );
    assert!(
        acked as u64 > 100 * seeds,
        "too tame: {acked} messages acked"
    );
    assert!(
        u64::from(lanes) > 20 * seeds && u64::from(died) > seeds,
        "too tame: {lanes} lanes, {died} died"
    );
    assert!(
        u64::from(loose_acked) > 5 * seeds && u64::from(loose_refused) > 3 * seeds,
        "too tame: {thrown} datagrams, {loose_acked} acked, {loose_refused} refused"
    );
    assert!(
        deliveries > 300 * seeds,
        "too tame: {deliveries} deliveries"
    );
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in SAME {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// Addresses, allocations and whatever else differs between two processes must not show.
#[test]
fn the_same_seed_gives_the_same_history_in_another_process() {
    for seed in SAME {
        let ours = format!("seed {seed}: {:?}", run(seed));
        let theirs = run_elsewhere(seed);
        let same = theirs.lines().any(|line| line == ours);
        assert!(same, "here {ours}\nthere {theirs}");
    }
}

/// What `one_seed` tells in a process of its own.
fn run_elsewhere(seed: u64) -> String {
    let program = std::env::current_exe().expect("this test is a program");
    let output = std::process::Command::new(program)
        .args(["--exact", "one_seed", "--nocapture"])
        .env("FOREBAY_SIM_SEED", seed.to_string())
        .output()
        .expect("this program starts once more");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).expect("it tells its history in text")
}

/// A simulator that finds nothing proves nothing: over a disk that lies about its syncs it must fail, and for
/// that reason.
#[test]
fn canary_a_disk_that_forgets_what_it_synced_is_found() {
    let fails = |seed: u64| {
        let cause = catch_unwind(|| world::run(seed, Medium::ForgetsSyncs, Shards::Any)).err()?;
        let told = cause.downcast_ref::<String>().cloned().unwrap_or_default();
        told.contains("was acked and is not in the log")
            .then_some(seed)
    };
    let found = (0..CANARY_SEEDS).find_map(fails);
    let found = found.unwrap_or_else(|| panic!("the canary lives after {CANARY_SEEDS} seeds"));
    eprintln!("canary: found by seed {found}, as it must be");
}

#[cfg(feature = "planted-bugs")]
mod planted {
    use shard::planted::{Bug, plant};

    use super::*;

    /// Seeds within which every planted bug is found.
    const FOUND_WITHIN: u64 = 100;

    #[test]
    fn every_planted_bug_is_found() {
        for bug in Bug::ALL {
            find(bug, Shards::Any, FOUND_WITHIN);
        }
    }

    #[test]
    fn every_bug_planted_between_shards_is_found() {
        for bug in Bug::OF_SHARDS {
            find(bug, Shards::Several, FOUND_WITHIN);
        }
    }

    fn find(bug: Bug, shards: Shards, seeds: u64) {
        plant(Some(bug));
        let run = |seed: u64| world::run(seed, Medium::Honest, shards);
        let fails = |seed: &u64| catch_unwind(|| run(*seed)).is_err();
        let found = (0..seeds).find(fails);
        plant(None);
        let found = found.unwrap_or_else(|| panic!("{bug:?} is not found in {seeds} seeds"));
        eprintln!("planted {bug:?}: found after {} seeds", found + 1);
    }
}
