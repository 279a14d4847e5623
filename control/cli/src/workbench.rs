//! A node of its own for a measurement: a process of this binary over a folder that nobody else uses, gone afterwards.
//!
//! It never touches the data, the ports or the settings of a node that runs.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use node::config::NodeConfig;
use rustix::process::{Pid, Signal, kill_process};
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{BENCH_FOLDER, BENCH_NODE};

/// How the names of folders made here begin; a number follows.
const PREFIX: &str = ".forebay-bench-";
/// Numbers that are tried: as many measurements may run over one parent folder.
const NUMBERS: usize = 64;
const START_TIME: Duration = Duration::from_secs(60);
const STOP_TIME: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A folder that goes when this value does.
pub(crate) struct Folder {
    path: PathBuf,
    /// The folder itself, locked. Its nodes hold the lock, too: nobody takes it from under one that has not ended yet.
    lock: File,
}

impl Folder {
    /// Make one on the disk of `data`; folders that nobody uses any more are removed.
    pub(crate) fn beside(data: &Path) -> Result<Self, Diagnosis> {
        let data = resolved(data).map_err(|error| cannot_make(data, &error))?;
        let parent = place(&data, device);
        let cannot = |error| cannot_make(parent, &error);
        std::fs::create_dir_all(parent).map_err(cannot)?;
        remove_leftovers(parent).map_err(cannot)?;
        let numbers = std::process::id()..;
        let names = numbers.map(|number| parent.join(format!("{PREFIX}{number}")));
        for path in names.take(NUMBERS) {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                made => made.map_err(|error| cannot_make(&path, &error))?,
            }
            // Another run that looks for leftovers may be quicker. It removes the folder, and the next number is tried.
            if let Some(lock) = lock(&path).map_err(|error| cannot_make(&path, &error))? {
                return Ok(Self { path, lock });
            }
        }
        Err(cannot(ErrorKind::AlreadyExists.into()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("forebay: {} is left behind: {error}", self.path.display());
        }
    }
}

/// A path without links, as far as it is there.
fn resolved(path: &Path) -> std::io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    let there = whole.ancestors().find_map(|start| {
        let found = start.canonicalize().ok()?;
        let rest = whole.strip_prefix(start).ok()?;
        Some(found.components().chain(rest.components()).collect())
    });
    Ok(there.unwrap_or(whole))
}

/// Beside the data folder, or in it where that is on a disk of its own. A node minds no folder that is none of its logs.
fn place(data: &Path, device: impl Fn(&Path) -> Option<u64>) -> &Path {
    let parent = data.parent().unwrap_or(data);
    match (device(data), device(parent)) {
        (Some(own), Some(of_parent)) if own != of_parent => data,
        _ => parent,
    }
}

fn device(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|found| found.dev())
}

/// Folders of runs that were killed. One that is locked is in use, by a run or by its node that is still about to end.
fn remove_leftovers(parent: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(parent)?.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let made_here = number.is_some_and(|number| number.parse::<u64>().is_ok());
        if made_here && let Ok(Some(_lock)) = lock(&entry.path()) {
            // Somebody else's leftovers are no reason not to measure.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Lock a folder for as long as the file is open, in this process or one that inherits it. `None` when it is locked, or no longer
/// there: who had the lock before may have removed it.
fn lock(folder: &Path) -> std::io::Result<Option<File>> {
    let file = File::open(folder)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(None),
        locked => locked?,
    }
    let (locked, there) = (file.metadata()?, std::fs::metadata(folder));
    let same = there.is_ok_and(|there| there.dev() == locked.dev() && there.ino() == locked.ino());
    Ok(same.then_some(file))
}

/// The tunnels that a node of one's own takes besides plain connections.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tunnels {
    tls: bool,
    quic: bool,
}

impl Tunnels {
    /// Those that these settings know.
    pub(crate) fn of(node: &NodeConfig) -> Self {
        Self {
            tls: node.listen_tls.is_some(),
            quic: node.listen_quic.is_some(),
        }
    }
}

/// A node of its own, stopped and its data removed when this value goes.
pub(crate) struct Node {
    process: Child,
    data: PathBuf,
    /// Where it takes messages.
    pub(crate) addr: SocketAddr,
    /// Where it takes them over TLS.
    pub(crate) tls: Option<SocketAddr>,
    /// Where it takes them over QUIC.
    pub(crate) quic: Option<SocketAddr>,
    /// Its admin port.
    pub(crate) admin: SocketAddr,
}

impl Node {
    /// Start one with the settings of `config`, over an empty data folder inside `folder`, on free ports of this machine: a port that
    /// the settings name may be one where the node that they are for takes its own connections. It ends when the calling thread does,
    /// however that ends.
    pub(crate) fn start(
        config: &Path,
        tunnels: Tunnels,
        folder: &Folder,
        shards: &str,
    ) -> Result<Self, Diagnosis> {
        let (data, log) = (folder.path.join("data"), folder.path.join("node.log"));
        let failed = |seen: String| {
            Diagnosis::new(
                BENCH_NODE,
                "a node for the measurement did not start",
                seen,
                "a node that says where it listens",
                "mend what it says; `forebay run` with the same configuration says more",
            )
        };
        let file = File::create(&log).map_err(|error| cannot_make(&log, &error))?;
        let errors = file
            .try_clone()
            .map_err(|error| cannot_make(&log, &error))?;
        let lock = folder.lock.try_clone();
        let lock = lock.map_err(|error| cannot_make(&folder.path, &error))?;
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(config);
        command
            .arg("--child-of")
            .arg(std::process::id().to_string());
        command
            .env("FOREBAY_NODE_DATA", &data)
            .env("FOREBAY_NODE_LISTEN", "127.0.0.1:0")
            .env("FOREBAY_NODE_ADMIN", "127.0.0.1:0")
            .env("FOREBAY_NODE_SHARDS", shards)
            .stdin(lock)
            .stdout(file)
            .stderr(errors);
        for (name, wanted) in [
            ("FOREBAY_NODE_LISTEN_TLS", tunnels.tls),
            ("FOREBAY_NODE_LISTEN_QUIC", tunnels.quic),
        ] {
            match wanted {
                true => command.env(name, "127.0.0.1:0"),
                false => command.env_remove(name),
            };
        }
        let process = command.spawn().map_err(|error| failed(error.to_string()))?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = Self {
            process,
            data,
            addr: nowhere,
            tls: None,
            quic: None,
            admin: nowhere,
        };
        let until = Instant::now() + START_TIME;
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let at = |mark: &str| address(&text, mark);
            if let (Some(addr), Some(admin)) = (at("listening on "), at("admin on ")) {
                (node.addr, node.admin) = (addr, admin);
                node.tls = at("listening with TLS on ");
                node.quic = at("listening with QUIC on ");
                return Ok(node);
            }
            let ended = node.process.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > until {
                let last = text.lines().next_back().unwrap_or("nothing").to_owned();
                return Err(failed(format!("`{last}`")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    fn stop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        }
        let until = Instant::now() + STOP_TIME;
        while let Ok(None) = self.process.try_wait() {
            if Instant::now() > until {
                let _ = self.process.kill();
                let _ = self.process.wait();
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
        match std::fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                eprintln!("forebay: {} is left behind: {error}", self.data.display());
            }
            _ => {}
        }
    }
}

/// The address behind `mark` in what a node says at its start.
fn address(text: &str, mark: &str) -> Option<SocketAddr> {
    let rest = text.lines().find_map(|line| line.split_once(mark))?.1;
    rest.split_whitespace().next()?.parse().ok()
}

fn cannot_make(path: &Path, error: &std::io::Error) -> Diagnosis {
    Diagnosis::new(
        BENCH_FOLDER,
        format!("{} cannot be used for a measurement", path.display()),
        error.to_string(),
        "a folder on the disk of the data that may be written",
        "let the user write beside the data folder, or give another configuration with --config",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &Path) -> PathBuf {
        std::fs::create_dir(path).expect("writable");
        path.to_owned()
    }

    #[test]
    fn a_folder_is_beside_the_data_and_goes_with_its_value() {
        let disk = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::beside(&disk.path().join("data")).expect("writable");
        let path = folder.path().to_owned();
        assert_eq!(path.parent(), Some(disk.path()));
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
        let nowhere = Folder::beside(Path::new("/proc/none/data")).err();
        assert_eq!(nowhere.expect("refused").code, BENCH_FOLDER);
    }

    #[test]
    fn folders_are_removed_that_nobody_holds_and_no_others_whatever_their_numbers() {
        let disk = tempfile::tempdir().expect("a temporary folder");
        let (data, own) = (disk.path().join("data"), std::process::id());
        let named = |number: &str| folder(&disk.path().join(format!("{PREFIX}{number}")));
        // A container's processes have the same few numbers at every start: this one, and one that lives.
        let left = [named(&own.to_string()), named("1")];
        let notes = named("notes");
        let first = Folder::beside(&data).expect("its own number is free again");
        assert!(!left[1].exists() && notes.exists());
        assert!(first.path().exists() && first.path() == left[0]);
        // Another container over the same disk has this number, too.
        let second = Folder::beside(&data).expect("there are more numbers");
        assert!(first.path().exists() && second.path() != first.path());
    }

    #[test]
    fn a_folder_stays_while_a_node_holds_it_whose_run_was_killed() {
        let disk = tempfile::tempdir().expect("a temporary folder");
        let data = disk.path().join("data");
        let path = folder(&disk.path().join(format!("{PREFIX}1")));
        let held = lock(&path).expect("it is there").expect("it is free");
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(held)
            .spawn()
            .expect("cat is everywhere");
        let next = Folder::beside(&data).expect("writable");
        assert!(path.exists(), "the child has it");
        drop(next);
        child.kill().expect("it waits for input");
        child.wait().expect("it ends");
        let _next = Folder::beside(&data).expect("writable");
        assert!(!path.exists(), "nobody has it");
    }

    #[test]
    fn the_disk_is_that_of_the_data_through_links_and_mounts() {
        let disk = tempfile::tempdir().expect("a temporary folder");
        let there = folder(&disk.path().join("there"));
        folder(&there.join("data"));
        let link = disk.path().join("data");
        std::os::unix::fs::symlink(there.join("data"), &link).expect("writable");
        let made = Folder::beside(&link).expect("writable");
        assert_eq!(
            made.path().parent(),
            Some(&*there.canonicalize().expect("there"))
        );
        let mounted = |path: &Path| Some(u64::from(path.starts_with("/var/lib/forebay")));
        for (data, want) in [
            ("/var/lib/forebay", "/var/lib/forebay"),
            ("/var/lib/forebay/data", "/var/lib/forebay"),
            ("/var/lib/other", "/var/lib"),
            ("/", "/"),
        ] {
            assert_eq!(place(Path::new(data), mounted), Path::new(want), "{data}");
        }
    }

    #[test]
    fn the_addresses_of_a_node_are_read_from_its_first_lines() {
        let text = "shards: 1\nlistening on 127.0.0.1:7411\nadmin on 127.0.0.1:7412\n";
        let at = |mark| address(text, mark).map(|addr| addr.port());
        assert_eq!(
            (at("listening on "), at("admin on "), at("nobody on ")),
            (Some(7411), Some(7412), None)
        );
    }
}
