//! One transformer block: pre-norm attention with grouped queries, then a gated MLP.

use super::config::Config;
use super::frame::Frame;
use super::weights::Weights;
use crate::arch::{Activation, Decoder, RopePairing};
use anyhow::Result;
use candle_core::{D, Tensor};
use candle_nn::{Linear, Module, RmsNorm, ops, rotary_emb};

/// Keys and values that one layer has seen: [1, n_kv_heads, tokens, head_dim] each.
#[derive(Default, Clone)]
pub struct KvCache {
    seen: Option<(Tensor, Tensor)>,
}

impl KvCache {
    /// Appends and returns everything seen so far.
    fn append(&mut self, k: Tensor, v: Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        let seen = match self.seen.take() {
            None => (k, v),
            Some((old_k, old_v)) => (
                Tensor::cat(&[&old_k, &k], 2)?,
                Tensor::cat(&[&old_v, &v], 2)?,
            ),
        };
        self.seen = Some(seen.clone());
        Ok(seen)
    }
}

pub(super) struct Layer {
    decoder: Decoder,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    attn_norm: RmsNorm,
    attn_q: Linear,
    attn_k: Linear,
    attn_v: Linear,
    attn_output: Linear,
    ffn_norm: RmsNorm,
    ffn_gate: Linear,
    ffn_up: Linear,
    ffn_down: Linear,
}

impl Layer {
    pub(super) fn load(
        weights: &Weights,
        config: &Config,
        decoder: Decoder,
        index: usize,
    ) -> Result<Self> {
        let linear = |name: &str| -> Result<Linear> {
            let weight = weights.tensor(&format!("blk.{index}.{name}.weight"))?;
            let bias = weights.optional(&format!("blk.{index}.{name}.bias"))?;
            Ok(Linear::new(weight, bias))
        };
        let norm = |name: &str| -> Result<RmsNorm> {
            let weight = weights.tensor(&format!("blk.{index}.{name}.weight"))?;
            Ok(RmsNorm::new(weight, config.rms_norm_eps))
        };
        Ok(Self {
            decoder,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            attn_norm: norm("attn_norm")?,
            attn_q: linear("attn_q")?,
            attn_k: linear("attn_k")?,
            attn_v: linear("attn_v")?,
            attn_output: linear("attn_output")?,
            ffn_norm: norm("ffn_norm")?,
            ffn_gate: linear("ffn_gate")?,
            ffn_up: linear("ffn_up")?,
            ffn_down: linear("ffn_down")?,
        })
    }

    /// [states, tokens, hidden_size] → the same.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        frame: &Frame,
        cache: Option<&mut KvCache>,
    ) -> candle_core::Result<Tensor> {
        let x = (x + self.attention(&self.attn_norm.forward(x)?, frame, cache)?)?;
        &x + self.mlp(&self.ffn_norm.forward(&x)?)?
    }

    fn attention(
        &self,
        x: &Tensor,
        frame: &Frame,
        cache: Option<&mut KvCache>,
    ) -> candle_core::Result<Tensor> {
        let (states, tokens, _) = x.dims3()?;
        let heads = |projection: &Linear, n: usize| {
            projection
                .forward(x)?
                .reshape((states, tokens, n, self.head_dim))
        };
        let q = self.rotate(&heads(&self.attn_q, self.n_heads)?, frame)?;
        let k = self.rotate(&heads(&self.attn_k, self.n_kv_heads)?, frame)?;
        let v = heads(&self.attn_v, self.n_kv_heads)?;
        let (k, v) = (
            k.transpose(1, 2)?.contiguous()?,
            v.transpose(1, 2)?.contiguous()?,
        );
        let (k, v) = match cache {
            Some(cache) => cache.append(k, v)?,
            None => (k, v),
        };
        // The query heads of one key head are rows of one product: keys are never repeated.
        let group = self.n_heads / self.n_kv_heads;
        let q = (q * (self.head_dim as f64).powf(-0.5))?;
        let q = q.transpose(1, 2)?.contiguous()?;
        let q = q.reshape((states, self.n_kv_heads, group * tokens, self.head_dim))?;
        let seen = k.dim(2)?;
        let scores = q.matmul(&k.transpose(D::Minus1, D::Minus2)?)?;
        let scores = scores
            .reshape((states, self.n_heads, tokens, seen))?
            .broadcast_add(&frame.mask)?;
        let weights = ops::softmax_last_dim(&scores)?;
        let weights = weights.reshape((states, self.n_kv_heads, group * tokens, seen))?;
        let mixed = weights
            .matmul(&v)?
            .reshape((states, self.n_heads, tokens, self.head_dim))?;
        let mixed = mixed.transpose(1, 2)?.contiguous()?;
        self.attn_output
            .forward(&mixed.reshape((states, tokens, ()))?)
    }

    fn rotate(&self, x: &Tensor, frame: &Frame) -> candle_core::Result<Tensor> {
        match self.decoder.rope {
            RopePairing::Half => rotary_emb::rope_thd(x, &frame.cos, &frame.sin),
        }
    }

    fn mlp(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let gate = self.ffn_gate.forward(x)?;
        let gate = match self.decoder.activation {
            Activation::Silu => gate.silu()?,
        };
        self.ffn_down.forward(&(gate * self.ffn_up.forward(x)?)?)
    }
}
