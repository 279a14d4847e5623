//! A real disk that is full, a small tmpfs: the node refuses by name, lives, delivers all it has acknowledged, and takes
//! messages again by itself once there is room; as often as `FOREBAY_DISK_FULL_CYCLES` says.

use client::{ClientError, Credentials, FetchOptions, Message, Options, Sender};
use control::keys::new_secret;
use control::render::{EGRESS_KEY_ID, INGRESS_KEY_ID, NewEndpoint, NewPlan, render};
use std::io::{BufRead, BufReader, ErrorKind, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use wire::reason::Reason;

const ENVIRONMENT: &str = "acme/test";
const CHANNEL: &str = "acme/test/readings";
const SEGMENT_BYTES: u64 = 2 << 20;
/// What the logs take at first, and what they may grow by in one cycle.
const DISK_BYTES: u64 = 24 << 20;
const CYCLE_BYTES: u64 = 8 << 20;
const BODY_BYTES: usize = 100_000;
/// Refusals in a row, a pause apart, after which the disk counts as full: no spare is still on its way.
const REFUSALS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// Between two tries after space has returned.
const STEP: Duration = Duration::from_millis(10);
/// For every wait; none is meant to come near it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tmpfs of its own in `folder`, gone when dropped.
struct Disk {
    at: PathBuf,
    folder: TempDir,
}

impl Disk {
    /// The reason why there is none, if mounting is not permitted here.
    fn mount(bytes: u64) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let at = folder.path().join("disk");
        std::fs::create_dir(&at).expect("the folder is writable");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(&at)
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned());
        }
        Ok(Self { at, folder })
    }

    /// Take all the space that is left, as somebody else on the same disk would.
    fn fill_up(&self) -> PathBuf {
        let at = self.at.join("ballast");
        let mut ballast = std::fs::File::create(&at).expect("the folder is writable");
        let full = loop {
            if let Err(error) = ballast.write_all(&[1; 64 << 10]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        at
    }

    fn free_bytes(&self) -> u64 {
        let said = Command::new("df")
            .args(["--block-size=1", "--output=avail"])
            .arg(&self.at)
            .output()
            .expect("df is there");
        let text = String::from_utf8_lossy(&said.stdout);
        let bytes = text.lines().last().map(|line| line.trim().parse());
        bytes
            .expect("a number below the heading")
            .expect("a number")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, so that a process that has not quite ended cannot keep it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

/// The process under test; killed when dropped.
struct Node {
    child: Child,
    address: String,
    /// Kept open, so that the node can go on printing.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(match std::env::var_os("FOREBAY_FULL_DISK_LOG") {
                Some(_) => Stdio::inherit(),
                None => Stdio::null(),
            })
            .spawn()
            .expect("the binary was built for this test");
        let out = child.stdout.take().expect("stdout is piped");
        let mut output = BufReader::new(out).lines();
        let address = output
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                rest.split_whitespace().next().map(str::to_owned)
            })
            .expect("the node says where it listens before it ends");
        Self {
            child,
            address,
            _output: output,
        }
    }

    fn lives(&mut self) -> bool {
        let ended = self.child.try_wait().expect("the child is ours");
        ended.is_none()
    }

    /// SIGTERM, and how the process ended.
    async fn stop(mut self) -> ExitStatus {
        let told = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .expect("kill is there");
        assert!(told.success());
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("the child is ours") {
                    return status;
                }
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("it drains and ends")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The two files beside the disk, and who may send and receive.
fn configure(disk: &Disk) -> (PathBuf, Credentials, Credentials) {
    let (ingress, egress) = (new_secret(), new_secret());
    let plan = render(&NewPlan {
        environment: ENVIRONMENT.to_owned(),
        partitions: 1,
        ack: "durable".to_owned(),
        channels: vec!["readings".to_owned()],
        endpoints: vec![
            NewEndpoint {
                name: "pump".to_owned(),
                ingress: Some(ingress.text().to_owned()),
                send: vec![CHANNEL.to_owned()],
                ..NewEndpoint::default()
            },
            NewEndpoint {
                name: "office".to_owned(),
                egress: Some(egress.text().to_owned()),
                receive: vec![CHANNEL.to_owned()],
                ..NewEndpoint::default()
            },
        ],
    });
    let hub = "partitions = 1\n";
    assert!(plan.contains(hub), "{plan}");
    let small = format!("{hub}segment_bytes = {SEGMENT_BYTES}\n");
    let plan = format!("queue_groups = 1\n{}", plan.replacen(hub, &small, 1));
    let folder = disk.folder.path();
    let config = folder.join("forebay.toml");
    let text = format!(
        "[node]\ndata = {:?}\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         disk.journal_segment_bytes = {SEGMENT_BYTES}\n\n[plan]\nfile = \"plan.toml\"\n",
        disk.at.join("data"),
    );
    std::fs::write(folder.join("plan.toml"), plan).expect("the folder is writable");
    std::fs::write(&config, text).expect("the folder is writable");
    let key = |name: &str, id, secret: &str| {
        Credentials::key(&format!("{ENVIRONMENT}/{name}"), id, secret)
            .expect("a fresh key is well formed")
    };
    (
        config,
        key("pump", INGRESS_KEY_ID, ingress.text()),
        key("office", EGRESS_KEY_ID, egress.text()),
    )
}

fn body(number: u64) -> Vec<u8> {
    let mut body = vec![number as u8; BODY_BYTES];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

/// Times of one kind, in the order in which they came.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[((sorted.len() - 1) as f64 * share) as usize]
    }
}

/// One sender and what it was told.
struct Pump {
    sender: Sender,
    next: u64,
    /// From a send to its refusal.
    refused_after: Times,
    /// Times it was asked to wait for a segment.
    busy: u64,
}

impl Pump {
    /// Whether the next message was acknowledged. A full disk is the only refusal there may be; a segment that is still being
    /// prepared asks for a moment.
    async fn acked(&mut self) -> bool {
        let by = Instant::now() + PATIENCE;
        loop {
            let began = Instant::now();
            assert!(began < by, "it is busy for ever");
            let message = Message::new(body(self.next));
            let ticket = self.sender.send(CHANNEL, message).await;
            let ticket = ticket.expect("the session lives");
            let answer = timeout(PATIENCE, ticket).await.expect("there is an answer");
            match answer {
                Ok(_) => {
                    self.next += 1;
                    return true;
                }
                Err(ClientError::Rejected(rejected)) => match rejected.notice.reason {
                    Reason::Busy => {
                        self.busy += 1;
                        sleep(STEP).await;
                    }
                    reason => {
                        self.refused_after.0.push(began.elapsed());
                        assert_eq!(reason, Reason::StorageFull);
                        let said = rejected.to_string();
                        assert!(said.contains("FB-1502"), "it names its code: {said}");
                        return false;
                    }
                },
                Err(error) => panic!("neither acknowledged nor rejected: {error}"),
            }
        }
    }

    /// Send until nothing more fits.
    async fn fill(&mut self, disk: &Disk) {
        let mut refusals = 0;
        while refusals < REFUSALS {
            if self.acked().await {
                refusals = 0;
                continue;
            }
            // A refusal while there is room means that a segment is still being prepared.
            refusals = match disk.free_bytes() < SEGMENT_BYTES {
                true => refusals + 1,
                false => 0,
            };
            sleep(PAUSE).await;
        }
    }
}

/// Receive and settle these messages, in order and nothing else.
async fn read(address: &str, credentials: &Credentials, numbers: std::ops::Range<u64>) {
    let connection = client::connect(address, credentials.clone())
        .await
        .expect("the node is ready");
    let mut receiver = connection
        .receiver(FetchOptions::default())
        .expect("an egress key opens the queue");
    for number in numbers {
        let delivery = timeout(PATIENCE, receiver.next())
            .await
            .unwrap_or_else(|_| panic!("message {number} does not come"))
            .expect("it is not closed")
            .expect("it is delivered");
        assert!(delivery.body == body(number), "message {number}");
        receiver
            .accept_through(&delivery)
            .await
            .expect("the session lives");
    }
    receiver
        .close()
        .await
        .expect("the settlements leave before the farewell");
}

/// Fill the disk, look at it while it is full, free it, and wait until it takes messages again. Returns how long that took.
async fn cycle(disk: &Disk, node: &mut Node, pump: &mut Pump, office: &Credentials) -> Duration {
    let ballast = disk.fill_up();
    let first = pump.next;
    timeout(PATIENCE, pump.fill(disk))
        .await
        .expect("the disk is full at last");
    assert!(node.lives());
    read(&node.address, office, first..pump.next).await;
    assert!(!pump.acked().await, "it is full all the while");
    assert!(node.lives());

    let full_at = pump.next;
    std::fs::remove_file(&ballast).expect("it is there");
    let freed = Instant::now();
    let recovered = async {
        while !pump.acked().await {
            sleep(STEP).await;
        }
    };
    timeout(PATIENCE, recovered)
        .await
        .expect("it takes messages again by itself");
    let took = freed.elapsed();
    read(&node.address, office, full_at..pump.next).await;
    took
}

/// Every message that was ever acknowledged and is still kept, read from the files: nothing is damaged.
fn verify(disk: &Disk) {
    let said = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["log", "verify"])
        .arg(disk.at.join("data"))
        .output()
        .expect("the binary was built for this test");
    let (text, faults) = (
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr),
    );
    assert!(said.status.success(), "log verify: {text}{faults}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_by_name_and_recovers() {
    let cycles = std::env::var("FOREBAY_DISK_FULL_CYCLES");
    let cycles: u32 = cycles.map_or(2, |text| text.parse().expect("a whole number"));
    let disk = match Disk::mount(DISK_BYTES + u64::from(cycles) * CYCLE_BYTES) {
        Ok(disk) => disk,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let (config, keys, office) = configure(&disk);
    let mut node = Node::start(&config);
    let options = Options {
        retry_for: Duration::ZERO,
        ..Options::default()
    };
    let connection = client::connect_with(&node.address, keys, options).await;
    let connection = connection.expect("the node is ready");
    let mut pump = Pump {
        sender: connection.sender().expect("an ingress key sends"),
        next: 0,
        refused_after: Times::default(),
        busy: 0,
    };
    let mut recovered_after = Times::default();
    for _ in 0..cycles {
        let took = cycle(&disk, &mut node, &mut pump, &office).await;
        recovered_after.0.push(took);
    }
    assert!(pump.next > 0, "some messages fitted");
    pump.sender.close().await.expect("nothing is unanswered");
    let status = node.stop().await;
    assert!(status.success(), "a graceful stop exits with 0: {status}");
    verify(&disk);
    println!(
        "disk full {cycles} times: {} messages acknowledged, all read back; {} refused by FB-1502, after {:.1} ms p50, {:.1} ms \
         p99, {:.1} ms at most; accepted again {:.0} ms p50, {:.0} ms at most after space returned; {} times busy; \
         0 crashes",
        pump.next,
        pump.refused_after.0.len(),
        pump.refused_after.quantile(0.5).as_secs_f64() * 1e3,
        pump.refused_after.quantile(0.99).as_secs_f64() * 1e3,
        pump.refused_after.quantile(1.0).as_secs_f64() * 1e3,
        recovered_after.quantile(0.5).as_secs_f64() * 1e3,
        recovered_after.quantile(1.0).as_secs_f64() * 1e3,
        pump.busy,
    );
}
