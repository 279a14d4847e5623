//! `forebay tune` and `forebay load --sweep shards=...` from the command line: they measure beside a node's data and touch nothing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use control::keys::new_secret;
use control::render::{NewEndpoint, NewPlan, render};
use rustix::process::{Pid, Signal, kill_process};

// The address cannot be bound: whoever touched it would fail.
const CONFIG: &str = "[node]\ndata = \"data\"\nlisten = \"192.0.2.1:7411\"\nplain = \"anywhere\"\nadmin = \"127.0.0.1:1\"\nshards = 3\n\
                      [plan]\nfile = \"plan.toml\"\n";
/// Long enough for a busy machine; a test that needs it has failed anyway.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration and its plan.
fn project() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = render(&NewPlan {
        environment: "acme/prod".to_owned(),
        partitions: 4,
        ack: "durable".to_owned(),
        channels: vec!["readings".to_owned()],
        endpoints: vec![NewEndpoint {
            name: "pump".to_owned(),
            ingress: Some(new_secret().text().to_owned()),
            send: vec!["readings".to_owned()],
            ..NewEndpoint::default()
        }],
    });
    std::fs::write(folder.path().join("plan.toml"), &plan).expect("writable");
    std::fs::write(folder.path().join("forebay.toml"), CONFIG).expect("writable");
    (folder, plan)
}

fn forebay(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command
        .args(arguments)
        .arg("--config")
        .arg(folder.join("forebay.toml"));
    command
}

#[test]
fn advice_comes_with_its_figures_and_a_page_and_nothing_is_left_or_changed() {
    let (folder, plan) = project();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("data")).expect("writable");
    std::fs::write(path("data/log"), "not to be touched").expect("writable");
    let arguments = ["tune", "--within", "14s", "--shards-max", "1"];
    let output = forebay(&arguments, folder.path())
        .args(["--even-if-busy", "--json", "--html"])
        .arg(path("tune.html"))
        .output()
        .expect("the binary was built for this test");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(
        (&found["shards"], &found["ack_mode"]),
        (&1.into(), &"durable".into()),
        "{found}"
    );
    let step = &found["advice"]["steps"][0];
    for field in [
        "per_s",
        "server_ns",
        "generator_ns",
        "server_cores",
        "machine_share",
    ] {
        assert!(
            step["median"][field].as_f64() > Some(0.0),
            "{field}: {found}"
        );
    }
    assert!(
        step["least_per_s"].as_f64() <= step["most_per_s"].as_f64(),
        "{found}"
    );
    for field in [
        "verifications_per_s",
        "sync_p99_s",
        "memory_bytes_per_s",
        "loopback_bytes_per_s",
    ] {
        assert!(
            found["calibration"][field].as_f64() > Some(0.0),
            "{field}: {found}"
        );
    }
    let page = std::fs::read_to_string(path("tune.html")).expect("it was written");
    assert!(
        page.contains("<svg") && page.contains("Use 1 shard"),
        "{page}"
    );
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .expect("readable")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["data", "forebay.toml", "plan.toml", "tune.html"]);
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("it is there");
    assert_eq!(
        (read("data/log"), read("forebay.toml")),
        ("not to be touched".into(), CONFIG.into())
    );
    assert_eq!(read("plan.toml"), plan);
    assert_eq!(
        std::fs::read_dir(path("data")).expect("readable").count(),
        1
    );
}

/// A command that runs a node of its own, and the node; both are gone with this value.
struct Measurement {
    command: Child,
    node: Pid,
}

impl Measurement {
    /// Start it and wait for its node.
    fn start(folder: &Path) -> Self {
        let arguments = ["load", "--sweep", "shards=1", "--rate", "10"];
        let mut command = forebay(&arguments, folder)
            .args(["--duration", "10m"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary was built for this test");
        let node = until("a node listens", || {
            assert_eq!(command.try_wait().expect("it can be asked"), None);
            let log = benches(folder).pop()?.join("node.log");
            let text = std::fs::read_to_string(log).ok()?;
            text.contains("admin on ").then(|| child_of(command.id()))?
        });
        Self { command, node }
    }
}

impl Drop for Measurement {
    fn drop(&mut self) {
        let _ = self.command.kill();
        let _ = self.command.wait();
        let _ = kill_process(self.node, Signal::KILL);
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let by = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < by, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Folders of measurements.
fn benches(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable");
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths
        .filter(|path| path.to_string_lossy().contains("/.forebay-bench-"))
        .collect()
}

/// Its state and its parent, if there is such a process.
fn stat(process: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn child_of(parent: u32) -> Option<Pid> {
    let all = std::fs::read_dir("/proc").expect("readable").flatten();
    let mut numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let found = numbers.find(|number| stat(*number).is_some_and(|(_, of)| of == parent))?;
    Pid::from_raw(i32::try_from(found).ok()?)
}

#[test]
fn a_node_of_a_measurement_ends_with_its_command_and_what_is_left_goes_with_the_next_one() {
    let (folder, _) = project();
    for signal in [Signal::HUP, Signal::TERM, Signal::KILL] {
        let mut measurement = Measurement::start(folder.path());
        kill_process(Pid::from_child(&measurement.command), signal).expect("it runs");
        measurement.command.wait().expect("it ends");
        // Whoever adopts it may be late to ask how it ended; its threads may let go of the folder last.
        let node = measurement.node.as_raw_nonzero().get().unsigned_abs();
        until("the node ends, too", || {
            let ended = stat(node).is_none_or(|(state, _)| state == "Z");
            let left = benches(folder.path()).pop()?;
            let folder = File::open(left).expect("it is left behind");
            (ended && folder.try_lock().is_ok()).then_some(())
        });
    }
    assert_eq!(benches(folder.path()).len(), 1, "the last one's");
    let next = forebay(
        &["load", "--sweep", "shards=1", "--duration", "0s"],
        folder.path(),
    );
    { next }
        .output()
        .expect("the binary was built for this test");
    assert!(benches(folder.path()).is_empty());
}
