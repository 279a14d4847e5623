//! The admin port: probes, metrics, and what it refuses.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node::config::LogFormat;
use node::log::Log;
use support::*;
use wire::ids::AckMode;
use wire::reason::Reason;

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn paths_and_methods_are_answered_as_promised() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), table(parts(AckMode::Durable, 1)));
    for (method, path, status, shown) in [
        ("GET", "/live", 200, "live"),
        ("GET", "/ready", 200, "ready"),
        ("GET", "/metrics", 200, "forebay_ready 1"),
        ("GET", "/shards", 200, "\"phase\":\"ready\""),
        ("POST", "/shards", 405, "use GET"),
        ("GET", "/bans", 200, ""),
        ("GET", "/", 404, "/metrics"),
        ("POST", "/metrics", 405, "use GET"),
        ("DELETE", "/live", 405, "use GET"),
        ("GET", "/reload", 405, "use POST"),
    ] {
        let asked = || http(node.admin_addr(), method, path);
        let good = |(got, body): &(u16, String)| *got == status && body.contains(shown);
        // A shard that gets no processor for seconds stands still, and `/ready` says so.
        until(
            &format!("{status} of {method} {path}: {:?}", asked()),
            || good(&asked()),
        );
    }
    node.stop();
    node.join().unwrap();
}

#[test]
fn metrics_count_what_happened_in_well_formed_lines() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), table(parts(AckMode::Durable, 1)));
    let mut sender = Client::connect(node.listen_addr(), &sender(0));
    sender.send(&[b"one", b"two"]);
    sender.wait_acked(1);
    sender.sequence = 5;
    sender.send(&[b"gap"]);
    let Said::Reject(_) = sender.read() else {
        panic!("a gap is rejected")
    };
    let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
    receiver.fetch(10);
    receiver.take(2);
    let page = metrics(node.admin_addr());
    for line in [
        "forebay_append_messages_total 2",
        "forebay_commit_messages_total 2",
        "forebay_delivered_messages_total 2",
        "forebay_verified_frames_total{signature=\"session\"}",
        "forebay_rejects_total{code=\"FB-1303\",reason=\"out_of_sequence\"} 1",
        "forebay_storage_state{state=\"ok\"} 1",
        "forebay_ack_mode{hub=\"acme/prod/main\",mode=\"durable: on disk before the ack\"} 1",
        "forebay_connections{protocol=\"tcp\"} 2",
        "forebay_config_stale 0",
        "forebay_recovery_progress_ratio 1",
        "forebay_shard_cpu_seconds_total{shard=\"0\"}",
        "process_cpu_seconds_total",
        "forebay_memory_bytes{kind=\"receive\"} 16777216",
        "forebay_shard_memory_budget_bytes{shard=\"0\"}",
        "forebay_shard_pressure{shard=\"0\"} 0",
        "forebay_shed_total{what=\"normal_frames\"} 0",
        "forebay_banned{who=\"key\"} 0",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
    check_format(&page);
    assert!(!page.contains("pump"), "no endpoint is named");
    node.stop();
    node.join().unwrap();
}

#[test]
fn what_shards_tell_one_by_one_adds_up_to_what_the_node_tells() {
    const SENDERS: usize = 9;
    const FRAMES: u64 = 20;
    let data = tempfile::tempdir().unwrap();
    let mut parts = parts(AckMode::Durable, SENDERS);
    parts.hubs[0].partitions = 6;
    let mut config = config(data.path());
    config.shards = node::placement::Shards::Count(3);
    let node = try_start(config, table(parts)).unwrap();
    for number in 0..SENDERS {
        let mut client = Client::connect(node.listen_addr(), &sender(number));
        for _ in 0..FRAMES {
            client.send(&[b"one", b"two"]);
        }
        client.wait_acked(FRAMES);
    }
    let page = metrics(node.admin_addr());
    check_format(&page);
    let value = |series: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        let line = line.unwrap_or_else(|| panic!("{series} in\n{page}"));
        line.trim().parse().unwrap()
    };
    let each = |name: &str, more: &str| -> f64 {
        let of = |shard| value(&format!("{name}{{shard=\"{shard}\"{more}}} "));
        (0..3).map(of).sum()
    };
    let messages = (SENDERS as u64 * FRAMES * 2) as f64;
    assert_eq!(each("forebay_shard_messages_total", ""), messages);
    assert_eq!(each("forebay_shard_batch_messages_sum", ""), messages);
    for (shards, more, node) in [
        (
            "forebay_shard_appended_messages_total",
            "",
            "forebay_append_messages_total ",
        ),
        (
            "forebay_shard_messages_total",
            "",
            "forebay_commit_messages_total ",
        ),
        (
            "forebay_shard_received_bytes_total",
            "",
            "forebay_received_bytes_total ",
        ),
        (
            "forebay_shard_received_frames_total",
            "",
            "forebay_received_frames_total ",
        ),
        (
            "forebay_shard_sent_bytes_total",
            "",
            "forebay_sent_bytes_total ",
        ),
        (
            "forebay_shard_turn_seconds_count",
            "",
            "forebay_shard_turns_total ",
        ),
        (
            "forebay_shard_connections",
            "",
            "forebay_connections{protocol=\"tcp\"} ",
        ),
        ("forebay_shard_buffers_free", "", "forebay_buffers_free "),
        (
            "forebay_shard_mesh_items_total",
            ",event=\"sent\"",
            "forebay_mesh_items_total{event=\"sent\"} ",
        ),
        (
            "forebay_shard_mesh_doorbells_total",
            ",peer=\"awake\"",
            "forebay_mesh_doorbells_total{peer=\"awake\"} ",
        ),
        (
            "forebay_shard_connections_moved_total",
            ",direction=\"out\"",
            "forebay_connections_moved_total ",
        ),
    ] {
        assert_eq!(each(shards, more), value(node), "{shards}\n{page}");
    }
    let mut shards = Vec::new();
    until("every shard answers", || {
        let (_, body) = http(node.admin_addr(), "GET", "/shards");
        let view: node::view::NodeView = serde_json::from_str(&body).unwrap();
        shards = view.shards.into_iter().flatten().collect();
        shards.len() == 3
    });
    for one in &shards {
        let busy = one.cpu_seconds > 0.0 && one.turns.sum > 0;
        assert!(busy && one.seconds > 0.0, "{one:?}");
        assert_eq!(one.partitions, 2, "six partitions, dealt out");
        // It is exact: few frames are all counted, and no turn comes between what is counted and who is.
        let hot = &one.hottest.endpoints_by_messages;
        assert_eq!(one.hottest.one_in, 1);
        assert!(
            hot.rows
                .iter()
                .all(|row| row.name.starts_with("acme/prod/pump-")),
            "{hot:?}"
        );
    }
    let committed: u64 = shards
        .iter()
        .map(|one| one.received.messages_committed)
        .sum();
    assert_eq!(committed as f64, messages);
    node.stop();
    node.join().unwrap();
}

#[test]
fn who_is_kept_out_is_listed_with_the_time_that_is_left() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    config.shard.loopback_exempt = false;
    config.bans.address_connections_max = 3;
    (config.bans.first, config.bans.longest) = (HOUR, HOUR);
    config.bans.window = HOUR;
    let node = try_start(config, table(parts(AckMode::Durable, 1))).unwrap();
    let connect = |_| std::net::TcpStream::connect(node.listen_addr()).unwrap();
    let mut all: Vec<_> = (0..5).map(connect).collect();
    // The last one is told why, and with that the ban has begun.
    let mut told = Vec::new();
    all[4].set_read_timeout(Some(PATIENCE)).unwrap();
    all[4].read_to_end(&mut told).unwrap();
    let (frame, _) = wire::frame::split(&told[8..]).unwrap().unwrap();
    let notice = wire::link::parse_goaway(frame).unwrap();
    assert_eq!(notice.reason, Reason::AddressBanned);
    let mut page = String::new();
    until("the shard answers", || {
        page = http(node.admin_addr(), "GET", "/bans").1;
        !page.is_empty()
    });
    let (who, rest) = page.split_once(" ms left of ").unwrap();
    assert!(who.starts_with("shard 0: address 127.0.0.1: 3"), "{page}");
    assert_eq!(rest, "3600000 ms, ban 1 in a row\n");
    let page = metrics(node.admin_addr());
    for line in [
        "forebay_banned{who=\"address\"} 1",
        "forebay_bans_total{who=\"address\"} 1",
        "forebay_kept_out_total{reason=\"address_banned\"} 2",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
    node.stop();
    node.join().unwrap();
}

/// Each family is introduced once by HELP and TYPE, and followed by its own lines only.
fn check_format(page: &str) {
    let (mut family, mut seen) = (String::new(), BTreeSet::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(seen.insert(name.to_owned()), "{name} twice");
            family = name.to_owned();
        } else if !line.starts_with("# HELP ") {
            let name = line.split(['{', ' ']).next().unwrap();
            let parts = ["_bucket", "_sum", "_count"].map(|part| format!("{family}{part}"));
            let of_family = name == family || parts.iter().any(|part| part == name);
            assert!(of_family, "{line} in {family}");
            let value = line.rsplit(' ').next().unwrap();
            value.parse::<f64>().unwrap();
        }
    }
}

/// Asks the probes whenever the node logs that it begins to recover.
struct Prober(Arc<Mutex<Vec<(u16, String)>>>);

impl Write for Prober {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if let Some((_, addr)) = text.trim_end().split_once("recovering admin=") {
            let addr = addr.parse().unwrap();
            let answers = ["/live", "/ready", "/metrics"].map(|path| http(addr, "GET", path));
            self.0.lock().unwrap().extend(answers);
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_recovering_node_is_live_and_not_ready() {
    let data = tempfile::tempdir().unwrap();
    let answers = Arc::default();
    let prober = Prober(Arc::clone(&answers));
    let log = Arc::new(Log::new(LogFormat::Text, Box::new(prober)));
    let (config, table) = (config(data.path()), table(parts(AckMode::Local, 1)));
    let node = start_logged(config, table, no_reload(), log).unwrap();
    let answers = answers.lock().unwrap().clone();
    let [live, ready, numbers] = &answers[..] else {
        panic!("three answers, not {answers:?}")
    };
    assert_eq!((live.0, &*live.1), (200, "live\n"));
    assert_eq!(ready.0, 503);
    assert!(ready.1.starts_with("recovering: 0 of "), "{}", ready.1);
    assert!(numbers.1.contains("forebay_ready 0"));
    check_format(&numbers.1);
    until("it is ready", || {
        http(node.admin_addr(), "GET", "/ready").0 == 200
    });
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_silent_peer_on_the_admin_port_keeps_nobody_waiting() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), table(parts(AckMode::Local, 1)));
    let silent = std::net::TcpStream::connect(node.admin_addr()).unwrap();
    assert_eq!(http(node.admin_addr(), "GET", "/live").0, 200);
    drop(silent);
    node.stop();
    node.join().unwrap();
}
