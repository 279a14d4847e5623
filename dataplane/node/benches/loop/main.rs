//! What the loop itself costs, measured on a real node: real sockets, real mapped logs, a process of its own.
//!
//! `cargo bench -p forebay-node --bench loop -- [ready|lockstep|pipelined|tunnel|idle|wake|commit|device|sync] ...`; without words all of them.
//! Prints one JSON object a line: `{"what","value","unit"}`. The node runs in a child process, so that its processor time, faults,
//! memory and system calls are its own; it and the driver are pinned to one processor each, or both to one where the text says so.
//! System calls are counted by `perf stat -e raw_syscalls:sys_enter` where `perf` is there and may, beside the ring's own count.
//! Neighbours are in every wall-clock figure and in most of the others, since they decide how many messages a turn finds. Whoever may
//! can keep them out by starting the built tool with `chrt -f 10`. Nothing here asserts on a figure.
#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on shall say where"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod commit;
mod echo;
mod idle;
mod load;
mod measure;
mod serve;
mod sync;
mod wake;

/// One figure, one line.
pub(crate) fn tell(what: &str, value: f64, unit: &str) {
    println!("{{\"what\":\"{what}\",\"value\":{value:.4},\"unit\":\"{unit}\"}}");
}

const SCENARIOS: [(&str, fn()); 9] = [
    ("ready", load::ready),
    ("lockstep", load::lockstep),
    ("pipelined", load::pipelined),
    ("tunnel", load::tunnel),
    ("idle", idle::idle),
    ("wake", wake::wake),
    ("commit", commit::commit),
    ("device", commit::device),
    ("sync", sync::sync),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("serve") => return serve::serve(&words[1..]),
        Some("echo") => return echo::echo(&words[1]),
        _ => {}
    }
    if !words.iter().any(|word| word == "--bench") {
        // `cargo test --benches` builds and starts this too; there is nothing to test.
        return;
    }
    let asked: Vec<&str> = words
        .iter()
        .map(String::as_str)
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
