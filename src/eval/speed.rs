//! How fast a model reads and writes.

use crate::model::{Form, KvCache, Model, Run};
use anyhow::{Context, Result, ensure};
use candle_core::{IndexOp, Tensor};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// One measurement of one model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Tokens of the prompt, read at once, a second.
    pub prompt: f64,
    /// Tokens written one after the other, a second.
    pub generation: f64,
}

/// Reads a prompt and writes `n` tokens greedily behind it, without stopping at an end.
///
/// # Errors
/// A prompt without tokens, no tokens to write, or more than the context holds; what the model reports.
pub fn speed(model: &Model, prompt: &[u32], n: usize) -> Result<Speed> {
    ensure!(
        !prompt.is_empty() && n > 0,
        "a prompt of one token and one token to write are the least"
    );
    let context = model.config().context_length;
    ensure!(
        prompt.len() + n <= context,
        "{} tokens do not fit the model's context of {context}",
        prompt.len() + n
    );
    let mut caches = vec![KvCache::default(); model.n_layers()];
    let begun = Instant::now();
    let mut token = next(model, prompt, 0, &mut caches)?;
    let read = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    for written in 0..n {
        token = next(model, &[token], prompt.len() + written, &mut caches)?;
    }
    Ok(Speed {
        prompt: prompt.len() as f64 / read,
        generation: n as f64 / begun.elapsed().as_secs_f64(),
    })
}

/// The likeliest token behind some tokens, of which `cached` came before.
fn next(model: &Model, tokens: &[u32], cached: usize, caches: &mut [KvCache]) -> Result<u32> {
    let frame = model.frame(Run::after(cached, tokens.len()))?;
    let mut hidden = model.embed(tokens)?;
    for (layer, cache) in caches.iter_mut().enumerate() {
        hidden = model.layer_as(layer, Form::WHOLE, &hidden, &frame, Some((cache, &[0])))?;
    }
    let last: Tensor = hidden.i(0)?.i(tokens.len() - 1..)?;
    let logits: Vec<f32> = model.logits(&last)?.flatten_all()?.to_vec1()?;
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    let (token, _) = best.context("the model has no tokens")?;
    Ok(u32::try_from(token)?)
}
