//! Starting a node: every fault that can be found before serving is found here and has a name.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ring::{Features, Waker};
use wire::route::RouteTable;

use crate::accept::tcp::{self, Purpose};
use crate::admin::{self, Admin};
use crate::bounds::{ring_fault, ring_limits, shard_limits};
use crate::config::NodeConfig;
use crate::diagnosis::{
    ADMIN_PORT_TAKEN, Diagnosis, EXECUTOR_FAILED, PORT_TAKEN, RELOAD_REFUSED, SHARD_STOPPED,
    diagnose,
};
use crate::folder::Folder;
use crate::log::{Level, Log};
use crate::recover::RecoverySummary;
use crate::run::Command;
use crate::shard_thread::{self, Seed, tell_recovery};
use crate::status::{Phase, Status};

/// Commands that may wait for the loop.
const COMMANDS_MAX: usize = 16;

/// How a new route table is made when someone asks for a reload.
pub type Reload = Box<dyn Fn() -> Result<Arc<RouteTable>, Diagnosis> + Send>;

/// What a node did, told at its end.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// What recovery found at start.
    pub recovery: RecoverySummary,
    /// What the shard counted.
    pub counters: shard::Counters,
}

/// The way to the loop, shared by the handle, the admin thread and signals.
pub(crate) struct Control {
    pub(crate) status: Arc<Status>,
    pub(crate) log: Arc<Log>,
    pub(crate) commands: Sender<Command>,
    pub(crate) table: Mutex<Arc<RouteTable>>,
    waker: Mutex<Option<Waker>>,
    reload: Mutex<Reload>,
    data: std::path::PathBuf,
}

impl Control {
    /// Hand a command to the loop and wake it. Whether there was room.
    pub(crate) fn ask(&self, command: Command) -> bool {
        let asked = self.commands.try_send(command).is_ok();
        if let Ok(waker) = self.waker.lock()
            && let Some(waker) = &*waker
        {
            waker.wake();
        }
        asked
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
        let table = {
            let reload = self
                .reload
                .lock()
                .map_err(|_| busy("a reload that broke"))?;
            reload()?
        };
        let mut current = self.table.lock().map_err(|_| busy("a reload that broke"))?;
        Folder::check_reload(&self.data, &current, &table)?;
        if !self.ask(Command::Table(Arc::clone(&table))) {
            return Err(busy("a shard that is behind with its commands"));
        }
        *current = Arc::clone(&table);
        Ok(table.epoch())
    }
}

/// A running node. Dropping it leaves the node running.
pub struct NodeHandle {
    listen: SocketAddr,
    admin: SocketAddr,
    control: Arc<Control>,
    shard: JoinHandle<Result<Summary, Diagnosis>>,
    admin_thread: Admin,
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

    /// Where metrics and probes are served.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Begin a graceful stop: no new connections, commit what is appended, GOAWAY. Returns at once.
    pub fn stop(&self) {
        self.control.ask(Command::Stop);
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
        !self.shard.is_finished()
    }

    /// Wait until the node has stopped.
    ///
    /// # Errors
    /// The fault that ended it, if it did not end by being told to.
    pub fn join(self) -> Result<Summary, Diagnosis> {
        let ended = self.shard.join();
        self.control.status.enter(Phase::Stopped);
        self.admin_thread.end();
        ended.unwrap_or_else(|_| {
            Err(diagnose(
                SHARD_STOPPED,
                "shard 0",
                "a failed assertion, see the line above",
                "a shard that runs until it is told to stop",
                "start the node again and report that line",
            ))
        })
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
    let ring_limits = ring_limits(&config, &table)?;
    let shard_limits = shard_limits(&config)?;
    let features = Features::probe().map_err(|error| ring_fault(&error))?;
    tell_features(&log, &features);
    let folder = Folder::open(&config.data)?;
    folder.settle_format(&table)?;
    let (listener, admin_listener) = listeners(&config)?;
    let listen = local(&listener)?;
    let (commands, asked) = bounded(COMMANDS_MAX);
    let control = Arc::new(Control {
        status: Arc::new(Status::default()),
        log: Arc::clone(&log),
        commands,
        table: Mutex::new(Arc::clone(&table)),
        waker: Mutex::new(None),
        reload: Mutex::new(reload),
        data: folder.path().to_owned(),
    });
    let admin = local(&admin_listener)?;
    let admin_thread = admin::serve(admin_listener, Arc::clone(&control))?;
    log.event(Level::Info, "recovering", &[("admin", &admin)]);
    let (ready, is_ready) = bounded(1);
    let seed = Seed {
        config,
        table,
        listener,
        ring_limits,
        shard_limits,
        features,
        commands: asked,
        status: Arc::clone(&control.status),
        log: Arc::clone(&log),
        ready,
    };
    let shard = spawn(seed, folder)?;
    let handle = NodeHandle {
        listen,
        admin,
        control,
        shard,
        admin_thread,
    };
    handle.wait_ready(&is_ready)
}

impl NodeHandle {
    /// Until the shard serves or has failed.
    fn wait_ready(self, ready: &Receiver<Waker>) -> Result<Self, Diagnosis> {
        match ready.recv() {
            Ok(waker) => {
                if let Ok(mut place) = self.control.waker.lock() {
                    *place = Some(waker);
                }
                let fields: [(&str, &dyn std::fmt::Display); 2] =
                    [("listen", &self.listen), ("admin", &self.admin)];
                self.control.log.event(Level::Info, "ready", &fields);
                Ok(self)
            }
            // The thread ended before it served.
            Err(_) => self.join().and_then(|_| {
                Err(diagnose(
                    SHARD_STOPPED,
                    "shard 0",
                    "an end before it served",
                    "a shard that serves",
                    "start the node again",
                ))
            }),
        }
    }
}

fn spawn(seed: Seed, folder: Folder) -> Result<JoinHandle<Result<Summary, Diagnosis>>, Diagnosis> {
    let (log, began) = (Arc::clone(&seed.log), Instant::now());
    let told = Arc::clone(&log);
    let thread = std::thread::Builder::new().name("shard-0".into());
    let run = move || {
        // The folder stays locked for as long as the shard may write.
        let _folder = folder;
        let (recovery, counters) = shard_thread::serve(seed, move |recovery| {
            tell_recovery(&told, recovery, began.elapsed());
        })?;
        log.event(Level::Info, "stopped", &[("turns", &counters.turns)]);
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

fn listeners(
    config: &NodeConfig,
) -> Result<(std::net::TcpListener, std::net::TcpListener), Diagnosis> {
    let listen = Purpose {
        setting: "node.listen",
        taken: PORT_TAKEN,
    };
    let admin = Purpose {
        setting: "node.admin",
        taken: ADMIN_PORT_TAKEN,
    };
    Ok((
        tcp::listen(config.listen, config.backlog, true, listen)?,
        tcp::listen(config.admin, 128, false, admin)?,
    ))
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

/// Ask the loop for its numbers.
pub(crate) fn snapshot(control: &Control) -> Option<Box<crate::status::Snapshot>> {
    if !matches!(control.status.phase(), Phase::Ready | Phase::Draining) {
        return None;
    }
    let (sender, answer) = bounded(1);
    if !control.ask(Command::Snapshot(sender)) {
        return None;
    }
    answer.recv_timeout(ANSWER_TIMEOUT).ok()
}
