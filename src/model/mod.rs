//! The runnable decoder: built from a checkpoint and its description, every layer within reach.
//!
//! A keep set is only a list of layer numbers, so trying another one costs no loading. A set of
//! tokens is laid out once as a [`Frame`] (rotary angles and who sees whom) which all layers share.
//! On a CPU a layer computes by the kernels, elsewhere as candle's graph; layers that do not fit in
//! memory are read from the file as the pass reaches them.

mod block;
mod cache;
mod config;
mod cpu;
mod form;
mod frame;
mod graph;
mod head;
mod kernels;
mod layers;
mod projection;
mod resources;
mod rotary;
mod run;
mod trainable;
mod weights;

pub use cache::KvCache;
pub use config::{Config, Experts, LayerKind};
pub use form::{Form, LinearMap, Mend};
pub use frame::Frame;
pub use head::Logits;
pub use kernels::{exp_gap, exp_sum, largest};
pub use resources::{Compute, Resources};
pub use run::Run;
pub use trainable::{Parameter, Piece, Trainable, Trained};

use crate::arch::{Arch, RopeScaling};
use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result, ensure};
use block::Block;
use cache::Held;
use candle_core::{Device, Tensor};
use cpu::Cpu;
use head::Head;
use kernels::Store;
use layers::{Layer, Layers};
use resources::Division;
use rotary::Rotary;
use std::sync::Arc;
use weights::Weights;

/// A decoder-only transformer in memory.
pub struct Model {
    config: Arc<Config>,
    weights: Arc<Weights>,
    rotary: Rotary,
    layers: Layers,
    head: Head,
    division: Division,
}

impl Model {
    /// Opens a checkpoint: whole, where that fits in the memory that it may use, else so that layers
    /// are read as the pass reaches them. `progress` is told each layer that is ready.
    ///
    /// # Errors
    /// A tensor that is missing, of the wrong shape, of a type that cannot be dequantised, or
    /// that the description does not know; hyper-parameters that do not fit together; too little
    /// memory.
    pub fn open(
        checkpoint: &Checkpoint,
        resources: &Resources,
        progress: impl Fn(usize, usize),
    ) -> Result<Self> {
        let arch = Arch::of(checkpoint)?;
        let config = Arc::new(Config::read(arch, checkpoint)?);
        let weights = Arc::new(Weights::new(checkpoint, arch, &config, resources)?);
        let scaling = RopeScaling::of(arch, checkpoint)
            .with_context(|| checkpoint.path().display().to_string())?;
        let division = resources.divide(&weights, &config)?;
        let layers = match division.streamed {
            true => Layers::streamed(weights.clone(), config.clone()),
            false => Layers::all(weights.clone(), config.clone(), progress)?,
        };
        Ok(Self {
            rotary: Rotary::new(&config, &scaling, &weights)?,
            layers,
            head: Head::load(weights.clone(), config.clone(), division.streamed)?,
            division,
            weights,
            config,
        })
    }

    /// Loads a checkpoint whole; `progress` is told each layer that is ready.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub fn load(
        checkpoint: &Checkpoint,
        device: &Device,
        progress: impl Fn(usize, usize),
    ) -> Result<Self> {
        Self::open(checkpoint, &Resources::of(device), progress)
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many layers the checkpoint has.
    pub fn n_layers(&self) -> usize {
        self.config.n_layers
    }

    /// Lays out tokens for all layers. A token's position is the number of those before it in its
    /// text.
    ///
    /// # Errors
    /// Runs that are not in the order of their rows, or leave one out.
    pub fn frame(&self, runs: Vec<Run>) -> Result<Frame> {
        Frame::new(&self.rotary, runs)
    }

    /// Token embeddings, [1, tokens, hidden_size].
    ///
    /// # Errors
    /// A token that is not in the vocabulary.
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        let vocab_size = self.config.vocab_size;
        if let Some(token) = tokens.iter().find(|&&t| t as usize >= vocab_size) {
            anyhow::bail!(
                "the tokenizer gives token {token}, but the model has {vocab_size} embeddings: are they from the same model?"
            );
        }
        let (stack, width) = (
            self.weights.stack(&["token_embd.weight"])?,
            self.config.hidden_size,
        );
        let mut rows = vec![0.0; tokens.len() * width];
        for (row, &token) in rows.chunks_exact_mut(width).zip(tokens) {
            stack.read(token as usize..token as usize + 1, row)?;
        }
        let rows = Tensor::from_vec(rows, (1, tokens.len(), width), self.device())?;
        let rows = rows.to_dtype(self.weights.dtype())?;
        match self.config.embedding_scale == 1.0 {
            true => Ok(rows),
            false => Ok((rows * self.config.embedding_scale)?),
        }
    }

    /// One layer's output, [states, tokens, hidden_size] in and out. States are independent of
    /// each other and share the frame.
    ///
    /// # Errors
    /// A layer that does not exist or cannot be read; what candle reports.
    pub fn layer(&self, index: usize, hidden: &Tensor, frame: &Frame) -> Result<Tensor> {
        self.layer_as(index, Form::WHOLE, hidden, frame, None)
    }

    /// Attention heads of a layer; none where its attention is another kind, or absent.
    pub fn n_heads(&self, layer: usize) -> usize {
        let size = self.config.sizes.get(layer);
        let attends = size.filter(|size| size.intermediate_size > 0 && !size.is_linear());
        attends.map_or(0, |size| size.n_heads)
    }

    /// The same in some form; with keys and values that stay, if there is a cache: the frame's columns
    /// of state i are the cache's from `bases[i]` on. What a frame sees must have been written there
    /// before.
    ///
    /// # Errors
    /// As of [`Self::layer`]; a number of bases that is not that of the states.
    pub fn layer_as(
        &self,
        index: usize,
        form: Form,
        hidden: &Tensor,
        frame: &Frame,
        kept: Option<(&mut KvCache, &[usize])>,
    ) -> Result<Tensor> {
        let layer = self.layers.get(index)?;
        let Some((cache, bases)) = kept else {
            return match &*layer {
                Layer::Graph(block) => Ok(block.forward(hidden, frame, form, None)?),
                Layer::Cpu(block) => {
                    let mut own = KvCache::default();
                    let states = 0..hidden.dim(0)?;
                    let bases: Vec<usize> = states.map(|_| own.reserve(frame.columns())).collect();
                    let mut store = block.shape.store();
                    store.grow(own.columns());
                    on_cpu(block, form, hidden, frame, &mut store, &bases)
                }
            };
        };
        ensure!(
            hidden.dim(0)? == bases.len(),
            "each state needs its columns"
        );
        let last = bases.iter().max().copied().unwrap_or(0);
        cache.reach(last + frame.columns());
        match &*layer {
            Layer::Graph(block) => {
                let mut memory = match cache.held.take() {
                    Some(Held::Graph(memory)) => Some(memory),
                    _ => None,
                };
                let out = block.forward(hidden, frame, form, Some((&mut memory, bases)))?;
                cache.held = memory.map(Held::Graph);
                Ok(out)
            }
            Layer::Cpu(block) => {
                let mut store = match cache.held.take() {
                    Some(Held::Cpu(store)) => store,
                    _ => block.shape.store(),
                };
                store.grow(cache.columns());
                let out = on_cpu(block, form, hidden, frame, &mut store, bases)?;
                cache.held = Some(Held::Cpu(store));
                Ok(out)
            }
        }
    }

    /// Next-token logits of some rows: [rows, hidden_size] → [rows, vocab_size].
    ///
    /// # Errors
    /// Only what candle reports.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.logits(hidden)
    }

    /// The same, some rows and some of the vocabulary at a time.
    ///
    /// # Errors
    /// What candle or the visitor reports.
    pub fn visit_logits(
        &self,
        hidden: &Tensor,
        visit: impl FnMut(Logits) -> Result<()>,
    ) -> Result<()> {
        self.head.visit(hidden, visit)
    }

    /// Logits at every position of one text under a keep set, [tokens, vocab_size].
    ///
    /// # Errors
    /// An empty text, or a token or layer that does not exist.
    pub fn forward(&self, tokens: &[u32], keep: &[usize]) -> Result<Tensor> {
        ensure!(!tokens.is_empty(), "an empty text has no next token");
        let frame = self.frame(Run::after(0, tokens.len()))?;
        let mut hidden = self.embed(tokens)?;
        for &index in keep {
            hidden = self.layer(index, &hidden, &frame)?;
        }
        self.logits(&hidden.squeeze(0)?)
    }

    /// Whether layers are read from the file as the pass reaches them: then a pass costs the least if
    /// as much as there is [`Self::room`] for goes through each layer at once.
    pub fn is_streamed(&self) -> bool {
        self.division.streamed
    }

    /// Bytes of hidden states, keys and values for which there is room.
    pub fn room(&self) -> u64 {
        self.division.room
    }

    /// Rows that best go through a layer at once.
    pub fn rows_at_once(&self) -> usize {
        self.division.rows
    }

    /// Whether attention and MLP of every layer see a normed state, whatever its scale.
    pub fn has_norms_before(&self) -> bool {
        let has = |layer: usize, norm: &str| {
            let there = self.weights.has(&format!("blk.{layer}.{norm}.weight"));
            // A half that a layer lacks sees nothing.
            let size = self.config.sizes[layer];
            let lacks = match norm {
                "attn_norm" => size.n_heads == 0,
                _ => size.intermediate_size == 0,
            };
            there || lacks
        };
        (0..self.n_layers()).all(|layer| has(layer, "attn_norm") && has(layer, "ffn_norm"))
    }

    /// The weights of the norm behind a layer's MLP, as they are computed with, if it has one.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn norm_behind_mlp(&self, layer: usize) -> Result<Option<Vec<f32>>> {
        self.weights
            .optional(&format!("blk.{layer}.post_ffw_norm.weight"))
    }

    /// The device that computes.
    pub fn device(&self) -> &Device {
        self.weights.device()
    }
}

fn on_cpu(
    block: &Block<Cpu>,
    form: Form,
    hidden: &Tensor,
    frame: &Frame,
    store: &mut Store,
    bases: &[usize],
) -> Result<Tensor> {
    let x = hidden.flatten_all()?.to_vec1::<f32>()?;
    let x = block.forward(x, frame, form, store, bases)?;
    Ok(Tensor::from_vec(x, hidden.shape(), hidden.device())?)
}
