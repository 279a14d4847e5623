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
mod serve;
#[path = "../../tests/support/mod.rs"]
mod support;

/// One figure, one line.
pub(crate) fn tell(what: &str, value: f64, unit: &str) {
    println!("{{\"what\":\"{what}\",\"value\":{value:.4},\"unit\":\"{unit}\"}}");
}

const SCENARIOS: [(&str, fn()); 4] = [
    ("bare", bare::bare),
    ("bulk", bulk::bulk),
    ("idle", idle::idle),
    ("flood", flood::flood),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().map(String::as_str) == Some("serve") {
        return serve::serve(&words[1..]);
    }
    if !words.iter().any(|word| word == "--bench") {
        // `cargo test --benches` builds and starts this too; there is nothing to test.
        return;
    }
    let asked: Vec<&str> = (words.iter().map(String::as_str))
        .filter(|word| !word.starts_with('-'))
        .collect();
    for word in &asked {
        let known = SCENARIOS.iter().any(|(name, _)| name == word);
        assert!(known, "no scenario {word:?}");
    }
    for (name, run) in SCENARIOS {
        if asked.is_empty() || asked.contains(&name) {
            run();
        }
    }
}
