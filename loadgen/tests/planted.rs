//! Whole runs against a small server that loses, repeats, reorders, alters or renames one acked message.

use client::fake::{CHANNEL, Fake, Fault, KEY};
use loadgen::{
    BodySizes, LoadOptions, LoadPlan, Others, PayloadSource, Quiet, ReceiverCredential, Report,
    SenderCredential, ServerCpu, Verdict,
};
use std::time::Duration;
use wire::reason::Reason;

fn plan(fake: &Fake, senders: usize, options: LoadOptions) -> LoadPlan {
    let sender = |index| SenderCredential {
        endpoint: format!("a/e/sender-{index}"),
        key_id: 1,
        key: KEY.to_owned(),
        channel: CHANNEL.to_owned(),
    };
    let reader = ReceiverCredential {
        endpoint: "a/e/reader".to_owned(),
        key_id: 1,
        key: KEY.to_owned(),
    };
    LoadPlan {
        addr: fake.addr,
        transport: client::Transport::Tcp,
        senders: (0..senders).map(sender).collect(),
        receivers: vec![reader],
        options,
        server_cpu: ServerCpu::Unknown,
        others: Others::default(),
        data: None,
    }
}

/// Short and slow, so that a busy machine does not matter to what is proved here.
/// Long enough for a busy machine. A run that misses nothing ends before.
const PATIENCE: Duration = Duration::from_secs(30);
/// A run that misses something lasts as long as this.
const MISSING: Duration = Duration::from_secs(3);

fn short() -> LoadOptions {
    LoadOptions {
        rate: 400.0,
        duration: Duration::from_millis(250),
        warm_up: Duration::ZERO,
        drain: PATIENCE,
        lateness_share_max: 1e9,
        ..LoadOptions::default()
    }
}

fn run(faults: &[Fault], options: LoadOptions) -> Report {
    let fake = Fake::start(faults);
    loadgen::run(plan(&fake, 1, options), &mut Quiet).expect("the run starts")
}

#[test]
fn a_faultless_server_gets_a_clean_report() {
    for (why, options) in [
        ("single messages", short()),
        (
            "batches of seven, the last one shorter",
            LoadOptions {
                batch: 7,
                ..short()
            },
        ),
        (
            "empty bodies",
            LoadOptions {
                message_bytes: BodySizes::Fixed(0),
                ..short()
            },
        ),
        (
            "bodies of mixed length",
            LoadOptions {
                message_bytes: BodySizes::Uniform(0, 3_000),
                ..short()
            },
        ),
        (
            "readings of this machine",
            LoadOptions {
                payload: PayloadSource::Host,
                ..short()
            },
        ),
        (
            "Poisson arrivals",
            LoadOptions {
                arrival: loadgen::Arrival::Poisson,
                ..short()
            },
        ),
    ] {
        let fake = Fake::start(&[]);
        let report = loadgen::run(plan(&fake, 3, options), &mut Quiet).expect("the run starts");
        assert_eq!(
            (report.lost, report.altered, report.stray, report.misordered),
            (0, 0, 0, 0),
            "{why}: {report}"
        );
        assert!(
            report.sent > 50 && report.sent == report.acked && report.sent == report.delivered,
            "{why}: {report}"
        );
        assert_ne!(report.verdict, Verdict::Faulty, "{why}: {report}");
        assert_eq!(report.ack_mode, "durable", "{why}");
    }
}

#[test]
fn each_planted_fault_is_found_to_the_message_and_named() {
    let count = |report: &Report| {
        [
            report.lost,
            report.duplicated,
            report.misordered,
            report.altered,
            report.stray,
        ]
    };
    for (fault, want) in [
        (Fault::Lose(40), [1, 0, 0, 0, 0]),
        (Fault::Duplicate(40), [0, 1, 0, 0, 0]),
        (Fault::Swap(40), [0, 0, 1, 0, 0]),
        (Fault::Alter(40), [0, 0, 0, 1, 0]),
        (Fault::Rename(40), [1, 0, 0, 0, 1]),
    ] {
        let drain = match want[0] {
            0 => PATIENCE,
            _ => MISSING,
        };
        let report = run(&[fault], LoadOptions { drain, ..short() });
        assert_eq!(count(&report), want, "{fault:?}: {report}");
        assert_eq!(
            (report.verdict, report.exit_code()),
            (Verdict::Faulty, 1),
            "{fault:?}"
        );
        assert!(!report.evidence.is_empty(), "{fault:?}");
        assert_eq!(
            report.sent,
            report.acked + report.rejected + report.unanswered,
            "{fault:?}"
        );
    }
}

#[test]
fn rejected_messages_are_counted_and_everything_behind_them_still_arrives_in_order() {
    let faults = [
        Fault::Reject(10, Reason::RestrictedBody, 0),
        Fault::Reject(30, Reason::Busy, 5),
    ];
    let report = run(
        &faults,
        LoadOptions {
            batch: 2,
            ..short()
        },
    );
    assert_eq!(
        (
            report.rejected,
            report.lost,
            report.misordered,
            report.stray
        ),
        (4, 0, 0, 0),
        "{report}"
    );
    assert_eq!(report.sent, report.acked + report.rejected, "{report}");
    let codes: Vec<u16> = report.rejects.iter().map(|reject| reject.code).collect();
    assert_eq!(codes, [1407, 1501]);
}

#[test]
fn fewer_connections_than_senders_carry_envelopes_and_a_refused_one_stops_nobody() {
    let fake = Fake::start(&[Fault::Reject(10, Reason::RelayNotAllowed, 0)]);
    let options = LoadOptions {
        connections: 2,
        ..short()
    };
    let report = loadgen::run(plan(&fake, 5, options), &mut Quiet).expect("the run starts");
    assert_eq!(
        (report.connections, report.senders, report.rejected),
        (2, 5, 1),
        "{report}"
    );
    assert_eq!(
        (report.lost, report.misordered, report.stray, report.altered),
        (0, 0, 0, 0),
        "{report}"
    );
    assert_eq!(report.sent, report.acked + report.rejected, "{report}");
    let senders: std::collections::HashSet<_> = fake
        .state()
        .log
        .iter()
        .map(|stored| stored.sender)
        .collect();
    assert_eq!(
        senders.len(),
        5,
        "each envelope is booked under its own endpoint"
    );
}

#[test]
fn a_connection_that_ends_leaves_its_messages_unanswered_and_the_run_is_void_or_faulty() {
    let report = run(&[Fault::Cut(20)], short());
    assert!(
        report.unanswered > 0 && report.lost >= report.unanswered,
        "{report}"
    );
    assert_ne!(report.exit_code(), 0, "{report}");
    assert_eq!(report.faults.len(), 1, "{report}");
}

#[test]
fn a_run_far_behind_its_rate_is_void_and_claims_no_latency_and_its_unanswered_messages_are_not_lost()
 {
    let fake = Fake::start(&[]);
    let options = LoadOptions {
        rate: 1e8,
        batch: 64,
        drain: Duration::from_millis(1),
        ..short()
    };
    let mut plan = plan(&fake, 1, options);
    plan.receivers.clear();
    let report = loadgen::run(plan, &mut Quiet).expect("the run starts");
    assert_eq!(
        (report.verdict, report.exit_code(), report.load.as_str()),
        (Verdict::Void, 3, "constant, saturated"),
        "{report}"
    );
    assert!(report.unanswered > 0 && report.unsent > 0, "{report}");
    assert_eq!(
        (report.ack_ms, report.lateness_ms),
        (None, None),
        "{report}"
    );
}

#[test]
fn saturation_claims_no_latency_and_asks_for_no_rate() {
    let report = run(
        &[],
        LoadOptions {
            rate: 0.0,
            batch: 8,
            ..short()
        },
    );
    assert_eq!(
        (report.load.as_str(), report.ack_ms, report.delivery_ms),
        ("saturation", None, None)
    );
    assert!(
        report.achieved_per_s > 0.0 && report.verdict == Verdict::Good,
        "{report}"
    );
}

#[test]
fn a_plan_that_cannot_run_is_refused_with_a_code() {
    let fake = Fake::start(&[]);
    let long = LoadOptions {
        batch: 4_096,
        message_bytes: BodySizes::Fixed(4_096),
        ..short()
    };
    let mut other_channel = plan(&fake, 1, short());
    other_channel.senders[0].channel = "a/e/other".to_owned();
    let mut wrong_key = plan(&fake, 1, short());
    wrong_key.senders[0].key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned();
    let mut no_node = plan(&fake, 1, short());
    no_node.addr = "127.0.0.1:1".parse().expect("an address");
    for (plan, code) in [
        (plan(&fake, 1, long), 5209),
        (other_channel, 5207),
        (wrong_key, 1104),
        (no_node, 5101),
        (plan(&fake, 0, short()), 5201),
    ] {
        let error = loadgen::run(plan, &mut Quiet).expect_err("refused");
        assert_eq!(error.code, code, "{error}");
        assert!(
            !error.seen.is_empty() && !error.needed.is_empty() && !error.remedy.is_empty(),
            "{error}"
        );
    }
}

#[test]
fn the_json_report_has_the_documented_fields() {
    // A run that a busy machine holds up is void and tells no latencies.
    let mut reports = (0..20).map(|_| run(&[], short()));
    let report = reports.find(|report| report.ack_ms.is_some());
    let report = report.expect("one run of twenty is on time");
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("one JSON object");
    for field in [
        "offered_per_s",
        "achieved_per_s",
        "acked",
        "rejected",
        "lost",
        "duplicated",
        "misordered",
        "stray",
        "ack_ms",
        "delivery_ms",
        "server_cpu_seconds",
        "disk_bytes",
        "ack_mode",
        "verdict",
        "lateness_ms",
    ] {
        assert!(json.get(field).is_some(), "{field}");
    }
    for field in ["p50", "p90", "p99", "p99.9", "max"] {
        assert!(
            json["ack_ms"][field].as_f64().is_some_and(|ms| ms > 0.0),
            "{field}"
        );
        assert!(
            json["delivery_ms"][field]
                .as_f64()
                .is_some_and(|ms| ms > 0.0),
            "{field}"
        );
    }
    let readme = include_str!("../README.md");
    for field in json.as_object().expect("an object").keys() {
        assert!(
            readme.contains(&format!("`{field}`")),
            "{field} is not documented"
        );
    }
    let back: Report = serde_json::from_str(&report.to_json()).expect("reads back");
    assert_eq!(back.to_json(), report.to_json());
}
