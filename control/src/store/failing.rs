//! A disk that fails when a test says so.

use std::cell::Cell;
use std::io;
use std::ops::Bound;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

thread_local! {
    /// How many writes succeed before they fail, and how many fail then.
    static FAILS: Cell<Option<(u32, u32)>> = const { Cell::new(None) };
}

/// From now on, of the writes and syncs of this thread, so many succeed, then so many fail.
pub(crate) fn fail(behind: u32, count: u32) {
    FAILS.set(Some((behind, count)));
}

/// Whether there was a failure at all since.
pub(crate) fn heal() -> bool {
    !matches!(FAILS.take(), Some((_, left)) if left > 0)
}

fn pass() -> io::Result<()> {
    match FAILS.get() {
        Some((0, 0)) | None => Ok(()),
        Some((0, left)) => {
            FAILS.set(Some((0, left - 1)));
            Err(io::ErrorKind::StorageFull.into())
        }
        Some((behind, left)) => {
            FAILS.set(Some((behind - 1, left)));
            Ok(())
        }
    }
}

/// The file, unless it fails.
#[derive(Debug)]
pub(super) struct Failing(pub(super) FileBackend);

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        // What was written is on the disk, though nobody is told.
        self.0.sync_data().and_then(|()| pass())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        pass().and_then(|()| self.0.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
