//! Load steps: a node of its own with so many shards, as much load as it takes, and who used how much of the machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use control::keys::new_secret;
use control::render::INGRESS_KEY_ID;
use loadgen::{
    BodySizes, LoadOptions, LoadPlan, Others, Quiet, Report, SenderCredential, ServerCpu, Verdict,
};
use wire::diagnosis::Diagnosis;
use wire::ids::EndpointId;

use crate::diagnosis::{BENCH_FOLDER, BENCH_LOAD};
use crate::fault::Fault;
use crate::workbench::{Folder, Node};

const ENVIRONMENT: &str = "tune/load";
const CHANNEL: &str = "tune/load/readings";
const SENDERS: usize = 64;
const MESSAGE_BYTES: u32 = 100;
/// Messages per frame, and frames that each sender has unanswered.
pub(super) const BATCH: u16 = 16;
const WINDOW: u32 = 16;
const DRAIN: Duration = Duration::from_secs(10);
const SEGMENT_MIB: u64 = 16;
const RETENTION_MIB: u64 = 64;
const METRICS_TIME: Duration = Duration::from_secs(2);

/// What one run showed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Run {
    pub(super) shards: u16,
    /// Messages acked per second.
    pub(super) per_s: f64,
    /// Processor time of the server per message, nanoseconds.
    pub(super) server_ns: f64,
    /// Processor time of the generator per message, nanoseconds.
    pub(super) generator_ns: f64,
    /// Processors that the server kept busy.
    pub(super) server_cores: f64,
    /// Processors that the generator kept busy.
    pub(super) generator_cores: f64,
    /// Share of all processors that was busy, whoever used it.
    pub(super) machine_share: f64,
    /// Share of the time in which a partition waited for its sync.
    pub(super) sync_share: f64,
    /// Bytes of frames per second.
    pub(super) bytes_per_s: f64,
}

/// Where the steps are run: a folder, a configuration and a plan of their own.
pub(super) struct Bench {
    config: PathBuf,
    senders: Vec<SenderCredential>,
    partitions: u16,
    /// Threads that generate.
    pub(super) generators: usize,
    /// Last, so that everything else is done with it when it goes.
    folder: Folder,
}

/// Partitions that the steps use: enough for every shard, and the same at each step.
pub(super) fn partitions(shards_max: u16) -> u16 {
    (2 * shards_max).next_power_of_two().clamp(4, 64)
}

/// Bytes of disk that the steps need.
pub(super) fn disk_bytes(shards_max: u16) -> u64 {
    let each = RETENTION_MIB + 4 * SEGMENT_MIB;
    (u64::from(partitions(shards_max)) * each + 512) << 20
}

impl Bench {
    /// Write plan and configuration; the settings are those of `config` but for data, plan and addresses.
    pub(super) fn new(
        folder: Folder,
        config: &toml::Table,
        ack: &str,
        (shards_max, cores): (u16, usize),
    ) -> Result<Self, Fault> {
        let partitions = partitions(shards_max);
        let senders = senders(partitions, ack)?;
        let plan = plan(partitions, ack, &senders);
        let mut config = config.clone();
        let mut section = toml::Table::new();
        section.insert("file".to_owned(), "plan.toml".into());
        config.insert("plan".to_owned(), section.into());
        let path = folder.path().join("forebay.toml");
        let text = config.to_string();
        for (path, text) in [
            (folder.path().join("plan.toml"), plan),
            (path.clone(), text),
        ] {
            std::fs::write(&path, text).map_err(|error| {
                Diagnosis::new(
                    BENCH_FOLDER,
                    format!("{} cannot be written", path.display()),
                    error.to_string(),
                    "a folder that may be written",
                    "free space beside the data folder",
                )
            })?;
        }
        Ok(Self {
            config: path,
            senders,
            partitions,
            generators: (cores / 2).clamp(1, 8),
            folder,
        })
    }

    /// The folder of all this.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One run at so many shards, `seconds` of it measured.
    pub(super) fn run(&self, shards: u16, seconds: f64, warm_up: f64) -> Result<Run, Fault> {
        let node = Node::start(&self.config, self.folder(), &shards.to_string())?;
        let before = (syncs(node.admin), Processors::now(), Instant::now());
        let reports = self.load(&node, seconds + warm_up, warm_up)?;
        let after = (syncs(node.admin), Processors::now(), before.2.elapsed());
        drop(node);
        for report in &reports {
            if report.verdict == Verdict::Faulty || report.acked == 0 {
                return Err(unsound(report).into());
            }
        }
        let per_s: f64 = reports.iter().map(|report| report.achieved_per_s).sum();
        let sum = |pick: fn(&Report) -> f64| reports.iter().map(pick).sum::<f64>();
        // Each generator saw the same server; what it did is divided by what all of them had acked.
        let server_seconds = sum(|report| {
            let each = report.steady_server_ns_per_message.unwrap_or_default();
            each * report.steady_acked.unwrap_or_default() as f64 / 1e9
        }) / reports.len() as f64;
        let acked = sum(|report| report.steady_acked.unwrap_or_default() as f64).max(1.0);
        let server_ns = server_seconds * 1e9 / acked;
        let generator_seconds =
            sum(|report| report.generator_send_cpu_seconds + report.generator_receive_cpu_seconds);
        let generator_ns = generator_seconds * 1e9 / sum(|report| report.acked as f64);
        let waited = (after.0 - before.0).max(0.0) / after.2.as_secs_f64();
        Ok(Run {
            shards,
            per_s,
            server_ns,
            generator_ns,
            server_cores: server_ns * per_s / 1e9,
            generator_cores: generator_ns * per_s / 1e9,
            machine_share: before.1.busy_until(&after.1),
            sync_share: (waited / f64::from(self.partitions)).min(1.0),
            bytes_per_s: per_s * (f64::from(MESSAGE_BYTES) + 16.0),
        })
    }

    /// All generators at once, each with its part of the senders.
    fn load(&self, node: &Node, seconds: f64, warm_up: f64) -> Result<Vec<Report>, Fault> {
        let plan = |generator: usize| LoadPlan {
            addr: node.addr,
            senders: self
                .senders
                .iter()
                .skip(generator)
                .step_by(self.generators)
                .cloned()
                .collect(),
            receivers: Vec::new(),
            options: LoadOptions {
                rate: 0.0,
                duration: Duration::from_secs_f64(seconds),
                warm_up: Duration::from_secs_f64(warm_up),
                drain: DRAIN,
                batch: BATCH,
                window: WINDOW,
                message_bytes: BodySizes::Fixed(MESSAGE_BYTES),
                ..LoadOptions::default()
            },
            others: Others::default(),
            server_cpu: ServerCpu::Process(node.pid()),
            data: None,
        };
        let reports = std::thread::scope(|scope| {
            let each: Vec<_> = (0..self.generators)
                .map(|number| scope.spawn(move || loadgen::run(plan(number), &mut Quiet)))
                .collect();
            let joined = each.into_iter().map(|thread| {
                let joined = thread.join();
                joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            joined.collect::<Result<Vec<Report>, Diagnosis>>()
        });
        Ok(reports?)
    }
}

fn unsound(report: &Report) -> Diagnosis {
    let reason = report.reasons.iter().chain(&report.faults).next();
    Diagnosis::new(
        BENCH_LOAD,
        "a load step is not accounted for",
        reason
            .cloned()
            .unwrap_or_else(|| "nothing acked".to_owned()),
        "every message answered",
        "run it again; if it stays so, run `forebay load` against the node and read its reasons",
    )
}

/// Senders of whom every partition has as many: what is measured is shards, not the luck of names.
fn senders(partitions: u16, ack: &str) -> Result<Vec<SenderCredential>, Fault> {
    let table = control::compile_epoch(&plan(partitions, ack, &[]), "the plan of the steps", 1)?;
    let channel = &table.channels()[0];
    let each = SENDERS.div_ceil(usize::from(partitions));
    let mut of_partition = std::collections::BTreeMap::new();
    let names = (0..).map(|number| format!("{ENVIRONMENT}/sender-{number}"));
    let chosen = names.filter(|name| {
        let partition = table.partition_of(EndpointId::of(name), channel);
        let count = of_partition.entry(partition).or_insert(0);
        *count += 1;
        *count <= each
    });
    let sender = |endpoint| SenderCredential {
        endpoint,
        key_id: INGRESS_KEY_ID,
        key: new_secret().text().to_owned(),
        channel: CHANNEL.to_owned(),
    };
    let count = each * usize::from(partitions);
    Ok(chosen.take(count).map(sender).collect())
}

fn plan(partitions: u16, ack: &str, senders: &[SenderCredential]) -> String {
    let mut out = format!(
        "[[accounts]]\nname = \"tune\"\n[[environments]]\nname = \"{ENVIRONMENT}\"\n\
         [[hubs]]\nname = \"{ENVIRONMENT}/default\"\npartitions = {partitions}\nack = \"{ack}\"\n\
         segment_bytes = \"{SEGMENT_MIB}MiB\"\nretention_bytes = \"{RETENTION_MIB}MiB\"\n\
         [[channels]]\nname = \"{CHANNEL}\"\n"
    );
    for sender in senders {
        out.push_str(&format!(
            "[[endpoints]]\nname = \"{}\"\n[[endpoints.keys]]\nid = {INGRESS_KEY_ID}\nname = \"primary\"\n\
             direction = \"ingress\"\nsecret = \"{}\"\n[[endpoints.grants]]\nchannel = \"readings\"\nallow = \"send\"\n",
            sender.endpoint, sender.key
        ));
    }
    out
}

/// Seconds that all partitions together have waited for syncs; 0 when the node does not tell.
fn syncs(admin: SocketAddr) -> f64 {
    metric(admin, "forebay_sync_seconds_total").unwrap_or_default()
}

/// A metric of a node, its labels added up.
fn metric(admin: SocketAddr, name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect_timeout(&admin, METRICS_TIME).ok()?;
    stream.set_read_timeout(Some(METRICS_TIME)).ok()?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest
            .starts_with([' ', '{'])
            .then(|| rest.rsplit(' ').next())??;
        value.parse::<f64>().ok()
    });
    values.reduce(|one, other| one + other)
}

/// Time that the processors of this machine were busy and idle since it started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Processors {
    busy: f64,
    idle: f64,
}

impl Processors {
    /// As it stands; nothing when the kernel does not tell.
    pub(super) fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::read(text.lines().next().unwrap_or_default())
    }

    /// user, nice, system, idle, iowait, irq, softirq, steal.
    fn read(line: &str) -> Self {
        let fields: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let total: f64 = fields.iter().sum();
        let idle: f64 = fields.iter().skip(3).take(2).sum();
        Self {
            busy: total - idle,
            idle,
        }
    }

    /// The busy share of the time between the two.
    pub(super) fn busy_until(&self, later: &Self) -> f64 {
        let (busy, idle) = (later.busy - self.busy, later.idle - self.idle);
        busy / (busy + idle).max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_share_counts_everything_but_idle_and_waiting_for_disks() {
        let first = Processors::read("cpu  100 0 50 800 50 0 0 0 0 0");
        let later = Processors::read("cpu  150 10 60 850 60 5 5 20 0 0");
        assert!((first.busy_until(&later) - 100.0 / 160.0).abs() < 1e-9);
        assert_eq!(first.busy_until(&first), 0.0);
    }

    #[test]
    fn every_partition_has_as_many_senders_and_the_plan_compiles() {
        for count in [4, 8, 64] {
            let senders = senders(count, "durable").expect("names enough");
            assert_eq!(senders.len(), 64);
            let text = plan(count, "durable", &senders);
            let table = control::compile_epoch(&text, "plan", 1).expect("it compiles");
            let mut counts = vec![0; usize::from(count)];
            for sender in &senders {
                let id = EndpointId::of(&sender.endpoint);
                let partition = table.partition_of(id, &table.channels()[0]);
                let all: Vec<_> = table.partitions().map(|(id, _)| id).collect();
                counts[all.iter().position(|id| *id == partition).expect("known")] += 1;
            }
            assert!(
                counts.iter().all(|each| *each == 64 / usize::from(count)),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn there_are_partitions_for_every_shard_and_room_is_asked_for_all_of_them() {
        for (shards, want) in [(1, 4), (2, 4), (3, 8), (8, 16), (100, 64)] {
            assert_eq!(partitions(shards), want);
            assert!(disk_bytes(shards) > u64::from(want) * (RETENTION_MIB << 20));
        }
    }
}
