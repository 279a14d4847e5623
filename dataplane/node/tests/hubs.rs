//! Hubs that come while a node serves: it opens their logs beside its loops, and what it cannot open it refuses as a whole.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use node::NodeHandle;
use node::placement::Shards;
use support::*;
use wire::ids::{AckMode, ChannelId, PartitionId};
use wire::route::{ChannelParts, Hub, RouteTable};

/// A channel in a hub that comes later.
const LATE: &str = "acme/prod/late";
const LATE_HUB: u16 = 9;

/// The plan, with the hub or without.
fn plan(epoch: u64, late: Option<u16>) -> Arc<RouteTable> {
    let mut parts = parts(AckMode::Durable, 2);
    parts.epoch = epoch;
    parts.queue_groups = 3;
    if let Some(partitions) = late {
        parts.hubs.push(Hub {
            id: LATE_HUB,
            name: "acme/prod/second".into(),
            partitions,
            segment_bytes: 2 << 20,
            ..parts.hubs[0].clone()
        });
        parts.channels.push(ChannelParts {
            id: ChannelId::of(LATE),
            name: LATE.into(),
            hub: 1,
            priority: Default::default(),
        });
        for endpoint in &mut parts.endpoints {
            for grants in [&mut endpoint.send, &mut endpoint.receive] {
                let more = grants.first().cloned().map(|mut grant| {
                    grant.channel = ChannelId::of(LATE);
                    grant
                });
                grants.extend(more);
            }
        }
    }
    table(parts)
}

fn start(data: &Path, table: Arc<RouteTable>) -> NodeHandle {
    let mut config = config(data);
    config.shards = Shards::Count(3);
    try_start(config, table).unwrap()
}

fn apply(node: &NodeHandle, table: Arc<RouteTable>) {
    let tables = node.tables();
    tables.check(&table).unwrap();
    let epoch = tables.apply(table).unwrap();
    assert_eq!(tables.wait(epoch, PATIENCE), [epoch; 3]);
}

/// Send one frame after the other until told to stop; how many were acked.
fn load(mut client: Client, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        client.send(&[b"load"]);
        sent += 1;
        client.wait_acked(sent);
    }
    sent
}

#[test]
fn a_hub_that_comes_under_load_takes_messages_of_open_sessions_and_keeps_them_over_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), plan(1, None));
    let stop = AtomicBool::new(false);
    let loaded = std::thread::scope(|scope| {
        let client = Client::connect(node.listen_addr(), &sender(1));
        let load = scope.spawn(|| load(client, &stop));
        let mut client = Client::connect(node.listen_addr(), &sender(0));
        client.send(&[b"before"]);
        client.wait_acked(1);
        apply(&node, plan(2, Some(5)));
        for number in 1..=50 {
            client.put_send_to(LATE, number, format!("late {number}").as_bytes());
        }
        client.flush();
        client.wait_acked(50);
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    node.stop();
    node.join().unwrap();
    // With other owners, as hubs are dealt out anew at a start.
    let node = start(data.path(), plan(3, Some(5)));
    let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
    receiver.fetch(100_000);
    let (_, bodies) = receiver.take(usize::try_from(loaded).unwrap() + 51);
    let late = bodies.iter().filter(|body| body.starts_with(b"late "));
    let want = (1..=50).map(|number| format!("late {number}").into_bytes());
    assert!(late.cloned().eq(want), "each once and in order");
    let count = |body: &[u8]| bodies.iter().filter(|one| *one == body).count();
    assert_eq!((count(b"before"), count(b"load") as u64), (1, loaded));
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_hub_that_cannot_be_opened_is_refused_with_its_log_and_what_was_in_force_stays() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), plan(1, None));
    let log = |number| {
        let id = PartitionId::new(LATE_HUB, number);
        data.path()
            .join(partition::LogId::partition(id).to_string())
    };
    // A file where the third log is to be.
    std::fs::write(log(2), b"in the way").unwrap();
    let new = plan(2, Some(4));
    let tables = node.tables();
    for _ in 0..2 {
        let refused = tables.check(&new).expect_err("there is a file in the way");
        assert!(refused.what.contains("p-00090002"), "{refused}");
        tables
            .apply(Arc::clone(&new))
            .expect_err("for the same reason");
        assert!(!log(0).exists(), "and nothing is left behind");
    }
    let mut client = Client::connect(node.listen_addr(), &sender(0));
    assert_eq!(client.terms().epoch, 1);
    client.send(&[b"x"]);
    client.wait_acked(1);
    assert_eq!(metric(node.admin_addr(), "forebay_config_stale"), Some(1.0));
    std::fs::remove_file(log(2)).unwrap();
    apply(&node, new);
    client.put_send_to(LATE, 1, b"late");
    client.flush();
    let ack = client.wait_acked(1);
    assert_eq!(ack.partition.hub(), LATE_HUB);
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_hub_with_other_partitions_than_it_was_made_with_is_refused_also_when_it_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), plan(1, None));
    apply(&node, plan(2, Some(4)));
    apply(&node, plan(3, None));
    let tables = node.tables();
    let refused = tables.check(&plan(4, Some(5))).expect_err("it has four");
    assert_eq!(refused.code, node::diagnosis::PARTITIONS_CHANGED);
    apply(&node, plan(4, Some(4)));
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_hub_that_takes_the_id_of_another_is_refused_also_when_that_one_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), plan(1, None));
    apply(&node, plan(2, Some(4)));
    apply(&node, plan(3, None));
    let mut parts = parts(AckMode::Durable, 2);
    (parts.epoch, parts.queue_groups) = (4, 3);
    parts.hubs.push(Hub {
        id: LATE_HUB,
        name: "other/prod/hub".into(),
        partitions: 4,
        ..parts.hubs[0].clone()
    });
    let refused = node.tables().check(&table(parts));
    let refused = refused.expect_err("its logs are acme's");
    assert_eq!(refused.code, node::diagnosis::HUB_ANOTHERS, "{refused}");
    assert!(refused.needed.contains("acme/prod/second"), "{refused}");
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_table_with_the_hubs_of_before_is_taken_without_a_look_at_the_disk() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), plan(1, None));
    std::fs::write(data.path().join("format.toml"), "not a word of it").unwrap();
    apply(&node, plan(2, None));
    let refused = node.tables().check(&plan(3, Some(4)));
    assert_eq!(
        refused.expect_err("a hub is new").code,
        node::diagnosis::FORMAT_UNREADABLE
    );
    node.stop();
    node.join().unwrap();
}
