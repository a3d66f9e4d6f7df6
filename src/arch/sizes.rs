//! How large each layer is, where layers differ.

use super::Arch;
use super::half::Half;
use super::layer_keys::SHAPES;
use super::params::Params;
use super::tensors::TensorRule;
use crate::checkpoint::Checkpoint;
use anyhow::{Result, ensure};

/// The numbers of one layer. A GGUF file of some architectures gives every layer its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSize {
    /// Query heads; 0 where the layer has no attention.
    pub n_heads: usize,
    /// Key and value heads; 0 beside query heads where a matrix stands in for attention:
    /// x + W · norm(x).
    pub n_kv_heads: usize,
    /// Width of the gated MLP; 0 where runtimes pass the whole layer by.
    pub intermediate_size: usize,
}

impl LayerSize {
    /// Whether a matrix stands in for attention.
    pub fn is_linear(&self) -> bool {
        self.n_heads > 0 && self.n_kv_heads == 0
    }

    /// Whether a layer of this size has a tensor.
    pub(super) fn has(&self, rule: &TensorRule) -> bool {
        match rule.half() {
            Some(Half::Attention) if self.is_linear() => {
                rule.gguf.starts_with("attn_norm.") || rule.gguf.starts_with("attn_output.")
            }
            Some(Half::Attention) => self.n_heads > 0,
            Some(Half::Mlp) => self.intermediate_size > 0,
            None => true,
        }
    }

    fn check(&self, may_lack: bool) -> Result<()> {
        let Self {
            n_heads,
            n_kv_heads,
            intermediate_size,
        } = *self;
        let fits = match may_lack {
            // No query heads and no key heads, or no key heads, is said on purpose.
            true => n_kv_heads == 0 || (n_heads > 0 && n_heads.is_multiple_of(n_kv_heads)),
            false => n_kv_heads > 0 && n_heads > 0 && n_heads.is_multiple_of(n_kv_heads),
        };
        ensure!(
            fits,
            "num_key_value_heads {n_kv_heads} does not divide num_attention_heads {n_heads}"
        );
        ensure!(
            may_lack || intermediate_size > 0,
            "intermediate_size must not be 0"
        );
        Ok(())
    }
}

impl Params {
    /// The size of each of `n_layers` layers.
    ///
    /// # Errors
    /// A size that is missing; heads that are no whole number of groups.
    pub fn layer_sizes(&self, n_layers: usize) -> Result<Vec<LayerSize>> {
        let [heads, kv_heads, ffn] = SHAPES;
        let may_lack = SHAPES.iter().any(|key| self.differs(key));
        let size = |layer: usize| {
            let count = |key: &str| match self.of_layer(key, layer) {
                Some(value) => Ok(value as usize),
                None => self.count(key),
            };
            let size = LayerSize {
                n_heads: count(heads)?,
                n_kv_heads: count(kv_heads)?,
                intermediate_size: count(ffn)?,
            };
            size.check(may_lack)?;
            Ok(size)
        };
        (0..n_layers).map(size).collect()
    }
}

impl Arch {
    /// The size of each layer, where this architecture's layers may differ in what they have.
    ///
    /// # Errors
    /// Sizes that cannot be.
    pub(super) fn differing_sizes(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Vec<LayerSize>>> {
        if !self.params.iter().any(|param| param.per_layer) {
            return Ok(None);
        }
        let n_layers = self.n_layers(checkpoint)?;
        self.params(checkpoint)?.layer_sizes(n_layers).map(Some)
    }

    /// The layers of a checkpoint that have no attention.
    ///
    /// # Errors
    /// Sizes that cannot be.
    pub(super) fn headless(&self, checkpoint: &Checkpoint) -> Result<Vec<usize>> {
        let sizes = self.differing_sizes(checkpoint)?.unwrap_or_default();
        let headless = |layer: &usize| sizes[*layer].n_heads == 0;
        Ok((0..sizes.len()).filter(headless).collect())
    }
}
