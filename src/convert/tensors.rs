//! The tensors that stay, as the output names, orders and stores them.

use super::conversion::{Arithmetic, Conversion, Part, Rows};
use super::edit::{Edit, Edits, place_name};
use super::halves::{Fate, zeros};
use super::outtype::OutType;
use super::quantise::{self, Chosen, Quantise};
use crate::arch::{Arch, KeepSet, RopeScaling, RowOrder, Slot, TensorRule};
use crate::checkpoint::{Checkpoint, DType, Data, OutTensor, TensorInfo};
use anyhow::{Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

/// The format that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One GGUF file.
    Gguf,
    /// Hugging Face's names and row order, in safetensors.
    HuggingFace,
}

/// Every tensor that stays, in source order, renumbered. Tensors that need neither another type
/// nor another row order nor an edit are copied as bytes. Where half layers stay, they are those of the
/// architecture that [`Arch::written_as`] gives.
///
/// # Errors
/// A tensor that the architecture's description does not know; an edit that does not fit; half layers
/// of an architecture, or for a format, that has none.
pub fn kept_tensors<'a>(
    checkpoint: &'a Checkpoint,
    arch: &'a Arch,
    keep: &KeepSet,
    target: Target,
    outtype: OutType,
    quantise: Quantise<'a>,
    edits: &'a Edits,
) -> Result<Vec<OutTensor<'a>>> {
    ensure!(
        target == Target::Gguf || keep.halves().is_empty(),
        "half layers can be written as GGUF only: no model class of stock transformers has layers that lack a half. Name a .gguf, or drop whole layers"
    );
    edits.check(checkpoint, arch, keep, target)?;
    let nothing = Chosen::default();
    if !outtype.is_quantised() {
        return stored(checkpoint, arch, keep, target, outtype, &nothing, edits);
    }
    // Which type a tensor gets depends on all others.
    let (plain, unedited) = (OutType::Keep, Edits::default());
    let plain = stored(checkpoint, arch, keep, target, plain, &nothing, &unedited)?;
    let model = quantise::Shape {
        arch: arch.written_as(keep)?.gguf_name().to_owned(),
        ..quantise::Shape::of(checkpoint, arch, keep)?
    };
    let chosen = quantise.choose(outtype, model, keep, &plain)?;
    let rest = OutType::Keep;
    stored(checkpoint, arch, keep, target, rest, &chosen, edits)
}

/// The kept tensors, those that are chosen in their chosen types.
fn stored<'a>(
    checkpoint: &'a Checkpoint,
    arch: &'a Arch,
    keep: &KeepSet,
    target: Target,
    outtype: OutType,
    chosen: &Chosen<'a>,
    edits: &'a Edits,
) -> Result<Vec<OutTensor<'a>>> {
    let same_format = (target == Target::Gguf) == checkpoint.gguf().is_some();
    let written = arch.written_as(keep)?;
    let renumbered_only = same_format && std::ptr::eq(written, arch) && !edits.by_rows();
    // Of a file that is only renumbered, slim need not know the heads.
    let head_dim = match renumbered_only {
        true => 0,
        false => arch.params(checkpoint)?.head_dim()?,
    };
    let fold = match target {
        Target::Gguf => arch.attention_fold(checkpoint, keep.len())?,
        Target::HuggingFace => None,
    };
    let converter = Converter {
        checkpoint,
        arch,
        written,
        keep,
        target,
        same_format,
        outtype,
        chosen,
        edits,
        fold,
        head_dim,
    };
    match same_format {
        true => converter.renumbered(),
        false => converter.converted(),
    }
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

/// One checkpoint on its way into the output.
struct Converter<'a, 'k> {
    checkpoint: &'a Checkpoint,
    arch: &'a Arch,
    /// The output's architecture.
    written: &'a Arch,
    keep: &'k KeepSet,
    target: Target,
    same_format: bool,
    outtype: OutType,
    chosen: &'k Chosen<'a>,
    edits: &'a Edits,
    fold: Option<(&'a str, f64)>,
    head_dim: usize,
}

impl<'a> Converter<'a, '_> {
    /// The kept tensors in the format that they are in: names need not be understood beyond the
    /// layer's number, nor rows at all, unless they are edited.
    fn renumbered(&self) -> Result<Vec<OutTensor<'a>>> {
        let mut tensors = Vec::new();
        for info in self.checkpoint.tensors() {
            let new_index = |layer| self.keep.new_index(layer);
            let Some(name) = self.arch.renumbered(&info.name, new_index) else {
                continue;
            };
            let slot = self.arch.slot(&info.name);
            if let Some(slot) = slot {
                match Fate::of(self.keep, slot) {
                    Fate::Stays => {}
                    Fate::Goes => continue,
                    Fate::Zeroed => {
                        tensors.push(zeros(name, slot.rule, &info.shape));
                        continue;
                    }
                }
            }
            let edit = self.edits.get(&place_name(info, slot));
            let rule = slot.map(|slot| slot.rule);
            let rows = self.rows(rule, edit)?;
            let parts = vec![Part::whole(info, rows)];
            let conversion = self.conversion(info, rule, parts, rows, edit);
            if conversion.copied().is_none() || self.chosen.contains_key(&name) {
                check_readable(info)?;
            }
            tensors.push(conversion.tensor(name, info.shape.clone(), self.chosen)?);
        }
        Ok(tensors)
    }

    /// How the source orders the rows, and how the output does.
    fn rows(&self, rule: Option<&TensorRule>, edit: Option<&Edit>) -> Result<Rows> {
        let Some(rule) = rule else {
            return Ok(Rows::AS_THEY_ARE);
        };
        let source = match self.checkpoint.gguf() {
            Some(_) => rule.rows,
            None => RowOrder::Same,
        };
        let output = match self.target {
            Target::Gguf => self.written.rule_like(rule)?.rows,
            Target::HuggingFace => RowOrder::Same,
        };
        match source == output && !edit.is_some_and(Edit::by_rows) {
            true => Ok(Rows::AS_THEY_ARE),
            false => Ok(Rows { source, output }),
        }
    }

    /// The kept tensors as the other format names and orders them.
    fn converted(&self) -> Result<Vec<OutTensor<'a>>> {
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
            let fate = Fate::of(self.keep, slot);
            let edit = self.edits.get(&slot.gguf_name());
            let slot = Slot { layer, ..slot };
            match fate {
                Fate::Stays => check_readable(info)?,
                Fate::Goes => continue,
                Fate::Zeroed => {
                    tensors.push(zeros(slot.gguf_name(), slot.rule, &info.shape));
                    continue;
                }
            }
            if self.target == Target::HuggingFace && slot.rule.is_stacked() {
                tensors.extend(self.experts_of(slot, info, edit)?);
                continue;
            }
            let Some(expert) = slot.expert else {
                let rows = self.rows(Some(slot.rule), edit)?;
                let parts = vec![Part::whole(info, rows)];
                tensors.extend(self.tensor(slot, parts, info.shape.clone(), edit)?);
                continue;
            };
            let stack = stacks.entry(slot.gguf_name()).or_default();
            stack.insert(expert, info);
            if Some(stack.len() as f64) == experts {
                let part = |info: &&'a TensorInfo| Part::whole(info, Rows::AS_THEY_ARE);
                let parts: Vec<Part> = stack.values().map(part).collect();
                ensure!(
                    parts
                        .iter()
                        .all(|p| p.info.dtype == info.dtype && p.info.shape == info.shape),
                    "the experts of {} are not alike in type and shape",
                    slot.gguf_name()
                );
                let shape = [&[parts.len() as u64], info.shape.as_slice()].concat();
                tensors.extend(self.tensor(slot, parts, shape, edit)?);
            }
        }
        Ok(tensors)
    }

    /// A stack of experts as one tensor an expert.
    fn experts_of(
        &self,
        slot: Slot,
        info: &'a TensorInfo,
        edit: Option<&'a Edit>,
    ) -> Result<Vec<OutTensor<'a>>> {
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
            self.tensor(slot, vec![part], info.shape[1..].to_vec(), edit)
        };
        (0..*count as usize)
            .filter_map(|i| expert(i).transpose())
            .collect()
    }

    /// `None` for a derived tensor, which has no name in the other format: its meaning is in the
    /// metadata.
    fn tensor(
        &self,
        slot: Slot,
        parts: Vec<Part<'a>>,
        shape: Vec<u64>,
        edit: Option<&'a Edit>,
    ) -> Result<Option<OutTensor<'a>>> {
        let name = match self.target {
            Target::Gguf => Some(slot.gguf_name()),
            Target::HuggingFace => slot.hf_name(self.arch),
        };
        let info = parts.first().map(|part| part.info);
        let (Some(name), Some(info)) = (name, info) else {
            return Ok(None);
        };
        let rows = self.rows(Some(slot.rule), edit)?;
        let conversion = self.conversion(info, Some(slot.rule), parts, rows, edit);
        conversion.tensor(name, shape, self.chosen).map(Some)
    }

    /// `rule` is absent for what slim only renumbers.
    fn conversion(
        &self,
        info: &'a TensorInfo,
        rule: Option<&TensorRule>,
        parts: Vec<Part<'a>>,
        rows: Rows,
        edit: Option<&'a Edit>,
    ) -> Conversion<'a> {
        let gguf = rule.map_or(info.name.as_str(), |rule| &rule.gguf);
        Conversion {
            checkpoint: self.checkpoint,
            parts,
            from: info.dtype,
            to: stored_type(info, gguf, self.target, self.outtype, self.same_format),
            rows,
            head_dim: self.head_dim,
            edit,
            arithmetic: self.arithmetic(gguf, rule.is_some_and(|rule| rule.plus_one), edit),
            importance: None,
        }
    }

    /// From the weights as the source holds them, or an edit replaces them, to those of the output.
    fn arithmetic(&self, gguf: &str, plus_one: bool, edit: Option<&Edit>) -> Arithmetic {
        let folded = self.fold.filter(|(tensor, _)| *tensor == gguf);
        let folded = folded.map_or(1.0, |(_, factor)| factor as f32);
        let factor = folded * edit.map_or(1.0, Edit::factor);
        // What the model adds is scaled too. GGUF stores it added, and so do edits.
        let one = |missing: bool| f32::from(u8::from(plus_one && missing));
        let before = one(self.checkpoint.hf().is_some() && !edit.is_some_and(Edit::by_rows));
        let after = one(self.target == Target::HuggingFace);
        Arithmetic {
            factor,
            addend: before * factor - after,
        }
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
