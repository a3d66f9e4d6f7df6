//! Tensor names in both formats, and the row orders between them.

use super::Arch;
use super::half::Half;
use super::sizes::LayerSize;
use crate::checkpoint::{Checkpoint, TensorInfo};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::HashMap;

/// One tensor of a description.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorRule {
    /// The GGUF name, without `blk.N.` for layer tensors.
    pub gguf: String,
    /// The Hugging Face name, without the layer prefix; absent where the tensor is derived.
    /// `{expert}` stands for the number of an expert: GGUF stacks these tensors into one.
    #[serde(default)]
    pub hf: Option<String>,
    /// How GGUF orders the rows.
    #[serde(default)]
    pub rows: RowOrder,
    /// Whether a checkpoint may lack it.
    #[serde(default)]
    pub optional: bool,
    /// Whether Hugging Face's model adds 1 to the weights, which GGUF stores added.
    #[serde(default)]
    pub plus_one: bool,
}

/// What stands before the layer number in GGUF names.
const GGUF_LAYER: &str = "blk.";

/// Where the number of an expert stands in a Hugging Face name.
const EXPERT: &str = "{expert}";

impl TensorRule {
    /// Whether every expert has such a tensor.
    pub fn is_stacked(&self) -> bool {
        self.hf.as_ref().is_some_and(|name| name.contains(EXPERT))
    }

    /// The half of a layer that it is part of; `None` outside the layers.
    pub fn half(&self) -> Option<Half> {
        const HALVES: &[(&str, Half)] = &[("attn_", Half::Attention), ("ffn_", Half::Mlp)];
        let of_name = HALVES
            .iter()
            .find(|(start, _)| self.gguf.starts_with(start));
        of_name.map(|(_, half)| *half)
    }

    /// Matches a Hugging Face name (without layer prefix): the expert, where the rule has experts.
    fn matches(&self, name: &str) -> Option<Option<usize>> {
        let rule = self.hf.as_deref()?;
        let Some((before, after)) = rule.split_once(EXPERT) else {
            return (rule == name).then_some(None);
        };
        let number = name.strip_prefix(before)?.strip_suffix(after)?;
        plain_number(number).map(Some)
    }
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
    /// The expert that it is of, where the format has a tensor an expert.
    pub expert: Option<usize>,
}

impl Slot<'_> {
    /// Whether a layer of its size has it; `sizes` where layers differ.
    fn is_due(&self, sizes: Option<&[LayerSize]>) -> bool {
        let size = self
            .layer
            .zip(sizes)
            .and_then(|(layer, sizes)| sizes.get(layer));
        size.is_none_or(|size| size.has(self.rule))
    }

    /// The GGUF name.
    pub fn gguf_name(&self) -> String {
        match self.layer {
            Some(layer) => format!("{GGUF_LAYER}{layer}.{}", self.rule.gguf),
            None => self.rule.gguf.clone(),
        }
    }

    /// The Hugging Face name; `None` for a derived tensor.
    pub fn hf_name(&self, arch: &Arch) -> Option<String> {
        let name = self.rule.hf.as_ref()?;
        let name = match self.expert {
            Some(expert) => &name.replace(EXPERT, &expert.to_string()),
            None => name,
        };
        Some(match self.layer {
            Some(layer) => format!("{}{layer}.{name}", arch.hf_layer_prefix),
            None => name.clone(),
        })
    }
}

impl Arch {
    /// Finds the place of a tensor by its name in either format.
    pub fn slot(&self, name: &str) -> Option<Slot<'_>> {
        if let Some((layer, rest)) = split_layer(name, GGUF_LAYER) {
            let rule = self.layer_tensors.iter().find(|rule| rule.gguf == rest)?;
            let (layer, expert) = (Some(layer), None);
            return Some(Slot {
                rule,
                layer,
                expert,
            });
        }
        let (layer, rules, rest) = match split_layer(name, &self.hf_layer_prefix) {
            Some((layer, rest)) => (Some(layer), &self.layer_tensors, rest),
            None => (None, &self.tensors, name),
        };
        rules.iter().find_map(|rule| {
            let same = (layer.is_none() && rule.gguf == rest).then_some(None);
            let expert = same.or_else(|| rule.matches(rest))?;
            Some(Slot {
                rule,
                layer,
                expert,
            })
        })
    }

    /// The rule of another architecture's tensor in this one.
    ///
    /// # Errors
    /// This architecture has no such tensor.
    pub fn rule_like(&self, other: &TensorRule) -> Result<&TensorRule> {
        let mut rules = self.layer_tensors.iter().chain(&self.tensors);
        rules
            .find(|rule| rule.gguf == other.gguf)
            .with_context(|| format!("the {} architecture has no {}", self.name, other.gguf))
    }

    /// The place of a checkpoint's tensor.
    ///
    /// # Errors
    /// A tensor that the description does not know.
    pub fn known_slot(&self, checkpoint: &Checkpoint, info: &TensorInfo) -> Result<Slot<'_>> {
        self.slot(&info.name).with_context(|| {
            format!(
                "{}: tensor '{}' is not part of the {} architecture as slim knows it",
                checkpoint.path().display(),
                info.name,
                self.name
            )
        })
    }

    /// Whether layers of this architecture have a tensor of this GGUF name (without layer).
    pub fn names_layer_tensor(&self, name: &str) -> bool {
        self.layer_tensors.iter().any(|rule| rule.gguf == name)
    }

    /// Whether a Hugging Face tensor carries nothing and may be left out.
    pub fn ignores(&self, name: &str) -> bool {
        let rest = split_layer(name, &self.hf_layer_prefix).map_or(name, |(_, rest)| rest);
        self.ignored.iter().any(|ignored| ignored == rest)
    }

    /// Checks that a checkpoint has all that its layer count promises and nothing beyond: every
    /// tensor known, no layer missing one, no layer left over.
    ///
    /// # Errors
    /// The first tensor that is unknown, missing or left over, in the checkpoint's own names.
    pub fn check_complete(&self, checkpoint: &Checkpoint) -> Result<()> {
        let path = checkpoint.path().display();
        let n_layers = self.n_layers(checkpoint)?;
        // How many tensors fill each place: one, or one an expert.
        let mut found: HashMap<String, u64> = HashMap::new();
        for tensor in checkpoint.tensors() {
            if self.ignores(&tensor.name) {
                continue;
            }
            let (place, layer) = self.place(checkpoint, tensor)?;
            if let Some(layer) = layer.filter(|&layer| layer >= n_layers) {
                bail!(
                    "{path}: tensor {} is of layer {layer}, but the metadata say {n_layers} layers",
                    tensor.name
                );
            }
            *found.entry(place).or_default() += 1;
        }
        if !self.is_described() {
            let empty = (0..n_layers).find(|layer| !found.contains_key(&format!("blk.{layer}")));
            return match empty {
                None => Ok(()),
                Some(layer) => bail!(
                    "{path}: layer {layer} has no tensors, and the metadata say {n_layers} layers"
                ),
            };
        }
        // Only Hugging Face has a tensor an expert.
        let experts = match checkpoint.hf() {
            Some(_) => self.params(checkpoint)?.get("expert_count"),
            None => None,
        };
        let sizes = self.differing_sizes(checkpoint)?;
        for slot in self.slots(n_layers) {
            let there = found.get(&slot.gguf_name()).copied().unwrap_or_default();
            let name = match checkpoint.gguf() {
                Some(_) => slot.gguf_name(),
                None => slot.hf_name(self).unwrap_or_else(|| slot.gguf_name()),
            };
            if !slot.is_due(sizes.as_deref()) {
                // Runtimes read what is optional, whether or not they use it.
                ensure!(
                    there == 0 || slot.rule.optional,
                    "{path}: tensor {name} is left over: the metadata give its layer no such part"
                );
                continue;
            }
            let wanted = match slot.rule.is_stacked() {
                true => experts.unwrap_or(1.0) as u64,
                false => 1,
            };
            let absent = there == 0 && slot.rule.optional;
            ensure!(
                there > 0 || absent,
                "{path}: tensor {name} is missing, and the metadata say {n_layers} layers"
            );
            ensure!(
                there == wanted || absent,
                "{path}: there are {there} tensors {name}, but the metadata say {wanted} experts"
            );
        }
        Ok(())
    }

    /// What a tensor fills and its layer: of architectures without a description, only the layer
    /// is known.
    fn place(&self, checkpoint: &Checkpoint, info: &TensorInfo) -> Result<(String, Option<usize>)> {
        if self.is_described() {
            let slot = self.known_slot(checkpoint, info)?;
            return Ok((slot.gguf_name(), slot.layer));
        }
        let name = &info.name;
        match split_layer(name, GGUF_LAYER) {
            Some((layer, _)) => Ok((format!("{GGUF_LAYER}{layer}"), Some(layer))),
            None if name.contains(GGUF_LAYER) => bail!(
                "{}: tensor '{name}' belongs to layers of another kind than blk.N, which slim does not know",
                checkpoint.path().display()
            ),
            None => Ok((name.clone(), None)),
        }
    }

    /// The layer of a tensor in either format, and its name in another layer's place.
    pub fn renumbered(
        &self,
        name: &str,
        new_index: impl Fn(usize) -> Option<usize>,
    ) -> Option<String> {
        for prefix in [GGUF_LAYER, &self.hf_layer_prefix] {
            if let Some((layer, rest)) = split_layer(name, prefix).filter(|_| !prefix.is_empty()) {
                return new_index(layer).map(|new| format!("{prefix}{new}.{rest}"));
            }
        }
        Some(name.to_owned())
    }

    /// Every place that a model of `n_layers` may fill, globals first.
    /// Not a list: the number may be a file's mere claim.
    pub fn slots(&self, n_layers: usize) -> impl Iterator<Item = Slot<'_>> {
        let slot = |rule, layer| Slot {
            rule,
            layer,
            expert: None,
        };
        let globals = self.tensors.iter().map(move |rule| slot(rule, None));
        let layers = (0..n_layers).flat_map(move |layer| {
            let rules = self.layer_tensors.iter();
            rules.map(move |rule| slot(rule, Some(layer)))
        });
        globals.chain(layers)
    }
}

/// `prefix` + number + `.` + rest. Numbers with leading zeros are no layer names.
fn split_layer<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    Some((plain_number(number)?, rest))
}

/// A number without leading zeros or signs.
fn plain_number(text: &str) -> Option<usize> {
    let number: usize = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
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
