//! The process under attack, with short limits, and what it says about itself: metrics, memory, descriptors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use wire::reason::Reason;

/// From accept to a good HELLO.
pub(crate) const HANDSHAKE: Duration = Duration::from_millis(1_500);
/// Silence, or a frame under way.
pub(crate) const IDLE: Duration = Duration::from_secs(3);
/// Bytes that nobody takes. They are looked at once in this time, so a receiver may have it twice.
pub(crate) const SLOW_RECEIVER: Duration = Duration::from_secs(2);
/// How long the node waits for the peer to end a connection that it has ended itself.
pub(crate) const DRAIN: Duration = Duration::from_secs(1);

/// The real binary; killed when dropped.
pub(crate) struct Node {
    child: Child,
    pub(crate) address: String,
    admin: String,
}

impl Node {
    /// Start on free ports, on a fresh folder.
    pub(crate) fn start(folder: &Path, plan: &str) -> Self {
        let text = format!(
            "[node]\ndata = {:?}\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             timeouts.handshake = \"{}ms\"\ntimeouts.idle = \"{}ms\"\ntimeouts.slow_receiver = \"{}ms\"\n\
             timeouts.drain = \"{}ms\"\ntimeouts.linger = \"500ms\"\n\n[plan]\nfile = \"plan.toml\"\n",
            folder.join("data"),
            HANDSHAKE.as_millis(),
            IDLE.as_millis(),
            SLOW_RECEIVER.as_millis(),
            DRAIN.as_millis(),
        );
        let config = folder.join("forebay.toml");
        std::fs::write(folder.join("plan.toml"), plan).expect("the folder is writable");
        std::fs::write(&config, text).expect("the folder is writable");
        let mut child = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["run", "--config"])
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(match std::env::var_os("FOREBAY_HOSTILE_LOG") {
                Some(_) => Stdio::inherit(),
                None => Stdio::null(),
            })
            .spawn()
            .expect("the binary was built for this test");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut after = |word: &str| {
            let line = lines.by_ref().map_while(Result::ok);
            let found = line.filter_map(|line| Some(line.split_once(word)?.1.to_owned()));
            let rest = found.take(1).next().expect("the node says where it is");
            let address = rest.split_whitespace().next().expect("an address");
            address.to_owned()
        };
        let (address, admin) = (after("listening on "), after("admin on "));
        Self {
            child,
            address,
            admin,
        }
    }

    /// One scrape.
    pub(crate) fn metrics(&self) -> Metrics {
        let mut stream = TcpStream::connect(&self.admin).expect("the admin port answers");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .expect("the admin port answers");
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .expect("the admin port answers");
        Metrics { text }
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }

    /// A number of the kernel's about the process, memory in KiB. `RssAnon` is what it allocated; `VmRSS` counts log files
    /// that it has mapped as well.
    pub(crate) fn status(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(self.proc("status")).expect("the process lives");
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let words = line.and_then(|line| line.strip_prefix(':'));
        let number = words.and_then(|words| words.split_whitespace().next());
        number.expect("a field").parse().expect("a number")
    }

    /// Processor time of all threads, in ticks of 10 ms.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let text = std::fs::read_to_string(self.proc("stat")).expect("the process lives");
        // The name in parentheses may hold anything; fields are counted behind it.
        let (_, fields) = text.rsplit_once(')').expect("a name in parentheses");
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks
            .map(|text| text.parse::<u64>().expect("a number"))
            .sum()
    }

    /// What each open descriptor leads to.
    fn links(&self) -> impl Iterator<Item = PathBuf> {
        let descriptors = std::fs::read_dir(self.proc("fd")).expect("the process lives");
        // One that is closed while the folder is read has no link any more.
        descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
    }

    /// Open descriptors, files included: logs open segments as they grow.
    pub(crate) fn descriptors(&self) -> usize {
        self.links().count()
    }

    /// Open sockets.
    pub(crate) fn sockets(&self) -> usize {
        let is_socket = |link: &PathBuf| link.to_string_lossy().starts_with("socket:");
        self.links().filter(is_socket).count()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A page of numbers.
pub(crate) struct Metrics {
    text: String,
}

impl Metrics {
    /// The value of one line, or 0 when it is not there.
    pub(crate) fn of(&self, name: &str) -> u64 {
        let value = self.text.lines().find_map(|line| line.strip_prefix(name));
        value.map_or(0, |value| value.trim().parse().expect("a whole number"))
    }

    /// How often a reason was given.
    pub(crate) fn rejects(&self, reason: Reason) -> u64 {
        let (code, name) = (reason.code(), reason.name());
        self.of(&format!(
            "forebay_rejects_total{{code=\"FB-{code}\",reason=\"{name}\"}}"
        ))
    }

    /// Print how often something was timed since `before`, and below what 50 and 99 of 100 times stayed; returns the last, in
    /// seconds.
    pub(crate) fn tell_times(&self, before: &Self, what: &str, when: &str) -> f64 {
        // Of all shards together, where they are told apart.
        let lead = format!("forebay_{what}_seconds_bucket{{");
        let bucket = |line: &'_ str| -> Option<(String, u64)> {
            let (_, rest) = line.strip_prefix(&lead)?.split_once("le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            Some((bound.to_owned(), count.parse().expect("a whole number")))
        };
        let buckets = |metrics: &Self| metrics.text.lines().filter_map(bucket).collect::<Vec<_>>();
        let (had, has) = (buckets(before), buckets(self));
        let bounds = has.iter().map(|(bound, _)| bound.as_str());
        let count = |all: &[(String, u64)], bound: &str| -> u64 {
            let of = all.iter().filter(|(one, _)| one == bound);
            of.map(|(_, count)| count).sum()
        };
        let since = |bound: &str| count(&has, bound) - count(&had, bound);
        let all = since("+Inf");
        let of_100 = |share: u64| -> f64 {
            let found = bounds
                .clone()
                .find(|bound| since(bound) * 100 >= all * share);
            let bound = found.expect("the node tells this time");
            bound.parse().unwrap_or(f64::INFINITY)
        };
        let [half, most, longest] = [50, 99, 100].map(of_100);
        println!(
            "{what:<16} {when:<9} {all:>6} times, 50 of 100 within {:.3} ms, 99 within {:.3}, all within {:.3}",
            half * 1e3,
            most * 1e3,
            longest * 1e3,
        );
        most
    }

    /// Connections open.
    pub(crate) fn connections(&self) -> u64 {
        self.of("forebay_connections{protocol=\"tcp\"}")
    }
}
