//! Layers that lack a half: which models can be written so, and which files are.

use super::half::{Half, Part};
use super::layer_keys::SHAPES;
use super::sizes::LayerSize;
use super::{Arch, KeepSet};
use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result, bail, ensure};

/// The width of the zeros that stand where a layer's MLP is gone: llama.cpp passes a layer whose
/// width is 0 by, attention and all. A whole block of the simple quantised types.
pub const ZERO_MLP_LENGTH: usize = 32;

impl Arch {
    /// The architecture that is written for a keep set: this one, if all kept layers are whole.
    ///
    /// # Errors
    /// Half layers of an architecture that has no such form.
    pub fn written_as(&self, keep: &KeepSet) -> Result<&Arch> {
        if keep.halves().is_empty() {
            return Ok(self);
        }
        let name = self.half_layers.as_deref();
        let written = name.and_then(|name| Self::find(|arch| arch.name == name));
        written.with_context(|| {
            format!(
                "half a layer of {} models cannot be left out: no runtime has an architecture for what would be left (there is one for {} models). Drop whole layers",
                self.name,
                able().join(", ")
            )
        })
    }

    /// Checks that half layers of a keep set can be written, and that there is a half to leave out.
    ///
    /// # Errors
    /// An architecture or a model that no runtime could run without; a first layer without
    /// attention; a layer that lacks a half already.
    pub fn check_half_layers(&self, checkpoint: &Checkpoint, keep: &KeepSet) -> Result<()> {
        self.written_as(keep)?;
        let (Some(&first), false) = (keep.layers().first(), keep.halves().is_empty()) else {
            return Ok(());
        };
        ensure!(
            keep.half(first) != Some(Half::Mlp),
            "layer {first} would be the first and have no attention, and llama.cpp works out from the first layer how long a head is: keep its attention, or drop all of layer {first}"
        );
        // In another architecture, a key could mean something else.
        self.check_keys(checkpoint)?;
        self.check_heads(checkpoint)?;
        let lacking = self.lacking(checkpoint)?;
        for &(layer, kept) in keep.halves() {
            let (gone, kept) = (kept.other().title(), kept.title());
            match lacking.iter().find(|part| part.layer == layer) {
                None => {}
                Some(part) if part.half.is_some_and(|half| half.title() == kept) => bail!(
                    "layer {layer} has no {kept} as it is: without its {gone}, nothing would be left of it. Drop all of layer {layer}"
                ),
                Some(_) => bail!("layer {layer} has no {gone} as it is: leave it out of the list"),
            }
        }
        Ok(())
    }

    /// The layers of which a half can be left out.
    ///
    /// # Errors
    /// As of [`Self::check_half_layers`].
    pub fn halvable(&self, checkpoint: &Checkpoint) -> Result<Vec<usize>> {
        let n_layers = self.n_layers(checkpoint)?;
        let lacking = self.lacking(checkpoint)?;
        let whole = |layer: &usize| !lacking.iter().any(|part| part.layer == *layer);
        let layers: Vec<usize> = (0..n_layers).filter(whole).collect();
        if let Some(&last) = layers.last() {
            let keep = KeepSet::all(n_layers).drop_half(last, Half::Mlp);
            self.check_half_layers(checkpoint, &keep)?;
        }
        Ok(layers)
    }

    /// GGUF keys (without prefix) with one number a kept layer: what each of them has.
    ///
    /// # Errors
    /// Sizes of layers that cannot be, or have no place in 31 bits.
    pub fn kept_sizes(
        &self,
        checkpoint: &Checkpoint,
        keep: &KeepSet,
    ) -> Result<Vec<(&'static str, Vec<i32>)>> {
        let n_layers = self.n_layers(checkpoint)?;
        let sizes = self.params(checkpoint)?.layer_sizes(n_layers)?;
        let kept = keep.kept().map(|part| {
            let size = sizes.get(part.layer).context("no such layer")?;
            Ok(match part.half {
                None => [size.n_heads, size.n_kv_heads, size.intermediate_size],
                Some(Half::Attention) => [size.n_heads, size.n_kv_heads, ZERO_MLP_LENGTH],
                Some(Half::Mlp) => [0, 0, size.intermediate_size],
            })
        });
        let kept: Vec<[usize; 3]> = kept.collect::<Result<_>>()?;
        let column = |(i, key): (usize, &'static str)| {
            let values = kept.iter().map(|numbers| i32::try_from(numbers[i]));
            Ok((key, values.collect::<Result<_, _>>()?))
        };
        SHAPES.into_iter().enumerate().map(column).collect()
    }

    /// The one form of a head that the written architecture has: all of it rotates, and keys are as
    /// long as values.
    fn check_heads(&self, checkpoint: &Checkpoint) -> Result<()> {
        let params = self.params(checkpoint)?;
        let head_dim = params.head_dim()?;
        for key in ["rope.dimension_count", "attention.value_length"] {
            let stated = params.get(key).unwrap_or(head_dim as f64);
            ensure!(
                stated == head_dim as f64,
                "half a layer of this model cannot be left out: its {key} is {stated} and the length of a head {head_dim}, and the architecture that would be written has no such heads"
            );
        }
        Ok(())
    }

    /// What layers of a checkpoint lack: halves, or both of them.
    ///
    /// # Errors
    /// Sizes of layers that cannot be.
    pub fn lacking(&self, checkpoint: &Checkpoint) -> Result<Vec<Part>> {
        let sizes = self.differing_sizes(checkpoint)?.unwrap_or_default();
        let is_zero = |layer: usize| {
            let down = checkpoint.tensor(&format!("blk.{layer}.ffn_down.weight"));
            down.is_some_and(|down| checkpoint.bytes(down).iter().all(|&byte| byte == 0))
        };
        let part = |(layer, size): (usize, &LayerSize)| {
            let width = size.intermediate_size;
            let adds_nothing = width <= ZERO_MLP_LENGTH && is_zero(layer);
            let half = match (size.n_heads, adds_nothing) {
                _ if width == 0 => None,
                (0, true) => None,
                (0, false) => Some(Half::Attention),
                (_, true) => Some(Half::Mlp),
                (_, false) => return None,
            };
            Some(Part { layer, half })
        };
        Ok(sizes.iter().enumerate().filter_map(part).collect())
    }
}

/// Models of which half layers can go, as their metadata call them.
fn able() -> Vec<&'static str> {
    let able = Arch::all().iter().filter(|arch| arch.half_layers.is_some());
    let names = able.flat_map(|arch| {
        let types = arch.model_types.keys().map(String::as_str);
        let none = (!arch.in_hugging_face()).then_some(arch.name.as_str());
        types.chain(none)
    });
    names.collect()
}
