//! A node with its control plane, worked by commands alone, as a script would: no terminal, no file edited.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use client::{Credentials, Message};
use control::keys::new_secret;
use control::render::{INGRESS_KEY_ID, NewEndpoint, NewPlan, render};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const CONFIG: &str = "[node]\ndata = \"data\"\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nshards = 3\n\n[plan]\nfile = \"plan.toml\"\n\n[control]\nlisten = \"127.0.0.1:0\"\n";

/// A running `forebay run`; killed when dropped.
struct Node {
    child: Child,
    api: String,
    /// The certificate of the API.
    pin: String,
    listen: String,
    admin: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> tempfile::TempDir {
    folder_of([new_secret().text(), new_secret().text()])
}

/// A folder with a plan whose endpoints `pump` and `press` have these secrets.
fn folder_of(secrets: [&str; 2]) -> tempfile::TempDir {
    let endpoint = |(name, secret): (&str, &str)| NewEndpoint {
        name: name.into(),
        ingress: Some(secret.into()),
        send: vec!["readings".into()],
        ..NewEndpoint::default()
    };
    let folder = tempfile::tempdir().expect("a folder");
    let plan = NewPlan {
        environment: "acme/prod".into(),
        partitions: 3,
        ack: "local".into(),
        channels: vec!["readings".into()],
        endpoints: ["pump", "press"]
            .into_iter()
            .zip(secrets)
            .map(endpoint)
            .collect(),
    };
    std::fs::write(folder.path().join("plan.toml"), render(&plan)).expect("written");
    std::fs::write(folder.path().join("forebay.toml"), CONFIG).expect("written");
    folder
}

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for name in [
        "FOREBAY_TOKEN",
        "FOREBAY_TOKEN_FILE",
        "FOREBAY_API",
        "FOREBAY_MASTER_KEY",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn start(folder: &Path) -> Node {
    let mut child = binary()
        .args(["run", "--config"])
        .arg(folder.join("forebay.toml"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let (mut api, mut pin, mut listen, mut admin) = (None, None, None, None);
    for line in out.lines().map_while(Result::ok) {
        if let Some(address) = line.strip_prefix("api on https://") {
            api = Some(address.to_owned());
        }
        if let Some((_, fingerprint)) = line.split_once(", to be pinned: ") {
            pin = Some(fingerprint.to_owned());
        }
        if let Some(address) = line.strip_prefix("listening on ") {
            listen = Some(address.to_owned());
        }
        if let Some(address) = line.strip_prefix("admin on ") {
            admin = Some(address.to_owned());
            break;
        }
    }
    let api = api.expect("it says where its API is");
    let listen = listen.expect("it says where it listens");
    let admin = admin.expect("it says where its numbers are");
    Node {
        child,
        api,
        pin: pin.expect("it says what to pin"),
        listen,
        admin,
    }
}

fn token_file(folder: &Path) -> PathBuf {
    folder.join("forebay-control").join("first-owner.token")
}

impl Node {
    fn ask(&self, token: &Path, arguments: &[&str]) -> Output {
        let mut command = binary();
        command.args(arguments).env("FOREBAY_API", &self.api);
        command.env("FOREBAY_API_PIN", &self.pin);
        command.env("FOREBAY_TOKEN_FILE", token);
        command.output().expect("run")
    }

    /// Standard output of a command that succeeds.
    fn good(&self, token: &Path, arguments: &[&str]) -> String {
        let output = self.ask(token, arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What the node has refused so far: lines of its metrics page, which has the numbers of all shards.
    fn rejects(&self) -> Vec<String> {
        loop {
            let mut stream = TcpStream::connect(&self.admin).expect("it serves");
            let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).expect("written");
            let mut page = String::new();
            stream.read_to_string(&mut page).expect("a page");
            // On a busy machine a shard may answer too late for a page.
            if page.contains("\nforebay_append_messages_total ") {
                let refused = |line: &&str| line.starts_with("forebay_rejects_total{");
                return page.lines().filter(refused).map(str::to_owned).collect();
            }
        }
    }

    /// Standard error of a command that fails.
    fn bad(&self, token: &Path, arguments: &[&str]) -> String {
        let output = self.ask(token, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }
}

#[test]
fn a_key_is_revoked_on_every_shard_and_stays_so_when_the_process_is_killed() {
    let folder = folder();
    let token = token_file(folder.path());
    let node = start(folder.path());
    let pump = "acme/prod/pump";
    let told = node.good(
        &token,
        &["keys", "revoke", pump, "ingress-primary", "--wait"],
    );
    assert!(
        told.contains("is revoked") && told.contains("applied on 1/1 nodes, 3/3 shards in "),
        "{told}"
    );
    let listed = node.good(&token, &["keys", "ls", pump]);
    assert!(listed.contains("revoked"), "{listed}");
    // Killed, not stopped: whoever is dropped is.
    drop(node);
    let node = start(folder.path());
    let listed = node.good(&token, &["keys", "ls", pump, "--json"]);
    assert!(listed.contains("\"state\":\"revoked\""), "{listed}");
    let told = node.good(
        &token,
        &["keys", "restore", pump, "ingress-primary", "--wait", "30s"],
    );
    assert!(told.contains("3/3 shards"), "{told}");
    let made = node.good(
        &token,
        &[
            "keys",
            "rotate",
            pump,
            "--direction",
            "ingress",
            "--overlap",
            "1h",
            "--wait",
        ],
    );
    assert!(
        made.contains("secret ") && made.contains("3/3 shards"),
        "{made}"
    );
    let log = node.good(&token, &["audit", "ls"]);
    for act in [
        "import",
        "token create",
        "key revoke",
        "key restore",
        "key rotate",
    ] {
        assert!(log.contains(act), "{act}: {log}");
    }
    let verdict = node.good(&token, &["audit", "verify"]);
    assert!(verdict.contains("faults"), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_session_of_a_revoked_key_ends_and_nobody_else_notices() {
    let (pump, press) = (new_secret(), new_secret());
    let folder = folder_of([pump.text(), press.text()]);
    let token = token_file(folder.path());
    let node = start(folder.path());
    let open = async |name: &str, secret: &str| {
        let credentials = Credentials::key(name, INGRESS_KEY_ID, secret).expect("a key");
        client::connect(&node.listen, credentials).await?.sender()
    };
    let send = async |sender: &client::Sender| {
        let sent = sender.send("acme/prod/readings", Message::new("7")).await?;
        sent.await.map(drop)
    };
    let revoked = open("acme/prod/pump", pump.text()).await.expect("good");
    let other = open("acme/prod/press", press.text()).await.expect("good");
    send(&revoked).await.expect("it may");
    send(&other).await.expect("it may");
    node.good(
        &token,
        &[
            "keys",
            "revoke",
            "acme/prod/pump",
            "ingress-primary",
            "--wait",
        ],
    );
    assert!(
        send(&revoked).await.is_err(),
        "not one frame after it is on every shard"
    );
    assert!(
        open("acme/prod/pump", pump.text()).await.is_err(),
        "and no new session"
    );
    send(&other).await.expect("it was not meant");
    node.good(
        &token,
        &[
            "keys",
            "restore",
            "acme/prod/pump",
            "ingress-primary",
            "--wait",
        ],
    );
    let again = open("acme/prod/pump", pump.text()).await.expect("restored");
    send(&again).await.expect("restored");
    send(&other).await.expect("it was not meant");
}

#[test]
fn whoever_lost_every_token_gets_one_by_starting_again_or_without_the_node() {
    let folder = folder();
    let token = token_file(folder.path());
    let node = start(folder.path());
    let first = std::fs::read_to_string(&token).expect("readable");
    node.good(&token, &["tokens", "delete", "first-owner"]);
    assert!(node.bad(&token, &["account", "ls"]).contains("FB-2150"));
    drop(node);
    let node = start(folder.path());
    let second = std::fs::read_to_string(&token).expect("readable");
    assert_ne!(first, second, "the old file is replaced");
    node.good(&token, &["account", "ls"]);
    let offline = |name: &str| {
        let mut command = binary();
        command.args(["tokens", "create", "--offline", "--role", "owner", name]);
        command
            .arg("--config")
            .arg(folder.path().join("forebay.toml"));
        command.output().expect("run")
    };
    let told = String::from_utf8(offline("rescue").stderr).expect("UTF-8");
    assert!(told.contains("FB-2131"), "the running node has it: {told}");
    drop(node);
    std::fs::remove_file(&token).expect("removed");
    let made = offline("rescue");
    let told = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{told}");
    let rescue = folder.path().join("rescue.token");
    std::fs::write(&rescue, made.stdout).expect("written");
    let node = start(folder.path());
    let told = node.good(&rescue, &["tokens", "ls"]);
    assert!(
        told.contains("first-owner") && told.contains("rescue"),
        "{told}"
    );
    assert!(!token.exists(), "one is enough");
}

#[test]
fn everything_is_defined_changed_exported_and_deleted_by_commands() {
    let folder = folder();
    let token = token_file(folder.path());
    let node = start(folder.path());
    let good = |arguments: &[&str]| node.good(&token, arguments);
    good(&[
        "channel",
        "create",
        "acme/prod/alarms",
        "priority=low",
        "--wait",
    ]);
    good(&[
        "endpoint",
        "create",
        "acme/prod/office",
        "queue.messages_max=5",
        "queue.lock=10s",
    ]);
    good(&[
        "grant",
        "set",
        "acme/prod/office",
        "receive",
        "alarms",
        "addresses=[\"10.0.0.0/8\"]",
    ]);
    good(&[
        "subscription",
        "delete",
        "acme/prod/office",
        "acme/prod/alarms",
    ]);
    let heard = good(&["subscription", "ls", "acme/prod/office"]);
    assert!(
        heard.contains("alarms") && heard.contains("false"),
        "{heard}"
    );
    good(&["endpoint", "set", "acme/prod/office", "enabled=false"]);
    let shown = good(&["endpoint", "show", "acme/prod/office"]);
    assert!(
        shown.contains("enabled") && shown.contains("10.0.0.0/8"),
        "{shown}"
    );
    let names = good(&["channel", "ls", "acme/prod", "--names"]);
    assert_eq!(names, "acme/prod/alarms\nacme/prod/readings\n");
    let document = folder.path().join("document.toml");
    std::fs::write(&document, good(&["export"])).expect("written");
    let file = document.to_str().expect("UTF-8");
    assert!(good(&["apply", "-f", file, "--prune"]).contains("nothing differs"));
    let text = std::fs::read_to_string(&document).expect("readable");
    assert!(
        !text.contains("secret"),
        "secrets are not exported unasked: {text}"
    );
    std::fs::write(
        &document,
        text.replace("priority = \"low\"", "priority = \"normal\""),
    )
    .expect("written");
    let told = good(&["apply", "-f", file, "--dry-run"]);
    assert!(
        told.contains("~ channel acme/prod/alarms") && told.contains("\"low\" -> \"normal\""),
        "{told}"
    );
    good(&["apply", "-f", file, "--wait"]);
    let viewer = folder.path().join("viewer.token");
    std::fs::write(
        &viewer,
        good(&[
            "tokens",
            "create",
            "looker",
            "--role",
            "viewer",
            "--account",
            "acme",
        ]),
    )
    .expect("written");
    assert!(
        node.good(&viewer, &["endpoint", "ls", "acme/prod"])
            .contains("acme/prod/office")
    );
    for (token, arguments, code) in [
        (
            &viewer,
            &["endpoint", "delete", "acme/prod/office"][..],
            "FB-2151",
        ),
        (&viewer, &["account", "show", "other"], "FB-2152"),
        (&token, &["channel", "show", "acme/prod/alarm"], "FB-2141"),
        (&token, &["channel", "create", "acme/prod"], "FB-2205"),
        (
            &token,
            &["channel", "create", "acme/prod/alarms"],
            "FB-2142",
        ),
        (&token, &["hub", "create", "acme/none/new"], "FB-"),
        (&folder.path().join("none"), &["account", "ls"], "FB-2212"),
        (&document, &["account", "ls"], "FB-"),
    ] {
        let told = node.bad(token, arguments);
        assert!(told.contains(code), "{arguments:?}: {told}");
    }
    good(&["endpoint", "delete", "acme/prod/office", "--wait"]);
    good(&["tokens", "delete", "looker"]);
    assert!(node.bad(&viewer, &["account", "ls"]).contains("FB-2150"));
}

/// Frames of a sender that wait for their answers.
const UNDER_WAY: usize = 256;
/// Messages acked between two reports.
const REPORTED: u64 = 500;

/// A key's id and secret.
type KeyPair = (u32, String);

/// Send as fast as answers come, none of which may be a refusal: until `next` brings another key, then with that one until it closes.
/// Reports how many keys it has come to each time that so many messages more were acked.
async fn drive(
    (listen, name): (String, String),
    first: KeyPair,
    mut next: UnboundedReceiver<KeyPair>,
    report: UnboundedSender<usize>,
) {
    let (mut key, mut keys, mut acked) = (Some(first), 0, 0);
    while let Some((id, secret)) = key.take() {
        keys += 1;
        let credentials = Credentials::key(&name, id, &secret).expect("a key");
        let opened = client::connect(&listen, credentials).await;
        let sender = opened.and_then(client::Connection::sender);
        let sender = sender.expect("a good key");
        let mut tickets = VecDeque::new();
        loop {
            match next.try_recv() {
                Ok(another) => key = Some(another),
                Err(TryRecvError::Disconnected) => {}
                Err(TryRecvError::Empty) => {
                    let sent = sender.send("acme/prod/readings", Message::new("7")).await;
                    tickets.push_back(sent.expect("it is taken"));
                    if tickets.len() < UNDER_WAY {
                        continue;
                    }
                    let oldest = tickets.pop_front().expect("there are many");
                    oldest.await.expect("not one is refused");
                    acked += 1;
                    if acked % REPORTED == 0 {
                        // Nobody may want to know any more.
                        let _ = report.send(keys);
                    }
                    continue;
                }
            }
            break;
        }
        for ticket in tickets {
            ticket.await.expect("not one is refused");
        }
        sender.close().await.expect("it ends well");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_at_full_load_without_one_refusal() {
    let secrets = [new_secret(), new_secret()];
    let folder = folder_of([secrets[0].text(), secrets[1].text()]);
    let token = token_file(folder.path());
    let node = start(folder.path());
    let (mut driven, mut ways) = (Vec::new(), Vec::new());
    let names = ["acme/prod/pump", "acme/prod/press"];
    for (name, secret) in names.into_iter().zip(&secrets) {
        let (give, next) = unbounded_channel();
        let (report, reports) = unbounded_channel();
        let first = (INGRESS_KEY_ID, secret.text().to_owned());
        let way = (node.listen.clone(), name.to_owned());
        driven.push(tokio::spawn(drive(way, first, next, report)));
        ways.push((give, reports));
    }
    let mut made = Vec::new();
    for (name, (_, reports)) in names.into_iter().zip(&mut ways) {
        assert_eq!(reports.recv().await, Some(1), "it is under load");
        let order = ["keys", "rotate", name, "--direction", "ingress"];
        let order = [&order[..], &["--overlap", "1h", "--wait"]].concat();
        let told = node.good(&token, &order);
        made.push((id_of(&told), secret_of(&told)));
    }
    for ((give, reports), key) in ways.iter_mut().zip(made) {
        // With both live, a while by the old one, then by the new one.
        while reports.try_recv().is_ok() {}
        assert_eq!(reports.recv().await, Some(1));
        give.send(key).expect("it is driven");
        while reports.recv().await.expect("it is driven") < 2 {}
    }
    for name in names {
        let old = ["keys", "revoke", name, "ingress-primary", "--wait"];
        node.good(&token, &old);
    }
    for (_, reports) in &mut ways {
        while reports.try_recv().is_ok() {}
        assert_eq!(reports.recv().await, Some(2), "without the old one, too");
    }
    drop(ways);
    for driven in driven {
        driven.await.expect("not one is refused");
    }
    assert_eq!(node.rejects(), [""; 0]);
}

/// The id of a new key.
fn id_of(told: &str) -> u32 {
    let line = told.lines().find_map(|line| line.strip_prefix("id "));
    line.and_then(|id| id.parse().ok())
        .unwrap_or_else(|| panic!("{told}"))
}

/// The secret of a new key.
fn secret_of(told: &str) -> String {
    let line = told.lines().find_map(|line| line.strip_prefix("secret "));
    line.unwrap_or_else(|| panic!("{told}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_environment_takes_messages_at_once_and_keeps_them_when_the_process_is_killed() {
    let folder = folder();
    let token = token_file(folder.path());
    let node = start(folder.path());
    let good = |arguments: &[&str]| node.good(&token, arguments);
    good(&["env", "create", "acme/lab"]);
    good(&["channel", "create", "acme/lab/tests"]);
    let key = |endpoint: &str, allow: &str, direction: &str| {
        good(&["endpoint", "create", endpoint]);
        good(&["grant", "set", endpoint, allow, "tests"]);
        let order = ["keys", "create", endpoint, "--direction", direction];
        secret_of(&good(&[&order[..], &["--wait"]].concat()))
    };
    let bench = key("acme/lab/bench", "send", "ingress");
    let desk = key("acme/lab/desk", "receive", "egress");
    let open = async |node: &Node, name: &str, secret: &str| {
        let credentials = Credentials::key(name, 1, secret).expect("a key");
        client::connect(&node.listen, credentials).await
    };
    let sender = open(&node, "acme/lab/bench", &bench).await;
    let sender = sender.and_then(client::Connection::sender).expect("good");
    for number in 0..20 {
        let message = Message::new(number.to_string());
        let sent = sender.send("acme/lab/tests", message).await;
        let acked = sent.expect("it is taken").await.expect("it is acked");
        assert_eq!(acked.ack_mode, wire::ids::AckMode::Durable);
    }
    drop(node);
    let node = start(folder.path());
    let receiver = open(&node, "acme/lab/desk", &desk).await;
    let options = client::FetchOptions::default();
    let receiver = receiver.and_then(|connection| connection.receiver(options));
    let mut receiver = receiver.expect("good");
    for number in 0..20 {
        let delivery = receiver.next().await.expect("it goes on");
        let delivery = delivery.expect("it was kept");
        assert_eq!(delivery.body, number.to_string().into_bytes());
    }
}

#[test]
fn what_is_applied_before_a_node_starts_is_there_when_it_does() {
    let folder = folder();
    let token = token_file(folder.path());
    drop(start(folder.path()));
    let document = folder.path().join("hub.toml");
    std::fs::write(
        &document,
        "[[hubs]]\nname = \"acme/prod/new\"\npartitions = 2\n",
    )
    .expect("written");
    let config = folder.path().join("forebay.toml");
    let applied = binary()
        .args(["apply", "--offline", "-f"])
        .arg(&document)
        .arg("--config")
        .arg(&config)
        .output()
        .expect("run");
    assert!(
        applied.status.success(),
        "{}",
        String::from_utf8_lossy(&applied.stderr)
    );
    let node = start(folder.path());
    let made = node.good(
        &token,
        &["channel", "create", "acme/prod/late", "hub=new", "--wait"],
    );
    assert!(made.contains("3/3 shards"), "{made}");
    let busy = binary()
        .args(["apply", "--offline", "-f"])
        .arg(&document)
        .arg("--config")
        .arg(&config)
        .output()
        .expect("run");
    let told = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert!(told.contains("FB-2131"), "the running node has it: {told}");
}
