//! Greedy generation: all prompts of a pack decode together, so a step reads the weights once.

use super::Progress;
use super::question::Question;
use super::tree::TokenTree;
use crate::arch::KeepSet;
use crate::convert::vocabulary::TextTokenizer;
use crate::model::{KvCache, Model};
use anyhow::Result;
use candle_core::{D, Device, Tensor};
use rayon::prelude::*;

/// Prompt tokens that are read together. Attention inside a pack is dense: its waste grows with this.
const PACK_TOKENS: usize = 768;

/// Texts are written together up to so many cached tokens: the weights are read once a step for all.
const BATCH_TOKENS: usize = 8192;

/// What a model wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The text after the prompt, to the end of the token that held the first stop string.
    pub text: String,
    /// The tokens, without an end-of-text token.
    pub tokens: Vec<u32>,
    /// Whether a stop string or an end-of-text token came within the allowed tokens.
    pub terminated: bool,
}

/// Greedy continuations of the questions' prompts, in order.
///
/// # Errors
/// Tokens that the model does not have; what candle and the tokenizer report.
pub fn generate(
    model: &Model,
    keep: &KeepSet,
    questions: &[&Question],
    tokenizer: &TextTokenizer,
    progress: &dyn Progress,
) -> Result<Vec<Generated>> {
    let mut all = Vec::with_capacity(questions.len());
    let mut rest = questions;
    while !rest.is_empty() {
        let mut batch = Batch::new(model, keep);
        let mut taken = 0;
        while taken < rest.len() && batch.columns < BATCH_TOKENS {
            taken += batch.read(&rest[taken..])?;
        }
        all.extend(batch.write(&rest[..taken], tokenizer)?);
        progress.advance(taken as u64);
        rest = &rest[taken..];
    }
    Ok(all)
}

/// One text being written.
struct Writing {
    /// Cache columns that its next token sees.
    seen: Vec<usize>,
    /// Position of the next token.
    position: usize,
    tokens: Vec<u32>,
    terminated: bool,
    done: bool,
}

struct Batch<'m> {
    model: &'m Model,
    keep: &'m KeepSet,
    caches: Vec<KvCache>,
    /// Columns in the caches.
    columns: usize,
    texts: Vec<Writing>,
    /// The first token of every text.
    first: Vec<u32>,
}

impl<'m> Batch<'m> {
    fn new(model: &'m Model, keep: &'m KeepSet) -> Self {
        Self {
            model,
            keep,
            caches: vec![KvCache::default(); keep.len()],
            columns: 0,
            texts: Vec::new(),
            first: Vec::new(),
        }
    }

    /// Reads a pack of prompts, at least one, with caches of its own that then join the batch's;
    /// returns how many.
    fn read(&mut self, questions: &[&Question]) -> Result<usize> {
        let mut tree = TokenTree::default();
        let mut taken = 0;
        for question in questions {
            let grown = tree.len() + tree.growth(None, &question.prompt);
            if taken > 0 && grown > PACK_TOKENS {
                break;
            }
            tree.insert(None, &question.prompt);
            taken += 1;
        }
        let prompts = questions.iter().take(taken);
        let ends: Vec<usize> = prompts.filter_map(|q| tree.find(&q.prompt)).collect();
        for &end in &ends {
            let path = tree.path(end).into_iter();
            self.texts.push(Writing {
                seen: path.map(|node| self.columns + node).collect(),
                position: tree.positions()[end] + 1,
                tokens: Vec::new(),
                terminated: false,
                done: false,
            });
        }
        let mut pack = Batch::new(self.model, self.keep);
        let (tokens, positions) = (tree.tokens(), tree.positions());
        self.first
            .extend(pack.forward(tokens, positions, &tree.paths(), &ends)?);
        self.columns += pack.columns;
        for (cache, read) in self.caches.iter_mut().zip(&pack.caches) {
            cache.extend(read)?;
        }
        Ok(taken)
    }

    /// Writes every text to its end.
    fn write(
        mut self,
        questions: &[&Question],
        tokenizer: &TextTokenizer,
    ) -> Result<Vec<Generated>> {
        let mut texts = std::mem::take(&mut self.texts);
        let mut next = std::mem::take(&mut self.first);
        let mut active: Vec<usize> = (0..texts.len()).collect();
        loop {
            for (&i, token) in active.iter().zip(next) {
                texts[i].take(token, questions[i], tokenizer)?;
            }
            active.retain(|&i| !texts[i].done);
            if active.is_empty() {
                break;
            }
            next = self.step(&mut texts, &active)?;
        }
        texts
            .into_iter()
            .map(|text| {
                Ok(Generated {
                    text: tokenizer.decode(&text.tokens)?,
                    tokens: text.tokens,
                    terminated: text.terminated,
                })
            })
            .collect()
    }

    /// Reads the last token of every active text; returns the tokens that follow.
    fn step(&mut self, texts: &mut [Writing], active: &[usize]) -> Result<Vec<u32>> {
        let (mut tokens, mut positions, mut visible) = (Vec::new(), Vec::new(), Vec::new());
        for (row, &i) in active.iter().enumerate() {
            let text = &mut texts[i];
            tokens.extend(text.tokens.last());
            positions.push(text.position);
            text.position += 1;
            // Nearest first, as a frame wants them.
            text.seen.insert(0, self.columns + row);
            visible.push(text.seen.clone());
        }
        let rows: Vec<usize> = (0..active.len()).collect();
        self.forward(&tokens, &positions, &visible, &rows)
    }

    /// Appends tokens to the caches and returns the most likely token after each of `rows`.
    fn forward(
        &mut self,
        tokens: &[u32],
        positions: &[usize],
        visible: &[Vec<usize>],
        rows: &[usize],
    ) -> Result<Vec<u32>> {
        self.columns += tokens.len();
        let frame = self.model.frame(positions, self.columns, visible)?;
        let mut hidden = self.model.embed(tokens)?;
        for (&layer, cache) in self.keep.layers().iter().zip(&mut self.caches) {
            hidden = self.model.layer(layer, &hidden, &frame, Some(cache))?;
        }
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let rows = Tensor::new(rows, hidden.device())?;
        let logits = self
            .model
            .logits(&hidden.squeeze(0)?.index_select(&rows, 0)?)?;
        let vocab_size = logits.dim(D::Minus1)?;
        let logits = logits.to_device(&Device::Cpu)?.flatten_all()?;
        let logits = logits.to_vec1::<f32>()?;
        Ok(logits.par_chunks(vocab_size).map(argmax).collect())
    }
}

impl Writing {
    fn take(&mut self, token: u32, question: &Question, tokenizer: &TextTokenizer) -> Result<()> {
        if tokenizer.end_ids().contains(&token) {
            self.terminated = true;
        } else {
            self.tokens.push(token);
            let text = tokenizer.decode(&self.tokens)?;
            let stops = question
                .ask
                .written()
                .map_or(&[][..], |written| &written.until);
            self.terminated = stops.iter().any(|stop| text.contains(stop.as_str()));
        }
        let most = question
            .ask
            .written()
            .map_or(0, |written| written.max_tokens);
        self.done = self.terminated || self.tokens.len() >= most;
        Ok(())
    }
}

/// The first index of the largest value.
fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = i;
        }
    }
    best as u32
}
