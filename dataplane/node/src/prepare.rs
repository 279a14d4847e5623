//! Segments made ready ahead and given back afterwards. Both write, rename and sync, which waits for the disk, so both run on the
//! executor's helper thread, one piece of work at a time; the shard's thread only starts them and takes the result.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use partition::{LogId, MappedSegment, MappedStorage, Segment, SegmentRef, Storage, StorageError};
use shard::StorageEvent;

use crate::files::Files;

/// Run `work` on the helper thread.
async fn aside<T: Send + 'static>(
    storage: &Arc<Mutex<MappedStorage>>,
    work: impl FnOnce(&mut MappedStorage) -> T + Send + 'static,
) -> T {
    let storage = Arc::clone(storage);
    let job = move || work(&mut storage.lock().unwrap_or_else(PoisonError::into_inner));
    glommio::executor().spawn_blocking(job).await
}

/// Prepare a spare: zero-written in steps of 64 KiB, synced, mapped. The shard asks again when it failed.
pub(crate) async fn prepare(files: &Files, log: LogId, bytes: u32) {
    let began = Instant::now();
    let made = aside(&files.storage, move |storage| storage.prepare(log, bytes)).await;
    files.count(|counters| counters.prepare_time += began.elapsed());
    match made {
        Ok(segment) => {
            files.count(|counters| counters.prepares += 1);
            files.end(Some(StorageEvent::Prepared { log, segment }));
        }
        Err(error) => {
            if matches!(error, StorageError::Full { .. }) {
                files.count(|counters| counters.prepares_full += 1);
                files.tell("disk_full", log, &error);
            } else {
                files.tell("prepare_failed", log, &error);
            }
            files.end(Some(StorageEvent::PrepareFailed { log, error }));
        }
    }
}

/// Recycle or remove a segment that left its log. A recycled one is offered to the log again.
pub(crate) async fn retire(files: &Files, log: LogId, segment: MappedSegment) {
    let id = segment.id();
    files.open.borrow_mut().forget(SegmentRef { log, id });
    let kept = aside(&files.storage, move |storage| storage.retire(log, segment)).await;
    files.count(|counters| counters.retired += 1);
    match kept {
        Ok(spare) => files.end(spare.map(|segment| StorageEvent::Prepared { log, segment })),
        Err(error) => {
            files.count(|counters| counters.retire_errors += 1);
            files.tell("retire_failed", log, &error);
            files.end(None);
        }
    }
}
