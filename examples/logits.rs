//! What slim's decoder computes for a model, as JSON: the figures that tests/real holds against
//! other runtimes.
//!
//! ```text
//! cargo run --release --example logits -- MODEL PROMPTS.json
//! ```
//! PROMPTS.json: `{"new_tokens": 24, "prompts": ["text", …]}`; a prompt may also be a list of token
//! ids, for a model without a tokenizer. For each prompt: its token ids; at every position the most
//! likely next tokens, `[id, natural log of the probability]`; the ids of the greedy continuation of a
//! text, read through the cache, and its text.

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::{TextTokenizer, runnable};
use slim::model::{Form, KvCache, Model, Run};
use std::path::Path;

/// Tokens told at each position.
const TOP: usize = 50;

#[derive(Deserialize)]
struct Asked {
    new_tokens: usize,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

#[derive(Serialize)]
struct Answer {
    tokens: Vec<u32>,
    top: Vec<Vec<(u32, f64)>>,
    greedy: Vec<u32>,
    text: String,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, prompts] = arguments.as_slice() else {
        anyhow::bail!("usage: logits MODEL PROMPTS.json");
    };
    let asked: Asked = serde_json::from_slice(&std::fs::read(prompts)?).context("the prompts")?;
    let checkpoint = Checkpoint::open(Path::new(model))?;
    let tokenizer = runnable(&checkpoint);
    let model = Model::load(&checkpoint, &Device::Cpu, |_, _| ())?;
    let answer = |prompt: &Prompt| match prompt {
        Prompt::Tokens(tokens) => answer(&model, tokens.clone()),
        Prompt::Text(text) => {
            let tokenizer = tokenizer.as_ref().map_err(|e| anyhow!("{e:#}"))?;
            answer_text(&model, tokenizer, text, asked.new_tokens)
        }
    };
    let answers: Vec<Answer> = asked.prompts.iter().map(answer).collect::<Result<_>>()?;
    println!("{}", serde_json::to_string(&answers)?);
    Ok(())
}

fn answer_text(model: &Model, tokenizer: &TextTokenizer, text: &str, new: usize) -> Result<Answer> {
    let tokens = tokenizer.encode(text, tokenizer.add_bos())?;
    let greedy = greedy(model, tokenizer.end_ids(), &tokens, new)?;
    Ok(Answer {
        text: tokenizer.decode(&greedy)?,
        greedy,
        ..answer(model, tokens)?
    })
}

fn answer(model: &Model, tokens: Vec<u32>) -> Result<Answer> {
    let keep: Vec<usize> = (0..model.n_layers()).collect();
    let logits = model.forward(&tokens, &keep)?.to_vec2::<f32>()?;
    Ok(Answer {
        top: logits.iter().map(|row| most_likely(row)).collect(),
        tokens,
        greedy: Vec::new(),
        text: String::new(),
    })
}

fn most_likely(logits: &[f32]) -> Vec<(u32, f64)> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = logits.iter().map(|&x| (x as f64 - largest).exp()).sum();
    let log_sum = largest + sum.ln();
    let mut all: Vec<(u32, f64)> = (0..)
        .zip(logits.iter().map(|&x| x as f64 - log_sum))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(TOP);
    all
}

/// The greedy continuation, one step a token, up to an end of text or `new` tokens.
fn greedy(model: &Model, ends: &[u32], prompt: &[u32], new: usize) -> Result<Vec<u32>> {
    let mut caches = vec![KvCache::default(); model.n_layers()];
    let mut written = Vec::new();
    let (mut input, mut seen) = (prompt.to_vec(), 0);
    while written.len() < new {
        ensure!(!input.is_empty(), "an empty prompt has no next token");
        let frame = model.frame(Run::after(seen, input.len()))?;
        let mut hidden = model.embed(&input)?;
        for (layer, cache) in caches.iter_mut().enumerate() {
            hidden = model.layer_as(layer, Form::WHOLE, &hidden, &frame, Some((cache, &[0])))?;
        }
        let last = hidden.squeeze(0)?.narrow(0, input.len() - 1, 1)?;
        let next = model.logits(&last)?.argmax(1)?.to_vec1::<u32>()?[0];
        if ends.contains(&next) {
            break;
        }
        written.push(next);
        (input, seen) = (vec![next], seen + input.len());
    }
    Ok(written)
}
