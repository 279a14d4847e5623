//! Where the shards of a node meet once, after each has opened its logs and before any serves: queues are opened with the ends of
//! all logs, and the ways between shards are made of all wakers.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ring::Waker;
use shard::queue::LogEnd;

use crate::between::{Item, ROOM};
use crate::mesh::{Port, mesh};

/// See the module.
#[derive(Default)]
pub(crate) struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By shard.
    brought: Vec<Option<(Waker, Vec<LogEnd>)>>,
    /// Made when the last one has come.
    ports: Vec<Option<Port<Item, Waker>>>,
    ends: Arc<[LogEnd]>,
    broken: bool,
}

/// The ends of all logs, and the way to the other shards if there are any.
pub(crate) type Met = (Arc<[LogEnd]>, Option<Port<Item, Waker>>);

/// Somebody did not come.
#[derive(Debug)]
pub(crate) struct Broken;

impl Meeting {
    /// Of so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        let meeting = Self::default();
        meeting.state().brought.resize_with(shards, || None);
        meeting
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Come with the way to wake this shard's loop and the ends of its logs; wait for all others. Gives the ends of all logs, and
    /// the way to the other shards if there are any.
    ///
    /// # Errors
    /// Another shard ended before it came.
    pub(crate) fn meet(
        &self,
        shard: usize,
        waker: Waker,
        ends: Vec<LogEnd>,
    ) -> Result<Met, Broken> {
        let mut state = self.state();
        state.brought[shard] = Some((waker, ends));
        if state.brought.iter().all(Option::is_some) {
            state.open();
            self.changed.notify_all();
        }
        while state.ports.is_empty() && !state.broken {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.broken {
            return Err(Broken);
        }
        let port = state.ports[shard].take().filter(|_| state.ports.len() > 1);
        Ok((Arc::clone(&state.ends), port))
    }

    /// A shard has ended: who waits for it need not.
    pub(crate) fn leave(&self) {
        self.state().broken = true;
        self.changed.notify_all();
    }
}

impl State {
    fn open(&mut self) {
        let brought = self.brought.iter().flatten();
        let wakers: Vec<Waker> = brought.clone().map(|(waker, _)| waker.clone()).collect();
        self.ends = brought.flat_map(|(_, ends)| ends).copied().collect();
        self.ports = mesh(&wakers, ROOM).into_iter().map(Some).collect();
    }
}
