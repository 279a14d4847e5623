//! Opening the logs of a hub: all of them, or none, and then what was made for them is taken away again.

use std::path::{Path, PathBuf};
use std::time::Instant;

use partition::{
    LogId, MappedSegment, MappedStorage, Partition, PartitionLimits, Recovery, StorageError,
};
use wire::ids::PartitionId;
use wire::route::{Hub, RouteTable};

use super::again::Waiting;
use super::{Hubs, Opened, State, tell_waiting};
use crate::bounds::{FILES_PER_LOG, partition_limits, ring_fault};
use crate::diagnosis::{Diagnosis, RECOVERY_FAILED, diagnose};
use crate::folder::Folder;
use crate::log::{Level, Log};
use crate::recover::{RecoverySummary, failed};
use crate::run::unix_now;

impl Hubs {
    /// Open the logs of a hub, unless they are open.
    pub(super) fn open_once(&self, state: &mut State, hub: &Hub) -> Result<(), Diagnosis> {
        let known = state.opened.iter().any(|known| known.hub == *hub);
        if known || state.ownership.has(hub.id) {
            return Ok(());
        }
        // One of other settings was refused in the end.
        state.close(|known| known.id == hub.id);
        self.allow_files(state, hub)?;
        let opened = open_hub(&self.data, hub, &self.log)?;
        state.note(opened);
        Ok(())
    }

    /// The process may open the files of one more hub.
    pub(super) fn allow_files(&self, state: &State, hub: &Hub) -> Result<(), Diagnosis> {
        let more = state.files + files_of(hub);
        ring::ensure_open_files(more).map_err(|error| ring_fault(&error))
    }

    /// What a hub waits for that another thread is at, with settings of before.
    pub(super) fn being_tried(&self, hub: &Hub) -> Diagnosis {
        diagnose(
            RECOVERY_FAILED,
            format!("logs of hub {}", hub.name),
            "settings that changed while they were opened",
            "logs of these settings",
            "none: they are opened again in a moment",
        )
    }
}

impl State {
    /// The logs of a hub are open.
    pub(super) fn note(&mut self, opened: Opened) {
        self.files += files_of(&opened.hub);
        self.opened.push(opened);
    }

    /// Close the logs of these hubs, which no shard has yet. What a shard has stays open until the node stops.
    pub(super) fn close(&mut self, which: impl Fn(&Hub) -> bool) {
        for closed in self.opened.extract_if(.., |known| which(&known.hub)) {
            self.files -= files_of(&closed.hub);
        }
    }
}

fn files_of(hub: &Hub) -> u64 {
    FILES_PER_LOG as u64 * u64::from(hub.partitions)
}

/// Open the logs of a hub in the data folder at `data`.
pub(super) fn open_hub(data: &Path, hub: &Hub, log: &Log) -> Result<Opened, Diagnosis> {
    let began = Instant::now();
    let limits = partition_limits(hub)?;
    let mut summary = RecoverySummary::default();
    let (mut partitions, mut made) = (Vec::new(), Vec::new());
    for number in 0..hub.partitions {
        let id = LogId::partition(PartitionId::new(hub.id, number));
        let folder = data.join(id.to_string());
        if !folder.exists() {
            made.push(folder);
        }
        match open_log(data, id, limits) {
            Ok((partition, report)) => {
                summary.add(id, &report, log);
                partitions.push(partition);
            }
            Err(error) => {
                drop(partitions);
                remove(&made, log);
                return Err(failed(id)(error));
            }
        }
    }
    let millis = began.elapsed().as_millis();
    let fields: [(&str, &dyn std::fmt::Display); 4] = [
        ("hub", &hub.name),
        ("logs", &summary.logs),
        ("records", &summary.scanned_records),
        ("milliseconds", &millis),
    ];
    log.event(Level::Info, "hub_opened", &fields);
    let hub = hub.clone();
    Ok(Opened { hub, partitions })
}

/// Open a log, which must have room for what is appended first.
fn open_log(
    data: &Path,
    id: LogId,
    limits: PartitionLimits,
) -> Result<(Partition<MappedSegment>, Recovery), StorageError> {
    let mut storage = MappedStorage::new(data);
    let (partition, report) = Partition::recover(&mut storage, id, limits, unix_now())?;
    match partition.spare_failure().cloned() {
        Some(error) => Err(error),
        None => Ok((partition, report)),
    }
}

/// Nothing was ever in these logs: they leave no files behind that take the room of others.
fn remove(made: &[PathBuf], log: &Log) {
    for folder in made.iter().filter(|folder| folder.exists()) {
        if let Err(error) = std::fs::remove_dir_all(folder) {
            let fields: [(&str, &dyn std::fmt::Display); 2] =
                [("folder", &folder.display()), ("cause", &error)];
            log.event(Level::Warning, "log_left_behind", &fields);
        }
    }
}

/// Hubs of this table that the folder at `data` never had and whose logs cannot be opened, or that do not fit to what it had: a node
/// begins without them. The others that it never had are tried, and closed again. One whose logs were there before is no part of this:
/// without it nobody can say what was acknowledged.
///
/// # Errors
/// The folder's own list of hubs cannot be read.
pub(crate) fn unopenable(
    data: &Path,
    table: &RouteTable,
    log: &Log,
) -> Result<Vec<Waiting>, Diagnosis> {
    let mut waiting = Vec::new();
    for hub in table.hubs() {
        let new = Folder::knows(data, hub.id)?.then_some(false);
        let opened = match new {
            Some(_) => Folder::check_hub(data, hub).map(drop),
            None => open_hub(data, hub, log).map(drop),
        };
        if let Err(fault) = opened {
            tell_waiting(log, hub, &fault);
            waiting.push(Waiting::new(hub, fault, new.is_none()));
        }
    }
    Ok(waiting)
}
