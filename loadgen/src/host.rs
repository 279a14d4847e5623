//! Readings of this machine from /proc, as JSON: real telemetry with no sensor attached.
//!
//! A thread of its own reads ten times a second, so that the sending thread never waits for a file.

use crate::diagnosis;
use serde::Serialize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::diagnosis::Diagnosis;

const PERIOD: Duration = Duration::from_millis(100);
const WAITING_MAX: usize = 16;

/// A reading as JSON.
pub type Body = Box<[u8]>;

/// One reading. Counters are totals since boot, so that a missed reading loses nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// Unix time, seconds.
    pub time: f64,
    /// Name of the machine.
    pub host: String,
    /// CPU time by use, in clock ticks since boot.
    pub cpu: Cpu,
    /// Runnable tasks averaged over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Memory, in KiB.
    pub memory: Memory,
    /// All block devices together.
    pub disk: Disk,
    /// All network interfaces together, loopback included.
    pub network: Network,
}

/// CPU time in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Cpu {
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// Doing nothing.
    pub idle: u64,
    /// Waiting for disks.
    pub iowait: u64,
}

/// Memory in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Memory {
    /// Installed.
    pub total_kib: u64,
    /// Usable without swapping.
    pub available_kib: u64,
    /// Not written to disk yet.
    pub dirty_kib: u64,
}

/// Block device totals since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Disk {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// Network totals since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Network {
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
}

/// Take a first reading and start the thread that takes the next ones until the receiver is dropped.
///
/// # Errors
/// A 52xx diagnosis when /proc cannot be read.
pub fn start() -> Result<(Body, Receiver<Body>), Diagnosis> {
    let first = json(&read().map_err(|error| diagnosis::payload_unreadable("/proc", &error))?);
    let (put, readings) = sync_channel(WAITING_MAX);
    std::thread::Builder::new()
        .name("load-host".to_owned())
        .spawn(move || keep_reading(&put))
        .map_err(|error| diagnosis::thread(&error))?;
    Ok((first, readings))
}

fn keep_reading(put: &SyncSender<Box<[u8]>>) {
    loop {
        std::thread::sleep(PERIOD);
        let Ok(reading) = read() else { return };
        if put.send(json(&reading)).is_err() {
            return;
        }
    }
}

fn json(reading: &Reading) -> Box<[u8]> {
    serde_json::to_vec(reading)
        .expect("plain numbers and a name serialise")
        .into()
}

/// Read /proc once.
///
/// # Errors
/// When one of the files is missing or unreadable.
pub fn read() -> std::io::Result<Reading> {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{name}"));
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(Reading {
        time: since_epoch.as_millis() as f64 / 1e3,
        host: file("sys/kernel/hostname")?.trim().to_owned(),
        cpu: cpu(&file("stat")?),
        load: load(&file("loadavg")?),
        memory: memory(&file("meminfo")?),
        disk: disk(&file("diskstats").unwrap_or_default()),
        network: network(&file("net/dev")?),
    })
}

fn number(field: Option<&&str>) -> u64 {
    field.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn cpu(stat: &str) -> Cpu {
    let fields: Vec<&str> = stat
        .lines()
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    Cpu {
        user: number(fields.get(1)) + number(fields.get(2)),
        system: number(fields.get(3)),
        idle: number(fields.get(4)),
        iowait: number(fields.get(5)),
    }
}

fn load(text: &str) -> [f64; 3] {
    let mut fields = text
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0));
    [(); 3].map(|()| fields.next().unwrap_or(0.0))
}

fn memory(text: &str) -> Memory {
    let kib = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Memory {
        total_kib: kib("MemTotal"),
        available_kib: kib("MemAvailable"),
        dirty_kib: kib("Dirty"),
    }
}

fn disk(text: &str) -> Disk {
    let mut disk = Disk::default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = fields.get(2).copied().unwrap_or("");
        let whole = !name.ends_with(|c: char| c.is_ascii_digit())
            || name.starts_with("nvme") && !name.contains('p');
        if whole {
            disk.read_bytes += number(fields.get(5)) * 512;
            disk.written_bytes += number(fields.get(9)) * 512;
        }
    }
    disk
}

fn network(text: &str) -> Network {
    let mut network = Network::default();
    for line in text.lines() {
        let Some((_, counters)) = line.split_once(':') else {
            continue;
        };
        let fields: Vec<&str> = counters.split_whitespace().collect();
        network.received_bytes += number(fields.first());
        network.sent_bytes += number(fields.get(8));
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_texts_are_read_by_field() {
        assert_eq!(
            cpu("cpu  10 2 30 400 5 0 0\ncpu0 1 1 1\n"),
            Cpu {
                user: 12,
                system: 30,
                idle: 400,
                iowait: 5
            }
        );
        assert_eq!(load("0.50 0.25 0.10 1/234 999\n"), [0.5, 0.25, 0.1]);
        let text =
            "MemTotal:       8000 kB\nMemFree: 1 kB\nMemAvailable:   6000 kB\nDirty:  12 kB\n";
        assert_eq!(
            memory(text),
            Memory {
                total_kib: 8000,
                available_kib: 6000,
                dirty_kib: 12
            }
        );
        let text = "254 0 vda 1 0 8 0 2 0 16 0 0\n254 1 vda1 1 0 8 0 2 0 16 0 0\n259 0 nvme0n1 1 0 2 0 1 0 4 0\n";
        assert_eq!(
            disk(text),
            Disk {
                read_bytes: 10 * 512,
                written_bytes: 20 * 512
            },
            "partitions are not counted twice"
        );
        let text = "Inter-|   Receive\n face |bytes\n    lo: 100 1 0 0 0 0 0 0 100 1\n  eth0: 50 1 0 0 0 0 0 0 7 1\n";
        assert_eq!(
            network(text),
            Network {
                received_bytes: 150,
                sent_bytes: 107
            }
        );
        assert_eq!(cpu(""), Cpu::default(), "an empty file reads as zero");
    }

    #[test]
    fn this_machine_gives_a_reading_that_is_json() {
        let reading = read().expect("/proc is there on Linux");
        assert!(reading.memory.total_kib > 0 && reading.time > 1.6e9);
        let json: serde_json::Value = serde_json::from_slice(&json(&reading)).expect("valid JSON");
        assert_eq!(json["memory"]["total_kib"], reading.memory.total_kib);
    }
}
