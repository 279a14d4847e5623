//! Load steps: a node of its own with so many shards, as much load as it takes, and who used how much of the machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use control::keys::new_secret;
use control::render::INGRESS_KEY_ID;
use rustix::thread::{CpuSet, sched_getaffinity};

use loadgen::{
    BodySizes, LoadOptions, LoadPlan, Others, Quiet, Report, SenderCredential, ServerCpu, Verdict,
};
use wire::diagnosis::Diagnosis;
use wire::ids::EndpointId;

use crate::diagnosis::{BENCH_FOLDER, BENCH_LOAD};
use crate::fault::Fault;
use crate::workbench::{Folder, Node, Tunnels};

const ENVIRONMENT: &str = "tune/load";
const CHANNEL: &str = "tune/load/readings";
/// Senders at least, and of each partition at least.
const SENDERS: usize = 64;
const SENDERS_EACH: usize = 4;
const MESSAGE_BYTES: u32 = 100;
/// Messages per frame, and frames that each sender has unanswered.
pub(super) const BATCH: u16 = 16;
const WINDOW: u32 = 16;
const DRAIN: Duration = Duration::from_secs(10);
/// Length of segments, and with many partitions; each keeps four of them.
const SEGMENT_MIB: u64 = 16;
const SMALL_SEGMENT_MIB: u64 = 4;
const SEGMENTS_KEPT: u64 = 4;
const PARTITIONS_FEW: u16 = 64;
const PARTITIONS_MOST: u16 = 512;
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
    /// Of these, those that its shards' threads kept busy; the rest prepares, syncs and answers questions.
    pub(super) shard_cores: f64,
    /// Processors that the generator kept busy.
    pub(super) generator_cores: f64,
    /// Share of the processors that this process may run on that was busy, whoever used them.
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

/// Settings of tunnels.
const TUNNELS: [&str; 3] = ["listen_tls", "listen_quic", "tls"];

/// Partitions that the steps use: two or more for every shard, and the same at each step.
fn partitions(shards_max: u16) -> u16 {
    (2 * shards_max)
        .next_power_of_two()
        .clamp(4, PARTITIONS_MOST)
}

fn segment_mib(partitions: u16) -> u64 {
    match partitions <= PARTITIONS_FEW {
        true => SEGMENT_MIB,
        false => SMALL_SEGMENT_MIB,
    }
}

/// Bytes of disk that the steps need: what is kept, and as much prepared.
pub(super) fn disk_bytes(shards_max: u16) -> u64 {
    let partitions = partitions(shards_max);
    let each = 2 * SEGMENTS_KEPT * segment_mib(partitions);
    (u64::from(partitions) * each + 512) << 20
}

/// Threads that generate: half of the processors, as a generator costs about as much as a shard; none without a sender.
fn generators(cores: usize, senders: usize) -> usize {
    (cores / 2).clamp(1, senders)
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
        // The steps are plain: tunnels would need the certificate, and the ports of the node that the settings are for.
        if let Some(node) = config.get_mut("node").and_then(toml::Value::as_table_mut) {
            node.retain(|setting, _| !TUNNELS.contains(&setting));
        }
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
            generators: generators(cores, senders.len()),
            senders,
            partitions,
            folder,
        })
    }

    /// One run at so many shards, `seconds` of it measured.
    pub(super) fn run(&self, shards: u16, seconds: f64, warm_up: f64) -> Result<Run, Fault> {
        let node = Node::start(
            &self.config,
            Tunnels::default(),
            &self.folder,
            &shards.to_string(),
        )?;
        let before = (Told::by(node.admin), Processors::now(), Instant::now());
        let reports = self.load(&node, seconds + warm_up, warm_up)?;
        let after = (Told::by(node.admin), Processors::now(), before.2.elapsed());
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
        let waited = (after.0.syncs - before.0.syncs).max(0.0) / after.2.as_secs_f64();
        let server_cores = server_ns * per_s / 1e9;
        Ok(Run {
            shards,
            per_s,
            server_ns,
            generator_ns,
            server_cores,
            shard_cores: server_cores * before.0.of_shards(&after.0),
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
            transport: loadgen::Transport::Tcp,
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
    let each = SENDERS.div_ceil(usize::from(partitions)).max(SENDERS_EACH);
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
    let segment = segment_mib(partitions);
    let mut out = format!(
        "[[accounts]]\nname = \"tune\"\n[[environments]]\nname = \"{ENVIRONMENT}\"\n\
         [[hubs]]\nname = \"{ENVIRONMENT}/default\"\npartitions = {partitions}\nack = \"{ack}\"\n\
         segment_bytes = \"{segment}MiB\"\nretention_bytes = \"{}MiB\"\n\
         [[channels]]\nname = \"{CHANNEL}\"\n",
        SEGMENTS_KEPT * segment
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

/// What a node has told of itself, in seconds since its start; 0 what it does not tell.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// That all partitions together have waited for syncs.
    syncs: f64,
    /// Processor time of all shards' threads.
    shards: f64,
    /// Processor time of the process.
    process: f64,
}

impl Told {
    fn by(admin: SocketAddr) -> Self {
        let text = metrics(admin).unwrap_or_default();
        Self {
            syncs: sum(&text, "forebay_sync_seconds_total"),
            shards: sum(&text, "forebay_shard_cpu_seconds_total"),
            process: sum(&text, "process_cpu_seconds_total"),
        }
    }

    /// The shards' part of the processor time between the two; all of it when the node does not tell.
    fn of_shards(&self, later: &Self) -> f64 {
        let (shards, process) = (later.shards - self.shards, later.process - self.process);
        match shards > 0.0 && process > 0.0 {
            true => (shards / process).min(1.0),
            false => 1.0,
        }
    }
}

fn metrics(admin: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&admin, METRICS_TIME).ok()?;
    stream.set_read_timeout(Some(METRICS_TIME)).ok()?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A metric, its labels added up.
fn sum(text: &str, name: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest
            .starts_with([' ', '{'])
            .then(|| rest.rsplit(' ').next())??;
        value.parse::<f64>().ok()
    });
    values.sum()
}

/// Time that the processors this process may run on were busy and idle since the machine started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Processors {
    busy: f64,
    idle: f64,
    count: usize,
}

impl Processors {
    /// As it stands; nothing when the kernel does not tell.
    pub(super) fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let usable = sched_getaffinity(None).ok();
        let mine = |cpu| usable.is_none_or(|usable| cpu < CpuSet::MAX_CPU && usable.is_set(cpu));
        match Self::read(&text, mine) {
            // Their numbers are not those of the machine, as some containers show them.
            none if none.count == 0 => Self::read(&text, |_| true),
            found => found,
        }
    }

    /// Lines of one processor each: user, nice, system, idle, iowait, irq, softirq, steal.
    fn read(text: &str, mine: impl Fn(usize) -> bool) -> Self {
        let mut sum = Self::default();
        for line in text.lines() {
            let mut fields = line.split_whitespace();
            let name = fields.next().and_then(|name| name.strip_prefix("cpu"));
            if !name
                .and_then(|number| number.parse().ok())
                .is_some_and(&mine)
            {
                continue;
            }
            let fields: Vec<f64> = fields
                .take(8)
                .filter_map(|field| field.parse().ok())
                .collect();
            let idle: f64 = fields.iter().skip(3).take(2).sum();
            sum.idle += idle;
            sum.busy += fields.iter().sum::<f64>() - idle;
            sum.count += 1;
        }
        sum
    }

    /// How many they are.
    pub(super) fn count(&self) -> usize {
        self.count
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
        let read = |text| Processors::read(text, |_| true);
        let first = read("cpu0 100 0 50 800 50 0 0 0 0 0");
        let later = read("cpu0 150 10 60 850 60 5 5 20 0 0");
        assert!((first.busy_until(&later) - 100.0 / 160.0).abs() < 1e-9);
        assert_eq!(first.busy_until(&first), 0.0);
        assert!(Processors::now().count() > 0);
    }

    #[test]
    fn only_processors_that_may_be_used_are_looked_at() {
        // Processors 0 and 1 of four are ours and idle; strangers keep the others busy.
        let before =
            "cpu 0 0 0 0\ncpu0 0 0 0 0\ncpu1 0 0 0 0\ncpu2 0 0 0 0\ncpu3 0 0 0 0\nctxt 1\n";
        let after = "cpu 200 0 0 200\ncpu0 0 0 0 100\ncpu1 0 0 0 100\ncpu2 100 0 0 0\ncpu3 100 0 0 0\nctxt 9\n";
        let of = |text, least| Processors::read(text, move |cpu| cpu >= least);
        for (least, share, count) in [(0, 0.5, 4), (2, 1.0, 2), (3, 1.0, 1)] {
            let later = of(after, least);
            assert_eq!(
                (of(before, least).busy_until(&later), later.count()),
                (share, count)
            );
        }
        let ours = |text| Processors::read(text, |cpu| cpu < 2);
        assert_eq!(ours(before).busy_until(&ours(after)), 0.0);
    }

    #[test]
    fn the_shards_part_of_the_server_is_that_of_their_threads() {
        let text = |shard: f64, process: f64| {
            format!(
                "forebay_shard_cpu_seconds_total{{shard=\"0\"}} {shard}\nforebay_shard_cpu_seconds_total{{shard=\"1\"}} 1\n\
                 process_cpu_seconds_total {process}\nforebay_sync_seconds_total 0\n"
            )
        };
        let told = |text: &str| Told {
            syncs: 0.0,
            shards: sum(text, "forebay_shard_cpu_seconds_total"),
            process: sum(text, "process_cpu_seconds_total"),
        };
        let (before, after) = (told(&text(1.0, 3.0)), told(&text(4.0, 7.0)));
        assert_eq!(before.of_shards(&after), 0.75);
        assert_eq!(Told::default().of_shards(&Told::default()), 1.0);
    }

    #[test]
    fn every_partition_has_as_many_senders_and_the_plan_compiles() {
        for (count, each) in [(4, 16), (8, 8), (64, 4), (512, 4)] {
            let senders = senders(count, "durable").expect("names enough");
            assert_eq!(senders.len(), usize::from(count) * each);
            let text = plan(count, "durable", &senders);
            let table = control::compile_epoch(&text, "plan", 1).expect("it compiles");
            let mut counts = vec![0; usize::from(count)];
            for sender in &senders {
                let id = EndpointId::of(&sender.endpoint);
                let partition = table.partition_of(id, &table.channels()[0]);
                let all: Vec<_> = table.partitions().map(|(id, _)| id).collect();
                counts[all.iter().position(|id| *id == partition).expect("known")] += 1;
            }
            assert!(counts.iter().all(|seen| *seen == each), "{counts:?}");
        }
    }

    #[test]
    fn there_are_partitions_for_every_shard_and_room_is_asked_for_all_of_them() {
        for shards in 1..=256 {
            let count = partitions(shards);
            assert!(count >= 2 * shards, "{shards}: {count}");
            let kept = u64::from(count) * SEGMENTS_KEPT * (segment_mib(count) << 20);
            assert!(
                (2 * kept..32 << 30).contains(&disk_bytes(shards)),
                "{shards}"
            );
        }
        for (shards, want) in [(1, 4), (2, 4), (3, 8), (8, 16), (100, 256)] {
            assert_eq!(partitions(shards), want);
        }
    }

    #[test]
    fn half_of_the_processors_generate_however_many_there_are() {
        for (cores, senders, want) in [
            (1, 64, 1),
            (2, 64, 1),
            (8, 64, 4),
            (64, 256, 32),
            (256, 64, 64),
        ] {
            assert_eq!(generators(cores, senders), want, "{cores}");
        }
    }
}
