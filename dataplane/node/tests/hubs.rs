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
use wire::frame::FrameKind;
use wire::ids::{AckMode, ChannelId, PartitionId};
use wire::reason::Reason;
use wire::route::{ChannelParts, Hub, RouteTable, TableParts};

/// A channel in a hub that comes later.
const LATE: &str = "acme/prod/late";
const LATE_HUB: u16 = 9;

/// The plan, with the hub or without.
fn plan(epoch: u64, late: Option<u16>) -> Arc<RouteTable> {
    table(plan_parts(epoch, late))
}

fn plan_parts(epoch: u64, late: Option<u16>) -> TableParts {
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
    parts
}

fn start(data: &Path, table: Arc<RouteTable>) -> NodeHandle {
    let mut config = config(data);
    config.shards = Shards::Count(3);
    try_start(config, table).unwrap()
}

/// A node that nobody asks before a table holds.
fn start_unasked(data: &Path, table: Arc<RouteTable>) -> NodeHandle {
    let mut config = config(data);
    config.shards = Shards::Count(3);
    config.takes_unopenable = true;
    try_start(config, table).unwrap()
}

fn log_folder(data: &Path, number: u16) -> std::path::PathBuf {
    let id = PartitionId::new(LATE_HUB, number);
    data.join(partition::LogId::partition(id).to_string())
}

/// The plan with the hub, in which a sender's key is revoked.
fn revoking(epoch: u64, name: &str) -> Arc<RouteTable> {
    let mut parts = plan_parts(epoch, Some(4));
    let mut endpoints = parts.endpoints.iter_mut();
    let endpoint = endpoints.find(|endpoint| *endpoint.name == *name).unwrap();
    endpoint.keys[0].revoked = true;
    table(parts)
}

/// Read until a frame is rejected, and why.
fn rejected(client: &mut Client) -> (u64, Reason, u32) {
    loop {
        match client.read() {
            Said::Reject(reject) => {
                let notice = reject.notice;
                return (reject.sequence.0, notice.reason, notice.retry_after_ms);
            }
            Said::Ack(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn unopened(node: &NodeHandle) -> Option<f64> {
    metric(node.admin_addr(), "forebay_hubs_unopened")
}

fn apply(node: &NodeHandle, table: Arc<RouteTable>) {
    let tables = node.tables();
    tables.check(&table).unwrap();
    let epoch = tables.apply(table).unwrap();
    assert_eq!(tables.wait(epoch, PATIENCE), [epoch; 3]);
}

/// The node takes messages to the hub, and ends well.
fn takes_late(node: NodeHandle) {
    let mut client = Client::connect(node.listen_addr(), &sender(0));
    client.put_send_to(LATE, 1, b"late");
    client.flush();
    assert_eq!(client.wait_acked(1).partition.hub(), LATE_HUB);
    node.stop();
    node.join().unwrap();
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

#[test]
fn a_node_that_nobody_asks_takes_all_of_a_table_but_the_hub_that_it_cannot_open() {
    let data = tempfile::tempdir().unwrap();
    let node = start_unasked(data.path(), plan(1, None));
    let mut good = Client::connect(node.listen_addr(), &sender(0));
    let mut bad = Client::connect(node.listen_addr(), &sender(1));
    // A file where the third log is to be.
    std::fs::write(log_folder(data.path(), 2), b"in the way").unwrap();
    let tables = node.tables();
    let epoch = tables.apply(plan(2, Some(4))).unwrap();
    assert_eq!(tables.wait(epoch, PATIENCE), [epoch; 3]);
    let epoch = tables.apply(revoking(3, &sender(1))).unwrap();
    assert_eq!(tables.wait(epoch, PATIENCE), [epoch; 3]);
    let said = bad.read();
    assert_eq!(said, Said::Other(FrameKind::Goaway), "its key is revoked");
    good.send(&[b"other hub"]);
    good.wait_acked(1);
    for number in 1..=3 {
        good.put_send_to(LATE, number, b"late");
    }
    good.flush();
    let (number, reason, retry) = rejected(&mut good);
    assert_eq!((number, reason), (1, Reason::HubUnavailable));
    assert!(reason.retryable() && retry > 0, "{retry} ms");
    // Who comes now is told of the channel, and that nothing of it is there.
    let mut late = Client::connect(node.listen_addr(), &sender(0));
    assert_eq!((late.terms().epoch, late.last(LATE)), (3, 0));
    late.put_send_to(LATE, 1, b"late");
    late.flush();
    assert_eq!(rejected(&mut late).1, Reason::HubUnavailable);
    assert_eq!(unopened(&node), Some(1.0));
    let (ready, said) = http(node.admin_addr(), "GET", "/ready");
    assert_eq!(ready, 200, "it serves all others");
    assert!(
        said.contains("hub acme/prod/second is not open: "),
        "{said}"
    );
    assert!(said.contains("p-00090002"), "{said}");
    let [(hub, fault)] = &tables.unopened()[..] else {
        panic!("one hub");
    };
    assert_eq!(
        (&**hub, fault.what.contains("p-00090002")),
        ("acme/prod/second", true)
    );
    // It is tried again by itself, and the same session goes on.
    std::fs::remove_file(log_folder(data.path(), 2)).unwrap();
    until("the hub is open", || tables.unopened().is_empty());
    assert_eq!(unopened(&node), Some(0.0));
    let ack = loop {
        late.put_send_to(LATE, 1, b"late");
        late.flush();
        match late.read() {
            Said::Ack(ack) => break ack,
            Said::Reject(reject) => assert_eq!(reject.notice.reason, Reason::HubUnavailable),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((ack.partition.hub(), ack.sequence.0), (LATE_HUB, 1));
    node.stop();
    node.join().unwrap();
    let node = start(data.path(), plan(4, Some(4)));
    let late = Client::connect(node.listen_addr(), &sender(0));
    assert_eq!(late.last(LATE), 1, "it was stored");
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_node_that_nobody_asks_begins_without_a_hub_that_it_never_had_and_cannot_open() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(log_folder(data.path(), 0), b"in the way").unwrap();
    let node = start_unasked(data.path(), revoking(5, &sender(1)));
    assert_eq!(unopened(&node), Some(1.0));
    let mut client = Client::connect(node.listen_addr(), &sender(0));
    client.send(&[b"other hub"]);
    client.wait_acked(1);
    client.put_send_to(LATE, 1, b"late");
    client.flush();
    assert_eq!(rejected(&mut client).1, Reason::HubUnavailable);
    let refused = Client::try_greet(dial(node.listen_addr()), None, None, &sender(1));
    assert!(refused.is_err(), "its key is revoked");
    // Without the hub there is nothing to wait for, with it there is again.
    let tables = node.tables();
    let epoch = tables.apply(plan(6, None)).unwrap();
    assert_eq!(tables.wait(epoch, PATIENCE), [epoch; 3]);
    assert_eq!(unopened(&node), Some(0.0));
    let epoch = tables.apply(plan(7, Some(4))).unwrap();
    assert_eq!(tables.wait(epoch, PATIENCE), [epoch; 3]);
    assert_eq!(unopened(&node), Some(1.0));
    std::fs::remove_file(log_folder(data.path(), 0)).unwrap();
    until("the hub is open", || tables.unopened().is_empty());
    node.stop();
    node.join().unwrap();
    // Logs that were there are never done without.
    std::fs::remove_dir_all(log_folder(data.path(), 3)).unwrap();
    std::fs::write(log_folder(data.path(), 3), b"in the way").unwrap();
    let mut config = config(data.path());
    config.takes_unopenable = true;
    let refused = try_start(config, plan(7, Some(4))).expect_err("a log is gone");
    assert!(refused.what.contains("p-00090003"), "{refused}");
}

#[test]
fn a_hub_that_waits_is_opened_as_the_next_table_has_it() {
    let data = tempfile::tempdir().unwrap();
    let node = start_unasked(data.path(), plan(1, None));
    std::fs::write(log_folder(data.path(), 3), b"in the way").unwrap();
    let tables = node.tables();
    let epoch = tables.apply(plan(2, Some(4))).unwrap();
    assert_eq!(tables.wait(epoch, PATIENCE), [epoch; 3]);
    assert_eq!(tables.unopened().len(), 1);
    let epoch = tables.apply(plan(3, Some(3))).unwrap();
    assert_eq!(tables.wait(epoch, PATIENCE), [epoch; 3]);
    until("the hub is open", || tables.unopened().is_empty());
    takes_late(node);
}

/// A disk of its own, gone when dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    /// The reason why there is none, if mounting is not permitted here.
    fn mount(at: &Path, bytes: u64) -> Result<Self, String> {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(at)
            .output();
        let mounted = mounted.map_err(|error| format!("mount: {error}"))?;
        match mounted.status.success() {
            true => Ok(Self(at.to_owned())),
            false => Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned()),
        }
    }

    /// Take all the space that is left.
    fn fill_up(&self) -> std::path::PathBuf {
        let at = self.0.join("ballast");
        let mut ballast = std::fs::File::create(&at).unwrap();
        let full = loop {
            if let Err(error) = std::io::Write::write_all(&mut ballast, &[1; 64 << 10]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        at
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmount = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(&self.0)
            .status();
        assert!(unmount.is_ok_and(|unmounted| unmounted.success()));
    }
}

#[test]
fn a_hub_for_which_the_disk_has_no_room_is_served_when_there_is_room() {
    let data = tempfile::tempdir().unwrap();
    let disk = match Disk::mount(data.path(), 96 << 20) {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let node = start_unasked(data.path(), plan(1, None));
    let mut client = Client::connect(node.listen_addr(), &sender(0));
    let ballast = disk.fill_up();
    let tables = node.tables();
    let epoch = tables.apply(revoking(2, &sender(1))).unwrap();
    assert_eq!(tables.wait(epoch, PATIENCE), [epoch; 3]);
    assert_eq!(unopened(&node), Some(1.0));
    client.send(&[b"other hub"]);
    client.wait_acked(1);
    client.put_send_to(LATE, 1, b"late");
    client.flush();
    assert_eq!(rejected(&mut client).1, Reason::HubUnavailable);
    assert!(
        !log_folder(data.path(), 0).exists(),
        "nothing is left behind"
    );
    std::fs::remove_file(ballast).unwrap();
    until("the hub is open", || tables.unopened().is_empty());
    takes_late(node);
}
