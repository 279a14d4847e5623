//! How long route tables take: compiled, read, live on a node, changed, and what a large change does to those who send meanwhile.
//!
//! `cargo run --release -p forebay-benches --example tables`, with `FOREBAY_TABLE_ENDPOINTS` (1,000,000) endpoints of three grants and
//! `FOREBAY_TABLE_KEYS` (1; 2: one to send and one to receive) keys each, `FOREBAY_TABLE_ED25519=1`: the first of them an Ed25519 key.
//! `FOREBAY_TABLE_STORE=1` puts them into a store as well and changes one through the control plane, which takes some minutes to
//! prepare; `FOREBAY_TABLE_PAIRS` (8) is how often windows with and without large changes are measured, 0: never, and `TMPDIR=/dev/shm` keeps
//! the disk out of them. What an endpoint hears nobody sends to: a million deliveries of each message are no table's fault.
#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on shall say where"
)]

mod change;
mod ingest;
mod load;
mod model;
mod stored;
mod tidied;

use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::thread_cpu;
use control::compile::compile;
use control::model::Endpoint;
use node::NodeHandle;
use node::config::{LogFormat, NodeConfig};
use node::diagnosis::Diagnosis;
use node::log::Log;
use wire::route::{RouteTable, TableBytes};

use change::{after, live};
use ingest::ingest;
use model::{SENDERS, model};
use stored::through_control;

const PATIENCE: Duration = Duration::from_secs(60);

fn asked(variable: &str, otherwise: usize) -> usize {
    let told = std::env::var(variable).ok();
    told.map_or(otherwise, |told| told.parse().unwrap())
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (begin, cpu) = (Instant::now(), thread_cpu());
    let made = work();
    let (took, cpu) = (begin.elapsed(), thread_cpu() - cpu);
    let millis = |took: Duration| took.as_secs_f64() * 1_000.0;
    println!(
        "{what}: {:.1} ms ({:.1} of processor)",
        millis(took),
        millis(cpu)
    );
    made
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn start(folder: &std::path::Path, table: RouteTable) -> NodeHandle {
    let config = NodeConfig::new(folder.join("data"));
    let log = Arc::new(Log::new(LogFormat::Text, Box::new(std::io::sink())));
    let reload = || -> Result<Arc<RouteTable>, Diagnosis> { unreachable!("nobody asks") };
    node::start_logged(config, Arc::new(table), Box::new(reload), log).unwrap()
}

fn told(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let millis = |at: usize| took[at].as_secs_f64() * 1_000.0;
    let (half, last) = (took.len() / 2, took.len() - 1);
    println!(
        "{what}: median {:.2} ms, longest {:.2} ms of {}",
        millis(half),
        millis(last),
        took.len()
    );
}

/// Read the table in a process that has nothing else: what it grew is what a table takes.
fn read_alone(folder: &std::path::Path, bytes: &[u8], endpoints: usize) {
    let path = folder.join("table");
    std::fs::write(&path, bytes).unwrap();
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let alone = alone.env(ALONE, &path).status().unwrap();
    assert!(alone.success(), "of {endpoints} endpoints");
}

const ALONE: &str = "FOREBAY_TABLE_ALONE";

fn alone(path: &std::ffi::OsStr) {
    let before = resident_bytes();
    let bytes = std::fs::read(path).unwrap();
    let table = timed("in a process of its own: read", || {
        RouteTable::read(TableBytes::from(bytes)).unwrap()
    });
    let grew = (resident_bytes() - before) / table.endpoint_count();
    println!("the same: it grew by {grew} bytes for each endpoint");
}

fn main() {
    if let Some(path) = std::env::var_os(ALONE) {
        return alone(&path);
    }
    let endpoints = asked("FOREBAY_TABLE_ENDPOINTS", 1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let small = compile(&model(SENDERS), 1, None).unwrap().table;
    let node = start(folder.path(), small);
    let tables = node.tables();

    let mut all = model(endpoints);
    if asked("FOREBAY_TABLE_ED25519", 0) == 1 {
        timed("compiled with public keys that nobody looked at", || {
            drop(compile(&all, 2, None).unwrap());
        });
        timed("looked at public keys", || {
            all.endpoints.iter_mut().for_each(Endpoint::look);
        });
    }
    let compiled = timed("compiled", || compile(&all, 2, None).unwrap().table);
    drop(all);
    let bytes = compiled.encode().to_vec();
    println!(
        "{endpoints} endpoints: {} bytes each encoded, {} in memory as counted",
        bytes.len() / endpoints,
        compiled.memory_bytes() / endpoints
    );
    drop(compiled);
    read_alone(folder.path(), &bytes, endpoints);
    let (begin, moved) = (Instant::now(), bytes.clone());
    let table = timed("read", || {
        RouteTable::read(TableBytes::from(moved)).unwrap()
    });
    let table = Arc::new(table);
    live(&tables, &table);
    println!(
        "snapshot copied, read and live: {:.1} ms",
        begin.elapsed().as_secs_f64() * 1_000.0
    );

    let (mut newest, mut made, mut applied) = (table, Vec::new(), Vec::new());
    for number in 0..100 {
        let (next, took) = after(&newest, number + SENDERS..number + SENDERS + 1);
        made.push(took);
        applied.push(took + live(&tables, &next));
        newest = next;
    }
    told("a change of one made, encoded, read and applied", made);
    told("the same, live", applied);
    let entries = 100_000.min(endpoints - SENDERS);
    let (next, took) = after(&newest, SENDERS..SENDERS + entries);
    println!(
        "a change of {entries} made, encoded, read and applied: {:.1} ms",
        took.as_secs_f64() * 1_000.0
    );
    println!(
        "the same, handed over and live: {:.1} ms",
        live(&tables, &next).as_secs_f64() * 1_000.0
    );
    let newest = timed("made one with its base", || Arc::new(next.compacted()));
    drop(next);
    live(&tables, &newest);
    let newest = tidied::import(&tables, newest);
    let newest = Arc::new(newest.compacted());
    live(&tables, &newest);
    ingest(&tables, node.listen_addr(), newest, entries);
    if asked("FOREBAY_TABLE_STORE", 0) == 1 {
        through_control(folder.path(), tables, endpoints);
    }
    node.stop();
    node.join().unwrap();
}
