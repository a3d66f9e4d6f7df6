//! From the last hidden state to the logits, some of the vocabulary at a time.

use super::block::Backend;
use super::config::Config;
use super::cpu::{Cpu, Matrix};
use super::graph::{Graph, rms_norm, softcapped};
use super::kernels::normalise;
use super::projection::Projection;
use super::weights::{Stack, Weights};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// Tokens whose logits are held at once: a row of all of them is as long as the vocabulary.
const TOKENS: usize = 8192;

/// Rows whose logits are held at once.
const ROWS: usize = 512;

pub(super) struct Head {
    weights: Arc<Weights>,
    config: Arc<Config>,
    norm: Vec<f32>,
    held: Held,
}

enum Held {
    /// Blocks of the projection, in order.
    Cpu(Vec<Matrix>),
    /// Read from the file when they are needed.
    Streamed,
    Graph(Projection),
}

/// Logits of some rows for some tokens.
pub struct Logits {
    /// The rows.
    pub rows: Range<usize>,
    /// The first token.
    pub first_token: usize,
    /// [rows, tokens].
    pub values: Vec<f32>,
}

impl Logits {
    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.values.len() / self.rows.len().max(1)
    }
}

impl Head {
    /// # Errors
    /// A tensor that is missing or cannot be read.
    pub(super) fn load(weights: Arc<Weights>, config: Arc<Config>, streamed: bool) -> Result<Self> {
        let mut head = Self {
            norm: weights.vector("output_norm.weight")?,
            weights,
            config,
            held: Held::Streamed,
        };
        let held = {
            let stack = head.stack()?;
            if !head.weights.by_kernels() {
                Held::Graph(Graph::matrix(&stack, 0..stack.n_outputs(), None)?)
            } else if streamed {
                Held::Streamed
            } else {
                let blocks = head
                    .blocks()
                    .map(|tokens| Cpu::matrix(&stack, tokens, None));
                let blocks = blocks.collect::<Result<_>>()?;
                stack.release();
                Held::Cpu(blocks)
            }
        };
        head.held = held;
        Ok(head)
    }

    /// The norm before the projection.
    pub(super) fn norm(&self) -> &[f32] {
        &self.norm
    }

    /// The projection: the embedding, where the two are tied.
    fn stack(&self) -> Result<Stack<'_>> {
        self.weights
            .stack(&[match self.weights.has("output.weight") {
                true => "output.weight",
                false => "token_embd.weight",
            }])
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let vocab_size = self.config.vocab_size;
        let starts = (0..vocab_size).step_by(TOKENS);
        starts.map(move |start| start..(start + TOKENS).min(vocab_size))
    }

    /// Gives `visit` the logits of rows [rows, hidden_size], some rows and some tokens at a time.
    ///
    /// # Errors
    /// What candle or `visit` reports.
    pub(super) fn visit(
        &self,
        hidden: &Tensor,
        mut visit: impl FnMut(Logits) -> Result<()>,
    ) -> Result<()> {
        let all = hidden.dim(0)?;
        let parts = (0..all).step_by(ROWS);
        let parts = parts.map(|start| start..(start + ROWS).min(all));
        if let Held::Graph(_) = &self.held {
            for rows in parts {
                let logits = self.graph(&hidden.narrow(0, rows.start, rows.len())?)?;
                let logits = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
                visit(Logits {
                    rows,
                    first_token: 0,
                    values: logits.flatten_all()?.to_vec1::<f32>()?,
                })?;
            }
            return Ok(());
        }
        let hidden = hidden.flatten_all()?.to_vec1::<f32>()?;
        let mut normed = Vec::new();
        let eps = self.config.rms_norm_eps as f32;
        normalise(&hidden, &self.norm, eps, &mut normed);
        let width = self.config.hidden_size;
        for (i, tokens) in self.blocks().enumerate() {
            let read;
            let block = match &self.held {
                Held::Cpu(blocks) => &blocks[i],
                _ => {
                    read = Cpu::matrix(&self.stack()?, tokens.clone(), None)?;
                    &read
                }
            };
            for rows in parts.clone() {
                let hidden = &normed[rows.start * width..rows.end * width];
                let mut values = block.forward(hidden)?;
                self.finish(&mut values);
                visit(Logits {
                    rows,
                    first_token: tokens.start,
                    values,
                })?;
            }
        }
        Ok(())
    }

    fn finish(&self, logits: &mut [f32]) {
        let (scale, cap) = (self.config.logit_scale, self.config.final_softcap);
        if scale != 1.0 {
            logits.iter_mut().for_each(|x| *x /= scale as f32);
        }
        if let Some(cap) = cap {
            let cap = cap as f32;
            logits.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
        }
    }

    /// All logits of rows at once, [rows, vocab_size].
    ///
    /// # Errors
    /// What candle reports.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        if let Held::Graph(_) = &self.held {
            return self.graph(hidden);
        }
        let (rows, vocab_size) = (hidden.dim(0)?, self.config.vocab_size);
        let mut all = vec![0.0; rows * vocab_size];
        self.visit(hidden, |logits| {
            let tokens = logits.tokens();
            let at = logits.rows.start * vocab_size + logits.first_token;
            let places = all[at..].chunks_mut(vocab_size);
            for (place, row) in places.zip(logits.values.chunks_exact(tokens)) {
                place[..tokens].copy_from_slice(row);
            }
            Ok(())
        })?;
        Ok(Tensor::from_vec(all, (rows, vocab_size), &Device::Cpu)?)
    }

    fn graph(&self, hidden: &Tensor) -> Result<Tensor> {
        let norm = Tensor::from_slice(&self.norm, self.norm.len(), hidden.device())?;
        self.graph_after(&norm.to_dtype(hidden.dtype())?, hidden)
    }

    /// The same with another norm, in candle's graph.
    ///
    /// # Errors
    /// The kernels compute; what candle reports.
    pub(super) fn graph_after(&self, norm: &Tensor, hidden: &Tensor) -> Result<Tensor> {
        let Held::Graph(projection) = &self.held else {
            anyhow::bail!("the head is not in candle's graph");
        };
        let hidden = rms_norm(hidden, norm, self.config.rms_norm_eps)?;
        let logits = projection.forward(&hidden)?;
        let logits = match self.config.logit_scale == 1.0 {
            true => logits,
            false => (logits / self.config.logit_scale)?,
        };
        Ok(match self.config.final_softcap {
            Some(cap) => softcapped(&logits, cap)?,
            None => logits,
        })
    }
}
