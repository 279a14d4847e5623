//! A real node of three shards with a fault planted in one of them, and what the process says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// For every wait; none is meant to come near it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a stop may take.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// The real binary; killed when dropped.
pub(crate) struct Node {
    child: Child,
    pub(crate) address: String,
    admin: String,
    said: Option<JoinHandle<String>>,
}

/// Write plan and configuration into `folder`.
pub(crate) fn configure(folder: &Path, plan: &str) {
    let text = format!(
        "[node]\ndata = {:?}\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nshards = 3\n\
         timeouts.drain = \"{}ms\"\ndisk.journal_segment_bytes = \"2MiB\"\n\n[plan]\nfile = \"plan.toml\"\n",
        folder.join("data"),
        DRAIN.as_millis(),
    );
    std::fs::write(folder.join("plan.toml"), plan).expect("the folder is writable");
    std::fs::write(folder.join("forebay.toml"), text).expect("the folder is writable");
}

impl Node {
    /// Start in a configured folder and wait until it serves. With `fault`, `panic` or `stuck`, that fault is planted in shard 1 and
    /// comes about with the file of [`trigger`].
    pub(crate) fn start(folder: &Path, fault: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command
            .args(["run", "--config"])
            .arg(folder.join("forebay.toml"))
            .env_remove("FOREBAY_NODE_SHARDS")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(kind) = fault {
            let planted = format!("{kind}:1:{}", trigger(folder).display());
            command.env("FOREBAY_PLANTED_FAULT", planted);
        }
        let mut child = command.spawn().expect("the binary was built for this test");
        let mut errors = child.stderr.take().expect("stderr is piped");
        let said = std::thread::spawn(move || {
            let mut text = String::new();
            errors
                .read_to_string(&mut text)
                .expect("log lines are text");
            text
        });
        let out = child.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let mut behind = |words: &str| {
            let found = lines.find_map(|line| Some(line.split_once(words)?.1.to_owned()));
            found.expect("the node says where it is")
        };
        let (address, admin) = (behind("listening on "), behind("admin on "));
        Self {
            child,
            address,
            admin,
            said: Some(said),
        }
    }

    /// What its admin port answers: status and body.
    pub(crate) fn ask(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).expect("it is there");
        let patience = stream.set_read_timeout(Some(PATIENCE));
        patience.expect("a time limit can be set");
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        let sent = stream.write_all(request.as_bytes());
        sent.expect("it takes a request");
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        read.expect("it answers in text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// Until `/ready` answers so; what it says.
    pub(crate) fn until_ready_is(&self, status: u16) -> String {
        let by = Instant::now() + PATIENCE;
        loop {
            let (seen, said) = self.ask("/ready");
            if seen == status {
                return said;
            }
            assert!(Instant::now() < by, "/ready is {seen}: {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What `forebay shards` shows of it.
    pub(crate) fn shards(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        let shards = [
            "shards",
            "--admin",
            &self.admin,
            "--once",
            "--interval",
            "100ms",
        ];
        let shown = command.args(shards).output();
        let shown = shown.expect("the binary was built for this test");
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8(shown.stdout).expect("text")
    }

    /// Ask for a graceful stop.
    pub(crate) fn ask_to_stop(&self) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id is not 0");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
    }

    /// Wait until the process has ended by itself; how, and all that it said on standard error.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let by = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                break status;
            }
            assert!(Instant::now() < by, "the process does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let said = self.said.take().expect("taken once");
        (status, said.join().expect("it only reads"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file that brings the planted fault about.
pub(crate) fn trigger(folder: &Path) -> PathBuf {
    folder.join("trigger")
}
