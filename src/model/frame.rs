//! What all layers share about one set of tokens.

use super::config::LayerKind;
use super::rotary::Rotary;
use anyhow::Result;
use candle_core::{Device, Tensor};
use candle_nn::rotary_emb;

/// Rotary angles and visibility of one set of tokens.
///
/// Visibility is a matrix instead of plain causality, so that texts with a common beginning can
/// stand in one set as a tree, and unrelated texts beside each other without padding.
pub struct Frame {
    global: Angles,
    /// In layers that attend to a window, where that differs.
    local: Option<Angles>,
    /// 0 where a token sees, −∞ where not, [tokens, cached + tokens].
    all: Tensor,
    /// The same within the window, where there is one.
    near: Option<Tensor>,
}

/// cos and sin of the rotary angles, [tokens, rotary_dim / 2] each.
struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Frame {
    /// `visible`: what each token sees, nearest first.
    pub(super) fn new(
        rotary: &Rotary,
        window: Option<usize>,
        positions: &[usize],
        columns: usize,
        visible: &[Vec<usize>],
        device: &Device,
    ) -> Result<Self> {
        let length = positions.iter().max().map_or(0, |last| last + 1);
        let angles =
            |frequencies: &[f32]| Angles::new(frequencies, rotary.amplitude, positions, device);
        let mask = |window: usize| -> Result<Tensor> {
            let mut mask = vec![f32::NEG_INFINITY; positions.len() * columns];
            for (row, seen) in mask.chunks_exact_mut(columns.max(1)).zip(visible) {
                for &column in seen.iter().take(window) {
                    row[column] = 0.0;
                }
            }
            Ok(Tensor::from_vec(mask, (positions.len(), columns), device)?)
        };
        Ok(Self {
            global: angles(rotary.global(length))?,
            local: rotary.local.as_deref().map(angles).transpose()?,
            all: mask(usize::MAX)?,
            near: window.map(mask).transpose()?,
        })
    }

    /// Who sees whom in a layer of this kind.
    pub(super) fn mask(&self, kind: LayerKind) -> &Tensor {
        let near = self.near.as_ref().filter(|_| kind.windowed);
        near.unwrap_or(&self.all)
    }

    /// Queries or keys, [states, tokens, heads, head_dim], at their positions.
    pub(super) fn rotate(&self, x: &Tensor, kind: LayerKind) -> candle_core::Result<Tensor> {
        if !kind.rotates {
            return Ok(x.clone());
        }
        let local = self.local.as_ref().filter(|_| kind.windowed);
        local.unwrap_or(&self.global).rotate(x)
    }
}

impl Angles {
    fn new(
        frequencies: &[f32],
        amplitude: f32,
        positions: &[usize],
        device: &Device,
    ) -> Result<Self> {
        let table = |f: fn(f32) -> f32| {
            let row = |&p: &usize| frequencies.iter().map(move |&freq| f(p as f32 * freq));
            let values: Vec<f32> = positions
                .iter()
                .flat_map(row)
                .map(|v| v * amplitude)
                .collect();
            Tensor::from_vec(values, (positions.len(), frequencies.len()), device)
        };
        Ok(Self {
            cos: table(f32::cos)?,
            sin: table(f32::sin)?,
        })
    }

    /// Dimension i of a head rotates with dimension i + rotary_dim / 2; those beyond stay.
    fn rotate(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (head_dim, rotary_dim) = (x.dim(3)?, 2 * self.cos.dim(1)?);
        if rotary_dim == head_dim {
            return rotary_emb::rope_thd(x, &self.cos, &self.sin);
        }
        let turned = x.narrow(3, 0, rotary_dim)?.contiguous()?;
        let turned = rotary_emb::rope_thd(&turned, &self.cos, &self.sin)?;
        let rest = x.narrow(3, rotary_dim, head_dim - rotary_dim)?;
        Tensor::cat(&[&turned, &rest], 3)
    }
}
