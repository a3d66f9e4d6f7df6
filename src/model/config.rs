//! Hyper-parameters of the decoder, checked once.

use super::weights::Weights;
use crate::arch::{Arch, RopeScaling};
use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result, ensure};

/// What the decoder needs to know beyond the weights.
#[derive(Debug, Clone)]
pub struct Config {
    /// Transformer blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads, each shared by n_heads / n_kv_heads query heads.
    pub n_kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Tokens in the embedding.
    pub vocab_size: usize,
    /// The longest text the model was made for.
    pub context_length: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How they are stretched.
    pub rope_scaling: RopeScaling,
    /// How far back a token sees, where that is limited.
    pub sliding_window: Option<usize>,
}

impl Config {
    /// Reads and checks a checkpoint's hyper-parameters.
    ///
    /// # Errors
    /// Missing or contradictory values.
    pub fn read(arch: &Arch, checkpoint: &Checkpoint) -> Result<Self> {
        let params = arch.params(checkpoint)?;
        let rope_scaling = match (checkpoint.gguf(), checkpoint.hf()) {
            (Some(metadata), _) => RopeScaling::from_gguf(&arch.name, metadata)?,
            (_, Some(files)) => RopeScaling::from_hf(&files.config)?,
            _ => RopeScaling::None,
        };
        let embedding = checkpoint
            .tensors()
            .iter()
            .find(|t| {
                arch.slot(&t.name)
                    .is_some_and(|s| s.rule.gguf == "token_embd.weight")
            })
            .context("the checkpoint has no token embedding")?;
        let vocab_size = *embedding.shape.first().context("a flat token embedding")? as usize;
        if let Some(said) = params.get("vocab_size") {
            ensure!(
                said as usize == vocab_size,
                "{}: the metadata say {said} tokens, but the embedding has {vocab_size} rows",
                checkpoint.path().display()
            );
        }
        let config = Self {
            n_layers: params.count("block_count")?,
            hidden_size: params.count("embedding_length")?,
            intermediate_size: params.count("feed_forward_length")?,
            n_heads: params.count("attention.head_count")?,
            n_kv_heads: params.count("attention.head_count_kv")?,
            head_dim: params.head_dim()?,
            vocab_size,
            context_length: params.count("context_length")?,
            rms_norm_eps: params
                .get("attention.layer_norm_rms_epsilon")
                .unwrap_or(1e-6),
            rope_theta: params.get("rope.freq_base").unwrap_or(10_000.0),
            rope_scaling,
            sliding_window: params.get("attention.sliding_window").map(|w| w as usize),
        };
        config
            .check()
            .with_context(|| checkpoint.path().display().to_string())?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let (heads, kv) = (self.n_heads, self.n_kv_heads);
        ensure!(self.n_layers > 0, "the model has no layers");
        ensure!(
            kv > 0 && heads > 0 && heads.is_multiple_of(kv),
            "num_key_value_heads {kv} does not divide num_attention_heads {heads}"
        );
        ensure!(
            self.head_dim > 0 && self.head_dim.is_multiple_of(2),
            "head_dim (attention.key_length) must be even and not 0, but is {}",
            self.head_dim
        );
        let sizes = [self.hidden_size, self.intermediate_size, self.vocab_size];
        ensure!(
            sizes.iter().all(|&size| size > 0),
            "hidden_size, intermediate_size and vocab_size must not be 0"
        );
        ensure!(self.rope_theta > 0.0, "rope_theta must be positive");
        Ok(())
    }

    /// The shape that a tensor must have, by its GGUF name without layer; `None` for a tensor
    /// that the decoder does not use.
    pub fn shape_of(&self, name: &str) -> Option<Vec<usize>> {
        let (hidden, ffn, vocab) = (self.hidden_size, self.intermediate_size, self.vocab_size);
        let q = self.n_heads * self.head_dim;
        let kv = self.n_kv_heads * self.head_dim;
        Some(match name {
            "token_embd.weight" | "output.weight" => vec![vocab, hidden],
            "output_norm.weight" | "attn_norm.weight" | "ffn_norm.weight" => vec![hidden],
            "rope_freqs.weight" => vec![self.head_dim / 2],
            "attn_q.weight" => vec![q, hidden],
            "attn_q.bias" => vec![q],
            "attn_k.weight" | "attn_v.weight" => vec![kv, hidden],
            "attn_k.bias" | "attn_v.bias" => vec![kv],
            "attn_output.weight" => vec![hidden, q],
            "ffn_gate.weight" | "ffn_up.weight" => vec![ffn, hidden],
            "ffn_gate.bias" | "ffn_up.bias" => vec![ffn],
            "ffn_down.weight" => vec![hidden, ffn],
            "attn_output.bias" | "ffn_down.bias" => vec![hidden],
            _ => return None,
        })
    }

    /// Checks a checkpoint's tensors against these hyper-parameters without reading them.
    ///
    /// # Errors
    /// A tensor of another shape.
    pub fn check_shapes(&self, arch: &Arch, checkpoint: &Checkpoint) -> Result<()> {
        for tensor in checkpoint.tensors() {
            let Some(slot) = arch.slot(&tensor.name) else {
                continue;
            };
            let expected = self.shape_of(&slot.rule.gguf);
            let found = tensor.shape.iter().map(|&d| d as usize);
            ensure!(
                expected
                    .as_ref()
                    .is_none_or(|e| found.eq(e.iter().copied())),
                "{}: tensor {} has shape {:?}, but the metadata say {:?}",
                checkpoint.path().display(),
                tensor.name,
                tensor.shape,
                expected.unwrap_or_default()
            );
        }
        Ok(())
    }

    /// Radians a position for each pair of dimensions: θ^(−2i/d), stretched as the scaling says.
    pub(super) fn inv_freq(&self, weights: &Weights) -> Result<Vec<f32>> {
        let pairs = self.head_dim / 2;
        let stored = weights.optional("rope_freqs.weight")?;
        let stored = stored.map(|t| t.to_vec1::<f32>()).transpose()?;
        let scaled = || {
            self.rope_scaling
                .freq_factors(self.head_dim, self.rope_theta)
        };
        let divisors = stored.or_else(scaled);
        let stretch = match self.rope_scaling {
            RopeScaling::Linear { factor } => factor,
            _ => 1.0,
        };
        let frequency = |i: usize| {
            let divisor = divisors.as_ref().map_or(1.0, |d| f64::from(d[i]));
            let plain = self.rope_theta.powf(-2.0 * i as f64 / self.head_dim as f64);
            (plain / divisor / stretch) as f32
        };
        Ok((0..pairs).map(frequency).collect())
    }
}
