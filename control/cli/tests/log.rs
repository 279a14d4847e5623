//! `forebay log` on folders of known content: what it says is true, damage is named exactly, and no byte changes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use partition::mapped::MappedStorage;
use partition::record::{NewRecord, RecordKind};
use partition::storage::Storage;
use partition::{LogId, Partition, PartitionLimits};
use wire::frame::SignatureKind;
use wire::ids::{ChannelId, EndpointId, KeyId, PartitionId, Sequence, UnixNanos};
use wire::send::SendBuilder;
use wire::signature::{SecretKey, Signer};

const PUMP: &str = "a/e/pump";
const CHANNEL: &str = "a/e/readings";
const FRAMES: u64 = 20;

struct Fixture {
    folder: tempfile::TempDir,
    key: SecretKey,
}

impl Fixture {
    /// One partition with frames of two messages each: envelopes signed with the key of the plan.
    fn new() -> Self {
        let fixture = Self {
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
            key: SecretKey::from_random([7; 32]),
        };
        fixture.write_plan(&fixture.key);
        let mut storage = MappedStorage::new(fixture.data());
        let limits = PartitionLimits {
            segment_bytes: 2 << 20,
            ..PartitionLimits::default()
        };
        let log = LogId::partition(PartitionId::new(3, 1));
        let now = UnixNanos::from_seconds(1_795_219_200);
        let (mut partition, _) = Partition::recover(&mut storage, log, limits, now)
            .expect("an empty folder can be opened");
        let mut frame = Vec::new();
        for sequence in 1..=FRAMES {
            fixture.frame(&mut frame, sequence);
            let new = NewRecord {
                kind: RecordKind::Frame,
                signature_kind: SignatureKind::Key as u8,
                count: 2,
                endpoint: EndpointId::of(PUMP),
                channel: ChannelId::of(CHANNEL),
                sequence: Sequence(sequence),
                time: now,
            };
            partition
                .append(&new, &[&frame])
                .expect("the segment has room");
            let ticket = partition.begin_commit().expect("a frame is new");
            ticket
                .segments
                .iter()
                .for_each(|segment| storage.sync(segment).expect("the disk works"));
            partition
                .finish_commit(ticket, Ok(()))
                .expect("the sync went well");
        }
        fixture
    }

    fn frame(&self, out: &mut Vec<u8>, sequence: u64) {
        out.clear();
        let mut frame = SendBuilder::begin(
            out,
            EndpointId::of(PUMP),
            ChannelId::of(CHANNEL),
            Sequence(sequence),
        );
        let text = format!("reading {sequence}");
        frame
            .message(UnixNanos(5), &[("unit", b"bar")], text.as_bytes())
            .expect("within the limits");
        frame
            .message(UnixNanos(6), &[], &[0xff, 0x00])
            .expect("within the limits");
        frame
            .finish(Signer::Key {
                id: KeyId(1),
                key: self.key.mac(),
            })
            .expect("two messages");
    }

    fn write_plan(&self, key: &SecretKey) {
        let text = format!(
            "[[accounts]]\nname = \"a\"\n[[environments]]\nname = \"a/e\"\n[[hubs]]\nname = \"a/e/default\"\nid = 3\n\
             [[channels]]\nname = \"{CHANNEL}\"\n[[endpoints]]\nname = \"{PUMP}\"\n[[endpoints.keys]]\nid = 1\n\
             name = \"k\"\ndirection = \"ingress\"\nsecret = \"{}\"\n",
            key.text()
        );
        std::fs::write(self.plan(), text).expect("the folder is writable");
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    fn plan(&self) -> PathBuf {
        self.folder.path().join("plan.toml")
    }

    fn log(&self, what: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command
            .args(["log", what])
            .arg(self.data())
            .arg("--plan")
            .arg(self.plan())
            .args(more);
        command
            .output()
            .expect("the binary was built for this test")
    }

    /// Every file under the data folder, with its bytes and its time of change.
    fn state(&self) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
        let mut files = Vec::new();
        collect(&self.data(), &mut files);
        files.sort();
        files
    }
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>, std::time::SystemTime)>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder is there").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            let changed = path
                .metadata()
                .and_then(|data| data.modified())
                .expect("files have times");
            files.push((
                path.clone(),
                std::fs::read(&path).expect("files can be read"),
                changed,
            ));
        }
    }
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn no_log_command_changes_a_byte() {
    let fixture = Fixture::new();
    let before = fixture.state();
    for (what, more) in [
        ("ls", &[][..]),
        ("dump", &["--json"]),
        ("dump", &["--body", "hex"]),
        ("verify", &[]),
        ("verify", &["--json"]),
    ] {
        let output = fixture.log(what, more);
        assert!(
            output.status.success(),
            "{what}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!output.stdout.is_empty(), "{what} says something");
    }
    assert!(before == fixture.state(), "a file has changed");
}

#[test]
fn ls_names_logs_hubs_offsets_and_bytes() {
    let fixture = Fixture::new();
    let log = &lines(&fixture.log("ls", &["--json"]))[0];
    assert_eq!(
        (&log["log"], &log["hub"]),
        (&"p-00030001".into(), &"a/e/default".into())
    );
    assert_eq!(
        (&log["first"], &log["next"]),
        (&0.into(), &(2 * FRAMES).into())
    );
    assert_eq!(log["segments"][0]["use"], "live");
    assert!(log["bytes"].as_u64() >= Some(2 << 20));
}

#[test]
fn dump_prints_what_was_sent_with_names_from_the_plan() {
    let fixture = Fixture::new();
    let printed = lines(&fixture.log("dump", &["--json"]));
    assert_eq!(printed.len() as u64, 2 * FRAMES);
    for (index, line) in printed.iter().enumerate() {
        assert_eq!(line["offset"], index);
        assert_eq!(
            (&line["sender"], &line["channel"]),
            (&PUMP.into(), &CHANNEL.into())
        );
        assert_eq!(line["sequence"], index / 2 + 1);
        if index % 2 == 0 {
            assert_eq!(
                (&line["body"], &line["headers"]["unit"]),
                (&format!("reading {}", index / 2 + 1).into(), &"bar".into())
            );
        } else {
            assert_eq!(line["body_hex"], "ff00");
        }
    }
    let part = lines(&fixture.log("dump", &["--json", "--from", "7", "--count", "3"]));
    assert_eq!(
        part.iter()
            .map(|line| line["offset"].as_u64())
            .collect::<Vec<_>>(),
        [Some(7), Some(8), Some(9)]
    );
    let text = fixture.log("dump", &["--count", "1"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("a/e/pump > a/e/readings #1 reading 1"));
}

#[test]
fn verify_checks_every_envelope_with_the_keys_of_the_plan() {
    let fixture = Fixture::new();
    let report = &lines(&fixture.log("verify", &["--json"]))[0];
    assert_eq!(
        (&report["messages"], &report["envelopes"]["good"]),
        (&(2 * FRAMES).into(), &FRAMES.into())
    );
    fixture.write_plan(&SecretKey::from_random([8; 32]));
    let output = fixture.log("verify", &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(lines(&output)[0]["envelopes"]["bad"], FRAMES);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("FB-4504: "),
        "{output:?}"
    );
}

#[test]
fn verify_names_the_exact_offsets_of_damage() {
    let fixture = Fixture::new();
    let (path, mut bytes, _) = fixture
        .state()
        .into_iter()
        .find(|(_, bytes, _)| find(bytes, b"reading 7").is_some())
        .expect("it was stored");
    let at = find(&bytes, b"reading 7").expect("it was stored");
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("the folder is writable");
    let before = fixture.state();
    let output = fixture.log("verify", &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report = &lines(&output)[0];
    assert_eq!(
        report["damage"].as_array().map(Vec::len),
        Some(1),
        "{report}"
    );
    assert_eq!(
        (
            &report["damage"][0]["from_offset"],
            &report["damage"][0]["to_offset"]
        ),
        (&12.into(), &14.into())
    );
    assert_eq!(
        report["messages"],
        2 * FRAMES - 2,
        "everything else is still read"
    );
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("FB-4503: "),
        "{output:?}"
    );
    assert!(
        before == fixture.state(),
        "damage is reported, never repaired in place"
    );
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
