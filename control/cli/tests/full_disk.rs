//! A real disk that is full, a small tmpfs: the node refuses by name, lives, delivers all it has acknowledged, and takes
//! messages again by itself once there is room.

use client::{ClientError, Credentials, FetchOptions, Message, Options, Sender};
use control::keys::new_secret;
use control::render::{EGRESS_KEY_ID, INGRESS_KEY_ID, NewEndpoint, NewPlan, render};
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use wire::reason::Reason;

const ENVIRONMENT: &str = "acme/test";
const CHANNEL: &str = "acme/test/readings";
const SEGMENT_BYTES: u64 = 2 << 20;
const BALLAST_BYTES: usize = 8 << 20;
const BODY_BYTES: usize = 100_000;
/// Refusals in a row, a pause apart, after which the disk counts as full: no spare is still on its way.
const REFUSALS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// For every wait; none is meant to come near it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tmpfs of its own in `folder`, gone when dropped.
struct Disk {
    at: PathBuf,
    folder: TempDir,
}

impl Disk {
    /// The reason why there is none, if mounting is not permitted here.
    fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let at = folder.path().join("disk");
        std::fs::create_dir(&at).expect("the folder is writable");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(&at)
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned());
        }
        Ok(Self { at, folder })
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

/// Whether message `number` was acknowledged. A full disk is the only refusal there may be.
async fn acked(sender: &Sender, number: u64) -> bool {
    let ticket = sender
        .send(CHANNEL, Message::new(body(number)))
        .await
        .expect("the session lives");
    let answer = timeout(PATIENCE, ticket).await.expect("there is an answer");
    match answer {
        Ok(_) => true,
        Err(ClientError::Rejected(rejected)) => {
            assert_eq!(rejected.notice.reason, Reason::StorageFull);
            assert!(
                rejected.to_string().contains("FB-1502"),
                "the refusal names its code: {rejected}"
            );
            false
        }
        Err(error) => panic!("neither acknowledged nor rejected: {error}"),
    }
}

/// Send until nothing more fits; returns how many messages were acknowledged.
async fn fill(sender: &Sender, disk: &Disk) -> u64 {
    let (mut number, mut refusals) = (0, 0);
    while refusals < REFUSALS {
        if acked(sender, number).await {
            (number, refusals) = (number + 1, 0);
            continue;
        }
        // A refusal while there is room means that a segment is still being prepared.
        refusals = match disk.free_bytes() < SEGMENT_BYTES {
            true => refusals + 1,
            false => 0,
        };
        sleep(PAUSE).await;
    }
    number
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_by_name_and_recovers() {
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let ballast = disk.at.join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST_BYTES]).expect("it fits");
    let (config, pump, office) = configure(&disk);
    let mut node = Node::start(&config);
    let options = Options {
        retry_for: Duration::ZERO,
        ..Options::default()
    };
    let sender = client::connect_with(&node.address, pump, options)
        .await
        .expect("the node is ready")
        .sender()
        .expect("an ingress key sends");

    let full_at = timeout(PATIENCE, fill(&sender, &disk))
        .await
        .expect("the disk is full at last");
    assert!(full_at > 0, "some messages fitted");
    assert!(node.lives());
    read(&node.address, &office, 0..full_at).await;
    assert!(!acked(&sender, full_at).await, "it is full all the while");
    assert!(node.lives());

    std::fs::remove_file(&ballast).expect("it is there");
    let upto = full_at + BALLAST_BYTES as u64 / BODY_BYTES as u64 / 2;
    let recovered = async {
        for number in full_at..upto {
            while !acked(&sender, number).await {
                sleep(PAUSE).await;
            }
        }
    };
    timeout(PATIENCE, recovered)
        .await
        .expect("it takes messages again by itself");
    read(&node.address, &office, full_at..upto).await;
    sender.close().await.expect("nothing is unanswered");
    let status = node.stop().await;
    assert!(status.success(), "a graceful stop exits with 0: {status}");
    println!("full after {full_at} messages, {upto} read back");
}
