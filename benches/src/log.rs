//! Mapped segments in a temporary folder, used again when retention gives them back, so that a bench may
//! append for ever. Its cost stands outside of what is measured.

use partition::{
    LogId, MappedSegment, MappedStorage, Partition, PartitionLimits, Recovery, Storage,
};
use tempfile::TempDir;
use wire::ids::UnixNanos;

/// Retention of every log: two segments, and the open one.
const SEGMENTS_KEPT: u64 = 2;

/// A data folder that goes when it is dropped.
#[derive(Debug)]
pub struct Disk {
    /// The storage in the folder.
    pub storage: MappedStorage,
    _folder: TempDir,
}

impl Disk {
    /// An empty data folder.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self {
            storage: MappedStorage::new(folder.path()),
            _folder: folder,
        }
    }

    /// The limits of a log with segments of so many bytes.
    pub fn limits(segment_bytes: u32) -> PartitionLimits {
        PartitionLimits {
            segment_bytes,
            retention_bytes: Some(SEGMENTS_KEPT * u64::from(segment_bytes)),
            ..PartitionLimits::default()
        }
    }

    /// An empty log with one spare.
    pub fn open(&mut self, log: LogId, segment_bytes: u32) -> Partition<MappedSegment> {
        let limits = Self::limits(segment_bytes);
        let (mut partition, Recovery { .. }) =
            Partition::recover(&mut self.storage, log, limits, UnixNanos(1))
                .expect("an empty log opens");
        self.tend(&mut partition);
        partition
    }

    /// Give a log the spare that it wants, and take back what retention no longer keeps. Everything
    /// appended counts as synced.
    pub fn tend(&mut self, partition: &mut Partition<MappedSegment>) {
        let Some(bytes) = partition.request_spare() else {
            return;
        };
        if let Some(ticket) = partition.begin_commit() {
            partition
                .finish_commit(ticket, Ok(()))
                .expect("nothing failed");
        }
        let (log, mut fed) = (partition.log(), false);
        while let Some(old) = partition.expire(UnixNanos(1)) {
            if let Some(spare) = self.recycle(log, old) {
                partition.offer(spare);
                fed = true;
            }
        }
        if !fed {
            partition.offer(self.prepare(log, bytes));
        }
    }

    /// A new spare.
    pub fn prepare(&mut self, log: LogId, bytes: u32) -> MappedSegment {
        let spare = self.storage.prepare(log, bytes);
        spare.expect("there is room for a segment")
    }

    /// A spare of a segment that left its log.
    pub fn recycle(&mut self, log: LogId, segment: MappedSegment) -> Option<MappedSegment> {
        let spare = self.storage.retire(log, segment);
        spare.expect("a segment can be renamed")
    }
}
