//! Connections that say nothing: what each costs in memory, and what ten thousand cost in time.

use std::time::Duration;

use super::node::Served;
use super::process::{Thread, process_nanos, resident_bytes};
use super::tell;
use crate::support::{metric, until};

const FEW: usize = 1_000;
/// As many connections as are made.
pub(crate) const MANY: usize = 15_000;
const WATCHED: usize = 10_000;
const WATCH: Duration = Duration::from_secs(20);
/// What handshakes leave to be done is done by then.
const SETTLE: Duration = Duration::from_secs(3);

/// Memory is a slope between two counts, so that what a node needs without connections is not in it. `series` of the node's numbers
/// says how many there are.
pub(crate) fn slope<T>(
    name: &str,
    node: &Served,
    series: &str,
    mut connect: impl FnMut(usize) -> T,
) {
    let mut held = Vec::with_capacity(MANY);
    let mut grow = |count: usize| {
        while held.len() < count {
            held.push(connect(held.len()));
        }
        until("all are accepted", || {
            metric(node.admin, series) == Some(count as f64)
        });
        resident_bytes(node.pid())
    };
    let few = grow(FEW);
    grow(WATCHED);
    std::thread::sleep(SETTLE);
    let before = process_nanos(node.pid(), Thread::is_at_work);
    std::thread::sleep(WATCH);
    let spent = process_nanos(node.pid(), Thread::is_at_work) - before;
    let many = grow(MANY);
    let each = (many as f64 - few as f64) / (MANY - FEW) as f64;
    tell(&format!("idle/{name}/memory"), each, "bytes/connection");
    let share = spent as f64 / WATCH.as_nanos() as f64 * 100.0;
    let what = format!("idle/{name}/cpu-of-{WATCHED}");
    tell(&what, share, "% of a core");
}
