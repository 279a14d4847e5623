//! Processor time and disk space, read from /proc, the file system and the node's admin port.
//!
//! Times are what the scheduler charged to threads, to the nanosecond, so that short runs are not rounded away.

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
        ServerCpu::Process(pid) => threads(Path::new(&format!("/proc/{pid}/task")), ""),
        ServerCpu::Threads(prefix) => threads(Path::new("/proc/self/task"), prefix),
        ServerCpu::Metrics(addr) => metrics(*addr),
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
    fn the_bytes_of_a_folder_are_those_of_all_files_below_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("below")).expect("a folder below");
        std::fs::write(folder.path().join("below/file"), vec![1; 8192]).expect("a file");
        assert!(disk_bytes(folder.path()).expect("readable") <= 64 << 10);
        assert_eq!(disk_bytes(&folder.path().join("absent")), None);
    }
}
