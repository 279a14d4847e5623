//! Segments in memory, on a disk that can be crashed, filled, broken and damaged at will. Deterministic:
//! ids, crash images and faults depend on seeds and calls only. For simulation and tests.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use crate::log::{LogId, SegmentId, SegmentRef};
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, View, spare_header};
use crate::storage::{SegmentFile, Storage, StorageError};

mod crash;
mod disk;
mod random;

pub use crash::Crash;
pub use disk::{Disk, Fault, SyncMark};
pub use random::Random;

use disk::State;

/// One segment on a [`Disk`]. Holds its own view of the bytes, as a mapping would.
pub struct MemorySegment {
    file: SegmentRef,
    view: Vec<u8>,
    disk: Rc<RefCell<State>>,
}

impl std::fmt::Debug for MemorySegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemorySegment")
            .field("file", &self.file)
            .field("bytes", &self.view.len())
            .finish()
    }
}

/// What a reader sees of a [`MemorySegment`]: the disk's bytes, as they were when it was last told of more.
#[derive(Clone)]
pub struct MemoryView {
    file: SegmentRef,
    bytes: Vec<u8>,
    disk: Disk,
}

impl View for MemoryView {
    /// A mapping of a file that is written over would show other bytes, and one of a file that is gone none: whoever
    /// looks at either has kept a segment that its owner was told to be let go of.
    fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(
            self.disk.holds(self.file),
            "{:?} was given away, and a reader looks at it",
            self.file
        );
        &self.bytes[range]
    }

    fn refresh(&mut self, end: usize) {
        if let Some(now) = self.disk.contents(self.file) {
            self.bytes[..end].copy_from_slice(&now[..end]);
        }
    }
}

impl Segment for MemorySegment {
    type View = MemoryView;

    fn id(&self) -> SegmentId {
        self.file.id
    }

    fn capacity(&self) -> usize {
        self.view.len()
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.view[range]
    }

    fn write(&mut self, at: usize, parts: &[&[u8]]) {
        let mut at = at;
        for part in parts {
            self.view[at..at + part.len()].copy_from_slice(part);
            self.disk.borrow_mut().write(self.file, at, part);
            at += part.len();
        }
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.disk.borrow_mut().call("write", self.file.log)
    }

    fn view(&self) -> Result<MemoryView, StorageError> {
        let (file, bytes) = (self.file, vec![0; self.view.len()]);
        let disk = Disk::of(&self.disk);
        Ok(MemoryView { file, bytes, disk })
    }
}

/// A storage on a [`Disk`]. Making another one on the same disk is a restart of the process: what was
/// written is there, synced or not.
#[derive(Debug, Clone)]
pub struct MemoryStorage {
    disk: Disk,
}

impl MemoryStorage {
    /// A storage on `disk`.
    pub fn new(disk: &Disk) -> Self {
        Self { disk: disk.clone() }
    }

    /// The disk underneath.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    fn segment(&self, file: SegmentRef) -> Result<MemorySegment, StorageError> {
        let view = self
            .disk
            .contents(file)
            .ok_or(StorageError::Missing { segment: file })?;
        Ok(MemorySegment {
            file,
            view,
            disk: Rc::clone(self.disk.state()),
        })
    }
}

impl Storage for MemoryStorage {
    type Segment = MemorySegment;

    fn list(&mut self, log: LogId) -> Result<Vec<SegmentFile>, StorageError> {
        let mut disk = self.disk.state().borrow_mut();
        disk.call("list", log)?;
        disk.remove_unfinished(log);
        let files = disk.files_of(log).map(|(id, contents)| {
            let mut header = [0; SEGMENT_HEADER_BYTES];
            let filled = contents.len().min(header.len());
            header[..filled].copy_from_slice(&contents[..filled]);
            SegmentFile {
                id,
                bytes: contents.len() as u64,
                header,
            }
        });
        Ok(files.collect())
    }

    fn open(&mut self, log: LogId, file: &SegmentFile) -> Result<MemorySegment, StorageError> {
        self.disk.state().borrow_mut().call("open", log)?;
        self.segment(SegmentRef { log, id: file.id })
    }

    fn prepare(&mut self, log: LogId, bytes: u32) -> Result<MemorySegment, StorageError> {
        let file = self.disk.state().borrow_mut().prepare(log, bytes)?;
        self.segment(file)
    }

    fn sync(&mut self, segment: &SegmentRef) -> Result<(), StorageError> {
        let mark = self.disk.sync_begins(segment)?;
        self.disk.sync_ends(mark)
    }

    fn renew(&mut self, log: LogId, segment: MemorySegment) -> Result<MemorySegment, StorageError> {
        let file = self.disk.state().borrow_mut().rename(segment.file)?;
        drop(segment);
        let mut segment = self.segment(file)?;
        let header = spare_header(file.id, segment.capacity(), log);
        segment.write(0, &[&header]);
        self.sync(&file)?;
        Ok(segment)
    }

    fn vouch(&mut self, log: LogId) -> Result<Option<MemorySegment>, StorageError> {
        let made = self.disk.state().borrow_mut().vouch(log);
        let file = match made {
            Ok(file) => file,
            Err(StorageError::Full { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.segment(file).map(Some)
    }

    fn set_aside(
        &mut self,
        segment: &SegmentRef,
        at: u32,
        bytes: &[u8],
    ) -> Result<bool, StorageError> {
        self.disk
            .state()
            .borrow_mut()
            .set_aside(*segment, at, bytes)
    }

    fn set_aside_before(&mut self, segment: &SegmentRef) -> Result<Vec<Range<u32>>, StorageError> {
        self.disk.state().borrow_mut().call("list", segment.log)?;
        let cuts = self.disk.set_aside(*segment).into_iter();
        Ok(cuts
            .map(|(at, bytes)| at..at + bytes.len() as u32)
            .collect())
    }

    fn remove(&mut self, _log: LogId, segment: MemorySegment) -> Result<(), StorageError> {
        self.disk.state().borrow_mut().remove(segment.file)
    }
}
