//! Starts the real binary, kills it with SIGKILL, starts it again on the same folder and port.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// For every start; none is meant to come near it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a segment of the queues' journals: the least that the node takes, so that they change often.
const JOURNAL_SEGMENT_BYTES: u32 = 2 << 20;
/// Most shards that are drawn: more than the partitions, so that some shards have none.
const SHARDS_MAX: u16 = 8;

/// Log lines are shown when `FOREBAY_CRASH_LOG` is set.
fn log() -> Stdio {
    match std::env::var_os("FOREBAY_CRASH_LOG") {
        Some(_) => Stdio::inherit(),
        None => Stdio::null(),
    }
}

/// A process that was started, and the address it will tell once.
struct Running {
    child: Child,
    began: Instant,
    address: mpsc::Receiver<String>,
    ready: bool,
}

/// The process under test.
pub(crate) struct Supervisor {
    config: PathBuf,
    address: Option<String>,
    running: Option<Running>,
    /// Draws another number of shards for each start; otherwise the configuration says how many there are.
    shards: Option<fastrand::Rng>,
    /// How often a start had so many shards, from 1.
    pub(crate) starts: [u64; SHARDS_MAX as usize],
    /// How long the last start took that was not cut short.
    pub(crate) start_time: Duration,
}

impl Supervisor {
    /// Write the configuration into `folder`; nothing runs yet.
    pub(crate) fn new(folder: &Path, plan: &str, shards: Option<fastrand::Rng>) -> Self {
        let config = folder.join("forebay.toml");
        std::fs::write(folder.join("plan.toml"), plan).expect("the folder is writable");
        let supervisor = Self {
            config,
            address: None,
            running: None,
            shards,
            starts: [0; SHARDS_MAX as usize],
            start_time: Duration::from_millis(100),
        };
        supervisor.configure("127.0.0.1:0");
        supervisor
    }

    fn configure(&self, listen: &str) {
        let text = format!(
            "[node]\ndata = {:?}\nlisten = {listen:?}\nadmin = \"127.0.0.1:0\"\n\
             disk.journal_segment_bytes = {JOURNAL_SEGMENT_BYTES}\n\n[plan]\nfile = \"plan.toml\"\n",
            self.data(),
        );
        std::fs::write(&self.config, text).expect("the folder is writable");
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.config.with_file_name("data")
    }

    /// Start the process and return at once, before it is ready.
    pub(crate) fn spawn(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        if let Some(random) = &mut self.shards {
            let shards = random.u16(1..=SHARDS_MAX);
            self.starts[usize::from(shards) - 1] += 1;
            command.env("FOREBAY_NODE_SHARDS", shards.to_string());
        }
        let mut child = command
            .args(["run", "--config"])
            .arg(&self.config)
            .stdout(Stdio::piped())
            .stderr(log())
            .spawn()
            .expect("the binary was built for this test");
        let out = child.stdout.take().expect("stdout is piped");
        let (tell, address) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let address = rest.split_whitespace().next().unwrap_or_default();
                    // Whoever killed it does not want the address any more.
                    let _ = tell.send(address.to_owned());
                }
            }
        });
        self.running = Some(Running {
            child,
            began: Instant::now(),
            address,
            ready: false,
        });
    }

    /// Wait until it listens; the port chosen first is kept from then on.
    pub(crate) fn ready(&mut self) -> String {
        let running = self.running.as_mut().expect("it was spawned");
        if let (true, Some(address)) = (running.ready, &self.address) {
            return address.clone();
        }
        let address = running
            .address
            .recv_timeout(PATIENCE)
            .expect("the node says where it listens before it ends");
        self.start_time = running.began.elapsed();
        running.ready = true;
        if self.address.is_none() {
            self.configure(&address);
            self.address = Some(address.clone());
        }
        address
    }

    /// SIGKILL, as the kernel's out-of-memory killer would. Whether it was ready by then.
    pub(crate) fn kill(&mut self) -> bool {
        let mut running = self.running.take().expect("it runs");
        let ended = running.child.try_wait().expect("the child is ours");
        assert!(ended.is_none(), "it ended by itself: {ended:?}");
        running.child.kill().expect("the child is ours");
        running.child.wait().expect("the child is ours");
        running.ready || running.address.try_recv().is_ok()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}
