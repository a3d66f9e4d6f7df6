//! What both models compute alike.

use crate::arch::Arch;
use crate::checkpoint::Checkpoint;
use anyhow::Result;

/// Whether the embeddings and the layers below `first` of a pruned model are the original's, byte
/// for byte: then the original's state there is the pruned model's too, and is computed once.
///
/// # Errors
/// An architecture that slim does not know.
pub fn same_below(original: &Checkpoint, pruned: &Checkpoint, first: usize) -> Result<bool> {
    // GGUF files have rows in another order, and other names.
    if original.gguf().is_some() != pruned.gguf().is_some() {
        return Ok(false);
    }
    let arch = Arch::of(pruned)?;
    let below = |name: &str| match arch.slot(name) {
        Some(slot) => match slot.layer {
            Some(layer) => layer < first,
            None => slot.rule.gguf == "token_embd.weight",
        },
        None => false,
    };
    let mut tensors = pruned.tensors().iter().filter(|info| below(&info.name));
    Ok(tensors.all(|ours| {
        let theirs = original.tensor(&ours.name);
        let theirs = theirs.filter(|t| t.dtype == ours.dtype && t.shape == ours.shape);
        let same = theirs.is_some_and(|theirs| original.bytes(theirs) == pruned.bytes(ours));
        pruned.release(ours);
        same
    }))
}
