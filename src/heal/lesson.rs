//! What the original says of a text: what the pruned model is to learn.

use super::cuts::Hint;
use super::loss::{LEAST_REST, Next};
use crate::model::{Model, Run, exp_sum};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

/// Tokens that have a place of their own in [`Next`]: of a trained model they have nearly all of
/// the probability.
const MOST_PLACES: usize = 512;

/// What the original says of one text.
pub struct Lesson {
    /// What it gives next at each token.
    pub next: Next,
    /// Its states at the hints, [tokens, hidden_size] each, on the CPU.
    pub states: Vec<Tensor>,
    /// Its state where the pruned model begins to differ, [tokens, hidden_size], if that was wanted.
    pub start: Option<Tensor>,
    /// Σ −ln of the probability that it gives to the text's own tokens after the first, nats.
    pub surprise: f64,
}

/// A model that teaches.
pub struct Original<'m> {
    model: &'m Model,
    hints: Vec<Hint>,
    shared: Option<usize>,
}

impl<'m> Original<'m> {
    /// The original, which of its states are to be learned (bottom up), and below which layer the pruned model
    /// is the same, if that is known.
    pub fn new(model: &'m Model, hints: &[Hint], shared: Option<usize>) -> Self {
        Self {
            model,
            hints: hints.to_vec(),
            shared,
        }
    }

    /// What it says of texts of the same length.
    ///
    /// # Errors
    /// A token that is not in the vocabulary; what candle reports.
    pub fn lessons(&self, texts: &[&[u32]]) -> Result<Vec<Lesson>> {
        let length = texts.first().map_or(0, |text| text.len());
        let frame = self.model.frame(Run::after(0, length))?;
        let hidden = self.model.embed(&texts.concat())?;
        let mut hidden = hidden.reshape((texts.len(), length, ()))?;
        let mut states = vec![Vec::with_capacity(self.hints.len()); texts.len()];
        let mut starts = vec![None; texts.len()];
        for layer in 0..self.model.n_layers() {
            if self.shared == Some(layer) {
                starts = each(&hidden)?.into_iter().map(Some).collect();
            }
            hidden = self.model.layer(layer, &hidden, &frame)?;
            for hint in self.hints.iter().filter(|hint| hint.original == layer) {
                for (states, state) in states.iter_mut().zip(each(&hidden)?) {
                    states.push((state * hint.scale)?);
                }
            }
        }
        let rows = self.likeliest(&hidden.flatten(0, 1)?, texts)?;
        let lessons = rows.chunks(length.max(1)).zip(states).zip(starts);
        let lesson = |((rows, states), start)| self.lesson(rows, states, start);
        Ok(lessons.map(lesson).collect())
    }

    /// What comes next after each row of last states.
    fn likeliest(&self, hidden: &Tensor, texts: &[&[u32]]) -> Result<Vec<Likeliest>> {
        let k = self.places();
        let following = texts.iter().flat_map(|text| {
            let after_first = text.iter().skip(1).map(|&token| Some(token));
            after_first.chain([None])
        });
        let mut rows: Vec<Likeliest> = following.map(Likeliest::before).collect();
        self.model.visit_logits(hidden, |logits| {
            let tokens = logits.tokens();
            let some = rows.get_mut(logits.rows).unwrap_or_default();
            let values = logits.values.par_chunks_exact(tokens.max(1));
            some.par_iter_mut()
                .zip(values)
                .for_each(|(row, values)| row.see(logits.first_token, values, k));
            Ok(())
        })?;
        Ok(rows)
    }

    fn lesson(&self, rows: &[Likeliest], states: Vec<Tensor>, start: Option<Tensor>) -> Lesson {
        let mut lesson = Lesson {
            next: Next {
                k: self.places(),
                ..Next::default()
            },
            states,
            start,
            surprise: 0.0,
        };
        for row in rows {
            row.tell(&mut lesson.next);
            lesson.surprise += row.surprise();
        }
        lesson
    }

    fn places(&self) -> usize {
        MOST_PLACES.min(self.model.config().vocab_size)
    }
}

/// The states of texts one by one, in 32 bits on the CPU: copies, so that no other text's memory
/// stays with them.
pub(super) fn each(states: &Tensor) -> Result<Vec<Tensor>> {
    let states = states.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let texts = 0..states.dim(0)?;
    texts
        .map(|text| Ok(states.get(text)?.force_contiguous()?))
        .collect()
}

/// The likeliest tokens of a row, and the sum over all, found some tokens at a time.
struct Likeliest {
    /// Logits and tokens, more than wanted in between.
    found: Vec<(f32, u32)>,
    /// What is not above this is not among the likeliest.
    bound: f32,
    highest: f64,
    /// Σ e^(x − highest).
    sum: f64,
    /// The token that follows in the text, and its logit.
    following: Option<(u32, f32)>,
}

impl Likeliest {
    fn before(following: Option<u32>) -> Self {
        Self {
            found: Vec::new(),
            bound: f32::NEG_INFINITY,
            highest: f64::NEG_INFINITY,
            sum: 0.0,
            following: following.map(|token| (token, f32::NAN)),
        }
    }

    fn see(&mut self, first_token: usize, logits: &[f32], k: usize) {
        let (sum, highest) = exp_sum(logits);
        let (sum, highest) = (f64::from(sum), f64::from(highest));
        let higher = highest.max(self.highest);
        if higher.is_finite() {
            self.sum = self.sum * (self.highest - higher).exp() + sum * (highest - higher).exp();
            self.highest = higher;
        }
        if let Some((token, own)) = &mut self.following {
            let at = (*token as usize).checked_sub(first_token);
            *own = at.and_then(|at| logits.get(at)).copied().unwrap_or(*own);
        }
        for (token, &logit) in (first_token as u32..).zip(logits) {
            if logit > self.bound || self.found.len() < k {
                self.found.push((logit, token));
                if self.found.len() >= 4 * k {
                    self.shrink(k);
                }
            }
        }
        self.shrink(k);
    }

    /// Leaves the k likeliest; of equal ones the first tokens.
    fn shrink(&mut self, k: usize) {
        if self.found.len() <= k {
            return;
        }
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let (_, last, _) = self.found.select_nth_unstable_by(k - 1, order);
        self.bound = last.0;
        self.found.truncate(k);
    }

    fn log_sum(&self) -> f64 {
        self.highest + self.sum.ln()
    }

    /// −ln of the probability of the token that follows.
    fn surprise(&self) -> f64 {
        let following = self.following;
        following.map_or(0.0, |(_, logit)| self.log_sum() - f64::from(logit))
    }

    fn tell(&self, next: &mut Next) {
        let mut found = self.found.clone();
        found.sort_unstable_by_key(|&(_, token)| token);
        let log_sum = self.log_sum();
        let log_probs = found.iter().map(|&(x, _)| f64::from(x) - log_sum);
        let rest = 1.0 - log_probs.clone().map(f64::exp).sum::<f64>();
        next.tokens.extend(found.iter().map(|&(_, token)| token));
        next.log_probs.extend(log_probs.map(|log_p| log_p as f32));
        next.rest.push(match rest > LEAST_REST {
            true => rest as f32,
            false => 0.0,
        });
    }
}
