//! What becomes of some weights on their way into the output: compensation folds something into
//! them, healing replaces them.

use super::Target;
use crate::arch::{Arch, KeepSet, Slot};
use crate::checkpoint::{Checkpoint, TensorInfo};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What becomes of some weights on their way into the output, by GGUF tensor name with the
/// ORIGINAL layer index (`blk.3.ffn_down.weight`), whatever the formats of source and output.
///
/// Weights are meant as the decoder computes with them: rows in Hugging Face's order, and 1 added
/// where an architecture's model adds 1 (gemma's norms).
#[derive(Debug, Clone, Default)]
pub struct Edits(BTreeMap<String, Edit>);

/// What becomes of one tensor. It keeps its type, unless one is chosen for the output.
#[derive(Debug, Clone)]
pub enum Edit {
    /// w · factor. Of a stack of experts: of all of them.
    Scale(f32),
    /// Tᵀ · W for a weight [d_out, d_in] (rows are outputs), Tᵀ · b for a bias [d_out]: what
    /// computed y now computes y · T (row vectors). T is [d_out, d_out], row after row.
    Output(Arc<[f32]>),
    /// These values, in the tensor's shape.
    Values(Arc<[f32]>),
}

static NO_EDITS: Edits = Edits(BTreeMap::new());

impl Edits {
    /// All weights stay as they are.
    pub fn none() -> &'static Self {
        &NO_EDITS
    }

    /// Sets what becomes of a tensor, in place of what was set before.
    pub fn insert(&mut self, name: impl Into<String>, edit: Edit) {
        self.0.insert(name.into(), edit);
    }

    /// What becomes of a tensor; `None` where it stays as it is.
    pub fn get(&self, name: &str) -> Option<&Edit> {
        self.0.get(name)
    }

    /// Whether all weights stay as they are.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All edits, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Edit)> {
        self.0.iter().map(|(name, edit)| (name.as_str(), edit))
    }

    /// Whether rows must be understood: a factor is the same for all.
    pub(super) fn by_rows(&self) -> bool {
        self.0.values().any(Edit::by_rows)
    }

    /// Checks that every edit has its tensor in the output, and fits it.
    ///
    /// # Errors
    /// A tensor that the source has not or the output will not have; numbers that are too many, too
    /// few or not finite; anything but a factor for experts, or where slim knows no row order.
    pub(super) fn check(
        &self,
        checkpoint: &Checkpoint,
        arch: &Arch,
        keep: &KeepSet,
        target: Target,
    ) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let places: HashMap<String, (&TensorInfo, Option<Slot>)> = checkpoint
            .tensors()
            .iter()
            .filter(|info| !arch.ignores(&info.name))
            .map(|info| (info, arch.slot(&info.name)))
            .map(|(info, slot)| (place_name(info, slot), (info, slot)))
            .collect();
        for (name, edit) in self.iter() {
            let (info, slot) = places.get(name).with_context(|| {
                format!(
                    "{}: there is no tensor {name} to edit: edits call tensors as GGUF does, with the source's layers",
                    checkpoint.path().display()
                )
            })?;
            ensure!(
                arch.renumbered(&info.name, |layer| keep.new_index(layer))
                    .is_some(),
                "{name} cannot be edited: its layer is not kept"
            );
            ensure!(
                slot.is_none_or(|slot| !half_is_gone(keep, slot)),
                "{name} cannot be edited: its half of the layer is not kept"
            );
            ensure!(
                target == Target::Gguf || slot.is_none_or(|slot| slot.rule.hf.is_some()),
                "{name} cannot be edited: it has no place in Hugging Face's format"
            );
            edit.check(info, *slot)
                .with_context(|| format!("{name} cannot be edited"))?;
        }
        Ok(())
    }
}

fn half_is_gone(keep: &KeepSet, slot: Slot) -> bool {
    let kept = slot.layer.and_then(|layer| keep.half(layer));
    kept.is_some() && slot.rule.half().is_some() && kept != slot.rule.half()
}

/// What edits call a tensor.
pub(super) fn place_name(info: &TensorInfo, slot: Option<Slot>) -> String {
    slot.map_or_else(|| info.name.clone(), |slot| slot.gguf_name())
}

impl Edit {
    pub(super) fn by_rows(&self) -> bool {
        !matches!(self, Self::Scale(_))
    }

    /// What every weight is multiplied with.
    pub(super) fn factor(&self) -> f32 {
        match self {
            Self::Scale(factor) => *factor,
            Self::Output(_) | Self::Values(_) => 1.0,
        }
    }

    fn check(&self, info: &TensorInfo, slot: Option<Slot>) -> Result<()> {
        if self.by_rows() {
            check_rows(slot)?;
        }
        let (given, wanted) = match self {
            Self::Scale(factor) => {
                ensure!(factor.is_finite(), "its factor is {factor}");
                return Ok(());
            }
            Self::Output(matrix) => (matrix, n_outputs(info)?.checked_pow(2)),
            Self::Values(values) => (values, Some(info.shape.iter().product())),
        };
        ensure!(
            Some(given.len() as u64) == wanted,
            "its shape {:?} takes {} numbers, not {}",
            info.shape,
            wanted.unwrap_or(u64::MAX),
            given.len()
        );
        ensure!(
            given.iter().all(|value| value.is_finite()),
            "a number of its edit is not finite"
        );
        Ok(())
    }
}

/// Checks that the rows of a tensor are known, and one matrix.
fn check_rows(slot: Option<Slot>) -> Result<()> {
    let slot = slot
        .context("slim does not know how its architecture orders rows, so it can only be scaled")?;
    ensure!(
        !slot.rule.is_stacked(),
        "it is a stack of experts, which can only be scaled, all alike"
    );
    Ok(())
}

/// How many outputs a matrix or a bias has.
fn n_outputs(info: &TensorInfo) -> Result<u64> {
    match info.shape.as_slice() {
        [rows, _] => Ok(*rows),
        [rows] if info.name.ends_with(".bias") => Ok(*rows),
        shape => bail!("it is neither a matrix nor a bias: its shape is {shape:?}"),
    }
}

/// Tᵀ · W: `matrix` is T, `weight` has as many rows as T.
pub(super) fn outputs_multiplied(matrix: &[f32], weight: Vec<f32>) -> Result<Vec<f32>> {
    let n_outputs = matrix.len().isqrt();
    let n_inputs = weight.len() / n_outputs.max(1);
    let matrix = Tensor::from_slice(matrix, (n_outputs, n_outputs), &Device::Cpu)?;
    let weight = Tensor::from_vec(weight, (n_outputs, n_inputs), &Device::Cpu)?;
    let product = matrix.t()?.matmul(&weight)?;
    drop((matrix, weight));
    Ok(product.flatten_all()?.to_vec1()?)
}
