//! The shard's storage work, carried out beside it: syncs by `flush`, preparation and retirement by `prepare`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glommio::{TaskQueueHandle, spawn_local_into};
use partition::{LogId, MappedSegment, MappedStorage, Segment, SegmentRef};
use shard::{StorageEvent, StorageRequest};

use crate::bell::Bell;
use crate::flush::{Flush, Synced};
use crate::log::{Level, Log};
use crate::prepare;

/// What storage work cost and how it went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileCounters {
    pub(crate) syncs: u64,
    pub(crate) sync_errors: u64,
    pub(crate) sync_time: Duration,
    pub(crate) sync_time_max: Duration,
    pub(crate) prepares: u64,
    pub(crate) prepares_full: u64,
    pub(crate) prepare_time: Duration,
    pub(crate) retired: u64,
    pub(crate) retire_errors: u64,
}

/// Storage work in flight and finished, as the loop sees it.
pub(crate) struct Files {
    flush: Flush,
    tasks: Rc<Tasks>,
    queue: TaskQueueHandle,
}

/// Preparation and retirement: tasks of the executor that finish into an inbox and ring the loop's bell.
pub(crate) struct Tasks {
    /// Used on a helper thread, by one task at a time.
    pub(crate) storage: Arc<Mutex<MappedStorage>>,
    counters: Cell<FileCounters>,
    log: Arc<Log>,
    bell: Rc<Bell>,
    inbox: RefCell<Vec<StorageEvent<MappedSegment>>>,
    in_flight: Cell<usize>,
}

impl Files {
    pub(crate) fn new(
        storage: MappedStorage,
        flush: Flush,
        queue: TaskQueueHandle,
        bell: Rc<Bell>,
        log: Arc<Log>,
    ) -> Self {
        let tasks = Tasks {
            storage: Arc::new(Mutex::new(storage)),
            counters: Cell::default(),
            log,
            bell,
            inbox: RefCell::default(),
            in_flight: Cell::new(0),
        };
        Self {
            flush,
            tasks: Rc::new(tasks),
            queue,
        }
    }

    /// Begin a request; its result comes through [`Files::take`].
    pub(crate) fn begin(&mut self, request: StorageRequest<MappedSegment>) {
        match request {
            StorageRequest::Sync(ticket) => self.flush.begin(ticket),
            StorageRequest::Prepare { log, bytes } => {
                let tasks = Rc::clone(&self.tasks);
                self.spawn(async move { prepare::prepare(&tasks, log, bytes).await });
            }
            StorageRequest::Retire { log, segment } => {
                let id = segment.id();
                self.flush.forget(SegmentRef { log, id });
                let tasks = Rc::clone(&self.tasks);
                self.spawn(async move { prepare::retire(&tasks, log, segment).await });
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.in_flight.set(self.tasks.in_flight.get() + 1);
        spawn_local_into(task, self.queue)
            .expect("the task queues live as long as the executor")
            .detach();
    }

    /// Move finished work to `events`.
    pub(crate) fn take(&mut self, events: &mut Vec<StorageEvent<MappedSegment>>) {
        while let Some(synced) = self.flush.take() {
            self.tasks.count_sync(&synced);
            let Synced { ticket, result, .. } = synced;
            events.push(StorageEvent::Synced { ticket, result });
        }
        events.append(&mut self.tasks.inbox.borrow_mut());
    }

    /// Tasks of the executor begun and not ended. While there are none, the executor has nothing to do.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.in_flight.get()
    }

    /// Whether any work is begun and not ended, syncs included.
    pub(crate) fn is_busy(&self) -> bool {
        self.tasks() > 0 || self.flush.in_flight() > 0
    }

    pub(crate) fn counters(&self) -> FileCounters {
        self.tasks.counters.get()
    }
}

impl Tasks {
    /// One task is done. Every task ends exactly once.
    pub(crate) fn end(&self, event: Option<StorageEvent<MappedSegment>>) {
        self.in_flight.set(self.in_flight.get() - 1);
        self.inbox.borrow_mut().extend(event);
        self.bell.ring();
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut FileCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    fn count_sync(&self, synced: &Synced) {
        self.count(|counters| {
            counters.syncs += 1;
            counters.sync_errors += u64::from(synced.result.is_err());
            counters.sync_time += synced.took;
            counters.sync_time_max = counters.sync_time_max.max(synced.took);
        });
        if let Err(error) = &synced.result {
            self.tell("sync_failed", synced.ticket.log, error);
        }
    }

    pub(crate) fn tell(&self, event: &'static str, log: LogId, error: &dyn std::fmt::Display) {
        self.log
            .event(Level::Error, event, &[("log", &log), ("cause", error)]);
    }
}
