//! The tensors that stay, as the output names, orders and stores them.

use super::element;
use super::outtype::OutType;
use crate::arch::{Arch, KeepSet, RopeScaling, RowOrder, Slot};
use crate::checkpoint::{Checkpoint, DType, Data, OutTensor, TensorInfo};
use anyhow::{Context, Result, ensure};
use candle_core::Device;
use rayon::prelude::*;
use std::io::Write;

/// Bytes of source that are converted at a time, on each core.
const CHUNK_BYTES: usize = 1 << 20;

/// The format that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One GGUF file.
    Gguf,
    /// Hugging Face's names and row order, in safetensors.
    HuggingFace,
}

/// Everything that decides how one tensor is written.
struct Conversion<'a> {
    checkpoint: &'a Checkpoint,
    info: &'a TensorInfo,
    to: DType,
    rows: RowOrder,
    target: Target,
    head_dim: usize,
}

/// Every tensor that stays, in source order, renumbered. Tensors that need neither another type
/// nor another row order are copied as bytes.
///
/// # Errors
/// A tensor that the architecture's description does not know.
pub fn kept_tensors<'a>(
    checkpoint: &'a Checkpoint,
    arch: &'a Arch,
    keep: &KeepSet,
    target: Target,
    outtype: OutType,
) -> Result<Vec<OutTensor<'a>>> {
    let same_format = (target == Target::Gguf) == checkpoint.gguf().is_some();
    let head_dim = match same_format {
        // Rows stay in order, so per-layer head counts need not be understood.
        true => 0,
        false => arch.params(checkpoint)?.head_dim()?,
    };
    let mut tensors = Vec::new();
    if target == Target::Gguf && !same_format {
        tensors.extend(rope_freqs(checkpoint, arch, head_dim)?);
    }
    for info in checkpoint.tensors() {
        if arch.ignores(&info.name) && !same_format {
            continue;
        }
        let slot = known_slot(checkpoint, arch, info)?;
        let layer = match slot.layer.map(|layer| keep.new_index(layer)) {
            Some(None) => continue,
            Some(kept) => kept,
            None => None,
        };
        let slot = Slot { layer, ..slot };
        let name = match target {
            Target::Gguf => Some(slot.gguf_name()),
            Target::HuggingFace => slot.hf_name(arch),
        };
        // A derived tensor has no name in the other format: its meaning is in the metadata.
        let Some(name) = name else { continue };
        ensure!(
            target == Target::Gguf || same_format || info.dtype.block().is_some(),
            "tensor {} is of type {}, which slim cannot read: write a .gguf, which keeps its bytes",
            info.name,
            info.dtype
        );
        let conversion = Conversion {
            checkpoint,
            info,
            to: stored_type(info, slot, target, outtype, same_format),
            rows: if same_format {
                RowOrder::Same
            } else {
                slot.rule.rows
            },
            target,
            head_dim,
        };
        tensors.push(conversion.tensor(name));
    }
    Ok(tensors)
}

fn known_slot<'a>(checkpoint: &Checkpoint, arch: &'a Arch, info: &TensorInfo) -> Result<Slot<'a>> {
    arch.slot(&info.name).with_context(|| {
        format!(
            "{}: tensor '{}' is not part of the {} architecture as slim knows it",
            checkpoint.path().display(),
            info.name,
            arch.name
        )
    })
}

/// Stock converters keep vectors in f32, because llama.cpp computes with them as they are.
fn stored_type(
    info: &TensorInfo,
    slot: Slot,
    target: Target,
    outtype: OutType,
    same_format: bool,
) -> DType {
    let vector = info.shape.len() < 2 || slot.rule.gguf.ends_with("_norm.weight");
    let columns = info.shape.last().copied().unwrap_or_default();
    match (outtype, target) {
        (OutType::Keep, _) if same_format => info.dtype,
        (_, Target::Gguf) if vector => DType::F32,
        (OutType::Only(DType::Q8_0), _) if columns % 32 != 0 => DType::F16,
        (OutType::Only(dtype), _) => dtype,
        (OutType::Keep, Target::Gguf) => info.dtype,
        // safetensors has no quantised types: f16 is nearest to what they decode to.
        (OutType::Keep, Target::HuggingFace) => match info.dtype.safetensors() {
            Some(_) => info.dtype,
            None => DType::F16,
        },
    }
}

/// Llama 3's rotary divisors, which GGUF stores as a tensor.
fn rope_freqs(
    checkpoint: &Checkpoint,
    arch: &Arch,
    head_dim: usize,
) -> Result<Option<OutTensor<'static>>> {
    let Some(files) = checkpoint.hf() else {
        return Ok(None);
    };
    let theta = arch.params(checkpoint)?.get("rope.freq_base");
    let scaling = RopeScaling::from_hf(&files.config)?;
    let factors = scaling.freq_factors(head_dim, theta.unwrap_or(10_000.0));
    Ok(factors.map(|factors| OutTensor {
        name: "rope_freqs.weight".to_owned(),
        dtype: DType::F32,
        shape: vec![factors.len() as u64],
        data: Data::Stream(Box::new(move |out: &mut dyn Write| {
            let bytes: Vec<u8> = factors.iter().flat_map(|f| f.to_le_bytes()).collect();
            Ok(out.write_all(&bytes)?)
        })),
    }))
}

/// Weights in all of these tensors, as `general.size_label` counts them.
pub fn parameter_count(tensors: &[OutTensor]) -> u64 {
    let elements = |tensor: &OutTensor| tensor.shape.iter().product::<u64>();
    tensors.iter().map(elements).sum()
}

impl<'a> Conversion<'a> {
    fn tensor(self, name: String) -> OutTensor<'a> {
        let (dtype, shape) = (self.to, self.info.shape.clone());
        let copied = self.to == self.info.dtype && self.rows == RowOrder::Same;
        let data = if copied {
            let (file, range) = self.checkpoint.source(self.info);
            Data::Copy { file, range }
        } else {
            Data::Stream(Box::new(move |out: &mut dyn Write| Ok(self.write(out)?)))
        };
        OutTensor {
            name,
            dtype,
            shape,
            data,
        }
    }

    /// Writes the tensor in blocks of whole heads, a few on each core at a time.
    fn write(&self, out: &mut dyn Write) -> Result<()> {
        let bytes = self.checkpoint.bytes(self.info);
        let columns = self.info.shape.last().copied().unwrap_or(1) as usize;
        let n_rows = match self.info.shape.len() {
            // The rows of a bias are its elements.
            1 if self.rows != RowOrder::Same => columns,
            _ => self.info.shape.iter().product::<u64>() as usize / columns.max(1),
        };
        let row_bytes = bytes.len() / n_rows.max(1);
        let row_elements = self.info.shape.iter().product::<u64>() as usize / n_rows.max(1);
        let unit = match self.rows {
            RowOrder::Same => 1,
            _ => self.head_dim,
        };
        let units = (CHUNK_BYTES / (row_bytes * unit).max(1)).max(1);
        let chunks: Vec<usize> = (0..n_rows).step_by(units * unit).collect();
        for group in chunks.chunks(rayon::current_num_threads()) {
            let converted: Vec<Result<Vec<u8>>> = group
                .par_iter()
                .map(|&first| {
                    let last = (first + units * unit).min(n_rows);
                    let rows = self.rows_in_order(bytes, row_bytes, first..last);
                    self.retype(rows, row_elements)
                })
                .collect();
            for chunk in converted {
                out.write_all(&chunk?)?;
            }
        }
        self.checkpoint.release(self.info);
        Ok(())
    }

    fn rows_in_order(
        &self,
        bytes: &[u8],
        row_bytes: usize,
        wanted: std::ops::Range<usize>,
    ) -> Vec<u8> {
        let mut rows = Vec::with_capacity(wanted.len() * row_bytes);
        for row in wanted {
            let from = match self.target {
                Target::Gguf => self.rows.hf_row(row, self.head_dim),
                Target::HuggingFace => self.rows.gguf_row(row, self.head_dim),
            };
            rows.extend_from_slice(&bytes[from * row_bytes..(from + 1) * row_bytes]);
        }
        rows
    }

    fn retype(&self, rows: Vec<u8>, row_elements: usize) -> Result<Vec<u8>> {
        if self.to == self.info.dtype {
            return Ok(rows);
        }
        let (block, block_bytes) = self.info.dtype.block().context("a type of unknown size")?;
        let elements = rows.len() / block_bytes as usize * block as usize;
        let shape = [elements / row_elements.max(1), row_elements];
        let tensor = element::to_tensor(&rows, self.info.dtype, &shape, &Device::Cpu)?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        element::from_f32(values, self.to, row_elements)
    }
}
