//! The tensors that stay, as the output names, orders and stores them.

use super::element;
use super::outtype::OutType;
use super::quantise::{self, Chosen, Importance, Quantise};
use crate::arch::{Arch, KeepSet, RopeScaling, RowOrder, Slot};
use crate::checkpoint::{Checkpoint, DType, Data, OutTensor, TensorInfo};
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::ops::Range;

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
    /// The rows that it is made of, one after the other.
    parts: Vec<Part<'a>>,
    from: DType,
    to: DType,
    rows: RowOrder,
    target: Target,
    head_dim: usize,
    arithmetic: Arithmetic,
    importance: Option<Importance<'a>>,
}

/// Some rows of a source tensor.
struct Part<'a> {
    info: &'a TensorInfo,
    rows: Range<usize>,
}

/// What becomes of every weight: w · factor + addend.
#[derive(Clone, Copy, PartialEq)]
struct Arithmetic {
    factor: f32,
    addend: f32,
}

const NOTHING: Arithmetic = Arithmetic {
    factor: 1.0,
    addend: 0.0,
};

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
    quantise: Quantise<'a>,
) -> Result<Vec<OutTensor<'a>>> {
    if !outtype.is_quantised() {
        return stored(checkpoint, arch, keep, target, outtype, &Chosen::default());
    }
    // Which type a tensor gets depends on all others.
    let nothing = Chosen::default();
    let plain = stored(checkpoint, arch, keep, target, OutType::Keep, &nothing)?;
    let model = quantise::Shape::of(checkpoint, arch, keep)?;
    let chosen = quantise.choose(outtype, model, keep, &plain)?;
    stored(checkpoint, arch, keep, target, OutType::Keep, &chosen)
}

/// The kept tensors, those that are chosen in their chosen types.
fn stored<'a>(
    checkpoint: &'a Checkpoint,
    arch: &'a Arch,
    keep: &KeepSet,
    target: Target,
    outtype: OutType,
    chosen: &Chosen<'a>,
) -> Result<Vec<OutTensor<'a>>> {
    let same_format = (target == Target::Gguf) == checkpoint.gguf().is_some();
    let fold = match target {
        Target::Gguf => arch.attention_fold(checkpoint, keep.len())?,
        Target::HuggingFace => None,
    };
    match same_format {
        true => renumbered(checkpoint, arch, keep, target, outtype, chosen, fold),
        false => Converter {
            checkpoint,
            arch,
            keep,
            target,
            outtype,
            chosen,
            fold,
            head_dim: arch.params(checkpoint)?.head_dim()?,
        }
        .tensors(),
    }
}

/// The kept tensors in the format that they are in: names need not be understood beyond the
/// layer's number, nor rows at all.
fn renumbered<'a>(
    checkpoint: &'a Checkpoint,
    arch: &'a Arch,
    keep: &KeepSet,
    target: Target,
    outtype: OutType,
    chosen: &Chosen<'a>,
    fold: Option<(&str, f64)>,
) -> Result<Vec<OutTensor<'a>>> {
    let mut tensors = Vec::new();
    for info in checkpoint.tensors() {
        let Some(name) = arch.renumbered(&info.name, |layer| keep.new_index(layer)) else {
            continue;
        };
        let slot = arch.slot(&info.name);
        let gguf = slot.map_or(info.name.as_str(), |slot| slot.rule.gguf.as_str());
        let folded = fold.filter(|(tensor, _)| *tensor == gguf);
        let conversion = Conversion {
            checkpoint,
            parts: vec![Part::whole(info, RowOrder::Same)],
            from: info.dtype,
            to: stored_type(info, gguf, target, outtype, true),
            rows: RowOrder::Same,
            target,
            head_dim: 0,
            arithmetic: Arithmetic {
                factor: folded.map_or(1.0, |(_, factor)| factor as f32),
                addend: 0.0,
            },
            importance: None,
        };
        if conversion.copied().is_none() || chosen.contains_key(&name) {
            check_readable(info)?;
        }
        tensors.push(conversion.tensor(name, info.shape.clone(), chosen));
    }
    Ok(tensors)
}

/// Refuses to convert what cannot even be counted: a type newer than slim.
fn check_readable(info: &TensorInfo) -> Result<()> {
    ensure!(
        info.dtype.block().is_some(),
        "tensor {} is of a type newer than slim ({}), which can only be copied: from .gguf to .gguf, without --outtype",
        info.name,
        info.dtype
    );
    Ok(())
}

/// One checkpoint on its way into the other format.
struct Converter<'a, 'k> {
    chosen: &'k Chosen<'a>,
    checkpoint: &'a Checkpoint,
    arch: &'a Arch,
    keep: &'k KeepSet,
    target: Target,
    outtype: OutType,
    fold: Option<(&'a str, f64)>,
    head_dim: usize,
}

impl<'a> Converter<'a, '_> {
    fn tensors(&self) -> Result<Vec<OutTensor<'a>>> {
        let mut tensors = match self.target {
            Target::Gguf => rope_factors(self.checkpoint, self.arch, self.head_dim)?,
            Target::HuggingFace => Vec::new(),
        };
        // Tensors of experts, by the GGUF name of their stack: written with the last expert.
        let mut stacks: HashMap<String, BTreeMap<usize, &TensorInfo>> = HashMap::new();
        let experts = self.arch.params(self.checkpoint)?.get("expert_count");
        for info in self.checkpoint.tensors() {
            if self.arch.ignores(&info.name) {
                continue;
            }
            let slot = self.arch.known_slot(self.checkpoint, info)?;
            let layer = match slot.layer.map(|layer| self.keep.new_index(layer)) {
                Some(None) => continue,
                Some(kept) => kept,
                None => None,
            };
            check_readable(info)?;
            let slot = Slot { layer, ..slot };
            if self.target == Target::HuggingFace && slot.rule.is_stacked() {
                tensors.extend(self.experts_of(slot, info)?);
                continue;
            }
            let Some(expert) = slot.expert else {
                let parts = vec![Part::whole(info, slot.rule.rows)];
                tensors.extend(self.tensor(slot, parts, info.shape.clone()));
                continue;
            };
            let stack = stacks.entry(slot.gguf_name()).or_default();
            stack.insert(expert, info);
            if Some(stack.len() as f64) == experts {
                let part = |info: &&'a TensorInfo| Part::whole(info, RowOrder::Same);
                let parts: Vec<Part> = stack.values().map(part).collect();
                ensure!(
                    parts
                        .iter()
                        .all(|p| p.info.dtype == info.dtype && p.info.shape == info.shape),
                    "the experts of {} are not alike in type and shape",
                    slot.gguf_name()
                );
                let shape = [&[parts.len() as u64], info.shape.as_slice()].concat();
                tensors.extend(self.tensor(slot, parts, shape));
            }
        }
        Ok(tensors)
    }

    /// A stack of experts as one tensor an expert.
    fn experts_of(&self, slot: Slot, info: &'a TensorInfo) -> Result<Vec<OutTensor<'a>>> {
        let [count, rows, _] = info.shape.as_slice() else {
            bail!(
                "tensor {} is no stack of experts: {:?}",
                info.name,
                info.shape
            )
        };
        let rows = *rows as usize;
        let expert = |expert: usize| {
            let part = Part {
                info,
                rows: expert * rows..(expert + 1) * rows,
            };
            let slot = Slot {
                expert: Some(expert),
                ..slot
            };
            self.tensor(slot, vec![part], info.shape[1..].to_vec())
        };
        Ok((0..*count as usize).filter_map(expert).collect())
    }

    /// `None` for a derived tensor, which has no name in the other format: its meaning is in the
    /// metadata.
    fn tensor(&self, slot: Slot, parts: Vec<Part<'a>>, shape: Vec<u64>) -> Option<OutTensor<'a>> {
        let name = match self.target {
            Target::Gguf => slot.gguf_name(),
            Target::HuggingFace => slot.hf_name(self.arch)?,
        };
        let info = parts.first()?.info;
        let one = f32::from(u8::from(slot.rule.plus_one));
        let folded = self.fold.filter(|(tensor, _)| *tensor == slot.rule.gguf);
        let factor = folded.map_or(1.0, |(_, factor)| factor as f32);
        let conversion = Conversion {
            checkpoint: self.checkpoint,
            parts,
            from: info.dtype,
            to: stored_type(info, &slot.rule.gguf, self.target, self.outtype, false),
            rows: slot.rule.rows,
            target: self.target,
            head_dim: self.head_dim,
            arithmetic: match self.target {
                // What GGUF adds is folded too.
                Target::Gguf => Arithmetic {
                    factor,
                    addend: one * factor,
                },
                Target::HuggingFace => Arithmetic {
                    factor: 1.0,
                    addend: -one,
                },
            },
            importance: None,
        };
        Some(conversion.tensor(name, shape, self.chosen))
    }
}

/// Stock converters keep vectors and routers in f32, because llama.cpp computes with them as they
/// are.
fn stored_type(
    info: &TensorInfo,
    gguf: &str,
    target: Target,
    outtype: OutType,
    same_format: bool,
) -> DType {
    let vector =
        info.shape.len() < 2 || gguf.ends_with("_norm.weight") || gguf.contains("ffn_gate_inp");
    match (outtype, target) {
        (OutType::Keep, _) if same_format => info.dtype,
        (_, Target::Gguf) if vector => DType::F32,
        (OutType::Only(dtype), _) => dtype,
        (OutType::Keep | OutType::Mix(_), Target::Gguf) => info.dtype,
        // safetensors has no quantised types: f16 is nearest to what they decode to.
        (OutType::Keep | OutType::Mix(_), Target::HuggingFace) => match info.dtype.safetensors() {
            Some(_) => info.dtype,
            None => DType::F16,
        },
    }
}

/// Rotary divisors, which GGUF stores as tensors.
fn rope_factors(
    checkpoint: &Checkpoint,
    arch: &Arch,
    head_dim: usize,
) -> Result<Vec<OutTensor<'static>>> {
    let Some(files) = checkpoint.hf() else {
        return Ok(Vec::new());
    };
    let theta = arch.params(checkpoint)?.get("rope.freq_base");
    Ok(match RopeScaling::from_hf(&files.config)? {
        RopeScaling::LongRope { short, long, .. } => vec![
            vector("rope_factors_long.weight", long),
            vector("rope_factors_short.weight", short),
        ],
        scaling => {
            let factors = scaling.freq_factors(head_dim, theta.unwrap_or(10_000.0));
            let tensor = factors.map(|factors| vector("rope_freqs.weight", factors));
            tensor.into_iter().collect()
        }
    })
}

fn vector(name: &str, values: Vec<f32>) -> OutTensor<'static> {
    OutTensor {
        name: name.to_owned(),
        dtype: DType::F32,
        shape: vec![values.len() as u64],
        data: Data::Stream(Box::new(move |out: &mut dyn Write| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Ok(out.write_all(&bytes)?)
        })),
    }
}

impl<'a> Part<'a> {
    fn whole(info: &'a TensorInfo, order: RowOrder) -> Self {
        let rows = 0..row_count(info, order);
        Self { info, rows }
    }
}

/// The rows of a tensor. Those of a vector that is reordered are its elements.
fn row_count(info: &TensorInfo, order: RowOrder) -> usize {
    let elements = info.shape.iter().product::<u64>() as usize;
    match (info.shape.as_slice(), order) {
        ([_] | [], RowOrder::Same) => 1,
        ([_] | [], _) => elements,
        ([.., columns], _) => elements / (*columns as usize).max(1),
    }
}

impl<'a> Conversion<'a> {
    fn tensor(mut self, name: String, shape: Vec<u64>, chosen: &Chosen<'a>) -> OutTensor<'a> {
        if let Some(choice) = chosen.get(&name) {
            (self.to, self.importance) = *choice;
        }
        let dtype = self.to;
        let data = match self.copied() {
            Some(copy) => copy,
            None => Data::Stream(Box::new(move |out: &mut dyn Write| Ok(self.write(out)?))),
        };
        OutTensor {
            name,
            dtype,
            shape,
            data,
        }
    }

    /// The bytes as they are, where nothing changes.
    fn copied(&self) -> Option<Data<'a>> {
        let [part] = self.parts.as_slice() else {
            return None;
        };
        let unchanged =
            self.to == self.from && self.rows == RowOrder::Same && self.arithmetic == NOTHING;
        if !unchanged {
            return None;
        }
        let (file, range) = self.checkpoint.source(part.info);
        let row = (range.end - range.start) / row_count(part.info, self.rows).max(1) as u64;
        // A type of unknown size has no rows, but is whole.
        let range = match part.rows.len() == row_count(part.info, self.rows) {
            true => range,
            false => {
                let at = |row_number: usize| range.start + row_number as u64 * row;
                at(part.rows.start)..at(part.rows.end)
            }
        };
        Some(Data::Copy { file, range })
    }

    /// Writes the tensor in blocks of whole heads, a few on each core at a time.
    fn write(&self, out: &mut dyn Write) -> Result<()> {
        let mut row = 0;
        for part in &self.parts {
            self.write_part(part, row, out)?;
            row += part.rows.len();
            self.checkpoint.release(part.info);
        }
        Ok(())
    }

    /// `at` is the output's row that the part begins with.
    fn write_part(&self, part: &Part, at: usize, out: &mut dyn Write) -> Result<()> {
        let bytes = self.checkpoint.bytes(part.info);
        let n_rows = row_count(part.info, self.rows).max(1);
        let row_bytes = bytes.len() / n_rows;
        let row_elements = part.info.shape.iter().product::<u64>() as usize / n_rows;
        let unit = match self.rows {
            RowOrder::Same => 1,
            _ => self.head_dim,
        };
        let rows = unit * (CHUNK_BYTES / (row_bytes * unit).max(1)).max(1);
        let chunks: Vec<usize> = part.rows.clone().step_by(rows).collect();
        for group in chunks.chunks(rayon::current_num_threads()) {
            let converted: Vec<Result<Vec<u8>>> = group
                .par_iter()
                .map(|&first| {
                    let last = (first + rows).min(part.rows.end);
                    let rows = self.rows_in_order(bytes, row_bytes, first..last);
                    self.retype(rows, row_elements, at + first - part.rows.start)
                })
                .collect();
            for chunk in converted {
                out.write_all(&chunk?)?;
            }
        }
        Ok(())
    }

    fn rows_in_order(&self, bytes: &[u8], row_bytes: usize, wanted: Range<usize>) -> Vec<u8> {
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

    /// `first` is the output's row of the first.
    fn retype(&self, rows: Vec<u8>, row_elements: usize, first: usize) -> Result<Vec<u8>> {
        if self.to == self.from && self.arithmetic == NOTHING {
            return Ok(rows);
        }
        let (block, block_bytes) = self.from.block().context("a type of unknown size")?;
        let elements = rows.len() / block_bytes as usize * block as usize;
        let shape = [elements / row_elements.max(1), row_elements];
        let mut values = element::to_f32(&rows, self.from, &shape)?;
        drop(rows);
        if self.arithmetic != NOTHING {
            let Arithmetic { factor, addend } = self.arithmetic;
            for value in &mut values {
                *value = *value * factor + addend;
            }
        }
        match self.to.is_quantised() {
            true => quantise::encode(&values, row_elements, self.to, self.importance, first),
            false => element::from_f32(&values, self.to),
        }
    }
}
