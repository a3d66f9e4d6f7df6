//! A checkpoint's tensors by their GGUF names, in Hugging Face row order, as f32.

use super::config::Config;
use crate::arch::{Arch, RowOrder};
use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::convert::to_tensor;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use candle_nn::Linear;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// The tensors of one checkpoint, each found by the GGUF name of its place.
pub(super) struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    places: HashMap<String, Place<'a>>,
    config: &'a Config,
    device: &'a Device,
}

/// Where one tensor comes from.
struct Place<'a> {
    /// One tensor, or one an expert, by expert.
    parts: BTreeMap<usize, &'a TensorInfo>,
    stacked: bool,
    rows: RowOrder,
    plus_one: bool,
}

impl<'a> Weights<'a> {
    /// # Errors
    /// A tensor of the wrong shape, or one that the description does not know: a model that runs without it would be wrong.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        arch: &Arch,
        config: &'a Config,
        device: &'a Device,
    ) -> Result<Self> {
        arch.check_complete(checkpoint)?;
        config.check_shapes(arch, checkpoint)?;
        let gguf = checkpoint.gguf().is_some();
        let mut places: HashMap<String, Place> = HashMap::new();
        for info in checkpoint.tensors() {
            if arch.ignores(&info.name) {
                continue;
            }
            let slot = arch.known_slot(checkpoint, info)?;
            let place = places.entry(slot.gguf_name()).or_insert_with(|| Place {
                parts: BTreeMap::new(),
                stacked: slot.expert.is_some(),
                // Only GGUF files reorder rows, and have 1 added to these weights.
                rows: match gguf {
                    true => slot.rule.rows,
                    false => RowOrder::Same,
                },
                plus_one: slot.rule.plus_one && !gguf,
            });
            place.parts.insert(slot.expert.unwrap_or(0), info);
        }
        Ok(Self {
            checkpoint,
            places,
            config,
            device,
        })
    }

    /// The tensor of one place.
    ///
    /// # Errors
    /// It is missing or of a type that cannot be read.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor> {
        self.optional(name)?.with_context(|| {
            format!(
                "{}: tensor {name} is missing",
                self.checkpoint.path().display()
            )
        })
    }

    /// A tensor that may be missing. Tensors of experts come stacked, [experts, …].
    pub(super) fn optional(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(place) = self.places.get(name) else {
            return Ok(None);
        };
        let parts = place.parts.values().map(|info| self.part(info, place.rows));
        let mut parts = parts.collect::<Result<Vec<_>>>()?;
        let tensor = match place.stacked {
            true => Tensor::stack(&parts, 0)?,
            false => parts.remove(0),
        };
        Ok(Some(match place.plus_one {
            true => (tensor + 1.0)?,
            false => tensor,
        }))
    }

    /// A projection, `name.weight` and, where there is one, `name.bias`.
    ///
    /// # Errors
    /// As of [`Self::tensor`].
    pub(super) fn linear(&self, name: &str) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        Ok(Linear::new(weight, self.optional(&format!("{name}.bias"))?))
    }

    fn part(&self, info: &TensorInfo, rows: RowOrder) -> Result<Tensor> {
        let shape: Vec<usize> = info.shape.iter().map(|&d| d as usize).collect();
        let bytes = match rows {
            RowOrder::Same => Cow::Borrowed(self.checkpoint.bytes(info)),
            _ => Cow::Owned(self.in_hf_order(info, rows, shape[0])),
        };
        let tensor = to_tensor(&bytes, info.dtype, &shape, self.device);
        self.checkpoint.release(info);
        tensor.with_context(|| info.name.clone())
    }

    /// Rows are whole blocks in every type, so reordering them needs no dequantising.
    fn in_hf_order(&self, info: &TensorInfo, rows: RowOrder, n_rows: usize) -> Vec<u8> {
        let bytes = self.checkpoint.bytes(info);
        let row_bytes = bytes.len() / n_rows.max(1);
        let mut ordered = Vec::with_capacity(bytes.len());
        for row in 0..n_rows {
            let at = rows.gguf_row(row, self.config.head_dim) * row_bytes;
            ordered.extend_from_slice(&bytes[at..at + row_bytes]);
        }
        ordered
    }
}
