//! Whole runs through tunnels, against servers made of rustls and of quinn: the books are as exact as over plain TCP, also when
//! the server misbehaves, and everybody else who may take part can.

use client::fake::{Authority, CHANNEL, Fake, Fault, KEY, tls_config};
use client::{Security, Transport};
use loadgen::{
    BodySizes, LoadOptions, LoadPlan, Others, Quiet, ReceiverCredential, Report, SenderCredential,
    ServerCpu, Verdict,
};
use std::time::Duration;
use wire::reason::Reason;

const FOREBAY: &[&[u8]] = &[b"forebay/1"];
/// Long enough for a busy machine. A run that misses nothing ends before.
const PATIENCE: Duration = Duration::from_secs(30);
/// A run that misses something lasts as long as this.
const MISSING: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Tls,
    Quic,
}

const KINDS: [Kind; 2] = [Kind::Tls, Kind::Quic];

impl Kind {
    fn start(self, faults: &[Fault]) -> (Fake, Transport) {
        let authority = Authority::default();
        let pair = authority.issue("127.0.0.1");
        let security = Security::authority(authority.pem);
        match self {
            Self::Tls => {
                let fake = Fake::start_tls(faults, tls_config(&pair, FOREBAY));
                (fake, Transport::Tls(security))
            }
            Self::Quic => {
                let fake = Fake::start_quic(faults, &pair, FOREBAY);
                (fake, Transport::Quic(security))
            }
        }
    }
}

fn sender(number: usize) -> SenderCredential {
    SenderCredential {
        endpoint: format!("a/e/sender-{number}"),
        key_id: 1,
        key: KEY.to_owned(),
        channel: CHANNEL.to_owned(),
    }
}

fn reader(name: &str) -> ReceiverCredential {
    ReceiverCredential {
        endpoint: format!("a/e/{name}"),
        key_id: 1,
        key: KEY.to_owned(),
    }
}

fn plan(fake: &Fake, transport: Transport, senders: usize) -> LoadPlan {
    LoadPlan {
        addr: fake.addr,
        transport,
        senders: (0..senders).map(sender).collect(),
        receivers: vec![reader("reader")],
        // Short and slow, so that a busy machine does not matter to what is proved here.
        options: LoadOptions {
            rate: 400.0,
            duration: Duration::from_millis(250),
            warm_up: Duration::ZERO,
            drain: PATIENCE,
            lateness_share_max: 1e9,
            ..LoadOptions::default()
        },
        server_cpu: ServerCpu::Unknown,
        others: Others::default(),
        data: None,
    }
}

fn run(plan: LoadPlan) -> Report {
    loadgen::run(plan, &mut Quiet).expect("the run starts")
}

#[test]
fn a_faultless_server_gets_a_clean_report_that_names_the_transport() {
    for kind in KINDS {
        for (senders, batch, bytes) in [(1, 1, 128), (3, 7, 128), (1, 16, 20_000)] {
            let (fake, transport) = kind.start(&[]);
            let name = transport.name();
            let mut plan = plan(&fake, transport, senders);
            plan.options.batch = batch;
            plan.options.message_bytes = BodySizes::Uniform(0, bytes);
            let report = run(plan);
            // A run that a busy machine holds up is void, and its books are exact all the same.
            assert_ne!(report.verdict, Verdict::Faulty, "{kind:?}: {report}");
            assert_eq!(
                (report.sent, report.acked),
                (100, 100),
                "{kind:?}: {report}"
            );
            assert_eq!(report.delivered, 100, "{kind:?}: {report}");
            assert_eq!(report.transport, name);
            assert_eq!(fake.state().bodies().len(), 100);
        }
    }
}

#[test]
fn as_fast_as_credit_allows_nothing_is_lost() {
    for kind in KINDS {
        let (fake, transport) = kind.start(&[]);
        let mut plan = plan(&fake, transport, 2);
        plan.options.rate = 0.0;
        plan.options.batch = 16;
        let report = run(plan);
        assert_ne!(report.verdict, Verdict::Faulty, "{kind:?}: {report}");
        assert!(report.acked > 100, "{kind:?}: {report}");
        assert_eq!(report.delivered, report.acked, "{kind:?}: {report}");
    }
}

#[test]
fn what_a_server_does_wrong_is_found() {
    for kind in KINDS {
        for (fault, count) in [
            (Fault::Lose(3), "lost"),
            (Fault::Duplicate(3), "duplicated"),
            (Fault::Swap(3), "misordered"),
            (Fault::Alter(3), "altered"),
            (Fault::Rename(3), "stray"),
            (Fault::Cut(30), "lost"),
        ] {
            let (fake, transport) = kind.start(&[fault]);
            let mut plan = plan(&fake, transport, 1);
            plan.options.drain = MISSING;
            let report = run(plan);
            assert_eq!(report.verdict, Verdict::Faulty, "{kind:?}, {fault:?}");
            let found = match count {
                "lost" => report.lost,
                "duplicated" => report.duplicated,
                "misordered" => report.misordered,
                "altered" => report.altered,
                _ => report.stray,
            };
            assert!(found > 0, "{kind:?}, {fault:?}: {report}");
        }
    }
}

#[test]
fn flooders_come_back_slow_receivers_read_and_storms_blow() {
    for kind in KINDS {
        let busy = (20..24).map(|number| Fault::Reject(number, Reason::Busy, 5));
        let faults: Vec<Fault> = busy.chain([Fault::Cut(60)]).collect();
        let (fake, transport) = kind.start(&faults);
        let mut plan = plan(&fake, transport, 1);
        plan.receivers.clear();
        plan.others = Others {
            flooders: vec![sender(7)],
            slow_receivers: vec![reader("slow-reader")],
            slow_per_s: 1e6,
            storm: vec![reader("storm-reader")],
            storm_per_s: 100.0,
        };
        let report = run(plan);
        assert_eq!(report.classes.len(), 2, "{kind:?}: {report}");
        for class in &report.classes {
            let answered = class.acked + class.rejected + class.lost;
            assert_eq!(class.sent, answered, "{kind:?}: {report}");
        }
        let slow = report.slow_receivers.as_ref().expect("there was one");
        assert!(slow.read > 0, "{kind:?}: {report}");
        let storm = report.storm.as_ref().expect("there was one");
        assert_eq!((storm.due, storm.opened), (25, 25), "{kind:?}: {report}");
    }
}

#[test]
fn a_server_that_is_not_trusted_gets_no_load() {
    for kind in KINDS {
        let (fake, transport) = kind.start(&[]);
        let stranger = Security::authority(Authority::default().pem);
        let transport = match transport {
            Transport::Tls(_) => Transport::Tls(stranger),
            _ => Transport::Quic(stranger),
        };
        let refused = loadgen::run(plan(&fake, transport, 1), &mut Quiet);
        let code = refused.err().map(|refused| refused.code);
        assert_eq!(code, Some(5_114), "{kind:?}");
        assert_eq!(fake.state().hellos, (0, 0));
    }
}

#[test]
fn over_quic_who_sends_is_told_once_where_it_is_at_home_and_comes_back_there_at_once() {
    // Of 256 shards a random one is hardly ever the right one.
    let (home, shards) = (77_u16, 256_u16);
    let faults: Vec<Fault> = (1..10).map(|cut| Fault::Cut(60 * cut)).collect();
    let (fake, transport) = Kind::Quic.start(&faults);
    fake.state().home = (home, shards);
    let mut plan = plan(&fake, transport, 1);
    plan.receivers.clear();
    plan.others.flooders = vec![sender(7)];
    let report = run(plan);
    let state = fake.state();
    let (at_home, elsewhere): (Vec<u8>, Vec<u8>) =
        (state.arrivals.iter()).partition(|byte| u16::from(**byte) % shards == home);
    let seen = format!("{at_home:?}, {elsewhere:?}: {report}");
    assert!(at_home.len() > 2, "the flooder came back: {seen}");
    assert!(elsewhere.len() <= 2, "each is told once: {seen}");
}
