//! Processor time and disk space, read from /proc, the file system and the node's admin port.
//!
//! Times are what the scheduler charged to threads, to the nanosecond, so that short runs are not rounded away.

use crate::engine::measured::Times;
use crate::plan::ServerCpu;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

const METRICS_TIMEOUT: Duration = Duration::from_secs(2);
const METRICS_BYTES_MAX: u64 = 4 << 20;
const CPU_METRIC: &str = "process_cpu_seconds_total";

/// Processor time of the calling thread so far.
pub fn own_thread() -> Duration {
    schedstat(Path::new("/proc/thread-self")).unwrap_or_default()
}

/// Processor time of the server so far; `None` when it cannot be read.
pub fn server(cpu: &ServerCpu) -> Option<Duration> {
    match cpu {
        ServerCpu::Unknown => None,
        ServerCpu::Process(pid) => process(*pid),
        ServerCpu::Threads(prefix) => threads(Path::new("/proc/self/task"), prefix),
        ServerCpu::Metrics(addr) => metrics(*addr),
    }
}

/// What its threads say is exact but forgets threads that have ended; the total of the process does not, to 20 ms.
fn process(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let total = total_of(&stat)?;
    let exact = threads(Path::new(&format!("/proc/{pid}/task")), "")?;
    Some(exact.max(total))
}

/// User and system time in a line of `/proc/PID/stat`, which counts hundredths of a second.
fn total_of(stat: &str) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    let hundredths = next()? + next()?;
    Some(Duration::from_millis(hundredths * 10))
}

/// What the server did between the warm-up and the end of a run: messages acked, and its processor time.
#[derive(Debug)]
pub(crate) struct Steady {
    server: ServerCpu,
    times: Times,
    first: Option<(u64, Duration)>,
    last: Option<(u64, Duration)>,
}

impl Steady {
    /// One for the thread that sends, one for a thread that looks on: asking another process for its numbers takes long
    /// enough to show in latencies, so that is not done by the first.
    pub(crate) fn near_and_far(server: &ServerCpu, times: Times) -> (Self, Self) {
        let (near, far) = match server {
            ServerCpu::Metrics(_) => (ServerCpu::Unknown, server.clone()),
            _ => (server.clone(), ServerCpu::Unknown),
        };
        (Self::new(near, times), Self::new(far, times))
    }

    /// One that reads nothing.
    pub(crate) fn blind(times: Times) -> Self {
        Self::new(ServerCpu::Unknown, times)
    }

    fn new(server: ServerCpu, times: Times) -> Self {
        Self {
            server,
            times,
            first: None,
            last: None,
        }
    }

    /// Called now and then, and at the end; reads both at one moment soon after each of the two.
    pub(crate) fn look(&mut self, now: u64, acked: u64) {
        let read = || server(&self.server).map(|cpu| (acked, cpu));
        if self.first.is_none() && now >= self.times.warm_up {
            self.first = read();
        } else if self.last.is_none() && now >= self.times.end {
            self.last = read();
        }
    }

    /// Messages acked in between, and the server's processor time for them.
    pub(crate) fn cost(&self) -> Option<(u64, Duration)> {
        let (first, last) = (self.first?, self.last?);
        Some((last.0.checked_sub(first.0)?, last.1.checked_sub(first.1)?))
    }
}

fn threads(folder: &Path, prefix: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for task in std::fs::read_dir(folder).ok()?.flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with(prefix) {
            total += schedstat(&task.path()).unwrap_or_default();
        }
    }
    Some(total)
}

fn schedstat(task: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
    text.split_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

fn metrics(addr: SocketAddr) -> Option<Duration> {
    let mut stream = TcpStream::connect_timeout(&addr, METRICS_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(METRICS_TIMEOUT)).ok()?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream
        .take(METRICS_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    cpu_of(&text)
}

fn cpu_of(metrics: &str) -> Option<Duration> {
    let line = metrics.lines().find(|line| {
        line.strip_prefix(CPU_METRIC)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    })?;
    Duration::try_from_secs_f64(line.rsplit(' ').next()?.parse().ok()?).ok()
}

/// Bytes that a folder and everything below it occupy on disk; `None` when it cannot be read.
pub fn disk_bytes(folder: &Path) -> Option<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        total += if found.is_dir() {
            disk_bytes(&entry.path()).unwrap_or(0)
        } else {
            found.blocks() * 512
        };
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_time_of_its_own_thread() {
        let before = own_thread();
        let mut sum = 0u64;
        for i in 0..20_000_000u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31) + i);
        }
        assert!(own_thread() > before, "{sum}");
        assert!(server(&ServerCpu::Process(std::process::id())) >= Some(Duration::ZERO));
        assert_eq!(server(&ServerCpu::Unknown), None);
    }

    #[test]
    fn processor_seconds_are_found_among_metrics() {
        for (text, want) in [
            (
                "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.5\n",
                Some(1500),
            ),
            ("process_cpu_seconds_total{a=\"b\"} 2\n", Some(2000)),
            ("process_cpu_seconds_total_other 2\n", None),
            ("", None),
        ] {
            assert_eq!(cpu_of(text), want.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn the_total_of_a_process_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 900 0 0 0 123 45 0 0 20 0 3 0";
        assert_eq!(total_of(stat), Some(Duration::from_millis(1_680)));
        assert_eq!(total_of("7 (a) S 1"), None);
        assert_eq!(total_of(""), None);
    }

    #[test]
    fn the_steady_part_of_a_run_lies_between_its_warm_up_and_its_end() {
        let times = Times {
            warm_up: 10,
            end: 20,
            deadline: 30,
            saturate: true,
        };
        let mut steady = Steady::new(ServerCpu::Process(std::process::id()), times);
        for (now, acked) in [(5, 1), (11, 5), (19, 50), (21, 60), (25, 99)] {
            steady.look(now, acked);
        }
        assert_eq!(steady.cost().map(|(acked, _)| acked), Some(55));
    }

    #[test]
    fn the_bytes_of_a_folder_are_those_of_all_files_below_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("below")).expect("a folder below");
        std::fs::write(folder.path().join("below/file"), vec![1; 8192]).expect("a file");
        assert!(disk_bytes(folder.path()).expect("readable") <= 64 << 10);
        assert_eq!(disk_bytes(&folder.path().join("absent")), None);
    }
}
