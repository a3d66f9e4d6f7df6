//! What all layers share about one set of tokens.

use anyhow::Result;
use candle_core::{Device, Tensor};

/// Rotary angles and visibility of one set of tokens.
///
/// Visibility is a matrix instead of plain causality, so that texts with a common beginning can
/// stand in one set as a tree, and unrelated texts beside each other without padding.
pub struct Frame {
    /// cos of the rotary angles, [tokens, head_dim / 2].
    pub(super) cos: Tensor,
    /// sin of the rotary angles, [tokens, head_dim / 2].
    pub(super) sin: Tensor,
    /// 0 where a token sees, −∞ where not, [tokens, cached + tokens].
    pub(super) mask: Tensor,
}

impl Frame {
    pub(super) fn new(
        inv_freq: &[f32],
        positions: &[usize],
        cached: usize,
        visible: impl Fn(usize, usize) -> bool,
        device: &Device,
    ) -> Result<Self> {
        let tokens = positions.len();
        let angle = |f: fn(f32) -> f32| {
            let values: Vec<f32> = positions
                .iter()
                .flat_map(|&p| inv_freq.iter().map(move |&freq| f(p as f32 * freq)))
                .collect();
            Tensor::from_vec(values, (tokens, inv_freq.len()), device)
        };
        let columns = cached + tokens;
        let mut mask = Vec::with_capacity(tokens * columns);
        for i in 0..tokens {
            mask.extend((0..columns).map(|j| match visible(i, j) {
                true => 0f32,
                false => f32::NEG_INFINITY,
            }));
        }
        Ok(Self {
            cos: angle(f32::cos)?,
            sin: angle(f32::sin)?,
            mask: Tensor::from_vec(mask, (tokens, columns), device)?,
        })
    }
}
