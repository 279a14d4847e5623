//! The Universal Scalability Law (Gunther): X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)).
//!
//! `lambda` is what one shard carries, `sigma` the share that all must do one after the other (contention), `kappa` what
//! every pair costs to keep in agreement (coherency). Pure arithmetic: no clock, no machine.

/// The three parameters.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(super) struct Law {
    /// Messages per second of one shard.
    pub(super) lambda: f64,
    /// Contention, 0 or more.
    pub(super) sigma: f64,
    /// Coherency, 0 or more.
    pub(super) kappa: f64,
}

/// A law and how well it fits.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(super) struct Fit {
    pub(super) law: Law,
    /// Root of the mean squared relative distance of the points from the curve.
    pub(super) off_share: f64,
    /// False with fewer than three counts of shards: one further point gives one further number, so all of the loss is
    /// called contention and coherency is left at 0.
    pub(super) told_apart: bool,
}

impl Law {
    /// Messages per second of `shards`.
    pub(super) fn at(&self, shards: f64) -> f64 {
        self.lambda * shards / self.divisor(shards)
    }

    fn divisor(&self, shards: f64) -> f64 {
        1.0 + self.sigma * (shards - 1.0) + self.kappa * shards * (shards - 1.0)
    }

    /// The count of shards beyond which more carry less; `None` when there is none.
    pub(super) fn peak(&self) -> Option<f64> {
        (self.kappa > 0.0).then(|| ((1.0 - self.sigma).max(0.0) / self.kappa).sqrt())
    }

    fn from(values: [f64; 3]) -> Self {
        let [lambda, sigma, kappa] = values;
        Self {
            lambda,
            sigma,
            kappa,
        }
    }

    fn squares(&self, points: &[(f64, f64)]) -> f64 {
        points
            .iter()
            .map(|(shards, rate)| (rate - self.at(*shards)).powi(2))
            .sum()
    }
}

/// The law nearest to measured points of (shards, messages per second), by least squares; `None` when all points are of
/// one count of shards.
pub(super) fn fit(points: &[(f64, f64)]) -> Option<Fit> {
    let mut counts: Vec<f64> = points.iter().map(|(shards, _)| *shards).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    if counts.len() < 2 {
        return None;
    }
    let told_apart = counts.len() > 2;
    let first = counts[0];
    let of_first = points.iter().filter(|(shards, _)| *shards == first);
    let sum: f64 = of_first.clone().map(|(_, rate)| rate).sum();
    let lambda = sum / of_first.count() as f64 / first;
    // A parameter that would have to be negative is 0: then the best law has it there and the others free.
    let free: &[[bool; 2]] = match told_apart {
        true => &[[true, true], [true, false], [false, true], [false, false]],
        false => &[[true, false], [false, false]],
    };
    let starts = [(0.01, 0.0001), (0.1, 0.001), (0.5, 0.01)];
    let mut best: Option<(f64, Law)> = None;
    for [sigma_free, kappa_free] in free {
        for (sigma, kappa) in starts {
            let start = [
                lambda,
                if *sigma_free { sigma } else { 0.0 },
                if *kappa_free { kappa } else { 0.0 },
            ];
            let law = descend(points, start, [true, *sigma_free, *kappa_free]);
            let squares = law.squares(points);
            let good = law.lambda > 0.0 && law.sigma >= 0.0 && law.kappa >= 0.0;
            if good && best.is_none_or(|(least, _)| squares < least) {
                best = Some((squares, law));
            }
        }
    }
    let (_, law) = best?;
    let off = |(shards, rate): &(f64, f64)| (rate / law.at(*shards) - 1.0).powi(2);
    let mean = points.iter().map(off).sum::<f64>() / points.len() as f64;
    Some(Fit {
        law,
        off_share: mean.sqrt(),
        told_apart,
    })
}

/// Gauss-Newton steps, shortened (Levenberg) until each one helps; parameters that are not free stay.
fn descend(points: &[(f64, f64)], mut values: [f64; 3], free: [bool; 3]) -> Law {
    let mut damping = 1e-3;
    let mut squares = Law::from(values).squares(points);
    for _ in 0..500 {
        let (matrix, gradient) = normal(points, Law::from(values), free);
        let Some(step) = solve(matrix, gradient, damping) else {
            break;
        };
        let next = [
            values[0] + step[0],
            values[1] + step[1],
            values[2] + step[2],
        ];
        let then = Law::from(next).squares(points);
        if then.is_finite() && then < squares {
            let gained = squares - then;
            (values, squares) = (next, then);
            damping = (damping / 10.0).max(1e-12);
            if gained < 1e-14 * squares {
                break;
            }
        } else {
            damping *= 10.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    Law::from(values)
}

/// The normal equations of one step: the product of the derivatives with themselves, and with what is left.
fn normal(points: &[(f64, f64)], law: Law, free: [bool; 3]) -> ([[f64; 3]; 3], [f64; 3]) {
    let (mut matrix, mut gradient) = ([[0.0; 3]; 3], [0.0; 3]);
    for (shards, rate) in points {
        let (n, divisor) = (*shards, law.divisor(*shards));
        let by_divisor = -law.lambda * n / (divisor * divisor);
        let mut slopes = [
            n / divisor,
            by_divisor * (n - 1.0),
            by_divisor * n * (n - 1.0),
        ];
        for (slope, free) in slopes.iter_mut().zip(free) {
            *slope *= f64::from(u8::from(free));
        }
        let left = rate - law.at(n);
        for row in 0..3 {
            gradient[row] += slopes[row] * left;
            for column in 0..3 {
                matrix[row][column] += slopes[row] * slopes[column];
            }
        }
    }
    for (index, row) in matrix.iter_mut().enumerate() {
        if !free[index] {
            row[index] = 1.0;
        }
    }
    (matrix, gradient)
}

/// Solve three equations, the diagonal made heavier by `damping`; `None` when they have no single answer.
fn solve(mut matrix: [[f64; 3]; 3], mut right: [f64; 3], damping: f64) -> Option<[f64; 3]> {
    for (index, row) in matrix.iter_mut().enumerate() {
        row[index] *= 1.0 + damping;
    }
    for column in 0..3 {
        let pivot = (column..3).max_by(|one, other| {
            matrix[*one][column]
                .abs()
                .total_cmp(&matrix[*other][column].abs())
        })?;
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        if matrix[column][column] == 0.0 {
            return None;
        }
        for row in column + 1..3 {
            let factor = matrix[row][column] / matrix[column][column];
            let above = matrix[column];
            for (value, above) in matrix[row].iter_mut().zip(above).skip(column) {
                *value -= factor * above;
            }
            right[row] -= factor * right[column];
        }
    }
    for row in (0..3).rev() {
        for index in row + 1..3 {
            right[row] -= matrix[row][index] * right[index];
        }
        right[row] /= matrix[row][row];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(law: Law, most: u32, repeats: u32, noise: f64, seed: u64) -> Vec<(f64, f64)> {
        let mut random = fastrand::Rng::with_seed(seed);
        // Twelve uniform numbers make one nearly normal one.
        let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let counts = (1..=most).flat_map(|shards| (0..repeats).map(move |_| f64::from(shards)));
        counts
            .map(|shards| (shards, law.at(shards) * (1.0 + noise * normal())))
            .collect()
    }

    #[test]
    fn known_parameters_are_found_again_exactly_in_exact_points() {
        for (sigma, kappa) in [
            (0.0, 0.0),
            (0.05, 0.0),
            (0.0, 0.002),
            (0.03, 0.001),
            (0.4, 0.05),
        ] {
            let law = Law {
                lambda: 750_000.0,
                sigma,
                kappa,
            };
            let found = fit(&points(law, 8, 1, 0.0, 1)).expect("eight counts");
            assert!(
                (found.law.lambda / law.lambda - 1.0).abs() < 1e-6,
                "{found:?}"
            );
            assert!(
                (found.law.sigma - sigma).abs() < 1e-6,
                "{found:?}, want {law:?}"
            );
            assert!(
                (found.law.kappa - kappa).abs() < 1e-6,
                "{found:?}, want {law:?}"
            );
            assert!(found.told_apart && found.off_share < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn known_parameters_are_found_again_in_noisy_points() {
        let cases: u64 = std::env::var("FOREBAY_LAW_CASES")
            .map_or(200, |text| text.parse().expect("a number of cases"));
        for seed in 0..cases {
            let mut random = fastrand::Rng::with_seed(seed);
            let law = Law {
                lambda: 1e4 + 1e6 * random.f64(),
                sigma: 0.2 * random.f64(),
                kappa: 0.01 * random.f64(),
            };
            let points = points(law, 16, 5, 0.02, seed);
            let found = fit(&points).expect("sixteen counts");
            let replay = format!(
                "seed {seed} of {cases}: {found:?}, want {law:?}; FOREBAY_LAW_CASES={} cargo nextest run -p forebay-cli noisy_points",
                seed + 1
            );
            assert!(
                (found.law.lambda / law.lambda - 1.0).abs() < 0.06,
                "{replay}"
            );
            assert!((found.law.sigma - law.sigma).abs() < 0.035, "{replay}");
            assert!((found.law.kappa - law.kappa).abs() < 0.003, "{replay}");
            for shards in 1..=16 {
                let ratio = found.law.at(f64::from(shards)) / law.at(f64::from(shards));
                assert!((ratio - 1.0).abs() < 0.05, "at {shards}: {ratio}; {replay}");
            }
            assert!(
                found.law.squares(&points) <= law.squares(&points) * (1.0 + 1e-9),
                "{replay}"
            );
        }
    }

    #[test]
    fn two_counts_cannot_tell_contention_from_coherency_and_one_count_tells_nothing() {
        let two = fit(&[(1.0, 100.0), (2.0, 160.0), (1.0, 100.0)]).expect("two counts");
        assert!(!two.told_apart && two.law.kappa == 0.0, "{two:?}");
        assert!(
            (two.law.sigma - 0.25).abs() < 1e-6,
            "200 / 160 - 1: {two:?}"
        );
        assert_eq!(fit(&[(2.0, 100.0), (2.0, 90.0)]), None);
        assert_eq!(fit(&[]), None);
    }

    #[test]
    fn points_that_rise_faster_than_shards_are_fitted_without_a_negative_parameter() {
        let found = fit(&[(1.0, 100.0), (2.0, 210.0), (3.0, 330.0)]).expect("three counts");
        assert_eq!((found.law.sigma, found.law.kappa), (0.0, 0.0), "{found:?}");
        assert_eq!(found.law.peak(), None);
    }

    #[test]
    fn the_peak_is_where_one_more_and_one_less_both_carry_less() {
        let law = Law {
            lambda: 100.0,
            sigma: 0.1,
            kappa: 0.01,
        };
        let peak = law.peak().expect("it has one");
        assert!((peak - 9.486_8).abs() < 1e-3, "{peak}");
        assert!(law.at(peak) > law.at(peak + 0.5) && law.at(peak) > law.at(peak - 0.5));
    }
}
