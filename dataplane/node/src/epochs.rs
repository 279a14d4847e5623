//! Which epoch of the route table each shard has, for those who wait until all have one.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The epochs of all shards. They change with a new table alone, so a lock is cheap enough.
#[derive(Debug)]
pub(crate) struct Epochs {
    of: Mutex<Vec<u64>>,
    changed: Condvar,
}

impl Epochs {
    /// Of so many shards, none of which has a table.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            of: Mutex::new(vec![0; shards]),
            changed: Condvar::new(),
        }
    }

    /// A shard has this epoch from now on.
    pub(crate) fn note(&self, shard: usize, epoch: u64) {
        // A number is whole, whoever panicked beside it.
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of[shard] = epoch;
        self.changed.notify_all();
    }

    /// No shard has what the next epochs stand for: they are counted from a lower one again.
    pub(crate) fn forget(&self) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.fill(0);
    }

    /// Wait until every shard has this epoch or a later one, at most so long; the epochs then.
    pub(crate) fn wait(&self, epoch: u64, within: Duration) -> Vec<u64> {
        let by = Instant::now() + within;
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        while of.iter().any(|has| *has < epoch) {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(of, left);
            of = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        of.clone()
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
                epochs.note(shard, epoch);
            }
            assert_eq!(waiter.join().expect("it waits"), [8, 7, 9]);
        });
    }
}
