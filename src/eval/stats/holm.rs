//! Several tests at once.

/// Holm's step-down adjustment (1979): with these, the chance that any true hypothesis of the set
/// gets p < α is at most α. In the order of `p`.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = p.iter().copied().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut adjusted = vec![0.0; p.len()];
    let mut least = 0.0f64;
    for (rank, (at, p)) in order.into_iter().enumerate() {
        least = least.max((adjusted.len() - rank) as f64 * p).min(1.0);
        if let Some(slot) = adjusted.get_mut(at) {
            *slot = least;
        }
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::super::reference::{close, reference};
    use super::*;

    #[test]
    fn the_adjusted_are_statsmodels() {
        for case in &reference().holm {
            let ours = holm(&case.p);
            assert_eq!(ours.len(), case.adjusted.len());
            for (ours, theirs) in ours.iter().zip(&case.adjusted) {
                close(*ours, *theirs, 1e-12);
            }
        }
    }
}
