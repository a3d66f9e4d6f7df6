//! What each architecture is, as data: one description file each, plus the layer-pattern rules.
//!
//! An architecture is added by adding one JSON file to [`DESCRIPTIONS`]. The same file names the
//! tensors of both formats, says how rows are ordered, where every hyper-parameter comes from,
//! what the decoder must do, and which layers may go.

mod keep;
mod params;
mod rope;
mod tensors;

pub use keep::{KeepSet, parse_ranges, ranges};
pub use params::{Param, ParamType, Params};
pub use rope::RopeScaling;
pub use tensors::{RowOrder, Slot, TensorRule};

use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The description files, one an architecture.
const DESCRIPTIONS: &[&str] = &[include_str!("llama.json")];

static ARCHITECTURES: LazyLock<Vec<Arch>> = LazyLock::new(|| {
    DESCRIPTIONS
        .iter()
        .map(|text| serde_json::from_str(text).expect("an embedded description file is valid"))
        .collect()
});

/// Which layers of an architecture may be removed without changing what the others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Every layer is like every other: any may go.
    Free,
}

/// What the decoder must do where architectures differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// The function between the gate and up projections.
    pub activation: Activation,
    /// How rotary embedding pairs the dimensions of a head, in Hugging Face row order.
    pub rope: RopePairing,
}

/// The gate's activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x · sigmoid(x), also called swish.
    Silu,
}

/// Which dimensions of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopePairing {
    /// Dimension i with dimension i + head_dim / 2.
    Half,
}

/// One architecture's description.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arch {
    /// `general.architecture` in GGUF, and the name shown to people.
    pub name: String,
    /// `model_type` of config.json → the class name in its `architectures`.
    pub model_types: BTreeMap<String, String>,
    /// Which layers may go.
    pub pattern: Pattern,
    /// What the decoder must do.
    pub decoder: Decoder,
    /// config.json fields that must have this value where they are present.
    requires: BTreeMap<String, Value>,
    /// Hyper-parameters, in the order in which GGUF files list them.
    pub params: Vec<Param>,
    /// Tensors outside the layers.
    tensors: Vec<TensorRule>,
    /// Tensors of every layer, named without their layer prefix.
    layer_tensors: Vec<TensorRule>,
    /// What stands before the layer number in Hugging Face names.
    pub hf_layer_prefix: String,
    /// Layer tensors of old checkpoints that carry nothing.
    ignored: Vec<String>,
    /// GGUF keys (without prefix) that may hold an array with one element a layer.
    layer_arrays: Vec<String>,
    /// Fields of config.json that hold an array with one element a layer.
    layer_fields: Vec<String>,
}

impl Arch {
    /// The architecture of an opened checkpoint.
    ///
    /// # Errors
    /// An architecture without a description, or config.json fields that the description does
    /// not cover: the message lists what is known.
    pub fn of(checkpoint: &Checkpoint) -> Result<&'static Arch> {
        let path = checkpoint.path().display();
        if let Some(metadata) = checkpoint.gguf() {
            let name = metadata
                .get("general.architecture")
                .with_context(|| format!("{path}: no general.architecture key"))?;
            let name = name.as_str().unwrap_or_default();
            return Self::find(|arch| arch.name == name).with_context(|| {
                format!("{path}: unknown architecture '{name}'; {}", Self::known())
            });
        }
        let config = &checkpoint.hf().context("a checkpoint has metadata")?.config;
        let model_type = config.get("model_type").and_then(Value::as_str);
        let model_type =
            model_type.with_context(|| format!("{path}: config.json has no model_type"))?;
        let arch = Self::find(|arch| arch.model_types.contains_key(model_type));
        let arch = arch.with_context(|| {
            format!(
                "{path}: unknown architecture '{model_type}'; {}",
                Self::known()
            )
        })?;
        arch.check_requirements(config)
            .with_context(|| format!("{path}: config.json"))?;
        Ok(arch)
    }

    fn find(matches: impl Fn(&Arch) -> bool) -> Option<&'static Arch> {
        ARCHITECTURES.iter().find(|arch| matches(arch))
    }

    /// One sentence with every known architecture.
    fn known() -> String {
        let names = ARCHITECTURES.iter().map(|arch| {
            let types: Vec<&str> = arch.model_types.keys().map(String::as_str).collect();
            format!("{} (model_type {})", arch.name, types.join(", "))
        });
        format!("slim knows {}", names.collect::<Vec<_>>().join("; "))
    }

    fn check_requirements(&self, config: &Map<String, Value>) -> Result<()> {
        for (field, wanted) in &self.requires {
            match config.get(field) {
                None | Some(Value::Null) => {}
                Some(found) if found == wanted => {}
                Some(found) => bail!(
                    "{field} is {found}, but slim's {} decoder knows only {wanted}",
                    self.name
                ),
            }
        }
        Ok(())
    }

    /// How many layers a checkpoint has, without reading anything else.
    ///
    /// # Errors
    /// The count is missing or no count.
    pub fn n_layers(&self, checkpoint: &Checkpoint) -> Result<usize> {
        let count = match (checkpoint.gguf(), checkpoint.hf()) {
            (Some(metadata), _) => metadata.get_u64(&format!("{}.block_count", self.name)),
            (_, Some(files)) => files
                .config
                .get("num_hidden_layers")
                .and_then(Value::as_u64),
            _ => None,
        };
        let count = count.and_then(|count| usize::try_from(count).ok());
        count
            .filter(|&count| (1..100_000).contains(&count))
            .with_context(|| {
                format!(
                    "{}: the number of layers is missing or no sensible number",
                    checkpoint.path().display()
                )
            })
    }

    /// Whether a GGUF file gives its layers different shapes.
    pub fn has_layer_arrays(&self, checkpoint: &Checkpoint) -> bool {
        checkpoint.gguf().is_some_and(|metadata| {
            let keys = self.layer_arrays.iter();
            keys.filter_map(|key| metadata.get(&format!("{}.{key}", self.name)))
                .any(|value| value.array().is_some())
        })
    }

    /// Whether a GGUF array (key without prefix) is known to have one element a layer.
    pub fn slices_array(&self, key: &str) -> bool {
        self.layer_arrays.iter().any(|known| known == key)
    }

    /// Checks the arrays of a config.json before layers go: one of unknown meaning with one
    /// element a layer would shift.
    ///
    /// # Errors
    /// Such an array, at any depth; or a known one of the wrong length.
    pub fn check_layer_fields(&self, config: &Map<String, Value>, n_layers: usize) -> Result<()> {
        for (field, value) in config {
            match value {
                Value::Object(nested) => nested
                    .iter()
                    .try_for_each(|(name, value)| not_per_layer(name, value, n_layers))?,
                Value::Array(elements) if self.slices_field(field) => ensure!(
                    elements.len() == n_layers,
                    "config.json: {field} has {} elements, but the model has {n_layers} layers",
                    elements.len()
                ),
                value => not_per_layer(field, value, n_layers)?,
            }
        }
        Ok(())
    }

    /// Whether an array in config.json is known to have one element a layer.
    pub fn slices_field(&self, field: &str) -> bool {
        self.layer_fields.iter().any(|known| known == field)
    }

    /// The hyper-parameters of a checkpoint of this architecture.
    ///
    /// # Errors
    /// A required field that is missing or of the wrong type.
    pub fn params(&self, checkpoint: &Checkpoint) -> Result<Params> {
        let params = match (checkpoint.gguf(), checkpoint.hf()) {
            (Some(metadata), _) => Params::from_gguf(self, metadata),
            (None, Some(files)) => Params::from_hf(self, &files.config),
            (None, None) => bail!("no metadata"),
        };
        params.with_context(|| checkpoint.path().display().to_string())
    }
}

/// Fields of config.json whose arrays have nothing to do with layers, whatever their length.
const NEVER_PER_LAYER: &[&str] = &["architectures", "eos_token_id"];

fn not_per_layer(field: &str, value: &Value, n_layers: usize) -> Result<()> {
    match value {
        Value::Object(nested) => nested
            .iter()
            .try_for_each(|(name, value)| not_per_layer(name, value, n_layers)),
        Value::Array(elements) if !NEVER_PER_LAYER.contains(&field) => {
            ensure!(
                elements.len() != n_layers || n_layers == 1,
                "config.json: {field} is an array with one element a layer, and slim does not know what it means: pruning would shift it"
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_description_file_parses_and_names_itself_once() {
        let mut names: Vec<&str> = ARCHITECTURES.iter().map(|a| a.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DESCRIPTIONS.len());
    }

    #[test]
    fn a_config_field_outside_the_description_is_refused() {
        let arch = Arch::find(|arch| arch.name == "llama").unwrap();
        let config = serde_json::json!({"hidden_act": "gelu"});
        let error = arch
            .check_requirements(config.as_object().unwrap())
            .unwrap_err();
        assert!(error.to_string().contains("hidden_act"), "{error}");
    }
}
