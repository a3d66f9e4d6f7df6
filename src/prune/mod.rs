//! From a keep set to a file: kept tensors renumbered, metadata rewritten, everything else as it was.

mod gguf;
mod hf;
mod provenance;
mod size_label;

pub use provenance::Provenance;

use crate::arch::{Arch, KeepSet};
use crate::checkpoint::{Checkpoint, Format};
use crate::convert::OutType;
use anyhow::{Result, bail};
use std::path::Path;

/// What is to be written.
pub struct Request<'a> {
    /// The source.
    pub checkpoint: &'a Checkpoint,
    /// The layers that stay.
    pub keep: &'a KeepSet,
    /// Where to; the extension says the format.
    pub target: &'a Path,
    /// The element type of the matrices.
    pub outtype: OutType,
    /// `tokenizer.ggml.pre`, where it cannot be told from the tokenizer's files.
    pub tokenizer_pre: Option<&'a str>,
    /// How the keep set came about, as JSON, kept in the file.
    pub measured: Option<String>,
}

/// The format that a path asks for: `.gguf`, `.safetensors`, or a folder.
///
/// # Errors
/// Another extension.
pub fn target_format(target: &Path) -> Result<Format> {
    let extension = target
        .extension()
        .map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("gguf") => Ok(Format::Gguf),
        Some("safetensors") => Ok(Format::Safetensors),
        _ if target.is_dir() || extension.is_none() => Ok(Format::HfFolder),
        _ => bail!(
            "cannot tell the format of {}: end it in .gguf or .safetensors, or name a folder",
            target.display()
        ),
    }
}

/// Writes the kept layers. The target appears whole or not at all.
/// `progress` is told bytes of tensor data as they are written.
///
/// # Errors
/// A checkpoint that cannot be written in this format, or an output that cannot be written.
pub fn write(request: &Request, progress: &dyn Fn(u64)) -> Result<()> {
    let arch = Arch::of(request.checkpoint)?;
    request.keep.check(arch.n_layers(request.checkpoint)?)?;
    match target_format(request.target)? {
        Format::Gguf => gguf::write(request, arch, progress),
        _ => hf::write(request, arch, progress),
    }
}
