//! The block on a CPU, in f32.

use super::block::{Backend, Block, Gated, Mixture, Mlp, Shape};
use super::frame::Frame;
use super::kernels::{Attention, Panels, Rotation, Source, Store, add, gate, normalise, rotate};
use super::weights::{Stack, Weights};
use anyhow::Result;
use candle_core::quantized::{GgmlDType, QMatMul};
use candle_core::{Device, Module, Tensor};
use std::borrow::Cow;
use std::ops::Range;

/// Weights in the order in which products read them.
pub(super) struct Cpu;

/// A projection.
pub(super) struct Matrix {
    n_inputs: usize,
    /// Below each other.
    pieces: Vec<Piece>,
    bias: Option<Vec<f32>>,
}

enum Piece {
    Panels(Panels),
    /// [n_outputs, n_inputs]
    Quantised(QMatMul),
}

impl Backend for Cpu {
    type Matrix = Matrix;
    type Vector = Vec<f32>;

    fn matrix(stack: &Stack, rows: Range<usize>, bias: Option<Vec<f32>>) -> Result<Matrix> {
        let piece = |(kind, rows): (Option<GgmlDType>, Range<usize>)| {
            let Some(kind) = kind else {
                let read = |from: Range<usize>, out: &mut [f32]| {
                    stack.read(rows.start + from.start..rows.start + from.end, out)
                };
                let panels = Panels::new(rows.len(), stack.n_inputs(), read)?;
                return Ok(Piece::Panels(panels));
            };
            let weight = stack.quantised(rows, kind)?;
            Ok(Piece::Quantised(QMatMul::from_qtensor(weight)?))
        };
        let pieces = stack.pieces(rows).into_iter().map(piece);
        Ok(Matrix {
            n_inputs: stack.n_inputs(),
            pieces: pieces.collect::<Result<_>>()?,
            bias,
        })
    }

    fn vector(weight: Vec<f32>, _: &Weights) -> Result<Vec<f32>> {
        Ok(weight)
    }
}

impl Matrix {
    /// [rows, n_inputs] → [rows, n_outputs].
    ///
    /// # Errors
    /// What candle reports.
    pub(super) fn forward(&self, x: &[f32]) -> Result<Vec<f32>> {
        let rows = x.len() / self.n_inputs.max(1);
        let product = |piece: &Piece| match piece {
            Piece::Panels(panels) => Ok(panels.product(x)),
            Piece::Quantised(weight) => {
                let x = Tensor::from_slice(x, (rows, self.n_inputs), &Device::Cpu)?;
                Ok(weight.forward(&x)?.flatten_all()?.to_vec1::<f32>()?)
            }
        };
        let mut products = self
            .pieces
            .iter()
            .map(product)
            .collect::<Result<Vec<_>>>()?;
        let mut out = match products.len() {
            1 => products.remove(0),
            _ => beside(&products, rows),
        };
        if let Some(bias) = &self.bias {
            for row in out.chunks_exact_mut(bias.len().max(1)) {
                row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
            }
        }
        Ok(out)
    }
}

/// Matrices of as many rows beside each other.
fn beside(parts: &[Vec<f32>], rows: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    for row in 0..rows {
        for part in parts {
            let width = part.len() / rows;
            out.extend_from_slice(&part[row * width..(row + 1) * width]);
        }
    }
    out
}

impl Block<Cpu> {
    /// `states` of [tokens, hidden_size] behind each other → the same. Keys and values go to `store`,
    /// those of a state to the frame's columns from its base on.
    pub(super) fn forward(
        &self,
        mut x: Vec<f32>,
        frame: &Frame,
        store: &mut Store,
        bases: &[usize],
    ) -> Result<Vec<f32>> {
        let scale = self.shape.residual_scale as f32;
        let mixed = self.attention(&self.normed(&self.attn_norm, &x), frame, store, bases)?;
        add(
            &mut x,
            &self.normed(&self.post_attention_norm, &mixed),
            scale,
        );
        let out = self.mlp.forward(&self.normed(&self.ffn_norm, &x))?;
        add(&mut x, &self.normed(&self.post_ffw_norm, &out), scale);
        Ok(x)
    }

    fn normed<'x>(&self, norm: &Option<Vec<f32>>, x: &'x [f32]) -> Cow<'x, [f32]> {
        match norm {
            Some(weight) => normalise(x, weight, self.shape.rms_norm_eps as f32).into(),
            None => x.into(),
        }
    }

    fn attention(
        &self,
        x: &[f32],
        frame: &Frame,
        store: &mut Store,
        bases: &[usize],
    ) -> Result<Vec<f32>> {
        let shape = &self.shape;
        let (q, kv) = (shape.q_width(), shape.kv_width());
        let (width, tokens) = (q + 2 * kv, frame.tokens());
        let mut qkv = self.attn_qkv.forward(x)?;
        let turns = [
            (0..q, &self.attn_q_norm, shape.attention_scale),
            (q..q + kv, &self.attn_k_norm, 1.0),
        ];
        for (heads, norm, scale) in turns {
            let rotation = Rotation {
                angles: frame.angles(shape.kind),
                norm: norm.as_deref(),
                eps: shape.rms_norm_eps as f32,
                scale: scale as f32,
            };
            rotate(&mut qkv, width, heads, shape.head_dim, tokens, rotation);
        }
        let runs = frame.runs_at(bases);
        let source = Source {
            rows: &qkv,
            width,
            keys: q,
            values: q + kv,
        };
        let places = runs.iter().flat_map(|run| run.rows.clone().zip(run.own..));
        store.write(source, &places.collect::<Vec<_>>());
        let heads = Attention {
            n_heads: shape.n_heads,
            n_kv_heads: shape.n_kv_heads,
            head_dim: shape.head_dim,
            softcap: shape.softcap.map(|cap| cap as f32),
            window: shape.window,
        };
        self.attn_output
            .forward(&heads.attend(&qkv, width, &runs, store))
    }
}

impl Shape {
    /// An empty store for keys and values.
    pub(super) fn store(&self) -> Store {
        Store::new(self.n_kv_heads, self.head_dim)
    }
}

impl Mlp<Cpu> {
    fn forward(&self, x: &[f32]) -> Result<Vec<f32>> {
        match self {
            Self::One(mlp) => mlp.forward(x),
            Self::Mixture(mixture) => mixture.forward(x),
        }
    }
}

impl Gated<Cpu> {
    fn forward(&self, x: &[f32]) -> Result<Vec<f32>> {
        let both = self.gate_up.forward(x)?;
        self.down
            .forward(&gate(&both, self.intermediate_size, self.activation))
    }
}

impl Mixture<Cpu> {
    fn forward(&self, x: &[f32]) -> Result<Vec<f32>> {
        let logits = self.router.forward(x)?;
        let hidden = x.len() / (logits.len() / self.experts.len()).max(1);
        let mut sum = vec![0.0; x.len()];
        for (expert, assigned) in self.experts.iter().zip(self.route(&logits)) {
            let rows = assigned.iter().map(|(row, _)| *row as usize * hidden);
            let rows: Vec<f32> = rows.flat_map(|at| &x[at..at + hidden]).copied().collect();
            let found = expert.forward(&rows)?;
            for ((row, share), found) in assigned.iter().zip(found.chunks_exact(hidden)) {
                add(&mut sum[*row as usize * hidden..][..hidden], found, *share);
            }
        }
        if let Some((expert, gate)) = &self.shared {
            let shares = gate.forward(x)?;
            let found = expert.forward(x)?;
            let rows = sum.chunks_exact_mut(hidden).zip(found.chunks_exact(hidden));
            for ((sum, found), share) in rows.zip(shares) {
                add(sum, found, 1.0 / (1.0 + (-share).exp()));
            }
        }
        Ok(sum)
    }
}
