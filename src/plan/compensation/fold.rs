//! From what makes up for the cuts to the weights that hold it.

use crate::arch::Arch;
use crate::checkpoint::Checkpoint;
use crate::convert::{Edit, Edits};
use crate::eval::{Mask, Mended};
use crate::model::Mend;
use anyhow::Result;
use std::collections::BTreeSet;

/// Tensors through which a layer adds to the hidden state, and, where there are norms behind them,
/// those norms.
const ADDING: [&str; 7] = [
    "attn_output.weight",
    "attn_output.bias",
    "ffn_down.weight",
    "ffn_down.bias",
    "ffn_down_exps.weight",
    "ffn_down_shexp.weight",
    "ffn_down_exps.bias",
];
const NORMS_BEHIND: [&str; 2] = ["post_attention_norm.weight", "post_ffw_norm.weight"];

/// The edits that make a written model compute what a candidate does.
///
/// A factor α at a cut is folded as 1/α into everything that layers behind it add: relative to the
/// states that enter it, each addition is then as large as before, and the final norm takes the
/// common factor out (checked numerically: logits differ by rounding only). This leaves the embedding
/// alone, which is often also the output's.
///
/// # Errors
/// None but those of the checkpoint.
pub fn edits(checkpoint: &Checkpoint, arch: &Arch, mended: &Mended) -> Result<Edits> {
    let mut edits = Edits::default();
    let n_layers = arch.n_layers(checkpoint)?;
    let present: BTreeSet<String> = checkpoint
        .tensors()
        .iter()
        .filter(|info| !arch.ignores(&info.name))
        .filter_map(|info| Some(arch.slot(&info.name)?.gguf_name()))
        .collect();
    let mut factor = 1.0f32;
    for layer in 0..n_layers {
        let form = mended.form(layer);
        if !form.attention && !form.mlp {
            continue;
        }
        let named = |name: &str| format!("blk.{layer}.{name}");
        let there = |name: &&str| present.contains(&named(name));
        let behind: Vec<&str> = NORMS_BEHIND.into_iter().filter(there).collect();
        let scaled = match behind.is_empty() {
            true => ADDING.into_iter().filter(there).collect(),
            false => behind,
        };
        let stays = |name: &&str| match name.contains("att") {
            true => form.attention,
            false => form.mlp,
        };
        if factor != 1.0 {
            for name in scaled.iter().filter(|name| stays(name)) {
                edits.insert(named(name), Edit::Scale(factor));
            }
        }
        match form.mend {
            None => {}
            Some(Mend::Scale(by)) => factor /= by,
            Some(Mend::Linear(map)) => {
                let values: Vec<f32> = map.values().iter().map(|x| x * factor).collect();
                let edit = Edit::Output(values.into());
                for name in ["ffn_down.weight", "ffn_down.bias"]
                    .iter()
                    .filter(|name| there(name))
                {
                    edits.insert(named(name), edit.clone());
                }
            }
            Some(Mend::Norm(weight)) => {
                let values: Vec<f32> = weight.iter().map(|x| x * factor).collect();
                edits.insert(named("post_ffw_norm.weight"), Edit::Values(values.into()));
            }
        }
    }
    Ok(edits)
}
