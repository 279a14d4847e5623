//! Making files durable beside the sockets: the kernel's own threads wait for the disk, and the end of
//! a sync is a completion like any other, so it wakes the owner without a system call of anybody.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{cqueue, opcode};

use crate::event::Event;
use crate::ring::Ring;
use crate::token::{self, Key, Kind};

/// Syncs in flight at once.
pub(crate) const SYNCS_MAX: u32 = 1 << 16;

/// A file that is being synced, kept open until it is.
pub(crate) struct Sync {
    _file: Arc<File>,
    token: u64,
}

impl Ring {
    /// Make durable what was written to this file before, as fdatasync does; `Event::Synced` tells when
    /// that ended. Several syncs, of one file or of many, run side by side and end in any order. Leaves
    /// with the next `poll`, `wait` or `submit`.
    ///
    /// # Panics
    /// When 65,536 syncs are in flight.
    pub fn sync_data(&mut self, file: Arc<File>, token: u64) {
        let fd = Fd(file.as_raw_fd());
        let key = self.syncs.insert(Sync { _file: file, token });
        self.counters.syncs += 1;
        let entry = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build();
        let entry = entry.user_data(token::pack(Kind::Sync, key));
        // SAFETY: the file stays open in its slot until the completion; no memory is named.
        unsafe { self.kernel.push(entry, &mut self.counters) };
    }

    /// Syncs begun whose end has not been told.
    #[must_use]
    pub fn syncs(&self) -> usize {
        self.syncs.len()
    }

    /// A sync ended.
    pub(crate) fn on_sync(&mut self, key: Key, entry: &cqueue::Entry, events: &mut Vec<Event>) {
        let ended = self.syncs.remove(key);
        let Sync { token, .. } = ended.expect("a slot waits for its completion");
        let result = match entry.result() {
            0.. => Ok(()),
            errno => Err(-errno),
        };
        events.push(Event::Synced { token, result });
    }
}
