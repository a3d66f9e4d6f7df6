//! Half layers: a layer's attention without its MLP, or the other way round.

use anyhow::{Context, Error, Result};
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

/// A layer, or a half of it. In text the number, or `7:attention` for a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Part {
    /// The layer, by original index.
    pub layer: usize,
    /// The half; absent, both.
    pub half: Option<Half>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(usize),
    Half(String),
}

impl Half {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Attention, Self::Mlp];

    /// The half that is left where this one goes.
    pub fn other(self) -> Self {
        match self {
            Self::Attention => Self::Mlp,
            Self::Mlp => Self::Attention,
        }
    }

    /// The half of its name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "attention" => Some(Self::Attention),
            "mlp" => Some(Self::Mlp),
            _ => None,
        }
    }

    /// What people call it in a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Mlp => "MLP",
        }
    }
}

impl Part {
    /// A layer with both halves.
    pub fn whole(layer: usize) -> Self {
        Self { layer, half: None }
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attention => "attention",
            Self::Mlp => "mlp",
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.half {
            None => self.layer.fmt(f),
            Some(half) => write!(f, "{}:{half}", self.layer),
        }
    }
}

impl From<Part> for Written {
    fn from(part: Part) -> Self {
        match part.half {
            None => Self::Whole(part.layer),
            Some(_) => Self::Half(part.to_string()),
        }
    }
}

impl TryFrom<Written> for Part {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        let text = match written {
            Written::Whole(layer) => return Ok(Self::whole(layer)),
            Written::Half(text) => text,
        };
        let wrong = || format!("'{text}' is no layer: write 7, 7:attention or 7:mlp");
        let (layer, half) = text.split_once(':').with_context(wrong)?;
        let half = Half::named(half).with_context(wrong)?;
        let layer = layer.parse().ok().with_context(wrong)?;
        Ok(Self {
            layer,
            half: Some(half),
        })
    }
}
