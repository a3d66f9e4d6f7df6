//! From a keep set to a file: kept tensors renumbered, metadata rewritten, everything else as it was.

mod gguf;
mod hf;
mod provenance;
mod size_label;

pub use provenance::Provenance;

use crate::arch::{Arch, KeepSet};
use crate::checkpoint::{Checkpoint, Format, check_target, check_target_folder};
use crate::convert::OutType;
use crate::convert::quantise::Quantise;
use crate::model::Config;
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
    /// How a quantised element type is reached.
    pub quantise: Quantise<'a>,
    /// `tokenizer.ggml.pre`, where it cannot be told from the tokenizer's files.
    pub tokenizer_pre: Option<&'a str>,
    /// Whether the result may need a runtime that reads one flag a layer from arrays.
    pub layer_arrays: bool,
    /// How the keep set came about, as JSON, kept in the file.
    pub measured: Option<String>,
}

/// Extensions of formats that slim does not write: a folder of such a name is not meant.
const OTHER_FORMATS: &[&str] = &[
    "bin", "ckpt", "ggml", "json", "mlmodel", "onnx", "pt", "pth", "tflite", "zip",
];

/// The format that a path asks for: `.gguf`, `.safetensors`, else a folder.
///
/// # Errors
/// The extension of another format.
pub fn target_format(target: &Path) -> Result<Format> {
    let slash = target.as_os_str().as_encoded_bytes().ends_with(b"/");
    let extension = target.extension().filter(|_| !slash && !target.is_dir());
    let extension = extension.map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("gguf") => Ok(Format::Gguf),
        Some("safetensors") => Ok(Format::Safetensors),
        Some(other) if OTHER_FORMATS.contains(&other) => bail!(
            "slim does not write .{other}: end {} in .gguf or .safetensors, or name a folder",
            target.display()
        ),
        _ => Ok(Format::HfFolder),
    }
}

/// Checks all that can be known before any work: the target's place, and that the source is what
/// its metadata say.
///
/// # Errors
/// A target that cannot be written; a source with tensors missing, left over or misshapen.
pub fn check(checkpoint: &Checkpoint, target: &Path) -> Result<()> {
    match target_format(target)? {
        Format::HfFolder => check_target_folder(target)?,
        _ => check_target(target, &[checkpoint.path()])?,
    }
    let arch = Arch::of(checkpoint)?;
    arch.check_complete(checkpoint)?;
    // Layers of different shapes can be copied, but not run or converted.
    if arch.is_described() && !arch.has_layer_arrays(checkpoint) {
        Config::read(arch, checkpoint)?.check_shapes(arch, checkpoint)?;
    }
    Ok(())
}

/// Writes the kept layers. The target appears whole or not at all.
/// `progress` is told bytes of tensor data as they are written.
///
/// # Errors
/// A checkpoint that cannot be written in this format, or an output that cannot be written.
pub fn write(request: &Request, progress: &dyn Fn(u64)) -> Result<()> {
    check(request.checkpoint, request.target)?;
    let arch = Arch::of(request.checkpoint)?;
    let n_layers = arch.n_layers(request.checkpoint)?;
    request.keep.check(n_layers)?;
    let layers = arch.layers(request.checkpoint)?;
    layers.by_arrays(request.layer_arrays).check(request.keep)?;
    match target_format(request.target)? {
        Format::Gguf => gguf::write(request, arch, progress),
        _ => hf::write(request, arch, progress),
    }
}
