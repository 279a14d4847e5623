//! How long ago a node had the control plane's newest table for certain, and whether that is too long. Pure but for [`Moment::now`].

use std::ops::Add;
use std::time::{Duration, Instant, SystemTime};

/// A moment by both clocks: the one that nobody sets, which stands still while a machine sleeps, and the one of the day.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// By the clock that nobody sets.
    pub monotonic: Instant,
    /// By the clock of the day.
    pub day: SystemTime,
}

impl Moment {
    /// This one.
    #[must_use]
    pub fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            day: SystemTime::now(),
        }
    }

    /// How long ago it was, by the clock that says more: neither a sleep nor a clock that is set back makes anything younger.
    #[must_use]
    pub fn until(&self, now: Self) -> Duration {
        let monotonic = now.monotonic.saturating_duration_since(self.monotonic);
        let day = now.day.duration_since(self.day).unwrap_or_default();
        monotonic.max(day)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self {
            monotonic: self.monotonic + later,
            day: self.day + later,
        }
    }
}

/// The age of a node's table.
#[derive(Debug, Clone, Copy)]
pub struct Freshness {
    at: Moment,
    /// Age that it had at that moment.
    before: Duration,
    stale_after: Option<Duration>,
}

impl Freshness {
    /// Of a table that was fresh so long before `now`; stale after `stale_after`, or never.
    #[must_use]
    pub fn new(now: Moment, age: Duration, stale_after: Option<Duration>) -> Self {
        Self {
            at: now,
            before: age,
            stale_after,
        }
    }

    /// It was what the control plane had, so long before `now`. What is known already to be later stays.
    pub fn refresh(&mut self, now: Moment, age: Duration) {
        if age <= self.age(now) {
            (self.at, self.before) = (now, age);
        }
    }

    /// How long ago it was that.
    #[must_use]
    pub fn age(&self, now: Moment) -> Duration {
        self.at.until(now).saturating_add(self.before)
    }

    /// Whether it is older than it may be.
    #[must_use]
    pub fn is_stale(&self, now: Moment) -> bool {
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
        let (began, second) = (Moment::now(), Duration::from_secs(1));
        let mut kept = Freshness::new(began, 7 * second, Some(10 * second));
        assert!(!kept.is_stale(began + 3 * second));
        assert!(kept.is_stale(began + 4 * second));
        kept.refresh(began + 6 * second, second);
        assert!(!kept.is_stale(began + 15 * second));
        assert!(kept.is_stale(began + 16 * second));
        kept.refresh(began + 16 * second, 12 * second);
        assert_eq!(kept.age(began + 16 * second), 11 * second);
        let never = Freshness::new(began, 7 * second, None);
        assert!(!never.is_stale(began + 100_000 * second));
    }

    #[test]
    fn neither_a_machine_that_slept_nor_a_clock_that_was_set_back_makes_a_table_younger() {
        let (began, second) = (Moment::now(), Duration::from_secs(1));
        let fresh = Freshness::new(began, Duration::ZERO, Some(10 * second));
        let slept = Moment {
            day: began.day + 3_600 * second,
            ..began + second
        };
        assert!(fresh.is_stale(slept));
        let set_back = Moment {
            day: began.day - 3_600 * second,
            ..began + 11 * second
        };
        assert!(fresh.is_stale(set_back));
        // What was asked before the sleep and is read after it is as old as the sleep.
        let mut again = fresh;
        again.refresh(slept, began.until(slept));
        assert!(again.is_stale(slept));
        again.refresh(slept, Duration::ZERO);
        assert!(!again.is_stale(slept));
    }
}
