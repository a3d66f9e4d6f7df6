//! Asking: items become token sequences, the mask engine gives their log-probabilities under any
//! number of keep sets at once, and greedy generation gives the text.

mod divergence;
mod engine;
mod generate;
mod judge;
mod lines;
mod log;
mod mask;
mod outcome;
mod pack;
mod pass;
mod perplexity;
mod progress;
mod question;
mod score;
mod speed;
pub mod stats;
mod summary;
mod tasks;
mod tree;

pub use divergence::{Compared, Reference};
pub use engine::{Engine, Layout, Likelihood, Rows};
pub use generate::{Generated, Reply, generate};
pub use judge::{Measured, accepts, judge};
pub use lines::{Header, Identity, JsonLines, difference};
pub use log::{Run, Samples, digest};
pub use mask::{Mask, Mended, WithoutHead};
pub use outcome::{Health, Log, NoLog, Outcome, outcomes};
pub use pass::layer_passes;
pub use perplexity::{Perplexity, perplexity};
pub use progress::{Progress, Share, Silent};
pub use question::{Asking, Candidate, Question, questions};
pub use speed::{Speed, speed};
pub use summary::{Cell, HealthCell, Summary, summarise};
pub use tasks::{HarnessResults, harness_results};
