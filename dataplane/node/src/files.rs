//! The shard's storage work, carried out beside it: syncs in `flush`, preparation and retirement in `prepare`.
//!
//! Finished work waits in an inbox and rings the loop's bell; the loop hands it to the next turn.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glommio::{TaskQueueHandle, spawn_local_into};
use partition::{LogId, MappedSegment, MappedStorage};
use shard::{StorageEvent, StorageRequest};

use crate::bell::Bell;
use crate::flush::{self, OpenFiles};
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

/// Where each kind of work runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queues {
    pub(crate) flush: TaskQueueHandle,
    pub(crate) prepare: TaskQueueHandle,
}

/// Storage work in flight and finished. Lives on the shard's thread.
pub(crate) struct Files {
    pub(crate) data: PathBuf,
    pub(crate) open: RefCell<OpenFiles>,
    /// For preparation and retirement, which run on a helper thread, one at a time.
    pub(crate) storage: Arc<Mutex<MappedStorage>>,
    pub(crate) counters: Cell<FileCounters>,
    pub(crate) log: Arc<Log>,
    bell: Rc<Bell>,
    queues: Queues,
    inbox: RefCell<Vec<StorageEvent<MappedSegment>>>,
    in_flight: Cell<usize>,
}

impl Files {
    pub(crate) fn new(
        storage: MappedStorage,
        queues: Queues,
        bell: Rc<Bell>,
        log: Arc<Log>,
    ) -> Rc<Self> {
        Rc::new(Self {
            data: storage.data().to_owned(),
            open: RefCell::default(),
            storage: Arc::new(Mutex::new(storage)),
            counters: Cell::default(),
            log,
            bell,
            queues,
            inbox: RefCell::default(),
            in_flight: Cell::new(0),
        })
    }

    /// Begin a request; its result comes through [`Files::take`].
    pub(crate) fn begin(self: &Rc<Self>, request: StorageRequest<MappedSegment>) {
        self.in_flight.set(self.in_flight.get() + 1);
        let files = Rc::clone(self);
        let (queue, task) = match request {
            StorageRequest::Sync(ticket) => {
                let task: Boxed = Box::pin(async move {
                    let result = flush::sync(&files, &ticket).await;
                    files.end(Some(StorageEvent::Synced { ticket, result }));
                });
                (self.queues.flush, task)
            }
            StorageRequest::Prepare { log, bytes } => {
                let task: Boxed =
                    Box::pin(async move { prepare::prepare(&files, log, bytes).await });
                (self.queues.prepare, task)
            }
            StorageRequest::Retire { log, segment } => {
                let task: Boxed =
                    Box::pin(async move { prepare::retire(&files, log, segment).await });
                (self.queues.prepare, task)
            }
        };
        let spawned = spawn_local_into(task, queue);
        spawned
            .expect("the task queues live as long as the executor")
            .detach();
    }

    /// One request is done. Every request ends exactly once.
    pub(crate) fn end(&self, event: Option<StorageEvent<MappedSegment>>) {
        self.in_flight.set(self.in_flight.get() - 1);
        self.inbox.borrow_mut().extend(event);
        self.bell.ring();
    }

    /// Move finished work to `events`.
    pub(crate) fn take(&self, events: &mut Vec<StorageEvent<MappedSegment>>) {
        events.append(&mut self.inbox.borrow_mut());
    }

    /// Work begun and not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Whether finished work waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.inbox.borrow().is_empty()
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut FileCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    pub(crate) fn tell(&self, event: &'static str, log: LogId, error: &dyn std::fmt::Display) {
        self.log
            .event(Level::Error, event, &[("log", &log), ("cause", error)]);
    }
}

type Boxed = std::pin::Pin<Box<dyn Future<Output = ()>>>;
