//! The data folder: made, tried, locked, and checked against the plan before anything is recovered from it.
//!
//! `format.toml` fixes what must never change under stored messages: the format's version, which logs these are, each hub's name and number of
//! partitions and the number of queue groups. Hubs that a plan no longer names stay listed, because their logs stay on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wire::ids::LogsId;
use wire::route::{Hub, RouteTable};

use crate::diagnosis::{
    DATA_LOCKED, DATA_READ_ONLY, DATA_UNREACHABLE, Diagnosis, FORMAT_UNREADABLE, FORMAT_VERSION,
    HUB_ANOTHERS, PARTITIONS_CHANGED, QUEUE_GROUPS_CHANGED, diagnose,
};
use crate::random;

/// The version of the folder's layout that this build reads and writes.
const FORMAT_VERSION_KNOWN: u32 = 1;
const LOCK: &str = "LOCK";
const FORMAT: &str = "format.toml";
const SECRET: &str = "secret";
/// Bytes of the folder's secret.
pub(crate) const SECRET_BYTES: usize = 32;

/// A data folder that belongs to this process until it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Holds the advisory lock; the kernel lets go of it when the process dies.
    _lock: File,
}

/// `format.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    version: u32,
    queue_groups: u16,
    /// Of the logs, 16 digits of hexadecimal; not there before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logs: Option<String>,
    #[serde(default)]
    hub: Vec<FormatHub>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormatHub {
    id: u16,
    name: String,
    partitions: u16,
}

impl Folder {
    /// Make the folder if needed, take its lock, try to write in it.
    pub(crate) fn open(path: &Path) -> Result<Self, Diagnosis> {
        std::fs::create_dir_all(path).map_err(|error| unreachable_folder(path, &error))?;
        let lock = lock(path)?;
        try_writing(path).map_err(|error| read_only(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What only this folder's node knows, also after a restart. Made when it is asked for first; one of another length is no secret
    /// that a node made, and is made anew. `draw` fills bytes with random ones.
    pub(crate) fn secret(&self, draw: fn(&mut [u8])) -> Result<[u8; SECRET_BYTES], Diagnosis> {
        let path = self.path.join(SECRET);
        match std::fs::read(&path) {
            Ok(bytes) => {
                if let Ok(secret) = bytes.try_into() {
                    return Ok(secret);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreachable_folder(&path, &error)),
        }
        let mut secret = [0; SECRET_BYTES];
        draw(&mut secret);
        let kept = replace(&self.path, SECRET, &secret, 0o600);
        kept.map_err(|error| read_only(&path, &error))?;
        Ok(secret)
    }

    /// Which logs these are: kept beside them, and drawn once, behind [`Folder::settle_format`].
    pub(crate) fn logs(&self) -> Result<LogsId, Diagnosis> {
        let path = self.path.join(FORMAT);
        let mut format = read_format(&path)?.expect("it is settled");
        if let Some(text) = &format.logs {
            let read = u64::from_str_radix(text, 16);
            return read
                .map(LogsId)
                .map_err(|_| unreadable(&path, format!("logs = \"{text}\"")));
        }
        let logs = random::logs()?;
        format.logs = Some(logs.to_string());
        write_format(&self.path, &format)?;
        Ok(logs)
    }

    /// Whether a running node can take this table over, as far as the folder at `path` says.
    pub(crate) fn check_reload(path: &Path, table: &RouteTable) -> Result<(), Diagnosis> {
        let file = path.join(FORMAT);
        match read_format(&file)? {
            Some(format) => format.check(table, &file),
            None => Ok(()),
        }
    }

    /// The same but for hubs that are not `served`: those are looked at when they are opened.
    pub(crate) fn check_served(
        path: &Path,
        table: &RouteTable,
        served: impl Fn(u16) -> bool,
    ) -> Result<(), Diagnosis> {
        let file = path.join(FORMAT);
        let Some(format) = read_format(&file)? else {
            return Ok(());
        };
        format.check_whole(table.queue_groups(), &file)?;
        let mut served = table.hubs().iter().filter(|hub| served(hub.id));
        served.try_for_each(|hub| format.check_hub(hub))
    }

    /// Whether the folder at `path` may have logs of this hub.
    pub(crate) fn knows(path: &Path, hub: u16) -> Result<bool, Diagnosis> {
        let format = read_format(&path.join(FORMAT))?;
        Ok(format.is_some_and(|format| format.hub.iter().any(|known| known.id == hub)))
    }

    /// Whether this hub fits to the logs that the folder at `path` has of it, if any.
    pub(crate) fn check_hub(path: &Path, hub: &Hub) -> Result<(), Diagnosis> {
        let format = read_format(&path.join(FORMAT))?;
        format.map_or(Ok(()), |format| format.check_hub(hub))
    }

    /// Check the table's counts against the ones the folder was made with, but for hubs that are `left_out`; remember those of the others
    /// that are new.
    pub(crate) fn settle_format(
        &self,
        table: &RouteTable,
        left_out: impl Fn(u16) -> bool,
    ) -> Result<(), Diagnosis> {
        let hubs = table.hubs().iter().filter(|hub| !left_out(hub.id));
        let hubs: Vec<Hub> = hubs.cloned().collect();
        Self::remember_hubs(&self.path, table.queue_groups(), &hubs)
    }

    /// The same with hubs of the folder at `folder`, which is this process's.
    pub(crate) fn remember_hubs(
        folder: &Path,
        queue_groups: u16,
        hubs: &[Hub],
    ) -> Result<(), Diagnosis> {
        let path = folder.join(FORMAT);
        let Some(mut format) = read_format(&path)? else {
            return write_format(folder, &Format::of(queue_groups, hubs));
        };
        format.check_whole(queue_groups, &path)?;
        hubs.iter().try_for_each(|hub| format.check_hub(hub))?;
        if format.add_hubs(hubs) {
            write_format(folder, &format)?;
        }
        Ok(())
    }
}

impl Format {
    fn of(queue_groups: u16, hubs: &[Hub]) -> Self {
        let mut format = Self {
            version: FORMAT_VERSION_KNOWN,
            queue_groups,
            logs: None,
            hub: Vec::new(),
        };
        format.add_hubs(hubs);
        format
    }

    /// Whether any hub was new.
    fn add_hubs(&mut self, hubs: &[Hub]) -> bool {
        let before = self.hub.len();
        let known: BTreeSet<u16> = self.hub.iter().map(|known| known.id).collect();
        for hub in hubs {
            if !known.contains(&hub.id) {
                self.hub.push(FormatHub {
                    id: hub.id,
                    name: hub.name.to_string(),
                    partitions: hub.partitions,
                });
            }
        }
        self.hub.len() > before
    }

    fn check(&self, table: &RouteTable, path: &Path) -> Result<(), Diagnosis> {
        self.check_whole(table.queue_groups(), path)?;
        let known = self.hub.iter().map(|known| (known.id, known));
        let known: BTreeMap<u16, &FormatHub> = known.collect();
        let mut hubs = table.hubs().iter();
        hubs.try_for_each(|hub| known.get(&hub.id).map_or(Ok(()), |known| known.check(hub)))
    }

    /// The same for one hub.
    fn check_hub(&self, hub: &Hub) -> Result<(), Diagnosis> {
        let known = self.hub.iter().find(|known| known.id == hub.id);
        known.map_or(Ok(()), |known| known.check(hub))
    }

    /// What is of no hub.
    fn check_whole(&self, queue_groups: u16, path: &Path) -> Result<(), Diagnosis> {
        if self.version != FORMAT_VERSION_KNOWN {
            return Err(diagnose(
                FORMAT_VERSION,
                path.display().to_string(),
                format!("version {}", self.version),
                format!("version {FORMAT_VERSION_KNOWN}"),
                "use the version of forebay that wrote this folder, or another folder",
            ));
        }
        if self.queue_groups != queue_groups {
            return Err(diagnose(
                QUEUE_GROUPS_CHANGED,
                "queue groups of the plan",
                queue_groups.to_string(),
                format!("{}, as the data folder was made with", self.queue_groups),
                "set the plan's number back, or begin a new data folder",
            ));
        }
        Ok(())
    }
}

impl FormatHub {
    /// Whether this is the same hub.
    fn check(&self, hub: &Hub) -> Result<(), Diagnosis> {
        if *self.name != *hub.name {
            return Err(diagnose(
                HUB_ANOTHERS,
                format!("id {} of hub {}", hub.id, hub.name),
                hub.name.to_string(),
                format!("{}, whose messages are in its logs", self.name),
                "give the hub another id",
            ));
        }
        if self.partitions != hub.partitions {
            return Err(diagnose(
                PARTITIONS_CHANGED,
                format!("partitions of hub {}", hub.name),
                hub.partitions.to_string(),
                format!("{}, as the hub was created with", self.partitions),
                "set the plan's number back, or make a hub of another name",
            ));
        }
        Ok(())
    }
}

/// Take the lock, or say who has it.
fn lock(path: &Path) -> Result<File, Diagnosis> {
    let path = path.join(LOCK);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| read_only(&path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(locked(&path, &mut file)),
        Err(TryLockError::Error(error)) => return Err(unreachable_folder(&path, &error)),
    }
    let note = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    note.map_err(|error| read_only(&path, &error))?;
    Ok(file)
}

fn locked(path: &Path, file: &mut File) -> Diagnosis {
    let mut owner = String::new();
    // The number only helps the reader; without it the diagnosis still stands.
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut owner));
    let seen = match owner.trim() {
        "" => "a lock held by another process".into(),
        owner => format!("a lock held by process {owner}"),
    };
    diagnose(
        DATA_LOCKED,
        path.display().to_string(),
        seen,
        "a data folder of our own",
        "stop the other node, or set node.data to another folder",
    )
}

fn try_writing(path: &Path) -> io::Result<()> {
    let trial = path.join("trial.tmp");
    std::fs::write(&trial, b"forebay")?;
    std::fs::remove_file(&trial)
}

fn read_format(path: &Path) -> Result<Option<Format>, Diagnosis> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, error.to_string())),
    };
    toml::from_str(&text)
        .map(Some)
        .map_err(|error| unreadable(path, error.message().to_owned()))
}

fn write_format(folder: &Path, format: &Format) -> Result<(), Diagnosis> {
    let text = toml::to_string(format).expect("numbers and names can always be written as TOML");
    let written = replace(folder, FORMAT, text.as_bytes(), 0o644);
    written.map_err(|error| read_only(&folder.join(FORMAT), &error))
}

/// Write beside it, sync, rename, sync the folder: a crash leaves the old one or the new one.
fn replace(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let young = folder.join(name).with_extension("tmp");
    // One that a crash left may be anybody's to read.
    match std::fs::remove_file(&young) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&young)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&young, folder.join(name))?;
    File::open(folder)?.sync_all()
}

fn unreadable(path: &Path, seen: String) -> Diagnosis {
    diagnose(
        FORMAT_UNREADABLE,
        path.display().to_string(),
        seen,
        "the file as the node wrote it",
        "restore it from a backup; never delete it beside logs you need",
    )
}

fn unreachable_folder(path: &Path, error: &io::Error) -> Diagnosis {
    diagnose(
        DATA_UNREACHABLE,
        format!("data folder {}", path.display()),
        error.to_string(),
        "a folder this process can open",
        "create it, or set node.data to another one",
    )
}

fn read_only(path: &Path, error: &io::Error) -> Diagnosis {
    diagnose(
        DATA_READ_ONLY,
        path.display().to_string(),
        error.to_string(),
        "permission and room to write",
        "change the folder's owner or mode, or free disk space",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn draw(bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("random bytes");
    }

    #[test]
    fn logs_keep_their_number_as_long_as_they_are_there_and_no_others_have_it() {
        let [one, other] = [(), ()].map(|()| tempfile::tempdir().expect("a folder"));
        let logs = |path: &Path, hubs: &[Hub]| {
            let folder = Folder::open(path).expect("it is nobody's");
            Folder::remember_hubs(path, 4, hubs).expect("it fits");
            folder.logs()
        };
        let first = logs(one.path(), &[]).expect("drawn");
        assert_ne!(first, LogsId::default());
        // What is written beside it does not touch it.
        let hub = Hub {
            id: 3,
            name: "a/e/hub".into(),
            partitions: 2,
            ack: wire::ids::AckMode::Local,
            segment_bytes: 1 << 20,
            retention_bytes: None,
            retention_age: None,
        };
        assert_eq!(logs(one.path(), &[hub]), Ok(first));
        assert_ne!(logs(other.path(), &[]), Ok(first));
        let path = one.path().join(FORMAT);
        let text = std::fs::read_to_string(&path).expect("it is there");
        let told = format!("logs = \"{first}\"");
        assert!(text.contains(&told), "{text}");
        std::fs::write(&path, text.replace(&told, "logs = \"no number\"")).expect("it is ours");
        let fault =
            logs(one.path(), &[]).expect_err("numbers of others could be taken for its own");
        assert_eq!(fault.code, FORMAT_UNREADABLE);
    }

    #[test]
    fn a_folder_keeps_its_secret_which_nobody_else_reads_and_no_other_folder_has() {
        let [one, other] = [(), ()].map(|()| tempfile::tempdir().expect("a folder"));
        let secret = |path: &Path| {
            let folder = Folder::open(path).expect("it is nobody's");
            folder.secret(draw).expect("it can be written")
        };
        let first = secret(one.path());
        assert_eq!(secret(one.path()), first);
        assert_ne!(secret(other.path()), first);
        let path = one.path().join(SECRET);
        let mode = std::fs::metadata(&path).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        std::fs::write(&path, b"short").expect("it is ours");
        assert_ne!(secret(one.path()), first);
    }
}
