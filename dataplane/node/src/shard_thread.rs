//! A shard's thread: its executor, its ring, its recovery, its loop.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use partition::MappedStorage;
use ring::{Features, Ring, RingLimits, Waker};
use shard::{Output, Ownership, Shard};
use wire::route::RouteTable;

use crate::accept::quic::door::Door;
use crate::accept::quic::settings::Settings;
use crate::accept::tls::Tunnels;
use crate::between::Between;
use crate::bounds::{datagram_limits, ring_fault};
use crate::config::NodeConfig;
use crate::diagnosis::{CPU_ABSENT, Diagnosis, EXECUTOR_FAILED, SHARD_STOPPED, diagnose};
use crate::files::Files;
use crate::flush::Flush;
use crate::log::{Level, Log};
use crate::meeting::{Broken, Meeting};
use crate::prepare::Preparer;
use crate::random::Random;
use crate::recover::{Recoverer, RecoverySummary, recover};
use crate::run::{Batch, Clock, Command, Loop, unix_now};
use crate::status::{Phase, Status};

/// Registered memory of the executor's own rings, which carry file work only.
const EXECUTOR_MEMORY: usize = 64 << 10;
const EXECUTOR_RING_DEPTH: usize = 64;
/// When the executor would have its task give way: never. The timer is set before the task begins. Should it run out before, because
/// the thread gets no processor for so long, glommio takes it that there is nothing to do and sleeps for good.
const EXECUTOR_PREEMPTS: Duration = Duration::from_secs(1 << 30);

/// Everything a shard's thread is given.
pub(crate) struct Seed {
    pub(crate) shard: usize,
    /// The processor it is pinned to.
    pub(crate) cpu: Option<usize>,
    pub(crate) config: NodeConfig,
    pub(crate) table: Arc<RouteTable>,
    /// Who owns what of it, and which of its hubs never had any logs.
    pub(crate) ownership: Ownership,
    pub(crate) without_logs: Arc<[u16]>,
    pub(crate) listener: Option<TcpListener>,
    /// Where connections come in that begin with a tunnel, and what makes one of them.
    pub(crate) tunnel_listener: Option<TcpListener>,
    pub(crate) tunnels: Option<tls::Server>,
    pub(crate) quic: Option<QuicSeed>,
    pub(crate) ring_limits: RingLimits,
    pub(crate) shard_limits: shard::Limits,
    pub(crate) features: Features,
    /// When the node began.
    pub(crate) began: Instant,
    pub(crate) commands: Receiver<Command>,
    /// Where it meets the other shards.
    pub(crate) meeting: Arc<Meeting>,
    pub(crate) status: Arc<Status>,
    pub(crate) log: Arc<Log>,
    /// Told once: which shard serves, and the way to wake its loop.
    pub(crate) ready: Sender<(usize, Waker)>,
}

/// What a shard needs for QUIC.
pub(crate) struct QuicSeed {
    /// Where its datagrams come in.
    pub(crate) socket: UdpSocket,
    /// The sockets of all shards.
    pub(crate) sockets: Arc<[UdpSocket]>,
    /// What all shards share.
    pub(crate) settings: Arc<Settings>,
}

/// Run a shard from recovery to its end. Called on the shard's own thread.
pub(crate) fn serve(
    seed: Seed,
    recovered: impl FnOnce(&RecoverySummary) + 'static,
) -> Result<(RecoverySummary, shard::Counters), Diagnosis> {
    seed.status.name_task(seed.shard, seed.cpu);
    // Nothing here awaits, on purpose: an executor that is never slept in. Its sleep has no time limit and was once found to miss
    // every wake, its own timer's too, on a machine with a slow disk; the ring's sleep has one.
    let executor = executor(seed.shard, seed.cpu, pinned_by(&seed))?;
    executor.run(async { begin(seed, recovered) })
}

/// The setting that chose the processor.
fn pinned_by(seed: &Seed) -> &'static str {
    match seed.cpu.is_some() && seed.cpu == seed.config.cpu {
        true => "node.cpu",
        false => "node.shards",
    }
}

fn executor(
    shard: usize,
    cpu: Option<usize>,
    setting: &'static str,
) -> Result<LocalExecutor, Diagnosis> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let built = LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{shard}"))
        .io_memory(EXECUTOR_MEMORY)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .preempt_timer(EXECUTOR_PREEMPTS)
        .make();
    built.map_err(|error| match cpu {
        Some(cpu) if error.to_string().contains("CPU") || error.to_string().contains("EINVAL") => {
            diagnose(
                CPU_ABSENT,
                setting,
                cpu.to_string(),
                "a processor this process may use",
                format!(
                    "change {setting}, or leave it out; `nproc` and `taskset -p` show what there is"
                ),
            )
        }
        _ => diagnose(
            EXECUTOR_FAILED,
            "executor",
            error.to_string(),
            "an executor with rings of its own",
            "raise `ulimit -l` to 1024 or more (LimitMEMLOCK=1M in a unit file), or see the kernel log",
        ),
    })
}

fn begin(
    seed: Seed,
    tell: impl FnOnce(&RecoverySummary),
) -> Result<(RecoverySummary, shard::Counters), Diagnosis> {
    let mut ring =
        Ring::new(seed.ring_limits, seed.features).map_err(|error| ring_fault(&error))?;
    let mut storage = MappedStorage::new(&seed.config.data);
    let number = seed.shard_limits.shard;
    let place = (number, seed.shard_limits.shards);
    let by = Recoverer {
        shard: number,
        ownership: &seed.ownership,
        table: &seed.table,
        config: &seed.config,
        hash_seed: seed.shard_limits.hash_seed,
        now: unix_now(),
        status: &seed.status,
        log: &seed.log,
    };
    let mut port = None;
    let (recovered, summary) = recover(&mut storage, &by, |ends| {
        let met = seed.meeting.meet(seed.shard, ring.waker(), ends);
        let (ends, way) = met.map_err(|Broken| left_alone(seed.shard))?;
        port = way;
        Ok(ends)
    })?;
    tell(&summary);
    let clock = Clock::since(seed.began);
    let mut shard = Shard::with(
        seed.shard_limits,
        seed.table,
        seed.ownership,
        (recovered.partitions, recovered.queues),
        clock.now(),
    );
    shard.lack_hubs(&seed.without_logs);
    shard.suspend(seed.config.suspended);
    #[cfg(feature = "cycles")]
    shard.count_cycles(ring::cycles);
    let preparer = Preparer::start(seed.shard, storage, ring.waker())?;
    let flush = Flush::new(&seed.config.data);
    let listener = seed.listener.map(|listener| ring.listen(listener));
    let listener = listener.transpose().map_err(|error| ring_fault(&error))?;
    let tunnel_listener = seed.tunnel_listener.map(|listener| ring.listen(listener));
    let tunnel_listener = tunnel_listener.transpose();
    let tunnel_listener = tunnel_listener.map_err(|error| ring_fault(&error))?;
    let quic = seed.quic.map(|quic| {
        ring.bind_datagrams(quic.socket, datagram_limits())
            .map_err(|error| ring_fault(&error))?;
        let first_slot = ring.limits().connections_max as usize;
        let (settings, sockets) = (quic.settings, quic.sockets);
        Ok(Door::new(settings, place, first_slot, sockets))
    });
    let quic = quic.transpose()?;
    seed.status.enter(seed.shard, Phase::Ready);
    // Whoever started the node may be gone; then nobody is left to stop it but a signal.
    let _ = seed.ready.send((seed.shard, ring.waker()));
    let shard_loop = Loop {
        number: seed.shard,
        ring,
        listener,
        tunnel_listener,
        tunnels: Tunnels::new(seed.tunnels),
        quic,
        shard,
        files: Files::new(flush, preparer, Arc::clone(&seed.log)),
        random: Random::new()?,
        commands: seed.commands,
        status: seed.status,
        log: seed.log,
        clock,
        drain: seed.config.timeouts.drain,
        between: port.map(|port| Between::new(number, port)),
        batch: Batch::default(),
        output: Output::default(),
    };
    let counters = shard_loop.run()?;
    Ok((summary, counters))
}

fn left_alone(shard: usize) -> Diagnosis {
    diagnose(
        SHARD_STOPPED,
        format!("shard {shard}"),
        "another shard that ended before it served",
        "all shards, or none",
        "see what the other one says",
    )
}

/// Say in the log what recovery found.
pub(crate) fn tell_recovery(log: &Log, summary: &RecoverySummary, took: Duration) {
    let millis = took.as_millis();
    let fields: [(&str, &dyn std::fmt::Display); 5] = [
        ("logs", &summary.logs),
        ("records", &summary.scanned_records),
        ("cut_bytes", &summary.cut_bytes),
        ("damaged", &summary.damaged),
        ("milliseconds", &millis),
    ];
    log.event(Level::Info, "recovered", &fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_never_sleeps_over_a_task_that_it_has_not_begun() {
        const GLOMMIO_PREEMPTS: Duration = Duration::from_millis(100);
        let executor = executor(0, None, "node.shards").expect("this machine runs executors");
        let would_sleep = executor.run(async {
            // As long a time as it may take from the timer's start to the task's.
            let began = Instant::now();
            while began.elapsed() < 3 * GLOMMIO_PREEMPTS {}
            glommio::executor().need_preempt()
        });
        assert!(!would_sleep);
    }

    #[test]
    fn a_processor_that_is_not_there_is_refused_by_the_setting_that_chose_it() {
        for setting in ["node.shards", "node.cpu"] {
            let refused = executor(0, Some(4_095), setting).expect_err("no machine has it");
            assert_eq!(
                (refused.code, refused.what.as_str(), refused.seen.as_str()),
                (CPU_ABSENT, setting, "4095")
            );
            assert!(refused.remedy.contains(setting), "{refused}");
        }
    }
}
