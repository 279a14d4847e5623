//! Hubs that come while a node runs. Their logs are opened on the thread of whoever brings the table, so no loop waits for a disk;
//! then every shard takes its own, and only when all have is a table handed over that names them.
//!
//! A hub that a table names no more stays where it is, unserved, until the node stops; its logs stay on disk for good.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use partition::{
    LogId, MappedSegment, MappedStorage, Partition, PartitionLimits, Recovery, StorageError,
};
use shard::{NewHubs, Ownership, end_of};
use wire::ids::PartitionId;
use wire::route::{Hub, RouteTable};

use crate::bounds::{FILES_PER_LOG, partition_limits, ring_fault};
use crate::diagnosis::Diagnosis;
use crate::epochs::Epochs;
use crate::folder::Folder;
use crate::log::{Level, Log};
use crate::recover::{RecoverySummary, failed};
use crate::run::unix_now;
use crate::start::Unapplied;

/// How long all shards together may take to take over their logs, which is nothing to them.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// New hubs for one shard, and whom it tells that it has them.
#[derive(Debug)]
pub(crate) struct Handed {
    hubs: NewHubs<MappedSegment>,
    number: u64,
    taken: Arc<Epochs>,
}

impl Handed {
    /// Give them to their shard, between two turns.
    pub(crate) fn give(self, at: usize, shard: &mut shard::Shard<MappedSegment>) {
        shard.adopt(self.hubs);
        self.taken.note(at, 0, self.number);
    }
}

/// The hubs of a node that runs.
pub(crate) struct Hubs {
    data: PathBuf,
    shards: u16,
    state: Mutex<State>,
    taken: Arc<Epochs>,
    /// Held by whoever hands a table over.
    handing: Mutex<()>,
    log: Arc<Log>,
}

struct State {
    /// What the shards have, or are about to.
    ownership: Ownership,
    /// Hubs whose logs are open and that no shard has yet.
    opened: Vec<Opened>,
    /// How often shards were given hubs.
    number: u64,
    /// Files that the node may have to open.
    files: u64,
}

struct Opened {
    hub: Hub,
    partitions: Vec<Partition<MappedSegment>>,
}

impl Hubs {
    /// Those of the table that the node begins with; it may have to open so many files for them and all else.
    pub(crate) fn new(
        data: PathBuf,
        table: &RouteTable,
        (shards, files): (u16, u64),
        log: Arc<Log>,
    ) -> Self {
        let state = State {
            ownership: Ownership::new(table, shards),
            opened: Vec::new(),
            number: 0,
            files,
        };
        Self {
            data,
            shards,
            state: Mutex::new(state),
            taken: Arc::new(Epochs::new(usize::from(shards))),
            handing: Mutex::new(()),
            log,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each of its changes is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tables are handed over one at a time.
    pub(crate) fn handing(&self) -> MutexGuard<'_, ()> {
        self.handing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Open the logs of all hubs of this table that the node has none of. Blocks on the disk; what was opened before stays open.
    ///
    /// # Errors
    /// A log cannot be opened.
    pub(crate) fn open(&self, table: &RouteTable) -> Result<(), Diagnosis> {
        let mut state = self.state();
        let State {
            ownership,
            opened,
            files,
            ..
        } = &mut *state;
        for hub in table.hubs().iter().filter(|hub| !ownership.has(hub.id)) {
            if opened.iter().any(|known| known.hub == *hub) {
                continue;
            }
            // One of other settings was refused in the end.
            opened.retain(|known| known.hub.id != hub.id);
            let more = *files + FILES_PER_LOG as u64 * u64::from(hub.partitions);
            ring::ensure_open_files(more).map_err(|error| ring_fault(&error))?;
            opened.push(self.open_hub(hub)?);
            *files = more;
        }
        Ok(())
    }

    fn open_hub(&self, hub: &Hub) -> Result<Opened, Diagnosis> {
        let began = Instant::now();
        let limits = partition_limits(hub)?;
        let mut summary = RecoverySummary::default();
        let (mut partitions, mut made) = (Vec::new(), Vec::new());
        for number in 0..hub.partitions {
            let id = LogId::partition(PartitionId::new(hub.id, number));
            let folder = self.data.join(id.to_string());
            if !folder.exists() {
                made.push(folder);
            }
            match self.open_log(id, limits) {
                Ok((partition, report)) => {
                    summary.add(id, &report, &self.log);
                    partitions.push(partition);
                }
                Err(error) => {
                    drop(partitions);
                    self.remove(&made);
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
        self.log.event(Level::Info, "hub_opened", &fields);
        let hub = hub.clone();
        Ok(Opened { hub, partitions })
    }

    /// Open a log, which must have room for what is appended first.
    fn open_log(
        &self,
        id: LogId,
        limits: PartitionLimits,
    ) -> Result<(Partition<MappedSegment>, Recovery), StorageError> {
        let mut storage = MappedStorage::new(&self.data);
        let (partition, report) = Partition::recover(&mut storage, id, limits, unix_now())?;
        match partition.spare_failure().cloned() {
            Some(error) => Err(error),
            None => Ok((partition, report)),
        }
    }

    /// Nothing was ever in these logs: they leave no files behind that take the room of others.
    fn remove(&self, made: &[PathBuf]) {
        for folder in made.iter().filter(|folder| folder.exists()) {
            if let Err(error) = std::fs::remove_dir_all(folder) {
                let fields: [(&str, &dyn std::fmt::Display); 2] =
                    [("folder", &folder.display()), ("cause", &error)];
                self.log.event(Level::Warning, "log_left_behind", &fields);
            }
        }
    }

    /// Have every shard take over what it has not of the hubs of this table, and wait until all have. Called by whoever
    /// hands a table over; `hand` gives a shard its part and says whether there was room.
    ///
    /// # Errors
    /// As [`open`](Self::open), or a shard does not come to take them for now.
    pub(crate) fn settle(
        &self,
        table: &RouteTable,
        mut hand: impl FnMut(usize, Handed) -> bool,
    ) -> Result<(), Unapplied> {
        self.open(table).map_err(Unapplied::Refused)?;
        let mut state = self.state();
        let has = |hub: &Hub| state.ownership.has(hub.id);
        if !table.hubs().iter().all(has) {
            Folder::remember_hubs(&self.data, table).map_err(Unapplied::Refused)?;
            state.number += 1;
            for (at, hubs) in self.deal(&mut state, table).into_iter().enumerate() {
                let (number, taken) = (state.number, Arc::clone(&self.taken));
                let handed = Handed {
                    hubs,
                    number,
                    taken,
                };
                if !hand(at, handed) {
                    return Err(Unapplied::Behind);
                }
            }
        }
        let taken = self.taken.wait(state.number, TAKEN_WITHIN);
        match taken.iter().all(|number| *number >= state.number) {
            true => Ok(()),
            false => Err(Unapplied::Behind),
        }
    }

    /// What each shard is given.
    fn deal(&self, state: &mut State, table: &RouteTable) -> Vec<NewHubs<MappedSegment>> {
        state.ownership.extend(table);
        let named = |opened: &Opened| table.hubs().contains(&opened.hub);
        let (new, others) = std::mem::take(&mut state.opened)
            .into_iter()
            .partition(named);
        state.opened = others;
        let new: Vec<Opened> = new;
        let all = new.iter().flat_map(|opened| &opened.partitions);
        let ends: Vec<_> = all.filter_map(end_of).collect();
        let mut dealt: Vec<_> = (0..self.shards)
            .map(|_| NewHubs {
                ownership: state.ownership.clone(),
                partitions: Vec::new(),
                ends: ends.clone(),
            })
            .collect();
        for partition in new.into_iter().flat_map(|opened| opened.partitions) {
            let id = end_of(&partition).map(|end| end.partition);
            let owner = id.and_then(|id| state.ownership.partition(id));
            let owner = owner.expect("each was opened for a hub that is dealt out");
            dealt[usize::from(owner)].partitions.push(partition);
        }
        dealt
    }
}
