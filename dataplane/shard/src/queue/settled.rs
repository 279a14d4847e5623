//! Queue numbers that were settled ahead of the first unsettled one, as disjoint intervals.

/// Sorted, disjoint, never touching intervals `[from, to)`; empty costs no heap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    intervals: Vec<(u64, u64)>,
}

impl Settled {
    /// How many intervals there are: what the bound counts.
    pub(crate) fn len(&self) -> usize {
        self.intervals.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.intervals.iter().copied()
    }

    /// The interval that holds `number`.
    pub(crate) fn interval(&self, number: u64) -> Option<(u64, u64)> {
        let at = self.intervals.partition_point(|&(_, to)| to <= number);
        self.intervals
            .get(at)
            .copied()
            .filter(|&(from, _)| from <= number)
    }

    /// The first settled number at or after `number`.
    pub(crate) fn next(&self, number: u64) -> Option<u64> {
        let at = self.intervals.partition_point(|&(_, to)| to <= number);
        self.intervals.get(at).map(|&(from, _)| from.max(number))
    }

    /// How many numbers of `[from, to)` are settled.
    pub(crate) fn count(&self, from: u64, to: u64) -> u64 {
        let at = self.intervals.partition_point(|&(_, end)| end <= from);
        let inside = self.intervals[at..]
            .iter()
            .take_while(|&&(start, _)| start < to);
        inside
            .map(|&(start, end)| end.min(to) - start.max(from))
            .sum()
    }

    /// Add `[from, to)`, joining what it touches.
    pub(crate) fn insert(&mut self, from: u64, to: u64) {
        debug_assert!(from < to, "{from}..{to}");
        let first = self.intervals.partition_point(|&(_, end)| end < from);
        let last = self.intervals.partition_point(|&(start, _)| start <= to);
        if first == last {
            self.intervals.insert(first, (from, to));
            return;
        }
        let joined = (
            from.min(self.intervals[first].0),
            to.max(self.intervals[last - 1].1),
        );
        self.intervals[first] = joined;
        self.intervals.drain(first + 1..last);
    }

    /// Forget everything below `head`.
    pub(crate) fn forget_below(&mut self, head: u64) {
        let gone = self.intervals.partition_point(|&(_, to)| to <= head);
        if gone > 0 {
            self.intervals.drain(..gone);
        }
        if let Some(first) = self.intervals.first_mut() {
            first.0 = first.0.max(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_agree_with_a_plain_set_of_numbers() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut settled, mut set) = (Settled::default(), vec![false; 64]);
            let mut head = 0;
            for _ in 0..40 {
                let from = random.u64(head..64);
                let to = random.u64(from + 1..=64);
                settled.insert(from, to);
                set[from as usize..to as usize].fill(true);
                if random.u8(..4) == 0 {
                    head = random.u64(head..64);
                    settled.forget_below(head);
                    set[..head as usize].fill(false);
                }
                for number in 0..64u64 {
                    let want = set[number as usize];
                    assert_eq!(
                        settled.interval(number).is_some(),
                        want,
                        "seed {seed} {number}"
                    );
                    let next = (number..64).find(|&n| set[n as usize]);
                    assert_eq!(settled.next(number), next, "seed {seed} next of {number}");
                }
                let (a, b) = (random.u64(..32), random.u64(32..64));
                let want = set[a as usize..b as usize].iter().filter(|&&s| s).count() as u64;
                assert_eq!(settled.count(a, b), want, "seed {seed}");
                assert!(
                    settled
                        .iter()
                        .zip(settled.iter().skip(1))
                        .all(|(x, y)| x.1 < y.0)
                );
            }
        }
    }
}
