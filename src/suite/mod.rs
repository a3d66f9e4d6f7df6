//! Families, tasks and slices: what a model is asked.
//!
//! A [`Task`] is a JSON file of [`Item`]s of one [`Family`]. Each item can be asked in up to three
//! [`Protocol`]s from the same fields, so that what differs between protocols is the protocol.
//! [`Suite::embedded`] is the suite that slim carries; [`Suite::open`] reads people's own files in
//! the same format, which `docs/suite.md` describes.

mod check;
mod embedded;
mod load;
mod names;
mod split;
mod task;
mod write;

pub use load::{Error, MAX_FILE_BYTES};
pub use names::{Family, Protocol, Split, UnknownName};
pub use task::{Item, SCHEMA_VERSION, Task};

/// Tasks that are asked together, in a fixed order.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// `embedded`, or the stem of the file or folder it was read from.
    pub name: String,
    /// The tasks, sorted by file name.
    pub tasks: Vec<Task>,
}
