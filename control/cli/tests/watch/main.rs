//! `forebay shards` and `forebay top`, looking at a real node of three shards under load.

mod node;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use node::{Node, SHARDS, forebay, output};
use serde_json::Value;

/// Long enough for a busy machine; a test that needs it has failed anyway.
const PATIENCE: Duration = Duration::from_secs(60);

fn number(of: &Value, path: &str) -> f64 {
    let seen = path.split('.').fold(of, |value, key| &value[key]);
    seen.as_f64().unwrap_or_else(|| panic!("{path} in {of}"))
}

/// The shards' values under this path, together.
fn sum(look: &Value, path: &str) -> f64 {
    let shards = look["shards"].as_array().expect("a list of shards");
    assert_eq!(shards.len(), SHARDS, "{look}");
    shards.iter().map(|shard| number(shard, path)).sum()
}

/// A load ends with 3 where the machine was too busy for its rate: it has put load on the node all the same.
fn check_load(ended: std::io::Result<ExitStatus>) {
    let code = ended.expect("the binary was built").code();
    assert!(
        matches!(code, Some(0 | 3)),
        "{code:?}: lost or refused messages"
    );
}

/// Look until it is as it should be.
fn until(what: &str, mut look: impl FnMut() -> Value, is: impl Fn(&Value) -> bool) -> Value {
    let by = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if is(&seen) {
            return seen;
        }
        assert!(Instant::now() < by, "never: {what}: {seen}");
    }
}

#[test]
fn the_figures_of_all_shards_add_up_to_the_total_and_to_what_the_load_had_acked() {
    let node = Node::start();
    let (under_load, acked) = under_load(&node);
    check_sums(&under_load);
    for (number_of_it, shard) in under_load["shards"]
        .as_array()
        .expect("a list")
        .iter()
        .enumerate()
    {
        assert_eq!(shard["shard"], number_of_it);
        for ratio in ["busy_ratio", "turns_ratio"] {
            let ratio = number(shard, ratio);
            assert!(ratio > 0.0 && ratio < 1.2, "{shard}");
        }
        assert!(
            number(shard, "turn_seconds_p50") <= number(shard, "turn_seconds_p99"),
            "{shard}"
        );
        assert!(
            number(shard, "batch_messages_p50") >= 4.0,
            "a frame has four: {shard}"
        );
        let first = shard["hottest_endpoint"]["name"]
            .as_str()
            .unwrap_or_default();
        assert!(first.starts_with("a/e/pump-"), "{shard}");
        assert!(
            shard["hottest_channel"]["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("a/e/"))
        );
        assert_eq!(
            number(shard, "partitions"),
            2.0,
            "six partitions, dealt out"
        );
        assert!(number(shard, "buffers_free") <= number(shard, "buffers"));
        assert!(
            shard["memory_bytes"]
                .as_object()
                .is_some_and(|kinds| !kinds.is_empty())
        );
    }
    let after = node.look("shards", &["--interval", "100ms"]);
    check_sums(&after);
    for (figure, count) in acked {
        let seen = number(&after, &format!("total.since_start.{figure}"));
        assert_eq!(seen, count, "{figure}: {after}");
    }
    assert_eq!(
        number(&after, "total.in.messages_per_second"),
        0.0,
        "{after}"
    );
}

/// A look while every shard has messages in, and what the load counted in all. On a busy machine one load may be over before.
fn under_load(node: &Node) -> (Value, [(&'static str, f64); 3]) {
    let load = ["--rate", "3000", "--duration", "2s", "--warm-up", "0s"];
    let load = [&load[..], &["--batch", "4"]].concat();
    let busy = |seen: &Value| {
        let shards = seen["shards"].as_array().expect("a list");
        let busy = |shard: &Value| number(shard, "in.messages_per_second") > 0.0;
        shards.iter().filter(|shard| busy(shard)).count() == SHARDS
    };
    let mut counts = [
        ("messages_committed", "acked", 0.0),
        ("messages_in", "sent", 0.0),
        ("messages_out", "delivered", 0.0),
    ];
    let by = Instant::now() + PATIENCE;
    loop {
        let mut load = node
            .load(&load)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let mut seen = node.look("shards", &["--interval", "300ms"]);
        while !busy(&seen) && load.try_wait().expect("it is ours").is_none() {
            seen = node.look("shards", &["--interval", "300ms"]);
        }
        let report = load.wait_with_output().expect("it ends by itself");
        let report: Value = serde_json::from_slice(&report.stdout).expect("one JSON object");
        // Whether the generator kept its rate is no matter here, as long as it knows what became of each message.
        assert_eq!(report["lost"], 0, "{report}");
        assert_eq!(report["unanswered"], 0, "{report}");
        for (_, field, sum) in &mut counts {
            *sum += number(&report, field);
        }
        if busy(&seen) {
            return (seen, counts.map(|(figure, _, sum)| (figure, sum)));
        }
        assert!(Instant::now() < by, "never under load: {seen}");
    }
}

fn check_sums(look: &Value) {
    for path in [
        "turns_per_second",
        "in.messages_per_second",
        "in.frames_per_second",
        "in.bytes_per_second",
        "in.refused_per_second",
        "out.messages_per_second",
        "out.bytes_per_second",
        "mesh.items_out_per_second",
        "mesh.items_in_per_second",
        "mesh.frames_out_per_second",
        "mesh.frames_in_per_second",
        "mesh.connections_in_per_second",
        "mesh.connections_out_per_second",
        "mesh.doorbells_per_second",
        "mesh.full_per_second",
        "partitions",
        "queue_groups",
        "connections",
        "strangers",
        "sessions",
        "buffers_free",
        "buffers",
        "memory_bytes.receive",
        "memory_bytes.unsent",
        "since_start.messages_in",
        "since_start.messages_committed",
        "since_start.frames_in",
        "since_start.bytes_in",
        "since_start.refused",
        "since_start.messages_out",
        "since_start.bytes_out",
        "since_start.acks",
    ] {
        let (of_all, total) = (sum(look, path), number(look, &format!("total.{path}")));
        assert!(
            (of_all - total).abs() <= 1e-9 * total,
            "{path}: {of_all} is not {total}"
        );
    }
    assert_eq!(look["silent"], serde_json::json!([]));
    assert_eq!(look["phase"], "ready");
}

#[test]
fn tables_fit_into_100_columns_and_have_a_row_for_each_shard_and_one_for_all() {
    let node = Node::start();
    let load = ["--rate", "2000", "--duration", "1s", "--warm-up", "0s"];
    check_load(node.load(&load).status());
    let seen = output(&[
        "shards",
        "--admin",
        &node.admin,
        "--once",
        "--interval",
        "100ms",
    ]);
    assert!(seen.status.success(), "{seen:?}");
    let text = String::from_utf8(seen.stdout).expect("text");
    assert!(
        !text.contains('\x1b'),
        "no colours and no redrawing, as this is no terminal: {text}"
    );
    assert!(
        text.starts_with(&format!(
            "forebay {} at {}, ready, 3 shards",
            env!("CARGO_PKG_VERSION"),
            node.admin
        )),
        "{text}"
    );
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?} columns:\n{text}");
    for headings in [
        "shard cpu thread in turns /s p50 p99 frames messages /s",
        "shard messages bytes messages bytes items frames items frames bells full",
        "shard partitions queue groups connections sessions free of bytes budget",
        "shard name messages/s share name share",
    ] {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let at = text.lines().position(|line| words(line) == headings);
        let at = at.unwrap_or_else(|| panic!("no `{headings}` in:\n{text}"));
        let first_words: Vec<&str> = (text.lines().skip(at + 1).take(SHARDS + 1))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(first_words, ["0", "1", "2", "all"], "{text}");
    }
    let seen = output(&["top", "--admin", &node.admin, "--once"]);
    let text = String::from_utf8(seen.stdout).expect("text");
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?} columns:\n{text}");
    for part in [
        "a/e/pump-",
        "a/e/readings",
        "a/e/orders",
        "An estimate: what was 2 s ago counts half",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

#[test]
fn top_names_who_sends_most_messages_and_who_sends_most_bytes() {
    let node = Node::start();
    let rates = [
        ("pump-3", "2000", "32"),
        ("pump-4", "200", "4096"),
        ("pump-5", "100", "32"),
    ];
    let mut loads: Vec<_> = rates
        .iter()
        .map(|(sender, rate, size)| {
            let more = [
                "--sender",
                sender,
                "--rate",
                rate,
                "--size",
                size,
                "--duration",
                "4s",
                "--no-read-back",
            ];
            let mut load = node.load(&more);
            load.stdout(Stdio::null())
                .spawn()
                .expect("the binary was built")
        })
        .collect();
    // The loads begin one after the other, so who leads is waited for.
    let leads = |seen: &Value, endpoint: &str, channel: &str| {
        let rows = seen["endpoints"]["rows"].as_array();
        let first = |kind: &str| seen[kind]["rows"][0]["name"].as_str();
        rows.is_some_and(|rows| rows.len() == rates.len())
            && (first("endpoints"), first("channels")) == (Some(endpoint), Some(channel))
    };
    let by_messages = until(
        "pump-3 sends most messages",
        || node.look("top", &[]),
        |seen| {
            let rows = &seen["endpoints"]["rows"];
            leads(seen, "a/e/pump-3", "a/e/orders") && number(&rows[0], "share") > 0.5
        },
    );
    until(
        "pump-4 sends most bytes",
        || node.look("top", &["--by", "bytes"]),
        |seen| leads(seen, "a/e/pump-4", "a/e/readings"),
    );
    let one = node.look("top", &["--rows", "1"]);
    assert_eq!(one["endpoints"]["rows"].as_array().map(Vec::len), Some(1));
    let of_all = &by_messages["endpoints"];
    let rows = of_all["rows"].as_array().expect("a list");
    let sum: f64 = rows
        .iter()
        .map(|row| number(row, "messages_per_second"))
        .sum();
    assert!(
        (sum / number(of_all, "total") - 1.0).abs() < 1e-9,
        "{by_messages}"
    );
    for load in &mut loads {
        check_load(load.wait());
    }
}

#[test]
fn a_node_that_goes_away_while_it_is_looked_at_ends_that_with_a_code() {
    for command in ["shards", "top"] {
        let mut node = Node::start();
        let mut looking = forebay(&[
            command,
            "--admin",
            &node.admin,
            "--json",
            "--interval",
            "100ms",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built");
        let out = looking.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(out).lines();
        let mut look = || -> Value {
            let line = lines.next().expect("it goes on").expect("text");
            serde_json::from_str(&line).expect("an object a line")
        };
        for _ in 0..3 {
            assert_eq!(look()["phase"], "ready", "{command}");
        }
        node.kill();
        let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
        let last: Value =
            serde_json::from_str(&rest.pop().expect("the error is told")).expect("JSON");
        assert_eq!(last["errors"][0]["code"], "FB-4603", "{command}");
        let ended = looking.wait_with_output().expect("it ends by itself");
        assert_eq!(ended.status.code(), Some(1), "{command}");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(
            said.contains("FB-4603: the node at ") && said.contains(&node.admin),
            "{said}"
        );
    }
}

#[test]
fn wrong_addresses_and_intervals_are_refused_with_a_remedy() {
    let node = Node::start();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("it is bound").to_string()
    };
    let config = node.folder.path().join("forebay.toml");
    let config = config.to_str().expect("temporary folders have plain names");
    let nowhere = format!("{config}.not");
    for command in ["shards", "top"] {
        for (why, more, code, exit, remedy) in [
            (
                "nobody there",
                vec!["--admin", &closed],
                4601,
                1,
                "start it with `forebay run`",
            ),
            (
                "the port for frames",
                vec!["--admin", &node.listen],
                4602,
                1,
                "behind `admin on`",
            ),
            (
                "no address",
                vec!["--admin", "localhost"],
                2205,
                2,
                "behind `admin on`",
            ),
            (
                "no port",
                vec!["--admin", "127.0.0.1:0"],
                2205,
                2,
                "behind `admin on`",
            ),
            (
                "a port of the kernel's",
                vec!["--config", config],
                2205,
                2,
                "give --admin",
            ),
            (
                "no configuration",
                vec!["--config", &nowhere],
                2202,
                2,
                "or give --admin",
            ),
            (
                "no time",
                vec!["--admin", &node.admin, "--interval", "soon"],
                2205,
                2,
                "use --interval 1s",
            ),
            (
                "too often",
                vec!["--admin", &node.admin, "--interval", "1ms"],
                2205,
                2,
                "use --interval 1s",
            ),
        ] {
            let seen = output(&[&[command, "--once"][..], &more].concat());
            let text = String::from_utf8_lossy(&seen.stderr).into_owned();
            assert_eq!(seen.status.code(), Some(exit), "{command}, {why}: {text}");
            let line = text
                .lines()
                .find(|line| line.contains(&format!("FB-{code}: ")));
            let line = line.unwrap_or_else(|| panic!("{command}, {why}: no FB-{code} in {text}"));
            for part in [": saw ", ", need ", "; ", remedy] {
                assert!(
                    line.contains(part),
                    "{command}, {why}: `{part}` is not in {line}"
                );
            }
            let explained = output(&["explain", &code.to_string()]);
            assert!(explained.status.success(), "FB-{code}");
        }
    }
    let none = output(&["top", "--rows", "0"]);
    assert_eq!(none.status.code(), Some(2), "{none:?}");
}
