//! One transformer block: attention with grouped queries, then a gated MLP, each between the
//! norms that the architecture has before it, after it, or both.

use super::config::{Config, LayerKind};
use super::frame::Frame;
use super::mlp::Mlp;
use super::weights::Weights;
use anyhow::Result;
use candle_core::{D, Tensor};
use candle_nn::{Linear, Module, RmsNorm, ops};

/// Queries that are scored at once in a long text.
const STRETCH: usize = 256;

/// Keys and values that one layer has seen. What is seen later is written behind it, into room
/// that doubles when it is used up, so that a step copies only what is new.
#[derive(Default, Clone)]
pub struct KvCache {
    /// Keys and values, [1, n_kv_heads, room, head_dim] each.
    room: Option<(Tensor, Tensor)>,
    /// Tokens that were seen.
    len: usize,
}

impl KvCache {
    /// Appends [1, n_kv_heads, tokens, head_dim] and returns everything seen so far.
    fn append(&mut self, k: &Tensor, v: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        let end = self.len + k.dim(2)?;
        let (keys, values) = match self.room.take() {
            Some((keys, values)) if keys.dim(2)? >= end => (keys, values),
            old => self.grown(old, k, end.max(2 * self.len))?,
        };
        keys.slice_set(k, 2, self.len)?;
        values.slice_set(v, 2, self.len)?;
        self.len = end;
        let seen = (keys.narrow(2, 0, end)?, values.narrow(2, 0, end)?);
        self.room = Some((keys, values));
        Ok(seen)
    }

    fn grown(
        &self,
        old: Option<(Tensor, Tensor)>,
        like: &Tensor,
        room: usize,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let (states, n_kv_heads, _, head_dim) = like.dims4()?;
        let shape = (states, n_kv_heads, room, head_dim);
        let empty = || Tensor::zeros(shape, like.dtype(), like.device());
        let (keys, values) = (empty()?, empty()?);
        if let Some((old_keys, old_values)) = old {
            keys.slice_set(&old_keys.narrow(2, 0, self.len)?.contiguous()?, 2, 0)?;
            values.slice_set(&old_values.narrow(2, 0, self.len)?.contiguous()?, 2, 0)?;
        }
        Ok((keys, values))
    }

    /// Appends all that another cache of the layer has seen.
    ///
    /// # Errors
    /// What candle reports.
    pub fn extend(&mut self, other: &KvCache) -> candle_core::Result<()> {
        let Some((keys, values)) = &other.room else {
            return Ok(());
        };
        let seen = |all: &Tensor| all.narrow(2, 0, other.len)?.contiguous();
        self.append(&seen(keys)?, &seen(values)?).map(|_| ())
    }
}

pub(super) struct Layer {
    kind: LayerKind,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    scale: f64,
    softcap: Option<f64>,
    residual_scale: f64,
    attn_norm: Option<RmsNorm>,
    attn_q: Linear,
    attn_k: Linear,
    attn_v: Linear,
    attn_q_norm: Option<RmsNorm>,
    attn_k_norm: Option<RmsNorm>,
    attn_output: Linear,
    post_attention_norm: Option<RmsNorm>,
    ffn_norm: Option<RmsNorm>,
    mlp: Mlp,
    post_ffw_norm: Option<RmsNorm>,
}

impl Layer {
    pub(super) fn load(weights: &Weights, config: &Config, index: usize) -> Result<Self> {
        let norm = |name: &str| -> Result<Option<RmsNorm>> {
            let weight = weights.optional(&format!("blk.{index}.{name}.weight"))?;
            Ok(weight.map(|weight| RmsNorm::new(weight, config.rms_norm_eps)))
        };
        let [attn_q, attn_k, attn_v] = projections(weights, config, index)?;
        Ok(Self {
            kind: config.kinds[index],
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            scale: config.attention_scale,
            softcap: config.attn_softcap,
            residual_scale: config.residual_scale,
            attn_norm: norm("attn_norm")?,
            attn_q,
            attn_k,
            attn_v,
            attn_q_norm: norm("attn_q_norm")?,
            attn_k_norm: norm("attn_k_norm")?,
            attn_output: weights.linear(&format!("blk.{index}.attn_output"))?,
            post_attention_norm: norm("post_attention_norm")?,
            ffn_norm: norm("ffn_norm")?,
            mlp: Mlp::load(weights, config, index)?,
            post_ffw_norm: norm("post_ffw_norm")?,
        })
    }

    /// [states, tokens, hidden_size] → the same.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        frame: &Frame,
        cache: Option<&mut KvCache>,
    ) -> candle_core::Result<Tensor> {
        let mixed = self.attention(&normed(&self.attn_norm, x)?, frame, cache)?;
        let x = self.add(x, &normed(&self.post_attention_norm, &mixed)?)?;
        let out = self.mlp.forward(&normed(&self.ffn_norm, &x)?)?;
        self.add(&x, &normed(&self.post_ffw_norm, &out)?)
    }

    fn add(&self, x: &Tensor, out: &Tensor) -> candle_core::Result<Tensor> {
        match self.residual_scale == 1.0 {
            true => x + out,
            false => x + (out * self.residual_scale)?,
        }
    }

    fn attention(
        &self,
        x: &Tensor,
        frame: &Frame,
        cache: Option<&mut KvCache>,
    ) -> candle_core::Result<Tensor> {
        let (states, tokens, _) = x.dims3()?;
        let heads = |x: Tensor, n: usize| x.reshape((states, tokens, n, self.head_dim));
        let q = self.heads(&self.attn_q, &self.attn_q_norm, x, self.n_heads)?;
        let k = self.heads(&self.attn_k, &self.attn_k_norm, x, self.n_kv_heads)?;
        let (q, k) = (frame.rotate(&q, self.kind)?, frame.rotate(&k, self.kind)?);
        let v = heads(self.attn_v.forward(x)?, self.n_kv_heads)?;
        let (k, v) = (
            k.transpose(1, 2)?.contiguous()?,
            v.transpose(1, 2)?.contiguous()?,
        );
        let (k, v) = match cache {
            Some(cache) => cache.append(&k, &v)?,
            None => (k, v),
        };
        let q = (q * self.scale)?.transpose(1, 2)?.contiguous()?;
        let mask = frame.mask(self.kind);
        let mixed = match tokens > 2 * STRETCH {
            true => self.mix_in_stretches(&q, &k, &v, mask)?,
            false => self.mix(&q, &k, &v, mask)?,
        };
        let mixed = mixed.transpose(1, 2)?.contiguous()?;
        self.attn_output
            .forward(&mixed.reshape((states, tokens, ()))?)
    }

    /// Long texts, some queries at a time: all scores at once would not fit. A token sees none that
    /// stands behind it, so what is behind a stretch is left out.
    fn mix_in_stretches(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        mask: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let (tokens, seen) = (q.dim(2)?, k.dim(2)?);
        let mut parts = Vec::with_capacity(tokens.div_ceil(STRETCH));
        for start in (0..tokens).step_by(STRETCH) {
            let n = STRETCH.min(tokens - start);
            let end = seen - tokens + start + n;
            let q = q.narrow(2, start, n)?.contiguous()?;
            let (k, v) = (k.narrow(2, 0, end)?, v.narrow(2, 0, end)?);
            let mask = mask.narrow(0, start, n)?.narrow(1, 0, end)?;
            parts.push(self.mix(&q, &k, &v, &mask)?);
        }
        Tensor::cat(&parts, 2)
    }

    /// What queries [states, n_heads, tokens, head_dim] find: the same shape.
    fn mix(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        mask: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let (states, _, tokens, _) = q.dims4()?;
        let seen = k.dim(2)?;
        // The query heads of one key head are rows of one product: keys are never repeated.
        let group = self.n_heads / self.n_kv_heads;
        let q = q.reshape((states, self.n_kv_heads, group * tokens, self.head_dim))?;
        let scores = q.matmul(&k.transpose(D::Minus1, D::Minus2)?)?;
        let scores = match self.softcap {
            Some(cap) => softcapped(&scores, cap)?,
            None => scores,
        };
        let scores = scores
            .reshape((states, self.n_heads, tokens, seen))?
            .broadcast_add(mask)?;
        let weights = ops::softmax_last_dim(&scores)?;
        let weights = weights.reshape((states, self.n_kv_heads, group * tokens, seen))?;
        weights
            .matmul(v)?
            .reshape((states, self.n_heads, tokens, self.head_dim))
    }

    /// Queries or keys, normed head by head or all heads together, as the norm's width says.
    fn heads(
        &self,
        projection: &Linear,
        norm: &Option<RmsNorm>,
        x: &Tensor,
        n: usize,
    ) -> candle_core::Result<Tensor> {
        let (states, tokens, _) = x.dims3()?;
        let flat = projection.forward(x)?;
        let split = |x: Tensor| x.reshape((states, tokens, n, self.head_dim));
        let Some(norm) = norm else {
            return split(flat);
        };
        match norm.clone().into_inner().weight().dim(0)? == self.head_dim {
            true => norm.forward(&split(flat)?),
            false => split(norm.forward(&flat)?),
        }
    }
}

/// Query, key and value projections; some architectures store them as one tensor.
fn projections(weights: &Weights, config: &Config, layer: usize) -> Result<[Linear; 3]> {
    let named = |name: &str| format!("blk.{layer}.{name}");
    let Some(all) = weights.optional(&named("attn_qkv.weight"))? else {
        let linear = |name: &str| weights.linear(&named(name));
        return Ok([linear("attn_q")?, linear("attn_k")?, linear("attn_v")?]);
    };
    let q = config.n_heads * config.head_dim;
    let kv = config.n_kv_heads * config.head_dim;
    let part = |at, rows| -> Result<Linear> {
        Ok(Linear::new(all.narrow(0, at, rows)?.contiguous()?, None))
    };
    Ok([part(0, q)?, part(q, kv)?, part(q + kv, kv)?])
}

fn normed(norm: &Option<RmsNorm>, x: &Tensor) -> candle_core::Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(x),
        None => Ok(x.clone()),
    }
}

/// c · tanh(x / c).
pub(super) fn softcapped(x: &Tensor, cap: f64) -> candle_core::Result<Tensor> {
    (x / cap)?.tanh()? * cap
}
