//! Hubs that come while a node runs. Their logs are opened on the thread of whoever brings the table, so no loop waits for a disk;
//! then every shard takes its own, and only when all have is a table handed over that names them.
//!
//! What becomes of a table with a hub whose logs cannot be opened is up to whom it comes from ([`Unopenable`]): it is refused as a whole, or
//! everything else in it is taken, the channels of that hub are refused to senders, and a thread tries again (`again.rs`).
//!
//! A hub that a table names no more stays where it is, unserved, until the node stops; its logs stay on disk for good. One that no shard was
//! given, since its table was refused, is closed again.

mod again;
mod opening;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use partition::{MappedSegment, Partition};
use shard::{NewHubs, Ownership, end_of};
use wire::route::{Hub, RouteTable};

pub(crate) use self::again::Opener;
use self::again::Waiting;
pub(crate) use self::opening::unopenable;
use crate::diagnosis::Diagnosis;
use crate::epochs::Epochs;
use crate::folder::Folder;
use crate::log::{Level, Log};
use crate::start::Unapplied;
use crate::status::Status;

/// How long all shards together may take to take over their logs, which is nothing to them. One that stands still holds up all tables
/// for as long as it does: with a table the others would begin to tell it of logs that it does not know.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// What becomes of a table with a hub whose logs cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopenable {
    /// It is refused: whoever brings it asked before, and can do without the hub.
    Refuses,
    /// Everything else of it is taken: nobody was asked, and there may be a revocation in it.
    Waits,
}

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
    /// Something may be there to be tried again.
    came: Condvar,
    taken: Arc<Epochs>,
    /// Held by whoever hands a table over.
    handing: Mutex<()>,
    status: Arc<Status>,
    log: Arc<Log>,
}

struct State {
    /// What the shards have, or are about to.
    ownership: Ownership,
    /// Hubs whose logs are open and that no shard has yet.
    opened: Vec<Opened>,
    /// What was dealt out and had no room on its way.
    dealt: Vec<(usize, Handed)>,
    /// Hubs of the table that are not served since their logs cannot be opened.
    waiting: Vec<Waiting>,
    /// The one of them that is tried now, with no lock held.
    trying: Option<u16>,
    /// How often shards were given hubs.
    number: u64,
    /// Files that the node may have to open: for what it began with, what shards were given since, and what is open for them.
    files: u64,
    /// Nothing is tried any more.
    ended: bool,
}

struct Opened {
    hub: Hub,
    partitions: Vec<Partition<MappedSegment>>,
}

impl Hubs {
    /// Those of the table that the node begins with, but for those that wait; it may have to open so many files for them and all else.
    pub(crate) fn new(
        data: PathBuf,
        (table, waiting): (&RouteTable, Vec<Waiting>),
        (shards, files): (u16, u64),
        status: Arc<Status>,
        log: Arc<Log>,
    ) -> Self {
        let waits = |id| waiting.iter().any(|waits| waits.hub.id == id);
        let state = State {
            ownership: Ownership::without(table, shards, waits),
            opened: Vec::new(),
            dealt: Vec::new(),
            trying: None,
            waiting,
            number: 0,
            files,
            ended: false,
        };
        state.tell(&status);
        Self {
            data,
            shards,
            state: Mutex::new(state),
            came: Condvar::new(),
            taken: Arc::new(Epochs::new(usize::from(shards))),
            handing: Mutex::new(()),
            status,
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

    /// Who owns what by now.
    pub(crate) fn ownership(&self) -> Ownership {
        self.state().ownership.clone()
    }

    /// Whether the shards have this hub, or are about to.
    pub(crate) fn has(&self, hub: u16) -> bool {
        self.state().ownership.has(hub)
    }

    /// Open the logs of all hubs of this table that the node has none of. Blocks on the disk; what was opened stays open until a table
    /// without it is handed over.
    ///
    /// # Errors
    /// A log cannot be opened.
    pub(crate) fn open(&self, table: &RouteTable) -> Result<(), Diagnosis> {
        let mut state = self.state();
        for hub in table.hubs() {
            if let Some(waits) = state.waiting.iter().find(|waits| waits.hub == *hub) {
                return Err(waits.fault.clone());
            }
            self.open_once(&mut state, hub)?;
        }
        Ok(())
    }

    /// The same as far as it can be: the other hubs wait, and what waited before goes on to, unless the table has it no more.
    fn open_what_can_be(&self, table: &RouteTable) {
        let mut state = self.state();
        state
            .waiting
            .retain(|waits| table.hubs().contains(&waits.hub));
        for hub in table.hubs() {
            if state.waiting.iter().any(|waits| waits.hub == *hub) {
                continue;
            }
            let new = match state.trying == Some(hub.id) {
                // With other settings, on another thread.
                true => Err(self.being_tried(hub)),
                false => Folder::check_hub(&self.data, hub)
                    .and_then(|new| self.open_once(&mut state, hub).map(|()| new)),
            };
            if let Err(fault) = new {
                self.wait_for(&mut state, hub, fault);
            }
        }
        state.tell(&self.status);
        self.came.notify_all();
    }

    /// Have every shard take over what it has not of the hubs of this table, and wait until all have. Called by whoever
    /// hands a table over; `hand` gives a shard its part, or gives it back when there was no room.
    ///
    /// # Errors
    /// As [`open`](Self::open), unless what cannot be opened waits; or a shard does not come to take its part for now, which it is
    /// given the next time.
    pub(crate) fn settle(
        &self,
        table: &RouteTable,
        unopenable: Unopenable,
        mut hand: impl FnMut(usize, Handed) -> Result<(), Handed>,
    ) -> Result<(), Unapplied> {
        match unopenable {
            Unopenable::Refuses => self.open(table).map_err(Unapplied::Refused)?,
            Unopenable::Waits => self.open_what_can_be(table),
        }
        let mut state = self.state();
        // Opened for a table that was refused in the end: for one that names them again they are opened again.
        state.close(|hub| !table.hubs().contains(hub));
        let new = |hub: &&Hub| state.opened.iter().any(|opened| opened.hub == **hub);
        let new: Vec<Hub> = table.hubs().iter().filter(new).cloned().collect();
        if !new.is_empty() {
            match Folder::remember_hubs(&self.data, table.queue_groups(), &new) {
                Ok(()) => self.deal(&mut state, &new),
                Err(fault) if unopenable == Unopenable::Refuses => {
                    return Err(Unapplied::Refused(fault));
                }
                Err(fault) => {
                    for hub in &new {
                        self.wait_for(&mut state, hub, fault.clone());
                    }
                    state.tell(&self.status);
                    self.came.notify_all();
                }
            }
        }
        while let Some((at, handed)) = state.dealt.pop() {
            if let Err(handed) = hand(at, handed) {
                state.dealt.push((at, handed));
                return Err(Unapplied::Behind);
            }
        }
        let number = state.number;
        drop(state);
        let taken = self.taken.wait(number, TAKEN_WITHIN);
        match taken.iter().all(|has| *has >= number) {
            true => Ok(()),
            false => Err(Unapplied::Behind),
        }
    }

    /// Deal out these hubs, whose logs are open, among the shards.
    fn deal(&self, state: &mut State, new: &[Hub]) {
        state.ownership.extend_by(new.iter());
        state.number += 1;
        let (new, others): (Vec<Opened>, _) = std::mem::take(&mut state.opened)
            .into_iter()
            .partition(|opened| new.contains(&opened.hub));
        state.opened = others;
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
        // What waits for room comes before this.
        for (at, hubs) in dealt.into_iter().enumerate() {
            let (number, taken) = (state.number, Arc::clone(&self.taken));
            let handed = Handed {
                hubs,
                number,
                taken,
            };
            state.dealt.insert(0, (at, handed));
        }
    }
}

impl State {
    /// Say how many hubs are not served.
    fn tell(&self, status: &Status) {
        status.hubs_unopened(self.waiting.len());
    }
}

/// Say in the log that a hub of a table is not served.
fn tell_waiting(log: &Log, hub: &Hub, fault: &Diagnosis) {
    let fields: [(&str, &dyn std::fmt::Display); 2] = [("hub", &hub.name), ("fault", fault)];
    log.event(Level::Error, "hub_unopened", &fields);
}

#[cfg(test)]
mod tests;
