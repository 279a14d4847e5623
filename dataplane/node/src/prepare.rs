//! Segments made ready ahead and given back afterwards. Both write, rename and sync, which waits for the disk, so both run on a
//! thread of their own, one piece of work at a time; the shard's thread only hands them over and takes the result.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use partition::{LogId, MappedSegment, MappedStorage, Storage, StorageError};
use ring::Waker;

use crate::diagnosis::{Diagnosis, EXECUTOR_FAILED, diagnose};

/// One piece of work.
pub(crate) enum Job {
    /// Make a spare of so many bytes: zero-written, synced, mapped.
    Prepare(LogId, u32),
    /// Recycle or remove a segment that left its log.
    Retire(LogId, MappedSegment),
}

/// One finished piece of work.
pub(crate) enum Done {
    Prepared {
        log: LogId,
        made: Result<MappedSegment, StorageError>,
        took: Duration,
    },
    /// A recycled segment is a spare of its log again.
    Retired {
        log: LogId,
        kept: Result<Option<MappedSegment>, StorageError>,
    },
}

/// The thread. Dropping this lets it end.
pub(crate) struct Preparer {
    jobs: Sender<Job>,
    done: Receiver<Done>,
    in_flight: usize,
    _thread: JoinHandle<()>,
}

impl Preparer {
    /// The shard asks for one spare of a log at a time and retires segments that exist, so neither queue grows beyond the files of
    /// the data folder.
    pub(crate) fn start(
        shard: usize,
        mut storage: MappedStorage,
        waker: Waker,
    ) -> Result<Self, Diagnosis> {
        let (jobs, asked) = unbounded::<Job>();
        let (tell, done) = unbounded();
        let work = move || {
            while let Ok(job) = asked.recv() {
                if tell.send(carry_out(&mut storage, job)).is_err() {
                    return;
                }
                waker.wake();
            }
        };
        let thread = std::thread::Builder::new().name(format!("prepare-{shard}"));
        let thread = thread.spawn(work).map_err(|error| no_thread(&error))?;
        Ok(Self {
            jobs,
            done,
            in_flight: 0,
            _thread: thread,
        })
    }

    /// Begin a piece of work; [`Preparer::take`] gives its result.
    pub(crate) fn begin(&mut self, job: Job) {
        let begun = self.jobs.send(job);
        begun.expect("the thread ends only when its jobs do");
        self.in_flight += 1;
    }

    /// The next finished piece of work.
    pub(crate) fn take(&mut self) -> Option<Done> {
        if self.in_flight == 0 {
            return None;
        }
        let done = self.done.try_recv().ok()?;
        self.in_flight -= 1;
        Some(done)
    }

    /// Pieces begun and not taken.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

fn carry_out(storage: &mut MappedStorage, job: Job) -> Done {
    match job {
        Job::Prepare(log, bytes) => {
            let began = Instant::now();
            let made = storage.prepare(log, bytes);
            let took = began.elapsed();
            Done::Prepared { log, made, took }
        }
        Job::Retire(log, segment) => Done::Retired {
            log,
            kept: storage.retire(log, segment),
        },
    }
}

fn no_thread(error: &std::io::Error) -> Diagnosis {
    diagnose(
        EXECUTOR_FAILED,
        "preparing thread",
        error.to_string(),
        "one more thread",
        "raise `ulimit -u`, or the container's limit of processes",
    )
}
