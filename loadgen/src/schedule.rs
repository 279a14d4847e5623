//! When each message is due: fixed by rate, arrival and seed before the run begins.
//!
//! Nothing that happens during the run can move a due time, so a server that pauses is charged for every message
//! that should have been sent meanwhile. This file knows no clock and no socket.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Multiples of this spread most evenly over 0 to 1.
const GOLDEN: f64 = 0.618_033_988_749_894_8;

/// How the gaps between messages are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// Equal gaps; senders are spread evenly over the first gap.
    #[default]
    Constant,
    /// Independent arrivals: exponential gaps, as many unrelated devices would produce.
    Poisson,
}

/// The due times of one sender, in nanoseconds since the start of the run, ascending.
#[derive(Debug, Clone)]
pub struct Schedule {
    arrival: Arrival,
    gap: f64,
    next: f64,
    index: u64,
    end: u64,
    random: fastrand::Rng,
}

impl Schedule {
    /// The share of sender `number` of `senders` in a total of `per_second` messages over `length`.
    ///
    /// The superposition of the senders' Poisson schedules is again Poisson with the total rate. Equal arguments give
    /// equal schedules. `per_second` must be above 0 and `senders` at least 1.
    pub fn new(
        arrival: Arrival,
        per_second: f64,
        length: Duration,
        number: u32,
        senders: u32,
        seed: u64,
    ) -> Self {
        assert!(
            per_second > 0.0 && senders > 0,
            "rate {per_second}, senders {senders}"
        );
        let gap = 1e9 * f64::from(senders) / per_second;
        let phase = f64::from(number) / f64::from(senders);
        Self::begin((arrival, gap, phase), length, number, seed)
    }

    /// Sender `number` of a fleet whose members have unequal shares of the total, this one `share` of it (above 0).
    ///
    /// Constant gaps begin at a fraction of the sender's own gap that no two neighbours have in common, so that the
    /// fleet does not begin with one blow.
    pub fn of_share(
        arrival: Arrival,
        per_second: f64,
        share: f64,
        length: Duration,
        number: u32,
        seed: u64,
    ) -> Self {
        assert!(
            per_second > 0.0 && share > 0.0,
            "rate {per_second}, share {share}"
        );
        let phase = (f64::from(number) * GOLDEN).fract();
        Self::begin(
            (arrival, 1e9 / (per_second * share), phase),
            length,
            number,
            seed,
        )
    }

    fn begin(
        (arrival, gap, phase): (Arrival, f64, f64),
        length: Duration,
        number: u32,
        seed: u64,
    ) -> Self {
        let mut random =
            fastrand::Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let next = match arrival {
            Arrival::Constant => gap * phase,
            Arrival::Poisson => exponential(&mut random, gap),
        };
        let end = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self {
            arrival,
            gap,
            next,
            index: 0,
            end,
            random,
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let due = match self.arrival {
            Arrival::Constant => self.next + self.index as f64 * self.gap,
            Arrival::Poisson => self.next,
        };
        if due >= self.end as f64 {
            return None;
        }
        self.index += 1;
        if self.arrival == Arrival::Poisson {
            self.next += exponential(&mut self.random, self.gap);
        }
        Some(due as u64)
    }
}

fn exponential(random: &mut fastrand::Rng, mean: f64) -> f64 {
    -(1.0 - random.f64()).ln() * mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(arrival: Arrival, per_second: f64, seconds: u64, senders: u32, seed: u64) -> Vec<u64> {
        let length = Duration::from_secs(seconds);
        let mut due: Vec<u64> = (0..senders)
            .flat_map(|number| Schedule::new(arrival, per_second, length, number, senders, seed))
            .collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn a_constant_schedule_is_evenly_spaced_over_all_senders_and_never_drifts() {
        for (per_second, seconds, senders) in [
            (1_000.0, 2, 1),
            (1_000.0, 2, 8),
            (3.0, 100, 3),
            (100_000.0, 1, 7),
        ] {
            let due = all(Arrival::Constant, per_second, seconds, senders, 1);
            assert_eq!(
                due.len() as f64,
                per_second * seconds as f64,
                "{per_second} per second of {senders} senders"
            );
            for (index, at) in due.iter().enumerate() {
                let want = index as f64 * 1e9 / per_second;
                assert!(
                    (*at as f64 - want).abs() <= 1.0,
                    "message {index} due at {at}, want {want}"
                );
            }
        }
    }

    #[test]
    fn a_poisson_schedule_keeps_its_rate_and_its_gaps_are_exponential() {
        let due = all(Arrival::Poisson, 10_000.0, 20, 4, 7);
        let count = due.len() as f64;
        assert!(
            (count - 200_000.0).abs() < 5.0 * 200_000f64.sqrt(),
            "{count} arrivals"
        );
        let mean = 100_000.0;
        let longer = due
            .windows(2)
            .filter(|pair| (pair[1] - pair[0]) as f64 > mean)
            .count() as f64
            / count;
        assert!(
            (longer - (-1f64).exp()).abs() < 0.01,
            "share of gaps beyond the mean: {longer}"
        );
    }

    #[test]
    fn equal_seeds_give_equal_schedules_and_other_seeds_others() {
        assert_eq!(
            all(Arrival::Poisson, 500.0, 2, 3, 42),
            all(Arrival::Poisson, 500.0, 2, 3, 42)
        );
        assert_ne!(
            all(Arrival::Poisson, 500.0, 2, 3, 42),
            all(Arrival::Poisson, 500.0, 2, 3, 43)
        );
    }
}
