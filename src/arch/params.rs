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
#[derive(Debug, Clone, PartialEq)]
pub struct Params(BTreeMap<String, f64>);

impl Params {
    pub(super) fn from_gguf(arch: &Arch, metadata: &gguf::Metadata) -> Result<Self> {
        Self::read(arch, |param| {
            let key = arch.key(&param.key);
            let Some(value) = metadata.get(&key) else {
                return Ok(None);
            };
            let number = value.as_f64().with_context(|| {
                format!("{key} is not one number: per-layer arrays are not supported for this architecture")
            });
            number.map(Some)
        })
    }

    pub(super) fn from_hf(arch: &Arch, config: &Map<String, Value>) -> Result<Self> {
        let rotating = hf_field(config, "partial_rotary_factor").and_then(Value::as_f64);
        Self::read_with(arch, rotating.unwrap_or(1.0), |param| {
            let Some(value) = param.in_config(config) else {
                return Ok(None);
            };
            let number = value
                .as_f64()
                .with_context(|| format!("config.json: {} is {value}, not a number", param.name()));
            number.map(Some)
        })
    }

    fn read(arch: &Arch, find: impl Fn(&Param) -> Result<Option<f64>>) -> Result<Self> {
        Self::read_with(arch, 1.0, find)
    }

    fn read_with(
        arch: &Arch,
        rotating: f64,
        find: impl Fn(&Param) -> Result<Option<f64>>,
    ) -> Result<Self> {
        let mut params = Self(BTreeMap::new());
        for param in &arch.params {
            let inherited = || match param.default_from.as_deref()? {
                "head_dim" => params.head_dim().ok().map(|dim| dim as f64),
                "rotary_dim" => {
                    let dim = params.head_dim().ok()?;
                    Some((dim as f64 * rotating).floor())
                }
                other => params.get(other),
            };
            let Some(value) = find(param)?.or(param.default).or_else(inherited) else {
                let known = param.optional || param.key == "vocab_size";
                ensure!(known, "{} ({}) is missing", param.key, param.name());
                continue;
            };
            param.check(value)?;
            params.0.insert(param.key.clone(), value);
        }
        Ok(params)
    }

    /// A parameter that may be absent.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key).copied()
    }

    /// A parameter that must be there, as a count.
    ///
    /// # Errors
    /// It is absent.
    pub fn count(&self, key: &str) -> Result<usize> {
        let value = self.get(key).with_context(|| format!("{key} is missing"))?;
        Ok(value as usize)
    }

    /// Sets a parameter, for the other format or for fewer layers.
    pub fn set(&mut self, key: &str, value: f64) {
        self.0.insert(key.to_owned(), value);
    }

    /// Dimensions of one attention head: `attention.key_length`, else hidden size over heads.
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
