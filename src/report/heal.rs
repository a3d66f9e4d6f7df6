//! What healing came to.

use super::ModelFile;
use crate::heal::Check;
use serde::{Deserialize, Serialize};

/// One healing, as `slim heal --json` writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Healing {
    /// [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// slim's version.
    pub slim: String,
    /// The original.
    pub original: ModelFile,
    /// The pruned model.
    pub pruned: ModelFile,
    /// Where the result is.
    pub output: String,
    /// The text: the files' names, or the suite's.
    pub text: Vec<String>,
    /// What came of it.
    pub effect: Effect,
    /// Seconds of training, in all runs.
    pub seconds: f64,
    /// What the held-out text said on the way.
    pub checks: Vec<Check>,
}

/// What came of it, as the written model carries it in `slim.heal`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Whether the written weights are others than the pruned model's.
    pub healed: bool,
    /// What was trained: `cuts` or `all`.
    pub train: String,
    /// Numbers that were trained.
    pub parameters: u64,
    /// Tokens that were trained on.
    pub tokens: u64,
    /// Steps.
    pub steps: u64,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Tokens that only measured.
    pub held_out_tokens: u64,
    /// The held-out text's perplexity by the original.
    pub original_perplexity: f64,
    /// What the held-out text says of the pruned model.
    pub before: Check,
    /// Of the written one.
    pub after: Check,
}
