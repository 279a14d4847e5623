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

#[path = "../measured/mod.rs"]
mod measured;
#[path = "../../tests/support/mod.rs"]
mod support;

mod commit;
mod echo;
mod idle;
mod load;
mod measure;
mod sync;
mod wake;

const SCENARIOS: [measured::Scenario; 9] = [
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
    let parts: [measured::Part; 2] = [("serve", measured::node::serve), ("echo", echo::echo)];
    measured::run(&SCENARIOS, &parts);
}
