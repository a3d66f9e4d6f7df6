//! What becomes of the tensors of a layer of which only a half stays.

use crate::arch::{Half, KeepSet, Slot, TensorRule, ZERO_MLP_LENGTH};
use crate::checkpoint::{DType, Data, OutTensor};
use std::io::Write;

/// What becomes of a tensor of a layer that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Goes,
    /// Zeros stand in its place.
    Zeroed,
}

/// Zeros are written a stretch at a time.
const ZEROS: [u8; 1 << 12] = [0; 1 << 12];

impl Fate {
    /// Of a tensor, by its place in the source.
    pub(super) fn of(keep: &KeepSet, slot: Slot) -> Self {
        let kept = slot.layer.and_then(|layer| keep.half(layer));
        match (kept.map(Half::other), slot.rule.half()) {
            (Some(gone), Some(half)) if gone == half => Self::of_gone(half, slot.rule),
            _ => Self::Stays,
        }
    }

    /// llama.cpp wants none of the tensors of a missing attention, but an MLP in every layer, with its
    /// norm.
    fn of_gone(half: Half, rule: &TensorRule) -> Self {
        match half {
            Half::Attention => Self::Goes,
            Half::Mlp if rule.gguf.ends_with("_norm.weight") => Self::Stays,
            Half::Mlp if rule.optional => Self::Goes,
            Half::Mlp => Self::Zeroed,
        }
    }
}

/// Whether zeros stand in the place of an output's GGUF tensor.
pub(super) fn is_zeroed(name: &str, keep: &KeepSet) -> bool {
    let kept = || {
        let (number, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        let layer = keep.layers().get(number.parse::<usize>().ok()?)?;
        let of_mlp = rest.starts_with("ffn_") && !rest.ends_with("_norm.weight");
        keep.half(*layer).filter(|_| of_mlp)
    };
    kept() == Some(Half::Attention)
}

/// What stands in the place of a matrix of an MLP that is gone. f32: a large activation would
/// overflow in f16, and infinity times zero is no number.
pub(super) fn zeros<'a>(name: String, rule: &TensorRule, shape: &[u64]) -> OutTensor<'a> {
    let mut shape = shape.to_vec();
    // The hidden size is at the other side.
    let inner = match rule.gguf.starts_with("ffn_down.") {
        true => shape.last_mut(),
        false => shape.first_mut(),
    };
    if let Some(width) = inner {
        *width = ZERO_MLP_LENGTH as u64;
    }
    let bytes = shape.iter().product::<u64>() * size_of::<f32>() as u64;
    OutTensor {
        name,
        dtype: DType::F32,
        shape,
        data: Data::Stream(Box::new(move |out: &mut dyn Write| {
            let mut left = bytes;
            while left > 0 {
                let some = left.min(ZEROS.len() as u64);
                out.write_all(&ZEROS[..some as usize])?;
                left -= some;
            }
            Ok(())
        })),
    }
}
