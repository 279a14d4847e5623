//! The end of a node: who has ended, and how long whoever waits for the others still waits.
//!
//! A shard that is told to stop drains and ends. One that stands still, held up by a disk that never answers or by a fault of ours,
//! would keep the process from ending for good; so it is given up some time after the stop, and named.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::diagnosis::{Diagnosis, SHARD_STOPPED, diagnose};
use crate::start::Summary;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ending {
    state: Mutex<State>,
    changed: Condvar,
    patience: Duration,
}

#[derive(Debug)]
struct State {
    /// When a stop was asked for first.
    asked: Option<Instant>,
    /// By shard.
    ended: Vec<bool>,
}

impl Ending {
    /// Of so many shards, which may take `drain` to stop.
    pub(crate) fn new(shards: usize, drain: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                asked: None,
                ended: vec![false; shards],
            }),
            changed: Condvar::new(),
            patience: 2 * drain + Duration::from_secs(1),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stop was asked for.
    pub(crate) fn ask(&self) {
        self.state().asked.get_or_insert_with(Instant::now);
        self.changed.notify_all();
    }

    /// A shard's thread ends, for whatever reason.
    pub(crate) fn end(&self, shard: usize) {
        self.state().ended[shard] = true;
        self.changed.notify_all();
    }

    /// Wait until every shard has ended, or has not done so long after a stop was asked for. Which have not.
    pub(crate) fn wait(&self) -> Vec<usize> {
        let mut state = self.state();
        loop {
            let left = match state.asked {
                _ if state.ended.iter().all(|ended| *ended) => Duration::ZERO,
                Some(asked) => self.patience.saturating_sub(asked.elapsed()),
                None => Duration::MAX,
            };
            if left.is_zero() {
                let ended = state.ended.iter().enumerate();
                return ended
                    .filter_map(|(shard, ended)| (!ended).then_some(shard))
                    .collect();
            }
            let waited = match left {
                Duration::MAX => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                left => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state = waited;
        }
    }
}

/// Wait until all shards have ended but those that are `stuck`.
pub(crate) fn join_all(
    shards: Vec<JoinHandle<Result<Summary, Diagnosis>>>,
    stuck: &[usize],
) -> Result<Summary, Diagnosis> {
    let (mut sum, mut fault) = (Summary::default(), None);
    for (shard, thread) in shards.into_iter().enumerate() {
        let ended = (!stuck.contains(&shard)).then(|| thread.join());
        let (rank, found) = match ended {
            Some(Ok(Ok(summary))) => {
                sum = sum.and(&summary);
                continue;
            }
            Some(Ok(Err(fault))) if fault.code == SHARD_STOPPED => (3, fault),
            Some(Ok(Err(fault))) => (0, fault),
            Some(Err(_)) => (1, broke(shard)),
            None => (2, stands_still(shard)),
        };
        // One that stopped because another did is not the cause.
        if fault.as_ref().is_none_or(|(least, _)| rank < *least) {
            fault = Some((rank, found));
        }
    }
    fault.map_or(Ok(sum), |(_, fault)| Err(fault))
}

fn broke(shard: usize) -> Diagnosis {
    diagnose(
        SHARD_STOPPED,
        format!("shard {shard}"),
        "a failed assertion, see the line above",
        "a shard that runs until it is told to stop",
        "start the node again and report that line",
    )
}

fn stands_still(shard: usize) -> Diagnosis {
    diagnose(
        SHARD_STOPPED,
        format!("shard {shard}"),
        "no turn since it was told to stop",
        "a shard that takes turns",
        "see the kernel log for a disk that does not answer, then start the node again: what is acknowledged is safe",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_not_ended_long_after_a_stop_is_named_and_nobody_waits_for_those_who_have() {
        let ending = Ending::new(3, Duration::ZERO);
        ending.end(0);
        ending.end(2);
        ending.ask();
        assert_eq!(ending.wait(), [1]);
        ending.end(1);
        assert_eq!(ending.wait(), [0; 0]);
        let asked_by_nobody = Ending::new(2, Duration::ZERO);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..2).for_each(|shard| asked_by_nobody.end(shard)));
            assert_eq!(
                asked_by_nobody.wait(),
                [0; 0],
                "without a stop it waits for all"
            );
        });
    }
}
