//! A real node of three shards with a fault planted in one of them, and what the process says.

use std::io::{BufRead, BufReader, Read};
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
        let address = lines.find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()));
        let address = address.expect("the node says where it is");
        Self {
            child,
            address,
            said: Some(said),
        }
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
