//! Makes segments ready ahead of their use, and recycles those beyond retention, on the executor's helper threads:
//! zero-writing 64 MiB must not hold up a turn.

use std::path::PathBuf;

use partition::{LogId, MappedSegment, MappedStorage, Storage, StorageError};

/// A new spare segment: written, synced, mapped.
pub(crate) async fn prepare(data: PathBuf, log: LogId, bytes: u32) -> Result<MappedSegment, StorageError> {
    glommio::executor().spawn_blocking(move || MappedStorage::new(data).prepare(log, bytes)).await
}

/// Recycle a segment into a spare, or remove it.
pub(crate) async fn retire(
    data: PathBuf,
    log: LogId,
    segment: MappedSegment,
) -> Result<Option<MappedSegment>, StorageError> {
    glommio::executor().spawn_blocking(move || MappedStorage::new(data).retire(log, segment)).await
}
