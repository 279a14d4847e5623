//! How values are distributed: counts in four buckets for each doubling, so that a quantile is known to an eighth. Plain numbers that
//! only grow, in memory of a fixed size.

/// Buckets: the last one holds what is above 2^29 units.
const BUCKETS: usize = 113;
const LAST: usize = BUCKETS - 1;

/// Values, counted in units of `UNIT`, rounded up; their sum is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Distribution<const UNIT: u64> {
    counts: [u64; BUCKETS],
    count: u64,
    sum: u64,
    max: u64,
}

impl<const UNIT: u64> Default for Distribution<UNIT> {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            count: 0,
            sum: 0,
            max: 0,
        }
    }
}

impl<const UNIT: u64> Distribution<UNIT> {
    /// Count one.
    pub(crate) fn note(&mut self, value: u64) {
        self.counts[bucket(value.div_ceil(UNIT))] += 1;
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    /// Count what was counted elsewhere, too.
    pub(crate) fn add(&mut self, other: &Self) {
        for (here, there) in self.counts.iter_mut().zip(other.counts) {
            *here += there;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// All of them together.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// The greatest.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// For every power of two of units from 2^`first` to 2^`last`, as a value: how many were no greater.
    pub(crate) fn up_to(&self, first: u32, last: u32) -> impl Iterator<Item = (u64, u64)> + '_ {
        let (mut so_far, mut next) = (0, 0);
        (first..=last).map(move |power| {
            let end = bucket(1 << power);
            so_far += self.counts[next..=end].iter().sum::<u64>();
            next = end + 1;
            (UNIT << power, so_far)
        })
    }

    /// Every bucket that holds something: what its values are above, what they are not above, how many there are. The greatest value
    /// of all is the end of the last one.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let taken = self.counts.iter().enumerate();
        taken.filter(|(_, count)| **count > 0).map(|(at, count)| {
            let above = match at {
                0 => 0,
                at => bound(at - 1) * UNIT,
            };
            let end = match at {
                LAST => self.max,
                at => bound(at) * UNIT,
            };
            (above, end, *count)
        })
    }
}

/// 1, 2, 3 and 4 have a bucket each, and so has each quarter from a power of two to the next. 0 is counted as 1.
fn bucket(units: u64) -> usize {
    let below = units.saturating_sub(1);
    if below < 4 {
        return below as usize;
    }
    let octave = below.ilog2() as usize;
    let quarter = (below >> (octave - 2)) as usize & 3;
    (4 * (octave - 1) + quarter).min(LAST)
}

/// The greatest number of units in a bucket that is not the last.
fn bound(bucket: usize) -> u64 {
    match bucket {
        0..4 => bucket as u64 + 1,
        _ => (5 + bucket as u64 % 4) << (bucket / 4 - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_lies_in_a_bucket_a_quarter_of_an_octave_wide() {
        let powers = (0..29).flat_map(|power| [(1u64 << power) - 1, 1 << power, (1 << power) + 1]);
        for units in (1..5_000).chain(powers.filter(|units| *units > 0)) {
            let at = bucket(units);
            let above = if at == 0 { 0 } else { bound(at - 1) };
            assert!(
                above < units && units <= bound(at),
                "{units} in bucket {at}"
            );
            assert!(
                bound(at) - above <= 1 + above / 4,
                "{units}: {above} to {}",
                bound(at)
            );
        }
        assert_eq!(
            (bucket(0), bucket(1 << 29), bucket(u64::MAX)),
            (0, LAST - 1, LAST)
        );
    }

    #[test]
    fn powers_of_two_are_ends_of_buckets_and_counts_up_to_them_exact() {
        let mut numbers = Distribution::<1>::default();
        (1..=1_000).for_each(|value| numbers.note(value));
        for (bound, count) in numbers.up_to(0, 10) {
            assert_eq!(count, bound.min(1_000), "up to {bound}");
        }
        assert_eq!(
            (numbers.count(), numbers.sum(), numbers.max()),
            (1_000, 500_500, 1_000)
        );
        let all: u64 = numbers.buckets().map(|(_, _, count)| count).sum();
        assert_eq!(all, 1_000);
        assert!(
            numbers
                .buckets()
                .all(|(above, end, count)| end - above == count || end > 1_000)
        );
    }

    #[test]
    fn a_sum_is_exact_and_a_bound_a_multiple_of_the_unit() {
        let (mut one, mut other) = (
            Distribution::<250>::default(),
            Distribution::<250>::default(),
        );
        one.note(251);
        other.note(1_000_000_000_000);
        one.add(&other);
        let buckets: Vec<_> = one.buckets().collect();
        assert_eq!(
            buckets,
            [(250, 500, 1), ((1 << 29) * 250, 1_000_000_000_000, 1)]
        );
        assert_eq!(
            (one.sum(), one.count(), one.max()),
            (1_000_000_000_251, 2, 1_000_000_000_000)
        );
        assert_eq!(one.up_to(0, 1).collect::<Vec<_>>(), [(250, 0), (500, 1)]);
    }
}
