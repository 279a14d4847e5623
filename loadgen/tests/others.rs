//! Peers beside the senders that are measured: flooders, slow receivers, storms, fleets. Each has books of its own, and
//! they are exact.

use client::fake::{CHANNEL, Fake, Fault, KEY};
use loadgen::{
    Activity, Arrival, LoadOptions, LoadPlan, Others, Quiet, ReceiverCredential, Report,
    SenderCredential, ServerCpu, Verdict,
};
use std::collections::HashMap;
use std::time::Duration;
use wire::ids::EndpointId;
use wire::reason::Reason;

fn sender(name: &str) -> SenderCredential {
    SenderCredential {
        endpoint: format!("a/e/{name}"),
        key_id: 1,
        key: KEY.to_owned(),
        channel: CHANNEL.to_owned(),
    }
}

fn receiver(name: &str) -> ReceiverCredential {
    ReceiverCredential {
        endpoint: format!("a/e/{name}"),
        key_id: 1,
        key: KEY.to_owned(),
    }
}

/// Short, so that a busy machine does not matter to what is proved here.
const SHORT: Duration = Duration::from_millis(300);
/// Long enough for a busy machine. A run that misses nothing ends before.
const PATIENCE: Duration = Duration::from_secs(30);

fn run(fake: &Fake, senders: usize, rate: f64, activity: Activity, others: Others) -> Report {
    run_for(SHORT, fake, senders, rate, activity, others)
}

fn run_for(
    duration: Duration,
    fake: &Fake,
    senders: usize,
    rate: f64,
    activity: Activity,
    others: Others,
) -> Report {
    let slow = !others.slow_receivers.is_empty();
    let plan = LoadPlan {
        addr: fake.addr,
        transport: client::Transport::Tcp,
        senders: (0..senders)
            .map(|number| sender(&format!("sender-{number}")))
            .collect(),
        receivers: slow.then(|| receiver("reader")).into_iter().collect(),
        options: LoadOptions {
            rate,
            activity,
            arrival: Arrival::Poisson,
            duration,
            warm_up: Duration::ZERO,
            drain: PATIENCE,
            window: 8,
            lateness_share_max: 1e9,
            ..LoadOptions::default()
        },
        others,
        server_cpu: ServerCpu::Unknown,
        data: None,
    };
    loadgen::run(plan, &mut Quiet).expect("the run starts")
}

/// Messages in the server's log by sender.
fn logged(fake: &Fake) -> HashMap<EndpointId, u64> {
    let mut counts = HashMap::new();
    for stored in &fake.state().log {
        *counts.entry(stored.sender).or_default() += u64::from(stored.count);
    }
    counts
}

#[test]
fn a_flooder_goes_on_after_busy_and_comes_back_after_a_cut_and_its_books_are_those_of_the_log() {
    let busy = |frame| Fault::Reject(frame, Reason::Busy, 60_000);
    let flooded = |duration| {
        let fake = Fake::start(&[
            busy(40),
            Fault::Cut(60),
            busy(80),
            busy(90),
            Fault::Cut(120),
        ]);
        let others = Others {
            flooders: vec![sender("flooder")],
            ..Others::default()
        };
        let report = run_for(duration, &fake, 1, 20.0, Activity::Uniform, others);
        (fake, report)
    };
    // On a busy machine it takes longer to flood: again with more time, less than 60 s. Who is held up gets no further.
    let mut times = [1, 10, 100].map(|times| times * SHORT).into_iter();
    let (fake, report) = loop {
        let (fake, report) = flooded(times.next().expect("30 s are enough"));
        if report.classes[1].acked > 150 || times.len() == 0 {
            break (fake, report);
        }
    };
    let (good, flood) = (&report.classes[0], &report.classes[1]);
    for row in [good, flood] {
        assert_eq!(row.sent, row.acked + row.rejected + row.lost, "{report}");
    }
    assert_eq!((flood.busy + good.busy, flood.reopened), (3, 2), "{report}");
    assert_eq!(
        flood.lost, 0,
        "a WELCOME settles what a cut left open: {report}"
    );
    let logged = logged(&fake);
    let of = |name| logged.get(&EndpointId::of(name)).copied().unwrap_or(0);
    assert_eq!(
        (of("a/e/sender-0"), of("a/e/flooder")),
        (good.acked, flood.acked),
        "{report}"
    );
    assert!(flood.acked > 150, "60 s of BUSY did not hold it: {report}");
    assert!(flood.frames >= flood.sent, "{report}");
    assert_eq!(
        (report.sent, report.acked),
        (good.sent, good.acked),
        "the report itself is about the senders"
    );
}

#[test]
fn a_slow_receiver_is_behind_and_nothing_is_lost_by_that_but_what_it_reads_wrong_is_charged() {
    for (per_s, fault) in [(0.0, None), (50.0, None), (1e6, Some(Fault::Duplicate(3)))] {
        let fake = Fake::start(fault.as_slice());
        let others = Others {
            slow_receivers: vec![receiver("slow-reader-1"), receiver("slow-reader-2")],
            slow_per_s: per_s,
            ..Others::default()
        };
        let report = run(&fake, 2, 1_000.0, Activity::Uniform, others);
        let slow = report.slow_receivers.as_ref().expect("there were some");
        let faulty = report.verdict == Verdict::Faulty;
        assert_eq!((report.lost, faulty), (0, fault.is_some()), "{report}");
        let owed = 2 * report.acked;
        let read_once = owed - slow.behind;
        assert!(slow.read >= read_once, "{report}");
        match per_s {
            0.0 => assert_eq!((slow.read, slow.behind), (0, owed), "{report}"),
            50.0 => assert!(slow.behind > 0 && slow.read > 0, "{report}"),
            _ => assert_eq!(report.duplicated, 3, "each of three readers: {report}"),
        }
    }
}

#[test]
fn a_storm_opens_every_session_that_is_due_and_counts_what_was_refused() {
    let fake = Fake::start(&[]);
    let others = Others {
        storm: vec![receiver("one"), receiver("two")],
        storm_per_s: 100.0,
        ..Others::default()
    };
    let report = run(&fake, 1, 50.0, Activity::Uniform, others);
    let storm = report.storm.as_ref().expect("there was one");
    assert_eq!(
        (storm.due, storm.opened, storm.refused),
        (30, 30, 0),
        "{report}"
    );
    assert_eq!(storm.open_ms.expect("timed").count, 30, "{report}");

    let mut wrong = receiver("one");
    wrong.key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned();
    let others = Others {
        storm: vec![wrong],
        storm_per_s: 100.0,
        ..Others::default()
    };
    let report = run(&fake, 1, 50.0, Activity::Uniform, others);
    let storm = report.storm.as_ref().expect("there was one");
    assert_eq!(
        (storm.due, storm.opened, storm.refused),
        (30, 0, 30),
        "{report}"
    );
    assert_eq!((storm.reasons[0].code, storm.reasons[0].frames), (1104, 30));
}

#[test]
fn each_sender_of_a_fleet_sends_what_its_own_schedule_says() {
    let fake = Fake::start(&[]);
    let report = run(&fake, 8, 1_000.0, Activity::Zipf(1.5), Others::default());
    assert_eq!((report.lost, report.sent), (0, report.acked), "{report}");
    let logged = logged(&fake);
    let shares = Activity::Zipf(1.5).shares(8);
    for (number, share) in shares.iter().enumerate() {
        let schedule = loadgen::schedule::Schedule::of_share(
            Arrival::Poisson,
            1_000.0,
            *share,
            Duration::from_millis(300),
            number as u32,
            1,
        );
        let name = format!("a/e/sender-{number}");
        let sent = logged.get(&EndpointId::of(&name)).copied().unwrap_or(0);
        assert_eq!(sent, schedule.count() as u64, "{name} of seed 1: {report}");
    }
}
