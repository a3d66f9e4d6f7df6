//! Whether a device computes what a CPU does in f32: a broken kernel looks like a broken model.

use crate::eval::Likelihood;
use crate::model::Compute;
use serde::{Deserialize, Serialize};

/// One model's answers to a few questions, on two devices or in two types.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Questions.
    pub questions: usize,
    /// Tokens whose likelihoods were compared.
    pub tokens: usize,
    /// Mean difference of a token's log-probability, nats.
    pub mean: f64,
    /// The largest mean difference of one answer's tokens.
    pub largest: f64,
    /// The largest mean difference that rounding explains.
    pub tolerance: f64,
    /// Whether the differences are larger than that.
    pub beyond: bool,
}

/// Nats of a token that rounding in a type explains. f32 differs by the order of sums; 16 bits keep 8
/// (bf16) or 11 of the 24 bits of every product; blocks of 8 bits and less were seen to differ by
/// hundredths.
fn tolerance(compute: Compute) -> f64 {
    match compute {
        Compute::F32 => 0.002,
        Compute::F16 => 0.02,
        Compute::BF16 | Compute::Q8_0 | Compute::Stored => 0.15,
    }
}

impl Agreement {
    /// Compares the likelihoods of the same answers, `[question][answer]`, with the numbers of their
    /// tokens.
    pub fn of(
        reference: &[Vec<Likelihood>],
        found: &[Vec<Likelihood>],
        tokens: &[Vec<usize>],
        compute: Compute,
    ) -> Self {
        let (mut sum, mut n, mut largest) = (0.0, 0, 0.0f64);
        let answers = reference.iter().zip(found).zip(tokens);
        for ((before, after), tokens) in answers.flat_map(|((a, b), t)| a.iter().zip(b).zip(t)) {
            let difference = (after.log_prob - before.log_prob).abs();
            sum += difference;
            n += tokens;
            // A number that is none is no agreement.
            let mean = difference / (*tokens).max(1) as f64;
            largest = if mean.is_nan() {
                f64::INFINITY
            } else {
                largest.max(mean)
            };
        }
        let mean = sum / n.max(1) as f64;
        let tolerance = tolerance(compute);
        Self {
            questions: reference.len(),
            tokens: n,
            mean,
            largest,
            tolerance,
            beyond: mean.is_nan() || mean > tolerance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(log_probs: &[f64]) -> Vec<Vec<Likelihood>> {
        let likelihood = |log_prob: &f64| {
            vec![Likelihood {
                log_prob: *log_prob,
                greedy: true,
            }]
        };
        log_probs.iter().map(likelihood).collect()
    }

    #[test]
    fn rounding_agrees_and_another_model_does_not() {
        let (reference, tokens) = (answers(&[-8.0, -4.0]), vec![vec![4], vec![2]]);
        let with =
            |found: &[f64], compute| Agreement::of(&reference, &answers(found), &tokens, compute);
        let rounded = with(&[-8.3, -3.9], Compute::BF16);
        assert!(!rounded.beyond && (rounded.mean - 0.4 / 6.0).abs() < 1e-12);
        assert!((rounded.largest - 0.075).abs() < 1e-12);
        assert!(with(&[-8.3, -3.9], Compute::F32).beyond);
        assert!(with(&[-20.0, -9.0], Compute::BF16).beyond);
        assert!(with(&[f64::NAN, -4.0], Compute::BF16).beyond);
    }
}
