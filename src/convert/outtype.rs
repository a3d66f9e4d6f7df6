//! The element types that a user may ask for.

use super::quantise::Recipe;
use crate::checkpoint::DType;
use anyhow::{Result, bail};
use std::fmt;
use std::str::FromStr;

/// `--outtype`: the type of the weight matrices in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutType {
    /// As they are.
    Keep,
    /// All of them in one type.
    Only(DType),
    /// A mix that llama-quantize knows by this name.
    Mix(&'static Recipe),
}

/// What can be asked for by name, besides the mixes.
const NAMED: &[(&str, OutType)] = &[
    ("keep", OutType::Keep),
    ("f32", OutType::Only(DType::F32)),
    ("f16", OutType::Only(DType::F16)),
    ("bf16", OutType::Only(DType::BF16)),
];

impl OutType {
    /// Every name, for messages.
    pub fn names() -> String {
        let plain = NAMED.iter().map(|(name, _)| *name);
        plain.chain(Recipe::names()).collect::<Vec<_>>().join(", ")
    }

    /// The type of every matrix instead of a mix.
    pub fn pure(self) -> Self {
        match self {
            Self::Mix(recipe) => Self::Only(recipe.base),
            other => other,
        }
    }

    /// Whether it stores weights in quantised blocks.
    pub fn is_quantised(self) -> bool {
        match self {
            Self::Keep => false,
            Self::Only(dtype) => dtype.is_quantised(),
            Self::Mix(_) => true,
        }
    }
}

impl FromStr for OutType {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        if let Some((_, outtype)) = NAMED.iter().find(|(known, _)| *known == lower) {
            return Ok(*outtype);
        }
        match Recipe::named(&lower) {
            Some(recipe) => Ok(Self::Mix(recipe)),
            None => bail!("unknown type '{name}': slim writes {}", Self::names()),
        }
    }
}

impl fmt::Display for OutType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Only(dtype) => dtype.fmt(f),
            Self::Mix(recipe) => f.write_str(recipe.name),
        }
    }
}
