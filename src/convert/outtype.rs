//! The element types that a user may ask for.

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
}

/// What can be asked for by name.
const NAMED: &[(&str, OutType)] = &[
    ("keep", OutType::Keep),
    ("f32", OutType::Only(DType::F32)),
    ("f16", OutType::Only(DType::F16)),
    ("bf16", OutType::Only(DType::BF16)),
    ("q8_0", OutType::Only(DType::Q8_0)),
];

impl FromStr for OutType {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        match NAMED.iter().find(|(known, _)| *known == lower) {
            Some((_, outtype)) => Ok(*outtype),
            None => {
                let known: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
                bail!("unknown type '{name}': slim writes {}", known.join(", "))
            }
        }
    }
}

impl fmt::Display for OutType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMED.iter().find(|(_, outtype)| outtype == self);
        f.write_str(named.map_or("keep", |(name, _)| name))
    }
}
