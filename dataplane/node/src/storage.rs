//! Storage work that turns ask for, done beside the loop: syncs on the executor's own ring, preparation on a helper
//! thread at low shares. Results go into an inbox and wake the loop.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use glommio::TaskQueueHandle;
use partition::{MappedSegment, StorageError};
use shard::{StorageEvent, StorageRequest};

use crate::diagnosis::{Diagnosis, EXECUTOR_FAILED, diagnose};
use crate::flush::Flush;
use crate::prepare;

/// Where results of storage work wait for the next turn.
#[derive(Clone)]
pub(crate) struct Inbox {
    events: Rc<RefCell<VecDeque<StorageEvent<MappedSegment>>>>,
    waker: ring::Waker,
}

impl Inbox {
    pub(crate) fn new(waker: ring::Waker) -> Self {
        Self {
            events: Rc::default(),
            waker,
        }
    }

    /// Leave a result, and wake the loop for it.
    pub(crate) fn put(&self, event: StorageEvent<MappedSegment>) {
        self.events.borrow_mut().push_back(event);
        self.waker.wake();
    }

    /// Move what is there to the end of `out`.
    pub(crate) fn take(&self, out: &mut Vec<StorageEvent<MappedSegment>>) {
        out.extend(self.events.borrow_mut().drain(..));
    }
}

/// Hands requests to the tasks that carry them out.
pub(crate) struct Storage {
    inbox: Inbox,
    flush: Flush,
    data: PathBuf,
    flush_queue: TaskQueueHandle,
    prepare_queue: TaskQueueHandle,
}

impl Storage {
    pub(crate) fn new(inbox: Inbox, data: PathBuf, flush_queue: TaskQueueHandle, prepare_queue: TaskQueueHandle) -> Self {
        Self {
            flush: Flush::new(data.clone()),
            inbox,
            data,
            flush_queue,
            prepare_queue,
        }
    }

    /// Begin one request. Every request but `Retire` is answered through the inbox, exactly once.
    pub(crate) fn begin(&self, request: StorageRequest<MappedSegment>) -> Result<(), Diagnosis> {
        let inbox = self.inbox.clone();
        match request {
            StorageRequest::Sync(ticket) => {
                let flush = self.flush.clone();
                let task = async move {
                    let result = flush.sync(&ticket).await;
                    inbox.put(StorageEvent::Synced { ticket, result });
                };
                spawn(task, self.flush_queue)
            }
            StorageRequest::Prepare { log, bytes } => {
                let data = self.data.clone();
                let task = async move {
                    inbox.put(match prepare::prepare(data, log, bytes).await {
                        Ok(segment) => StorageEvent::Prepared { log, segment },
                        Err(error) => StorageEvent::PrepareFailed { log, error },
                    });
                };
                spawn(task, self.prepare_queue)
            }
            StorageRequest::Retire { log, segment } => {
                self.flush.forget(&segment);
                let data = self.data.clone();
                let task = async move {
                    match prepare::retire(data, log, segment).await {
                        Ok(Some(segment)) => inbox.put(StorageEvent::Prepared { log, segment }),
                        Ok(None) => {}
                        Err(error) => inbox.put(StorageEvent::PrepareFailed { log, error }),
                    }
                };
                spawn(task, self.prepare_queue)
            }
        }
    }
}

fn spawn(task: impl Future<Output = ()> + 'static, queue: TaskQueueHandle) -> Result<(), Diagnosis> {
    let task = glommio::spawn_local_into(task, queue).map_err(|error| {
        diagnose(
            EXECUTOR_FAILED,
            "task queue of the executor",
            error.to_string(),
            "the queue made at start",
            "this is a fault of the program; please report it",
        )
    })?;
    task.detach();
    Ok(())
}

/// The error of a file operation of the executor's, as storage names it.
pub(crate) fn fault(what: &'static str, path: &std::path::Path, error: std::io::Error) -> StorageError {
    StorageError::io(what, path, &error)
}
