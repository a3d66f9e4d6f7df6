//! The block on a CPU, in f32.

use super::block::{Backend, Block, Gated, Mixture, Mlp, Shape};
use super::form::{Form, Mend};
use super::frame::Frame;
use super::kernels::{Attention, Panels, Rotation, Source, Store, add, gate, normalise, rotate};
use super::weights::{Stack, Weights};
use anyhow::Result;
use candle_core::quantized::{GgmlDType, QMatMul};
use candle_core::{Device, Module, Tensor};
use std::cell::RefCell;
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

/// Where results lie while rows go through a block. What one block leaves the next one fills again:
/// fresh memory for each would cost more than the norms.
#[derive(Default)]
struct Scratch {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    gate_up: Vec<f32>,
    gated: Vec<f32>,
    out: Vec<f32>,
    out_normed: Vec<f32>,
    arranged: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Matrix {
    /// [rows, n_inputs] → [rows, n_outputs].
    ///
    /// # Errors
    /// What candle reports.
    pub(super) fn forward(&self, x: &[f32]) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        self.forward_to(x, &mut Vec::new(), &mut out)?;
        Ok(out)
    }

    /// The same to `out`; `arranged` is room to work in.
    fn forward_to(&self, x: &[f32], arranged: &mut Vec<f32>, out: &mut Vec<f32>) -> Result<()> {
        let rows = x.len() / self.n_inputs.max(1);
        if let [Piece::Panels(panels)] = self.pieces.as_slice() {
            panels.product(x, arranged, out);
        } else {
            let mut product = |piece: &Piece| match piece {
                Piece::Panels(panels) => {
                    let mut out = Vec::new();
                    panels.product(x, arranged, &mut out);
                    Ok(out)
                }
                Piece::Quantised(weight) => {
                    let x = Tensor::from_slice(x, (rows, self.n_inputs), &Device::Cpu)?;
                    Ok(weight.forward(&x)?.flatten_all()?.to_vec1::<f32>()?)
                }
            };
            let products = self.pieces.iter().map(&mut product);
            *out = beside(products.collect::<Result<_>>()?, rows);
        }
        if let Some(bias) = &self.bias {
            for row in out.chunks_exact_mut(bias.len().max(1)) {
                row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
            }
        }
        Ok(())
    }
}

/// Matrices of as many rows beside each other.
fn beside(mut parts: Vec<Vec<f32>>, rows: usize) -> Vec<f32> {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut out = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    for row in 0..rows {
        for part in &parts {
            let width = part.len() / rows;
            out.extend_from_slice(&part[row * width..(row + 1) * width]);
        }
    }
    out
}

/// What rows see, and where their own keys and values go.
struct Keys<'k> {
    frame: &'k Frame,
    store: &'k mut Store,
    bases: &'k [usize],
}

impl Block<Cpu> {
    /// `states` of [tokens, hidden_size] behind each other → the same. Keys and values go to `store`,
    /// those of a state to the frame's columns from its base on.
    ///
    /// # Errors
    /// What candle reports.
    pub(super) fn forward(
        &self,
        mut x: Vec<f32>,
        frame: &Frame,
        form: Form,
        store: &mut Store,
        bases: &[usize],
    ) -> Result<Vec<f32>> {
        SCRATCH.with_borrow_mut(|scratch| {
            if let Some(output) = self.attn_output.as_ref().filter(|_| form.attention) {
                let keys = Keys {
                    frame,
                    store: &mut *store,
                    bases,
                };
                self.attention(output, &x, form.without_head, keys, scratch)?;
                let norm = self.post_attention_norm.as_ref();
                let out = self.normed(norm, &scratch.out, &mut scratch.out_normed);
                add(&mut x, out, self.shape.residual_scale as f32);
            }
            if let Some(mlp) = self.mlp.as_ref().filter(|_| form.mlp) {
                self.mlp(mlp, &x, scratch)?;
                let mapped = self.mapped(form.mend, scratch);
                add(&mut x, mapped, self.shape.residual_scale as f32);
            }
            if let Some(Mend::Scale(factor)) = form.mend {
                x.iter_mut().for_each(|x| *x *= factor);
            }
            Ok(x)
        })
    }

    /// What the MLP adds, with what makes up for missing layers.
    fn mapped<'s>(&self, mend: Option<&Mend>, scratch: &'s mut Scratch) -> &'s [f32] {
        let Scratch {
            out,
            out_normed,
            arranged,
            gated,
            ..
        } = scratch;
        let out = match mend {
            Some(Mend::Linear(map)) => {
                map.panels().product(out, arranged, gated);
                gated
            }
            _ => out,
        };
        let norm = match mend {
            Some(Mend::Norm(weight)) => Some(weight),
            _ => self.post_ffw_norm.as_ref(),
        };
        self.normed(norm, out, out_normed)
    }

    fn normed<'x>(
        &self,
        norm: Option<&Vec<f32>>,
        x: &'x [f32],
        place: &'x mut Vec<f32>,
    ) -> &'x [f32] {
        let Some(weight) = norm else {
            return x;
        };
        normalise(x, weight, self.shape.rms_norm_eps as f32, place);
        place
    }

    fn attention(
        &self,
        attn_output: &Matrix,
        x: &[f32],
        without_head: Option<usize>,
        keys: Keys,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Keys {
            frame,
            store,
            bases,
        } = keys;
        let Scratch {
            normed,
            qkv,
            mixed,
            out,
            arranged,
            ..
        } = scratch;
        let shape = &self.shape;
        let (q, kv) = (shape.q_width(), shape.kv_width());
        let (width, tokens) = (q + 2 * kv, frame.tokens());
        let x = self.normed(self.attn_norm.as_ref(), x, normed);
        let Some(attn_qkv) = &self.attn_qkv else {
            return attn_output.forward_to(x, arranged, out);
        };
        attn_qkv.forward_to(x, arranged, qkv)?;
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
            rotate(qkv, width, heads, shape.head_dim, tokens, rotation);
        }
        let runs = frame.runs_at(bases);
        let source = Source {
            rows: qkv,
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
        heads.attend(qkv, width, &runs, store, mixed);
        if let Some(head) = without_head {
            let columns = head * shape.head_dim..(head + 1) * shape.head_dim;
            for row in mixed.chunks_exact_mut(q.max(1)) {
                row[columns.clone()].fill(0.0);
            }
        }
        attn_output.forward_to(mixed, arranged, out)
    }

    fn mlp(&self, mlp: &Mlp<Cpu>, x: &[f32], scratch: &mut Scratch) -> Result<()> {
        let mut normed = std::mem::take(&mut scratch.normed);
        let x = self.normed(self.ffn_norm.as_ref(), x, &mut normed);
        match mlp {
            Mlp::One(mlp) => mlp.forward(x, scratch)?,
            Mlp::Mixture(mixture) => scratch.out = mixture.forward(x, scratch)?,
        }
        scratch.normed = normed;
        Ok(())
    }
}

impl Shape {
    /// An empty store for keys and values.
    pub(super) fn store(&self) -> Store {
        Store::new(self.n_kv_heads, self.head_dim)
    }
}

impl Gated<Cpu> {
    /// To the scratch's `out`.
    fn forward(&self, x: &[f32], scratch: &mut Scratch) -> Result<()> {
        let Scratch {
            gate_up,
            gated,
            out,
            arranged,
            ..
        } = scratch;
        self.gate_up.forward_to(x, arranged, gate_up)?;
        gate(gate_up, self.intermediate_size, self.activation, gated);
        self.down.forward_to(gated, arranged, out)
    }
}

impl Mixture<Cpu> {
    fn forward(&self, x: &[f32], scratch: &mut Scratch) -> Result<Vec<f32>> {
        let logits = self.router.forward(x)?;
        let hidden = x.len() / (logits.len() / self.experts.len()).max(1);
        let mut sum = vec![0.0; x.len()];
        for (expert, assigned) in self.experts.iter().zip(self.route(&logits)) {
            let rows = assigned.iter().map(|(row, _)| *row as usize * hidden);
            let rows: Vec<f32> = rows.flat_map(|at| &x[at..at + hidden]).copied().collect();
            expert.forward(&rows, scratch)?;
            let found = scratch.out.chunks_exact(hidden);
            for ((row, share), found) in assigned.iter().zip(found) {
                add(&mut sum[*row as usize * hidden..][..hidden], found, *share);
            }
        }
        if let Some((expert, gate)) = &self.shared {
            let shares = gate.forward(x)?;
            expert.forward(x, scratch)?;
            let found = scratch.out.chunks_exact(hidden);
            let rows = sum.chunks_exact_mut(hidden).zip(found);
            for ((sum, found), share) in rows.zip(shares) {
                add(sum, found, 1.0 / (1.0 + (-share).exp()));
            }
        }
        Ok(sum)
    }
}
