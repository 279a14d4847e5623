//! Everybody says the same: random questions of who may do what are put to a model written from the documents alone, to the shards of a
//! node in frames, with the table that was compiled, and to the control plane's `why`. While time passes and grants, keys, channels and
//! rates change, sessions stay open, linger and are taken up again, and messages come to who hears them and to nobody else.
//! `FOREBAY_POLICY_QUESTIONS` says how many.
#![allow(
    clippy::disallowed_methods,
    reason = "who runs a test says how much of it"
)]

mod allowances;
mod asked;
mod changes;
mod node;
mod plan;
mod questions;
mod queues;
mod reference;
mod sessions;
#[path = "../../../dataplane/shard/tests/support/mod.rs"]
mod support;
mod told;
mod written;

use asked::{Asked, Counts};

/// Questions put to one plan.
const OF_A_PLAN: u64 = 250;

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn the_documents_the_shard_and_the_control_plane_answer_every_question_alike() {
    let count = number("FOREBAY_POLICY_QUESTIONS", 3_000);
    let first = number("FOREBAY_POLICY_SEED", 1);
    let mut counts = Counts::default();
    let mut seed = first;
    while counts.asked < count {
        Asked::new(seed).ask(OF_A_PLAN.min(count - counts.asked), &mut counts);
        seed += 1;
    }
    println!("seeds {first} to {}: {counts:#?}", seed - 1);
    counts.check();
}

#[test]
#[should_panic(expected = "NotHome")]
fn a_node_that_ignores_homes_is_found_out() {
    let mut counts = Counts::default();
    for seed in 1..20 {
        let mut asked = Asked::new(seed);
        asked.ignore_homes();
        asked.ask(OF_A_PLAN, &mut counts);
    }
}
