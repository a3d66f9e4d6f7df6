//! Asking: items become token sequences, the mask engine gives their log-probabilities under any
//! number of keep sets at once, and greedy generation gives the text.

mod engine;
mod generate;
mod outcome;
mod question;
pub mod stats;
mod summary;
mod tree;

pub use engine::{Engine, layer_passes};
pub use generate::{Generated, generate};
pub use outcome::{Health, Outcome, outcomes};
pub use question::{Question, questions};
pub use summary::{Cell, HealthCell, Summary, summarise};

/// What long work tells about itself: so many units of `total` are done.
pub trait Progress {
    /// A stage begins; `total` units of work lie ahead.
    fn begin(&self, stage: &str, total: u64);
    /// `units` more are done.
    fn advance(&self, units: u64);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _stage: &str, _total: u64) {}
    fn advance(&self, _units: u64) {}
}
