//! Two models on the same questions, as counts: the test, its power, and the items that it takes.

use super::Z_ALPHA;

/// The 80 % point of the normal distribution: the power of the smallest detectable loss.
const Z_POWER: f64 = 0.841_621_233_572_914_3;

/// How often two models' answers to the same questions differ in being right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flips {
    /// Questions.
    pub n: usize,
    /// Right in the original, wrong in the pruned model.
    pub lost: usize,
    /// Wrong in the original, right in the pruned model.
    pub gained: usize,
}

impl Flips {
    /// Counts pairs of (original right, pruned right).
    pub fn count(pairs: impl Iterator<Item = (bool, bool)>) -> Self {
        let none = Self {
            n: 0,
            lost: 0,
            gained: 0,
        };
        pairs.fold(none, |sum, (original, pruned)| Self {
            n: sum.n + 1,
            lost: sum.lost + usize::from(original && !pruned),
            gained: sum.gained + usize::from(!original && pruned),
        })
    }

    /// The two-sided p of McNemar's test (1947) of "a flip is as likely a loss as a gain": mid-p
    /// of the binomial with probability ½, 2 P(X < k) + P(X = k) for k = min(lost, gained), as
    /// Fagerland, Lydersen and Laake (2013) advise. 1 where nothing flipped.
    pub fn p(self) -> f64 {
        let (k, flips) = (self.lost.min(self.gained), self.lost + self.gained);
        let mut log_term = -(flips as f64) * std::f64::consts::LN_2;
        let mut below = 0.0;
        for i in 0..k {
            below += log_term.exp();
            log_term += ((flips - i) as f64 / (i + 1) as f64).ln();
        }
        (2.0 * below + log_term.exp()).min(1.0)
    }

    /// The smallest true loss (share of questions) that McNemar's test at 5 % would find in 80 %
    /// of such samples; `None` where n is too small to find any.
    ///
    /// The δ with √n δ = z_α √ψ + z_β √(ψ − δ²) (Connor 1987), where the flips are ψ = δ + κ: the
    /// loss itself and the κ = 2 min(lost, gained) / n that flipped both ways here.
    pub fn min_detectable(self) -> Option<f64> {
        let n = self.n as f64;
        let churn = 2.0 * self.lost.min(self.gained) as f64 / n;
        let found = |loss: f64| {
            let flips = churn + loss;
            let spread = (flips - loss * loss).max(0.0).sqrt();
            n.sqrt() * loss >= Z_ALPHA * flips.sqrt() + Z_POWER * spread
        };
        let (mut unseen, mut seen) = (0.0, 1.0 - churn);
        if self.n == 0 || !found(seen) {
            return None;
        }
        while seen - unseen > 1e-9 {
            let middle = (unseen + seen) / 2.0;
            match found(middle) {
                true => seen = middle,
                false => unseen = middle,
            }
        }
        Some(seen)
    }

    /// Questions after which the 95 % interval of the difference in accuracy would reach
    /// `half_width` to each side, from how often answers flipped here.
    ///
    /// Wald's variance ψ − δ² with one loss and one gain added (Bonett and Price 2012), so that
    /// nothing flipped on few items does not mean that nothing can.
    pub fn needed(self, half_width: f64) -> usize {
        let n = self.n as f64 + 2.0;
        let (lost, gained) = (self.lost as f64 + 1.0, self.gained as f64 + 1.0);
        let variance = (lost + gained) / n - ((lost - gained) / n).powi(2);
        ((Z_ALPHA / half_width).powi(2) * variance - 2.0)
            .ceil()
            .max(1.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{close, reference};
    use super::*;

    #[test]
    fn p_is_that_of_scipy_and_statsmodels() {
        for case in &reference().mcnemar {
            close(case.flips().p(), case.mid_p, 1e-12);
        }
    }

    #[test]
    fn what_did_not_change_has_p_1() {
        for n in [0, 1, 40] {
            let (lost, gained) = (0, 0);
            assert_eq!(Flips { n, lost, gained }.p(), 1.0);
        }
    }

    #[test]
    fn losses_and_gains_count_alike_for_p() {
        let (n, lost, gained) = (40, 9, 2);
        let there = Flips { n, lost, gained };
        let back = Flips {
            n,
            lost: gained,
            gained: lost,
        };
        assert_eq!(there.p(), back.p());
    }

    #[test]
    fn the_smallest_detectable_loss_is_the_root_of_connors_formula() {
        for case in &reference().power {
            match (case.flips().min_detectable(), case.loss) {
                (Some(ours), Some(theirs)) => close(ours, theirs, 1e-7),
                (ours, theirs) => assert_eq!(ours, theirs, "{case:?}"),
            }
        }
    }

    #[test]
    fn the_test_finds_the_smallest_detectable_loss_four_times_in_five() {
        for case in reference().power.iter().filter(|case| case.n >= 20) {
            let power = case.exact_power.expect("recorded where there is a loss");
            assert!((0.75..0.9).contains(&power), "{case:?}");
        }
    }

    #[test]
    fn as_many_items_as_are_needed_reach_the_half_width() {
        for case in &reference().needed {
            assert_eq!(case.flips().needed(case.half_width), case.needed);
        }
    }
}
