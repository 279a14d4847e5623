//! What a side of the link shows and whom it trusts, which may be replaced while it runs: whoever connects a moment later meets the new one.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Makes the tunnels of one side; [`tls::LinkServer`] or [`tls::LinkClient`].
#[derive(Debug, Clone)]
pub struct Credentials<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    now: Mutex<T>,
    /// How often another authority was put in the place of one.
    authorities: watch::Sender<u64>,
}

impl<T: Clone> Credentials<T> {
    /// Those to begin with.
    #[must_use]
    pub fn new(now: T) -> Self {
        Self(Arc::new(Inner {
            now: Mutex::new(now),
            authorities: watch::channel(0).0,
        }))
    }

    /// Use these from now on. If the authority is another one, connections that stand end, and are made anew: who was let in by the one
    /// before has to be let in again.
    pub fn replace(&self, new: T, another_authority: bool) {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner) = new;
        if another_authority {
            self.0.authorities.send_modify(|count| *count += 1);
        }
    }

    pub(crate) fn current(&self) -> T {
        // It is replaced whole, whoever panicked beside it.
        let now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }

    /// The trust of now: to be asked for before a tunnel is made of it.
    pub(crate) fn trust(&self) -> Trust {
        Trust(self.0.authorities.subscribe())
    }
}

/// Tells when another authority takes the place of the one there was.
pub(crate) struct Trust(watch::Receiver<u64>);

impl Trust {
    /// Wait until it does. Nothing is lost when the future is dropped before it is done.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left to replace it.
            std::future::pending::<()>().await;
        }
    }
}
