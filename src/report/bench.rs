//! What `slim bench` measures of a model.

use crate::eval::Speed;
use serde::{Deserialize, Serialize};

/// One model's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The path as it was given.
    pub path: String,
    /// Bytes of the tensors.
    pub bytes: u64,
    /// Layers.
    pub n_layers: usize,
    /// Seconds until the model could be asked.
    pub load: f64,
    /// Tokens a second.
    pub speed: Speed,
    /// The most bytes that the process held; absent where the system does not say.
    pub peak: Option<u64>,
}
