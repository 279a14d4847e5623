//! What leaves a queue without being delivered: messages too old, or gone from their partition.

use partition::Segment;
use wire::ids::{Offset, PartitionId, UnixNanos};
use wire::route::RouteTable;

use super::group::QueueGroup;
use super::op::Source;
use super::run::{RUN_AGE_NANOS, Run};

/// Why a message is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// Its partition does not hold it any more.
    Expired,
    /// Its endpoint may not hear its channel any more.
    Withdrawn,
    /// Its record is damaged.
    Damaged,
}

/// Runs that one sweep takes from one list.
const RUNS_A_SWEEP: usize = 64;

impl<S: Segment> QueueGroup<S> {
    /// Give up what is older than its queue allows, or what `first` (the first offset that a partition
    /// still holds) says is gone. Looks at the next `sweep_queues_max` queues; exact to a second.
    pub fn expire(
        &mut self,
        now: UnixNanos,
        table: &RouteTable,
        first: impl Fn(PartitionId) -> Option<Offset>,
    ) {
        let queues = self.queues.len();
        for _ in 0..queues.min(self.limits.sweep_queues_max) {
            if !self.journal_has_room() {
                return;
            }
            self.sweep = if self.sweep + 1 < queues {
                self.sweep + 1
            } else {
                0
            };
            let slot = self.sweep as u32;
            let endpoint = table.endpoint(self.queues.at(slot).id);
            let age = endpoint.and_then(|endpoint| endpoint.queue().age_max);
            let oldest = age.map_or(0, |age| {
                let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
                now.0.saturating_sub(age.saturating_add(RUN_AGE_NANOS))
            });
            self.sweep_list(slot, Source::Queue, oldest, &first);
            self.sweep_list(slot, Source::DeadLetters, 0, &first);
        }
    }

    fn sweep_list(
        &mut self,
        slot: u32,
        source: Source,
        oldest: u64,
        first: &impl Fn(PartitionId) -> Option<Offset>,
    ) {
        for _ in 0..RUNS_A_SWEEP {
            let run = self
                .list(slot, source)
                .and_then(|list| list.runs().front().copied());
            let Some(to) = run.and_then(|run| gone_below(&run, oldest, first)) else {
                return;
            };
            let head = self.list(slot, source).map_or(to, |list| list.head());
            let newly = self.give_up(slot, source, head, to, None);
            self.counters.expired += newly;
        }
    }
}

/// The number below which the messages of a run are gone, if any are.
fn gone_below(
    run: &Run,
    oldest: u64,
    first: &impl Fn(PartitionId) -> Option<Offset>,
) -> Option<u64> {
    if run.time.0 < oldest {
        return Some(run.end());
    }
    let kept = first(run.partition)?;
    let gone = kept.0.saturating_sub(run.first.0).min(u64::from(run.count));
    (gone > 0).then(|| run.number + gone)
}
