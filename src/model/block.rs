//! The parts of a transformer block, and where in a checkpoint they are found; how they compute is
//! the backend's.

use super::config::{Config, Experts, LayerKind};
use super::weights::{Stack, Weights};
use crate::arch::{Activation, ExpertWeights};
use anyhow::{Result, ensure};
use std::ops::Range;

/// What weights become.
pub(super) trait Backend {
    /// A projection [n_outputs, n_inputs] with its bias, if it has one.
    type Matrix;
    /// The weights of a norm.
    type Vector;
    /// Some rows of a stack as one projection.
    ///
    /// # Errors
    /// A type that cannot be read; what candle reports.
    fn matrix(stack: &Stack, rows: Range<usize>, bias: Option<Vec<f32>>) -> Result<Self::Matrix>;
    /// # Errors
    /// What candle reports.
    fn vector(weight: Vec<f32>, weights: &Weights) -> Result<Self::Vector>;
}

/// One transformer block: attention with grouped queries, then a gated MLP, each between the norms
/// that the architecture has before it, after it, or both.
pub(super) struct Block<B: Backend> {
    pub(super) shape: Shape,
    pub(super) attn_norm: Option<B::Vector>,
    /// Queries, keys and values below each other; absent where the output's matrix stands in for
    /// attention.
    pub(super) attn_qkv: Option<B::Matrix>,
    pub(super) attn_q_norm: Option<B::Vector>,
    pub(super) attn_k_norm: Option<B::Vector>,
    /// Absent where the layer has no attention.
    pub(super) attn_output: Option<B::Matrix>,
    pub(super) post_attention_norm: Option<B::Vector>,
    pub(super) ffn_norm: Option<B::Vector>,
    /// Absent where the layer has none.
    pub(super) mlp: Option<Mlp<B>>,
    pub(super) post_ffw_norm: Option<B::Vector>,
}

/// Numbers of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) kind: LayerKind,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) rms_norm_eps: f64,
    /// What queries are multiplied with.
    pub(super) attention_scale: f64,
    pub(super) softcap: Option<f64>,
    pub(super) window: Option<usize>,
    pub(super) residual_scale: f64,
}

/// What stands between the second norm and the second addition of a block.
pub(super) enum Mlp<B: Backend> {
    One(Gated<B>),
    Mixture(Mixture<B>),
}

/// down(activation(gate(x)) · up(x)).
pub(super) struct Gated<B: Backend> {
    pub(super) activation: Activation,
    pub(super) intermediate_size: usize,
    /// The gate above the up projection.
    pub(super) gate_up: B::Matrix,
    pub(super) down: B::Matrix,
}

/// Every token goes through the experts that the router ranks highest.
pub(super) struct Mixture<B: Backend> {
    pub(super) router: B::Matrix,
    pub(super) experts: Vec<Gated<B>>,
    pub(super) used: usize,
    pub(super) weights: ExpertWeights,
    /// An expert for every token, and the gate that weights it.
    pub(super) shared: Option<(Gated<B>, B::Matrix)>,
}

impl Shape {
    fn new(config: &Config, layer: usize) -> Self {
        let (kind, size) = (config.kinds[layer], config.sizes[layer]);
        Self {
            kind,
            n_heads: size.n_heads,
            n_kv_heads: size.n_kv_heads,
            head_dim: config.head_dim,
            rms_norm_eps: config.rms_norm_eps,
            attention_scale: config.attention_scale,
            softcap: config.attn_softcap,
            window: config.sliding_window.filter(|_| kind.windowed),
            residual_scale: config.residual_scale,
        }
    }

    /// Numbers that the queries of a token have.
    pub(super) fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Numbers that the keys, or the values, of a token have.
    pub(super) fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }
}

impl<B: Backend> Block<B> {
    /// # Errors
    /// A tensor that is missing or cannot be read.
    pub(super) fn load(weights: &Weights, config: &Config, layer: usize) -> Result<Self> {
        let named = |name: &str| format!("blk.{layer}.{name}");
        let norm = |name: &str| -> Result<Option<B::Vector>> {
            let weight = weights.optional(&named(&format!("{name}.weight")))?;
            weight.map(|weight| B::vector(weight, weights)).transpose()
        };
        // llama.cpp passes a layer without an MLP by, attention and all.
        let size = config.sizes[layer];
        let passed_by = size.intermediate_size == 0;
        let attends = size.n_heads > 0 && !passed_by;
        Ok(Self {
            shape: Shape::new(config, layer),
            attn_norm: norm("attn_norm")?,
            attn_qkv: match attends && !size.is_linear() {
                true => Some(stacked::<B>(weights, &names_of_qkv(weights, layer))?),
                false => None,
            },
            attn_q_norm: norm("attn_q_norm")?,
            attn_k_norm: norm("attn_k_norm")?,
            attn_output: match attends {
                false => None,
                // llama.cpp adds no bias to what stands in for attention.
                true if size.is_linear() => {
                    let stack = weights.stack(&[&named("attn_output.weight")])?;
                    Some(whole::<B>(&stack, None)?)
                }
                true => Some(stacked::<B>(weights, &[named("attn_output")])?),
            },
            post_attention_norm: norm("post_attention_norm")?,
            ffn_norm: norm("ffn_norm")?,
            mlp: match passed_by {
                true => None,
                false => Some(Mlp::load(weights, config, layer)?),
            },
            post_ffw_norm: norm("post_ffw_norm")?,
        })
    }
}

/// The projections below each other in [`Block::attn_qkv`]: some architectures store them as one.
pub(super) fn names_of_qkv(weights: &Weights, layer: usize) -> Vec<String> {
    let named = |name: &str| format!("blk.{layer}.{name}");
    match weights.has(&named("attn_qkv.weight")) {
        true => vec![named("attn_qkv")],
        false => ["attn_q", "attn_k", "attn_v"].map(named).to_vec(),
    }
}

/// Those in [`Gated::gate_up`].
pub(super) fn names_of_gate_up(config: &Config, layer: usize) -> Vec<String> {
    let named = |name: &str| format!("blk.{layer}.{name}");
    match config.fused_gate {
        true => vec![named("ffn_up")],
        false => ["ffn_gate", "ffn_up"].map(named).to_vec(),
    }
}

/// Projections of the same input as one, the rows of each below those before it.
fn stacked<B: Backend>(weights: &Weights, names: &[String]) -> Result<B::Matrix> {
    let tensors: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
    let tensors: Vec<&str> = tensors.iter().map(String::as_str).collect();
    let stack = weights.stack(&tensors)?;
    let has_bias = |name: &String| weights.has(&format!("{name}.bias"));
    if !names.iter().any(has_bias) {
        return whole::<B>(&stack, None);
    }
    let mut bias = Vec::with_capacity(stack.n_outputs());
    for (name, tensor) in names.iter().zip(tensors) {
        match weights.optional(&format!("{name}.bias"))? {
            Some(values) => bias.extend(values),
            None => bias.resize(bias.len() + weights.stack(&[tensor])?.n_outputs(), 0.0),
        }
    }
    whole::<B>(&stack, Some(bias))
}

fn whole<B: Backend>(stack: &Stack, bias: Option<Vec<f32>>) -> Result<B::Matrix> {
    let matrix = B::matrix(stack, 0..stack.n_outputs(), bias);
    stack.release();
    matrix
}

impl<B: Backend> Mlp<B> {
    fn load(weights: &Weights, config: &Config, layer: usize) -> Result<Self> {
        Ok(match config.experts {
            Some(experts) => Self::Mixture(Mixture::load(weights, config, experts, layer)?),
            None => Self::One(Gated::load(weights, config, layer)?),
        })
    }
}

impl<B: Backend> Gated<B> {
    fn load(weights: &Weights, config: &Config, layer: usize) -> Result<Self> {
        let named = |name: &str| format!("blk.{layer}.{name}");
        Ok(Self {
            activation: config.decoder.activation,
            intermediate_size: config.sizes[layer].intermediate_size,
            gate_up: stacked::<B>(weights, &names_of_gate_up(config, layer))?,
            down: stacked::<B>(weights, &[named("ffn_down")])?,
        })
    }
}

impl<B: Backend> Mixture<B> {
    fn load(weights: &Weights, config: &Config, experts: Experts, layer: usize) -> Result<Self> {
        let named = |name: &str| format!("blk.{layer}.{name}");
        let (gate, up, down) = (
            named("ffn_gate_exps.weight"),
            named("ffn_up_exps.weight"),
            named("ffn_down_exps.weight"),
        );
        for stacked in [&gate, &up, &down] {
            let found = weights.experts(stacked)?;
            ensure!(
                found == experts.count,
                "layer {layer} has {found} experts, but the metadata say {}",
                experts.count
            );
        }
        let expert = |e: usize| -> Result<Gated<B>> {
            Ok(Gated {
                activation: config.decoder.activation,
                intermediate_size: experts.intermediate_size,
                gate_up: whole::<B>(&weights.stack_of(&[&gate, &up], e)?, None)?,
                down: whole::<B>(&weights.stack_of(&[&down], e)?, None)?,
            })
        };
        let shared = match experts.shared_intermediate_size {
            None => None,
            Some(intermediate_size) => {
                let gate_up = ["ffn_gate_shexp", "ffn_up_shexp"].map(named);
                let expert = Gated {
                    activation: config.decoder.activation,
                    intermediate_size,
                    gate_up: stacked::<B>(weights, &gate_up)?,
                    down: stacked::<B>(weights, &[named("ffn_down_shexp")])?,
                };
                let gate = stacked::<B>(weights, &[named("ffn_gate_inp_shexp")])?;
                Some((expert, gate))
            }
        };
        Ok(Self {
            router: stacked::<B>(weights, &[named("ffn_gate_inp")])?,
            experts: (0..experts.count).map(expert).collect::<Result<_>>()?,
            used: experts.used,
            weights: config.decoder.expert_weights,
            shared,
        })
    }

    /// The rows of every expert, with their weights, from the router's logits of each row.
    pub(super) fn route(&self, logits: &[f32]) -> Vec<Vec<(u32, f32)>> {
        let mut assigned = vec![Vec::new(); self.experts.len()];
        for (row, logits) in (0..).zip(logits.chunks_exact(self.experts.len())) {
            let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shares: Vec<f32> = logits.iter().map(|x| (x - highest).exp()).collect();
            let all: f32 = shares.iter().sum();
            let mut ranked: Vec<usize> = (0..shares.len()).collect();
            ranked.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]));
            ranked.truncate(self.used);
            let total = match self.weights {
                ExpertWeights::Normalised => ranked.iter().map(|&e| shares[e]).sum(),
                ExpertWeights::AsTheyAre => all,
            };
            for expert in ranked {
                assigned[expert].push((row, shares[expert] / total));
            }
        }
        assigned
    }
}
