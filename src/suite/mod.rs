//! Families, tasks and slices: what a model is asked.
//!
//! A [`Task`] is a list of [`Item`]s of one [`Family`], and an item knows how it is asked under
//! each [`Protocol`]. Tasks come from sheets ([`Sheet`], JSON: the suite that slim carries and
//! people's own) and from definitions in lm-evaluation-harness's vocabulary ([`harness`], YAML:
//! public benchmarks and people's own). `docs/suite.md` describes both.

mod ask;
mod embedded;
pub mod harness;
mod load;
mod names;
mod sheet;
mod split;

pub use ask::{Answer, Ask, Check, Item, Message, Role, Sampling, Task, Terms, Written};
pub use load::{Error, MAX_FILE_BYTES};
pub use names::{Family, Protocol, Split, UnknownName};
pub use sheet::{SCHEMA_VERSION, Sheet, SheetItem};
pub use split::IN_CONTEXT;

/// Tasks that are asked together, in a fixed order.
#[derive(Debug, Clone)]
pub struct Suite {
    /// `embedded`, the names of the tasks, or the stem of the file or folder they were read from.
    pub name: String,
    /// The tasks.
    pub tasks: Vec<Task>,
}
