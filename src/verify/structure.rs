//! Whether the written file is what its metadata say, by a second reader.

use crate::arch::Arch;
use crate::checkpoint::{Checkpoint, Format};
use anyhow::{Context, Result, bail, ensure};
use gguf_rs::{ByteOrder, GGUFContainer, GGUFModel};
use std::collections::BTreeMap;
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
    complete(checkpoint).with_context(|| format!("{path}: structure"))?;
    if checkpoint.format() == Format::Gguf {
        agrees_with_gguf_rs(checkpoint).with_context(|| format!("{path}: second reader"))?;
    }
    Ok(())
}

/// The layers are 0..n without gaps, and each has the same tensors.
fn complete(checkpoint: &Checkpoint) -> Result<()> {
    let arch = Arch::of(checkpoint)?;
    let n_layers = arch.n_layers(checkpoint)?;
    let mut layers: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        if arch.ignores(&tensor.name) {
            continue;
        }
        let slot = arch.slot(&tensor.name);
        let slot = slot.with_context(|| format!("unknown tensor {}", tensor.name))?;
        if let Some(layer) = slot.layer {
            layers.entry(layer).or_default().push(&slot.rule.gguf);
        }
    }
    for slot in arch.slots(n_layers).iter().filter(|s| !s.rule.optional) {
        let there = match slot.layer {
            Some(layer) => layers
                .get(&layer)
                .is_some_and(|names| names.contains(&slot.rule.gguf.as_str())),
            None => checkpoint
                .tensors()
                .iter()
                .filter_map(|tensor| arch.slot(&tensor.name))
                .any(|s| s.layer.is_none() && s.rule.gguf == slot.rule.gguf),
        };
        ensure!(there, "tensor {} is missing", slot.gguf_name());
    }
    if let Some((layer, _)) = layers.range(n_layers..).next() {
        bail!("tensors of layer {layer}, but the metadata say {n_layers} layers");
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
