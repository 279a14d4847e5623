//! Which epoch of the route table each shard has, for those who wait until all have one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The epochs of all shards. They change with a new table alone, so a lock is cheap enough.
#[derive(Debug)]
pub(crate) struct Epochs {
    of: Mutex<Of>,
    changed: Condvar,
}

#[derive(Debug)]
struct Of {
    /// How often epochs were counted anew. A shard may still have a table of before on its way.
    past: u64,
    shards: Vec<u64>,
}

impl Epochs {
    /// Of so many shards, none of which has a table.
    pub(crate) fn new(shards: usize) -> Self {
        let shards = vec![0; shards];
        Self {
            of: Mutex::new(Of { past: 0, shards }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Of> {
        // A number is whole, whoever panicked beside it.
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard has this epoch of this past from now on. One of an earlier past says nothing.
    pub(crate) fn note(&self, shard: usize, past: u64, epoch: u64) {
        let mut of = self.lock();
        if past == of.past {
            of.shards[shard] = epoch;
            self.changed.notify_all();
        }
    }

    /// The past that epochs are counted in.
    pub(crate) fn past(&self) -> u64 {
        self.lock().past
    }

    /// No shard has what the next epochs stand for: they are counted in this past from now on.
    pub(crate) fn forget(&self) -> u64 {
        let mut of = self.lock();
        of.past += 1;
        of.shards.fill(0);
        of.past
    }

    /// Wait until every shard has this epoch or a later one, at most so long; the epochs then.
    pub(crate) fn wait(&self, epoch: u64, within: Duration) -> Vec<u64> {
        let by = Instant::now() + within;
        let mut of = self.lock();
        while of.shards.iter().any(|has| *has < epoch) {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(of, left);
            of = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        of.shards.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_an_epoch_goes_on_when_the_last_shard_has_it_or_a_later_one() {
        let epochs = Epochs::new(3);
        assert_eq!(epochs.wait(1, Duration::ZERO), [0, 0, 0], "nobody has it");
        assert_eq!(
            epochs.wait(0, Duration::from_secs(600)),
            [0, 0, 0],
            "everybody has it"
        );
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| epochs.wait(7, Duration::from_secs(600)));
            for (shard, epoch) in [(1, 7), (0, 6), (2, 9), (0, 8)] {
                epochs.note(shard, 0, epoch);
            }
            assert_eq!(waiter.join().expect("it waits"), [8, 7, 9]);
        });
    }

    #[test]
    fn an_epoch_of_another_past_is_none_of_this_one_however_late_a_shard_comes_to_it() {
        let epochs = Epochs::new(2);
        let before = epochs.past();
        epochs.note(0, before, 60);
        epochs.note(1, before, 59);
        // A store that was restored is at 51, and one shard has a table of before still to come to.
        let past = epochs.forget();
        epochs.note(1, before, 60);
        assert_eq!(epochs.wait(51, Duration::ZERO), [0, 0]);
        epochs.note(0, past, 51);
        assert_eq!(epochs.wait(51, Duration::ZERO), [51, 0]);
        epochs.note(1, past, 51);
        assert_eq!(epochs.wait(51, Duration::ZERO), [51, 51]);
    }
}
