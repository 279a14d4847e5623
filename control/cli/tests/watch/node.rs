//! A node of three shards in a process of its own, and load for it, all with the real binary.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Instant;

pub(crate) const SHARDS: usize = 3;
const SENDERS: usize = 12;

const CONFIG: &str = "[node]\ndata = \"data\"\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nshards = 3\n\n[plan]\nfile = \"plan.toml\"\n";
const PLAN: &str = r#"queue_groups = 3
[[accounts]]
name = "a"
[[environments]]
name = "a/e"
[[hubs]]
name = "a/e/default"
partitions = 6
ack = "local"
segment_bytes = "2MiB"
[[channels]]
name = "a/e/readings"
[[channels]]
name = "a/e/orders"
"#;
const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cyAgICAgICAgICAgISE=";

/// A command line of the binary, untouched by this environment.
pub(crate) fn forebay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FOREBAY_")) {
        command.env_remove(name);
    }
    command
}

pub(crate) fn output(arguments: &[&str]) -> Output {
    let mut command = forebay(arguments);
    command
        .output()
        .expect("the binary was built for this test")
}

/// A running node; killed when dropped.
pub(crate) struct Node {
    child: Child,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) listen: String,
    pub(crate) admin: String,
    /// Kept open, so that the node can go on printing.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Node {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("the folder is writable");
        };
        write("forebay.toml", CONFIG);
        write("plan.toml", &plan());
        let config = folder.path().join("forebay.toml");
        let mut child = forebay(&["run", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary was built for this test");
        let out = child.stdout.take().expect("stdout is piped");
        let mut output = BufReader::new(out).lines();
        let mut address = |mark: &str| {
            let line = output.next().expect("the node says where it is");
            let line = line.expect("it prints text");
            let (_, address) = line.split_once(mark).expect("first frames, then admin");
            address.to_owned()
        };
        let (listen, admin) = (address("listening on "), address("admin on "));
        Self {
            child,
            folder,
            listen,
            admin,
            _output: output,
        }
    }

    /// Arguments of `load` for this node; the report comes as JSON.
    pub(crate) fn load(&self, more: &[&str]) -> Command {
        let plan = self.folder.path().join("plan.toml");
        let mut command = forebay(&["load", "--json", "--addr", &self.listen, "--plan"]);
        command.arg(plan).args(["--lateness", "1000"]).args(more);
        command.stderr(Stdio::null());
        command
    }

    /// One look with `shards` or `top`, as JSON: at all shards, also where one is slow to answer because the machine is busy.
    pub(crate) fn look(&self, command: &str, more: &[&str]) -> serde_json::Value {
        let base = [command, "--admin", &self.admin, "--once", "--json"];
        let by = Instant::now() + crate::PATIENCE;
        loop {
            let seen = output(&[&base[..], more].concat());
            assert!(seen.status.success(), "{seen:?}");
            let told: serde_json::Value =
                serde_json::from_slice(&seen.stdout).expect("one JSON object and nothing else");
            let silent = |list: &Vec<serde_json::Value>| !list.is_empty();
            if !told["silent"].as_array().is_some_and(silent) {
                return told;
            }
            assert!(Instant::now() < by, "a shard does not answer: {told}");
        }
    }

    /// SIGKILL, and wait.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every second sender sends to the other channel.
fn plan() -> String {
    let mut plan = PLAN.to_owned();
    let mut endpoint = |name: &str, direction: &str, grants: &[(&str, &str)]| {
        let _ = write!(
            plan,
            "[[endpoints]]\nname = \"a/e/{name}\"\n[[endpoints.keys]]\nid = 1\nname = \"key\"\ndirection = \"{direction}\"\nsecret = \"{SECRET}\"\n"
        );
        for (channel, allow) in grants {
            let _ = write!(
                plan,
                "[[endpoints.grants]]\nchannel = \"{channel}\"\nallow = \"{allow}\"\n"
            );
        }
    };
    for number in 0..SENDERS {
        let channel = if number % 2 == 0 {
            "readings"
        } else {
            "orders"
        };
        endpoint(&format!("pump-{number}"), "ingress", &[(channel, "send")]);
    }
    endpoint(
        "office",
        "egress",
        &[("readings", "receive"), ("orders", "receive")],
    );
    plan
}
