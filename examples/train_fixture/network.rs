//! A Llama decoder for training: whole sequences, no cache, every operation differentiable.
//!
//! candle's fused `rms_norm`, `rope` and `softmax_last_dim` have no backward pass; the composed
//! forms used here do.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::{rms_norm_slow, silu};
use candle_nn::rotary_emb::rope_slow;

use crate::rng::Rng;
use crate::wiring;

/// The shape of the network, in the names of its `config.json`.
pub struct Config {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub rms_norm_eps: f32,
    pub rope_theta: f64,
    pub max_position_embeddings: usize,
    pub initializer_range: f64,
}

impl Config {
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Name and shape of every tensor; the head is tied to the embedding.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let kv = self.num_key_value_heads * self.head_dim();
        let mut all = vec![
            (
                "model.embed_tokens.weight".to_string(),
                vec![self.vocab_size, hidden],
            ),
            ("model.norm.weight".to_string(), vec![hidden]),
        ];
        for layer in 0..self.num_hidden_layers {
            let in_layer = [
                ("input_layernorm", vec![hidden]),
                ("self_attn.q_proj", vec![hidden, hidden]),
                ("self_attn.k_proj", vec![kv, hidden]),
                ("self_attn.v_proj", vec![kv, hidden]),
                ("self_attn.o_proj", vec![hidden, hidden]),
                ("post_attention_layernorm", vec![hidden]),
                ("mlp.gate_proj", vec![inner, hidden]),
                ("mlp.up_proj", vec![inner, hidden]),
                ("mlp.down_proj", vec![hidden, inner]),
            ];
            all.extend(
                in_layer
                    .map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)),
            );
        }
        all
    }
}

pub struct Network {
    pub config: Config,
    pub weights: BTreeMap<String, Var>,
    cos: Tensor,
    sin: Tensor,
}

impl Network {
    /// Norms at one; matrices normal, those that write to the residual stream scaled by depth
    /// (Radford et al., 2019); some heads [wired](wiring).
    pub fn new(config: Config, rng: &mut Rng) -> Result<Self> {
        let residual_scale = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
        let mut values = BTreeMap::new();
        for (name, shape) in config.tensors() {
            let writes_residual = name.contains("o_proj") || name.contains("down_proj");
            let scale =
                config.initializer_range * if writes_residual { residual_scale } else { 1.0 };
            let is_norm = name.contains("norm");
            let drawn: Vec<f32> = (0..shape.iter().product())
                .map(|_| {
                    if is_norm {
                        1.0
                    } else {
                        (scale * rng.normal()) as f32
                    }
                })
                .collect();
            values.insert(name, drawn);
        }
        wiring::wire(&config, &mut values, rng)?;
        let mut weights = BTreeMap::new();
        for (name, shape) in config.tensors() {
            let drawn = values.remove(&name).unwrap_or_default();
            weights.insert(name, Var::from_vec(drawn, shape, &Device::Cpu)?);
        }
        let half = config.head_dim() / 2;
        let positions = config.max_position_embeddings;
        let angles: Vec<f32> = (0..positions * half)
            .map(|n| {
                let exponent = 2.0 * (n % half) as f64 / config.head_dim() as f64;
                ((n / half) as f64 / config.rope_theta.powf(exponent)) as f32
            })
            .collect();
        let angles = Tensor::from_vec(angles, (positions, half), &Device::Cpu)?;
        let (cos, sin) = (angles.cos()?, angles.sin()?);
        Ok(Self {
            config,
            weights,
            cos,
            sin,
        })
    }

    /// Rounds every weight to what the file will hold.
    pub fn round_to_bf16(&self) -> Result<()> {
        for var in self.weights.values() {
            var.set(&var.to_dtype(DType::BF16)?.to_dtype(DType::F32)?)?;
        }
        Ok(())
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        let var = self
            .weights
            .get(&format!("{name}.weight"))
            .with_context(|| format!("no weight {name}"))?;
        Ok(var.as_tensor())
    }

    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        Ok(rms_norm_slow(
            x,
            self.weight(name)?,
            self.config.rms_norm_eps,
        )?)
    }

    /// `x` [n, in] through a weight [out, in].
    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        Ok(x.matmul(&self.weight(name)?.t()?)?)
    }

    /// Normed hidden states [batch × time, hidden] of `ids` [batch, time] after the layers in `keep`.
    fn hidden(&self, ids: &Tensor, keep: &[usize]) -> Result<Tensor> {
        let (batch, time) = ids.dims2()?;
        let mask = causal_mask(time)?;
        let mut x = self
            .weight("model.embed_tokens")?
            .index_select(&ids.flatten_all()?, 0)?;
        for layer in keep {
            let at = |part: &str| format!("model.layers.{layer}.{part}");
            let normed = self.norm(&at("input_layernorm"), &x)?;
            x = (x + self.attention(&at("self_attn"), &normed, batch, &mask)?)?;
            let normed = self.norm(&at("post_attention_layernorm"), &x)?;
            x = (x + self.mlp(&at("mlp"), &normed)?)?;
        }
        self.norm("model.norm", &x)
    }

    /// Logits [batch, time, vocabulary] of `ids` [batch, time], through the layers in `keep`.
    pub fn forward(&self, ids: &Tensor, keep: &[usize]) -> Result<Tensor> {
        let (batch, time) = ids.dims2()?;
        let logits = self.linear("model.embed_tokens", &self.hidden(ids, keep)?)?;
        Ok(logits.reshape((batch, time, self.config.vocab_size))?)
    }

    fn attention(&self, at: &str, x: &Tensor, batch: usize, mask: &Tensor) -> Result<Tensor> {
        let (tokens, hidden) = x.dims2()?;
        let Config {
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            ..
        } = self.config;
        let (time, head_dim) = (tokens / batch, self.config.head_dim());
        let project = |part: &str, heads: usize| -> Result<Tensor> {
            let y = self.linear(&format!("{at}.{part}"), x)?;
            Ok(y.reshape((batch, time, heads, head_dim))?
                .transpose(1, 2)?
                .contiguous()?)
        };
        let query = rope_slow(&project("q_proj", heads)?, &self.cos, &self.sin)?;
        let key = rope_slow(&project("k_proj", kv_heads)?, &self.cos, &self.sin)?;
        let value = project("v_proj", kv_heads)?;
        // The query heads that share a key head stand below one another: no key is copied.
        let grouped = (batch, kv_heads, heads / kv_heads * time, head_dim);
        let query = (query.reshape(grouped)? * (head_dim as f64).powf(-0.5))?;
        let scores = query
            .matmul(&key.t()?)?
            .reshape((batch, heads, time, time))?;
        let weights = exp_less_max(&scores.broadcast_add(mask)?)?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        let mixed = weights
            .reshape((batch, kv_heads, heads / kv_heads * time, time))?
            .matmul(&value)?;
        let mixed = mixed.reshape((batch, heads, time, head_dim))?;
        let mixed = mixed.transpose(1, 2)?.reshape((tokens, hidden))?;
        self.linear(&format!("{at}.o_proj"), &mixed)
    }

    fn mlp(&self, at: &str, x: &Tensor) -> Result<Tensor> {
        let gate = silu(&self.linear(&format!("{at}.gate_proj"), x)?)?;
        let up = self.linear(&format!("{at}.up_proj"), x)?;
        self.linear(&format!("{at}.down_proj"), &(gate * up)?)
    }

    pub fn all_layers(&self) -> Vec<usize> {
        (0..self.config.num_hidden_layers).collect()
    }

    /// Sum of weight × cross-entropy over the given `positions` of `ids` [batch, time], flattened;
    /// `positions`, `targets` and `weights` have one length.
    pub fn loss(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        targets: &Tensor,
        weights: &Tensor,
    ) -> Result<Tensor> {
        let hidden = self
            .hidden(ids, &self.all_layers())?
            .index_select(positions, 0)?;
        let likelihoods = exp_less_max(&self.linear("model.embed_tokens", &hidden)?)?;
        let right = likelihoods
            .gather(&targets.unsqueeze(1)?, 1)?
            .squeeze(1)?
            .log()?;
        let cross_entropy = (likelihoods.sum(D::Minus1)?.log()? - right)?;
        Ok((cross_entropy * weights)?.sum_all()?)
    }
}

/// exp(x − max x) along the last dimension, the numerator of a softmax. The maximum cancels out of
/// the softmax, so no gradient needs to pass through it.
fn exp_less_max(x: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?
        .exp()?)
}

fn causal_mask(time: usize) -> Result<Tensor> {
    let mask: Vec<f32> = (0..time * time)
        .map(|n| {
            if n % time > n / time {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        })
        .collect();
    Ok(Tensor::from_vec(mask, (time, time), &Device::Cpu)?)
}
