//! Asking: items become token sequences, the mask engine gives their log-probabilities under any
//! number of keep sets at once, and greedy generation gives the text.

mod engine;
mod generate;
mod outcome;
mod progress;
mod question;
pub mod stats;
mod summary;
mod tree;

pub use engine::{Engine, layer_passes};
pub use generate::{Generated, generate};
pub use outcome::{Health, Outcome, outcomes};
pub use progress::{Progress, Share, Silent};
pub use question::{Question, questions};
pub use summary::{Cell, HealthCell, Summary, summarise};
