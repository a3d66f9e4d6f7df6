//! Perplexity of a text as llama.cpp's `llama-perplexity` measures it.

use super::engine::{Engine, Likelihood};
use super::question::Candidate;
use super::{Progress, stats};
use crate::arch::KeepSet;
use crate::convert::vocabulary::TextTokenizer;
use crate::model::Model;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// A text's perplexity, and how it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Perplexity {
    /// exp of the mean negative log-probability.
    pub perplexity: f64,
    /// Its standard error, from the differences between chunks.
    pub stderr: f64,
    /// Tokens in a chunk.
    pub ctx_size: usize,
    /// Chunks.
    pub chunks: usize,
    /// Tokens that were scored.
    pub scored: usize,
    /// Mean negative log-probability of a token, of each chunk; not written.
    #[serde(skip)]
    pub losses: Vec<f64>,
}

/// Cuts the text's tokens into chunks of `ctx_size` and scores the second half of each, so that
/// every scored token sees at least half a chunk. A model that wants a beginning-of-text token has
/// it in place of each chunk's first.
///
/// # Errors
/// A text shorter than two chunks; what the tokenizer and the engine report.
pub fn perplexity(
    model: &Model,
    tokenizer: &TextTokenizer,
    text: &str,
    ctx_size: usize,
    most_chunks: usize,
    progress: &dyn Progress,
) -> Result<Perplexity> {
    let tokens = tokenizer.encode(text, tokenizer.add_bos())?;
    ensure!(
        ctx_size >= 4 && ctx_size <= model.config().context_length,
        "--ctx-size {ctx_size}: give 4 to {}, the model's context",
        model.config().context_length
    );
    ensure!(
        tokens.len() >= 2 * ctx_size,
        "the text has {} tokens; two chunks of {ctx_size} are the least: give a longer text or a \
         smaller --ctx-size",
        tokens.len()
    );
    let start = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let chunk = |tokens: &[u32]| {
        let mut tokens = tokens.to_vec();
        if let (Some(start), Some(first)) = (start, tokens.first_mut()) {
            *first = start;
        }
        let scored = tokens.split_off(ctx_size / 2 + 1);
        [Candidate {
            prompt: tokens.into(),
            tokens: scored,
        }]
    };
    let chunks = tokens.chunks_exact(ctx_size).take(most_chunks);
    let chunks: Vec<[Candidate; 1]> = chunks.map(chunk).collect();
    let engine = Engine::new(model);
    let all = [KeepSet::all(model.n_layers())];
    progress.begin("perplexity", engine.work(&chunks, &all));
    let found = engine.likelihoods(&chunks, &all, progress)?;
    let scored = ctx_size - ctx_size / 2 - 1;
    let loss = |likelihoods: &Vec<Likelihood>| {
        likelihoods.iter().map(|l| -l.log_prob).sum::<f64>() / scored as f64
    };
    let losses: Vec<f64> = found.iter().flatten().map(loss).collect();
    let (mean, se) = stats::mean_se(&losses);
    Ok(Perplexity {
        perplexity: mean.exp(),
        // d exp(x) = exp(x) dx.
        stderr: mean.exp() * se,
        ctx_size,
        chunks: chunks.len(),
        scored: scored * losses.len(),
        losses,
    })
}
