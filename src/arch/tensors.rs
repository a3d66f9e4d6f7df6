//! Tensor names in both formats, and the row orders between them.

use super::Arch;
use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::HashSet;

/// One tensor of a description.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorRule {
    /// The GGUF name, without `blk.N.` for layer tensors.
    pub gguf: String,
    /// The Hugging Face name, without the layer prefix; absent where the tensor is derived.
    #[serde(default)]
    pub hf: Option<String>,
    /// How GGUF orders the rows.
    #[serde(default)]
    pub rows: RowOrder,
    /// Whether a checkpoint may lack it.
    #[serde(default)]
    pub optional: bool,
}

/// How the rows of a GGUF tensor stand to those of the Hugging Face tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOrder {
    /// The same.
    #[default]
    Same,
    /// Query heads: the two halves of each head interleaved.
    RopeQ,
    /// Key heads, likewise.
    RopeK,
}

impl RowOrder {
    /// The GGUF row that holds a Hugging Face row: halves of a head interleaved.
    pub fn gguf_row(self, hf_row: usize, head_dim: usize) -> usize {
        match self {
            Self::Same => hf_row,
            Self::RopeQ | Self::RopeK => {
                let (head, within) = (hf_row / head_dim, hf_row % head_dim);
                let half = head_dim / 2;
                head * head_dim + 2 * (within % half) + within / half
            }
        }
    }

    /// The Hugging Face row that a GGUF row holds.
    pub fn hf_row(self, gguf_row: usize, head_dim: usize) -> usize {
        match self {
            Self::Same => gguf_row,
            Self::RopeQ | Self::RopeK => {
                let (head, within) = (gguf_row / head_dim, gguf_row % head_dim);
                head * head_dim + (within % 2) * (head_dim / 2) + within / 2
            }
        }
    }
}

/// Where a tensor belongs.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// The rule that names it.
    pub rule: &'a TensorRule,
    /// Its layer, `None` outside the layers.
    pub layer: Option<usize>,
}

impl Slot<'_> {
    /// The GGUF name.
    pub fn gguf_name(&self) -> String {
        match self.layer {
            Some(layer) => format!("blk.{layer}.{}", self.rule.gguf),
            None => self.rule.gguf.clone(),
        }
    }

    /// The Hugging Face name; `None` for a derived tensor.
    pub fn hf_name(&self, arch: &Arch) -> Option<String> {
        let name = self.rule.hf.as_ref()?;
        Some(match self.layer {
            Some(layer) => format!("{}{layer}.{name}", arch.hf_layer_prefix),
            None => name.clone(),
        })
    }
}

impl Arch {
    /// Finds the place of a tensor by its name in either format.
    pub fn slot(&self, name: &str) -> Option<Slot<'_>> {
        if let Some((layer, rest)) = split_layer(name, "blk.") {
            return self.layer_slot(layer, |rule| rule.gguf == rest);
        }
        if let Some((layer, rest)) = split_layer(name, &self.hf_layer_prefix) {
            return self.layer_slot(layer, |rule| rule.hf.as_deref() == Some(rest));
        }
        let rule = self
            .tensors
            .iter()
            .find(|rule| rule.gguf == name || rule.hf.as_deref() == Some(name))?;
        Some(Slot { rule, layer: None })
    }

    fn layer_slot(&self, layer: usize, matches: impl Fn(&TensorRule) -> bool) -> Option<Slot<'_>> {
        let rule = self.layer_tensors.iter().find(|rule| matches(rule))?;
        Some(Slot {
            rule,
            layer: Some(layer),
        })
    }

    /// Whether a Hugging Face tensor carries nothing and may be left out.
    pub fn ignores(&self, name: &str) -> bool {
        split_layer(name, &self.hf_layer_prefix)
            .is_some_and(|(_, rest)| self.ignored.iter().any(|ignored| ignored == rest))
    }

    /// Checks that a checkpoint has all that its layer count promises and nothing beyond: every
    /// tensor known, no layer missing one, no layer left over.
    ///
    /// # Errors
    /// The first tensor that is unknown, missing or left over, in the checkpoint's own names.
    pub fn check_complete(&self, checkpoint: &Checkpoint) -> Result<()> {
        let path = checkpoint.path().display();
        let n_layers = self.n_layers(checkpoint)?;
        let mut found = HashSet::new();
        for tensor in checkpoint.tensors() {
            if self.ignores(&tensor.name) {
                continue;
            }
            let slot = self.slot(&tensor.name).with_context(|| {
                format!(
                    "{path}: tensor '{}' is not part of the {} architecture as slim knows it",
                    tensor.name, self.name
                )
            })?;
            if let Some(layer) = slot.layer.filter(|&layer| layer >= n_layers) {
                bail!(
                    "{path}: tensor {} is of layer {layer}, but the metadata say {n_layers} layers",
                    tensor.name
                );
            }
            found.insert(slot.gguf_name());
        }
        let gguf = checkpoint.gguf().is_some();
        let promised = self.slots(n_layers).into_iter();
        for slot in promised.filter(|slot| !slot.rule.optional) {
            let name = slot.gguf_name();
            ensure!(
                found.contains(&name),
                "{path}: tensor {} is missing, and the metadata say {n_layers} layers",
                if gguf {
                    name
                } else {
                    slot.hf_name(self).unwrap_or(name)
                }
            );
        }
        Ok(())
    }

    /// Every place that a model of `n_layers` may fill, globals first.
    pub fn slots(&self, n_layers: usize) -> Vec<Slot<'_>> {
        let globals = self.tensors.iter().map(|rule| Slot { rule, layer: None });
        let layers = (0..n_layers).flat_map(|layer| {
            self.layer_tensors.iter().map(move |rule| Slot {
                rule,
                layer: Some(layer),
            })
        });
        globals.chain(layers).collect()
    }
}

/// `prefix` + number + `.` + rest. Numbers with leading zeros are no layer names.
fn split_layer<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    let layer: usize = number.parse().ok()?;
    (layer.to_string() == number).then_some((layer, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_orders_undo_each_other() {
        for row in 0..48 {
            let there = RowOrder::RopeQ.gguf_row(row, 16);
            assert_eq!(RowOrder::RopeQ.hf_row(there, 16), row);
        }
        assert_eq!(RowOrder::RopeK.gguf_row(8, 16), 1);
    }

    #[test]
    fn only_plain_layer_numbers_name_a_layer() {
        assert_eq!(
            split_layer("blk.12.attn_q.weight", "blk."),
            Some((12, "attn_q.weight"))
        );
        for name in [
            "blk.01.a",
            "blk..a",
            "blk.-1.a",
            "blk.99999999999999999999.a",
        ] {
            assert_eq!(split_layer(name, "blk."), None, "{name}");
        }
    }
}
