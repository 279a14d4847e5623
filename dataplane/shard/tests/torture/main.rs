//! Torture of a whole shard: its logs, journal and snapshots on a disk that is damaged, cut off in the middle of
//! anything, broken or full, and peers that repeat and alter what was said. Each test runs a small count; a large
//! one comes from the environment variable that its constant names, and every failure prints its seed.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

#[path = "../support/mod.rs"]
mod support;

mod crash_images;
mod faults;
mod history;
mod journal_damage;
mod mutations;
mod replays;

/// A count, or a seed, that whoever runs the tests decides about.
#[expect(
    clippy::disallowed_methods,
    reason = "who runs the tests says how much of them"
)]
fn number(variable: &str, otherwise: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given
        .and_then(|given| given.parse().ok())
        .unwrap_or(otherwise)
}
