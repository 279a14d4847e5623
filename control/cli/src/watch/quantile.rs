//! Quantiles of what happened between two looks, from the buckets of both.

use node::view::Buckets;

/// Values between two looks, in buckets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Between {
    /// Above, not above, how many; in order.
    buckets: Vec<(u64, u64, u64)>,
    /// Of all values.
    pub(super) sum: u64,
    /// How many.
    pub(super) count: u64,
}

impl Between {
    /// What `after` has more than `before`.
    pub(super) fn new(before: &Buckets, after: &Buckets) -> Self {
        let had = |above| {
            let known = before.buckets.iter().find(|bucket| bucket.0 == above);
            known.map_or(0, |bucket| bucket.2)
        };
        let new = after
            .buckets
            .iter()
            .map(|(above, end, count)| (*above, *end, count.saturating_sub(had(*above))));
        let buckets: Vec<_> = new.filter(|bucket| bucket.2 > 0).collect();
        Self {
            sum: after.sum.saturating_sub(before.sum),
            count: buckets.iter().map(|bucket| bucket.2).sum(),
            buckets,
        }
    }

    /// Both together.
    pub(super) fn add(&mut self, other: &Self) {
        for (above, end, count) in &other.buckets {
            match self.buckets.binary_search_by_key(above, |bucket| bucket.0) {
                Ok(at) => self.buckets[at].2 += count,
                Err(at) => self.buckets.insert(at, (*above, *end, *count)),
            }
        }
        self.sum += other.sum;
        self.count += other.count;
    }

    /// The value that this share of all values does not exceed, taking those of a bucket as evenly spread. None of none.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = (share * self.count as f64).max(1.0);
        let mut before = 0.0;
        for (above, end, count) in &self.buckets {
            let count = *count as f64;
            if before + count >= wanted {
                // A bucket of one value has no width: its values are all its end.
                let width = (end - above).saturating_sub(1) as f64;
                return Some(*end as f64 - width * (1.0 - (wanted - before) / count));
            }
            before += count;
        }
        self.buckets.last().map(|bucket| bucket.1 as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(of: &[(u64, u64, u64)]) -> Buckets {
        Buckets {
            sum: 0,
            buckets: of.to_vec(),
        }
    }

    #[test]
    fn quantiles_are_of_what_came_between() {
        let before = buckets(&[(0, 1, 1_000), (8, 10, 5)]);
        let after = buckets(&[(0, 1, 1_010), (1, 2, 80), (8, 10, 5), (96, 112, 10)]);
        let between = Between::new(&before, &after);
        assert_eq!(between.count, 100);
        for (share, want) in [
            (0.05, 1.0),
            (0.1, 1.0),
            (0.5, 2.0),
            (0.9, 2.0),
            (1.0, 112.0),
        ] {
            assert_eq!(between.quantile(share), Some(want), "{share}");
        }
        let high = between.quantile(0.95).expect("there are values");
        assert!((97.0..112.0).contains(&high), "{high}");
        assert_eq!(Between::new(&after, &after).quantile(0.5), None);
    }

    #[test]
    fn of_several_shards_together_they_are_as_if_it_were_one() {
        let none = buckets(&[]);
        let mut sum = Between::new(&none, &buckets(&[(1, 2, 3), (8, 10, 2)]));
        sum.add(&Between::new(
            &none,
            &buckets(&[(0, 1, 1), (8, 10, 4), (20, 24, 1)]),
        ));
        assert_eq!(sum.buckets, [(0, 1, 1), (1, 2, 3), (8, 10, 6), (20, 24, 1)]);
        assert_eq!(sum.count, 11);
    }
}
