//! From a keep set to a file: kept tensors renumbered, metadata rewritten, everything else as it was.

mod base_model;
mod card;
mod gguf;
mod hf;
mod planned;
mod provenance;
mod size_label;

pub use card::add_to_card;
pub use planned::{Planned, planned};
pub use provenance::Provenance;

use crate::arch::{Arch, KeepSet};
use crate::checkpoint::gguf::names_a_part;
use crate::checkpoint::{Checkpoint, Format, check_target, check_target_folder};
use crate::convert::quantise::Quantise;
use crate::convert::{Edits, OutType};
use crate::model::Config;
use anyhow::{Result, bail, ensure};
use std::path::{Path, PathBuf};

/// What is to be written.
pub struct Request<'a> {
    /// The source.
    pub checkpoint: &'a Checkpoint,
    /// The layers that stay.
    pub keep: &'a KeepSet,
    /// Where to; the extension says the format.
    pub target: &'a Path,
    /// What becomes of some weights, beside being copied or converted.
    pub edits: &'a Edits,
    /// The element type of the matrices.
    pub outtype: OutType,
    /// Into how large files the tensors are dealt out: absent, one GGUF file, or a folder's usual
    /// shards.
    pub max_shard_bytes: Option<u64>,
    /// How a quantised element type is reached.
    pub quantise: Quantise<'a>,
    /// `tokenizer.ggml.pre`, where it cannot be told from the tokenizer's files.
    pub tokenizer_pre: Option<&'a str>,
    /// Whether the result may need a runtime that reads one flag a layer from arrays.
    pub layer_arrays: bool,
    /// Whether the source is hashed for the provenance.
    pub source_digest: bool,
    /// How the keep set came about, as JSON, kept in the file.
    pub measured: Option<String>,
    /// What healing did to the source, as JSON. The output then says of where it comes from what the
    /// source says, if that is slim's.
    pub healed: Option<String>,
}

impl<'a> Request<'a> {
    /// The kept layers as they are, in the source's types, with its digest.
    pub fn new(checkpoint: &'a Checkpoint, keep: &'a KeepSet, target: &'a Path) -> Self {
        Self {
            checkpoint,
            keep,
            target,
            edits: Edits::none(),
            outtype: OutType::Keep,
            max_shard_bytes: None,
            quantise: Quantise::default(),
            tokenizer_pre: None,
            layer_arrays: false,
            source_digest: true,
            measured: None,
            healed: None,
        }
    }
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
    if slash || target.is_dir() {
        return Ok(Format::HfFolder);
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
    let format = match extension.to_lowercase().as_str() {
        "gguf" => Format::Gguf,
        "safetensors" => Format::Safetensors,
        other if OTHER_FORMATS.contains(&other) => bail!(
            "slim does not write .{other}: end {} in .gguf or .safetensors, or name a folder",
            target.display()
        ),
        _ => return Ok(Format::HfFolder),
    };
    ensure!(
        !stem.is_empty(),
        "{} is an extension without a name: give model{name}, say",
        target.display()
    );
    Ok(format)
}

/// Checks that the output can be dealt out to files as it is asked for.
fn check_shards(target: &Path, max_shard_bytes: Option<u64>) -> Result<()> {
    let format = target_format(target)?;
    ensure!(
        format != Format::Gguf || !names_a_part(target),
        "{} is the name of one part of a split file: give NAME.gguf and --max-shard-size, and the parts are counted and named for you",
        target.display()
    );
    ensure!(
        format != Format::Safetensors || max_shard_bytes.is_none(),
        "--max-shard-size: {} is one file; name a folder, which gets the shards and their index",
        target.display()
    );
    Ok(())
}

/// Checks all that can be known before any work: the target's place, and that the source is what
/// its metadata say.
///
/// # Errors
/// A target that cannot be written; a source with tensors missing, left over or misshapen.
pub fn check(checkpoint: &Checkpoint, target: &Path, max_shard_bytes: Option<u64>) -> Result<()> {
    check_shards(target, max_shard_bytes)?;
    let sources: Vec<&Path> = checkpoint.files().collect();
    match target_format(target)? {
        Format::HfFolder => check_target_folder(target)?,
        _ => check_target(target, &sources)?,
    }
    let arch = Arch::of(checkpoint)?;
    ensure!(
        target_format(target)? == Format::Gguf || !arch.is_described() || arch.in_hugging_face(),
        "{}: stock transformers has no model class for the {} architecture: name a .gguf",
        checkpoint.path().display(),
        arch.name
    );
    arch.check_complete(checkpoint)?;
    // Layers of shapes that are not understood can be copied, but not run or converted.
    if arch.is_described() && !arch.has_unread_shapes(checkpoint) {
        Config::read(arch, checkpoint)?.check_shapes(arch, checkpoint)?;
    }
    Ok(())
}

/// Writes the kept layers and gives the path to open: the target, or the first part of a split
/// file. The target appears whole or not at all.
/// `progress` is told bytes of tensor data as they are written.
///
/// # Errors
/// A checkpoint that cannot be written in this format, or an output that cannot be written.
pub fn write(request: &Request, progress: &dyn Fn(u64)) -> Result<PathBuf> {
    check(request.checkpoint, request.target, request.max_shard_bytes)?;
    let arch = Arch::of(request.checkpoint)?;
    let n_layers = arch.n_layers(request.checkpoint)?;
    request.keep.check(n_layers)?;
    let layers = arch.layers(request.checkpoint)?;
    layers.by_arrays(request.layer_arrays).check(request.keep)?;
    arch.check_half_layers(request.checkpoint, request.keep)?;
    if let Some(files) = request.checkpoint.hf() {
        // Whatever is written: what config.json says of layers must be understood.
        arch.rewrite_layer_fields(&mut files.config.clone(), request.keep, n_layers)?;
    }
    match target_format(request.target)? {
        Format::Gguf => gguf::write(request, arch, progress),
        _ => hf::write(request, arch, progress),
    }
}
