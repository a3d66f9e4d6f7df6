//! Generation under many keep sets at once: all texts of all keep sets are written together, so a
//! step reads the weights once.

use super::Progress;
use super::engine::Likelihood;
use super::mask::Mask;
use super::pack::{Pack, Text, packs};
use super::pass::{Kept, Pass, by_form};
use super::question::Question;
use super::score::{likelihoods, next_tokens, select};
use crate::convert::vocabulary::TextTokenizer;
use crate::model::{KvCache, Model, Run};
use anyhow::{Context, Result};
use candle_core::Tensor;
use candle_transformers::generation::{LogitsProcessor, Sampling as Drawing};
use rayon::prelude::*;
use std::ops::Range;

/// Bytes of keys and values that texts which are written together take at most: more rows make no
/// product faster.
const CACHE_BYTES: u64 = 1 << 30;

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

/// What a keep set makes of a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Of the question's candidates.
    pub likelihoods: Vec<Likelihood>,
    /// The continuation of its prompt.
    pub generated: Generated,
}

/// Likelihoods and continuations of questions under keep sets, `[mask][question]`. Prompts
/// are read once for both.
///
/// # Errors
/// Tokens that the model does not have; what candle and the tokenizer report.
pub fn generate<M: Mask>(
    model: &Model,
    masks: &[M],
    questions: &[&Question],
    tokenizer: &TextTokenizer,
    progress: &dyn Progress,
) -> Result<Vec<Vec<Reply>>> {
    let texts = questions.iter().map(|question| Text {
        candidates: &question.candidates,
        prompt: &question.prompt,
    });
    let packs = packs(texts);
    let mut replies = vec![Vec::with_capacity(questions.len()); masks.len()];
    let (mut rest, mut left) = (packs.as_slice(), questions);
    while !rest.is_empty() {
        let mut batch = Batch::new(model, masks, tokenizer);
        let (mut taken, mut bytes) = (0, 0);
        for pack in rest {
            let (mine, _) = left.split_at(batch.questions.len() + pack.texts.len());
            let mine = &mine[batch.questions.len()..];
            bytes += batch.bytes(pack, mine);
            if taken > 0 && bytes > CACHE_BYTES.min(model.room()) {
                break;
            }
            batch.read(pack, mine)?;
            taken += 1;
        }
        let asked = batch.questions.len();
        for (mask, found) in batch.write(progress)?.into_iter().enumerate() {
            replies[mask].extend(found);
        }
        (rest, left) = (&rest[taken..], &left[asked..]);
    }
    Ok(replies)
}

/// One text being written under one keep set.
struct Writing {
    mask: usize,
    /// Its question, among the batch's.
    question: usize,
    /// The pack that holds its prompt.
    pack: usize,
    /// The prompt's columns, from the pack's first.
    prompt: Vec<Range<usize>>,
    /// Where its own columns begin, in each layer that its keep set has.
    own: Vec<usize>,
    /// What draws its tokens; absent, the likeliest is taken.
    draw: Option<LogitsProcessor>,
    next: u32,
    tokens: Vec<u32>,
    terminated: bool,
    done: bool,
}

struct Batch<'m, M> {
    model: &'m Model,
    masks: &'m [M],
    tokenizer: &'m TextTokenizer,
    questions: Vec<&'m Question<'m>>,
    /// One a layer.
    caches: Vec<KvCache>,
    /// Where the columns of a pack begin: `[pack][layer][mask]`.
    bases: Vec<Vec<Vec<Option<usize>>>>,
    likelihoods: Vec<Vec<Vec<Likelihood>>>,
    texts: Vec<Writing>,
}

impl<'m, M: Mask> Batch<'m, M> {
    fn new(model: &'m Model, masks: &'m [M], tokenizer: &'m TextTokenizer) -> Self {
        Self {
            model,
            masks,
            tokenizer,
            questions: Vec::new(),
            caches: vec![KvCache::default(); model.n_layers()],
            bases: Vec::new(),
            likelihoods: vec![Vec::new(); masks.len()],
            texts: Vec::new(),
        }
    }

    /// Bytes that a pack's keys and values take at most.
    fn bytes(&self, pack: &Pack, questions: &[&Question]) -> u64 {
        let written = questions.iter().map(|question| most_tokens(question));
        let columns = (pack.tree.len() + written.sum::<usize>()) * self.masks.len();
        let config = self.model.config();
        let column = 2 * config.n_kv_heads * config.head_dim * size_of::<f32>();
        (columns * column * self.model.n_layers()) as u64
    }

    /// Reads a pack's texts under every keep set.
    fn read(&mut self, pack: &Pack, questions: &[&'m Question<'m>]) -> Result<()> {
        let frame = self.model.frame(pack.tree.runs())?;
        let mut pass = Pass::new(self.model, self.masks, frame, pack.tree.tokens())?;
        let mut bases = vec![vec![None; self.masks.len()]; self.model.n_layers()];
        for (layer, bases) in bases.iter_mut().enumerate() {
            let cache = self.caches.get_mut(layer).context("no such layer")?;
            pass.layer(layer, Some(Kept { cache, bases }), &super::Silent)?;
        }
        let prompts = pack.written();
        let ends = prompts
            .iter()
            .filter_map(|(_, path)| Some(path.last()?.end - 1));
        let ends: Vec<usize> = ends.collect();
        for state in &pass.states {
            let hidden = select(&state.hidden, &ends)?;
            for &mask in &state.masks {
                let text = |(text, prompt): &(usize, Vec<Range<usize>>)| Writing {
                    mask,
                    question: self.questions.len() + text,
                    pack: self.bases.len(),
                    prompt: prompt.clone(),
                    own: Vec::new(),
                    draw: questions.get(*text).and_then(|question| draw(question)),
                    next: 0,
                    tokens: Vec::new(),
                    terminated: false,
                    done: false,
                };
                let mut texts: Vec<Writing> = prompts.iter().map(text).collect();
                choose(self.model, &hidden, texts.iter_mut())?;
                self.texts.append(&mut texts);
            }
        }
        let pack = std::slice::from_ref(pack);
        for found in likelihoods(self.model, pack, [pass.states])? {
            for (mask, scored) in found {
                self.likelihoods[mask].extend(scored);
            }
        }
        self.questions.extend(questions);
        self.bases.push(bases);
        Ok(())
    }

    /// Writes every text to its end.
    fn write(mut self, progress: &dyn Progress) -> Result<Vec<Vec<Reply>>> {
        self.texts.sort_by_key(|text| (text.mask, text.question));
        for text in &mut self.texts {
            let most = most_tokens(self.questions[text.question]);
            let layers = self.caches.iter_mut().enumerate();
            let own =
                layers.map(
                    |(layer, cache)| match self.masks[text.mask].form(layer).attention {
                        true => cache.reserve(most),
                        false => 0,
                    },
                );
            text.own = own.collect();
        }
        let mut texts = std::mem::take(&mut self.texts);
        let mut active: Vec<usize> = (0..texts.len()).collect();
        loop {
            let before = active.len();
            let writing = texts.par_iter_mut().filter(|text| !text.done);
            writing
                .try_for_each(|text| text.take(self.questions[text.question], self.tokenizer))?;
            active.retain(|&i| !texts[i].done);
            progress.advance((before - active.len()) as u64);
            if active.is_empty() {
                break;
            }
            let hidden = self.step(&texts, &active)?;
            let writing = texts.iter_mut().filter(|text| !text.done);
            choose(self.model, &hidden, writing)?;
        }
        self.replies(texts)
    }

    fn replies(self, texts: Vec<Writing>) -> Result<Vec<Vec<Reply>>> {
        let mut replies = vec![Vec::new(); self.masks.len()];
        for text in texts {
            replies[text.mask].push(Reply {
                likelihoods: self.likelihoods[text.mask][text.question].clone(),
                generated: Generated {
                    text: self.tokenizer.decode(&text.tokens)?,
                    tokens: text.tokens,
                    terminated: text.terminated,
                },
            });
        }
        Ok(replies)
    }

    /// Reads the last token of every active text; returns the states behind them,
    /// [texts, hidden_size].
    fn step(&mut self, texts: &[Writing], active: &[usize]) -> Result<Tensor> {
        let tokens: Vec<u32> = active.iter().map(|&i| texts[i].next).collect();
        let mut hidden = self.model.embed(&tokens)?;
        let mut used: Vec<usize> = active.iter().map(|&i| texts[i].mask).collect();
        used.dedup();
        for layer in 0..self.model.n_layers() {
            for (form, masks) in by_form(self.masks, layer, &used) {
                if !form.is_gone() {
                    let takes = |&i: &usize| masks.binary_search(&texts[i].mask).is_ok();
                    let takes: Vec<bool> = active.iter().map(takes).collect();
                    let rows = active.iter().zip(&takes).filter(|(_, takes)| **takes);
                    let runs = self.runs(layer, rows.map(|(&i, _)| &texts[i]));
                    let frame = self.model.frame(runs)?;
                    let cache = self.caches.get_mut(layer).context("no such layer")?;
                    let model = self.model;
                    hidden = some_rows(&hidden, &takes, |rows| {
                        model.layer_as(layer, form, rows, &frame, Some((cache, &[0])))
                    })?;
                }
            }
        }
        Ok(hidden.squeeze(0)?)
    }

    /// What each text sees in a layer: its prompt, what it wrote, and the token that is read.
    fn runs<'t>(&self, layer: usize, texts: impl Iterator<Item = &'t Writing>) -> Vec<Run> {
        let run = |(row, text): (usize, &Writing)| {
            let base = self.bases[text.pack][layer][text.mask].unwrap_or(0);
            let prompt = text.prompt.iter().map(|c| c.start + base..c.end + base);
            let own = text.own[layer];
            // The token that is read is the last of those taken.
            let written = own..own + text.tokens.len() - 1;
            Run {
                rows: row..row + 1,
                past: prompt.chain([written.clone()]).collect(),
                own: written.end,
            }
        };
        texts.enumerate().map(run).collect()
    }
}

/// Passes the marked rows of [1, rows, hidden_size] through a function; the others stay.
fn some_rows(
    hidden: &Tensor,
    marked: &[bool],
    through: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if marked.iter().all(|&mark| mark) {
        return through(hidden);
    }
    let stretches: Vec<&[bool]> = marked.chunk_by(|a, b| a == b).collect();
    let part = |of: &Tensor, at: &mut usize, n: usize| {
        *at += n;
        of.narrow(1, *at - n, n)
    };
    let mut at = 0;
    let mut parts = Vec::with_capacity(stretches.len());
    for stretch in &stretches {
        parts.push(part(hidden, &mut at, stretch.len())?);
    }
    let chosen = stretches
        .iter()
        .zip(&parts)
        .filter(|(stretch, _)| stretch[0]);
    let chosen: Vec<&Tensor> = chosen.map(|(_, part)| part).collect();
    let done = through(&Tensor::cat(&chosen, 1)?)?;
    let mut at = 0;
    for (stretch, place) in stretches.iter().zip(&mut parts) {
        if stretch[0] {
            *place = part(&done, &mut at, stretch.len())?;
        }
    }
    Ok(Tensor::cat(&parts, 1)?)
}

/// Decides on the token that follows each text, from the states [texts, hidden_size].
fn choose<'t>(
    model: &Model,
    hidden: &Tensor,
    texts: impl Iterator<Item = &'t mut Writing>,
) -> Result<()> {
    let mut texts: Vec<&mut Writing> = texts.collect();
    let draws = texts.iter_mut().map(|text| text.draw.as_mut()).collect();
    let tokens = next_tokens(model, hidden, draws)?;
    for (text, token) in texts.iter_mut().zip(tokens) {
        text.next = token;
    }
    Ok(())
}

/// The same random numbers for a question under every keep set, so that texts differ by the model
/// alone.
const SEED: u64 = 1234;

fn draw(question: &Question) -> Option<LogitsProcessor> {
    let sampling = question.ask.written()?.sampling?;
    let temperature = sampling.temperature;
    let drawing = match (sampling.top_k, sampling.top_p) {
        (None, None) => Drawing::All { temperature },
        (Some(k), None) => Drawing::TopK { k, temperature },
        (None, Some(p)) => Drawing::TopP { p, temperature },
        (Some(k), Some(p)) => Drawing::TopKThenTopP { k, p, temperature },
    };
    Some(LogitsProcessor::from_sampling(SEED, drawing))
}

fn most_tokens(question: &Question) -> usize {
    question
        .ask
        .written()
        .map_or(0, |written| written.max_tokens)
}

impl Writing {
    fn take(&mut self, question: &Question, tokenizer: &TextTokenizer) -> Result<()> {
        if tokenizer.end_ids().contains(&self.next) {
            self.terminated = true;
        } else {
            self.tokens.push(self.next);
            let text = tokenizer.decode(&self.tokens)?;
            let stops = question
                .ask
                .written()
                .map_or(&[][..], |written| &written.until);
            self.terminated = stops.iter().any(|stop| text.contains(stop.as_str()));
        }
        self.done = self.terminated || self.tokens.len() >= most_tokens(question);
        Ok(())
    }
}
