//! The data folder: who holds it, what it was created with. Knows names and counts, never what is in a log.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wire::route::RouteTable;

use crate::diagnosis::{
    DATA_LOCKED, DATA_READ_ONLY, DATA_UNREACHABLE, Diagnosis, FORMAT_UNREADABLE, FORMAT_VERSION,
    PARTITIONS_CHANGED, QUEUE_GROUPS_CHANGED, diagnose,
};

const VERSION: u32 = 1;
const LOCK: &str = "LOCK";
const FORMAT: &str = "format.toml";

/// What a data folder was created with and is held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    version: u32,
    queue_groups: u16,
    /// Hub name to number of partitions.
    hubs: BTreeMap<String, u16>,
}

/// A data folder that this process holds until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Make the folder if need be, lock it, and hold it to the counts it was created with. Hubs that are new are added.
    pub(crate) fn open(path: &Path, table: &RouteTable) -> Result<Self, Diagnosis> {
        std::fs::create_dir_all(path).map_err(|error| unreachable_folder(path, &error))?;
        let lock = lock(path)?;
        let folder = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        folder.hold(table)?;
        Ok(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `table` fits what the folder was created with; new hubs are written down.
    pub(crate) fn hold(&self, table: &RouteTable) -> Result<(), Diagnosis> {
        let file = self.path.join(FORMAT);
        let known = read_format(&file)?;
        let mut format = known.clone().unwrap_or(Format {
            version: VERSION,
            queue_groups: table.queue_groups(),
            hubs: BTreeMap::new(),
        });
        check(&format, table)?;
        for hub in table.hubs() {
            format.hubs.insert(hub.name.to_string(), hub.partitions);
        }
        if known.as_ref() != Some(&format) {
            write_format(&self.path, &format).map_err(|error| read_only(&file, &error))?;
        }
        Ok(())
    }
}

fn lock(path: &Path) -> Result<File, Diagnosis> {
    let file = path.join(LOCK);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file)
        .map_err(|error| read_only(&file, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(diagnose(
            DATA_LOCKED,
            format!("data folder {}", path.display()),
            "held by another process",
            "a folder of its own for every node",
            format!("stop the other node, or set node.data to another folder (see `fuser {}`)", file.display()),
        )),
        Err(TryLockError::Error(error)) => Err(read_only(&file, &error)),
    }
}

fn unreachable_folder(path: &Path, error: &io::Error) -> Diagnosis {
    diagnose(
        DATA_UNREACHABLE,
        format!("data folder {}", path.display()),
        error.to_string(),
        "a folder that exists or can be made",
        "set node.data to a path on a mounted disk, and check that no file stands in its place",
    )
}

fn read_only(path: &Path, error: &io::Error) -> Diagnosis {
    diagnose(
        DATA_READ_ONLY,
        format!("writing {}", path.display()),
        error.to_string(),
        "write permission for this user, and a file system that is not read-only",
        "change the owner of the folder, or set node.data to another one",
    )
}

fn read_format(file: &Path) -> Result<Option<Format>, Diagnosis> {
    let unreadable = |seen: String| {
        diagnose(
            FORMAT_UNREADABLE,
            format!("format file {}", file.display()),
            seen,
            "the file as this program wrote it",
            "restore it from a copy; it names the counts that the folder was created with",
        )
    };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let format: Format = toml::from_str(&text).map_err(|error| unreadable(error.message().to_owned()))?;
    if format.version != VERSION {
        return Err(diagnose(
            FORMAT_VERSION,
            format!("format of {}", file.display()),
            format!("version {}", format.version),
            format!("version {VERSION}"),
            "run the version of forebay that wrote the folder",
        ));
    }
    Ok(Some(format))
}

fn check(format: &Format, table: &RouteTable) -> Result<(), Diagnosis> {
    if format.queue_groups != table.queue_groups() {
        return Err(diagnose(
            QUEUE_GROUPS_CHANGED,
            "queue_groups of the plan",
            table.queue_groups().to_string(),
            format!("{}, as when the data folder was created", format.queue_groups),
            "set it back; the number is fixed for the life of a data folder",
        ));
    }
    for hub in table.hubs() {
        if let Some(partitions) = format.hubs.get(&*hub.name)
            && *partitions != hub.partitions
        {
            return Err(diagnose(
                PARTITIONS_CHANGED,
                format!("partitions of hub {}", hub.name),
                hub.partitions.to_string(),
                format!("{partitions}, as when the hub was created"),
                "set it back, or give the channels a new hub",
            ));
        }
    }
    Ok(())
}

/// Written beside, synced, renamed: a crash leaves the old file or the new one.
fn write_format(folder: &Path, format: &Format) -> io::Result<()> {
    let text = toml::to_string(format).map_err(io::Error::other)?;
    let beside = folder.join(format!("{FORMAT}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, folder.join(FORMAT))?;
    File::open(folder)?.sync_all()
}
