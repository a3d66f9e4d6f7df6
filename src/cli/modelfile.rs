//! What ollama builds a model from: a Modelfile that names the GGUF. The chat template and the stop tokens
//! are in the GGUF itself.

use super::files::{check_beside, write_text};
use crate::checkpoint::{Checkpoint, Format, parent_of};
use crate::prune::target_format;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

/// Checks, before any work, that a Modelfile can stand beside the output.
///
/// # Errors
/// An output of another format, or in several files; a place that cannot be written.
pub(super) fn check(path: &PathBuf, output: &Path) -> Result<()> {
    ensure!(
        target_format(output)? == Format::Gguf,
        "--modelfile: ollama builds of a .gguf here: name the output .gguf"
    );
    check_beside(Some(path), &[output])
}

/// Writes it, with the weights' path as ollama will look it up: from the Modelfile's folder.
///
/// # Errors
/// Weights in several files, which ollama does not build of; what writing reports.
pub(super) fn write(path: &Path, weights: &Path) -> Result<()> {
    ensure!(
        Checkpoint::open(weights)?.files().count() == 1,
        "--modelfile: ollama builds of one .gguf, and {} is one of several: leave out --max-shard-size",
        weights.display()
    );
    let folder = |path: &Path| parent_of(path).canonicalize();
    let name = weights.file_name().unwrap_or_default().to_string_lossy();
    let from = match folder(path)? == folder(weights)? {
        true => format!("./{name}"),
        false => folder(weights)?.join(&*name).display().to_string(),
    };
    write_text(
        path,
        &format!(
            "# Pruned by slim {}: {name}\nFROM {from}\n",
            env!("CARGO_PKG_VERSION")
        ),
    )
}
