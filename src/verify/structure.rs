//! Whether the written file is what its metadata say, by a second reader.

use crate::arch::Arch;
use crate::checkpoint::{Checkpoint, Format};
use anyhow::{Context, Result, bail, ensure};
use gguf_rs::{ByteOrder, GGUFContainer, GGUFModel};
use std::fs::File;
use std::io::BufReader;
use std::panic;

/// gguf-rs starts reading behind the magic number.
const MAGIC_BYTES: i64 = 4;

/// Checks that every layer is complete, none is left over, and an independent reader (gguf-rs
/// for GGUF, the safetensors crate for safetensors) sees the same tensors in the same places.
///
/// # Errors
/// The first contradiction.
pub fn check_structure(checkpoint: &Checkpoint) -> Result<()> {
    let path = checkpoint.path().display();
    Arch::of(checkpoint)?.check_complete(checkpoint)?;
    if checkpoint.format() == Format::Gguf {
        agrees_with_gguf_rs(checkpoint).with_context(|| format!("{path}: second reader"))?;
    }
    Ok(())
}

/// gguf-rs panics on what it does not know, so it runs behind a guard.
fn agrees_with_gguf_rs(checkpoint: &Checkpoint) -> Result<()> {
    let path = checkpoint.path();
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
        bail!("gguf-rs cannot read this file (it knows no tensor types newer than itself)");
    };
    let model = read.context("gguf-rs")?;
    let (ours, theirs) = (checkpoint.tensors(), model.tensors());
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
