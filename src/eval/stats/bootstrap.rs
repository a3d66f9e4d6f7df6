//! The percentile bootstrap of anything that is a function of sums over items.

use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// The seed of every bootstrap: the same data give the same interval.
const SEED: u64 = 20_251_002;

/// An estimate with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether the whole interval lies on one side of zero.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// The 95 % percentile interval (Efron and Tibshirani 1993, ch. 13) of `statistic`, which sees the
/// column sums of rows, one row an item. Every resample draws as many rows as there are, out of
/// the rows and those of `smoothing`; the estimate is that of the rows alone.
///
/// `None` where the statistic has no value. Resamples in which it has none are left out. The
/// result depends on the order of the rows: sort them by something that the items carry.
pub fn bootstrap<const M: usize>(
    rows: &[[f64; M]],
    smoothing: &[[f64; M]],
    statistic: impl Fn(&[f64; M]) -> Option<f64>,
) -> Option<Interval> {
    let estimate = statistic(&sums(rows.iter()))?;
    let urn: Vec<&[f64; M]> = rows.iter().chain(smoothing).collect();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut found: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            statistic(&sums(
                rows.iter().filter_map(|_| random.choice(&urn).copied()),
            ))
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let at = |quantile: f64| {
        let last = found.len().saturating_sub(1) as f64;
        found.get((quantile * last).round() as usize).copied()
    };
    Some(Interval {
        estimate,
        low: at(0.025).unwrap_or(estimate),
        high: at(0.975).unwrap_or(estimate),
    })
}

fn sums<'r, const M: usize>(rows: impl Iterator<Item = &'r [f64; M]>) -> [f64; M] {
    let mut totals = [0.0; M];
    for row in rows {
        for (total, value) in totals.iter_mut().zip(row) {
            *total += value;
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(sums: &[f64; 2]) -> Option<f64> {
        (sums[0] > 0.0).then(|| sums[1] / sums[0])
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_normal_distribution() {
        let rows: Vec<[f64; 2]> = (0..400).map(|i| [1.0, f64::from(i % 2)]).collect();
        let found = bootstrap(&rows, &[], mean).unwrap();
        assert_eq!(found.estimate, 0.5);
        // 1.96 × 0.5 / √400
        assert!((found.low - 0.451).abs() < 0.008, "{found:?}");
        assert!((found.high - 0.549).abs() < 0.008, "{found:?}");
    }

    #[test]
    fn smoothing_widens_the_interval_and_leaves_the_estimate() {
        let rows = [[1.0, 0.0]; 20];
        let bare = bootstrap(&rows, &[], mean).unwrap();
        assert_eq!((bare.low, bare.high), (0.0, 0.0));
        let smooth = bootstrap(&rows, &[[1.0, 1.0], [1.0, -1.0]], mean).unwrap();
        assert_eq!(smooth.estimate, 0.0);
        assert!(smooth.low < 0.0 && 0.0 < smooth.high, "{smooth:?}");
    }

    #[test]
    fn what_has_no_value_has_no_interval() {
        assert_eq!(bootstrap(&[], &[], mean), None);
    }
}
