//! Latencies from 1 us to 60 s with three digits, and how they are reported in milliseconds.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

const LOWEST: u64 = 1_000;
const HIGHEST: u64 = 60_000_000_000;

/// A high dynamic range histogram of nanoseconds.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram =
            Histogram::new_with_bounds(LOWEST, HIGHEST, 3).expect("constant bounds are valid");
        Self { histogram }
    }
}

impl Latencies {
    /// Record one value; shorter than 1 us counts as 1 us, longer than 60 s as 60 s. Allocates nothing.
    pub fn record(&mut self, nanos: u64) {
        self.histogram.saturating_record(nanos.max(LOWEST));
    }

    /// Add everything another histogram holds.
    pub fn merge(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("both have the same bounds");
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The value below which `share` of all values lie, in nanoseconds; 0 when empty.
    pub fn quantile(&self, share: f64) -> u64 {
        self.histogram.value_at_quantile(share)
    }

    /// The figures of a report; `None` when nothing was recorded.
    pub fn summary(&self) -> Option<Summary> {
        if self.histogram.is_empty() {
            return None;
        }
        let millis = |nanos: u64| nanos as f64 / 1e6;
        Some(Summary {
            count: self.count(),
            p50: millis(self.quantile(0.5)),
            p90: millis(self.quantile(0.9)),
            p99: millis(self.quantile(0.99)),
            p999: millis(self.quantile(0.999)),
            max: millis(self.histogram.max()),
        })
    }
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many values there are.
    pub count: u64,
    /// Median, ms.
    pub p50: f64,
    /// 90th percentile, ms.
    pub p90: f64,
    /// 99th percentile, ms.
    pub p99: f64,
    /// 99.9th percentile, ms; named `p99.9` in JSON.
    #[serde(rename = "p99.9")]
    pub p999: f64,
    /// The longest, ms.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_to_three_digits_from_one_microsecond_to_a_minute() {
        for (why, nanos, want) in [
            ("shorter than the bound", 3, 0.001),
            ("a microsecond", 1_000, 0.001),
            ("two milliseconds", 2_000_000, 2.0),
            ("two seconds", 2_000_000_000, 2_000.0),
            ("longer than the bound", 3_600_000_000_000, 60_000.0),
        ] {
            let mut latencies = Latencies::default();
            latencies.record(nanos);
            let max = latencies.summary().expect("one value").max;
            assert!(
                (max / want - 1.0).abs() < 0.025
                    && (want < 0.01 || (max / want - 1.0).abs() < 0.0015),
                "{why}: {max} ms, want {want} ms"
            );
        }
    }

    #[test]
    fn a_merged_histogram_holds_both_and_an_empty_one_has_no_figures() {
        let (mut left, mut right) = (Latencies::default(), Latencies::default());
        assert_eq!(left.summary(), None);
        left.record(1_000_000);
        right.record(9_000_000);
        left.merge(&right);
        assert_eq!(left.count(), 2);
        assert!(left.summary().expect("two values").max > 8.9);
    }
}
