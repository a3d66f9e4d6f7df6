//! A model of which some weights change, and gradients on their way down through its layers.

use super::block::{Block, Mlp, names_of_gate_up, names_of_qkv};
use super::config::Config;
use super::form::Form;
use super::frame::Frame;
use super::graph::Graph;
use super::weights::Weights;
use super::{Model, Run};
use crate::checkpoint::DType;
use anyhow::{Context, Result, ensure};
use candle_core::{DType as CandleDType, Tensor, Var};

/// What of a layer is trained. Biases, experts and routers are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trained {
    /// Nothing: gradients only go through it.
    Nothing,
    /// The weights of its norms.
    Norms,
    /// Its norms and its matrices.
    All,
}

/// A tensor that is trained, in 32 bits: one of the checkpoint's, or several below each other.
#[derive(Debug, Clone)]
pub struct Parameter {
    var: Var,
    pieces: Vec<Piece>,
}

/// One tensor of the checkpoint.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Its GGUF name.
    pub name: String,
    /// How many rows of the parameter are its own; of a norm, numbers.
    pub rows: usize,
    /// The type in which it is stored.
    pub dtype: DType,
}

/// A model whose upper layers train. Those below the first one that does are only computed.
pub struct Trainable {
    model: Model,
    first: usize,
    uppers: Vec<Upper>,
    norm: Parameter,
}

struct Upper {
    trained: Trained,
    /// Its slots that train hold the parameters' own numbers.
    block: Block<Graph>,
    parameters: Vec<Parameter>,
}

/// A place in a block for a tensor that may train.
struct Slot<'b> {
    /// The checkpoint's tensors that lie there below each other.
    names: Vec<String>,
    tensor: &'b mut Tensor,
}

impl Parameter {
    fn new(tensor: &Tensor, names: &[String], weights: &Weights) -> Result<Self> {
        let mut pieces = Vec::with_capacity(names.len());
        for name in names {
            let info = weights.info(name)?;
            ensure!(
                !info.dtype.is_quantised(),
                "{name} is stored as {}, which a short training would not come through: heal the \
                 model before it is quantised",
                info.dtype
            );
            pieces.push(Piece {
                name: name.clone(),
                rows: info.shape.first().map_or(1, |&rows| rows as usize),
                dtype: info.dtype,
            });
        }
        let var = Var::from_tensor(&tensor.to_dtype(CandleDType::F32)?)?;
        Ok(Self { var, pieces })
    }

    /// The name of its first tensor, which no other parameter has.
    pub fn name(&self) -> &str {
        self.pieces.first().map_or("", |piece| &piece.name)
    }

    /// The numbers that change.
    pub fn var(&self) -> &Var {
        &self.var
    }

    /// The checkpoint's tensors that it is made of, below each other.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The numbers in the type in which products are made.
    fn computed(&self, dtype: CandleDType, tracked: bool) -> candle_core::Result<Tensor> {
        match tracked {
            true => self.var.to_dtype(dtype),
            false => self.var.as_detached_tensor().to_dtype(dtype),
        }
    }

    /// Some values of the parameter as they will be when each piece is stored in its type, in 32 bits.
    ///
    /// # Errors
    /// Values of another shape; what candle reports.
    pub fn as_stored(&self, values: &Tensor) -> Result<Tensor> {
        let mut at = 0;
        let mut parts = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let part = values.narrow(0, at, piece.rows)?;
            at += piece.rows;
            let part = match piece.dtype {
                DType::F16 => part.to_dtype(CandleDType::F16)?,
                DType::BF16 => part.to_dtype(CandleDType::BF16)?,
                _ => part,
            };
            parts.push(part.to_dtype(CandleDType::F32)?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }
}

impl Model {
    /// Makes a model in candle's graph trainable: `trained` says what of each layer is, and the last
    /// norm is as well.
    ///
    /// # Errors
    /// The kernels compute, or layers are streamed; a tensor that trains is quantised; what candle
    /// reports.
    pub fn into_trainable(mut self, trained: impl Fn(usize) -> Trained) -> Result<Trainable> {
        let n_layers = self.n_layers();
        let first = (0..n_layers).find(|&layer| trained(layer) != Trained::Nothing);
        let first = first.unwrap_or(n_layers);
        let mut uppers = Vec::with_capacity(n_layers - first);
        for (layer, block) in (first..).zip(self.layers.split_off(first)?) {
            let trained = trained(layer);
            uppers.push(Upper::new(
                &self.weights,
                &self.config,
                layer,
                trained,
                block,
            )?);
        }
        let norm = self.head.norm();
        let norm = Tensor::from_slice(norm, norm.len(), self.device())?;
        let name = ["output_norm.weight".to_owned()];
        Ok(Trainable {
            norm: Parameter::new(&norm, &name, &self.weights)?,
            first,
            uppers,
            model: self,
        })
    }
}

impl Upper {
    fn new(
        weights: &Weights,
        config: &Config,
        layer: usize,
        trained: Trained,
        mut block: Block<Graph>,
    ) -> Result<Self> {
        let mut parameters = Vec::new();
        for slot in slots(&mut block, weights, config, layer, trained) {
            let parameter = Parameter::new(slot.tensor, &slot.names, weights)
                .with_context(|| format!("layer {layer}"))?;
            // The original's memory goes.
            *slot.tensor = parameter.var.as_detached_tensor();
            parameters.push(parameter);
        }
        Ok(Self {
            trained,
            block,
            parameters,
        })
    }
}

/// The places of a block that train, always in the same order.
fn slots<'b>(
    block: &'b mut Block<Graph>,
    weights: &Weights,
    config: &Config,
    layer: usize,
    trained: Trained,
) -> Vec<Slot<'b>> {
    let weight = |name: String| format!("{name}.weight");
    let named = |name: &str| vec![format!("blk.{layer}.{name}.weight")];
    let mut slots = Vec::new();
    if trained == Trained::Nothing {
        return slots;
    }
    let norms = [
        ("attn_norm", &mut block.attn_norm),
        ("attn_q_norm", &mut block.attn_q_norm),
        ("attn_k_norm", &mut block.attn_k_norm),
        ("post_attention_norm", &mut block.post_attention_norm),
        ("ffn_norm", &mut block.ffn_norm),
        ("post_ffw_norm", &mut block.post_ffw_norm),
    ];
    for (name, norm) in norms {
        slots.extend(norm.as_mut().map(|tensor| Slot {
            names: named(name),
            tensor,
        }));
    }
    if trained == Trained::Norms {
        return slots;
    }
    let mut matrix = |names: Vec<String>, tensor: &'b mut Tensor| {
        slots.push(Slot { names, tensor });
    };
    let qkv = names_of_qkv(weights, layer).into_iter().map(weight);
    if let Some(projection) = &mut block.attn_qkv {
        matrix(qkv.collect(), &mut projection.weight);
    }
    if let Some(projection) = &mut block.attn_output {
        matrix(named("attn_output"), &mut projection.weight);
    }
    if let Some(Mlp::One(mlp)) = &mut block.mlp {
        let gate_up = names_of_gate_up(config, layer).into_iter().map(weight);
        matrix(gate_up.collect(), &mut mlp.gate_up.weight);
        matrix(named("ffn_down"), &mut mlp.down.weight);
    }
    slots
}

impl Trainable {
    /// The model that it was made of; its upper layers are here.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The type in which products are made.
    pub fn dtype(&self) -> CandleDType {
        self.model.weights.dtype()
    }

    /// The first layer that trains.
    pub fn first(&self) -> usize {
        self.first
    }

    /// All that trains, always in the same order.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        let uppers = self.uppers.iter().flat_map(|upper| &upper.parameters);
        uppers.chain([&self.norm])
    }

    /// Texts of the same length, [texts, length], as they come to the first layer that trains:
    /// [texts, length, hidden_size], without a graph.
    ///
    /// # Errors
    /// A token that is not in the vocabulary; what candle reports.
    pub fn below(&self, texts: &[&[u32]]) -> Result<Tensor> {
        let length = texts.first().map_or(0, |text| text.len());
        let hidden = self.model.embed(&texts.concat())?;
        let mut hidden = hidden.reshape((texts.len(), length, ()))?;
        let frame = self.frame(length)?;
        for layer in 0..self.first {
            hidden = self.model.layer(layer, &hidden, &frame)?;
        }
        Ok(hidden)
    }

    /// The frame of texts of one length.
    ///
    /// # Errors
    /// What [`Model::frame`] reports.
    pub fn frame(&self, length: usize) -> Result<Frame> {
        self.model.frame(Run::after(0, length))
    }

    /// One of the upper layers' outputs, [texts, length, hidden_size] → the same. With `tracked`,
    /// gradients flow to its parameters, and to `hidden` where that is tracked.
    ///
    /// # Errors
    /// A layer below the first that trains, or that does not exist; what candle reports.
    pub fn layer(
        &mut self,
        layer: usize,
        hidden: &Tensor,
        frame: &Frame,
        tracked: bool,
    ) -> Result<Tensor> {
        let upper = layer.checked_sub(self.first);
        let upper = upper.and_then(|upper| self.uppers.get_mut(upper));
        let upper = upper.with_context(|| format!("no upper layer {layer}"))?;
        let (weights, config) = (&self.model.weights, &self.model.config);
        let slots = slots(&mut upper.block, weights, config, layer, upper.trained);
        for (slot, parameter) in slots.into_iter().zip(&upper.parameters) {
            *slot.tensor = parameter.computed(weights.dtype(), tracked)?;
        }
        Ok(upper.block.forward(hidden, frame, Form::WHOLE, None)?)
    }

    /// Next-token logits of some rows, [rows, hidden_size] → [rows, vocab_size], in 32 bits.
    ///
    /// # Errors
    /// What candle reports.
    pub fn logits(&self, hidden: &Tensor, tracked: bool) -> Result<Tensor> {
        let norm = self.norm.computed(self.dtype(), tracked)?;
        let logits = self.model.head.graph_after(&norm, hidden)?;
        Ok(logits.to_dtype(CandleDType::F32)?)
    }
}
