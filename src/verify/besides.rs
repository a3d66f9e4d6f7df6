//! What a verdict may be about besides the answers: bytes, the perplexity of a text, speed.

use crate::eval::stats::{Interval, bootstrap};
use crate::eval::{Perplexity, Speed};
use serde::{Deserialize, Serialize};

/// The same number of both models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Both<T> {
    /// The original's.
    pub original: T,
    /// The pruned model's.
    pub pruned: T,
}

/// What was measured besides the answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Besides<'a> {
    /// Bytes of the tensors.
    pub bytes: Both<u64>,
    /// Of a text that was given.
    pub perplexity: Option<&'a PerplexityChange>,
    /// Of slim's own decoder, where it was asked for.
    pub speed: Option<Both<Speed>>,
}

/// What became of a text's perplexity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerplexityChange {
    /// The text, as it was named.
    pub text: String,
    /// Of both models.
    #[serde(flatten)]
    pub both: Both<Perplexity>,
    /// The pruned model's over the original's, by a paired bootstrap over chunks.
    pub ratio: Interval,
}

impl PerplexityChange {
    /// Compares two measurements of the same text; `None` where they are not of the same chunks.
    pub fn of(text: &str, original: Perplexity, pruned: Perplexity) -> Option<Self> {
        let (before, after) = (&original.losses, &pruned.losses);
        let differences = before
            .iter()
            .zip(after)
            .map(|(before, after)| [after - before, 1.0]);
        let rows: Vec<[f64; 2]> = differences.collect();
        let mean = |[sum, n]: &[f64; 2]| (*n > 0.0).then(|| (sum / n).exp());
        let ratio = bootstrap(&rows, &[], mean).filter(|_| before.len() == after.len())?;
        Some(Self {
            text: text.to_owned(),
            both: Both { original, pruned },
            ratio,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(losses: &[f64]) -> Perplexity {
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        Perplexity {
            perplexity: mean.exp(),
            stderr: 0.0,
            ctx_size: 8,
            chunks: losses.len(),
            scored: 3 * losses.len(),
            losses: losses.to_vec(),
        }
    }

    #[test]
    fn a_ratio_of_perplexities_is_paired_chunk_by_chunk() {
        let before = [1.0, 3.0, 2.0, 5.0];
        // The chunks differ far more than the models do, and by nearly the same in each.
        let after: Vec<f64> = before.iter().map(|loss| loss + 0.1).collect();
        let change = PerplexityChange::of("t", measured(&before), measured(&after)).unwrap();
        assert!((change.ratio.estimate - 0.1f64.exp()).abs() < 1e-12);
        assert!(change.ratio.high - change.ratio.low < 1e-9);
        assert!(PerplexityChange::of("t", measured(&before), measured(&after[1..])).is_none());
    }
}
