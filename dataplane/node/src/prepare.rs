//! Segments made ready ahead and given back afterwards. Both write, rename and sync, which waits for the disk, so both run on the
//! executor's helper thread, one piece of work at a time; the shard's thread only starts them and takes the result.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use partition::{LogId, MappedSegment, MappedStorage, Storage, StorageError};
use shard::StorageEvent;

use crate::files::Tasks;

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
pub(crate) async fn prepare(tasks: &Tasks, log: LogId, bytes: u32) {
    let began = Instant::now();
    let made = aside(&tasks.storage, move |storage| storage.prepare(log, bytes)).await;
    tasks.count(|counters| counters.prepare_time += began.elapsed());
    match made {
        Ok(segment) => {
            tasks.count(|counters| counters.prepares += 1);
            tasks.end(Some(StorageEvent::Prepared { log, segment }));
        }
        Err(error) => {
            if matches!(error, StorageError::Full { .. }) {
                tasks.count(|counters| counters.prepares_full += 1);
                tasks.tell("disk_full", log, &error);
            } else {
                tasks.tell("prepare_failed", log, &error);
            }
            tasks.end(Some(StorageEvent::PrepareFailed { log, error }));
        }
    }
}

/// Recycle or remove a segment that left its log. A recycled one is offered to the log again.
pub(crate) async fn retire(tasks: &Tasks, log: LogId, segment: MappedSegment) {
    let kept = aside(&tasks.storage, move |storage| storage.retire(log, segment)).await;
    tasks.count(|counters| counters.retired += 1);
    match kept {
        Ok(spare) => tasks.end(spare.map(|segment| StorageEvent::Prepared { log, segment })),
        Err(error) => {
            tasks.count(|counters| counters.retire_errors += 1);
            tasks.tell("retire_failed", log, &error);
            tasks.end(None);
        }
    }
}
