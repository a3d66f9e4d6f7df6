//! safetensors: a JSON header of names, types, shapes and offsets, then the tensors without gaps.
//!
//! A file alone is no model. [`write_folder`] makes a Hugging Face folder of it, [`write_beside`]
//! puts the other files next to it.

mod layout;
mod reader;
mod writer;

pub use layout::{Companions, write_beside, write_folder};
pub(crate) use reader::read;
pub use writer::write;

/// The reference crate's own limit on the header, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// The header's entry for the file as a whole.
const METADATA: &str = "__metadata__";
