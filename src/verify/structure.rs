//! Whether the written file is what its metadata say, by a second reader.

use crate::arch::Arch;
use crate::checkpoint::gguf::{Metadata, Value, ValueType};
use crate::checkpoint::{Checkpoint, DType, Format, TensorInfo};
use crate::model::Config;
use anyhow::{Context, Result, ensure};
use gguf_rs::{ByteOrder, GGUFContainer, GGUFModel};
use std::fs::File;
use std::io::BufReader;
use std::panic;
use std::path::Path;

/// gguf-rs starts reading behind the magic number.
const MAGIC_BYTES: i64 = 4;

/// Checks that every layer is complete, none is left over, and an independent reader (gguf-rs
/// for GGUF, file by file where it is split; the safetensors crate for safetensors) sees the same
/// tensors in the same places.
///
/// # Errors
/// The first contradiction.
pub fn check_structure(checkpoint: &Checkpoint) -> Result<()> {
    Arch::of(checkpoint)?.check_complete(checkpoint)?;
    let nested = |value: Value<'_>| matches!(value.array(), Some((ValueType::Array, _)));
    let mut values = checkpoint.gguf().into_iter().flat_map(Metadata::iter);
    // gguf-rs knows no arrays in arrays.
    if checkpoint.format() == Format::Gguf && !values.any(|(_, value)| nested(value)) {
        for (i, file) in checkpoint.files().enumerate() {
            let tensors = checkpoint.tensors().iter().filter(|t| t.file == i);
            agrees_with_gguf_rs(file, &tensors.collect::<Vec<_>>())
                .with_context(|| format!("{}: second reader", file.display()))?;
        }
    }
    Ok(())
}

/// Checks that one checkpoint can be the pruned form of the other: dropping layers changes
/// neither the vocabulary nor the width.
///
/// # Errors
/// They are different models, or in the wrong order.
pub fn check_pair(original: &Checkpoint, pruned: &Checkpoint) -> Result<()> {
    let read = |checkpoint: &Checkpoint| Config::read(Arch::of(checkpoint)?, checkpoint);
    let (before, after) = (read(original)?, read(pruned)?);
    let same = [
        ("vocabulary", before.vocab_size, after.vocab_size),
        ("hidden size", before.hidden_size, after.hidden_size),
        ("query heads", before.n_heads, after.n_heads),
    ];
    for (what, theirs, ours) in same {
        ensure!(
            theirs == ours,
            "{} is no pruned form of {}: {what} {ours}, not {theirs}",
            pruned.path().display(),
            original.path().display()
        );
    }
    ensure!(
        after.n_layers <= before.n_layers,
        "{} has {} layers, the original {} only {}: name the original first",
        pruned.path().display(),
        after.n_layers,
        original.path().display(),
        before.n_layers
    );
    Ok(())
}

/// gguf-rs panics on some of what it does not know, so it runs behind a guard. It is no witness
/// for tensor types newer than itself.
fn agrees_with_gguf_rs(path: &Path, ours: &[&TensorInfo]) -> Result<()> {
    let newer = |tensor: &&TensorInfo| matches!(tensor.dtype, DType::Ggml(_));
    if ours.iter().any(newer) {
        return Ok(());
    }
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let read = panic::catch_unwind(|| -> Result<GGUFModel> {
        let mut file = BufReader::new(File::open(path)?);
        file.seek_relative(MAGIC_BYTES)?;
        // Arrays are of no interest here: a vocabulary as JSON values takes gigabytes.
        GGUFContainer::new(ByteOrder::LE, Box::new(file), 1).decode()
    });
    panic::set_hook(hook);
    let Ok(read) = read else {
        return Ok(());
    };
    let model = read.context("gguf-rs")?;
    let theirs = model.tensors();
    ensure!(
        ours.len() == theirs.len(),
        "{} tensors, gguf-rs sees {}",
        ours.len(),
        theirs.len()
    );
    for (ours, theirs) in ours.iter().zip(theirs) {
        // GGUF counts dimensions from the innermost; gguf-rs may pad them with ones.
        let mut dims: Vec<u64> = ours.shape.iter().rev().copied().collect();
        dims.resize(theirs.shape.len().max(dims.len()), 1);
        let same = ours.name == theirs.name
            && ours.dtype.ggml_id() == Some(theirs.kind)
            && ours.range.start == model.data_offset() + theirs.offset
            && dims == theirs.shape;
        ensure!(same, "tensor {} differs from what gguf-rs sees", ours.name);
    }
    Ok(())
}
