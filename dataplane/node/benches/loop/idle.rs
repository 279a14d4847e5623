//! Connections that say nothing: what each costs in memory, and what ten thousand cost in time.

use std::net::TcpStream;
use std::time::Duration;

use wire::ids::AckMode;

use crate::measure::{process_nanos, resident_bytes};
use crate::serve::{Served, Setup};
use crate::support::{Client, metric, sender, until};
use crate::tell;

const FEW: usize = 1_000;
const MANY: usize = 15_000;
const WATCHED: usize = 10_000;
const WATCH: Duration = Duration::from_secs(20);

/// Memory is a slope between two counts, so that what a node needs without connections is not in it.
pub(crate) fn idle() {
    slope("silent", |node, _| TcpStream::connect(node.listen).unwrap());
    slope("session", |node, number| {
        Client::connect(node.listen, &sender(number)).stream
    });
    slope("tunnel", |node, number| {
        Client::connect_tls(node.listen_tls, &node.trusts, &sender(number)).stream
    });
}

fn slope(name: &str, connect: impl Fn(&Served, usize) -> TcpStream) {
    let node = Served::start(Setup {
        ack: AckMode::Local,
        senders: MANY,
        partitions: 1,
        cpu: 0,
    });
    let mut held = Vec::with_capacity(MANY);
    let mut grow = |count: usize| {
        while held.len() < count {
            held.push(connect(&node, held.len()));
        }
        until("all are accepted", || {
            metric(node.admin, "forebay_connections{protocol=\"tcp\"}") == Some(count as f64)
        });
        resident_bytes(node.pid())
    };
    let few = grow(FEW);
    grow(WATCHED);
    let before = process_nanos(node.pid());
    std::thread::sleep(WATCH);
    let spent = process_nanos(node.pid()) - before;
    let many = grow(MANY);
    let each = (many as f64 - few as f64) / (MANY - FEW) as f64;
    tell(&format!("idle/{name}/memory"), each, "bytes/connection");
    let share = spent as f64 / WATCH.as_nanos() as f64 * 100.0;
    tell(
        &format!("idle/{name}/cpu-of-{WATCHED}"),
        share,
        "% of a core",
    );
}
