//! GGUF: a header of typed keys and tensor entries, then the tensors, each at an aligned place.
//!
//! [`Metadata`] is read as spans over the mapped file and every value is copied as it was encoded:
//! a key that slim has never heard of survives a rewrite bit for bit.

mod cursor;
pub mod keys;
mod metadata;
mod parts;
mod reader;
mod split;
mod value;
mod writer;

pub use metadata::Metadata;
pub use parts::Parts;
pub(crate) use split::{Contents, read};
pub use split::{names_a_part, split_name};
pub use value::{Value, ValueType};
pub use writer::{write, write_parts};

pub(crate) const MAGIC: &[u8; 4] = b"GGUF";

/// Where a tensor's place is rounded up to when the file does not say otherwise.
pub const DEFAULT_ALIGNMENT: u32 = 32;

/// More than any page; a header with more would only blow a file up with padding.
pub(crate) const MAX_ALIGNMENT: u64 = 16 << 20;

/// ggml's limit on dimensions (`GGML_MAX_DIMS`).
pub(crate) const MAX_DIMS: usize = 4;

pub(crate) fn valid_alignment(alignment: u64) -> bool {
    alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT
}
