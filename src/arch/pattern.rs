//! Layers that are not all alike: which may go without changing what the others do.
//!
//! Runtimes work out what kind of layer stands at an index from the index itself: every 6th layer
//! attends to the whole text, every 4th does not rotate. A layer that moves to an index of another
//! kind runs wrongly, and no loader notices. A description says such rules as data; [`Layers`] is
//! what they mean for one checkpoint.

use super::layers::Layers;
use super::params::hf_field;
use super::{Arch, KeepSet};
use crate::checkpoint::Checkpoint;
use anyhow::{Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// The pattern of an architecture's layers. Empty: any layer may go.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pattern {
    /// Kinds that a runtime computes from a layer's index.
    pub cycles: Vec<Cycle>,
    /// Numbers of layers at an end that are of another kind.
    pub counts: Vec<Count>,
    /// Numbers of layers that switch the meaning of the weights.
    pub switches: Vec<Switch>,
    /// Layers that must stay.
    pub protect: Vec<Protect>,
    /// GGUF keys (without prefix) that list layer indices.
    pub index_lists: Vec<String>,
    /// Why no layer of this architecture may go.
    pub refuse: Option<String>,
}

/// Every so-many-th layer is special.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cycle {
    /// What the special layers do, after "every 6th layer does".
    pub special: String,
    /// What the decoder must know of it.
    #[serde(default)]
    pub role: Option<Role>,
    /// The period that runtimes have built in. 0: no layer is special.
    pub period: usize,
    /// Which layer of a period is special.
    pub at: Place,
    /// The GGUF key (without prefix) of another period.
    #[serde(default)]
    pub key: Option<String>,
    /// The GGUF key (without prefix) that must be there for the cycle to hold.
    #[serde(default)]
    pub only_with: Option<String>,
    /// The GGUF key (without prefix) under which newer runtimes read one flag a layer.
    #[serde(default)]
    pub array: Option<String>,
    /// Which layers are true in that array.
    #[serde(default)]
    pub array_marks: Marks,
    /// The field of config.json with the period.
    #[serde(default)]
    pub hf_period: Option<String>,
    /// The field of config.json with one element a layer.
    #[serde(default)]
    pub hf_array: Option<String>,
    /// The element of a special layer in it.
    #[serde(default)]
    pub hf_special: Option<Value>,
    /// The element of any other layer.
    #[serde(default)]
    pub hf_other: Option<Value>,
}

/// What a cycle means to the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Special layers attend to the whole text, the others to a sliding window.
    FullAttention,
    /// Special layers do not rotate queries and keys.
    NoRope,
}

/// The special layer of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Index i with i % period = 0.
    First,
    /// Index i with (i + 1) % period = 0.
    Last,
}

/// The layers that an array of flags is true for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Marks {
    /// The special ones.
    #[default]
    Special,
    /// All but the special ones.
    Others,
}

/// How many layers at one end are of another kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// The GGUF key, without prefix.
    #[serde(default)]
    pub key: Option<String>,
    /// The field of config.json.
    #[serde(default)]
    pub hf: Option<String>,
    /// The end.
    pub end: End,
}

/// One end of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// From layer 0 on.
    First,
    /// Up to the last layer.
    Last,
}

/// Numbers of layers with a meaning of their own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// The numbers.
    pub layers: Vec<usize>,
    /// What they change.
    pub reason: String,
}

/// Layers that must stay.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protect {
    /// Their indices.
    pub layers: Vec<usize>,
    /// Why.
    pub reason: String,
}

impl Pattern {
    /// Whether a GGUF key (without prefix) is part of the pattern.
    pub(super) fn names(&self, suffix: &str) -> bool {
        let is = |key: &Option<String>| key.as_deref() == Some(suffix);
        self.cycles
            .iter()
            .any(|cycle| is(&cycle.key) || is(&cycle.array))
            || self.counts.iter().any(|count| is(&count.key))
            || self.index_lists.iter().any(|key| key == suffix)
    }
}

impl Count {
    /// The count after pruning. A count of all layers or more says nothing and stays.
    pub fn after(&self, count: usize, keep: &KeepSet, n_layers: usize) -> usize {
        let counted = |layer: &&usize| match self.end {
            End::First => **layer < count,
            End::Last => **layer >= n_layers.saturating_sub(count),
        };
        match count > n_layers {
            true => count,
            false => keep.layers().iter().filter(counted).count(),
        }
    }
}

impl Cycle {
    /// Whether a runtime takes the layer at an index for special.
    pub fn is_special(&self, index: usize, period: usize) -> bool {
        match (self.at, period) {
            (_, 0) => false,
            (Place::First, period) => index.is_multiple_of(period),
            (Place::Last, period) => (index + 1).is_multiple_of(period),
        }
    }

    /// The period of one checkpoint, `None` where the cycle does not hold.
    pub(super) fn period_of(&self, arch: &Arch, checkpoint: &Checkpoint) -> Result<Option<usize>> {
        let stated = match (checkpoint.gguf(), checkpoint.hf()) {
            (Some(metadata), _) => {
                let get = |key: &String| metadata.get(&arch.key(key));
                if self
                    .only_with
                    .as_ref()
                    .is_some_and(|key| get(key).is_none())
                {
                    return Ok(None);
                }
                let scalar = self.key.as_ref().and_then(get);
                scalar
                    .filter(|value| value.array().is_none())
                    .map(|value| value.as_u64().filter(|period| *period < 1 << 20))
            }
            (_, Some(files)) => {
                // The converter writes the key that the cycle depends on only for other models.
                if self.only_with.is_some() {
                    return Ok(None);
                }
                let field = self.hf_period.as_ref();
                let field = field.and_then(|field| hf_field(&files.config, field));
                field.map(|value| value.as_u64().filter(|period| *period < 1 << 20))
            }
            _ => None,
        };
        match stated {
            None => Ok(Some(self.period)),
            Some(Some(period)) => Ok(Some(period as usize)),
            Some(None) => bail!(
                "{}: the period of layers that {} is no sensible number",
                checkpoint.path().display(),
                self.special
            ),
        }
    }

    /// One flag a layer as the checkpoint itself lists them, `None` where it does not.
    pub(super) fn listed(
        &self,
        arch: &Arch,
        checkpoint: &Checkpoint,
        n_layers: usize,
    ) -> Result<Option<Vec<bool>>> {
        let (name, flags): (&str, Vec<bool>) = match (checkpoint.gguf(), checkpoint.hf()) {
            (Some(metadata), _) => {
                let Some(key) = &self.array else {
                    return Ok(None);
                };
                let value = metadata.get(&arch.key(key));
                let Some(value) = value.filter(|value| value.array().is_some()) else {
                    return Ok(None);
                };
                let flag = |element: crate::checkpoint::gguf::Value| {
                    element.as_bool().or(element.as_i64().map(|n| n != 0))
                };
                let flags: Option<Vec<bool>> = value
                    .elements()
                    .and_then(|elements| elements.map(flag).collect());
                let Some(flags) = flags else {
                    bail!(
                        "{}: {key} is no array of flags",
                        checkpoint.path().display()
                    )
                };
                let special = self.array_marks == Marks::Special;
                (key, flags.into_iter().map(|flag| flag == special).collect())
            }
            (_, Some(files)) => {
                let (Some(field), Some(special)) = (&self.hf_array, &self.hf_special) else {
                    return Ok(None);
                };
                let Some(Value::Array(elements)) = files.config.get(field) else {
                    return Ok(None);
                };
                (field, elements.iter().map(|e| same(e, special)).collect())
            }
            _ => return Ok(None),
        };
        ensure!(
            flags.len() == n_layers,
            "{}: {name} has {} elements, but the model has {n_layers} layers",
            checkpoint.path().display(),
            flags.len()
        );
        Ok(Some(flags))
    }
}

/// Equal values, numbers by what they are worth.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

impl Arch {
    /// The pattern of one checkpoint's layers.
    ///
    /// # Errors
    /// A period or an array that cannot be; an architecture of which no layer may go.
    pub fn layers(&self, checkpoint: &Checkpoint) -> Result<Layers<'_>> {
        Layers::of(self, checkpoint)
    }
}
