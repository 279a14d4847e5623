//! Stage 6, the durable half: fdatasync of a ticket's segments, on files that stay open per segment.
//!
//! Syncs run on a few threads of their own and their results wake the ring. The kernel hands an fdatasync to a worker thread in any
//! case; through the executor each one cost some 18 heap allocations and several kernel calls on the shard's thread. The shard keeps
//! at most one ticket of a log in flight. A failure is handed back as it is and never tried again: after a failed sync nobody knows
//! what the disk holds.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use partition::{CommitTicket, SegmentRef, StorageError};
use ring::Waker;

use crate::diagnosis::{Diagnosis, EXECUTOR_FAILED, diagnose};

/// Files kept open for syncing; the one used longest ago makes room.
const FILES_MAX: usize = 256;
/// Syncs of different logs that run side by side, so that the device can merge their flushes.
const THREADS_MAX: usize = 4;

/// One finished sync.
pub(crate) struct Synced {
    pub(crate) ticket: CommitTicket,
    pub(crate) result: Result<(), StorageError>,
    pub(crate) took: Duration,
}

/// The sync threads of one shard. Dropping it lets them end.
pub(crate) struct Flush {
    requests: Sender<CommitTicket>,
    finished: Receiver<Synced>,
    in_flight: usize,
    files: Arc<Mutex<OpenFiles>>,
    _threads: Vec<JoinHandle<()>>,
}

/// What a sync thread works with.
struct Worker {
    requests: Receiver<CommitTicket>,
    finished: Sender<Synced>,
    files: Arc<Mutex<OpenFiles>>,
    waker: Waker,
}

impl Flush {
    /// Threads for `logs` logs in the folder `data`.
    pub(crate) fn start(data: &Path, logs: usize, waker: &Waker) -> Result<Self, Diagnosis> {
        // One ticket of a log at a time, so neither channel can be full.
        let (requests, asked) = bounded(logs.max(1));
        let (tell, finished) = bounded(logs.max(1));
        let files = Arc::new(Mutex::new(OpenFiles::new(data)));
        let spawn = |number: usize| {
            let worker = Worker {
                requests: asked.clone(),
                finished: tell.clone(),
                files: Arc::clone(&files),
                waker: waker.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("flush-{number}"));
            thread.spawn(move || worker.run())
        };
        let threads = (0..logs.clamp(1, THREADS_MAX))
            .map(spawn)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| no_thread(&error))?;
        Ok(Self {
            requests,
            finished,
            in_flight: 0,
            files,
            _threads: threads,
        })
    }

    /// Begin a sync; [`Flush::take`] gives its result.
    pub(crate) fn begin(&mut self, ticket: CommitTicket) {
        let begun = self.requests.try_send(ticket);
        begun.expect("there is a place for one ticket of each log, and the threads live as long");
        self.in_flight += 1;
    }

    /// The next finished sync.
    pub(crate) fn take(&mut self) -> Option<Synced> {
        if self.in_flight == 0 {
            return None;
        }
        let synced = self.finished.try_recv().ok()?;
        self.in_flight -= 1;
        Some(synced)
    }

    /// Syncs begun and not taken.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A segment is recycled or removed: it will never be synced under this name again, and an open file would keep its bytes.
    pub(crate) fn forget(&self, segment: SegmentRef) {
        open_files(&self.files)
            .files
            .retain(|(known, _, _)| *known != segment);
    }
}

impl Worker {
    fn run(self) {
        while let Ok(ticket) = self.requests.recv() {
            let began = Instant::now();
            let result = ticket
                .segments
                .iter()
                .try_for_each(|segment| self.sync(*segment));
            let took = began.elapsed();
            let synced = Synced {
                ticket,
                result,
                took,
            };
            if self.finished.send(synced).is_err() {
                return;
            }
            self.waker.wake();
        }
    }

    fn sync(&self, segment: SegmentRef) -> Result<(), StorageError> {
        let file = open_files(&self.files).open(segment)?;
        file.sync_data()
            .map_err(|error| fault("sync", segment, &error))
    }
}

/// Open files by segment.
struct OpenFiles {
    data: PathBuf,
    files: Vec<(SegmentRef, Arc<File>, u64)>,
    used: u64,
}

/// A thread that panicked left the list whole: every change of it is one call.
fn open_files(files: &Mutex<OpenFiles>) -> MutexGuard<'_, OpenFiles> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
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

fn no_thread(error: &std::io::Error) -> Diagnosis {
    diagnose(
        EXECUTOR_FAILED,
        "sync threads",
        error.to_string(),
        format!("{THREADS_MAX} more threads"),
        "raise `ulimit -u`, or the container's limit of processes",
    )
}
