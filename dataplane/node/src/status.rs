//! What the shard's thread tells the others about itself: its phase at any time, its numbers when asked.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use partition::{LogId, LogState, MappedSegment};
use rustix::time::{ClockId, clock_gettime};
use shard::queue::QueueCounters;
use shard::{Hottest, Shard};
use wire::ids::AckMode;
use wire::route::RouteTable;

use crate::accept::quic::counters::QuicCounters;
use crate::accept::tls::TunnelCounters;
use crate::distribution::Distribution;
use crate::epochs::Epochs;
use crate::fair::FairCounters;
use crate::files::FileCounters;
use crate::mesh::PeerCounters;
use crate::supply::{AskSupply, Supply};

/// A shard that serves looks for work at least every second. One that has not for so long stands still.
const STILL_AFTER: Duration = Duration::from_secs(3);

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Opening its logs.
    Recovering = 0,
    /// Serving.
    Ready = 1,
    /// Stopping gracefully.
    Draining = 2,
    /// Gone.
    Stopped = 3,
}

impl Phase {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// Shared by the shards' threads, which write, and the admin thread and handle, which read.
pub(crate) struct Status {
    shards: Vec<ShardStatus>,
    logs: AtomicUsize,
    logs_recovered: AtomicUsize,
    config_stale: AtomicBool,
    reloads_refused: AtomicU64,
    hubs_unopened: AtomicUsize,
    hub_opens_failed: AtomicU64,
    epochs: Epochs,
    /// The certificate that is shown, if one is.
    certificate: CertificateStatus,
    /// Of the control plane in another process, if tables come from one.
    supply: OnceLock<AskSupply>,
    /// From when on the moments of shards are told.
    began: Instant,
}

/// What is known of the certificate that is shown.
#[derive(Debug, Default)]
pub(crate) struct CertificateStatus {
    /// Its last second, in unix seconds; 0 if none is shown.
    pub(crate) until: AtomicI64,
    /// The files hold a pair that was refused.
    pub(crate) stale: AtomicBool,
    pub(crate) replaced: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// What one shard's thread tells at any time.
#[derive(Debug, Default)]
struct ShardStatus {
    phase: AtomicU8,
    /// When it last looked for work, in nanoseconds since `began`.
    looked: AtomicU64,
    /// The processor it is pinned to, if it is.
    cpu: OnceLock<usize>,
    /// `pid/task/tid` below /proc, once its thread runs.
    task: Mutex<Option<String>>,
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status")
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

impl Status {
    /// Of so many shards, all of which recover.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| ShardStatus::default()).collect(),
            logs: AtomicUsize::new(0),
            logs_recovered: AtomicUsize::new(0),
            config_stale: AtomicBool::new(false),
            reloads_refused: AtomicU64::new(0),
            hubs_unopened: AtomicUsize::new(0),
            hub_opens_failed: AtomicU64::new(0),
            epochs: Epochs::new(shards),
            certificate: CertificateStatus::default(),
            supply: OnceLock::new(),
            began: Instant::now(),
        }
    }

    /// The moment from which all shards count their time.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// A shard looks for work.
    #[inline]
    pub(crate) fn looks(&self, shard: usize, now: Duration) {
        // Nothing is read by this but the number itself.
        let looked = &self.shards[shard].looked;
        looked.store(nanos(now), Ordering::Relaxed);
    }

    /// How long ago a shard looked for work; none for one that does not serve.
    pub(crate) fn silent(&self, shard: usize) -> Option<Duration> {
        let shard = &self.shards[shard];
        if shard.phase() != Phase::Ready {
            return None;
        }
        // First this: what is looked at later than now is not late.
        let now = nanos(self.began.elapsed());
        let looked = shard.looked.load(Ordering::Relaxed);
        Some(Duration::from_nanos(now.saturating_sub(looked)))
    }

    /// Shards that stand still, and since when.
    pub(crate) fn still(&self) -> Vec<(usize, Duration)> {
        let silent = |shard| Some((shard, self.silent(shard)?));
        let all = (0..self.shards.len()).filter_map(silent);
        all.filter(|(_, silent)| *silent >= STILL_AFTER).collect()
    }

    /// Where the node is, all shards together: it serves when all of them do, and drains as soon as one does or is gone.
    pub(crate) fn phase(&self) -> Phase {
        let all = |phase: Phase| self.shards.iter().all(|shard| shard.phase() == phase);
        let any = |phase: Phase| self.shards.iter().any(|shard| shard.phase() == phase);
        match () {
            () if all(Phase::Stopped) => Phase::Stopped,
            () if any(Phase::Stopped) || any(Phase::Draining) => Phase::Draining,
            () if any(Phase::Recovering) => Phase::Recovering,
            () => Phase::Ready,
        }
    }

    pub(crate) fn enter(&self, shard: usize, phase: Phase) {
        self.looks(shard, self.began.elapsed());
        self.shards[shard]
            .phase
            .store(phase as u8, Ordering::Release);
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// A shard has so many logs to open.
    pub(crate) fn recovering(&self, logs: usize) {
        self.logs.fetch_add(logs, Ordering::Relaxed);
    }

    pub(crate) fn recovered_one(&self) {
        self.logs_recovered.fetch_add(1, Ordering::Relaxed);
    }

    /// Logs recovered so far, and all of them; the second is 0 until they have been counted.
    pub(crate) fn progress(&self) -> (usize, usize) {
        let done = self.logs_recovered.load(Ordering::Relaxed);
        (done, self.logs.load(Ordering::Relaxed))
    }

    /// So many hubs of the table are not served since their logs cannot be opened.
    pub(crate) fn hubs_unopened(&self, hubs: usize) {
        self.hubs_unopened.store(hubs, Ordering::Relaxed);
    }

    /// Logs of such a hub could not be opened once more.
    pub(crate) fn hub_open_failed(&self) {
        self.hub_opens_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Hubs that are not served, and how often opening one failed.
    pub(crate) fn unopened(&self) -> (usize, u64) {
        let failed = self.hub_opens_failed.load(Ordering::Relaxed);
        (self.hubs_unopened.load(Ordering::Relaxed), failed)
    }

    pub(crate) fn reload_refused(&self) {
        self.config_stale.store(true, Ordering::Relaxed);
        self.reloads_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A shard has the table of this epoch of this past.
    pub(crate) fn reload_applied(&self, shard: usize, past: u64, epoch: u64) {
        self.epochs.note(shard, past, epoch);
        self.config_stale.store(false, Ordering::Relaxed);
    }

    /// The epoch of each shard.
    pub(crate) fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// The files hold the certificate that is shown, which is good until then.
    pub(crate) fn certificate_good(&self, until: i64) {
        self.certificate.until.store(until, Ordering::Relaxed);
        self.certificate.stale.store(false, Ordering::Relaxed);
    }

    /// Another certificate is shown from now on.
    pub(crate) fn certificate_replaced(&self, until: i64) {
        self.certificate_good(until);
        self.certificate.replaced.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the files hold anything that was refused.
    pub(crate) fn certificate_stale(&self, stale: bool) {
        self.certificate.stale.store(stale, Ordering::Relaxed);
    }

    /// The files hold a pair that cannot be shown.
    pub(crate) fn certificate_refused(&self) {
        self.certificate.stale.store(true, Ordering::Relaxed);
        self.certificate.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Tables come from a control plane in another process, which this tells of. Said once.
    pub(crate) fn supplied(&self, ask: AskSupply) {
        let again = self.supply.set(ask).is_err();
        assert!(!again, "a node has one control plane");
    }

    /// What is known of that control plane, if there is one.
    pub(crate) fn supply(&self) -> Option<Supply> {
        self.supply.get().map(|ask| ask())
    }

    pub(crate) fn certificate(&self) -> &CertificateStatus {
        &self.certificate
    }

    pub(crate) fn config_stale(&self) -> bool {
        self.config_stale.load(Ordering::Relaxed)
    }

    pub(crate) fn reloads_refused(&self) -> u64 {
        self.reloads_refused.load(Ordering::Relaxed)
    }

    /// Called on a shard's thread, so that others can read its processor time; and where it is pinned.
    pub(crate) fn name_task(&self, shard: usize, cpu: Option<usize>) {
        if let Some(cpu) = cpu {
            // A shard has one thread, which says so once.
            let _ = self.shards[shard].cpu.set(cpu);
        }
        let link = std::fs::read_link("/proc/thread-self").ok();
        if let Ok(mut place) = self.shards[shard].task.lock() {
            *place = link.map(|link| link.display().to_string());
        }
    }

    /// The processor a shard is pinned to, if it is.
    pub(crate) fn cpu(&self, shard: usize) -> Option<usize> {
        self.shards[shard].cpu.get().copied()
    }

    /// Processor seconds of a shard's thread.
    pub(crate) fn shard_cpu_seconds(&self, shard: usize) -> Option<f64> {
        let task = self.shards[shard].task.lock().ok()?.clone()?;
        let text = std::fs::read_to_string(format!("/proc/{task}/schedstat")).ok()?;
        let nanos: u64 = text.split_whitespace().next()?.parse().ok()?;
        Some(nanos as f64 / 1e9)
    }
}

/// Whole nanoseconds, at most `u64::MAX`.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl ShardStatus {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Recovering,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }
}

/// Processor time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// What turns took, in nanoseconds; told to a quarter of a microsecond.
pub(crate) type TurnTimes = Distribution<250>;

/// The numbers of a shard between two turns.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Since the shard began to serve.
    pub(crate) at: Duration,
    /// Processor time of its thread by then.
    pub(crate) cpu: Duration,
    pub(crate) counters: shard::Counters,
    pub(crate) queues: QueueCounters,
    pub(crate) ring: ring::Counters,
    pub(crate) files: FileCounters,
    pub(crate) connections: u32,
    pub(crate) strangers: u32,
    pub(crate) sessions: usize,
    pub(crate) assembly_bytes: usize,
    /// Who is kept out.
    pub(crate) banned: Vec<shard::Banned>,
    /// What the shard uses of its memory budget.
    pub(crate) memory: shard::MemoryStatus,
    pub(crate) buffers_free: usize,
    pub(crate) buffers: usize,
    pub(crate) epoch: u64,
    pub(crate) partitions: Vec<PartitionNumbers>,
    pub(crate) turns_cut_short: u64,
    pub(crate) idle_waits: u64,
    pub(crate) turns: TurnTimes,
    /// Frames found, and messages appended, in turns that did so.
    pub(crate) batch_frames: Distribution<1>,
    pub(crate) batch_messages: Distribution<1>,
    pub(crate) hottest: Hottest,
    pub(crate) fair: FairCounters,
    /// What passed between this shard and others, if there are any.
    pub(crate) mesh: Option<PeerCounters>,
    pub(crate) refused_moves: u64,
    /// Connections with a tunnel.
    pub(crate) tunnels: usize,
    pub(crate) tunnel_counters: TunnelCounters,
    /// Of QUIC, if it is spoken.
    pub(crate) quic: Option<QuicCounters>,
}

impl Snapshot {
    /// The numbers of all shards together. The table's epoch is the one that all of them have.
    pub(crate) fn sum(shards: &[Self]) -> Option<Self> {
        let (first, rest) = shards.split_first()?;
        let mut sum = first.clone();
        for other in rest {
            sum.add(other);
        }
        Some(sum)
    }

    /// Memory that grows with load, in bytes, by kind.
    pub(crate) fn memory(&self) -> [(&'static str, u64); 8] {
        self.memory.used.kinds()
    }

    /// What all of it together may be, if that is bounded.
    pub(crate) fn memory_budget_bytes(&self) -> Option<u64> {
        Some(self.memory.budget_bytes)
    }

    /// Partitions among its logs.
    pub(crate) fn partitions_owned(&self) -> usize {
        let own = self.partitions.iter();
        own.filter(|log| !log.journal).count()
    }

    fn add(&mut self, other: &Self) {
        self.at = self.at.max(other.at);
        self.cpu += other.cpu;
        self.counters += &other.counters;
        self.queues = sum_queues([(0, self.queues), (0, other.queues)].into_iter());
        self.ring += other.ring;
        self.files.add(&other.files);
        self.connections += other.connections;
        self.strangers += other.strangers;
        self.sessions += other.sessions;
        self.assembly_bytes += other.assembly_bytes;
        self.banned.extend_from_slice(&other.banned);
        self.memory.used += other.memory.used;
        self.memory.budget_bytes += other.memory.budget_bytes;
        self.memory.pressure = self.memory.pressure.max(other.memory.pressure);
        self.memory.door = self.memory.door.max(other.memory.door);
        self.buffers_free += other.buffers_free;
        self.buffers += other.buffers;
        self.epoch = self.epoch.min(other.epoch);
        self.partitions.extend(other.partitions.iter().cloned());
        self.turns_cut_short += other.turns_cut_short;
        self.idle_waits += other.idle_waits;
        self.turns.add(&other.turns);
        self.batch_frames.add(&other.batch_frames);
        self.batch_messages.add(&other.batch_messages);
        self.fair.add(&other.fair);
        if let (Some(here), Some(there)) = (&mut self.mesh, &other.mesh) {
            here.add(there);
        }
        self.refused_moves += other.refused_moves;
        self.tunnels += other.tunnels;
        self.tunnel_counters += &other.tunnel_counters;
        if let (Some(sum), Some(other)) = (&mut self.quic, &other.quic) {
            *sum += *other;
        }
    }
}

/// One log, as far as metrics go.
#[derive(Debug, Clone)]
pub(crate) struct PartitionNumbers {
    pub(crate) log: String,
    /// Of a queue group.
    pub(crate) journal: bool,
    pub(crate) state: LogState,
    /// Wants a spare segment and could not get one.
    pub(crate) starved: bool,
    pub(crate) bytes: u64,
    pub(crate) appended: u64,
    pub(crate) committed: u64,
}

impl PartitionNumbers {
    /// Every partition and journal of a shard.
    pub(crate) fn of(shard: &Shard<MappedSegment>) -> Vec<Self> {
        let journals = shard.queue_groups().map(|group| group.log());
        let logs = shard.partitions().chain(journals);
        logs.map(|log| Self {
            log: log.log().to_string(),
            journal: matches!(log.log(), LogId::Queue(_)),
            state: log.state(),
            starved: log.spare_failure().is_some(),
            bytes: log.bytes(),
            appended: log.appended().0,
            committed: log.committed().0,
        })
        .collect()
    }
}

/// Sums over all queue groups of a shard.
pub(crate) fn sum_queues(counters: impl Iterator<Item = (u16, QueueCounters)>) -> QueueCounters {
    counters.fold(QueueCounters::default(), |sum, (_, one)| QueueCounters {
        added: sum.added + one.added,
        caught_up: sum.caught_up + one.caught_up,
        parked: sum.parked + one.parked,
        dropped: sum.dropped + one.dropped,
        settled: sum.settled + one.settled,
        expired: sum.expired + one.expired,
        withdrawn: sum.withdrawn + one.withdrawn,
        damaged: sum.damaged + one.damaged,
        buried: sum.buried + one.buried,
        dead_dropped: sum.dead_dropped + one.dead_dropped,
        rewinds: sum.rewinds + one.rewinds,
        locks_expired: sum.locks_expired + one.locks_expired,
        unjournaled: sum.unjournaled + one.unjournaled,
        paused: sum.paused + one.paused,
        journal_records: sum.journal_records + one.journal_records,
        snapshots: sum.snapshots + one.snapshots,
    })
}

/// The ack modes in force, in plain words: hub, words.
pub(crate) fn ack_words(table: &RouteTable) -> Vec<(String, &'static str)> {
    let words = |ack: AckMode| match ack {
        AckMode::Local => "local: survives a process crash, may lose its tail on power loss",
        AckMode::Durable => "durable: on disk before the ack",
    };
    let hubs = table.hubs().iter();
    hubs.map(|hub| (hub.name.to_string(), words(hub.ack)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_serves_and_does_not_look_for_work_stands_still_and_one_that_recovers_or_stops_does_not()
     {
        let status = Status::new(4);
        let now = status.began.elapsed();
        for (shard, phase) in [
            Phase::Recovering,
            Phase::Draining,
            Phase::Ready,
            Phase::Ready,
        ]
        .into_iter()
        .enumerate()
        {
            status.enter(shard, phase);
        }
        assert_eq!(status.still(), []);
        let later = now + STILL_AFTER + Duration::from_secs(3_600);
        let status = Status {
            began: status.began - (STILL_AFTER + Duration::from_secs(60)),
            ..status
        };
        status.looks(3, later);
        let still: Vec<usize> = status.still().into_iter().map(|(shard, _)| shard).collect();
        assert_eq!(still, [2], "3 looked a moment ago");
        assert!(status.silent(2) >= Some(STILL_AFTER));
        assert_eq!((status.silent(0), status.silent(1)), (None, None));
        assert_eq!(status.silent(3), Some(Duration::ZERO));
    }
}
