//! Results for pipelines and for people.

mod bench;
mod besides;
mod findings;
pub mod heal;
mod html;
mod junit;
mod markdown;
pub mod svg;
pub mod tasks;
pub mod terminal;
mod words;

pub use bench::Figures;
pub use html::{html, profiles_page};
pub use junit::junit;
pub use markdown::markdown;

use crate::eval::Outcome;
use crate::plan::Plan;
use crate::verify::{
    Agreement, Both, Comparison, GateResult, PerplexityChange, Resolution, TextPair,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the report's file format.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything about one verification, as `--json` and `--report` write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// slim's version.
    pub slim: String,
    /// The original.
    pub original: ModelFile,
    /// The pruned model, as it was read back from disk.
    pub pruned: ModelFile,
    /// The suite's name.
    pub suite: String,
    /// Where the models ran.
    pub device: String,
    /// What they computed in.
    pub dtype: String,
    /// Whether that gives what a CPU does in f32; absent where it is that.
    #[serde(default)]
    pub agreement: Option<Agreement>,
    /// How the layers were chosen; absent where slim did not choose them.
    pub plan: Option<Plan>,
    /// What was kept and what was lost.
    pub comparison: Comparison,
    /// What these items can and cannot show.
    pub resolution: Resolution,
    /// Some texts before and after.
    #[serde(default)]
    pub texts: Vec<TextPair>,
    /// What became of a text's perplexity, where one was given.
    #[serde(default)]
    pub perplexity: Option<PerplexityChange>,
    /// Both models timed, where that was asked for.
    #[serde(default)]
    pub speed: Option<Both<Figures>>,
    /// What became of the gates.
    pub gates: Vec<GateResult>,
    /// Whether all gates were passed.
    pub passed: bool,
}

/// One checkpoint of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFile {
    /// The path as it was given.
    pub path: String,
    /// Bytes of the files that hold tensors.
    pub bytes: u64,
    /// Layers.
    pub n_layers: usize,
    /// SHA-256 of the content; see [`crate::checkpoint::Checkpoint::sha256`].
    pub sha256: String,
}

/// One model's results, as `slim eval --json` writes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// slim's version.
    pub slim: String,
    /// The model.
    pub model: ModelFile,
    /// The suite's name.
    pub suite: String,
    /// Prompts that lost their beginning because they did not fit the context.
    pub truncated: usize,
    /// The tasks' metrics, as lm-evaluation-harness writes them; so are the next five.
    pub results: Value,
    /// The tasks' terms.
    pub configs: Value,
    /// The versions of their definitions.
    pub versions: Value,
    /// Examples before each item.
    #[serde(rename = "n-shot")]
    pub n_shot: Value,
    /// Which way is up, by metric.
    pub higher_is_better: Value,
    /// Documents, and how many of them were asked.
    #[serde(rename = "n-samples")]
    pub n_samples: Value,
    /// The tables.
    pub summary: crate::eval::Summary,
    /// Every question's result.
    pub outcomes: Vec<Outcome>,
}
