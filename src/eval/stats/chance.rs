//! Whether a model can do what it is asked at all.

/// Free text is called above chance from this share of right answers on.
const FREE_TEXT_FLOOR: f64 = 0.02;

/// The one-sided 5 % point of the normal distribution.
const Z_ONE_SIDED: f64 = 1.644_853_626_951_472_2;

/// Whether an accuracy lies above chance: the lower end of its one-sided 95 % interval does.
pub fn above_chance(accuracy: f64, n: usize, chance: f64) -> bool {
    wilson_low(accuracy, n).is_some_and(|low| low > chance.max(FREE_TEXT_FLOOR))
}

/// The lower end of the one-sided 95 % score interval of a share (Wilson 1927).
fn wilson_low(share: f64, n: usize) -> Option<f64> {
    let (z, n) = (Z_ONE_SIDED, n as f64);
    let centre = share + z * z / (2.0 * n);
    let spread = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    (n > 0.0).then(|| (centre - spread) / (1.0 + z * z / n))
}

#[cfg(test)]
mod tests {
    use super::super::reference::{close, reference};
    use super::*;

    #[test]
    fn few_items_do_not_prove_that_a_model_is_above_chance() {
        assert!(!above_chance(0.5, 4, 0.25));
        assert!(above_chance(0.5, 40, 0.25));
        assert!(!above_chance(0.0, 100, 0.0));
        assert!(!above_chance(1.0, 0, 0.0));
    }

    #[test]
    fn the_lower_end_is_statsmodels() {
        for case in &reference().wilson {
            let share = case.right as f64 / case.n as f64;
            close(wilson_low(share, case.n).unwrap(), case.low, 1e-9);
        }
    }
}
