//! Choosing: a profile and an objective become a keep set.

mod budget;
mod choose;
pub mod compensation;
mod measurable;
mod methods;
mod objective;
mod scope;
mod texts;
mod trial;
mod writing;

pub use budget::{Budget, Point, Retention, Size};
pub use choose::{Chosen, Material, Wishes, choose, mend, with_search};
pub use measurable::{Cells, measurable};
pub use methods::{Choice, Halving, METHODS, Method, Search, halved, method};
pub use objective::{Loss, Measure, Objective, Preserve, Unasked};
pub use scope::Scope;
pub use texts::{copied_texts, plain_texts};
pub use trial::Trial;
pub use writing::Writing;

use crate::arch::{KeepSet, Part};
use crate::checkpoint::Checkpoint;
use crate::suite::Family;
use anyhow::{Result, ensure};
use compensation::Cut;
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
    /// Why so many layers stay, where the depth was not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The weight of every family.
    pub objective: BTreeMap<Family, f64>,
    /// The families and protocols that counted, as `family/protocol`: those in which the original
    /// can be measured.
    pub counted: Vec<String>,
    /// What makes up for the layers that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Cut>,
    /// Of the questions that linear maps are fitted on: fitting them again takes the same ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted_on: Option<String>,
    /// What the search cost: tokens times layers that they went through.
    #[serde(default)]
    pub layer_passes: u64,
    /// Every depth, where all were measured, the whole model first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<Point>,
    /// What went, in the order of going. Swaps may have brought some of it back since.
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

/// One layer less, one half of a layer, or one group of layers that go together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The layers, or halves of layers, that went.
    pub layers: Vec<Part>,
    /// The objective after it: weighted mean fall of the continuous scores since the whole
    /// model, nats, on the select split.
    pub loss: f64,
    /// The fall of every family, nats.
    pub families: BTreeMap<Family, f64>,
    /// How many layers or groups were tried at this step.
    pub tried: usize,
}
