//! How far the pruned model is from the original, and gradients of that.

use anyhow::Result;
use candle_core::{D, DType, Tensor};

/// The least probability that the tokens without a place of their own have together: below, 1 − Σ q
/// is rounding alone.
pub(super) const LEAST_REST: f64 = 1e-6;

/// What the original gives as next tokens at some positions: the likeliest with their probabilities,
/// and what all others have together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Next {
    /// Tokens that have a place of their own, at every position.
    pub k: usize,
    /// They, [positions, k].
    pub tokens: Vec<u32>,
    /// ln p of each, [positions, k].
    pub log_probs: Vec<f32>,
    /// The probability of all others, [positions].
    pub rest: Vec<f32>,
}

impl Next {
    /// How many positions there are.
    pub fn positions(&self) -> usize {
        self.rest.len()
    }

    /// Adds the positions of another text with the same k.
    pub fn append(&mut self, other: &Self) {
        self.k = other.k;
        self.tokens.extend_from_slice(&other.tokens);
        self.log_probs.extend_from_slice(&other.log_probs);
        self.rest.extend_from_slice(&other.rest);
    }

    /// Some of the positions.
    pub fn part(&self, positions: std::ops::Range<usize>) -> Self {
        let places = positions.start * self.k..positions.end * self.k;
        Self {
            k: self.k,
            tokens: self.tokens.get(places.clone()).unwrap_or_default().to_vec(),
            log_probs: self.log_probs.get(places).unwrap_or_default().to_vec(),
            rest: self.rest.get(positions).unwrap_or_default().to_vec(),
        }
    }

    /// Σ p ln p over the tokens with a place of their own and the rest as one.
    fn negative_entropy(&self) -> f64 {
        let places = self.log_probs.iter().map(|&log_p| f64::from(log_p));
        let places: f64 = places.map(|log_p| log_p.exp() * log_p).sum();
        let rest = self.rest.iter().map(|&p| f64::from(p));
        places + rest.filter(|p| *p > 0.0).map(|p| p * p.ln()).sum::<f64>()
    }
}

/// ln Σ e^x of each row, [rows, n] → [rows, 1].
///
/// # Errors
/// What candle reports.
pub fn log_sum_exp(logits: &Tensor) -> Result<Tensor> {
    let highest = logits.detach().max_keepdim(D::Minus1)?;
    let sum = logits.broadcast_sub(&highest)?.exp()?;
    Ok((sum.sum_keepdim(D::Minus1)?.log()? + highest)?)
}

/// Σ over positions of KL(original ‖ pruned) = Σ_t p_t (ln p_t − ln q_t) at temperature 1, in nats
/// (Hinton, Vinyals and Dean, arXiv 1503.02531, whose cross-entropy is this and a constant). Tokens
/// without a place of their own count as one, which gives at most the true divergence (the log sum
/// inequality). `logits` are the pruned model's, [positions, vocab_size], and `log_sums` their
/// [`log_sum_exp`].
///
/// # Errors
/// Another number of positions; what candle reports.
pub fn divergence(logits: &Tensor, log_sums: &Tensor, next: &Next) -> Result<Tensor> {
    let device = logits.device();
    let places = (next.positions(), next.k);
    let tokens = Tensor::from_slice(&next.tokens, places, device)?;
    let p = Tensor::from_slice(&next.log_probs, places, device)?.exp()?;
    let log_q = logits.gather(&tokens, D::Minus1)?.broadcast_sub(log_sums)?;
    let mut crossed = (&log_q * p)?.sum_all()?;
    if next.rest.iter().any(|&p| p > 0.0) {
        let p_rest = Tensor::from_slice(&next.rest, next.positions(), device)?;
        let q_rest = log_q.exp()?.sum(D::Minus1)?.affine(-1.0, 1.0)?;
        let log_rest = q_rest.maximum(LEAST_REST)?.log()?;
        crossed = (crossed + (log_rest * p_rest)?.sum_all()?)?;
    }
    Ok(crossed.affine(-1.0, next.negative_entropy())?)
}

/// Σ over tokens of ‖s − t‖² / ‖t‖²: how far states of the pruned model are from the original's,
/// [.., hidden_size] each, whatever their scale (a hint as of FitNets, Romero et al., arXiv
/// 1412.6550, without a regressor, since both have the same width). Each token is divided by its own
/// size: the first one's is often a thousand times that of the others.
///
/// # Errors
/// Other shapes; what candle reports.
pub fn distance(states: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let targets = targets.to_dtype(DType::F32)?;
    let gaps = (states.to_dtype(DType::F32)? - &targets)?.sqr()?;
    let sizes = targets
        .sqr()?
        .sum(D::Minus1)?
        .maximum(f64::from(f32::MIN_POSITIVE))?;
    Ok((gaps.sum(D::Minus1)? / sizes)?.sum_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    const VOCAB: usize = 11;

    fn logits(seed: u64, rows: usize) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let logit = |_| 6.0 * rng.f32() - 3.0;
        (0..rows * VOCAB).map(logit).collect()
    }

    fn log_softmax(row: &[f32]) -> Vec<f64> {
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        row.iter().map(|&x| f64::from(x) - sum.ln()).collect()
    }

    /// The k likeliest of each row.
    fn next(logits: &[f32], k: usize) -> Next {
        let mut next = Next {
            k,
            ..Next::default()
        };
        for row in logits.chunks_exact(VOCAB) {
            let log_p = log_softmax(row);
            let mut order: Vec<usize> = (0..VOCAB).collect();
            order.sort_by(|&a, &b| log_p[b].total_cmp(&log_p[a]));
            next.tokens.extend(order[..k].iter().map(|&t| t as u32));
            next.log_probs
                .extend(order[..k].iter().map(|&t| log_p[t] as f32));
            let rest: f64 = order[k..].iter().map(|&t| log_p[t].exp()).sum();
            next.rest.push(rest as f32);
        }
        next
    }

    /// In 64 bits, token by token.
    fn plainly(original: &[f32], pruned: &[f32], k: usize) -> f64 {
        let rows = original.chunks_exact(VOCAB).zip(pruned.chunks_exact(VOCAB));
        rows.map(|(original, pruned)| {
            let (p, q) = (log_softmax(original), log_softmax(pruned));
            let mut order: Vec<usize> = (0..VOCAB).collect();
            order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
            let own: f64 = order[..k].iter().map(|&t| p[t].exp() * (p[t] - q[t])).sum();
            let rest = |of: &[f64]| order[k..].iter().map(|&t| of[t].exp()).sum::<f64>();
            match k == VOCAB {
                true => own,
                false => own + rest(&p) * (rest(&p) / rest(&q)).ln(),
            }
        })
        .sum()
    }

    fn found(pruned: &[f32], next: &Next) -> (f64, Vec<f32>) {
        let rows = pruned.len() / VOCAB;
        let logits = Var::from_slice(pruned, (rows, VOCAB), &Device::Cpu).unwrap();
        let loss = divergence(&logits, &log_sum_exp(&logits).unwrap(), next).unwrap();
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(&logits).unwrap().flatten_all().unwrap();
        let value: f32 = loss.to_scalar().unwrap();
        (f64::from(value), gradient.to_vec1().unwrap())
    }

    #[test]
    fn the_divergence_is_that_of_a_plain_computation() {
        let (original, pruned) = (logits(1, 3), logits(2, 3));
        for k in [1, 4, VOCAB] {
            let (value, _) = found(&pruned, &next(&original, k));
            let expected = plainly(&original, &pruned, k);
            assert!((value - expected).abs() < 1e-5, "{k}: {value} {expected}");
        }
        let (zero, gradient) = found(&original, &next(&original, 4));
        assert!(zero.abs() < 1e-5, "{zero}");
        assert!(gradient.iter().all(|g| g.abs() < 1e-5), "{gradient:?}");
    }

    #[test]
    fn merging_tokens_never_shows_more_than_there_is() {
        let (original, pruned) = (logits(3, 5), logits(4, 5));
        let all = found(&pruned, &next(&original, VOCAB)).0;
        for k in 1..VOCAB {
            assert!(found(&pruned, &next(&original, k)).0 <= all + 1e-5, "{k}");
        }
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let (original, pruned) = (logits(5, 2), logits(6, 2));
        let next = next(&original, 4);
        let (_, gradient) = found(&pruned, &next);
        for (i, found) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut moved = pruned.clone();
                moved[i] += by;
                plainly(&original, &moved, 4)
            };
            let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            assert!(
                (f64::from(*found) - slope).abs() < 1e-4,
                "{i}: {found} {slope}"
            );
        }
    }

    #[test]
    fn the_distance_of_states_knows_no_scale() {
        let tensor = |values: &[f32]| Tensor::from_slice(values, (2, 2), &Device::Cpu).unwrap();
        let far = |states: &[f32], targets: &[f32]| -> f32 {
            let found = distance(&tensor(states), &tensor(targets)).unwrap();
            found.to_scalar().unwrap()
        };
        // (1² + 0²)/(3² + 4²) + 10²/(0² + 20²)
        let found = far(&[4.0, 4.0, 0.0, 10.0], &[3.0, 4.0, 0.0, 20.0]);
        assert!((found - (1.0 / 25.0 + 0.25)).abs() < 1e-6, "{found}");
        let scaled = far(&[400.0, 400.0, 0.0, 0.1], &[300.0, 400.0, 0.0, 0.2]);
        assert!((scaled - found).abs() < 1e-6, "{scaled}");
    }
}
