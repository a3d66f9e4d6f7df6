//! What each architecture is, as data: one description file each, plus the layer-pattern rules.
//!
//! An architecture is added by adding one JSON file to [`DESCRIPTIONS`]. The same file names the
//! tensors of both formats, says how rows are ordered, where every hyper-parameter comes from,
//! what the decoder must do, and which layers may go.

mod attention_scale;
mod half;
mod half_layers;
mod keep;
mod layer_keys;
mod layers;
mod params;
mod pattern;
mod ranges;
mod rope;
mod sizes;
mod tensors;

pub use half::{Half, Part};
pub use half_layers::ZERO_MLP_LENGTH;
pub use keep::KeepSet;
pub use layers::Layers;
pub use params::{Param, ParamType, Params};
pub use pattern::{Pattern, Role};
pub use ranges::{parse_parts, parse_ranges, ranges};
pub use rope::RopeScaling;
pub(crate) use rope::shortest;
pub use sizes::LayerSize;
pub use tensors::{RowOrder, Slot, TensorRule};

use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result, bail};
use pattern::same;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The description files, one an architecture that slim converts and runs.
const DESCRIPTIONS: &[&str] = &[
    include_str!("llama.json"),
    include_str!("mixtral.json"),
    include_str!("qwen2.json"),
    include_str!("qwen2moe.json"),
    include_str!("qwen3.json"),
    include_str!("qwen3moe.json"),
    include_str!("gemma2.json"),
    include_str!("gemma3.json"),
    include_str!("phi3.json"),
    include_str!("olmo2.json"),
    include_str!("granite.json"),
    include_str!("smollm3.json"),
    include_str!("deci.json"),
];

/// Architectures of which slim knows only what a GGUF file needs to lose layers, a line each.
const GGUF_ONLY: &str = include_str!("gguf_only.json");

static ARCHITECTURES: LazyLock<Vec<Arch>> = LazyLock::new(|| {
    let described = DESCRIPTIONS
        .iter()
        .map(|text| serde_json::from_str(text).expect("an embedded description file is valid"));
    let pruned: Vec<Arch> =
        serde_json::from_str(GGUF_ONLY).expect("the embedded table of architectures is valid");
    described.chain(pruned).collect()
});

/// What the decoder must do where architectures differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// The function between the gate and up projections.
    pub activation: Activation,
    /// What token embeddings are multiplied with, where no hyper-parameter says so.
    #[serde(default)]
    pub embedding_scale: Option<EmbeddingScale>,
    /// How the chosen experts are weighted.
    #[serde(default)]
    pub expert_weights: ExpertWeights,
}

/// The gate's activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · sigmoid(x), also called swish.
    Silu,
    /// x · Φ(x) by tanh: 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    GeluTanh,
}

/// A multiplier of token embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingScale {
    /// √hidden_size.
    SqrtHiddenSize,
}

/// The weights of the experts that a router chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpertWeights {
    /// Their probabilities among all experts.
    #[default]
    AsTheyAre,
    /// The same, divided by their sum.
    Normalised,
}

/// What queries are multiplied with, where runtimes tell it from the number of layers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionScale {
    /// The field of config.json whose −½th power it is.
    pub hf: String,
    /// Its value where config.json has none.
    pub default: f64,
    /// The number of layers for which GGUF runtimes use hidden_size / n_heads instead of
    /// head_dim.
    pub wide_layers: usize,
    /// The tensor that takes the difference up where a GGUF runtime would use another scale.
    pub fold_into: String,
}

/// GGUF keys (without prefix) that may stand in any file, and are read elsewhere or say nothing
/// about what the model computes.
const GENERAL_KEYS: &[&str] = &[
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "tensor_data_layout",
    "vocab_size",
];

/// One architecture's description.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arch {
    /// The name shown to people.
    pub name: String,
    /// `general.architecture` in GGUF, where it is another.
    #[serde(default)]
    gguf: Option<String>,
    /// The GGUF key (without prefix) that tells a file from others of the same `gguf` name.
    #[serde(default)]
    marked_by: Option<String>,
    /// `model_type` of config.json → the class name in its `architectures`.
    #[serde(default)]
    pub model_types: BTreeMap<String, String>,
    /// Which layers may go.
    #[serde(default)]
    pub pattern: Pattern,
    /// The architecture as which a GGUF file is written whose layers may lack a half; absent where
    /// there is none that computes the same.
    #[serde(default)]
    pub half_layers: Option<String>,
    /// What the decoder must do; absent where slim can only prune GGUF files.
    #[serde(default)]
    decoder: Option<Decoder>,
    /// config.json fields that must have this value where they are present.
    #[serde(default)]
    pub requires: BTreeMap<String, Value>,
    /// Those of them that must be present, because the model class has another default.
    #[serde(default)]
    explicit: Vec<String>,
    /// Hyper-parameters, in the order in which GGUF files list them.
    #[serde(default)]
    pub params: Vec<Param>,
    /// Tensors outside the layers.
    #[serde(default)]
    tensors: Vec<TensorRule>,
    /// Tensors of every layer, named without their layer prefix.
    #[serde(default)]
    layer_tensors: Vec<TensorRule>,
    /// What stands before the layer number in Hugging Face names.
    #[serde(default)]
    pub hf_layer_prefix: String,
    /// Tensors of old checkpoints that carry nothing, layer tensors without their prefix.
    #[serde(default)]
    ignored: Vec<String>,
    /// Where the scale of queries is not head_dim to the −½.
    #[serde(default)]
    pub attention_scale: Option<AttentionScale>,
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
            let marked = |arch: &Arch| {
                let mark = arch.marked_by.as_ref()?;
                metadata.get_u64(&arch.key(mark)).filter(|&count| count > 0)
            };
            let of_name = |arch: &Arch| arch.gguf_name() == name;
            return Self::find(|arch| of_name(arch) && marked(arch).is_some())
                .or_else(|| Self::find(|arch| of_name(arch) && arch.marked_by.is_none()))
                .with_context(|| {
                    format!(
                        "{path}: unknown architecture '{name}'; {}",
                        Self::known_gguf()
                    )
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

    /// All architectures, those with a decoder first.
    pub fn all() -> &'static [Arch] {
        &ARCHITECTURES
    }

    /// One sentence with every architecture that is known in config.json.
    fn known() -> String {
        let described = ARCHITECTURES.iter().filter(|arch| arch.in_hugging_face());
        let names = described.map(|arch| {
            let types: Vec<&str> = arch.model_types.keys().map(String::as_str).collect();
            format!("{} (model_type {})", arch.name, types.join(", "))
        });
        format!("slim knows {}", names.collect::<Vec<_>>().join("; "))
    }

    /// One sentence with every architecture that is known in GGUF.
    fn known_gguf() -> String {
        let names: Vec<&str> = ARCHITECTURES.iter().map(Arch::gguf_name).collect();
        format!("slim knows {}", names.join(", "))
    }

    /// `general.architecture` in GGUF.
    pub fn gguf_name(&self) -> &str {
        self.gguf.as_deref().unwrap_or(&self.name)
    }

    /// A GGUF key of this architecture, by its part after the prefix.
    pub fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.gguf_name())
    }

    /// What the decoder must do.
    ///
    /// # Errors
    /// An architecture that slim prunes in GGUF files, but cannot run or convert.
    pub fn decoder(&self) -> Result<Decoder> {
        self.decoder.with_context(|| {
            format!(
                "slim can drop the layers of a {} GGUF file that you name (--drop-layers), but has no decoder to score or convert it: {}",
                self.name,
                Self::known()
            )
        })
    }

    /// Whether there are such models in Hugging Face's format.
    pub fn in_hugging_face(&self) -> bool {
        !self.model_types.is_empty()
    }

    /// Whether slim knows every tensor and can run the model.
    pub fn is_described(&self) -> bool {
        self.decoder.is_some()
    }

    fn check_requirements(&self, config: &Map<String, Value>) -> Result<()> {
        for (field, wanted) in &self.requires {
            match params::hf_field(config, field) {
                None if self.explicit.contains(field) => bail!(
                    "{field} is missing, and slim's {} decoder knows only {wanted}",
                    self.name
                ),
                None => {}
                Some(found) if same(found, wanted) => {}
                Some(found) => bail!(
                    "{field} is {found}, but slim's {} decoder knows only {wanted}",
                    self.name
                ),
            }
        }
        Ok(())
    }

    /// Checks that a GGUF file says nothing about its model that slim does not know.
    ///
    /// # Errors
    /// A key of the architecture that the description does not name.
    pub fn check_keys(&self, checkpoint: &Checkpoint) -> Result<()> {
        let Some(metadata) = checkpoint.gguf() else {
            return Ok(());
        };
        let prefix = self.key("");
        for (key, value) in metadata.iter() {
            let Some(suffix) = key.strip_prefix(&prefix) else {
                continue;
            };
            let nothing = value.as_f64() == Some(0.0) || value.as_bool() == Some(false);
            let known = self.params.iter().any(|param| param.key == suffix)
                || self.pattern.names(suffix)
                || GENERAL_KEYS.contains(&suffix);
            if !(known || nothing) {
                bail!(
                    "{}: {key} is not part of the {} architecture as slim knows it: a model that runs without it would be another one",
                    checkpoint.path().display(),
                    self.name
                );
            }
        }
        Ok(())
    }

    /// Checks that config.json has words for what a GGUF file says.
    ///
    /// # Errors
    /// A key without a field.
    pub fn check_words(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.check_keys(checkpoint)?;
        let wordless = |param: &&Param| {
            let metadata = checkpoint.gguf();
            let stated = metadata.is_some_and(|m| m.get(&self.key(&param.key)).is_some());
            // How much of a head rotates is told by partial_rotary_factor.
            param.hf.is_none() && stated && param.key != "rope.dimension_count"
        };
        match self.params.iter().find(wordless) {
            None => Ok(()),
            Some(param) => bail!(
                "{}: config.json of a {} model has no word for {}: write a .gguf instead",
                checkpoint.path().display(),
                self.name,
                self.key(&param.key)
            ),
        }
    }

    /// What config.json says that GGUF has no word for and that changes the model, a sentence each.
    ///
    /// # Errors
    /// As of [`Self::params`].
    pub fn lost_in_gguf(&self, checkpoint: &Checkpoint) -> Result<Vec<String>> {
        if checkpoint.gguf().is_some() {
            return Ok(Vec::new());
        }
        let params = self.params(checkpoint)?;
        let lost = self.params.iter().filter_map(|param| {
            let (reason, value) = (param.lost.as_ref()?, params.get(&param.key)?);
            Some(format!("{reason} ({} {value})", param.name()))
        });
        Ok(lost.collect())
    }

    /// How many layers a checkpoint has, without reading anything else.
    ///
    /// # Errors
    /// The count is missing or no count.
    pub fn n_layers(&self, checkpoint: &Checkpoint) -> Result<usize> {
        let count = match (checkpoint.gguf(), checkpoint.hf()) {
            (Some(metadata), _) => metadata.get_u64(&self.key("block_count")),
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

    /// Whether a GGUF file gives its layers different shapes of which the description says nothing.
    pub fn has_unread_shapes(&self, checkpoint: &Checkpoint) -> bool {
        let is_read = |key: &str| {
            let mut params = self.params.iter();
            params.any(|param| param.key == key && param.per_layer)
        };
        checkpoint.gguf().is_some_and(|metadata| {
            let unread = layer_keys::SHAPES.iter().filter(|key| !is_read(key));
            unread
                .filter_map(|key| metadata.get(&self.key(key)))
                .any(|value| value.array().is_some())
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_description_file_parses_and_names_itself_once() {
        let mut names: Vec<&str> = ARCHITECTURES.iter().map(|a| a.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ARCHITECTURES.len());
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
