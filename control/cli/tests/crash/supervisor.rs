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

/// Where a node listens: for plain connections, for those that begin with TLS, and for QUIC.
#[derive(Clone)]
pub(crate) struct Addresses {
    pub(crate) plain: String,
    pub(crate) tls: String,
    pub(crate) quic: String,
}

/// A process that was started, and the addresses it will tell once.
struct Running {
    child: Child,
    began: Instant,
    addresses: mpsc::Receiver<Addresses>,
    ready: bool,
}

/// The process under test.
pub(crate) struct Supervisor {
    config: PathBuf,
    addresses: Option<Addresses>,
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
            addresses: None,
            running: None,
            shards,
            starts: [0; SHARDS_MAX as usize],
            start_time: Duration::from_millis(100),
        };
        let made = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["cert", "dev", "--out"])
            .arg(folder)
            .output();
        let made = made.expect("the binary was built for this test");
        assert!(made.status.success(), "{made:?}");
        let any = "127.0.0.1:0".to_owned();
        supervisor.configure(&Addresses {
            plain: any.clone(),
            tls: any.clone(),
            quic: any,
        });
        supervisor
    }

    fn configure(&self, Addresses { plain, tls, quic }: &Addresses) {
        let text = format!(
            "[node]\ndata = {:?}\nlisten = {plain:?}\nlisten_tls = {tls:?}\nlisten_quic = {quic:?}\n\
             admin = \"127.0.0.1:0\"\n\
             tls.certificate = \"cert.pem\"\ntls.key = \"key.pem\"\n\
             disk.journal_segment_bytes = {JOURNAL_SEGMENT_BYTES}\n\n[plan]\nfile = \"plan.toml\"\n",
            self.data(),
        );
        std::fs::write(&self.config, text).expect("the folder is writable");
    }

    /// The authority of the node's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.config.with_file_name("ca.pem")
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
        let (tell, addresses) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut plain, mut tls) = (None, None);
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening on ") {
                    plain = Some(address.to_owned());
                }
                if let Some(address) = line.strip_prefix("listening with TLS on ") {
                    tls = Some(address.to_owned());
                }
                if let Some(quic) = line.strip_prefix("listening with QUIC on ") {
                    let before = "that line comes first";
                    let (plain, tls) = (plain.take().expect(before), tls.take().expect(before));
                    let quic = quic.to_owned();
                    // Whoever killed it does not want the addresses any more.
                    let _ = tell.send(Addresses { plain, tls, quic });
                }
            }
        });
        self.running = Some(Running {
            child,
            began: Instant::now(),
            addresses,
            ready: false,
        });
    }

    /// Wait until it listens; the port chosen first is kept from then on.
    pub(crate) fn ready(&mut self) -> Addresses {
        let running = self.running.as_mut().expect("it was spawned");
        if let (true, Some(addresses)) = (running.ready, &self.addresses) {
            return addresses.clone();
        }
        let addresses = running
            .addresses
            .recv_timeout(PATIENCE)
            .expect("the node says where it listens before it ends");
        self.start_time = running.began.elapsed();
        running.ready = true;
        if self.addresses.is_none() {
            self.configure(&addresses);
            self.addresses = Some(addresses.clone());
        }
        addresses
    }

    /// SIGKILL, as the kernel's out-of-memory killer would. Whether it was ready by then.
    pub(crate) fn kill(&mut self) -> bool {
        let mut running = self.running.take().expect("it runs");
        let ended = running.child.try_wait().expect("the child is ours");
        assert!(ended.is_none(), "it ended by itself: {ended:?}");
        running.child.kill().expect("the child is ours");
        running.child.wait().expect("the child is ours");
        running.ready || running.addresses.try_recv().is_ok()
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
