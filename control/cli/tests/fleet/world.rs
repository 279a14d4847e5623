//! A control plane and nodes in processes of their own, in one folder, worked as an operator would.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use client::{Security, Transport};
use control::keys::new_secret;
use control::render::{NewEndpoint, NewPlan, render};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a state is waited for before a test gives up.
const PATIENCE: Duration = Duration::from_secs(180);
/// What everybody sends to.
pub(crate) const CHANNEL: &str = "acme/prod/readings";

/// Wait until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let by = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < by, "not so in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn binary() -> Command {
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

/// A process of ours; killed when dropped, as by `kill -9`.
pub(crate) struct Process {
    child: Child,
    /// Open for as long as the process may say something.
    _out: BufReader<ChildStdout>,
    /// What it said behind these words.
    said: Vec<(String, String)>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Start one and read what it says until a line that begins with `last`.
    fn start(folder: &Path, arguments: &[&str], name: &str, last: &str) -> Self {
        let log = folder.join(format!("{name}.log"));
        let log = File::options().append(true).create(true).open(log);
        let config = folder.join(format!("{name}.toml"));
        let mut child = binary()
            .args(arguments)
            .arg("--config")
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("started");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            let read = out.read_line(&mut line).expect("UTF-8");
            assert!(read > 0, "{name} ended: {}", log_of(folder, name));
            let line = line.trim_end();
            if let Some((what, value)) = line.rsplit_once(' ') {
                said.push((what.to_owned(), value.to_owned()));
            }
            if line.starts_with(last) {
                break;
            }
        }
        Self {
            child,
            _out: out,
            said,
        }
    }

    fn said(&self, what: &str) -> &str {
        let found = self.said.iter().find(|(words, _)| words == what);
        let (_, value) = found.unwrap_or_else(|| panic!("{what} in {:?}", self.said));
        value
    }

    /// Where a node takes frames.
    pub(crate) fn listen(&self) -> String {
        self.said("listening on").to_owned()
    }

    fn admin(&self) -> &str {
        self.said("admin on")
    }

    /// Status and body of an admin page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        ask(self.admin(), &format!("GET {path} HTTP/1.1"), "", "")
    }

    /// Where it takes frames: plain, by TLS, by QUIC.
    pub(crate) fn listens(&self) -> [&str; 3] {
        [
            "listening on",
            "listening with TLS on",
            "listening with QUIC on",
        ]
        .map(|what| self.said(what))
    }

    /// The lines of /metrics, with the numbers of all shards.
    pub(crate) fn metrics(&self) -> Vec<String> {
        loop {
            let (_, page) = self.page("/metrics");
            // On a busy machine a shard may answer too late for a page.
            if page.contains("\nforebay_append_messages_total ") {
                return page.lines().map(str::to_owned).collect();
            }
        }
    }

    /// Stop it where it is, or let it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        kill_process(pid.expect("its number"), signal).expect("it is ours");
    }

    /// A number of /metrics.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, page) = self.page("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse().ok())
    }
}

pub(crate) fn log_of(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default()
}

/// Status and body of an answer.
fn ask(address: &str, line: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    let request = format!(
        "{line}\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// A way to a node.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) address: String,
    pub(crate) transport: Transport,
}

impl Way {
    /// Its name: `tcp`, `tls` or `quic`.
    pub(crate) fn name(&self) -> &'static str {
        self.transport.name()
    }
}

/// An endpoint that sends.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) name: String,
    pub(crate) secret: String,
}

/// The folder, and the control plane while it runs.
pub(crate) struct World {
    folder: tempfile::TempDir,
    control: Option<Process>,
    /// Where nodes connect; the same when the control plane starts again.
    nodes_on: String,
    api: String,
    pub(crate) parties: Vec<Party>,
}

impl World {
    /// A control plane with so many endpoints, for nodes of these names, which its configuration lists.
    pub(crate) fn new(parties: usize, nodes: &[&str]) -> Self {
        Self::listing(parties, nodes, nodes)
    }

    /// The same for nodes that are defined, and stand in no list.
    pub(crate) fn defining(parties: usize, nodes: &[&str]) -> Self {
        let world = Self::listing(parties, nodes, &[]);
        for node in nodes {
            world.good(&["node", "create", node]);
        }
        world
    }

    fn listing(parties: usize, nodes: &[&str], listed: &[&str]) -> Self {
        let parties: Vec<Party> = (0..parties)
            .map(|number| Party {
                name: format!("acme/prod/party-{number}"),
                secret: new_secret().text().to_owned(),
            })
            .collect();
        let mut world = Self::with(&plan_of(&parties), nodes, listed);
        world.parties = parties;
        world
    }

    /// A control plane with this plan, for nodes of these names.
    pub(crate) fn of(plan: &str, nodes: &[&str]) -> Self {
        Self::with(plan, nodes, nodes)
    }

    fn with(plan: &str, nodes: &[&str], listed: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("plan.toml"), plan).expect("written");
        let mut world = Self {
            folder,
            control: None,
            nodes_on: "127.0.0.1:0".to_owned(),
            api: "127.0.0.1:0".to_owned(),
            parties: Vec::new(),
        };
        world.made(&["cert", "control", "--name", "127.0.0.1"]);
        for node in nodes {
            world.made(&["cert", "node", "--name", node]);
        }
        world.write_control(listed);
        world.start_control();
        // The next one listens where this one does.
        world.write_control(listed);
        world
    }

    /// A node with a control plane of its own.
    pub(crate) fn alone(parties: usize) -> (Self, Process) {
        let mut world = Self::new(parties, &[]);
        world.kill_control();
        let config = format!(
            "[node]\ndata = \"data\"\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nshards = 2\n[plan]\nfile = \"plan.toml\"\n[control]\nfolder = \"control\"\nplain = \"loopback\"\nlisten = \"{}\"\n",
            world.api
        );
        std::fs::write(world.path("alone.toml"), config).expect("written");
        let node = Process::start(world.folder.path(), &["run"], "alone", "admin on");
        (world, node)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything that was logged.
    pub(crate) fn logs(&self, names: &[&str]) -> String {
        let logs = names
            .iter()
            .map(|name| format!("--- {name}\n{}", log_of(self.folder.path(), name)));
        logs.collect()
    }

    /// Start a node that takes frames over every transport; `more` is added to its [node].
    pub(crate) fn start_node_for_all(&self, name: &str, more: &str) -> Process {
        if !self.path("certificates").exists() {
            let mut command = binary();
            command.args(["cert", "dev", "--name", "127.0.0.1", "--out"]);
            let output = command.arg(self.path("certificates")).output();
            let output = output.expect("run");
            assert!(output.status.success(), "{output:?}");
        }
        let more = format!(
            "listen_tls = \"127.0.0.1:0\"\nlisten_quic = \"127.0.0.1:0\"\n{more}\n[node.tls]\ncertificate = \"certificates/cert.pem\"\nkey = \"certificates/key.pem\"\n"
        );
        self.start_node(name, &more)
    }

    /// The ways to a node: plain, by TLS, by QUIC.
    pub(crate) fn ways(&self, node: &Process) -> [Way; 3] {
        let authority = std::fs::read(self.path("certificates/ca.pem")).expect("made");
        let trust = || Security::authority(authority.clone());
        let transports = [
            Transport::Tcp,
            Transport::Tls(trust()),
            Transport::Quic(trust()),
        ];
        let mut transports = transports.into_iter();
        node.listens().map(|address| Way {
            address: address.to_owned(),
            transport: transports.next().expect("as many"),
        })
    }

    /// What a certificate command makes.
    fn made(&self, arguments: &[&str]) {
        let link = self.path("link");
        let mut command = binary();
        command.args(arguments).arg("--out").arg(&link);
        if arguments[1] == "node" {
            command.arg("--authority").arg(&link);
        }
        let output = command.output().expect("run");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
    }

    fn write_control(&self, nodes: &[&str]) {
        let config = format!(
            "[plan]\nfile = \"plan.toml\"\n[control]\nfolder = \"control\"\nplain = \"loopback\"\nlisten = \"{}\"\n[control.nodes]\nlisten = \"{}\"\nnames = {nodes:?}\nca = \"link/ca.pem\"\ncertificate = \"link/control.pem\"\nkey = \"link/control.key.pem\"\nheartbeat_ms = 200\n",
            self.api, self.nodes_on
        );
        std::fs::write(self.path("control.toml"), config).expect("written");
    }

    pub(crate) fn start_control(&mut self) {
        let folder = self.folder.path();
        let control = Process::start(folder, &["control"], "control", "api on");
        self.nodes_on = control.said("nodes on").to_owned();
        let api = control.said("api on");
        self.api = api.trim_start_matches("http://").to_owned();
        self.control = Some(control);
    }

    /// `kill -9`.
    pub(crate) fn kill_control(&mut self) {
        self.control = None;
    }

    /// Have the control plane stand still, with all its connections, or go on.
    pub(crate) fn freeze_control(&self, frozen: bool) {
        self.control.as_ref().expect("it runs").freeze(frozen);
    }

    /// Start a node; `more` is added to its [node].
    pub(crate) fn start_node(&self, name: &str, more: &str) -> Process {
        let config = format!(
            "[node]\ndata = \"data-{name}\"\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nshards = 2\n{more}\n[link]\nname = \"{name}\"\ncontrol = \"{}\"\nca = \"link/ca.pem\"\ncertificate = \"link/{name}.pem\"\nkey = \"link/{name}.key.pem\"\ntable = \"table-{name}\"\n",
            self.nodes_on
        );
        std::fs::write(self.path(&format!("{name}.toml")), config).expect("written");
        Process::start(self.folder.path(), &["node"], name, "admin on")
    }

    fn token(&self) -> PathBuf {
        self.path("control").join("first-owner.token")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = binary();
        let api = format!("http://{}", self.api);
        command.args(arguments).env("FOREBAY_API", api);
        command.env("FOREBAY_TOKEN_FILE", self.token());
        command.output().expect("run")
    }

    /// Standard output of a command that succeeds.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Standard output, and what a command says was wrong that comes to nothing good.
    pub(crate) fn bad(&self, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (text(output.stdout), text(output.stderr))
    }

    /// What a command says was wrong that was asked for what cannot be.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    /// The answer of the API.
    pub(crate) fn api(&self, method: &str, path: &str) -> Value {
        self.tell(method, path, "")
    }

    /// The answer of the API to this body.
    pub(crate) fn tell(&self, method: &str, path: &str, body: &str) -> Value {
        let token = std::fs::read_to_string(self.token()).expect("there");
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            token.trim()
        );
        let line = format!("{method} {path} HTTP/1.1");
        let (status, body) = ask(&self.api, &line, &headers, body);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {body}"
        );
        serde_json::from_str(&body).expect("JSON")
    }

    /// Revoke or restore the key of a party.
    pub(crate) fn order(&self, order: &str, party: &Party, query: &str) -> Value {
        let name = party.name.rsplit('/').next().expect("a name");
        let path = format!(
            "/v1/accounts/acme/environments/prod/endpoints/{name}/keys/ingress-primary/{order}{query}"
        );
        self.api("POST", &path)
    }

    /// How every node is seen that may connect.
    pub(crate) fn nodes(&self) -> Vec<Value> {
        let page = self.api("GET", "/v1/nodes");
        let items = page["items"].as_array().expect("a list");
        let seen = items.iter().filter_map(|node| {
            let mut status = node.get("status")?.clone();
            status["name"] = node["name"].clone();
            Some(status)
        });
        seen.collect()
    }

    /// Wait until every node is connected and has the newest table everywhere.
    pub(crate) fn until_all_are_current(&self) {
        until("every node is current", || {
            let nodes = self.nodes();
            let current = |node: &Value| node["connected"] == true && node["current"] == true;
            nodes.iter().all(current)
        });
    }
}

fn plan_of(parties: &[Party]) -> String {
    let endpoint = |party: &Party| NewEndpoint {
        name: party.name.rsplit('/').next().unwrap_or_default().into(),
        ingress: Some(party.secret.clone()),
        send: vec!["readings".into()],
        ..NewEndpoint::default()
    };
    let plan = NewPlan {
        environment: "acme/prod".into(),
        partitions: 4,
        ack: "local".into(),
        channels: vec!["readings".into()],
        endpoints: parties.iter().map(endpoint).collect(),
    };
    render(&plan)
}
