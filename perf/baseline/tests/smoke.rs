//! The baseline is an honest server: the load generator's books balance against it, and its log holds what it acked.

use control::render::{INGRESS_KEY_ID, NewEndpoint, NewPlan, render};
use loadgen::progress::Quiet;
use loadgen::{BodySizes, LoadOptions, LoadPlan, Others, SenderCredential, ServerCpu, Verdict};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SENDERS: usize = 4;
const ENVIRONMENT: &str = "acme/prod";

/// A server that ends with the test.
struct Served {
    process: Child,
    addr: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it was killed");
    }
}

fn baseline() -> Command {
    Command::new(env!("CARGO_BIN_EXE_forebay-baseline"))
}

fn serve(folder: &Path) -> Served {
    let mut process = baseline()
        .args(["serve", "--plan"])
        .arg(folder.join("plan.toml"))
        .arg("--data")
        .arg(folder.join("data"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the baseline starts");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("it says where it listens");
    let addr = line.trim_start_matches("listening on ").trim().parse();
    let addr = addr.unwrap_or_else(|error| panic!("{error}: {line}"));
    Served { process, addr }
}

/// A plan of `SENDERS` endpoints in `folder`, and their credentials.
fn plan(folder: &Path, ack: &str) -> Vec<SenderCredential> {
    let secrets: Vec<String> = (0..SENDERS)
        .map(|_| control::keys::new_secret().text().to_owned())
        .collect();
    let endpoints = secrets
        .iter()
        .enumerate()
        .map(|(number, secret)| NewEndpoint {
            name: format!("pump-{number}"),
            ingress: Some(secret.clone()),
            send: vec!["readings".to_owned()],
            ..NewEndpoint::default()
        });
    let plan = NewPlan {
        environment: ENVIRONMENT.to_owned(),
        partitions: 1,
        ack: ack.to_owned(),
        channels: vec!["readings".to_owned()],
        endpoints: endpoints.collect(),
    };
    std::fs::write(folder.join("plan.toml"), render(&plan)).expect("a plan can be written");
    let credential = |(number, key)| SenderCredential {
        endpoint: format!("{ENVIRONMENT}/pump-{number}"),
        key_id: INGRESS_KEY_ID,
        key,
        channel: format!("{ENVIRONMENT}/readings"),
    };
    secrets.into_iter().enumerate().map(credential).collect()
}

fn count(folder: &Path) -> u64 {
    let output = baseline()
        .args(["count", "--data"])
        .arg(folder.join("data"))
        .output()
        .expect("the baseline starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn what_the_baseline_acks_is_all_that_was_sent_and_all_that_its_log_holds() {
    for (ack, batch, window) in [("durable", 1, 0), ("durable", 16, 4), ("local", 3, 1)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let senders = plan(folder.path(), ack);
        let server = serve(folder.path());
        let report = loadgen::run(
            LoadPlan {
                addr: server.addr,
                transport: loadgen::Transport::Tcp,
                senders,
                receivers: Vec::new(),
                options: LoadOptions {
                    rate: 4_000.0,
                    duration: Duration::from_millis(200),
                    warm_up: Duration::ZERO,
                    batch,
                    window,
                    message_bytes: BodySizes::Fixed(100),
                    lateness_share_max: 1e6,
                    ..LoadOptions::default()
                },
                server_cpu: ServerCpu::Process(server.process.id()),
                others: Others::default(),
                data: None,
            },
            &mut Quiet,
        )
        .expect("the run goes through");
        drop(server);
        let case = format!(
            "{ack}, {batch} in a frame, window {window}: {}",
            report.to_json()
        );
        assert_ne!(report.verdict, Verdict::Faulty, "{case}");
        assert_eq!(report.ack_mode, ack, "{case}");
        assert_eq!((report.rejected, report.unanswered), (0, 0), "{case}");
        assert_eq!(report.acked, report.sent, "{case}");
        assert!(report.sent >= 700, "{case}");
        assert_eq!(count(folder.path()), report.acked, "{case}");
    }
}

#[test]
fn a_log_whose_bytes_changed_is_not_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let senders = plan(folder.path(), "local");
    let server = serve(folder.path());
    let plan = LoadPlan {
        addr: server.addr,
        transport: loadgen::Transport::Tcp,
        senders,
        receivers: Vec::new(),
        options: LoadOptions {
            rate: 1_000.0,
            duration: Duration::from_millis(50),
            warm_up: Duration::ZERO,
            lateness_share_max: 1e6,
            ..LoadOptions::default()
        },
        server_cpu: ServerCpu::Unknown,
        others: Others::default(),
        data: None,
    };
    loadgen::run(plan, &mut Quiet).expect("the run goes through");
    drop(server);
    let whole = count(folder.path());
    let path = folder.path().join("data/000000.log");
    let mut log = std::fs::read(&path).expect("the log is there");
    log[5_000] ^= 1;
    std::fs::write(&path, &log).expect("it can be written");
    let before = count(folder.path());
    assert!((1..whole).contains(&before), "{before} of {whole}");
}
