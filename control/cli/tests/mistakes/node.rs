//! Mistakes made against a running node: starting it, proving who one is, sending what is not allowed.

use std::io::{BufRead, BufReader, Lines};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use client::{ClientError, Credentials, Delivery, FetchOptions, Message};
use wire::signature::SecretKey;

use crate::folder::{Folder, SECRET, closed_port};
use crate::{Answer, Mistake, answer, check_all, forebay};

/// Endpoints that each have something wrong with them.
const MORE: &str = include_str!("more.toml");

/// A node in a process of its own; killed when dropped.
struct Node {
    child: Child,
    listen: String,
    /// Kept open, so that the node can go on printing.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(folder: &Folder) -> Self {
        let mut child = forebay(&["run", "--config", &folder.config()])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary was built for this test");
        let out = child.stdout.take().expect("stdout is piped");
        let mut output = BufReader::new(out).lines();
        let line = output
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains("listening on "));
        let line = line.expect("the node says where it listens before it ends");
        let listen = line
            .split_once("listening on ")
            .map_or("", |(_, rest)| rest);
        let listen = listen
            .split_whitespace()
            .next()
            .expect("an address follows")
            .to_owned();
        Self {
            child,
            listen,
            _output: output,
        }
    }

    /// SIGTERM, then wait.
    fn stop(mut self) {
        let stopped = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .expect("kill is there");
        assert!(stopped.success());
        self.child.wait().expect("it ends after SIGTERM");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(folder: &Folder) -> Answer {
    answer(&["run", "--config", &folder.config()])
}

/// Start under a lowered limit of the kernel, without the privilege that would lift it.
fn start_limited(folder: &Folder, limit: &str) -> Answer {
    let run = [
        env!("CARGO_BIN_EXE_forebay"),
        "run",
        "--config",
        &folder.config(),
    ]
    .map(str::to_owned);
    let mut command = Command::new("setpriv");
    command.args([
        "--bounding-set=-ipc_lock,-sys_resource",
        "--inh-caps=-ipc_lock,-sys_resource",
        "prlimit",
        limit,
    ]);
    command
        .args(run)
        .output()
        .expect("setpriv and prlimit come with util-linux")
        .into()
}

#[test]
fn a_start_that_cannot_succeed_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken
        .local_addr()
        .map(|at| (at.to_string(), taken))
        .expect("it is bound");
    let spoiled = |file: &str, from: &str, to: &str| {
        let folder = Folder::new();
        folder.spoil(file, from, to);
        folder.write("file", "not a folder");
        start(&folder)
    };
    let listen = "listen = \"127.0.0.1:0\"";
    let admin = "admin = \"127.0.0.1:0\"";
    let limited = |limit: &str| start_limited(&Folder::new(), limit);
    let mistakes = [
        (
            "port taken",
            spoiled("forebay.toml", listen, &format!("listen = \"{}\"", taken.0)),
            3108,
            &["127.0.0.1"][..],
        ),
        (
            "admin port taken",
            spoiled("forebay.toml", admin, &format!("admin = \"{}\"", taken.0)),
            3109,
            &["127.0.0.1"],
        ),
        (
            "address of another machine",
            spoiled(
                "forebay.toml",
                listen,
                "listen = \"203.0.113.7:7411\"\nplain = \"anywhere\"",
            ),
            3110,
            &["203.0.113.7"],
        ),
        (
            "a file in place of the folder",
            spoiled("forebay.toml", "\"data\"", "\"file\""),
            3101,
            &["file"],
        ),
        (
            "folder below a file",
            spoiled("forebay.toml", "\"data\"", "\"file/data\""),
            3101,
            &["file/data"],
        ),
        (
            "plan with a dangling name",
            spoiled(
                "plan.toml",
                "channel = \"readings\"",
                "channel = \"nothing\"",
            ),
            2107,
            &["nothing"],
        ),
        (
            "memlock too low",
            limited("--memlock=65536:65536"),
            3113,
            &["65536", "ulimit -l"],
        ),
        (
            "open files too low",
            limited("--nofile=64:64"),
            3005,
            &["64", "ulimit -Hn"],
        ),
    ]
    .map(|(why, output, code, names)| Mistake {
        why,
        output,
        code,
        exit: None,
        names,
    });
    check_all(&mistakes);
}

#[test]
fn a_data_folder_that_does_not_fit_is_refused() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let second = start(&folder);
    node.stop();
    folder.spoil("plan.toml", "partitions = 2", "partitions = 3");
    let partitions = start(&folder);
    folder.spoil("plan.toml", "partitions = 3", "partitions = 2");
    folder.write(
        "plan.toml",
        &format!(
            "queue_groups = 5\n{}",
            std::fs::read_to_string(folder.plan()).expect("it was written")
        ),
    );
    let groups = start(&folder);
    folder.write("data/format.toml", "version = \"later\"");
    let format = start(&folder);
    let mistakes = [
        ("second process on one folder", second, 3103, &["data"][..]),
        ("partition count changed", partitions, 3106, &["3", "2"]),
        ("queue groups changed", groups, 3107, &["5", "4"]),
        ("format file damaged", format, 3104, &["format.toml"]),
    ]
    .map(|(why, output, code, names)| Mistake {
        why,
        output,
        code,
        exit: None,
        names,
    });
    check_all(&mistakes);
}

/// Connect, and send one message of `bytes` bytes.
async fn send(
    addr: &str,
    credentials: Result<Credentials, ClientError>,
    channel: &str,
    bytes: usize,
) -> Answer {
    let attempt = async {
        let sender = client::connect(addr, credentials?).await?.sender()?;
        let ticket = sender
            .send(channel, Message::new(vec![b'x'; bytes]))
            .await?;
        ticket.await
    };
    match attempt.await {
        Ok(receipt) => Answer {
            text: format!("nothing is wrong: {receipt}"),
            exit: None,
        },
        Err(error) => Answer {
            text: error.to_string(),
            exit: None,
        },
    }
}

fn key(endpoint: &str) -> Result<Credentials, ClientError> {
    Credentials::key(endpoint, 1, SECRET)
}

fn token(endpoint: &str, skn: &str, lifetime: i64) -> Result<Credentials, ClientError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is after 1970")
        .as_secs();
    let secret = SecretKey::from_base64(SECRET).expect("it is a key");
    let expiry = now.checked_add_signed(lifetime).expect("near now");
    Credentials::token(
        "a/e/pump",
        &wire::token::mint(secret.mac(), &format!("sb://node/{endpoint}"), expiry, skn),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_party_that_is_not_allowed_is_told_why() {
    let folder = Folder::new();
    folder.write(
        "plan.toml",
        &(std::fs::read_to_string(folder.plan()).expect("it was written")
            + &MORE.replace("SECRET", SECRET)),
    );
    let node = Node::start(&folder);
    let at = node.listen.as_str();
    let readings = "a/e/readings";
    let other = SecretKey::from_random([3; 32]);
    let mut mistakes = Vec::new();
    let mut row = |why, output, code, names: &'static [&'static str]| {
        mistakes.push(Mistake {
            why,
            output,
            code,
            exit: None,
            names,
        })
    };
    row(
        "wrong key",
        send(
            at,
            Credentials::key("a/e/pump", 1, other.text()),
            readings,
            8,
        )
        .await,
        1104,
        &[],
    );
    row(
        "unknown endpoint",
        send(at, key("a/e/pmup"), readings, 8).await,
        1104,
        &[],
    );
    row(
        "unknown key id",
        send(at, Credentials::key("a/e/pump", 9, SECRET), readings, 8).await,
        1104,
        &[],
    );
    row(
        "expired key",
        send(at, key("a/e/old"), readings, 8).await,
        1105,
        &[],
    );
    row(
        "revoked key",
        send(at, key("a/e/gone"), readings, 8).await,
        1106,
        &[],
    );
    row(
        "disabled endpoint",
        send(at, key("a/e/off"), readings, 8).await,
        1114,
        &[],
    );
    row(
        "expired token",
        send(at, token("a/e/pump", "ingress", -3_600), readings, 8).await,
        1107,
        &[],
    );
    row(
        "token of another",
        send(at, token("a/e/office", "ingress", 3_600), readings, 8).await,
        1109,
        &[],
    );
    row(
        "token of no key",
        send(at, token("a/e/pump", "nobody", 3_600), readings, 8).await,
        1104,
        &[],
    );
    row(
        "token that is none",
        send(at, Credentials::token("a/e/pump", "sesame"), readings, 8).await,
        5106,
        &[],
    );
    row(
        "key that is none",
        send(at, Credentials::key("a/e/pump", 1, "sesame"), readings, 8).await,
        5106,
        &[],
    );
    row(
        "endpoint that is none",
        send(at, key("pump"), readings, 8).await,
        5106,
        &["pump"],
    );
    row(
        "sending with an egress key",
        send(at, key("a/e/office"), readings, 8).await,
        5109,
        &["egress"],
    );
    row(
        "channel not granted",
        send(at, key("a/e/pump"), "a/e/orders", 8).await,
        5107,
        &["a/e/orders"],
    );
    row(
        "body one byte too long",
        send(at, key("a/e/pump"), readings, 262_145).await,
        5108,
        &["262145", "262144"],
    );
    row(
        "body restricted",
        send(at, key("a/e/small"), readings, 17).await,
        1407,
        &["17", "16"],
    );
    row(
        "address restricted",
        send(at, key("a/e/elsewhere"), readings, 8).await,
        1116,
        &[],
    );
    row(
        "origin restricted",
        send(at, key("a/e/page"), readings, 8).await,
        1405,
        &[],
    );
    row(
        "nobody listens",
        send(&closed_port(), key("a/e/pump"), readings, 8).await,
        5101,
        &["127.0.0.1"],
    );
    row(
        "receiving with an ingress key",
        receive(at, key("a/e/pump")).await,
        5109,
        &["ingress"],
    );
    assert!(
        send(at, key("a/e/pump"), readings, 8)
            .await
            .text
            .contains("nothing is wrong")
    );
    check_all(&mistakes);
}

async fn receive(addr: &str, credentials: Result<Credentials, ClientError>) -> Answer {
    let attempt = async {
        let mut receiver = client::connect(addr, credentials?)
            .await?
            .receiver(FetchOptions::default())?;
        receiver
            .next()
            .await
            .transpose()
            .map(|delivery: Option<Delivery>| delivery.is_some())
    };
    match attempt.await {
        Ok(_) => Answer {
            text: "nothing is wrong".to_owned(),
            exit: None,
        },
        Err(error) => Answer {
            text: error.to_string(),
            exit: None,
        },
    }
}

#[test]
fn a_rate_that_cannot_be_kept_voids_the_run_with_exit_code_3() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let rate = [
        "load",
        "--plan",
        &folder.plan(),
        "--addr",
        &node.listen,
        "--rate",
        "20000000",
        "--duration",
        "5ms",
        "--warm-up",
        "0s",
    ];
    // A message every 50 ns: no processor signs one in that time. A hundred thousand are enough to tell, and are answered in
    // time under a sanitizer as well.
    let output = answer(&[&rate[..], &["--drain", "60s", "--no-read-back"]].concat());
    check_all(&[Mistake {
        why: "rate",
        output,
        code: 5210,
        exit: Some(3),
        names: &["20000000"],
    }]);
}
