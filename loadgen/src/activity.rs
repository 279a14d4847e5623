//! How unequal the senders of a fleet are: each one's share of the rate, fixed before the run.
//!
//! The senders' schedules stay independent and open: a busy device is due more often, and no device waits for another.

use crate::diagnosis;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use wire::diagnosis::Diagnosis;

/// Beyond this exponent the first sender has everything.
const EXPONENT_MAX: f64 = 10.0;

/// How the rate is divided among the senders.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Activity {
    /// Equal shares.
    #[default]
    Uniform,
    /// The sender of rank `k`, from 1 in the order of the plan, has a share proportional to `k` to the power of minus this.
    Zipf(f64),
}

impl Activity {
    /// The share of each of `senders`; they add up to 1.
    pub fn shares(self, senders: usize) -> Vec<f64> {
        let exponent = match self {
            Self::Uniform => 0.0,
            Self::Zipf(exponent) => exponent,
        };
        let weights: Vec<f64> = (1..=senders)
            .map(|rank| (rank as f64).powf(-exponent))
            .collect();
        // Smallest first, so that a million small ones are not rounded away.
        let total: f64 = weights.iter().rev().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => out.write_str("uniform"),
            Self::Zipf(exponent) => write!(out, "zipf:{exponent}"),
        }
    }
}

impl FromStr for Activity {
    type Err = Diagnosis;

    fn from_str(text: &str) -> Result<Self, Diagnosis> {
        let exponent = |text: &str| {
            let value = text.parse().ok()?;
            (value > 0.0 && value <= EXPONENT_MAX).then_some(Self::Zipf(value))
        };
        match text.split_once(':') {
            None if text == "uniform" => Some(Self::Uniform),
            Some(("zipf", rest)) => exponent(rest),
            _ => None,
        }
        .ok_or_else(|| diagnosis::activity(text))
    }
}

impl TryFrom<String> for Activity {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|wrong: Diagnosis| wrong.to_string())
    }
}

impl From<Activity> for String {
    fn from(activity: Activity) -> Self {
        activity.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Arrival, Schedule};
    use std::time::Duration;

    /// Messages of each sender in `seconds` at `per_second` over all.
    fn counts(activity: Activity, arrival: Arrival, senders: usize, seed: u64) -> Vec<u64> {
        let (per_second, length) = (20_000.0, Duration::from_secs(10));
        let shares = activity.shares(senders);
        let of = |(number, share): (usize, &f64)| {
            Schedule::of_share(arrival, per_second, *share, length, number as u32, seed).count()
        };
        shares
            .iter()
            .enumerate()
            .map(of)
            .map(|count| count as u64)
            .collect()
    }

    /// How far the squared distance from the exact distribution is from what chance alone would give, in standard
    /// deviations (Wilson and Hilferty): independent Poisson counts have as many degrees of freedom as there are.
    fn distance(counts: &[u64], shares: &[f64], total: f64) -> f64 {
        let square = |(count, share): (&u64, &f64)| {
            (*count as f64 - share * total).powi(2) / (share * total)
        };
        let chi_square: f64 = counts.iter().zip(shares).map(square).sum();
        let freedom = shares.len() as f64;
        let spread = 2.0 / (9.0 * freedom);
        ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
    }

    /// The distribution as it is defined, written down once more.
    fn exact(exponent: f64, senders: u32) -> Vec<f64> {
        let weight = |rank: u32| (-exponent * f64::from(rank).ln()).exp();
        let harmonic: f64 = (1..=senders).map(weight).sum();
        (1..=senders).map(|rank| weight(rank) / harmonic).collect()
    }

    #[test]
    fn a_fleet_is_as_active_as_its_exact_distribution_says() {
        for (activity, (own, other)) in [
            (Activity::Zipf(1.1), (1.1, 1.12)),
            (Activity::Zipf(0.8), (0.8, 0.0)),
            (Activity::Uniform, (0.0, 0.05)),
        ] {
            for seed in 1..=5 {
                let counts = counts(activity, Arrival::Poisson, 500, seed);
                let near = distance(&counts, &exact(own, 500), 200_000.0);
                assert!(
                    near.abs() < 4.0,
                    "{activity}, seed {seed}: {near} deviations"
                );
                let far = distance(&counts, &exact(other, 500), 200_000.0);
                assert!(
                    far > 6.0,
                    "{activity}, seed {seed}, taken for {other}: {far} deviations"
                );
            }
        }
    }

    #[test]
    fn constant_gaps_give_every_sender_its_share_to_the_message() {
        for activity in [Activity::Zipf(1.1), Activity::Uniform] {
            let shares = activity.shares(100);
            for (share, count) in shares
                .iter()
                .zip(counts(activity, Arrival::Constant, 100, 1))
            {
                let want = share * 200_000.0;
                assert!(
                    (count as f64 - want).abs() <= 1.0,
                    "{activity}: {count}, want {want}"
                );
            }
        }
    }

    #[test]
    fn an_activity_reads_back_and_anything_else_is_refused() {
        for text in ["uniform", "zipf:1.1", "zipf:10", "zipf:0.5"] {
            assert_eq!(text.parse::<Activity>().expect("good").to_string(), text);
        }
        for text in [
            "",
            "zipf",
            "zipf:",
            "zipf:0",
            "zipf:-1",
            "zipf:NaN",
            "zipf:11",
            "even",
            "uniform:1",
        ] {
            assert_eq!(
                text.parse::<Activity>().expect_err(text).code,
                5213,
                "{text}"
            );
        }
    }
}
