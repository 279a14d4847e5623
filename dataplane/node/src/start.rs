//! Starting a node: every fault that can be found before serving is found here and has a name.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ring::{Features, Waker};
use wire::route::RouteTable;

use crate::accept::quic::settings::Settings;
use crate::accept::tcp::{self, Purpose};
use crate::accept::udp;
use crate::admin::{self, Admin};
use crate::bounds::{quic_limits, ring_fault, ring_limits, shard_limits};
use crate::certificates::CertificateFiles;
use crate::config::NodeConfig;
use crate::diagnosis::{
    ADMIN_PORT_TAKEN, Diagnosis, EXECUTOR_FAILED, PORT_TAKEN, RANDOM_FAILED, RELOAD_REFUSED,
    SHARD_STOPPED, diagnose,
};
use crate::ending::{Ending, join_all};
use crate::folder::Folder;
use crate::log::{Level, Log};
use crate::meeting::Meeting;
use crate::placement::Machine;
use crate::recover::RecoverySummary;
use crate::run::Command;
use crate::shard_thread::{self, QuicSeed, Seed, tell_recovery};
use crate::status::{Phase, Snapshot, Status};
use crate::watch::{Watch, Watched};

/// Commands that may wait for the loop. Questions for numbers leave room for tables, and these leave room for a stop: it is never
/// lost, however far behind a loop is.
const COMMANDS_MAX: usize = 16;
const TABLES_MAX: usize = 12;
const SNAPSHOTS_MAX: usize = 8;

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

/// The way to the loops, shared by the handle, the admin thread and signals.
pub(crate) struct Control {
    pub(crate) status: Arc<Status>,
    pub(crate) log: Arc<Log>,
    doors: Vec<Door>,
    ending: Ending,
    pub(crate) table: Mutex<Arc<RouteTable>>,
    reload: Mutex<Reload>,
    data: std::path::PathBuf,
}

/// The way to one loop.
struct Door {
    commands: Sender<Command>,
    /// There once the shard serves.
    waker: Mutex<Option<Waker>>,
}

impl Door {
    /// Whether the loop is not so far behind that there is no room for another table.
    fn has_room(&self) -> bool {
        self.commands.len() < TABLES_MAX
    }

    /// Hand a command to the loop and wake it. Whether there was room.
    fn ask(&self, command: Command) -> bool {
        let room = match command {
            Command::Snapshot(_) => SNAPSHOTS_MAX,
            Command::Table(_) => TABLES_MAX,
            Command::Stop => COMMANDS_MAX,
        };
        if self.commands.len() >= room {
            return false;
        }
        let asked = self.commands.try_send(command).is_ok();
        if let Ok(waker) = self.waker.lock()
            && let Some(waker) = &*waker
        {
            waker.wake();
        }
        asked
    }
}

impl Control {
    /// Hand a command to every loop and wake it. Whether all had room.
    fn ask(&self, command: impl Fn() -> Command) -> bool {
        let refused = self.doors.iter().filter(|door| !door.ask(command()));
        refused.count() == 0
    }

    /// Tell every loop to stop.
    pub(crate) fn stop(&self) {
        self.ending.ask();
        self.ask(|| Command::Stop);
    }

    /// Make a new table and hand it to the loop; on failure the old one stays and the configuration counts as stale.
    pub(crate) fn reload(&self) -> Result<u64, Diagnosis> {
        let made = self.make_table();
        if let Err(diagnosis) = &made {
            self.status.reload_refused();
            self.log
                .event(Level::Error, "reload_refused", &[("fault", diagnosis)]);
        }
        made
    }

    fn make_table(&self) -> Result<u64, Diagnosis> {
        let busy = |what: &str| {
            diagnose(
                RELOAD_REFUSED,
                "reload",
                what,
                "one reload at a time",
                "ask again in a second",
            )
        };
        let mut table = {
            let reload = self
                .reload
                .lock()
                .map_err(|_| busy("a reload that broke"))?;
            reload()?
        };
        let mut current = self.table.lock().map_err(|_| busy("a reload that broke"))?;
        Folder::check_reload(&self.data, &current, &table)?;
        // Nobody's allowance begins anew, and shards with the old table take from the same one.
        Arc::make_mut(&mut table).go_on_from(&current);
        // All shards or none: one at a time asks for this, and who asks for numbers leaves the room to it.
        let room = self.doors.iter().all(Door::has_room);
        if !room || !self.ask(|| Command::Table(Arc::clone(&table))) {
            return Err(busy("a shard that is behind with its commands"));
        }
        *current = Arc::clone(&table);
        Ok(table.epoch())
    }
}

/// A running node. Dropping it leaves the node running.
pub struct NodeHandle {
    listen: SocketAddr,
    listen_tls: Option<SocketAddr>,
    listen_quic: Option<SocketAddr>,
    admin: SocketAddr,
    control: Arc<Control>,
    shards: Vec<JoinHandle<Result<Summary, Diagnosis>>>,
    admin_thread: Admin,
    watch: Option<Watch>,
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
    /// Where frames are accepted; the port the kernel chose if 0 was asked for.
    pub fn listen_addr(&self) -> SocketAddr {
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
    let shard_limits = shard_limits(&config, placement.shards())?;
    let features = Features::probe().map_err(|error| ring_fault(&error))?;
    tell_features(&log, &features);
    let folder = Folder::open(&config.data)?;
    folder.settle_format(&table)?;
    let tunnels = Tunnels::of(&config)?;
    let Listeners {
        plain,
        tls,
        quic,
        admin: admin_listener,
    } = listeners(&config, placement.shards())?;
    let listen = local(&plain[0])?;
    let listen_tls = tls.first().map(local).transpose()?;
    let listen_quic = quic.first().and_then(|socket| socket.local_addr().ok());
    let quic = match &tunnels {
        Some(tunnels) if !quic.is_empty() => quic_seeds(quic, tunnels, &config)?,
        _ => Vec::new(),
    };
    let (doors, asked) = doors(placement.shards());
    let control = Arc::new(Control {
        status: Arc::new(Status::new(placement.shards())),
        log: Arc::clone(&log),
        doors,
        ending: Ending::new(placement.shards(), config.timeouts.drain),
        table: Mutex::new(Arc::clone(&table)),
        reload: Mutex::new(reload),
        data: folder.path().to_owned(),
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
    let mut tls = tls.into_iter();
    let mut quic = quic.into_iter();
    for (shard, (listener, commands)) in plain.into_iter().zip(asked).enumerate() {
        let seed = Seed {
            shard,
            cpu: placement.cpu(shard).or(config.cpu),
            config: config.clone(),
            table: Arc::clone(&table),
            listener,
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
    let handle = NodeHandle {
        watch,
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

/// The ways to the loops, and where these take what comes.
fn doors(shards: usize) -> (Vec<Door>, Vec<Receiver<Command>>) {
    let door = |_| {
        let (commands, asked) = bounded(COMMANDS_MAX);
        let waker = Mutex::new(None);
        (Door { commands, waker }, asked)
    };
    (0..shards).map(door).unzip()
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
        let mut fields: Vec<(&str, &dyn std::fmt::Display)> =
            vec![("listen", &self.listen), ("admin", &self.admin)];
        if let Some(tls) = &self.listen_tls {
            fields.insert(1, ("listen_tls", tls));
        }
        if let Some(quic) = &self.listen_quic {
            fields.insert(1, ("listen_quic", quic));
        }
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

/// What makes the tunnels of a node, and the certificate that it shows.
struct Tunnels {
    server: tls::Server,
    served: Arc<tls::Served>,
    files: CertificateFiles,
}

impl Tunnels {
    /// Of a node that has a certificate.
    fn of(config: &NodeConfig) -> Result<Option<Self>, Diagnosis> {
        let Some(files) = config.tls.clone() else {
            return Ok(None);
        };
        let served = tls::Served::new(files.read()?);
        let server = tls::Server::new(Arc::clone(&served)).map_err(|error| {
            diagnose(
                RANDOM_FAILED,
                "a key for tickets",
                error.to_string(),
                "random bytes of the kernel",
                "see the kernel log",
            )
        })?;
        Ok(Some(Self {
            server,
            served,
            files,
        }))
    }

    /// Show another certificate when its files change.
    fn watch(self, control: &Control) -> Result<Watch, Diagnosis> {
        let status = Arc::clone(&control.status);
        status.certificate_good(self.served.current().validity().until);
        Watch::start(Watched {
            files: self.files,
            served: self.served,
            status,
            log: Arc::clone(&control.log),
        })
    }
}

/// What each shard needs for QUIC.
fn quic_seeds(
    sockets: Vec<UdpSocket>,
    tunnels: &Tunnels,
    config: &NodeConfig,
) -> Result<Vec<QuicSeed>, Diagnosis> {
    let limits = quic_limits(config, sockets.len());
    let secret = tunnels.files.secret()?;
    let settings = Settings::new(tunnels.server.config(), limits, (draw, &secret));
    let settings = settings.map(Arc::new).map_err(|error| {
        diagnose(
            crate::diagnosis::CERTIFICATE_REFUSED,
            "node.listen_quic",
            error.to_string(),
            "TLS 1.3 with a cipher suite of QUIC",
            "see the versions and suites that this build of rustls has",
        )
    })?;
    let again: std::io::Result<Arc<[UdpSocket]>> =
        sockets.iter().map(UdpSocket::try_clone).collect();
    let again = again.map_err(|error| {
        diagnose(
            crate::diagnosis::LISTEN_FAILED,
            "node.listen_quic",
            error.to_string(),
            "two descriptors for each shard",
            "raise `ulimit -n`",
        )
    })?;
    let seed = |socket| QuicSeed {
        socket,
        sockets: Arc::clone(&again),
        settings: Arc::clone(&settings),
    };
    Ok(sockets.into_iter().map(seed).collect())
}

fn draw(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel gave random bytes when the node started");
}

/// Every shard's listeners, and the one of the admin port.
struct Listeners {
    plain: Vec<std::net::TcpListener>,
    /// As many, or none.
    tls: Vec<std::net::TcpListener>,
    quic: Vec<UdpSocket>,
    admin: std::net::TcpListener,
}

fn listeners(config: &NodeConfig, shards: usize) -> Result<Listeners, Diagnosis> {
    let listen = Purpose {
        setting: "node.listen",
        taken: PORT_TAKEN,
    };
    let admin = Purpose {
        setting: "node.admin",
        taken: ADMIN_PORT_TAKEN,
    };
    let listen_tls = Purpose {
        setting: "node.listen_tls",
        taken: PORT_TAKEN,
    };
    let each = |address, purpose| {
        let mut all = vec![tcp::listen(address, config.backlog, true, purpose)?];
        while all.len() < shards {
            all.push(tcp::listen_beside(&all[0], config.backlog, purpose)?);
        }
        Ok(all)
    };
    let tls = config.listen_tls.map(|address| each(address, listen_tls));
    let listen_quic = Purpose {
        setting: "node.listen_quic",
        taken: PORT_TAKEN,
    };
    let open = |address| udp::open_for_shards(address, shards, listen_quic);
    let quic = config.listen_quic.map(open).transpose()?;
    Ok(Listeners {
        plain: each(config.listen, listen)?,
        tls: tls.transpose()?.unwrap_or_default(),
        quic: quic.unwrap_or_default(),
        admin: tcp::listen(config.admin, 128, false, admin)?,
    })
}

fn local(listener: &std::net::TcpListener) -> Result<SocketAddr, Diagnosis> {
    listener.local_addr().map_err(|error| {
        diagnose(
            crate::diagnosis::LISTEN_FAILED,
            "listener",
            error.to_string(),
            "a bound address",
            "see the kernel log",
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

/// How long whoever waits for the loop's answer should wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Ask every loop for its numbers: those of each that answers. None of none before all serve.
pub(crate) fn snapshots(control: &Control) -> Vec<Option<Snapshot>> {
    if !matches!(control.status.phase(), Phase::Ready | Phase::Draining) {
        return Vec::new();
    }
    let ask = |door: &Door| {
        let (sender, answer) = bounded(1);
        door.ask(Command::Snapshot(sender)).then_some(answer)
    };
    let asked: Vec<_> = control.doors.iter().map(ask).collect();
    let by = Instant::now() + ANSWER_TIMEOUT;
    let wait = |answer: &Receiver<Box<Snapshot>>| answer.recv_deadline(by).ok();
    let answers = asked.iter().map(|answer| answer.as_ref().and_then(wait));
    answers
        .map(|snapshot| snapshot.map(|boxed| *boxed))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_behind_with_questions_and_tables_still_takes_a_stop() {
        let (doors, asked) = doors(1);
        let parts = wire::route::TableParts {
            queue_groups: 1,
            ..Default::default()
        };
        let table = Arc::new(RouteTable::build(parts).expect("a plan of queues alone"));
        let snapshot = || Command::Snapshot(bounded(1).0);
        let fill =
            |command: &dyn Fn() -> Command| (0..20).filter(|_| doors[0].ask(command())).count();
        assert_eq!(fill(&snapshot), SNAPSHOTS_MAX);
        assert!(doors[0].has_room(), "for a table");
        let tables = fill(&|| Command::Table(Arc::clone(&table)));
        assert_eq!(tables, TABLES_MAX - SNAPSHOTS_MAX);
        assert!(!doors[0].has_room(), "for another table");
        assert!(doors[0].ask(Command::Stop));
        let stops = asked[0]
            .try_iter()
            .filter(|asked| matches!(asked, Command::Stop));
        assert_eq!(stops.count(), 1);
    }
}
