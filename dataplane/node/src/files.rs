//! The shard's storage work, carried out beside it: syncs by `flush`, preparation and retirement by `prepare`.

use std::sync::Arc;
use std::time::Duration;

use partition::{LogId, MappedSegment, Segment, SegmentRef, StorageError};
use ring::Ring;
use shard::{StorageEvent, StorageRequest};

use crate::durations::Durations;
use crate::flush::{Flush, Synced};
use crate::log::{Level, Log};
use crate::prepare::{Done, Job, Preparer};

/// What storage work cost and how it went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileCounters {
    pub(crate) sync_errors: u64,
    pub(crate) sync_times: Durations,
    pub(crate) prepares: u64,
    pub(crate) prepares_full: u64,
    pub(crate) prepare_time: Duration,
    pub(crate) retired: u64,
    pub(crate) retire_errors: u64,
}

impl FileCounters {
    /// Count what another shard's files counted, too.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            sync_errors,
            sync_times,
            prepares,
            prepares_full,
            prepare_time,
            retired,
            retire_errors,
        } = other;
        self.sync_errors += sync_errors;
        self.sync_times.add(sync_times);
        self.prepares += prepares;
        self.prepares_full += prepares_full;
        self.prepare_time += *prepare_time;
        self.retired += retired;
        self.retire_errors += retire_errors;
    }
}

/// Storage work in flight and finished, as the loop sees it.
pub(crate) struct Files {
    flush: Flush,
    preparer: Preparer,
    counters: FileCounters,
    log: Arc<Log>,
}

impl Files {
    pub(crate) fn new(flush: Flush, preparer: Preparer, log: Arc<Log>) -> Self {
        Self {
            flush,
            preparer,
            counters: FileCounters::default(),
            log,
        }
    }

    /// Begin a request; its result comes through [`Files::take`].
    pub(crate) fn begin(&mut self, ring: &mut Ring, request: StorageRequest<MappedSegment>) {
        match request {
            StorageRequest::Sync(ticket) => self.flush.begin(ring, ticket),
            StorageRequest::Prepare { log, bytes } => {
                self.preparer.begin(Job::Prepare(log, bytes));
            }
            StorageRequest::Retire { log, segment } => {
                let id = segment.id();
                self.flush.forget(SegmentRef { log, id });
                self.preparer.begin(Job::Retire(log, segment));
            }
        }
    }

    /// The ring told the end of a sync.
    pub(crate) fn synced(&mut self, token: u64, result: Result<(), i32>) {
        self.flush.ended(token, result);
    }

    /// Move finished work to `events`.
    pub(crate) fn take(&mut self, events: &mut Vec<StorageEvent<MappedSegment>>) {
        while let Some(synced) = self.flush.take() {
            self.count_sync(&synced);
            let Synced { ticket, result, .. } = synced;
            events.push(StorageEvent::Synced { ticket, result });
        }
        while let Some(done) = self.preparer.take() {
            events.extend(match done {
                Done::Prepared { log, made, took } => Some(self.prepared(log, made, took)),
                Done::Retired { log, kept } => self.retired(log, kept),
            });
        }
    }

    /// Whether any work is begun and not ended.
    pub(crate) fn is_busy(&self) -> bool {
        self.preparer.in_flight() > 0 || self.flush.in_flight() > 0
    }

    pub(crate) fn counters(&self) -> FileCounters {
        self.counters
    }

    /// The shard asks again when it failed.
    fn prepared(
        &mut self,
        log: LogId,
        made: Result<MappedSegment, StorageError>,
        took: Duration,
    ) -> StorageEvent<MappedSegment> {
        self.counters.prepare_time += took;
        match made {
            Ok(segment) => {
                self.counters.prepares += 1;
                StorageEvent::Prepared { log, segment }
            }
            Err(error) => {
                let full = matches!(error, StorageError::Full { .. });
                self.counters.prepares_full += u64::from(full);
                let event = if full { "disk_full" } else { "prepare_failed" };
                self.tell(event, log, &error);
                StorageEvent::PrepareFailed { log, error }
            }
        }
    }

    fn retired(
        &mut self,
        log: LogId,
        kept: Result<Option<MappedSegment>, StorageError>,
    ) -> Option<StorageEvent<MappedSegment>> {
        self.counters.retired += 1;
        match kept {
            Ok(spare) => spare.map(|segment| StorageEvent::Prepared { log, segment }),
            Err(error) => {
                self.counters.retire_errors += 1;
                self.tell("retire_failed", log, &error);
                Some(StorageEvent::PrepareFailed { log, error })
            }
        }
    }

    fn count_sync(&mut self, synced: &Synced) {
        self.counters.sync_errors += u64::from(synced.result.is_err());
        self.counters.sync_times.note(synced.took);
        if let Err(error) = &synced.result {
            self.tell("sync_failed", synced.ticket.log, error);
        }
    }

    fn tell(&self, event: &'static str, log: LogId, error: &dyn std::fmt::Display) {
        self.log
            .event(Level::Error, event, &[("log", &log), ("cause", error)]);
    }
}
