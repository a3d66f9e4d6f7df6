//! A checkpoint's tensors by their GGUF names, in Hugging Face row order, as f32.

use super::config::Config;
use crate::arch::{Arch, RowOrder};
use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::convert::to_tensor;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use std::borrow::Cow;
use std::collections::HashMap;

/// The tensors of one checkpoint, each found by the GGUF name of its place.
pub(super) struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    places: HashMap<String, (&'a TensorInfo, RowOrder)>,
    config: &'a Config,
    device: &'a Device,
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
        config.check_shapes(arch, checkpoint)?;
        let mut places = HashMap::new();
        for info in checkpoint.tensors() {
            if arch.ignores(&info.name) {
                continue;
            }
            let slot = arch.slot(&info.name).with_context(|| {
                format!(
                    "{}: tensor '{}' is not part of the {} architecture as slim knows it",
                    checkpoint.path().display(),
                    info.name,
                    arch.name
                )
            })?;
            // Only GGUF files reorder rows.
            let rows = match checkpoint.gguf() {
                Some(_) => slot.rule.rows,
                None => RowOrder::Same,
            };
            places.insert(slot.gguf_name(), (info, rows));
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

    /// A tensor that may be missing.
    pub(super) fn optional(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(&(info, rows)) = self.places.get(name) else {
            return Ok(None);
        };
        let shape: Vec<usize> = info.shape.iter().map(|&d| d as usize).collect();
        let bytes = match rows {
            RowOrder::Same => Cow::Borrowed(self.checkpoint.bytes(info)),
            _ => Cow::Owned(self.in_hf_order(info, rows, shape[0])),
        };
        let tensor = to_tensor(&bytes, info.dtype, &shape, self.device);
        self.checkpoint.release(info);
        Ok(Some(tensor.with_context(|| info.name.clone())?))
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
