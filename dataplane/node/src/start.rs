//! Starting a node: every fault that can be found before serving is found here and has a name.

mod control;
mod retired;
mod tables;
mod transports;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use ring::{Features, Waker};
use wire::route::RouteTable;

use self::control::doors;
pub(crate) use self::control::{Control, snapshots};
use self::retired::Retired;
pub use self::tables::{Tables, Unapplied};
use self::transports::{Listeners, Tunnels, listeners, local, quic_seeds};
use crate::admin::{self, Admin};
use crate::bounds::{ring_fault, ring_limits, shard_limits};
use crate::config::NodeConfig;
use crate::diagnosis::{Diagnosis, EXECUTOR_FAILED, SHARD_STOPPED, diagnose};
use crate::ending::{Ending, join_all};
use crate::folder::Folder;
use crate::hubs::{Hubs, Opener, Unopenable, unopenable};
use crate::log::{Level, Log};
use crate::meeting::Meeting;
use crate::placement::Machine;
use crate::random::hash_seed;
use crate::recover::RecoverySummary;
use crate::shard_thread::{self, Seed, tell_recovery};
use crate::status::{Phase, Status};
use crate::watch::Watch;

/// How a new route table is made when someone asks for a reload.
pub type Reload = Box<dyn Fn() -> Result<Arc<RouteTable>, Diagnosis> + Send>;

/// What a node did, told at its end.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// What recovery found at start.
    pub recovery: RecoverySummary,
    /// What the shards counted.
    pub counters: shard::Counters,
}

/// A running node. Dropping it leaves the node running.
pub struct NodeHandle {
    listen: Option<SocketAddr>,
    listen_tls: Option<SocketAddr>,
    listen_quic: Option<SocketAddr>,
    admin: SocketAddr,
    control: Arc<Control>,
    shards: Vec<JoinHandle<Result<Summary, Diagnosis>>>,
    admin_thread: Admin,
    watch: Option<Watch>,
    opener: Option<Opener>,
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeHandle")
            .field("listen", &self.listen)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

impl NodeHandle {
    /// The first address where frames are accepted, plain if they are anywhere, else over TLS, else over QUIC; the port the kernel
    /// chose if 0 was asked for.
    pub fn listen_addr(&self) -> SocketAddr {
        let all = [self.listen, self.listen_tls, self.listen_quic];
        let first = all.into_iter().flatten().next();
        first.expect("a configuration without any is refused")
    }

    /// Where frames are accepted without encryption, if they are.
    pub fn listen_plain_addr(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// Where tunnels are accepted, if they are.
    pub fn listen_tls_addr(&self) -> Option<SocketAddr> {
        self.listen_tls
    }

    /// Where QUIC connections are accepted, if they are.
    pub fn listen_quic_addr(&self) -> Option<SocketAddr> {
        self.listen_quic
    }

    /// Where metrics and probes are served.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Begin a graceful stop: no new connections, commit what is appended, GOAWAY. Returns at once.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// Make a new route table and apply it between two turns. Returns its epoch.
    ///
    /// # Errors
    /// Why the new plan was refused; the old one stays in force.
    pub fn reload(&self) -> Result<u64, Diagnosis> {
        self.control.reload()
    }

    /// The way of new tables into the node.
    pub fn tables(&self) -> Tables {
        Tables(Arc::clone(&self.control))
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Whether the node still runs.
    pub fn is_running(&self) -> bool {
        !self.shards.iter().all(JoinHandle::is_finished)
    }

    /// Wait until the node has stopped.
    ///
    /// # Errors
    /// The fault that ended it, if it did not end by being told to. A shard that stands still is a fault as well, some time after
    /// the stop; its thread is left behind, so the process should end.
    pub fn join(self) -> Result<Summary, Diagnosis> {
        let stuck = self.control.ending.wait();
        let summary = join_all(self.shards, &stuck);
        self.admin_thread.end();
        drop(self.watch);
        drop(self.opener);
        summary
    }
}

impl Summary {
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.recovery.add_all(&other.recovery);
        self.counters += &other.counters;
        self
    }
}

/// Start a node and return when it serves.
///
/// # Errors
/// Any fault of configuration, data folder, ports, kernel or limits, with its remedy.
pub fn start(
    config: NodeConfig,
    table: Arc<RouteTable>,
    reload: impl Fn() -> Result<Arc<RouteTable>, Diagnosis> + Send + 'static,
) -> Result<NodeHandle, Diagnosis> {
    let log = Arc::new(Log::stderr(config.log_format));
    start_logged(config, table, Box::new(reload), log)
}

/// [`start`], with log lines going where the caller says.
///
/// # Errors
/// As [`start`].
pub fn start_logged(
    config: NodeConfig,
    table: Arc<RouteTable>,
    reload: Reload,
    log: Arc<Log>,
) -> Result<NodeHandle, Diagnosis> {
    let placement = Machine::here().place(&config.shards)?;
    let ring_limits = ring_limits(&config, &table, placement.shards())?;
    let mut shard_limits = shard_limits(&config, placement.shards())?;
    shard_limits.hash_seed = hash_seed()?;
    let features = Features::probe().map_err(|error| ring_fault(&error))?;
    tell_features(&log, &features);
    let folder = Folder::open(&config.data)?;
    let waiting = match config.takes_unopenable {
        true => {
            ring::ensure_open_files(ring_limits.files_needed())
                .map_err(|error| ring_fault(&error))?;
            unopenable(folder.path(), &table, &log)?
        }
        false => Vec::new(),
    };
    folder.settle_format(&table, |hub| waiting.iter().any(|waits| waits.is(hub)))?;
    shard_limits.logs = folder.logs()?;
    let tunnels = Tunnels::of(&config)?;
    let Listeners {
        plain,
        tls,
        quic,
        admin: admin_listener,
    } = listeners(&config, placement.shards())?;
    let listen = plain.first().map(local).transpose()?;
    let listen_tls = tls.first().map(local).transpose()?;
    let listen_quic = quic.first().and_then(|socket| socket.local_addr().ok());
    let quic = match &tunnels {
        Some(tunnels) if !quic.is_empty() => quic_seeds(quic, tunnels, &config, &folder)?,
        _ => Vec::new(),
    };
    let (doors, asked) = doors(placement.shards());
    let status = Arc::new(Status::new(placement.shards()));
    // They begin with this one.
    (0..placement.shards()).for_each(|shard| status.epochs().note(shard, 0, table.epoch()));
    let hubs = Hubs::new(
        folder.path().to_owned(),
        (&table, waiting),
        (shard_limits.shards, ring_limits.files_needed()),
        Arc::clone(&status),
        Arc::clone(&log),
    );
    let control = Arc::new(Control {
        status,
        log: Arc::clone(&log),
        doors,
        ending: Ending::new(placement.shards(), config.timeouts.drain),
        table: Mutex::new(Arc::clone(&table)),
        retired: Retired::start()?,
        reload: Mutex::new(reload),
        data: folder.path().to_owned(),
        hubs,
        unopenable: match config.takes_unopenable {
            true => Unopenable::Waits,
            false => Unopenable::Refuses,
        },
    });
    let admin = local(&admin_listener)?;
    let admin_thread = admin::serve(admin_listener, Arc::clone(&control))?;
    let server = tunnels.as_ref().map(|tunnels| tunnels.server.clone());
    let watch = tunnels.map(|tunnels| tunnels.watch(&control)).transpose()?;
    log.event(Level::Info, "placed", &[("shards", &placement)]);
    tell_memory(&log, &shard_limits);
    log.event(Level::Info, "recovering", &[("admin", &admin)]);
    let (ready, is_ready) = bounded(placement.shards());
    let folder = Arc::new(folder);
    let meeting = Arc::new(Meeting::new(placement.shards()));
    let began = control.status.began();
    let mut shards = Vec::new();
    let mut plain = plain.into_iter();
    let mut tls = tls.into_iter();
    let mut quic = quic.into_iter();
    for (shard, commands) in asked.into_iter().enumerate() {
        let seed = Seed {
            shard,
            cpu: placement.cpu(shard).or(config.cpu),
            config: config.clone(),
            table: Arc::clone(&table),
            ownership: control.hubs.ownership(),
            without_logs: control.hubs.without_logs(),
            listener: plain.next(),
            tunnel_listener: tls.next(),
            tunnels: server.clone(),
            quic: quic.next(),
            ring_limits: ring_limits.clone(),
            shard_limits: shard::Limits {
                shard: u16::try_from(shard).unwrap_or(u16::MAX),
                ..shard_limits.clone()
            },
            meeting: Arc::clone(&meeting),
            features,
            began,
            commands,
            status: Arc::clone(&control.status),
            log: Arc::clone(&log),
            ready: ready.clone(),
        };
        match spawn(seed, Arc::clone(&folder), Arc::clone(&control)) {
            Ok(thread) => shards.push(thread),
            Err(fault) => {
                // Those that run already wait for one that never comes. Each says that it was left alone, which is not the cause.
                meeting.leave();
                let _ = join_all(shards, &[]);
                return Err(fault);
            }
        }
    }
    drop(ready);
    let opener = (config.takes_unopenable).then(|| Opener::start(&control));
    let handle = NodeHandle {
        watch,
        opener: opener.transpose()?,
        listen,
        listen_tls,
        listen_quic,
        admin,
        control,
        shards,
        admin_thread,
    };
    handle.wait_ready(&is_ready)
}

impl NodeHandle {
    /// Until every shard serves or one has failed.
    fn wait_ready(self, ready: &Receiver<(usize, Waker)>) -> Result<Self, Diagnosis> {
        for _ in 0..self.shards.len() {
            let Ok((shard, waker)) = ready.recv() else {
                // A thread ended before it served, and had the others end.
                return self.join().and_then(|_| Err(never_served()));
            };
            if let Ok(mut place) = self.control.doors[shard].waker.lock() {
                // Who asked something before found nobody to wake.
                waker.wake();
                *place = Some(waker);
            }
        }
        let mut fields: Vec<(&str, &dyn std::fmt::Display)> = Vec::new();
        for (name, address) in [
            ("listen", &self.listen),
            ("listen_quic", &self.listen_quic),
            ("listen_tls", &self.listen_tls),
        ] {
            fields.extend(address.iter().map(|address| (name, address as _)));
        }
        fields.push(("admin", &self.admin));
        self.control.log.event(Level::Info, "ready", &fields);
        Ok(self)
    }
}

fn never_served() -> Diagnosis {
    diagnose(
        SHARD_STOPPED,
        "a shard",
        "an end before it served",
        "a shard that serves",
        "start the node again",
    )
}

/// Tells the others when a shard ends, for whatever reason: a node serves with all of its shards or not at all.
struct LastWords {
    control: Arc<Control>,
    meeting: Arc<Meeting>,
    shard: usize,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        self.control.status.enter(self.shard, Phase::Stopped);
        self.meeting.leave();
        if std::thread::panicking() {
            let cause = "a failed assertion";
            let fields: [(&str, &dyn std::fmt::Display); 2] =
                [("shard", &self.shard), ("cause", &cause)];
            self.control.log.event(Level::Error, "shard_ended", &fields);
        }
        self.control.ending.end(self.shard);
        self.control.stop();
    }
}

fn spawn(
    seed: Seed,
    folder: Arc<Folder>,
    control: Arc<Control>,
) -> Result<JoinHandle<Result<Summary, Diagnosis>>, Diagnosis> {
    let (log, began, shard) = (Arc::clone(&seed.log), Instant::now(), seed.shard);
    let meeting = Arc::clone(&seed.meeting);
    let told = Arc::clone(&log);
    let thread = std::thread::Builder::new().name(format!("shard-{shard}"));
    let run = move || {
        // The folder stays locked for as long as any shard may write.
        let _folder = folder;
        let _last_words = LastWords {
            control,
            meeting,
            shard,
        };
        let (recovery, counters) = shard_thread::serve(seed, move |recovery| {
            tell_recovery(&told, recovery, began.elapsed());
        })?;
        let fields: [(&str, &dyn std::fmt::Display); 2] =
            [("shard", &shard), ("turns", &counters.turns)];
        log.event(Level::Info, "stopped", &fields);
        Ok(Summary { recovery, counters })
    };
    thread.spawn(run).map_err(|error| {
        diagnose(
            EXECUTOR_FAILED,
            "shard thread",
            error.to_string(),
            "one more thread",
            "raise `ulimit -u`, or the container's limit of processes",
        )
    })
}

/// Say at start what each shard may use of memory, and what its bounds allow of each kind.
fn tell_memory(log: &Log, limits: &shard::Limits) {
    let kinds = limits.memory_parts().kinds();
    let mut fields: Vec<(&str, &dyn std::fmt::Display)> =
        vec![("shard_budget_bytes", &limits.memory_bytes)];
    fields.extend((kinds.iter()).map(|(name, bytes)| (*name, bytes as &dyn std::fmt::Display)));
    log.event(Level::Info, "memory", &fields);
}

/// Say at start which features the kernel lacks.
fn tell_features(log: &Log, features: &Features) {
    let kernel = format!("{}.{}", features.kernel.0, features.kernel.1);
    let missing: Vec<&str> = [
        ("multishot_accept", features.multishot_accept),
        ("multishot_receive", features.multishot_receive),
        ("defer_taskrun", features.defer_taskrun),
        ("registered_ring", features.registered_ring),
    ]
    .into_iter()
    .filter_map(|(name, there)| (!there).then_some(name))
    .collect();
    let missing = match missing.is_empty() {
        true => "none".to_owned(),
        false => missing.join(","),
    };
    let fields: [(&str, &dyn std::fmt::Display); 2] =
        [("kernel", &kernel), ("missing_features", &missing)];
    log.event(Level::Info, "ring_probed", &fields);
}
