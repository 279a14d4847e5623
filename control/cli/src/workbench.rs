//! A node of its own for a measurement: a process of this binary over a folder that nobody else uses, gone afterwards.
//!
//! It never touches the data, the ports or the settings of a node that runs.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{BENCH_FOLDER, BENCH_NODE};

/// How the names of folders made here begin; the number of the process follows.
const PREFIX: &str = ".forebay-bench-";
const START_TIME: Duration = Duration::from_secs(60);
const STOP_TIME: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A folder that goes when this value does.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Make one beside `data`, so on its disk; folders that a process which is gone left behind are removed.
    pub(crate) fn beside(data: &Path) -> Result<Self, Diagnosis> {
        let whole = std::path::absolute(data).map_err(|error| cannot_make(data, &error))?;
        let parent = whole.parent().unwrap_or(&whole);
        let cannot = |error| cannot_make(parent, &error);
        std::fs::create_dir_all(parent).map_err(cannot)?;
        for entry in std::fs::read_dir(parent).map_err(cannot)?.flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
                // Somebody else's leftovers are no reason not to measure.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| cannot_make(&path, &error))?;
        Ok(Self { path })
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

/// A node of its own, stopped and its data removed when this value goes.
pub(crate) struct Node {
    process: Child,
    data: PathBuf,
    /// Where it takes messages.
    pub(crate) addr: SocketAddr,
    /// Its admin port.
    pub(crate) admin: SocketAddr,
}

impl Node {
    /// Start one with the settings of `config`, over an empty data folder inside `folder`, on free ports of this machine.
    pub(crate) fn start(config: &Path, folder: &Path, shards: &str) -> Result<Self, Diagnosis> {
        let (data, log) = (folder.join("data"), folder.join("node.log"));
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
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(config);
        command
            .env("FOREBAY_NODE_DATA", &data)
            .env("FOREBAY_NODE_LISTEN", "127.0.0.1:0")
            .env("FOREBAY_NODE_ADMIN", "127.0.0.1:0")
            .env("FOREBAY_NODE_SHARDS", shards)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors);
        let process = command.spawn().map_err(|error| failed(error.to_string()))?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = Self {
            process,
            data,
            addr: nowhere,
            admin: nowhere,
        };
        let until = Instant::now() + START_TIME;
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let at = |mark: &str| address(&text, mark);
            if let (Some(addr), Some(admin)) = (at("listening on "), at("admin on ")) {
                (node.addr, node.admin) = (addr, admin);
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

    #[test]
    fn a_folder_is_beside_the_data_and_goes_with_its_value_and_what_a_dead_process_left_goes_too() {
        let disk = tempfile::tempdir().expect("a temporary folder");
        let dead = disk.path().join(format!("{PREFIX}4294967295"));
        std::fs::create_dir(&dead).expect("writable");
        let folder = Folder::beside(&disk.path().join("data")).expect("writable");
        let path = folder.path().to_owned();
        assert_eq!(path.parent(), Some(disk.path()));
        assert!(path.is_dir() && !dead.exists());
        drop(folder);
        assert!(!path.exists());
        let nowhere = Folder::beside(Path::new("/proc/none/data")).err();
        assert_eq!(nowhere.expect("refused").code, BENCH_FOLDER);
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
