//! How long things took, as a histogram: one count for each power of two in microseconds. Plain numbers that only grow.

use std::time::Duration;

/// Bounds of the counts: 1 µs, 2 µs, and so on to 2^23 µs, about 8 s. The last count has no bound.
pub(crate) const BOUNDS: usize = 24;

/// Durations, counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Durations {
    counts: [u64; BOUNDS + 1],
    sum: Duration,
    max: Duration,
}

impl Durations {
    /// Count one.
    pub(crate) fn note(&mut self, took: Duration) {
        let micros = took.as_nanos().div_ceil(1_000);
        let place = micros.max(1).next_power_of_two().trailing_zeros() as usize;
        self.counts[place.min(BOUNDS)] += 1;
        self.sum += took;
        self.max = self.max.max(took);
    }

    /// Count what was counted elsewhere, too.
    pub(crate) fn add(&mut self, other: &Self) {
        for (here, there) in self.counts.iter_mut().zip(other.counts) {
            *here += there;
        }
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub(crate) fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest.
    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    /// For each bound, how many took no longer.
    pub(crate) fn up_to(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let mut so_far = 0;
        (0..BOUNDS).map(move |place| {
            so_far += self.counts[place];
            (Duration::from_micros(1 << place), so_far)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_counted_under_the_least_bound_that_holds_it() {
        for (nanos, bound) in [
            (0, 1),
            (1, 1),
            (1_000, 1),
            (1_001, 2),
            (2_000, 2),
            (2_001, 4),
            (4_097_000, 8_192),
            (8_388_608_000, 8_388_608),
        ] {
            let mut durations = Durations::default();
            durations.note(Duration::from_nanos(nanos));
            let first = durations.up_to().find(|(_, count)| *count == 1);
            let first = first.map(|(at, _)| at.as_micros());
            assert_eq!(first, Some(bound), "{nanos} ns");
        }
        let mut durations = Durations::default();
        durations.note(Duration::MAX / 2);
        assert_eq!(durations.count(), 1);
        assert!(durations.up_to().all(|(_, count)| count == 0));
    }
}
