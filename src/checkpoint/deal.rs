//! Which tensor goes into which of several files.

use std::path::Path;

use super::{Error, OutTensor};

/// Deals tensors out, in order. A file is full when one more tensor would take its tensors, each
/// rounded up to a multiple of `alignment`, over `max` bytes; a tensor that is larger than that
/// has a file of its own. This is how both transformers and llama-gguf-split count.
pub(crate) fn deal<'a>(
    target: &Path,
    tensors: &'a [OutTensor<'a>],
    max: Option<u64>,
    alignment: u64,
) -> Result<Vec<Vec<&'a OutTensor<'a>>>, Error> {
    let mut done = Vec::new();
    let mut hand = Vec::new();
    let mut filled = 0u64;
    for tensor in tensors {
        let len = tensor.byte_len(target)?;
        let len = len.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        let full = max.is_some_and(|max| filled.saturating_add(len) > max);
        if full && !hand.is_empty() {
            done.push(std::mem::take(&mut hand));
            filled = 0;
        }
        filled = filled.saturating_add(len);
        hand.push(tensor);
    }
    done.push(hand);
    Ok(done)
}
