//! Hyper-parameters: one table an architecture, read from and written to both formats.

use super::Arch;
use crate::checkpoint::gguf;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One row of a description's `params`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// The GGUF key without its `{arch}.` prefix; also the name slim uses.
    pub key: String,
    /// The type that GGUF stores.
    #[serde(rename = "type")]
    pub ty: ParamType,
    /// The field of config.json; absent where the value follows from others.
    #[serde(default)]
    pub hf: Option<String>,
    /// Where newer config.json files keep it, as a path with dots.
    #[serde(default)]
    pub also: Option<String>,
    /// The value of the model class where config.json has none.
    #[serde(default)]
    pub default: Option<f64>,
    /// The value that runtimes take where a GGUF file has none.
    #[serde(default)]
    pub gguf_default: Option<f64>,
    /// The parameter whose value is the default, or `head_dim`: hidden size over heads, or
    /// `rotary_dim`: the part of it that rotates.
    #[serde(default)]
    pub default_from: Option<String>,
    /// Whether it may be absent.
    #[serde(default)]
    pub optional: bool,
    /// Whether stock converters leave it out of GGUF.
    #[serde(default)]
    pub hf_only: bool,
    /// What is lost with it.
    #[serde(default)]
    pub lost: Option<String>,
    /// Whether a GGUF file may give every layer a value of its own.
    #[serde(default)]
    pub per_layer: bool,
}

/// A GGUF scalar type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    /// A non-negative whole number below 2³².
    U32,
    /// A finite number.
    F32,
}

/// The hyper-parameters of one checkpoint, by GGUF key without prefix.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params {
    values: BTreeMap<String, f64>,
    /// One value a layer, of those that differ; the first is also among `values`.
    by_layer: BTreeMap<String, Vec<f64>>,
}

impl Params {
    pub(super) fn from_gguf(arch: &Arch, metadata: &gguf::Metadata) -> Result<Self> {
        let mut params = Self::read(arch, 1.0, |param| {
            let key = arch.key(&param.key);
            let Some(value) = metadata.get(&key) else {
                return Ok(param.gguf_default);
            };
            if param.per_layer && value.array().is_some() {
                let first = value.iter_f64().and_then(|mut values| values.next());
                return first
                    .with_context(|| format!("{key} is no array of numbers"))
                    .map(Some);
            }
            let number = value.as_f64().with_context(|| {
                format!("{key} is not one number: per-layer arrays are not supported for this architecture")
            });
            number.map(Some)
        })?;
        for param in arch.params.iter().filter(|param| param.per_layer) {
            if let Some(values) = params.each_layers(arch, metadata, param)? {
                params.by_layer.insert(param.key.clone(), values);
            }
        }
        Ok(params)
    }

    /// One value a layer, where a GGUF file has them.
    fn each_layers(
        &self,
        arch: &Arch,
        metadata: &gguf::Metadata,
        param: &Param,
    ) -> Result<Option<Vec<f64>>> {
        let key = arch.key(&param.key);
        let Some(value) = metadata.get(&key) else {
            let from = param.default_from.as_ref();
            return Ok(from.and_then(|from| self.by_layer.get(from)).cloned());
        };
        if value.array().is_none() {
            return Ok(None);
        }
        let n_layers = self.count("block_count")?;
        param.of_layers(&value, n_layers).context(key).map(Some)
    }

    pub(super) fn from_hf(arch: &Arch, config: &Map<String, Value>) -> Result<Self> {
        let rotating = hf_field(config, "partial_rotary_factor").and_then(Value::as_f64);
        Self::read(arch, rotating.unwrap_or(1.0), |param| {
            let Some(value) = param.in_config(config) else {
                return Ok(param.default);
            };
            let number = value
                .as_f64()
                .with_context(|| format!("config.json: {} is {value}, not a number", param.name()));
            number.map(Some)
        })
    }

    fn read(
        arch: &Arch,
        rotating: f64,
        find: impl Fn(&Param) -> Result<Option<f64>>,
    ) -> Result<Self> {
        let mut params = Self::default();
        for param in &arch.params {
            let inherited = || match param.default_from.as_deref()? {
                "head_dim" => params.head_dim().ok().map(|dim| dim as f64),
                "rotary_dim" => {
                    let dim = params.head_dim().ok()?;
                    Some((dim as f64 * rotating).floor())
                }
                other => params.get(other),
            };
            let Some(value) = find(param)?.or_else(inherited) else {
                let known = param.optional || param.key == "vocab_size";
                ensure!(known, "{} ({}) is missing", param.key, param.name());
                continue;
            };
            param.check(value)?;
            params.values.insert(param.key.clone(), value);
        }
        Ok(params)
    }

    /// A parameter that may be absent; the first layer's, where layers differ.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.values.get(key).copied()
    }

    /// A parameter of one layer, where layers may differ.
    pub(super) fn of_layer(&self, key: &str, layer: usize) -> Option<f64> {
        match self.by_layer.get(key) {
            Some(values) => values.get(layer).copied(),
            None => self.get(key),
        }
    }

    /// Whether layers may differ in a parameter.
    pub(super) fn differs(&self, key: &str) -> bool {
        self.by_layer.contains_key(key)
    }

    /// A parameter that must be there, as a count.
    ///
    /// # Errors
    /// It is absent.
    pub fn count(&self, key: &str) -> Result<usize> {
        let value = self.get(key).with_context(|| format!("{key} is missing"))?;
        Ok(value as usize)
    }

    /// Dimensions of one attention head: `attention.key_length`, else hidden size over heads, those
    /// of the first layer where layers differ.
    ///
    /// # Errors
    /// Zero heads, or a hidden size that they do not divide.
    pub fn head_dim(&self) -> Result<usize> {
        if let Some(length) = self.get("attention.key_length") {
            return Ok(length as usize);
        }
        let (hidden, heads) = (
            self.count("embedding_length")?,
            self.count("attention.head_count")?,
        );
        ensure!(
            heads > 0 && hidden % heads == 0,
            "{heads} attention heads do not divide hidden size {hidden}"
        );
        Ok(hidden / heads)
    }
}

impl Param {
    /// One value a layer.
    fn of_layers(&self, value: &gguf::Value, n_layers: usize) -> Result<Vec<f64>> {
        let found = value.array().map_or(0, |(_, count)| count);
        ensure!(
            found == n_layers as u64,
            "has {found} elements, but the model has {n_layers} layers"
        );
        let values = value.iter_f64().context("is no array of numbers")?;
        let values: Vec<f64> = values.collect();
        values.iter().try_for_each(|&value| self.check(value))?;
        Ok(values)
    }

    fn check(&self, value: f64) -> Result<()> {
        let valid = match self.ty {
            ParamType::U32 => value >= 0.0 && value <= f64::from(u32::MAX) && value.fract() == 0.0,
            ParamType::F32 => value.is_finite(),
        };
        ensure!(valid, "{} ({}) cannot be {value}", self.key, self.name());
        Ok(())
    }

    /// What a reader of config.json calls it.
    pub(super) fn name(&self) -> &str {
        self.hf.as_deref().unwrap_or(&self.key)
    }

    fn in_config<'a>(&self, config: &'a Map<String, Value>) -> Option<&'a Value> {
        let plain = hf_field(config, self.hf.as_ref()?);
        let newer = || {
            let mut steps = self.also.as_ref()?.split('.');
            let first = hf_field(config, steps.next()?)?;
            let found = steps.try_fold(first, |value, step| value.get(step))?;
            (!found.is_null()).then_some(found)
        };
        plain.or_else(newer)
    }
}

/// A field of config.json; transformers 5 keeps the rotary ones under `rope_parameters`.
pub(super) fn hf_field<'a>(config: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let nested = || config.get("rope_parameters")?.get(name);
    config
        .get(name)
        .or_else(nested)
        .filter(|value| !value.is_null())
}
