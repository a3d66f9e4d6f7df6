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
        columns: usize,
        visible: &[Vec<usize>],
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
        let mut mask = vec![f32::NEG_INFINITY; tokens * columns];
        for (row, seen) in mask.chunks_exact_mut(columns.max(1)).zip(visible) {
            for &column in seen {
                row[column] = 0.0;
            }
        }
        Ok(Self {
            cos: angle(f32::cos)?,
            sin: angle(f32::sin)?,
            mask: Tensor::from_vec(mask, (tokens, columns), device)?,
        })
    }
}
