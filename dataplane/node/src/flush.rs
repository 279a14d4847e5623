//! Stage 6, the durable half: fdatasync of a ticket's segments, on files that stay open per segment.
//!
//! The ring carries syncs out beside the sockets: their end is a completion like any other and wakes the loop without a system call
//! of anybody. The shard keeps at most one ticket of a log in flight. A failure is handed back as it is and never tried again: after
//! a failed sync nobody knows what the disk holds.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use partition::{CommitTicket, SegmentRef, StorageError};
use ring::Ring;

/// Files kept open for syncing; the one used longest ago makes room.
const FILES_MAX: usize = 256;

/// One finished sync.
pub(crate) struct Synced {
    pub(crate) ticket: CommitTicket,
    pub(crate) result: Result<(), StorageError>,
    pub(crate) took: Duration,
}

/// The syncs of one shard.
pub(crate) struct Flush {
    files: OpenFiles,
    /// Tickets in flight, by place; a place is used again.
    places: Vec<Option<Pending>>,
    finished: Vec<Synced>,
    in_flight: usize,
}

/// A ticket whose segments are being synced, side by side.
struct Pending {
    ticket: CommitTicket,
    began: Instant,
    left: usize,
    result: Result<(), StorageError>,
}

impl Flush {
    /// For the logs in the folder `data`.
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            files: OpenFiles::new(data),
            places: Vec::new(),
            finished: Vec::new(),
            in_flight: 0,
        }
    }

    /// Begin a sync; [`Flush::take`] gives its result.
    pub(crate) fn begin(&mut self, ring: &mut Ring, ticket: CommitTicket) {
        let free = self.places.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let mut pending = Pending {
            began: Instant::now(),
            left: 0,
            result: Ok(()),
            ticket,
        };
        for (number, segment) in pending.ticket.segments.iter().enumerate() {
            match self.files.open(*segment) {
                Ok(file) => {
                    ring.sync_data(file, token(place, number));
                    pending.left += 1;
                }
                Err(error) => pending.result = Err(error),
            }
        }
        self.in_flight += 1;
        self.places[place] = Some(pending);
        self.finish(place);
    }

    /// The ring told the end of one segment's sync.
    pub(crate) fn ended(&mut self, token: u64, result: Result<(), i32>) {
        let (place, number) = untoken(token);
        let pending = self.places.get_mut(place).and_then(Option::as_mut);
        let pending = pending.expect("a place is kept until all its syncs have ended");
        pending.left -= 1;
        if let (Err(errno), Ok(())) = (result, &pending.result) {
            let segment = pending.ticket.segments[number];
            let error = std::io::Error::from_raw_os_error(errno);
            pending.result = Err(fault("sync", segment, &error));
        }
        self.finish(place);
    }

    fn finish(&mut self, place: usize) {
        if let Some(done) = self.places[place].take_if(|pending| pending.left == 0) {
            self.finished.push(Synced {
                ticket: done.ticket,
                result: done.result,
                took: done.began.elapsed(),
            });
        }
    }

    /// The next finished sync.
    pub(crate) fn take(&mut self) -> Option<Synced> {
        let synced = self.finished.pop()?;
        self.in_flight -= 1;
        Some(synced)
    }

    /// Syncs begun and not taken.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A segment is recycled or removed: it will never be synced under this name again, and an open file would keep its bytes.
    pub(crate) fn forget(&mut self, segment: SegmentRef) {
        self.files.forget(segment);
    }
}

/// Place of the ticket and number of the segment in it.
fn token(place: usize, number: usize) -> u64 {
    (place as u64) << 32 | number as u64
}

fn untoken(token: u64) -> (usize, usize) {
    (
        (token >> 32) as usize,
        (token & u64::from(u32::MAX)) as usize,
    )
}

/// Open files by segment.
struct OpenFiles {
    data: PathBuf,
    files: Vec<(SegmentRef, Arc<File>, u64)>,
    used: u64,
}

impl OpenFiles {
    fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            files: Vec::with_capacity(FILES_MAX),
            used: 0,
        }
    }

    fn open(&mut self, segment: SegmentRef) -> Result<Arc<File>, StorageError> {
        self.used += 1;
        let mut known = self.files.iter_mut();
        if let Some(found) = known.find(|(known, _, _)| *known == segment) {
            found.2 = self.used;
            return Ok(Arc::clone(&found.1));
        }
        let name = format!("{}/{}.seg", segment.log, segment.id);
        let file = File::options()
            .read(true)
            .write(true)
            .open(self.data.join(name))
            .map_err(|error| fault("open", segment, &error))?;
        if self.files.len() >= FILES_MAX {
            let oldest = (0..self.files.len()).min_by_key(|place| self.files[*place].2);
            self.files.swap_remove(oldest.expect("there are some"));
        }
        let file = Arc::new(file);
        self.files.push((segment, Arc::clone(&file), self.used));
        Ok(file)
    }

    fn forget(&mut self, segment: SegmentRef) {
        self.files.retain(|(known, _, _)| *known != segment);
    }
}

fn fault(what: &'static str, segment: SegmentRef, error: &std::io::Error) -> StorageError {
    match error.kind() {
        std::io::ErrorKind::NotFound => StorageError::Missing { segment },
        _ => StorageError::Io {
            what,
            path: format!("{}/{}.seg", segment.log, segment.id),
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        },
    }
}
