//! A control plane apart from its nodes, each in a process of its own: revocations and rotations under load, what ends by the clock, a
//! control plane that is killed or says nothing, nodes that are cut off.

mod bare;
mod cast;
mod cut_off;
mod expiry;
mod hubs;
mod nodes;
mod plan;
mod rotation;
mod senders;
mod traffic;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use senders::{Ended, Others, open, send, until_it_ends};
use world::{Party, Process, World, until};

/// The key was withdrawn while the session was open; and what who comes back with it is told.
const WITHDRAWN: [u16; 2] = [1706, 1106];
/// The node takes nothing without its control plane.
const STALE: u16 = 1708;
/// For how long a client tries again that is to come back.
const PATIENT: Duration = Duration::from_secs(120);
/// Sessions at once whose turn comes.
const AT_ONCE: usize = 10;

fn count(name: &str, default: usize) -> usize {
    let set = std::env::var(name);
    set.map_or(default, |text| text.parse().expect("a number"))
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
}

/// Milliseconds at so many hundredths of the sorted values.
fn at(values: &mut [f64], hundredths: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() * hundredths).div_ceil(100);
    values.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// What revocations came to.
#[derive(Default)]
struct Figures {
    /// From the command to the last ACK, and to the end of each session, and to the answer that all shards have it: milliseconds.
    last: Vec<f64>,
    ended: Vec<f64>,
    applied: Vec<f64>,
    /// Sessions that ended otherwise than they should.
    strange: Vec<u16>,
}

impl Figures {
    fn add(&mut self, began: Instant, ended: &Ended) {
        let since = |moment: Instant| moment.saturating_duration_since(began).as_secs_f64() * 1e3;
        self.last.push(ended.last.map_or(0.0, since));
        self.ended.push(since(ended.at));
        if !WITHDRAWN.contains(&ended.code) {
            self.strange.push(ended.code);
        }
    }

    fn print(&mut self, what: &str) {
        for (name, values) in [
            ("last frame accepted", &mut self.last),
            ("session ended", &mut self.ended),
            ("applied on all shards", &mut self.applied),
        ] {
            let count = values.len();
            let [p50, p99, most] = [50, 99, 100].map(|hundredths| at(values, hundredths));
            println!(
                "{what}: {name} after {p50:.1} ms p50, {p99:.1} p99, {most:.1} at most ({count})"
            );
        }
    }
}

/// Revoke the keys of these parties, one after the other, while they send to every node.
fn revoke(world: &World, nodes: &[String], parties: &[Party], figures: &mut Figures) {
    let runtime = runtime();
    for some in parties.chunks(AT_ONCE) {
        let sent = Arc::new(AtomicU64::new(0));
        let mut sessions = Vec::new();
        for party in some {
            let each: Vec<_> = nodes
                .iter()
                .map(|node| {
                    let opened = open(node, party, Duration::ZERO);
                    let sender = runtime.block_on(opened).expect("it may");
                    runtime.spawn(until_it_ends(sender, Arc::clone(&sent)))
                })
                .collect();
            sessions.push((party, each));
        }
        let all = (some.len() * nodes.len()) as u64;
        until("all of them send", || sent.load(Ordering::Relaxed) >= all);
        for (party, each) in sessions {
            let began = Instant::now();
            let done = world.order("revoke", party, "?wait=60s");
            assert_eq!(done["progress"]["complete"], true, "{done}");
            let told = done["progress"]["milliseconds"].as_f64();
            figures.applied.push(told.expect("a number"));
            for session in each {
                let ended = runtime.block_on(session).expect("it does not panic");
                figures.add(began, &ended);
            }
        }
    }
}

/// Revoke so many keys while others keep every node busy; in the middle of it `midway` happens.
fn under_load(
    mut world: World,
    nodes: &[&Process],
    what: &str,
    midway: impl FnOnce(&mut World, &Others),
) -> World {
    let revocations = count("FOREBAY_FLEET_REVOCATIONS", 12);
    let senders = count("FOREBAY_FLEET_SENDERS", 2);
    assert_eq!(world.parties.len(), revocations + senders);
    let addresses: Vec<String> = nodes.iter().map(|node| node.listen()).collect();
    let (others, runtime) = (Arc::new(Others::default()), runtime());
    let all = world.parties.clone();
    let (busy, turn) = all.split_at(senders);
    let tasks: Vec<_> = busy
        .iter()
        .flat_map(|party| addresses.iter().map(move |node| (party, node)))
        .map(|(party, node)| runtime.spawn(Arc::clone(&others).send(node.clone(), party.clone())))
        .collect();
    until("the others send", || {
        others.acked.load(Ordering::Relaxed) > 1_000
    });
    let began = Instant::now();
    let mut figures = Figures::default();
    let (first, second) = turn.split_at(revocations / 2);
    revoke(&world, &addresses, first, &mut figures);
    midway(&mut world, &others);
    revoke(&world, &addresses, second, &mut figures);
    let took = began.elapsed();
    others.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        runtime.block_on(task).expect("it does not panic");
    }
    figures.print(what);
    let acked = others.acked.load(Ordering::Relaxed);
    let failed = others.failed.load(Ordering::Relaxed);
    println!(
        "{what}: {revocations} revocations in {:.1} s; others had {acked} frames acked, {failed} failed",
        took.as_secs_f64()
    );
    for (node, address) in nodes.iter().zip(&addresses) {
        let applied = node.metric("forebay_route_table_revision ");
        println!("{what}: node {address} has table {applied:?}");
    }
    println!(
        "replay: FOREBAY_FLEET_REVOCATIONS={revocations} FOREBAY_FLEET_SENDERS={senders} cargo test -p forebay-cli --test fleet revoked -- --nocapture"
    );
    assert_eq!(failed, 0, "nobody else notices");
    assert_eq!(figures.strange, [0; 0], "every session ends for its key");
    world
}

fn parties() -> usize {
    count("FOREBAY_FLEET_REVOCATIONS", 12) + count("FOREBAY_FLEET_SENDERS", 2)
}

#[test]
fn keys_are_revoked_under_load_on_a_node_with_its_own_control_plane_and_nobody_else_notices() {
    let (world, node) = World::alone(parties());
    under_load(world, &[&node], "one node", |_, _| {});
}

#[test]
fn keys_are_revoked_under_load_on_three_nodes_whose_control_plane_is_killed_meanwhile() {
    let names = ["north", "south", "west"];
    let world = World::new(parties(), &names);
    let nodes = names.map(|name| world.start_node(name, ""));
    world.until_all_are_current();
    let world = under_load(world, &nodes.each_ref(), "three nodes", |world, others| {
        world.kill_control();
        let before = others.acked.load(Ordering::Relaxed);
        until("they go on without it", || {
            others.acked.load(Ordering::Relaxed) > before + 1_000
        });
        world.start_control();
        world.until_all_are_current();
        for node in world.nodes() {
            assert_eq!(
                node["snapshots"], 0,
                "what it has is not sent again: {node}"
            );
        }
    });
    let second = count("FOREBAY_FLEET_REVOCATIONS", 12).div_ceil(2);
    for node in world.nodes() {
        let sent = (node["snapshots"].as_u64(), node["deltas"].as_u64());
        assert_eq!(
            sent,
            (Some(0), Some(second as u64)),
            "changes go on: {node}"
        );
    }
}

#[test]
fn what_was_revoked_stays_so_on_a_node_that_starts_while_control_is_away() {
    let mut world = World::new(3, &["north", "south"]);
    let nodes = ["north", "south"].map(|name| world.start_node(name, ""));
    world.until_all_are_current();
    let told = world.good(&[
        "keys",
        "revoke",
        "acme/prod/party-0",
        "ingress-primary",
        "--wait",
    ]);
    assert!(
        told.contains("applied on 2/2 nodes, 4/4 shards in "),
        "{told}"
    );
    world.kill_control();
    let [north, _south] = nodes;
    drop(north);
    let north = world.start_node("north", "");
    let runtime = runtime();
    let [revoked, other, _] = &world.parties[..] else {
        unreachable!("there are three")
    };
    let refused = runtime.block_on(open(&north.listen(), revoked, Duration::ZERO));
    assert!(refused.is_err(), "it is revoked in the table on disk");
    let session = runtime.block_on(open(&north.listen(), other, PATIENT));
    let session = session.expect("it may");
    runtime.block_on(send(&session)).expect("the node serves");
    assert!(world.logs(&["north"]).contains("table_kept"));
    // What is changed when control is back comes to both.
    world.start_control();
    world.until_all_are_current();
    let told = world.good(&[
        "keys",
        "revoke",
        "acme/prod/party-1",
        "ingress-primary",
        "--wait",
    ]);
    assert!(
        told.contains("applied on 2/2 nodes, 4/4 shards in "),
        "{told}"
    );
    assert!(
        runtime.block_on(send(&session)).is_err(),
        "not one frame more"
    );
    let listed = world.good(&["node", "ls"]);
    assert!(
        listed.contains("north") && listed.contains("south"),
        "{listed}"
    );
    let shown = world.good(&["node", "show", "south"]);
    assert!(shown.contains("connected"), "{shown}");
    // One that is away is waited for, and told.
    drop(north);
    let (told, fault) = world.bad(&[
        "keys",
        "restore",
        "acme/prod/party-1",
        "ingress-primary",
        "--wait",
        "1s",
    ]);
    assert!(told.contains("applied on 1/2 nodes"), "{told}");
    let said = ["FB-4615", "without it: north"];
    assert!(said.iter().all(|one| fault.contains(one)), "{fault}");
}

#[test]
fn a_node_that_is_cut_off_for_longer_than_its_bound_serves_on_if_it_was_told_to_keep() {
    let runtime = runtime();
    let mut world = World::new(1, &["north"]);
    let node = world.start_node("north", "stale_after = \"1s\"\nwhen_stale = \"keep\"");
    world.until_all_are_current();
    let session = runtime.block_on(open(&node.listen(), &world.parties[0], Duration::ZERO));
    let session = session.expect("it may");
    world.kill_control();
    until("its table is stale", || {
        node.metric("forebay_table_stale ") == Some(1.0)
    });
    let (status, text) = node.page("/ready");
    assert_eq!(
        (status, text.starts_with("ready, stale; control away")),
        (200, true),
        "{text}"
    );
    runtime.block_on(send(&session)).expect("it serves on");
    runtime
        .block_on(open(&node.listen(), &world.parties[0], Duration::ZERO))
        .expect("and takes new ones");
    until("the log says so", || {
        world.logs(&["north"]).contains("table_stale")
    });
    world.start_control();
    until("its table is fresh", || {
        node.metric("forebay_table_stale ") == Some(0.0)
            && node.metric("forebay_control_connected ") == Some(1.0)
    });
    until("the log says so", || {
        world.logs(&["north"]).contains("table_fresh")
    });
}

#[test]
fn a_node_that_is_cut_off_for_longer_than_its_bound_takes_nothing_if_it_was_told_to_refuse() {
    let runtime = runtime();
    let mut world = World::new(1, &["north"]);
    let refuse = "stale_after = \"1s\"\nwhen_stale = \"refuse\"";
    let node = world.start_node("north", refuse);
    world.until_all_are_current();
    let session = runtime.block_on(open(&node.listen(), &world.parties[0], PATIENT));
    let session = session.expect("it may");
    runtime.block_on(send(&session)).expect("it serves");
    world.kill_control();
    until("it is not ready", || node.page("/ready").0 == 503);
    let (_, text) = node.page("/ready");
    assert!(
        text.starts_with("stale: takes nothing; control away"),
        "{text}"
    );
    let refused = |node: &Process, world: &World| {
        let listen = node.listen();
        let opened = open(&listen, &world.parties[0], Duration::ZERO);
        runtime
            .block_on(opened)
            .err()
            .map(|error| error.diagnosis().code)
    };
    until("nobody is let in", || refused(&node, &world) == Some(STALE));
    // Who was in is told to come back, and what it sends meanwhile is not lost.
    let waits = runtime.spawn(async move { send(&session).await });
    world.start_control();
    until("it is ready", || node.page("/ready").0 == 200);
    let sent = runtime.block_on(waits).expect("it does not panic");
    sent.expect("it is taken in the end");
    // One that starts too late takes nothing from its first moment.
    world.kill_control();
    until("it is not ready", || node.page("/ready").0 == 503);
    drop(node);
    let node = world.start_node("north", refuse);
    assert_eq!(refused(&node, &world), Some(STALE));
    assert_eq!(node.page("/ready").0, 503);
    world.start_control();
    until("it is ready", || node.page("/ready").0 == 200);
    let again = runtime.block_on(open(&node.listen(), &world.parties[0], PATIENT));
    let again = again.expect("it serves again");
    runtime.block_on(send(&again)).expect("it serves again");
}
