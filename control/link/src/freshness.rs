//! How long ago a node had the control plane's newest table for certain, and whether that is too long. Pure.

use std::time::{Duration, Instant};

/// The age of a node's table.
#[derive(Debug, Clone, Copy)]
pub struct Freshness {
    fresh_at: Instant,
    /// Age that was there before `fresh_at`: of a table that was kept.
    before: Duration,
    stale_after: Option<Duration>,
}

impl Freshness {
    /// Of a table that was fresh so long before `now`; stale after `stale_after`, or never.
    #[must_use]
    pub fn new(now: Instant, age: Duration, stale_after: Option<Duration>) -> Self {
        Self {
            fresh_at: now,
            before: age,
            stale_after,
        }
    }

    /// It was what the control plane had at this moment. What is known already to be later stays.
    pub fn refresh(&mut self, at: Instant) {
        if at >= self.fresh_at {
            self.fresh_at = at;
            self.before = Duration::ZERO;
        }
    }

    /// How long ago it was that.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.fresh_at)
            .saturating_add(self.before)
    }

    /// Whether it is older than it may be.
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        self.stale_after.is_some_and(|most| self.age(now) > most)
    }

    /// How often to look.
    #[must_use]
    pub fn look_every(&self) -> Duration {
        let quarter = self
            .stale_after
            .map_or(Duration::from_secs(1), |most| most / 4);
        quarter.clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_stale_when_it_was_not_fresh_for_longer_than_the_bound_kept_time_included() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let mut kept = Freshness::new(began, 7 * second, Some(10 * second));
        assert!(!kept.is_stale(began + 3 * second));
        assert!(kept.is_stale(began + 4 * second));
        kept.refresh(began + 5 * second);
        assert!(!kept.is_stale(began + 15 * second));
        assert!(kept.is_stale(began + 16 * second));
        assert_eq!(kept.age(began + 16 * second), 11 * second);
        let never = Freshness::new(began, 7 * second, None);
        assert!(!never.is_stale(began + 100_000 * second));
    }
}
