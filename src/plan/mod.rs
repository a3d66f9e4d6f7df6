//! Choosing: a profile and an objective become a keep set.

mod objective;
mod search;

pub use objective::{Objective, Preserve};
pub use search::{Budget, search};

use crate::arch::KeepSet;
use crate::suite::Family;
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
    /// One entry a dropped layer, in the order of dropping.
    pub steps: Vec<Step>,
}

/// One layer less.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The layer that went.
    pub layer: usize,
    /// The objective after it: weighted mean fall of the continuous scores since the whole
    /// model, nats, on the select split.
    pub loss: f64,
    /// The fall of every family, nats.
    pub families: BTreeMap<Family, f64>,
    /// How many layers were tried at this step.
    pub tried: usize,
}
