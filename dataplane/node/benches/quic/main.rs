//! What QUIC costs a node, measured on real ones in processes of their own, with quinn as the client, and what the bare protocol costs
//! in memory.
//!
//! `cargo bench -p forebay-node --bench quic -- [bare|bulk|idle|flood] ...`; without words all of them. Prints one JSON object a line:
//! `{"what","value","unit"}`. Processor time is that of the node's threads; what the client costs is in no figure. Nothing here
//! asserts on a figure.
#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on shall say where"
)]

mod bare;
mod bulk;
#[path = "../../tests/quic/client.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod client;
mod flood;
mod idle;
#[path = "../measured/mod.rs"]
mod measured;
#[path = "../../tests/support/mod.rs"]
mod support;

use wire::ids::AckMode;

use measured::node::{Served, Setup, serve};
use measured::process::{Thread, process_nanos};

const SCENARIOS: [measured::Scenario; 4] = [
    ("bare", bare::bare),
    ("bulk", bulk::bulk),
    ("idle", idle::idle),
    ("flood", flood::flood),
];

/// A node with so many senders that speaks QUIC.
fn start(senders: usize) -> Served {
    Served::start(Setup {
        ack: AckMode::Local,
        senders,
        partitions: 1,
        quic: true,
        cpu: None,
    })
}

/// Processor time of its shard so far.
fn shard_nanos(node: &Served) -> f64 {
    process_nanos(node.pid(), Thread::is_shard) as f64
}

fn main() {
    measured::run(&SCENARIOS, &[("serve", serve)]);
}
