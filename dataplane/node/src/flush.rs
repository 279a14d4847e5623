//! Makes appended bytes durable: fdatasync through the executor's ring, on descriptors that stay open while their
//! segment is written. One sync of a log is in flight at a time, because its partition gives one ticket at a time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use glommio::io::BufferedFile;
use partition::{CommitTicket, MappedSegment, Segment, SegmentId, SegmentRef, StorageError};

use crate::storage::fault;

/// Open files kept; older segments are closed and would be opened again.
const FILES_MAX: usize = 256;

/// Syncs segments of one data folder.
#[derive(Clone)]
pub(crate) struct Flush {
    data: Rc<PathBuf>,
    files: Rc<RefCell<BTreeMap<SegmentId, Rc<BufferedFile>>>>,
}

impl Flush {
    pub(crate) fn new(data: PathBuf) -> Self {
        Self {
            data: Rc::new(data),
            files: Rc::default(),
        }
    }

    /// Sync every segment of a ticket. The first failure ends it: what it covers is then not durable.
    pub(crate) async fn sync(&self, ticket: &CommitTicket) -> Result<(), StorageError> {
        for segment in &ticket.segments {
            let file = self.file(segment).await?;
            let synced = file.fdatasync().await;
            synced.map_err(|error| fault("sync", &self.path(segment), error.into()))?;
        }
        Ok(())
    }

    /// The segment is retired; its descriptor goes.
    pub(crate) fn forget(&self, segment: &MappedSegment) {
        self.files.borrow_mut().remove(&segment.id());
    }

    fn path(&self, segment: &SegmentRef) -> PathBuf {
        partition::mapped::segment_path(&self.data, segment)
    }

    async fn file(&self, segment: &SegmentRef) -> Result<Rc<BufferedFile>, StorageError> {
        if let Some(file) = self.files.borrow().get(&segment.id) {
            return Ok(Rc::clone(file));
        }
        let path = self.path(segment);
        let opened = BufferedFile::open(&path).await;
        let file = Rc::new(opened.map_err(|error| fault("open", &path, error.into()))?);
        let mut files = self.files.borrow_mut();
        while files.len() >= FILES_MAX {
            files.pop_first();
        }
        files.insert(segment.id, Rc::clone(&file));
        Ok(file)
    }
}
