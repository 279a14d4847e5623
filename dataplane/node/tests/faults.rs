//! What keeps a node from starting, each with its own code and a remedy, and what does not break it while it runs.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use node::config::NodeConfig;
use node::diagnosis::{Diagnosis, explain};
use support::*;
use wire::ids::AckMode;
use wire::route::{RouteTable, TableParts};

fn refused(config: NodeConfig, parts: TableParts) -> Diagnosis {
    let fault = try_start(config, table(parts)).expect_err("it must not start");
    assert!(
        explain(fault.code).is_some(),
        "FB-{} can be explained",
        fault.code
    );
    for part in [&fault.what, &fault.seen, &fault.needed, &fault.remedy] {
        assert!(!part.is_empty(), "{fault}");
    }
    fault
}

fn local(senders: usize) -> TableParts {
    parts(AckMode::Local, senders)
}

#[test]
fn a_taken_port_is_named_with_its_setting() {
    let data = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for (code, setting) in [(3108, "node.listen"), (3109, "node.admin")] {
        let mut config = config(data.path());
        match code {
            3108 => config.listen = Some(addr),
            _ => config.admin = addr,
        }
        let fault = refused(config, local(1));
        assert_eq!(fault.code, code, "{fault}");
        assert_eq!(fault.what, format!("{setting} {addr}"));
    }
}

#[test]
fn a_second_node_on_the_same_port_or_folder_is_refused() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = start(data.path(), table(local(1)));
    let mut second = config(other.path());
    second.listen = node.listen_plain_addr();
    assert_eq!(refused(second, local(1)).code, 3108);
    let fault = refused(config(data.path()), local(1));
    assert_eq!(fault.code, 3103, "{fault}");
    assert!(
        fault.seen.contains(&std::process::id().to_string()),
        "{fault}"
    );
    node.stop();
    node.join().unwrap();
    let third = start(data.path(), table(local(1)));
    third.stop();
    third.join().unwrap();
}

#[test]
fn an_address_of_another_machine_is_named() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    config.listen = Some("192.0.2.1:0".parse().unwrap());
    assert_eq!(refused(config, local(1)).code, 3110);
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    assert_eq!(refused(config(&file), local(1)).code, 3101);
    assert_eq!(refused(config(&file.join("below")), local(1)).code, 3101);
    // Nobody, root neither, can make files there.
    let proc = std::path::Path::new("/proc/self");
    assert_eq!(refused(config(proc), local(1)).code, 3102);
}

#[test]
fn counts_that_are_fixed_for_good_cannot_change() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), table(local(1)));
    node.stop();
    node.join().unwrap();
    let mut more = local(1);
    more.hubs[0].partitions = 3;
    let fault = refused(config(data.path()), more);
    assert_eq!((fault.code, &*fault.seen), (3106, "3"), "{fault}");
    let mut groups = local(1);
    groups.queue_groups = 2;
    assert_eq!(refused(config(data.path()), groups).code, 3107);
    let format = data.path().join("format.toml");
    let good = std::fs::read_to_string(&format).unwrap();
    for (why, text, code) in [
        (
            "a newer version",
            good.replace("version = 1", "version = 2"),
            3105,
        ),
        ("an unknown key", format!("colour = 1\n{good}"), 3104),
        ("cut short", good[..20].to_owned(), 3104),
        ("not text", "\u{0}".to_owned(), 3104),
    ] {
        std::fs::write(&format, text).unwrap();
        assert_eq!(refused(config(data.path()), local(1)).code, code, "{why}");
    }
    std::fs::write(&format, good).unwrap();
    let node = start(data.path(), table(local(1)));
    node.stop();
    node.join().unwrap();
}

#[test]
fn limits_beyond_the_machine_or_each_other_are_named() {
    let data = tempfile::tempdir().unwrap();
    let mut files = config(data.path());
    files.ring.connections_max = 1 << 24;
    assert_eq!(refused(files, local(1)).code, 3005);
    let mut small = local(1);
    small.hubs[0].segment_bytes = 64 << 10;
    let fault = refused(config(data.path()), small);
    assert_eq!(fault.code, 2004, "{fault}");
    let mut cpu = config(data.path());
    cpu.cpu = Some(1000);
    let fault = refused(cpu, local(1));
    assert_eq!(fault.code, 3119, "{fault}");
}

#[test]
fn a_log_that_cannot_be_read_stops_the_start_and_is_named() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), table(local(1)));
    node.stop();
    node.join().unwrap();
    let log = std::fs::read_dir(data.path()).unwrap().flatten();
    let log = log
        .map(|entry| entry.path())
        .find(|path| path.is_dir())
        .unwrap();
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::write(&log, b"not a folder").unwrap();
    let fault = refused(config(data.path()), local(1));
    assert_eq!(fault.code, 3114, "{fault}");
}

#[test]
fn a_refused_reload_keeps_the_old_plan_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let reload = move || -> Result<Arc<RouteTable>, Diagnosis> {
        let mut parts = local(2);
        parts.epoch = 2;
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => return Err(Diagnosis::new(2104, "plan", "x", "y", "z")),
            1 => parts.hubs[0].partitions = 7,
            2 => parts.queue_groups += 1,
            _ => {}
        }
        Ok(table(parts))
    };
    let (config, first) = (config(data.path()), table(local(1)));
    let node = start_logged(config, first, Box::new(reload), captured()).unwrap();
    let stale = || metric(node.admin_addr(), "forebay_config_stale");
    let epoch = || metric(node.admin_addr(), "forebay_route_table_revision");
    for code in [2104, 3106, 3107] {
        assert_eq!(node.reload().unwrap_err().code, code);
        assert_eq!((stale(), epoch()), (Some(1.0), Some(1.0)), "{code}");
    }
    let (status, answer) = http(node.admin_addr(), "POST", "/reload");
    assert_eq!((status, &*answer), (200, "epoch 2\n"));
    until("the new table is in force", || epoch() == Some(2.0));
    assert_eq!(stale(), Some(0.0));
    let mut new = Client::connect(node.listen_addr(), &sender(1));
    new.send(&[b"x"]);
    new.wait_acked(1);
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_failed_sync_seals_the_log_which_refuses_by_name_and_the_rest_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let mut parts = parts(AckMode::Durable, 16);
    parts.hubs[0].partitions = 2;
    let table = table(parts);
    let node = start(data.path(), Arc::clone(&table));
    let addr = node.listen_addr();
    // Nothing of a log has been opened for syncing before its first commit: without its folder that must fail.
    let lost = table.partitions().next().unwrap().0;
    let folder = data.path().join(format!("p-{lost}"));
    std::fs::rename(&folder, data.path().join("lost")).unwrap();
    let channel = &table.channels()[0];
    let of = |number: &usize| {
        let endpoint = wire::ids::EndpointId::of(&sender(*number));
        table.partition_of(endpoint, channel)
    };
    let hit = (0..16).find(|number| of(number) == lost).unwrap();
    let spared = (0..16).find(|number| of(number) != lost).unwrap();
    let mut client = Client::connect(addr, &sender(hit));
    client.send(&[b"never durable"]);
    let Said::Reject(reject) = client.read() else {
        panic!("no ACK may come")
    };
    assert_eq!(reject.notice.reason, wire::reason::Reason::PartitionSealed);
    let state = |name: &str| {
        let series = format!("forebay_storage_state{{state=\"{name}\"}}");
        metric(node.admin_addr(), &series)
    };
    assert_eq!((state("sealed"), state("ok")), (Some(1.0), Some(0.0)));
    assert_eq!(
        metric(node.admin_addr(), "forebay_sync_errors_total"),
        Some(1.0)
    );
    let mut other = Client::connect(addr, &sender(spared));
    other.send(&[b"on another partition"]);
    other.wait_acked(1);
    node.stop();
    node.join().unwrap();
}
