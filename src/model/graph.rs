//! The block as candle's operations: on a GPU, and where gradients are wanted.

use super::block::{Backend, Block, Gated, Mixture, Mlp};
use super::config::LayerKind;
use super::form::{Form, Mend};
use super::frame::Frame;
use super::projection::Projection;
use super::run::Run;
use super::weights::{Stack, Weights};
use crate::arch::{Activation, ExpertWeights};
use anyhow::Result;
use candle_core::{D, DType, Tensor};
use candle_nn::{ops, rotary_emb};
use std::ops::Range;

/// Queries that are scored at once in a long text.
const STRETCH: usize = 256;

/// Weights as candle's tensors.
pub(super) struct Graph;

impl Backend for Graph {
    type Matrix = Projection;
    type Vector = Tensor;

    fn matrix(stack: &Stack, rows: Range<usize>, bias: Option<Vec<f32>>) -> Result<Projection> {
        let weight = stack.tensor()?.narrow(0, rows.start, rows.len())?;
        let bias = bias.map(|bias| {
            Tensor::from_vec(bias, rows.len(), weight.device())?.to_dtype(weight.dtype())
        });
        let bias = bias.transpose()?;
        Ok(Projection { weight, bias })
    }

    fn vector(weight: Vec<f32>, weights: &Weights) -> Result<Tensor> {
        let n = weight.len();
        Ok(Tensor::from_vec(weight, n, weights.device())?.to_dtype(weights.dtype())?)
    }
}

/// Keys and values, [1, n_kv_heads, columns, head_dim] each.
#[derive(Clone)]
pub(super) struct Memory {
    keys: Tensor,
    values: Tensor,
}

impl Memory {
    fn grown(old: Option<Self>, columns: usize, like: &Tensor) -> candle_core::Result<Self> {
        let (_, n_kv_heads, _, head_dim) = like.dims4()?;
        let held = match &old {
            Some(memory) => memory.keys.dim(2)?,
            None => 0,
        };
        if let Some(memory) = old.as_ref().filter(|_| held >= columns) {
            return Ok(memory.clone());
        }
        // Room doubles, so that a step copies only what is new.
        let shape = (1, n_kv_heads, columns.max(2 * held), head_dim);
        let empty = || Tensor::zeros(shape, like.dtype(), like.device());
        let memory = Self {
            keys: empty()?,
            values: empty()?,
        };
        if let Some(old) = old {
            memory.keys.slice_set(&old.keys.contiguous()?, 2, 0)?;
            memory.values.slice_set(&old.values.contiguous()?, 2, 0)?;
        }
        Ok(memory)
    }
}

impl Block<Graph> {
    /// [states, tokens, hidden_size] → the same. With a memory, keys and values of a state go to the
    /// frame's columns from its base on, and are read there.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        frame: &Frame,
        form: Form,
        memory: Option<(&mut Option<Memory>, &[usize])>,
    ) -> candle_core::Result<Tensor> {
        let mut x = x.clone();
        if let Some(output) = self.attn_output.as_ref().filter(|_| form.attention) {
            let normed = self.normed(&self.attn_norm, &x)?;
            let mixed = match &self.attn_qkv {
                Some(qkv) => self.attention(qkv, &normed, frame, memory)?,
                None => normed,
            };
            let mixed = match form.without_head.filter(|_| self.attn_qkv.is_some()) {
                Some(head) => self.without_head(&mixed, head)?,
                None => mixed,
            };
            let mixed = output.forward(&mixed)?;
            x = self.add(&x, &self.normed(&self.post_attention_norm, &mixed)?)?;
        }
        if let Some(mlp) = self.mlp.as_ref().filter(|_| form.mlp) {
            let mut out = mlp.forward(&self.normed(&self.ffn_norm, &x)?)?;
            if let Some(Mend::Linear(map)) = form.mend {
                let map = map.tensor(out.device())?.to_dtype(out.dtype())?;
                out = out.broadcast_matmul(&map)?;
            }
            let out = match form.mend {
                Some(Mend::Norm(weight)) => {
                    let weight = Tensor::from_slice(weight, weight.len(), out.device())?;
                    self.normed(&Some(weight.to_dtype(out.dtype())?), &out)?
                }
                _ => self.normed(&self.post_ffw_norm, &out)?,
            };
            x = self.add(&x, &out)?;
        }
        match form.mend {
            Some(Mend::Scale(factor)) => x * f64::from(*factor),
            _ => Ok(x),
        }
    }

    /// What the heads found, but zeros for one of them.
    fn without_head(&self, mixed: &Tensor, head: usize) -> candle_core::Result<Tensor> {
        let (n, width) = (self.shape.n_heads, self.shape.head_dim);
        let mut stays = vec![1.0f32; n * width];
        stays[head * width..(head + 1) * width].fill(0.0);
        let stays = Tensor::from_vec(stays, n * width, mixed.device())?;
        mixed.broadcast_mul(&stays.to_dtype(mixed.dtype())?)
    }

    fn add(&self, x: &Tensor, out: &Tensor) -> candle_core::Result<Tensor> {
        match self.shape.residual_scale == 1.0 {
            true => x + out,
            false => x + (out * self.shape.residual_scale)?,
        }
    }

    fn normed(&self, norm: &Option<Tensor>, x: &Tensor) -> candle_core::Result<Tensor> {
        match norm {
            Some(weight) => rms_norm(x, weight, self.shape.rms_norm_eps),
            None => Ok(x.clone()),
        }
    }

    /// What the heads find, beside each other: [states, tokens, n_heads · head_dim].
    fn attention(
        &self,
        qkv: &Projection,
        x: &Tensor,
        frame: &Frame,
        memory: Option<(&mut Option<Memory>, &[usize])>,
    ) -> candle_core::Result<Tensor> {
        let shape = &self.shape;
        let (q, kv) = (shape.q_width(), shape.kv_width());
        let (states, tokens, _) = x.dims3()?;
        let qkv = qkv.forward(x)?;
        let part = |at, width| qkv.narrow(2, at, width)?.contiguous();
        let query = self.heads(&part(0, q)?, &self.attn_q_norm, shape.n_heads)?;
        let keys = self.heads(&part(q, kv)?, &self.attn_k_norm, shape.n_kv_heads)?;
        let query = rotate(&query, frame, shape.kind)?;
        let keys = rotate(&keys, frame, shape.kind)?;
        let values = part(q + kv, kv)?.reshape((states, tokens, shape.n_kv_heads, ()))?;
        let query = (query * shape.attention_scale)?;
        let query = query.transpose(1, 2)?.contiguous()?;
        let keys = keys.transpose(1, 2)?.contiguous()?;
        let values = values.transpose(1, 2)?.contiguous()?;
        let mixed = match memory {
            None => {
                let mask = mask(&frame.runs_at(&[0]), tokens, shape.window, x)?;
                self.mix_in_stretches(&query, &keys, &values, &mask)?
            }
            Some((memory, bases)) => {
                self.remember(frame, memory, bases, [&query, &keys, &values])?
            }
        };
        let mixed = mixed.transpose(1, 2)?.contiguous()?;
        mixed.reshape((states, tokens, ()))
    }

    /// Writes each state's keys and values to its columns, and lets its queries find what they see.
    fn remember(
        &self,
        frame: &Frame,
        memory: &mut Option<Memory>,
        bases: &[usize],
        [query, keys, values]: [&Tensor; 3],
    ) -> candle_core::Result<Tensor> {
        let columns = bases.iter().map(|base| base + frame.columns()).max();
        let grown = Memory::grown(memory.take(), columns.unwrap_or(0), keys)?;
        let mut mixed = Vec::with_capacity(bases.len());
        for (state, &base) in bases.iter().enumerate() {
            let one = |x: &Tensor| x.narrow(0, state, 1)?.contiguous();
            let (query, keys, values) = (one(query)?, one(keys)?, one(values)?);
            let runs = frame.runs_at(&[base]);
            for run in &runs {
                let rows = |x: &Tensor| x.narrow(2, run.rows.start, run.rows.len())?.contiguous();
                grown.keys.slice_set(&rows(&keys)?, 2, run.own)?;
                grown.values.slice_set(&rows(&values)?, 2, run.own)?;
            }
            let end = base + frame.columns();
            let mask = mask(&runs, end, self.shape.window, &query)?;
            let seen = |x: &Tensor| x.narrow(2, 0, end)?.contiguous();
            mixed.push(self.mix(&query, &seen(&grown.keys)?, &seen(&grown.values)?, &mask)?);
        }
        *memory = Some(grown);
        Tensor::cat(&mixed, 0)
    }

    /// Long texts, some queries at a time: all scores at once would not fit. A token sees none that
    /// stands behind it, so what is behind a stretch is left out.
    fn mix_in_stretches(
        &self,
        query: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let tokens = query.dim(2)?;
        if tokens <= 2 * STRETCH {
            return self.mix(query, keys, values, mask);
        }
        let mut parts = Vec::with_capacity(tokens.div_ceil(STRETCH));
        for start in (0..tokens).step_by(STRETCH) {
            let n = STRETCH.min(tokens - start);
            let end = start + n;
            let query = query.narrow(2, start, n)?.contiguous()?;
            let seen = |x: &Tensor| x.narrow(2, 0, end);
            let mask = mask.narrow(0, start, n)?.narrow(1, 0, end)?;
            parts.push(self.mix(&query, &seen(keys)?, &seen(values)?, &mask)?);
        }
        Tensor::cat(&parts, 2)
    }

    /// What queries [states, n_heads, tokens, head_dim] find: the same shape.
    fn mix(
        &self,
        query: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let shape = &self.shape;
        let (states, _, tokens, _) = query.dims4()?;
        let seen = keys.dim(2)?;
        // The query heads of one key head are rows of one product: keys are never repeated.
        let group = shape.n_heads / shape.n_kv_heads;
        let query = query.reshape((states, shape.n_kv_heads, group * tokens, shape.head_dim))?;
        let scores = query.matmul(&keys.transpose(D::Minus1, D::Minus2)?)?;
        let scores = match shape.softcap {
            Some(cap) => softcapped(&scores, cap)?,
            None => scores,
        };
        let scores = scores
            .reshape((states, shape.n_heads, tokens, seen))?
            .broadcast_add(mask)?;
        let weights = ops::softmax(&scores.to_dtype(DType::F32)?, D::Minus1)?;
        let weights = weights.to_dtype(query.dtype())?;
        let weights = weights.reshape((states, shape.n_kv_heads, group * tokens, seen))?;
        weights
            .matmul(values)?
            .reshape((states, shape.n_heads, tokens, shape.head_dim))
    }

    /// Queries or keys, normed head by head or all heads together, as the norm's width says.
    fn heads(&self, flat: &Tensor, norm: &Option<Tensor>, n: usize) -> candle_core::Result<Tensor> {
        let (states, tokens, _) = flat.dims3()?;
        let split = |x: &Tensor| x.reshape((states, tokens, n, self.shape.head_dim));
        let eps = self.shape.rms_norm_eps;
        match norm {
            None => split(flat),
            Some(weight) if weight.dim(0)? == self.shape.head_dim => {
                rms_norm(&split(flat)?, weight, eps)
            }
            Some(weight) => split(&rms_norm(flat, weight, eps)?),
        }
    }
}

/// x / √(mean x² + eps) · weight over the last dimension.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> candle_core::Result<Tensor> {
    let x = x.contiguous()?;
    match x.track_op() || weight.track_op() {
        // The fused one has no gradient.
        true => ops::rms_norm_slow(&x, weight, eps as f32),
        false => ops::rms_norm(&x, weight, eps as f32),
    }
}

/// 0 where a row sees a column, −∞ where not, [rows, columns].
fn mask(
    runs: &[Run],
    columns: usize,
    window: Option<usize>,
    like: &Tensor,
) -> candle_core::Result<Tensor> {
    let rows = runs.last().map_or(0, |run| run.rows.end);
    let mut mask = vec![f32::NEG_INFINITY; rows * columns];
    for (row, seen) in mask.chunks_exact_mut(columns.max(1)).zip(seen(runs)) {
        let first = seen.len() - seen.len().min(window.unwrap_or(usize::MAX));
        for &column in &seen[first..] {
            row[column] = 0.0;
        }
    }
    Tensor::from_vec(mask, (rows, columns), like.device())?.to_dtype(like.dtype())
}

/// What each row sees, farthest first.
fn seen(runs: &[Run]) -> impl Iterator<Item = Vec<usize>> {
    runs.iter().flat_map(|run| {
        (0..run.rows.len()).map(|i| {
            let past = run.past.iter().cloned().flatten();
            past.chain(run.own..=run.own + i).collect()
        })
    })
}

/// Queries or keys, [states, tokens, heads, head_dim], at their positions: dimension i of a head
/// rotates with dimension i + rotary_dim / 2; those beyond stay.
fn rotate(x: &Tensor, frame: &Frame, kind: LayerKind) -> candle_core::Result<Tensor> {
    let Some((cos, sin)) = frame.angles(kind) else {
        return Ok(x.clone());
    };
    let (tokens, head_dim) = (frame.tokens(), x.dim(3)?);
    let pairs = cos.len() / tokens.max(1);
    let table = |values: &[f32]| {
        Tensor::from_slice(values, (tokens, pairs), x.device())?.to_dtype(x.dtype())
    };
    let (cos, sin) = (table(cos)?, table(sin)?);
    let turn = |x: &Tensor| match x.track_op() {
        true => rotary_emb::rope_slow(&x.transpose(1, 2)?, &cos, &sin)?.transpose(1, 2),
        false => rotary_emb::rope_thd(x, &cos, &sin),
    };
    if 2 * pairs == head_dim {
        return turn(x);
    }
    let turned = turn(&x.narrow(3, 0, 2 * pairs)?.contiguous()?)?;
    let rest = x.narrow(3, 2 * pairs, head_dim - 2 * pairs)?;
    Tensor::cat(&[&turned, &rest], 3)
}

/// c · tanh(x / c).
pub(super) fn softcapped(x: &Tensor, cap: f64) -> candle_core::Result<Tensor> {
    (x / cap)?.tanh()? * cap
}

impl Mlp<Graph> {
    /// [states, tokens, hidden_size] → the same.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::One(mlp) => mlp.forward(x),
            Self::Mixture(mixture) => mixture.forward(x),
        }
    }
}

impl Gated<Graph> {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let both = self.gate_up.forward(x)?;
        let width = self.intermediate_size;
        let gate = both.narrow(D::Minus1, 0, width)?;
        let gate = match self.activation {
            Activation::Silu => gate.silu()?,
            Activation::GeluTanh => gate.gelu()?,
        };
        self.down
            .forward(&(gate * both.narrow(D::Minus1, width, width)?)?)
    }
}

impl Mixture<Graph> {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (states, tokens, hidden) = x.dims3()?;
        let rows = x.reshape((states * tokens, hidden))?;
        let logits = self.router.forward(&rows)?.to_dtype(DType::F32)?;
        let assigned = self.route(&logits.flatten_all()?.to_vec1::<f32>()?);
        let tracked = match logits.track_op() {
            true => Some(self.shares(&logits, &assigned)?),
            false => None,
        };
        let mut sum = rows.zeros_like()?;
        for (e, (expert, assigned)) in self.experts.iter().zip(assigned).enumerate() {
            if assigned.is_empty() {
                continue;
            }
            let (ids, shares): (Vec<u32>, Vec<f32>) = assigned.into_iter().unzip();
            let ids = Tensor::new(ids, x.device())?;
            let shares = match &tracked {
                Some(all) => all.narrow(1, e, 1)?.contiguous()?.index_select(&ids, 0)?,
                None => Tensor::from_vec(shares, (ids.elem_count(), 1), x.device())?,
            };
            let out = expert.forward(&rows.index_select(&ids, 0)?)?;
            let out = out.broadcast_mul(&shares.to_dtype(x.dtype())?)?;
            sum = sum.index_add(&ids, &out, 0)?;
        }
        if let Some((expert, gate)) = &self.shared {
            let share = ops::sigmoid(&gate.forward(&rows)?)?;
            sum = (sum + expert.forward(&rows)?.broadcast_mul(&share)?)?;
        }
        sum.reshape((states, tokens, hidden))
    }

    /// The share of every expert in every row, 0 where a row does not go through it,
    /// [rows, experts]: the numbers of [`Mixture::route`], with gradients.
    fn shares(&self, logits: &Tensor, assigned: &[Vec<(u32, f32)>]) -> candle_core::Result<Tensor> {
        let (rows, experts) = logits.dims2()?;
        let mut used = vec![0f32; rows * experts];
        for (e, assigned) in assigned.iter().enumerate() {
            for (row, _) in assigned {
                used[*row as usize * experts + e] = 1.0;
            }
        }
        let used = Tensor::from_vec(used, (rows, experts), logits.device())?;
        let shares = (ops::softmax(logits, D::Minus1)? * used)?;
        match self.weights {
            ExpertWeights::Normalised => shares.broadcast_div(&shares.sum_keepdim(D::Minus1)?),
            ExpertWeights::AsTheyAre => Ok(shares),
        }
    }
}
