//! Choosing: a profile and an objective become a keep set.

mod measurable;
mod objective;
mod search;

pub use measurable::{Cells, measurable};
pub use objective::{Objective, Preserve};
pub use search::{Budget, search};

use crate::arch::KeepSet;
use crate::checkpoint::Checkpoint;
use crate::suite::Family;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the plan's file format.
pub const SCHEMA_VERSION: u32 = 1;

/// Which layers stay, and how that came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// slim's version.
    pub slim: String,
    /// The checkpoint's file name.
    pub model: String,
    /// Its digest; see [`crate::checkpoint::Checkpoint::sha256`].
    pub model_sha256: String,
    /// How many layers it has.
    pub n_layers: usize,
    /// The layers that stay, by original index.
    pub keep: KeepSet,
    /// The layers that go, by original index.
    pub dropped: Vec<usize>,
    /// How the layers were chosen.
    pub method: String,
    /// The weight of every family.
    pub objective: BTreeMap<Family, f64>,
    /// The families and protocols that counted, as `family/protocol`: those in which the original
    /// can be measured.
    pub counted: Vec<String>,
    /// What went, in the order of going.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Checks a plan that came from a file against the checkpoint that it is to prune.
    ///
    /// # Errors
    /// Another version of the format, another model, or layers that do not exist.
    pub fn check(&self, checkpoint: &Checkpoint, n_layers: usize) -> Result<()> {
        ensure!(
            self.schema_version == SCHEMA_VERSION,
            "a plan of version {}, this slim reads {SCHEMA_VERSION}: plan again",
            self.schema_version
        );
        ensure!(
            self.n_layers == n_layers && self.model_sha256 == checkpoint.sha256()?,
            "a plan for {} ({} layers), not for {} ({n_layers} layers): plan again for this model",
            self.model,
            self.n_layers,
            checkpoint.path().display()
        );
        self.keep.check(n_layers)
    }
}

/// One layer less, or one group of layers that go together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The layers that went.
    pub layers: Vec<usize>,
    /// The objective after it: weighted mean fall of the continuous scores since the whole
    /// model, nats, on the select split.
    pub loss: f64,
    /// The fall of every family, nats.
    pub families: BTreeMap<Family, f64>,
    /// How many layers or groups were tried at this step.
    pub tried: usize,
}
