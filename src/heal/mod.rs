//! Healing: a short training of a pruned model by what its original says.
//!
//! [`text`] makes sequences of tokens, the original says what comes next and what its states at the
//! cuts are ([`lesson`]), the pruned model learns to say the same ([`student`], [`loss`]), and what
//! is held out tells whether that helped ([`trainer`]).

mod adam;
mod course;
mod cuts;
mod exercise;
mod lesson;
mod loss;
mod shared;
mod state;
mod student;
mod text;
mod trainer;

pub use course::{Budget, Check, Course};
pub use cuts::{Cuts, Hint};
pub use exercise::Exercise;
pub use lesson::{Lesson, Original};
pub use loss::{Next, distance, divergence, log_sum_exp};
pub use shared::same_below;
pub use state::{Run, STATE_VERSION, State};
pub use student::{Gap, Gradients, Student};
pub use text::{Sequences, texts_of, texts_of_suite};
pub use trainer::{Healed, Keeping, Settings, Trainer};
