//! How large an output will be, before it is written.

use crate::arch::{Arch, KeepSet};
use crate::checkpoint::Checkpoint;
use crate::convert::quantise::Quantise;
use crate::convert::{Edits, OutType, Target, kept_tensors};
use anyhow::Result;

/// An output's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Bytes.
    pub bytes: u64,
    /// Numbers.
    pub params: u64,
    /// Numbers that a token is multiplied with: those of the matrices, but for an embedding that is
    /// only looked up. Of a mixture all experts count, as all of them are stored.
    pub multiplied: u64,
}

/// The tensors of a keep set in a format and a type.
///
/// # Errors
/// As of writing it.
pub fn planned(
    checkpoint: &Checkpoint,
    keep: &KeepSet,
    target: Target,
    outtype: OutType,
    quantise: Quantise,
) -> Result<Planned> {
    let arch = Arch::of(checkpoint)?;
    let edits = Edits::default();
    let tensors = kept_tensors(checkpoint, arch, keep, target, outtype, quantise, &edits)?;
    let gguf = |name: &str| {
        arch.slot(name)
            .map_or(name.to_owned(), |slot| slot.gguf_name())
    };
    let has_head = tensors
        .iter()
        .any(|tensor| gguf(&tensor.name) == "output.weight");
    let mut all = Planned {
        bytes: 0,
        params: 0,
        multiplied: 0,
    };
    for tensor in &tensors {
        let params = tensor.shape.iter().product::<u64>();
        let looked_up = has_head && gguf(&tensor.name) == "token_embd.weight";
        all.bytes += tensor.dtype.byte_len(&tensor.shape).unwrap_or(0);
        all.params += params;
        if tensor.shape.len() > 1 && !looked_up {
            all.multiplied += params;
        }
    }
    Ok(all)
}
