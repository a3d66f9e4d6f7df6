//! Likelihoods and next tokens from the last hidden states.

use super::engine::Likelihood;
use super::pack::{Ask, Pack};
use super::pass::State;
use crate::model::{Logits, Model, exp_gap, exp_sum, largest};
use anyhow::Result;
use candle_core::{Device, IndexOp, Tensor};
use candle_transformers::generation::LogitsProcessor;
use rayon::prelude::*;

/// The likelihoods of a pack's candidates, by text, under one keep set.
pub(super) type Scored = (usize, Vec<Vec<Likelihood>>);

/// What is known of one row's logits so far.
#[derive(Clone, Copy)]
struct Row {
    /// Σ e^(logit − highest).
    sum: f64,
    highest: f32,
}

impl Row {
    const NONE: Self = Self {
        sum: 0.0,
        highest: f32::NEG_INFINITY,
    };

    /// Adds the logits of a block of tokens.
    fn add(&mut self, logits: &[f32]) {
        let (sum, highest) = exp_sum(logits);
        if highest > self.highest {
            self.sum *= f64::from(self.highest - highest).exp();
            self.highest = highest;
        }
        self.sum += f64::from(sum) * f64::from(highest - self.highest).exp();
    }

    /// ln Σ e^logit.
    fn norm(&self) -> f64 {
        f64::from(self.highest) + self.sum.ln()
    }
}

/// The first token with the highest logit so far.
#[derive(Clone, Copy)]
struct Best {
    logit: f32,
    token: u32,
}

impl Best {
    const NONE: Self = Self {
        logit: f32::NEG_INFINITY,
        token: 0,
    };

    /// Looks at a block of tokens.
    fn add(&mut self, first: usize, logits: &[f32]) {
        let logit = largest(logits);
        if logit > self.logit {
            let at = logits.iter().position(|&other| other == logit);
            let token = (first + at.unwrap_or(0)) as u32;
            *self = Self { logit, token };
        }
    }
}

/// The likelihoods of the packs' candidates from their last states, of each pack by keep set.
///
/// # Errors
/// What candle reports.
pub(super) fn likelihoods(
    model: &Model,
    packs: &[Pack],
    states: impl IntoIterator<Item = Vec<State>>,
) -> Result<Vec<Vec<Scored>>> {
    // One product for all: where the head is read from the file, it is read once.
    let (mut hidden, mut wanted, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = 0;
    for (pack, states) in packs.iter().zip(states) {
        let asked = pack.asked();
        let nodes = predicting(&asked);
        let mut masks = Vec::with_capacity(states.len());
        for state in states.into_iter().filter(|_| !nodes.is_empty()) {
            let row = |ask: &Ask| rows + nodes.binary_search(&ask.node).unwrap_or(0);
            wanted.extend(asked.iter().map(|ask| (row(ask), ask.token)));
            hidden.push(select(&state.hidden, &nodes)?);
            rows += nodes.len();
            masks.push(state.masks);
        }
        jobs.push((pack, asked, masks));
    }
    let mut found = match hidden.is_empty() {
        true => Vec::new(),
        false => log_probs(model, &Tensor::cat(&hidden, 0)?, &wanted)?,
    }
    .into_iter();
    let job = |(pack, asked, states): (&Pack, Vec<Ask>, Vec<Vec<usize>>)| {
        let mut all = Vec::new();
        for masks in states {
            let scored = collect(pack, &asked, &mut found);
            all.extend(masks.into_iter().map(|mask| (mask, scored.clone())));
        }
        all
    };
    Ok(jobs.into_iter().map(job).collect())
}

/// The nodes after which a token is asked for, in order.
pub(super) fn predicting(asked: &[Ask]) -> Vec<usize> {
    let mut nodes: Vec<usize> = asked.iter().map(|ask| ask.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// Sums tokens by candidate.
pub(super) fn collect(
    pack: &Pack,
    asked: &[Ask],
    found: &mut impl Iterator<Item = Likelihood>,
) -> Vec<Vec<Likelihood>> {
    let certain = Likelihood {
        log_prob: 0.0,
        greedy: true,
    };
    let texts = pack.texts.iter();
    let mut scored: Vec<Vec<Likelihood>> = texts
        .map(|text| vec![certain; text.candidates.len()])
        .collect();
    for (ask, token) in asked.iter().zip(found) {
        let score = &mut scored[ask.text][ask.candidate];
        score.log_prob += token.log_prob;
        score.greedy &= token.greedy;
    }
    scored
}

/// The log-probability of tokens after rows of [rows, hidden_size]: of (row, token), and whether the
/// token is the likeliest.
fn log_probs(model: &Model, hidden: &Tensor, wanted: &[(usize, u32)]) -> Result<Vec<Likelihood>> {
    let mut found = Wanted::new(wanted);
    let rows = rows(model, hidden, |logits| found.look(logits))?;
    Ok(found.likelihoods(&rows))
}

/// The same, and how far rows are from the original's: the first `n` rows are the original's, and
/// every `n` rows after them another candidate's at the same places. Of each of these rows
/// KL(original ‖ candidate), nats.
pub(super) fn compared(
    model: &Model,
    hidden: &Tensor,
    n: usize,
    wanted: &[(usize, u32)],
) -> Result<(Vec<Likelihood>, Vec<f64>)> {
    let mut found = Wanted::new(wanted);
    let mut gaps = vec![Gap::NONE; hidden.dim(0)?.saturating_sub(n)];
    // The original's logits for the tokens at hand, [n, tokens].
    let mut original = Vec::new();
    let rows = rows(model, hidden, |logits| {
        found.look(logits);
        let tokens = logits.tokens().max(1);
        let of_original = n.saturating_sub(logits.rows.start).min(logits.rows.len());
        let (firsts, others) = logits.values.split_at(of_original * tokens);
        if logits.rows.start == 0 {
            original.clear();
        }
        original.extend_from_slice(firsts);
        let at = (logits.rows.start + of_original).saturating_sub(n);
        gaps[at..]
            .par_iter_mut()
            .zip(others.par_chunks_exact(tokens))
            .enumerate()
            .for_each(|(i, (gap, other))| {
                let row = (at + i) % n * tokens;
                gap.add(&original[row..row + tokens], other);
            });
    })?;
    let gap = |(i, gap): (usize, Gap)| gap.divergence(&rows[i % n], &rows[i + n]);
    let gaps = gaps.into_iter().enumerate().map(gap).collect();
    Ok((found.likelihoods(&rows), gaps))
}

/// Tokens whose logits after some rows are wanted.
struct Wanted<'w> {
    wanted: &'w [(usize, u32)],
    /// By row.
    order: Vec<usize>,
    logits: Vec<f32>,
}

impl<'w> Wanted<'w> {
    fn new(wanted: &'w [(usize, u32)]) -> Self {
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        order.sort_by_key(|&i| wanted[i].0);
        Self {
            logits: vec![f32::NEG_INFINITY; wanted.len()],
            wanted,
            order,
        }
    }

    fn look(&mut self, logits: &Logits) {
        let before = |row: usize| self.order.partition_point(|&i| self.wanted[i].0 < row);
        let mine = before(logits.rows.start)..before(logits.rows.end);
        for &i in &self.order[mine] {
            let (row, token) = self.wanted[i];
            let token = (token as usize).checked_sub(logits.first_token);
            if let Some(token) = token.filter(|&token| token < logits.tokens()) {
                let row = row - logits.rows.start;
                self.logits[i] = logits.values[row * logits.tokens() + token];
            }
        }
    }

    fn likelihoods(&self, rows: &[Row]) -> Vec<Likelihood> {
        let likelihood = |(&(row, _), &logit): (&(usize, u32), &f32)| Likelihood {
            log_prob: f64::from(logit) - rows[row].norm(),
            greedy: logit >= rows[row].highest,
        };
        self.wanted
            .iter()
            .zip(&self.logits)
            .map(likelihood)
            .collect()
    }
}

/// How far a row of logits is from the original's, as far as they were seen.
#[derive(Clone, Copy)]
struct Gap {
    /// Σ e^(original − highest) · (original − other).
    sum: f64,
    /// The original's highest.
    highest: f32,
}

impl Gap {
    const NONE: Self = Self {
        sum: 0.0,
        highest: f32::NEG_INFINITY,
    };

    fn add(&mut self, original: &[f32], other: &[f32]) {
        let highest = largest(original);
        if highest > self.highest {
            self.sum *= f64::from(self.highest - highest).exp();
            self.highest = highest;
        }
        self.sum += f64::from(exp_gap(original, other, self.highest));
    }

    /// Σ p (ln p − ln q) = Σ p (a − b) − ln Σ e^a + ln Σ e^b, never below 0 but for rounding.
    fn divergence(self, original: &Row, other: &Row) -> f64 {
        (self.sum / original.sum - original.norm() + other.norm()).max(0.0)
    }
}

/// The token after each row of [rows, hidden_size]: drawn, where something draws, else the likeliest.
///
/// # Errors
/// What candle reports.
pub(super) fn next_tokens(
    model: &Model,
    hidden: &Tensor,
    draws: Vec<Option<&mut LogitsProcessor>>,
) -> Result<Vec<u32>> {
    let vocab_size = model.config().vocab_size;
    let mut drawn: Vec<Vec<f32>> = draws
        .iter()
        .map(|draw| vec![0.0; if draw.is_some() { vocab_size } else { 0 }])
        .collect();
    let mut best = vec![Best::NONE; hidden.dim(0)?];
    model.visit_logits(hidden, |logits| {
        let (n, first) = (logits.tokens(), logits.first_token);
        best[logits.rows.clone()]
            .par_iter_mut()
            .zip(&mut drawn[logits.rows.clone()])
            .zip(logits.values.par_chunks_exact(n.max(1)))
            .for_each(|((best, drawn), values)| match drawn.is_empty() {
                true => best.add(first, values),
                false => drawn[first..first + n].copy_from_slice(values),
            });
        Ok(())
    })?;
    let token =
        |((best, draw), logits): ((Best, Option<&mut LogitsProcessor>), Vec<f32>)| match draw {
            None => Ok(best.token),
            Some(draw) => Ok(draw.sample(&Tensor::from_vec(logits, vocab_size, &Device::Cpu)?)?),
        };
    best.into_iter().zip(draws).zip(drawn).map(token).collect()
}

fn rows(model: &Model, hidden: &Tensor, mut visit: impl FnMut(&Logits)) -> Result<Vec<Row>> {
    let mut rows = vec![Row::NONE; hidden.dim(0)?];
    model.visit_logits(hidden, |logits| {
        rows[logits.rows.clone()]
            .par_iter_mut()
            .zip(logits.values.par_chunks_exact(logits.tokens().max(1)))
            .for_each(|(row, values)| row.add(values));
        visit(&logits);
        Ok(())
    })?;
    Ok(rows)
}

/// Some rows of [1, tokens, hidden_size]: [rows, hidden_size].
///
/// # Errors
/// What candle reports.
pub(super) fn select(hidden: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    let index = Tensor::new(index, hidden.device())?;
    Ok(hidden.i(0)?.index_select(&index, 0)?)
}
