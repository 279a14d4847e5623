//! What a process used between two moments: processor time and faults by thread, the ring's counts, system calls.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use crate::measured::node::Served;
use crate::measured::process::{Thread, thread_nanos, threads};
use crate::support::http;

/// Totals of a node since its start.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) shard_nanos: u64,
    pub(crate) all_nanos: u64,
    pub(crate) shard_faults: u64,
    pub(crate) switches: u64,
    pub(crate) enters: u64,
    pub(crate) turns: u64,
    pub(crate) sleeps: u64,
    pub(crate) syncs: u64,
    pub(crate) sync_nanos: u64,
    pub(crate) messages: u64,
    pub(crate) frame_bytes: u64,
}

impl Usage {
    pub(crate) fn of(node: &Served) -> Self {
        let mut usage = Self::default();
        for thread in threads(node.pid()) {
            let nanos = thread_nanos(node.pid(), thread.id);
            if thread.is_at_work() {
                usage.all_nanos += nanos;
            }
            if thread.is_shard() {
                usage.shard_nanos += nanos;
                usage.shard_faults += faults(node.pid(), thread.id);
                usage.switches += switches(node.pid(), thread.id);
            }
        }
        let (_, page) = http(node.admin, "GET", "/metrics");
        let value = |series: &str| -> u64 {
            let found = page
                .lines()
                .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            found.map_or(0, |value| value.trim().parse::<f64>().unwrap() as u64)
        };
        usage.enters = value("forebay_ring_enters_total");
        usage.turns = value("forebay_shard_turns_total");
        usage.sleeps = value("forebay_shard_sleeps_total");
        usage.syncs = value("forebay_syncs_total");
        let seconds = page
            .lines()
            .find_map(|line| line.strip_prefix("forebay_sync_seconds_total "));
        usage.sync_nanos =
            seconds.map_or(0, |text| (text.trim().parse::<f64>().unwrap() * 1e9) as u64);
        usage.messages = value("forebay_append_messages_total");
        usage.frame_bytes = value("forebay_append_bytes_total");
        usage
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            shard_nanos: self.shard_nanos - before.shard_nanos,
            all_nanos: self.all_nanos - before.all_nanos,
            shard_faults: self.shard_faults - before.shard_faults,
            switches: self.switches - before.switches,
            enters: self.enters - before.enters,
            turns: self.turns - before.turns,
            sleeps: self.sleeps - before.sleeps,
            syncs: self.syncs - before.syncs,
            sync_nanos: self.sync_nanos - before.sync_nanos,
            messages: self.messages - before.messages,
            frame_bytes: self.frame_bytes - before.frame_bytes,
        }
    }
}

fn faults(pid: u32, thread: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).unwrap();
    let fields = text.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(7).unwrap().parse().unwrap()
}

fn switches(pid: u32, thread: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    value.unwrap().trim().parse().unwrap()
}

/// Pin a thread, or all threads of a process, to one processor.
pub(crate) fn pin(id: u32, all: bool, cpu: usize) {
    let what = if all { "-acp" } else { "-cp" };
    run("taskset", &[what, &cpu.to_string(), &id.to_string()]);
}

/// Nobody interrupts this process while it has something to do, if we may ask for that; else the node at least does not when it is woken.
pub(crate) fn first(node: u32) {
    run("chrt", &["-a", "-b", "-p", "0", &node.to_string()]);
    let own = std::process::id().to_string();
    // Not everybody may.
    let _ = Command::new("chrt")
        .args(["-a", "-f", "-p", "1", &own])
        .status();
}

/// The opposite of [`first`].
pub(crate) fn one_of_many() {
    run(
        "chrt",
        &["-a", "-o", "-p", "0", &std::process::id().to_string()],
    );
}

fn run(program: &str, words: &[&str]) {
    let done = Command::new(program)
        .args(words)
        .stdout(Stdio::null())
        .status();
    assert!(done.unwrap().success(), "{program} {words:?}");
}

/// Counts the system calls of a node's threads while it lives.
pub(crate) struct Calls {
    perf: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Calls {
    /// Begin; `None` where `perf` is missing or may not.
    pub(crate) fn begin(node: &Served) -> Option<Self> {
        let working = threads(node.pid()).into_iter().filter(Thread::is_at_work);
        let list: Vec<String> = working.map(|thread| thread.id.to_string()).collect();
        // Perf counts while the command it starts lives: until a line comes.
        let mut perf = Command::new("perf")
            .args([
                "stat",
                "-x,",
                "-e",
                "raw_syscalls:sys_enter",
                "-t",
                &list.join(","),
            ])
            .args(["--", "sh", "-c", "echo counting; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut answers = BufReader::new(perf.stdout.take()?);
        let mut line = String::new();
        answers.read_line(&mut line).ok()?;
        (line.trim() == "counting").then_some(Self { perf, answers })
    }

    /// End, and say how many there were.
    pub(crate) fn end(mut self) -> Option<u64> {
        self.perf.stdin.take()?.write_all(b"\n").ok()?;
        drop(self.answers);
        let output = self.perf.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.contains("sys_enter"))?;
        line.split(',').next()?.parse().ok()
    }
}
