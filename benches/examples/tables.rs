//! How long route tables take: compiled, read, live on a node, changed, and what a large change does to those who send meanwhile.
//!
//! `cargo run --release -p forebay-benches --example tables`, with `FOREBAY_TABLE_ENDPOINTS` (1,000,000) endpoints of three grants and
//! `FOREBAY_TABLE_KEYS` (1; 2: one to send and one to receive) keys each, `FOREBAY_TABLE_ED25519=1`: the first of them an Ed25519 key.
//! `FOREBAY_TABLE_STORE=1` puts them into a store as well and changes one through the control plane, which takes some minutes to
//! prepare; `FOREBAY_TABLE_PAIRS` (8) is how many windows are measured with and without large changes, 0: none. What an endpoint hears
//! nobody sends to: a million deliveries of each message are no table's fault.
#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on shall say where"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use benches::thread_cpu;
use client::{Credentials, Message};
use control::compile::compile;
use control::model::{
    Account, Ack, Allow, Channel, Direction, Endpoint, Environment, Grant, Hub, Key, Kind, Model,
    Secret, Thing,
};
use control::seal::MasterKey;
use control::service::{Caller, NodeApplied, Publish, Service, Update, setting};
use control::store::{Act, Change, Store};
use node::config::{LogFormat, NodeConfig};
use node::diagnosis::Diagnosis;
use node::log::Log;
use node::{NodeHandle, Tables};
use wire::ids::EndpointId;
use wire::route::{DeltaParts, RouteTable, TableBytes};
use wire::signature::{SecretKey, SigningKey, verifying_key_to_base64};

const CHANNELS: usize = 64;
const SENDERS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(60);

fn asked(variable: &str, otherwise: usize) -> usize {
    let told = std::env::var(variable).ok();
    told.map_or(otherwise, |told| told.parse().unwrap())
}

fn name(number: usize) -> String {
    format!("acme/prod/device-{number:07}")
}

fn secret(number: usize) -> SecretKey {
    let mut random = [7; 32];
    random[..8].copy_from_slice(&(number as u64).to_le_bytes());
    SecretKey::from_random(random)
}

fn key(number: usize, direction: Direction) -> Key {
    let sends = direction == Direction::Ingress;
    let mut key = Key {
        id: if sends { 1 } else { 2 },
        name: if sends { "primary" } else { "reader" }.to_owned(),
        direction,
        ..Key::default()
    };
    if sends && asked("FOREBAY_TABLE_ED25519", 0) == 1 && number >= SENDERS {
        let pair = SigningKey::from_bytes(&secret(number).random());
        key.kind = Some(Kind::Ed25519);
        key.public = Some(verifying_key_to_base64(&pair.verifying_key()));
    } else {
        key.secret = Some(Secret::new(secret(number).text()));
    }
    key
}

fn endpoint(number: usize) -> Endpoint {
    let grant = |kind: &str, step: usize, allow| Grant {
        channel: format!("{kind}-{}", (number + step) % CHANNELS),
        allow,
        ..Grant::default()
    };
    let keys = [Direction::Ingress, Direction::Egress];
    let keys = keys.into_iter().take(asked("FOREBAY_TABLE_KEYS", 1));
    Endpoint {
        name: name(number),
        keys: keys.map(|direction| key(number, direction)).collect(),
        grants: vec![
            grant("channel", 0, Allow::Send),
            grant("channel", 1, Allow::Send),
            grant("orders", 0, Allow::Receive),
        ],
        ..Endpoint::default()
    }
}

fn model(endpoints: usize) -> Model {
    Model {
        queue_groups: Some(1),
        accounts: vec![Account {
            name: "acme".to_owned(),
            ..Account::default()
        }],
        environments: vec![Environment {
            name: "acme/prod".to_owned(),
        }],
        hubs: vec![Hub {
            name: "acme/prod/default".to_owned(),
            partitions: Some(4),
            ack: Some(Ack::Local),
            ..Hub::default()
        }],
        channels: (0..2 * CHANNELS)
            .map(|number| Channel {
                name: match number.checked_sub(CHANNELS) {
                    None => format!("acme/prod/channel-{number}"),
                    Some(number) => format!("acme/prod/orders-{number}"),
                },
                ..Channel::default()
            })
            .collect(),
        endpoints: (0..endpoints).map(endpoint).collect(),
        ..Model::default()
    }
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

/// Hand a table over and wait until it is live; how long that took.
fn live(tables: &Tables, table: &Arc<RouteTable>) -> Duration {
    let begin = Instant::now();
    tables.apply(Arc::clone(table)).unwrap();
    let epochs = tables.wait(table.epoch(), PATIENCE);
    assert!(epochs.iter().all(|epoch| *epoch >= table.epoch()));
    begin.elapsed()
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

/// So many endpoints, each with something else about it than before.
fn altered(table: &RouteTable, numbers: std::ops::Range<usize>) -> Vec<wire::route::Endpoint> {
    let of = |number| {
        let mut parts = table
            .endpoint(EndpointId::of(&name(number)))
            .unwrap()
            .to_parts();
        parts.queue.messages_max ^= 1;
        parts
    };
    numbers.map(of).collect()
}

/// The change of so many endpoints, encoded.
fn change(table: &RouteTable, numbers: std::ops::Range<usize>) -> Vec<u8> {
    let parts = DeltaParts {
        epoch: table.epoch() + 1,
        set: altered(table, numbers),
        ..DeltaParts::default()
    };
    table.change(parts).unwrap().encode().to_vec()
}

/// The table after a change that came as bytes.
fn taken(table: &RouteTable, bytes: Vec<u8>) -> Arc<RouteTable> {
    let delta = wire::route::Delta::read(TableBytes::from(bytes)).unwrap();
    Arc::new(table.after(&delta).unwrap())
}

fn after(table: &RouteTable, numbers: std::ops::Range<usize>) -> (Arc<RouteTable>, Duration) {
    let begin = Instant::now();
    let next = taken(table, change(table, numbers));
    (next, begin.elapsed())
}

/// Those who send, one message at a time each, until told to end.
struct Load {
    ending: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    acked: crossbeam_channel::Receiver<Duration>,
}

fn load(address: std::net::SocketAddr, first: usize) -> Load {
    let ending = Arc::new(AtomicBool::new(false));
    let (tell, acked) = crossbeam_channel::unbounded();
    let own = Arc::clone(&ending);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let local = tokio::task::LocalSet::new();
        for number in first..first + SENDERS {
            let (own, tell) = (Arc::clone(&own), tell.clone());
            local.spawn_local(async move {
                let credentials =
                    Credentials::key(&name(number), 1, secret(number).text()).unwrap();
                let connection = client::connect(address.to_string(), credentials)
                    .await
                    .unwrap();
                let sender = connection.sender().unwrap();
                let channel = format!("acme/prod/channel-{}", number % CHANNELS);
                while !own.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let ticket = sender.send(&channel, Message::new("21.5")).await.unwrap();
                    ticket.await.unwrap();
                    tell.send(begin.elapsed()).unwrap();
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
                sender.close().await.unwrap();
            });
        }
        runtime.block_on(local);
    });
    Load {
        ending,
        threads: vec![thread],
        acked,
    }
}

impl Load {
    /// The latency that one in a hundred exceeds, and how many there were, while this goes on.
    fn during(&self, work: impl FnOnce()) -> (Duration, usize) {
        self.acked.try_iter().for_each(drop);
        work();
        let mut seen: Vec<Duration> = self.acked.try_iter().collect();
        seen.sort_unstable();
        assert!(!seen.is_empty(), "nothing was acknowledged");
        (seen[seen.len() * 99 / 100], seen.len())
    }
}

const WINDOW: Duration = Duration::from_secs(4);

/// Large changes, one a second, beside those who send.
fn ingest(
    tables: &Tables,
    address: std::net::SocketAddr,
    mut table: Arc<RouteTable>,
    entries: usize,
) {
    let load = load(address, 0);
    std::thread::sleep(Duration::from_secs(2));
    let count = table.endpoint_count();
    let (mut ratios, mut applied) = (Vec::new(), Vec::new());
    let mut ready = VecDeque::new();
    for pair in 0..asked("FOREBAY_TABLE_PAIRS", 8) {
        // They are made before, as a control plane elsewhere does: what is measured is what a node does with them.
        for _ in 0..4 {
            let bytes = change(&table, SENDERS..SENDERS + entries.min(count - SENDERS));
            let base = Arc::clone(&table);
            table = Arc::new(taken(&table, bytes.clone()).compacted());
            ready.push_back((base, bytes));
        }
        let calm = || load.during(|| std::thread::sleep(WINDOW));
        let mut busy = || {
            load.during(|| {
                let end = Instant::now() + WINDOW;
                while let Some((base, bytes)) = ready.pop_front() {
                    let begin = Instant::now();
                    live(tables, &taken(&base, bytes));
                    applied.push(begin.elapsed());
                    std::thread::sleep(Duration::from_millis(900));
                }
                std::thread::sleep(end.saturating_duration_since(Instant::now()));
            })
        };
        let ((calm, busy), order) = match pair % 2 {
            0 => {
                let calm = calm();
                ((calm, busy()), "calm first")
            }
            _ => {
                let busy = busy();
                ((calm(), busy), "changes first")
            }
        };
        let micros = |took: Duration| took.as_secs_f64() * 1e6;
        println!(
            "p99 of acks: {:.0} us of {} calm, {:.0} us of {} beside changes ({order})",
            micros(calm.0),
            calm.1,
            micros(busy.0),
            busy.1
        );
        ratios.push(micros(busy.0) / micros(calm.0));
    }
    load.ending.store(true, Ordering::Relaxed);
    // Whoever was refused anything has panicked.
    load.threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    ratios.sort_by(f64::total_cmp);
    if ratios.is_empty() {
        return;
    }
    println!(
        "p99 beside changes of {entries} entries against calm: median ratio {:.3}, {ratios:.3?}",
        ratios[ratios.len() / 2]
    );
    if !applied.is_empty() {
        told("such a change read, applied and live", applied);
    }
}

struct Here(Tables);

impl Publish for Here {
    fn check(&self, table: &RouteTable) -> Result<(), Diagnosis> {
        self.0.check(table)
    }

    fn publish(&self, update: Update) {
        self.0.apply(update.table).unwrap();
    }

    fn applied(&self, epoch: u64, within: Duration) -> Vec<NodeApplied> {
        let epochs = self.0.wait(epoch, within);
        vec![NodeApplied {
            node: "here".to_owned(),
            shards: epochs.len(),
            applied: epochs.iter().filter(|has| **has >= epoch).count(),
        }]
    }
}

/// Change endpoints one by one through the control plane, its store among it.
fn through_control(folder: &std::path::Path, tables: Tables, endpoints: usize) {
    let store = Store::open(&folder.join("store"), Arc::new(MasterKey::new(&[7; 32]))).unwrap();
    let mut things: Vec<Thing> = model(endpoints).into_things().collect();
    timed("all of it stored", || {
        while !things.is_empty() {
            let some = things.drain(..things.len().min(100_000));
            let mut changes: Vec<Change> = some.map(|thing| setting(thing, None)).collect();
            let act = Act {
                actor: "local",
                at_seconds: 0,
                action: "import",
            };
            store.commit(&act, &mut changes).unwrap();
        }
    });
    let begin = Instant::now();
    let clock = Box::new(move || begin.elapsed().as_secs());
    let publish = Box::new(Here(tables.clone()));
    let service = timed("control started from its store", || {
        let service = Service::start(store, publish, clock).unwrap();
        let version = service.catalog().version;
        while tables.wait(0, PATIENCE).iter().any(|has| *has != version) {
            std::thread::sleep(Duration::from_millis(1));
        }
        service
    });
    let mut took = Vec::new();
    for number in 0..100 {
        let begin = Instant::now();
        let all = Caller::local();
        let endpoint = name(SENDERS + number);
        let outcome = service
            .set_revoked(&all, &endpoint, "primary", true, None)
            .unwrap();
        assert!(service.wait(&outcome, PATIENCE).complete);
        took.push(begin.elapsed());
    }
    told("a key revoked through control and its store, live", took);
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

    let all = model(endpoints);
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
    ingest(&tables, node.listen_addr(), newest, entries);
    if asked("FOREBAY_TABLE_STORE", 0) == 1 {
        through_control(folder.path(), tables, endpoints);
    }
    node.stop();
    node.join().unwrap();
}
