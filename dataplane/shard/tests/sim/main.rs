//! The simulator: one seed runs a real shard, its storage, a network, a clock and clients good and bad, and
//! checks what must always hold. The same seed gives the same history, so a failure replays with
//! `FOREBAY_SIM_SEED=<seed> cargo test -p forebay-shard --test sim one_seed -- --nocapture`; with
//! `FOREBAY_SIM_TRACE=1` it tells what everybody hears and says.
//!
//! Properties: acknowledged implies durable; durable implies delivered to everyone who hears the channel;
//! order per sender; nothing appended twice, altered or forged; nothing delivered to somebody without the
//! grant; what is settled stays settled, short of a crash that lost the settlement; credit is never exceeded.

mod ledger;
mod link;
mod network;
mod node;
mod party;
mod plan;
mod receiver;
mod relay;
mod sender;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::Outcome;

/// Seeds of a run without planted bugs, unless `FOREBAY_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 50;

#[expect(
    clippy::disallowed_methods,
    reason = "who runs the simulator says how much of it"
)]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(seed: u64) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| world::run(seed))).unwrap_or_else(|cause| {
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
    eprintln!("{seeds} seeds: {acked} messages acked, {deliveries} delivered, {crashes} restarts");
    assert!(
        acked as u64 > 100 * seeds,
        "too tame: {acked} messages acked"
    );
    assert!(
        deliveries > 300 * seeds,
        "too tame: {deliveries} deliveries"
    );
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in [3, 14, 159] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
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
            plant(Some(bug));
            let found = (0..FOUND_WITHIN).find(|&seed| catch_unwind(|| world::run(seed)).is_err());
            plant(None);
            let found =
                found.unwrap_or_else(|| panic!("{bug:?} is not found in {FOUND_WITHIN} seeds"));
            eprintln!("{bug:?} is found by seed {found}");
        }
    }
}
