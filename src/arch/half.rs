//! Half layers: a layer's attention without its MLP, or the other way round.

use anyhow::{Context, Error, Result, bail};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A half of a layer, each with the addition to the hidden state that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Half {
    /// Attention, with the norms around it.
    Attention,
    /// The MLP, or the mixture of experts, with the norms around it.
    Mlp,
}

/// A layer that stays. In text the number, or `7:attention` where only a half stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Kept {
    /// The layer, by original index.
    pub layer: usize,
    /// The half that stays; absent, both do.
    pub half: Option<Half>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(usize),
    Half(String),
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attention => "attention",
            Self::Mlp => "mlp",
        })
    }
}

impl From<Kept> for Written {
    fn from(kept: Kept) -> Self {
        match kept.half {
            None => Self::Whole(kept.layer),
            Some(half) => Self::Half(format!("{}:{half}", kept.layer)),
        }
    }
}

impl TryFrom<Written> for Kept {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        let text = match written {
            Written::Whole(layer) => return Ok(Self { layer, half: None }),
            Written::Half(text) => text,
        };
        let wrong = || format!("'{text}' is no layer: write 7, 7:attention or 7:mlp");
        let (layer, half) = text.split_once(':').with_context(wrong)?;
        let half = match half {
            "attention" => Half::Attention,
            "mlp" => Half::Mlp,
            _ => bail!(wrong()),
        };
        let layer = layer.parse().ok().with_context(wrong)?;
        Ok(Self {
            layer,
            half: Some(half),
        })
    }
}
