//! Means, intervals, and what is kept of what lies above chance.

use std::collections::BTreeMap;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// The seed of every bootstrap: the same data give the same interval.
const SEED: u64 = 20_251_002;

/// Free text is called above chance from this share of right answers on.
const FREE_TEXT_FLOOR: f64 = 0.02;

/// Mean and its standard error, sample sd (n − 1) / √n; the error is 0 for fewer than two values.
pub fn mean_se(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let se = match values.len() {
        1 => 0.0,
        _ => (squares / (n - 1.0) / n).sqrt(),
    };
    (mean, se)
}

/// Whether an accuracy lies above chance: the lower end of its one-sided 95 % Wilson interval
/// does (Wilson 1927).
pub fn above_chance(accuracy: f64, n: usize, chance: f64) -> bool {
    let (z, n) = (1.645, n as f64);
    if n == 0.0 {
        return false;
    }
    let centre = accuracy + z * z / (2.0 * n);
    let spread = z * (accuracy * (1.0 - accuracy) / n + z * z / (4.0 * n * n)).sqrt();
    (centre - spread) / (1.0 + z * z / n) > chance.max(FREE_TEXT_FLOOR)
}

/// One question answered by the original and by the pruned model.
#[derive(Debug, Clone)]
pub struct Pair {
    /// What is resampled: the item, whatever the protocol.
    pub cluster: String,
    /// The group within which accuracies are averaged: the protocol.
    pub group: usize,
    /// Right answers by guessing.
    pub chance: f64,
    /// Whether the original was right.
    pub original: bool,
    /// Whether the pruned model was right.
    pub pruned: bool,
}

/// A share with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// The estimate.
    pub share: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What the pruned model retains of the original's accuracy above chance,
/// Σ_g (pruned_g − chance_g) / Σ_g (original_g − chance_g) over groups g of equal weight, with a
/// paired bootstrap over items. `None` where the original has nothing above chance.
pub fn retained(pairs: &[Pair]) -> Option<Interval> {
    let mut clusters: BTreeMap<&str, Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        clusters.entry(&pair.cluster).or_default().push(pair);
    }
    let clusters: Vec<Vec<&Pair>> = clusters.into_values().collect();
    let share = share(clusters.iter().flatten().copied())?;
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut shares: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let drawn = (0..clusters.len()).map(|_| &clusters[rng.usize(..clusters.len())]);
            self::share(drawn.flatten().copied())
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    let at = |quantile: f64| {
        let index = (quantile * shares.len() as f64) as usize;
        shares
            .get(index.min(shares.len().saturating_sub(1)))
            .copied()
    };
    Some(Interval {
        share,
        low: at(0.025).unwrap_or(share),
        high: at(0.975).unwrap_or(share),
    })
}

fn share<'p>(pairs: impl Iterator<Item = &'p Pair>) -> Option<f64> {
    // group → (questions, original above chance, pruned above chance)
    let mut groups: BTreeMap<usize, (f64, f64, f64)> = BTreeMap::new();
    for pair in pairs {
        let (n, original, pruned) = groups.entry(pair.group).or_default();
        *n += 1.0;
        *original += f64::from(u8::from(pair.original)) - pair.chance;
        *pruned += f64::from(u8::from(pair.pruned)) - pair.chance;
    }
    let original: f64 = groups.values().map(|(n, original, _)| original / n).sum();
    let pruned: f64 = groups.values().map(|(n, _, pruned)| pruned / n).sum();
    (original > 1e-9).then(|| pruned / original)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(n: usize, original: usize, pruned: usize) -> Vec<Pair> {
        let pair = |i: usize| Pair {
            cluster: i.to_string(),
            group: 0,
            chance: 0.25,
            original: i < original,
            pruned: i < pruned,
        };
        (0..n).map(pair).collect()
    }

    #[test]
    fn an_unchanged_model_retains_all_of_it_exactly() {
        let interval = retained(&pairs(40, 30, 30)).unwrap();
        assert_eq!(
            (interval.share, interval.low, interval.high),
            (1.0, 1.0, 1.0)
        );
    }

    #[test]
    fn falling_to_chance_retains_nothing_and_the_interval_holds_the_estimate() {
        let interval = retained(&pairs(40, 30, 10)).unwrap();
        assert!(interval.share.abs() < 1e-12);
        assert!(interval.low < interval.share && interval.share < interval.high);
    }

    #[test]
    fn nothing_is_retained_of_an_original_at_chance() {
        assert_eq!(retained(&pairs(40, 10, 10)), None);
    }

    #[test]
    fn standard_error_is_the_sample_deviation_over_root_n() {
        let (mean, se) = mean_se(&[1.0, 0.0, 1.0, 0.0]);
        assert_eq!(mean, 0.5);
        assert!((se - (1.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn few_items_do_not_prove_that_a_model_is_above_chance() {
        assert!(!above_chance(0.5, 4, 0.25));
        assert!(above_chance(0.5, 40, 0.25));
        assert!(!above_chance(0.0, 100, 0.0));
    }
}
