//! The gated MLP of a block: one, or a mixture of experts.

use super::config::{Config, Experts};
use super::weights::Weights;
use crate::arch::{Activation, ExpertWeights};
use anyhow::{Result, ensure};
use candle_core::{D, IndexOp, Tensor};
use candle_nn::{Linear, Module, ops};

/// What stands between the second norm and the second addition of a block.
pub(super) enum Mlp {
    One(Gated),
    Mixture(Mixture),
}

/// down(activation(gate(x)) · up(x)).
pub(super) struct Gated {
    activation: Activation,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Every token goes through the experts that the router ranks highest.
pub(super) struct Mixture {
    router: Linear,
    experts: Vec<Gated>,
    used: usize,
    weights: ExpertWeights,
    /// An expert for every token, and the gate that weights it.
    shared: Option<(Gated, Linear)>,
}

impl Mlp {
    pub(super) fn load(weights: &Weights, config: &Config, layer: usize) -> Result<Self> {
        match config.experts {
            Some(experts) => Ok(Self::Mixture(Mixture::load(
                weights, config, experts, layer,
            )?)),
            None => Ok(Self::One(Gated::load(weights, config, layer)?)),
        }
    }

    /// [states, tokens, hidden_size] → the same.
    pub(super) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::One(mlp) => mlp.forward(x),
            Self::Mixture(mixture) => mixture.forward(x),
        }
    }
}

impl Gated {
    fn load(weights: &Weights, config: &Config, layer: usize) -> Result<Self> {
        let linear = |name: &str| weights.linear(&format!("blk.{layer}.{name}"));
        let (gate, up) = match config.fused_gate {
            false => (linear("ffn_gate")?, linear("ffn_up")?),
            true => {
                let both = weights.tensor(&format!("blk.{layer}.ffn_up.weight"))?;
                let part = |at| both.narrow(0, at, config.intermediate_size)?.contiguous();
                let (gate, up) = (part(0)?, part(config.intermediate_size)?);
                (Linear::new(gate, None), Linear::new(up, None))
            }
        };
        Ok(Self {
            activation: config.decoder.activation,
            gate,
            up,
            down: linear("ffn_down")?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let gate = self.gate.forward(x)?;
        let gate = match self.activation {
            Activation::Silu => gate.silu()?,
            Activation::GeluTanh => gate.gelu()?,
        };
        self.down.forward(&(gate * self.up.forward(x)?)?)
    }
}

impl Mixture {
    fn load(weights: &Weights, config: &Config, experts: Experts, layer: usize) -> Result<Self> {
        let named = |name: &str| format!("blk.{layer}.{name}");
        let stack = |name: &str| weights.tensor(&named(&format!("{name}_exps.weight")));
        let (gate, up, down) = (stack("ffn_gate")?, stack("ffn_up")?, stack("ffn_down")?);
        for stacked in [&gate, &up, &down] {
            let found = stacked.dim(0)?;
            ensure!(
                found == experts.count,
                "layer {layer} has {found} experts, but the metadata say {}",
                experts.count
            );
        }
        let expert = |e: usize| -> Result<Gated> {
            let part = |stack: &Tensor| Ok::<_, candle_core::Error>(Linear::new(stack.i(e)?, None));
            Ok(Gated {
                activation: config.decoder.activation,
                gate: part(&gate)?,
                up: part(&up)?,
                down: part(&down)?,
            })
        };
        let shared = match experts.shared_intermediate_size {
            None => None,
            Some(_) => {
                let linear = |name: &str| weights.linear(&named(&format!("{name}_shexp")));
                let expert = Gated {
                    activation: config.decoder.activation,
                    gate: linear("ffn_gate")?,
                    up: linear("ffn_up")?,
                    down: linear("ffn_down")?,
                };
                // GGUF stores the one row as a vector.
                let gate = weights.tensor(&named("ffn_gate_inp_shexp.weight"))?;
                let gate = gate.reshape((1, config.hidden_size))?;
                Some((expert, Linear::new(gate, None)))
            }
        };
        Ok(Self {
            router: weights.linear(&named("ffn_gate_inp"))?,
            experts: (0..experts.count).map(expert).collect::<Result<_>>()?,
            used: experts.used,
            weights: config.decoder.expert_weights,
            shared,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (states, tokens, hidden) = x.dims3()?;
        let rows = x.reshape((states * tokens, hidden))?;
        let chosen = self.route(&rows)?;
        let mut sum = rows.zeros_like()?;
        for (expert, assigned) in self.experts.iter().zip(chosen) {
            if assigned.is_empty() {
                continue;
            }
            let (ids, shares): (Vec<u32>, Vec<f32>) = assigned.into_iter().unzip();
            let shares = Tensor::from_vec(shares, (ids.len(), 1), x.device())?;
            let ids = Tensor::new(ids, x.device())?;
            let out = expert.forward(&rows.index_select(&ids, 0)?)?;
            sum = sum.index_add(&ids, &out.broadcast_mul(&shares)?, 0)?;
        }
        if let Some((expert, gate)) = &self.shared {
            let share = ops::sigmoid(&gate.forward(&rows)?)?;
            sum = (sum + expert.forward(&rows)?.broadcast_mul(&share)?)?;
        }
        sum.reshape((states, tokens, hidden))
    }

    /// The tokens of every expert, with their weights.
    fn route(&self, rows: &Tensor) -> candle_core::Result<Vec<Vec<(u32, f32)>>> {
        let probabilities = ops::softmax(&self.router.forward(rows)?, D::Minus1)?;
        let mut assigned = vec![Vec::new(); self.experts.len()];
        for (token, row) in probabilities.to_vec2::<f32>()?.iter().enumerate() {
            let mut ranked: Vec<usize> = (0..row.len()).collect();
            ranked.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            ranked.truncate(self.used);
            let total = match self.weights {
                ExpertWeights::Normalised => ranked.iter().map(|&e| row[e]).sum(),
                ExpertWeights::AsTheyAre => 1.0,
            };
            for expert in ranked {
                assigned[expert].push((token as u32, row[expert] / total));
            }
        }
        Ok(assigned)
    }
}
