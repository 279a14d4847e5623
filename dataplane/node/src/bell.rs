//! How the loop sleeps: until the ring has completions, another thread wakes it, or a task of this executor rings.
//!
//! A reader task keeps one read of the ring's eventfd outstanding in glommio. Polling the ring's own descriptor would lose wake-ups
//! under `DEFER_TASKRUN`. Every ring of the bell is a hint: the loop looks again at everything.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::io::BufferedFile;

/// Rung by tasks of this thread, awaited by the loop.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Cell<bool>,
    sleeper: RefCell<Option<Waker>>,
}

impl Bell {
    /// Wake the loop, now or when it next wants to sleep.
    pub(crate) fn ring(&self) {
        self.rung.set(true);
        if let Some(sleeper) = self.sleeper.borrow_mut().take() {
            sleeper.wake();
        }
    }

    /// Until the bell rings. Rings before the call count.
    pub(crate) async fn wait(&self) {
        poll_fn(|context| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            let mut sleeper = self.sleeper.borrow_mut();
            if !sleeper
                .as_ref()
                .is_some_and(|known| known.will_wake(context.waker()))
            {
                *sleeper = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Ring now and then, so that the loop sees its own deadlines while it waits for slow storage.
    pub(crate) async fn ring_every(self: Rc<Self>, period: Duration) {
        loop {
            glommio::timer::sleep(period).await;
            self.ring();
        }
    }

    /// Ring whenever the eventfd is written, until reading it fails.
    pub(crate) async fn ring_for(self: Rc<Self>, eventfd: BufferedFile) {
        while eventfd.read_at(0, 8).await.is_ok() {
            self.ring();
        }
    }
}
