//! The disk: durable bytes, a journal of writes that were not synced, and faults to be injected.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::log::{LogId, SegmentId, SegmentRef};
use crate::memory::crash::{self, Crash};
use crate::memory::random::Random;
use crate::segment::spare_header;
use crate::storage::{ASIDE_BYTES_MAX, StorageError};
use crate::vouch::VOUCH_BYTES;

/// What a disk writes in one piece.
pub(super) const SECTOR_BYTES: usize = 512;
const EIO: i32 = 5;
/// No segment has this id.
const VOUCH: SegmentId = SegmentId(u64::MAX);
/// Unsynced writes to such a file; nobody syncs it, so the oldest are written back at some time.
const VOUCH_WRITES_MAX: usize = 16;

/// A fault to inject, once, at the nth call from now; 1 is the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A sync fails with EIO and makes nothing durable. As kernels do, it takes what it could not write
    /// for written: processes go on seeing it, no later sync tries again, and a crash loses it.
    Sync(u64),
    /// A preparation finds the disk full.
    PrepareFull(u64),
    /// A preparation fails with EIO and leaves an unfinished file behind.
    Prepare(u64),
    /// A rename fails with EIO before it has happened.
    Rename(u64),
    /// A removal fails with EIO.
    Remove(u64),
    /// Any call of the storage fails with EIO; a sync then as `Sync` says.
    Call(u64),
    /// So does every call from then on.
    Broken(u64),
    /// Any call that takes room finds the disk full; no other is counted.
    Full(u64),
    /// So does every such call from then on.
    FullFrom(u64),
}

#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) number: u64,
    pub(super) at: usize,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct DiskFile {
    pub(super) durable: Vec<u8>,
    /// What is seen above `durable`: writes that a failed sync has given up, and those made since that
    /// are durable. Older than all `unsynced` ones.
    pub(super) forsaken: Vec<Write>,
    /// In the order they were made.
    pub(super) unsynced: Vec<Write>,
    unfinished: bool,
}

impl DiskFile {
    fn contents(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for write in self.forsaken.iter().chain(&self.unsynced) {
            put(&mut bytes, write.at, &write.bytes);
        }
        bytes
    }

    /// The parts of unsynced writes that fall into each sector, in order.
    pub(super) fn sectors(&self) -> BTreeMap<usize, Vec<(usize, &[u8])>> {
        let mut sectors: BTreeMap<usize, Vec<(usize, &[u8])>> = BTreeMap::new();
        for write in &self.unsynced {
            let (mut at, mut rest) = (write.at, &write.bytes[..]);
            while !rest.is_empty() {
                let sector = at / SECTOR_BYTES;
                let (now, later) = rest.split_at(rest.len().min((sector + 1) * SECTOR_BYTES - at));
                sectors.entry(sector).or_default().push((at, now));
                (at, rest) = (at + now.len(), later);
            }
        }
        sectors
    }
}

/// What a fault may strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Sync,
    PrepareFull,
    Prepare,
    Rename,
    Remove,
    Any,
    Room,
}

/// Files, counters and faults behind a [`Disk`].
#[derive(Debug, Clone)]
pub(super) struct State {
    files: BTreeMap<SegmentRef, DiskFile>,
    /// Bytes that recovery has cut, by segment and position.
    aside: BTreeMap<(SegmentRef, u32), Vec<u8>>,
    ids: Random,
    writes: u64,
    syncs: u64,
    calls: u64,
    rooms: u64,
    capacity: Option<u64>,
    faults: Vec<Fault>,
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct Disk {
    state: Rc<RefCell<State>>,
}

/// A sync that has begun: it covers the writes made before, and only those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncMark {
    file: SegmentRef,
    upto: u64,
}

impl Disk {
    /// An empty disk. `seed` decides the ids of segments.
    pub fn new(seed: u64) -> Self {
        let (files, ids) = (BTreeMap::new(), Random::new(seed));
        let state = State {
            files,
            aside: BTreeMap::new(),
            ids,
            writes: 0,
            syncs: 0,
            calls: 0,
            rooms: 0,
            capacity: None,
            faults: Vec::new(),
        };
        Self {
            state: Rc::new(RefCell::new(state)),
        }
    }

    pub(super) fn of(state: &Rc<RefCell<State>>) -> Self {
        Self {
            state: Rc::clone(state),
        }
    }

    pub(super) fn state(&self) -> &Rc<RefCell<State>> {
        &self.state
    }

    /// What the medium holds after the power went: another disk, this one is not changed.
    pub fn crash(&self, crash: Crash) -> Self {
        let mut state = self.state.borrow().clone();
        state.faults.clear();
        crash::apply(crash, &mut state.files);
        // Ids drawn from now on must differ from those the crash has forgotten.
        state.ids = Random::new(state.ids.next_u64() ^ crash.seed());
        Self {
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// As [`Disk::crash`], and the faults that have not struck yet stay.
    pub fn crash_with_faults(&self, crash: Crash) -> Self {
        let after = self.crash(crash);
        after
            .state
            .borrow_mut()
            .faults
            .clone_from(&self.state.borrow().faults);
        after
    }

    /// Begin a sync; writes made from now on are not covered.
    ///
    /// # Errors
    /// `Missing` if there is no such segment.
    pub fn sync_begins(&self, segment: &SegmentRef) -> Result<SyncMark, StorageError> {
        let state = self.state.borrow();
        let upto = state.writes;
        let known = state.files.contains_key(segment);
        if known {
            Ok(SyncMark {
                file: *segment,
                upto,
            })
        } else {
            Err(StorageError::Missing { segment: *segment })
        }
    }

    /// End a sync.
    ///
    /// # Errors
    /// `Missing` if the segment has gone meanwhile; `Io` if a fault was injected, nothing is durable then.
    pub fn sync_ends(&self, mark: SyncMark) -> Result<(), StorageError> {
        let mut state = self.state.borrow_mut();
        state.syncs += 1;
        let failed_now = state.call("sync", mark.file.log).is_err() | state.strikes(Call::Sync);
        let file = state
            .files
            .get_mut(&mark.file)
            .ok_or(StorageError::Missing { segment: mark.file })?;
        let covered = file
            .unsynced
            .partition_point(|write| write.number < mark.upto);
        if failed_now {
            file.forsaken.extend(file.unsynced.drain(..covered));
            return Err(failed("sync", mark.file));
        }
        for write in file.unsynced.drain(..covered) {
            put(&mut file.durable, write.at, &write.bytes);
            if !file.forsaken.is_empty() {
                // What is seen is the newest, on disk or not.
                file.forsaken.push(write);
            }
        }
        Ok(())
    }

    /// Inject a fault.
    pub fn inject(&self, fault: Fault) {
        self.state.borrow_mut().faults.push(fault);
    }

    /// Take back all faults that have not happened yet.
    pub fn heal(&self) {
        self.state.borrow_mut().faults.clear();
    }

    /// Let the disk hold at most so many bytes; `None` lifts it.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.borrow_mut().capacity = bytes;
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.state.borrow().bytes()
    }

    /// Syncs that were asked for so far.
    pub fn syncs(&self) -> u64 {
        self.state.borrow().syncs
    }

    /// Calls of the storage so far, and how many of them take room.
    pub fn calls(&self) -> (u64, u64) {
        let state = self.state.borrow();
        (state.calls, state.rooms)
    }

    /// All segment files, in order.
    pub fn files(&self) -> Vec<SegmentRef> {
        let state = self.state.borrow();
        let segments = state.files.keys().filter(|file| file.id != VOUCH);
        segments.copied().collect()
    }

    /// The file beside a log's segments that says how far the log is on disk.
    pub fn vouch_file(log: LogId) -> SegmentRef {
        SegmentRef { log, id: VOUCH }
    }

    /// What recoveries have cut off a segment, by position.
    pub fn set_aside(&self, segment: SegmentRef) -> Vec<(u32, Vec<u8>)> {
        let state = self.state.borrow();
        let range = (segment, 0)..=(segment, u32::MAX);
        let cuts = state.aside.range(range);
        cuts.map(|(&(_, at), bytes)| (at, bytes.clone())).collect()
    }

    /// Sectors with writes that were not synced, over all files.
    pub fn unsynced_sectors(&self) -> usize {
        self.state
            .borrow()
            .files
            .values()
            .map(|file| file.sectors().len())
            .sum()
    }

    /// Writes that were not synced, over all files.
    pub fn unsynced_writes(&self) -> usize {
        self.state
            .borrow()
            .files
            .values()
            .map(|file| file.unsynced.len())
            .sum()
    }

    /// What a process sees in a file: synced or not.
    pub fn contents(&self, file: SegmentRef) -> Option<Vec<u8>> {
        self.state.borrow().files.get(&file).map(DiskFile::contents)
    }

    /// Whether a file is there under this name.
    pub fn holds(&self, file: SegmentRef) -> bool {
        self.state.borrow().files.contains_key(&file)
    }

    /// Remove a file behind the program's back.
    pub fn take_away(&self, file: SegmentRef) {
        self.state.borrow_mut().files.remove(&file);
    }

    /// Change the durable bytes of a file behind the program's back: flipped bits, zeroed sectors, a
    /// shorter file. Unsynced writes become durable first. Segments that are open keep what they saw.
    pub fn damage(&self, file: SegmentRef, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(file) = self.state.borrow_mut().files.get_mut(&file) {
            file.durable = file.contents();
            file.forsaken.clear();
            file.unsynced.clear();
            change(&mut file.durable);
        }
    }
}

pub(super) fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes[at..at + part.len()].copy_from_slice(part);
}

fn failed(what: &'static str, file: SegmentRef) -> StorageError {
    StorageError::Io {
        what,
        path: format!("{}/{}.seg", file.log, file.id),
        errno: EIO,
    }
}

impl State {
    fn bytes(&self) -> u64 {
        let segments = self.files.iter().filter(|(file, _)| file.id != VOUCH);
        segments.map(|(_, file)| file.durable.len() as u64).sum()
    }

    /// Count a call against the faults that it concerns; answers whether one is due.
    fn strikes(&mut self, call: Call) -> bool {
        let mut due = false;
        self.faults.retain_mut(|fault| {
            let (left, stays) = match (&mut *fault, call) {
                (Fault::Sync(left), Call::Sync)
                | (Fault::PrepareFull(left), Call::PrepareFull)
                | (Fault::Prepare(left), Call::Prepare)
                | (Fault::Rename(left), Call::Rename)
                | (Fault::Remove(left), Call::Remove)
                | (Fault::Call(left), Call::Any)
                | (Fault::Full(left), Call::Room) => (left, false),
                (Fault::Broken(left), Call::Any) | (Fault::FullFrom(left), Call::Room) => {
                    (left, true)
                }
                _ => return true,
            };
            let struck = *left <= 1;
            due |= struck;
            *left = left.saturating_sub(1);
            stays || !struck
        });
        due
    }

    /// Count a call of the storage.
    pub(super) fn call(&mut self, what: &'static str, log: LogId) -> Result<(), StorageError> {
        self.calls += 1;
        if self.strikes(Call::Any) {
            let path = log.to_string();
            return Err(StorageError::Io {
                what,
                path,
                errno: EIO,
            });
        }
        Ok(())
    }

    /// Count a call that takes room.
    fn room(&mut self, log: LogId, bytes: u32) -> Result<(), StorageError> {
        self.rooms += 1;
        if self.strikes(Call::Room) {
            return Err(StorageError::Full { log, bytes });
        }
        Ok(())
    }

    fn new_id(&mut self) -> SegmentId {
        loop {
            let id = SegmentId(self.ids.next_u64().max(1));
            if !self.files.keys().any(|file| file.id == id) {
                return id;
            }
        }
    }

    pub(super) fn write(&mut self, file: SegmentRef, at: usize, bytes: &[u8]) {
        let number = self.writes;
        self.writes += 1;
        let Some(contents) = self.files.get_mut(&file) else {
            return;
        };
        let bytes = bytes.to_vec();
        contents.unsynced.push(Write { number, at, bytes });
        if file.id == VOUCH && contents.unsynced.len() > VOUCH_WRITES_MAX {
            let oldest = contents.unsynced.remove(0);
            put(&mut contents.durable, oldest.at, &oldest.bytes);
        }
    }

    pub(super) fn prepare(&mut self, log: LogId, bytes: u32) -> Result<SegmentRef, StorageError> {
        self.call("prepare", log)?;
        self.room(log, bytes)?;
        let full = self
            .capacity
            .is_some_and(|capacity| self.bytes() + u64::from(bytes) > capacity);
        let struck = self.strikes(Call::PrepareFull);
        if full || struck {
            return Err(StorageError::Full { log, bytes });
        }
        let file = SegmentRef {
            log,
            id: self.new_id(),
        };
        let mut durable = vec![0; bytes as usize];
        let unfinished = self.strikes(Call::Prepare);
        if !unfinished {
            put(&mut durable, 0, &spare_header(file.id, bytes as usize, log));
        }
        self.files.insert(
            file,
            DiskFile {
                durable,
                forsaken: Vec::new(),
                unsynced: Vec::new(),
                unfinished,
            },
        );
        if unfinished {
            Err(failed("prepare", file))
        } else {
            Ok(file)
        }
    }

    /// The log's vouch file, made if it is not there.
    pub(super) fn vouch(&mut self, log: LogId) -> Result<SegmentRef, StorageError> {
        self.call("open", log)?;
        self.room(log, VOUCH_BYTES as u32)?;
        let file = Disk::vouch_file(log);
        let contents = self.files.entry(file).or_default();
        contents.durable.resize(VOUCH_BYTES, 0);
        Ok(file)
    }

    pub(super) fn set_aside(
        &mut self,
        file: SegmentRef,
        at: u32,
        bytes: &[u8],
    ) -> Result<bool, StorageError> {
        self.call("write", file.log)?;
        if self.room(file.log, bytes.len() as u32).is_err() {
            return Ok(false);
        }
        let ours = self
            .aside
            .iter()
            .filter(|((known, _), _)| known.log == file.log);
        let kept: u64 = ours.map(|(_, bytes)| bytes.len() as u64).sum();
        let room = kept + bytes.len() as u64 <= ASIDE_BYTES_MAX;
        if room {
            self.aside.insert((file, at), bytes.to_vec());
        }
        Ok(room)
    }

    pub(super) fn rename(&mut self, from: SegmentRef) -> Result<SegmentRef, StorageError> {
        self.call("rename", from.log)?;
        if self.strikes(Call::Rename) {
            return Err(failed("rename", from));
        }
        let to = SegmentRef {
            log: from.log,
            id: self.new_id(),
        };
        let file = self
            .files
            .remove(&from)
            .ok_or(StorageError::Missing { segment: from })?;
        self.files.insert(to, file);
        Ok(to)
    }

    pub(super) fn remove(&mut self, file: SegmentRef) -> Result<(), StorageError> {
        self.call("remove", file.log)?;
        if self.strikes(Call::Remove) {
            return Err(failed("remove", file));
        }
        self.files
            .remove(&file)
            .map(|_| ())
            .ok_or(StorageError::Missing { segment: file })
    }

    pub(super) fn remove_unfinished(&mut self, log: LogId) {
        self.files
            .retain(|file, contents| file.log != log || !contents.unfinished);
    }

    pub(super) fn files_of(&self, log: LogId) -> impl Iterator<Item = (SegmentId, Vec<u8>)> {
        let ours = self.files.iter().filter(move |(file, contents)| {
            file.log == log && file.id != VOUCH && !contents.unfinished
        });
        ours.map(|(file, contents)| (file.id, contents.contents()))
    }
}
