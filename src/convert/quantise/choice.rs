//! The type and importance of every tensor that is written.

use super::{Candidate, Imatrix, Importance, Shape, pure_types};
use crate::arch::{Arch, KeepSet};
use crate::checkpoint::gguf::Value;
use crate::checkpoint::{Checkpoint, DType, OutTensor};
use crate::convert::OutType;
use crate::convert::halves::is_zeroed;
use anyhow::{Result, ensure};
use std::collections::HashMap;

/// How a quantised type is reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantise<'a> {
    /// Which errors matter.
    pub imatrix: Option<&'a Imatrix>,
    /// Whether weights that are quantised already may be quantised again.
    pub allow_requantize: bool,
}

/// New GGUF name → type and importance, of the tensors that are quantised.
pub type Chosen<'a> = HashMap<String, (DType, Option<Importance<'a>>)>;

impl<'a> Quantise<'a> {
    /// The choice for tensors that would otherwise be written as `plain`.
    ///
    /// # Errors
    /// Weights that are quantised already; an imatrix of another model.
    pub fn choose(
        self,
        outtype: OutType,
        model: Shape,
        keep: &KeepSet,
        plain: &[OutTensor],
    ) -> Result<Chosen<'a>> {
        let candidate = |tensor: &'_ OutTensor| Candidate {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            plain: tensor.dtype,
        };
        let candidates: Vec<Candidate> = plain.iter().map(candidate).collect();
        let model = Shape {
            imatrix: self.imatrix.is_some(),
            ..model
        };
        let types = match outtype {
            OutType::Keep => return Ok(Chosen::new()),
            OutType::Only(dtype) => pure_types(dtype, &candidates),
            OutType::Mix(recipe) => recipe.types(&model, &candidates),
        };
        let mut chosen = Chosen::new();
        for (tensor, dtype) in candidates.into_iter().zip(types) {
            // Zeros count as a layer's MLP, but stay as they are.
            if dtype == tensor.plain || is_zeroed(&tensor.name, keep) {
                continue;
            }
            ensure!(
                self.allow_requantize || !tensor.plain.is_quantised(),
                "{} is {} already: quantising it again as {dtype} adds one error to another. \
                 Give slim the model in f32, f16 or bf16, or accept that with --allow-requantize",
                tensor.name,
                tensor.plain
            );
            let importance = match self.imatrix {
                Some(imatrix) => imatrix.of(&source_name(&tensor.name, keep), &tensor.shape)?,
                None => None,
            };
            chosen.insert(tensor.name, (dtype, importance));
        }
        Ok(chosen)
    }

    /// What llama-quantize notes about the imatrix.
    pub fn entries(self) -> Vec<(&'static str, Value<'static>)> {
        let Some(imatrix) = self.imatrix else {
            return Vec::new();
        };
        let mut entries = vec![("quantize.imatrix.file", Value::str(&imatrix.file))];
        if let Some(dataset) = &imatrix.dataset {
            entries.push(("quantize.imatrix.dataset", Value::str(dataset)));
        }
        let count = Value::u32(imatrix.len() as u32);
        entries.push(("quantize.imatrix.entries_count", count));
        if let Some(chunks) = imatrix.chunks {
            entries.push(("quantize.imatrix.chunks_count", Value::u32(chunks)));
        }
        entries
    }
}

/// The GGUF name that a tensor of the output has in the source.
fn source_name(name: &str, keep: &KeepSet) -> String {
    let layer = || {
        let (number, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        let source = keep.layers().get(number.parse::<usize>().ok()?)?;
        Some(format!("blk.{source}.{rest}"))
    };
    layer().unwrap_or_else(|| name.to_owned())
}

impl Shape {
    /// The shape of what is left of a model.
    ///
    /// # Errors
    /// Hyper-parameters that are missing.
    pub fn of(checkpoint: &Checkpoint, arch: &Arch, keep: &KeepSet) -> Result<Self> {
        let first = keep.layers().first().copied().unwrap_or(0);
        let read = |key: &str| -> Option<f64> {
            match checkpoint.gguf() {
                Some(metadata) => {
                    let value = metadata.get(&arch.key(key))?;
                    let of_layer = || value.iter_f64()?.nth(first);
                    value.as_f64().or_else(of_layer)
                }
                None => arch.params(checkpoint).ok()?.get(key),
            }
        };
        let count = |key: &str| read(key).unwrap_or(0.0) as u64;
        let n_heads = count("attention.head_count");
        Ok(Self {
            arch: arch.gguf_name().to_owned(),
            n_layers: keep.len(),
            n_heads,
            n_kv_heads: read("attention.head_count_kv").map_or(n_heads, |n| n as u64),
            n_experts: count("expert_count"),
            imatrix: false,
        })
    }
}
