//! Layer profiles: what each layer is worth to each family under each protocol.

mod assemble;
mod heads;
mod influence;
mod record;
mod samples;
mod scoring;
mod shard;
mod signals;
mod sparsity;

pub use assemble::assemble;
pub use heads::{Head, HeadProfile, heads};
pub use influence::{Influence, cosine_distances};
pub use record::{Record, Sample};
pub use samples::{Run, SAMPLES_VERSION, Samples, merge};
pub use scoring::Scoring;
pub use shard::Shard;
pub use signals::Signals;
pub use sparsity::{Sparsity, sparsity};

use crate::suite::{Family, Protocol};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The version of the profile's file format.
pub const SCHEMA_VERSION: u32 = 1;

/// The importance of every layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// slim's version.
    pub slim: String,
    /// The checkpoint's file name.
    pub model: String,
    /// Its digest; see [`crate::checkpoint::Checkpoint::sha256`].
    pub model_sha256: String,
    /// The suite's name.
    pub suite: String,
    /// Items asked of each family, of the calibrate split.
    pub items_per_family: usize,
    /// The whole model on the same items.
    pub original: Vec<Score>,
    /// One entry a layer, in order.
    pub layers: Vec<LayerProfile>,
}

impl Profile {
    /// Checks a profile that came from a file.
    ///
    /// # Errors
    /// Another version of the format, or layers that are not 0, 1, 2 …
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.schema_version == SCHEMA_VERSION,
            "a profile of version {}, this slim reads {SCHEMA_VERSION}: score the model again",
            self.schema_version
        );
        let in_order = self.layers.iter().enumerate().all(|(i, l)| l.layer == i);
        ensure!(in_order, "the profile's layers are not 0, 1, 2 … in order");
        Ok(())
    }
}

/// The whole model on one family and protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The family.
    pub family: Family,
    /// How it was asked.
    pub protocol: Protocol,
    /// Questions.
    pub n: usize,
    /// Mean continuous score, nats; see [`crate::eval::Question::value`].
    pub value: f64,
    /// Share of questions whose best candidate is right; absent where there is one candidate.
    pub accuracy: Option<f64>,
}

/// What one layer is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerProfile {
    /// The layer, from 0.
    pub layer: usize,
    /// Block influence: mean cosine distance between what goes in and what comes out.
    pub influence: f64,
    /// What is lost without it, by family and protocol.
    pub drops: Vec<Drop>,
    /// How sparse its output is where prompts end: each family, then its slices. Empty in profiles
    /// that an earlier slim wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparsity: Vec<SparsityCell>,
}

impl LayerProfile {
    /// Mean Hoyer sparsity of its output over the prompts of all families, where it was measured.
    pub fn hoyer(&self) -> Option<f64> {
        let families = self.sparsity.iter().filter(|cell| cell.slice.is_none());
        let add = |(n, sum): (usize, f64), cell: &SparsityCell| {
            (n + cell.n, sum + cell.hoyer * cell.n as f64)
        };
        let (n, sum) = families.fold((0, 0.0), add);
        (n > 0).then(|| sum / n as f64)
    }
}

/// How few coordinates carry a layer's output at the last token of the prompts of one family, or
/// of one of its main slices. See [`sparsity()`] for the measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SparsityCell {
    /// The family.
    pub family: Family,
    /// The slice, such as `deep`; absent for the whole family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// Prompts; an item counts once for each protocol that asks it.
    pub n: usize,
    /// Mean share of the squared norm in the largest 1 % of the coordinates.
    pub top_energy: f64,
    /// Mean Hoyer sparsity.
    pub hoyer: f64,
}

/// What is lost without a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// The family.
    pub family: Family,
    /// How it was asked.
    pub protocol: Protocol,
    /// Mean fall of the continuous score, nats; negative where the model does better without it.
    pub nats: f64,
    /// Its paired standard error.
    pub nats_se: f64,
    /// Fall of the accuracy, as a share; absent where there is one candidate.
    pub accuracy: Option<f64>,
}
