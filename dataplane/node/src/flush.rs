//! Stage 6, the durable half: fdatasync of a ticket's segments, on files that stay open per segment.
//!
//! The shard keeps at most one ticket of a log in flight. A failure is handed back as it is and never tried again: after a failed
//! sync nobody knows what the disk holds.

use std::rc::Rc;
use std::time::Instant;

use glommio::GlommioError;
use glommio::io::BufferedFile;
use partition::{CommitTicket, SegmentRef, StorageError};

use crate::files::Files;

/// Files kept open for syncing; the one used longest ago makes room.
const FILES_MAX: usize = 256;

/// Open files by segment.
#[derive(Default)]
pub(crate) struct OpenFiles {
    files: Vec<(SegmentRef, Rc<BufferedFile>, u64)>,
    used: u64,
}

impl OpenFiles {
    fn find(&mut self, segment: SegmentRef) -> Option<Rc<BufferedFile>> {
        self.used += 1;
        let used = self.used;
        let found = self
            .files
            .iter_mut()
            .find(|(known, _, _)| *known == segment)?;
        found.2 = used;
        Some(Rc::clone(&found.1))
    }

    fn keep(&mut self, segment: SegmentRef, file: &Rc<BufferedFile>) {
        if self.files.len() >= FILES_MAX {
            let oldest = (0..self.files.len()).min_by_key(|place| self.files[*place].2);
            self.files.swap_remove(oldest.expect("there are some"));
        }
        self.files.push((segment, Rc::clone(file), self.used));
    }

    /// A segment that is recycled or removed will never be synced under this name again.
    pub(crate) fn forget(&mut self, segment: SegmentRef) {
        self.files.retain(|(known, _, _)| *known != segment);
    }
}

/// Make everything the ticket covers durable.
pub(crate) async fn sync(files: &Files, ticket: &CommitTicket) -> Result<(), StorageError> {
    let began = Instant::now();
    let mut result = Ok(());
    for segment in &ticket.segments {
        result = sync_segment(files, *segment).await;
        if result.is_err() {
            break;
        }
    }
    let took = began.elapsed();
    files.count(|counters| {
        counters.syncs += 1;
        counters.sync_errors += u64::from(result.is_err());
        counters.sync_time += took;
        counters.sync_time_max = counters.sync_time_max.max(took);
    });
    if let Err(error) = &result {
        files.tell("sync_failed", ticket.log, error);
    }
    result
}

async fn sync_segment(files: &Files, segment: SegmentRef) -> Result<(), StorageError> {
    let known = files.open.borrow_mut().find(segment);
    let file = match known {
        Some(file) => file,
        None => {
            let name = format!("{}/{}.seg", segment.log, segment.id);
            let file = BufferedFile::open(files.data.join(name)).await;
            let file = Rc::new(file.map_err(|error| fault("open", segment, &error))?);
            files.open.borrow_mut().keep(segment, &file);
            file
        }
    };
    file.fdatasync()
        .await
        .map_err(|error| fault("sync", segment, &error))
}

fn fault(what: &'static str, segment: SegmentRef, error: &GlommioError<()>) -> StorageError {
    let errno = match error {
        GlommioError::IoError(error) => error.raw_os_error(),
        GlommioError::EnhancedIoError { source, .. } => source.raw_os_error(),
        _ => None,
    };
    if errno == Some(libc::ENOENT) {
        return StorageError::Missing { segment };
    }
    StorageError::Io {
        what,
        path: format!("{}/{}.seg", segment.log, segment.id),
        errno: errno.unwrap_or(libc::EIO),
    }
}
