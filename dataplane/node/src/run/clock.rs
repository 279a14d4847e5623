//! The time that a turn is told: since the node began, and of the day.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use shard::Now;
use wire::ids::UnixNanos;

/// Time since the node began, and of the day.
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    /// Since this moment, the same one for all shards: they take from the same allowances.
    pub(crate) fn since(began: Instant) -> Self {
        Self { began }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic: self.began.elapsed(),
            unix: unix_now(),
        }
    }
}

pub(crate) fn unix_now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    UnixNanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
