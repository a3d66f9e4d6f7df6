//! The runnable decoder: built from a checkpoint and its description, every layer within reach.
//!
//! Weights are loaded once, in f32. A keep set is only a list of layer numbers, so trying
//! another one costs no loading. A set of tokens is laid out once as a [`Frame`] (rotary angles
//! and who sees whom) which all layers share.

mod config;
mod frame;
mod layer;
mod mlp;
mod rotary;
mod weights;

pub use config::{Config, Experts, LayerKind};
pub use frame::Frame;
pub use layer::KvCache;

use crate::arch::{Arch, RopeScaling};
use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use candle_nn::{Linear, Module, RmsNorm};
use layer::{Layer, softcapped};
use rotary::Rotary;
use weights::Weights;

/// A decoder-only transformer in memory.
pub struct Model {
    config: Config,
    device: Device,
    rotary: Rotary,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
}

impl Model {
    /// Loads a checkpoint; `progress` is told each layer that is ready.
    ///
    /// # Errors
    /// A tensor that is missing, of the wrong shape, of a type that cannot be dequantised, or
    /// that the description does not know; hyper-parameters that do not fit together.
    pub fn load(
        checkpoint: &Checkpoint,
        device: &Device,
        progress: impl Fn(usize, usize),
    ) -> Result<Self> {
        let arch = Arch::of(checkpoint)?;
        let config = Config::read(arch, checkpoint)?;
        let weights = Weights::new(checkpoint, arch, &config, device)?;
        let mut layers = Vec::new();
        for index in 0..config.n_layers {
            layers.push(Layer::load(&weights, &config, index)?);
            progress(index + 1, config.n_layers);
        }
        let embedding = weights.tensor("token_embd.weight")?;
        let head = weights.optional("output.weight")?;
        let norm = weights.tensor("output_norm.weight")?;
        let scaling = RopeScaling::of(arch, checkpoint)
            .with_context(|| checkpoint.path().display().to_string())?;
        Ok(Self {
            rotary: Rotary::new(&config, &scaling, &weights)?,
            head: Linear::new(head.unwrap_or_else(|| embedding.clone()), None),
            norm: RmsNorm::new(norm, config.rms_norm_eps),
            embedding,
            layers,
            device: device.clone(),
            config,
        })
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many layers the checkpoint has.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Lays out tokens for all layers. `positions`: one a token. `visible`: for each token, the
    /// columns that it sees of `columns` in all, the cached tokens first and then these; its
    /// nearest neighbours first, because layers with a sliding window see only so many of them.
    ///
    /// # Errors
    /// Only what candle reports.
    pub fn frame(
        &self,
        positions: &[usize],
        columns: usize,
        visible: &[Vec<usize>],
    ) -> Result<Frame> {
        let window = self.config.sliding_window;
        let (rotary, device) = (&self.rotary, &self.device);
        Frame::new(rotary, window, positions, columns, visible, device)
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
        let ids = Tensor::new(tokens, &self.device)?;
        let rows = self.embedding.index_select(&ids, 0)?.unsqueeze(0)?;
        match self.config.embedding_scale == 1.0 {
            true => Ok(rows),
            false => Ok((rows * self.config.embedding_scale)?),
        }
    }

    /// One layer's output, [states, tokens, hidden_size] in and out. States are independent of
    /// each other and share the frame. With a cache, keys and values are appended to it.
    ///
    /// # Errors
    /// A layer that does not exist; what candle reports.
    pub fn layer(
        &self,
        index: usize,
        hidden: &Tensor,
        frame: &Frame,
        cache: Option<&mut KvCache>,
    ) -> Result<Tensor> {
        let layer = self
            .layers
            .get(index)
            .with_context(|| format!("no layer {index}"))?;
        Ok(layer.forward(hidden, frame, cache)?)
    }

    /// Next-token logits of some rows: [rows, hidden_size] → [rows, vocab_size].
    ///
    /// # Errors
    /// Only what candle reports.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let hidden = self.norm.forward(&hidden.contiguous()?)?;
        let logits = self.head.forward(&hidden)?;
        let logits = match self.config.logit_scale == 1.0 {
            true => logits,
            false => (logits / self.config.logit_scale)?,
        };
        match self.config.final_softcap {
            Some(cap) => Ok(softcapped(&logits, cap)?),
            None => Ok(logits),
        }
    }

    /// Logits at every position of one text under a keep set, [tokens, vocab_size].
    ///
    /// # Errors
    /// An empty text, or a token or layer that does not exist.
    pub fn forward(&self, tokens: &[u32], keep: &[usize]) -> Result<Tensor> {
        ensure!(!tokens.is_empty(), "an empty text has no next token");
        let positions: Vec<usize> = (0..tokens.len()).collect();
        let past = |i: usize| (0..=i).rev().collect();
        let visible: Vec<Vec<usize>> = positions.iter().map(|&i| past(i)).collect();
        let frame = self.frame(&positions, tokens.len(), &visible)?;
        let mut hidden = self.embed(tokens)?;
        for &index in keep {
            hidden = self.layer(index, &hidden, &frame, None)?;
        }
        self.logits(&hidden.squeeze(0)?)
    }

    /// The device that holds the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }
}
