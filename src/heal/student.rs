//! The pruned model under its lessons: how far it is off, and the gradients of that.

use super::cuts::Hint;
use super::exercise::Exercise;
use super::loss::{Next, distance, divergence, log_sum_exp};
use crate::model::{Frame, Trainable};
use anyhow::{Context, Result};
use candle_core::{D, DType, Tensor, Var};
use std::ops::{AddAssign, Range};

/// Numbers of a row of logits that are held at once: a few copies of them are needed.
const LOGITS: usize = 1 << 23;

/// How far a model is from the original on some tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gap {
    /// Tokens.
    pub tokens: usize,
    /// Σ KL(original ‖ pruned) of what comes next after each, nats.
    pub divergence: f64,
    /// Σ over hints and tokens of the distance of states.
    pub distance: f64,
    /// Tokens whose probability is known: all but the first of each text.
    pub scored: usize,
    /// Σ −ln of those.
    pub surprise: f64,
}

impl AddAssign for Gap {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.divergence += other.divergence;
        self.distance += other.distance;
        self.scored += other.scored;
        self.surprise += other.surprise;
    }
}

/// The sums of gradients, a parameter each, in the order of [`Trainable::parameters`].
pub type Gradients = Vec<Option<Tensor>>;

/// The pruned model, learning.
pub struct Student {
    model: Trainable,
    hints: Vec<Hint>,
}

/// Texts of the same length that go through the layers together.
struct Batch<'e> {
    exercises: &'e [&'e Exercise],
    frame: Frame,
    length: usize,
}

impl Student {
    /// A model that learns, and which of its states should be the original's.
    pub fn new(model: Trainable, hints: &[Hint]) -> Self {
        Self {
            model,
            hints: hints.to_vec(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Trainable {
        &self.model
    }

    /// How far it is off on texts of the same length.
    ///
    /// # Errors
    /// What candle reports.
    pub fn gap(&mut self, exercises: &[&Exercise]) -> Result<Gap> {
        let batch = self.batch(exercises)?;
        let mut gap = Gap {
            tokens: exercises.len() * batch.length,
            ..Gap::default()
        };
        let mut hidden = self.start(&batch)?;
        for layer in self.layers() {
            hidden = self.model.layer(layer, &hidden, &batch.frame, false)?;
            for hint in self.hints_at(layer) {
                let far = distance(&hidden, &batch.state(hint, &hidden)?)?;
                gap.distance += f64::from(far.to_scalar::<f32>()?);
            }
        }
        let rows = hidden.flatten(0, 1)?;
        for part in self.parts(gap.tokens) {
            let logits = self
                .model
                .logits(&rows.narrow(0, part.start, part.len())?, false)?;
            let log_sums = log_sum_exp(&logits)?;
            let far = divergence(&logits, &log_sums, &batch.next(part.clone()))?;
            gap.divergence += f64::from(far.to_scalar::<f32>()?);
            let (scored, surprise) = batch.surprise(&logits, &log_sums, part)?;
            gap.scored += scored;
            gap.surprise += surprise;
        }
        Ok(gap)
    }

    /// Adds the gradients of `weight` · (divergence + `hidden_weight` · distance) of texts of the same
    /// length; gives what these were, without what they surprise by.
    ///
    /// Gradients go down layer by layer, each computed again with a graph of its own: so there is one
    /// layer's in memory at a time, for a quarter of the time more (Chen et al., arXiv 1604.06174).
    ///
    /// # Errors
    /// What candle reports.
    pub fn learn(
        &mut self,
        exercises: &[&Exercise],
        weight: f64,
        hidden_weight: f64,
        gradients: &mut Gradients,
    ) -> Result<Gap> {
        let batch = self.batch(exercises)?;
        let mut gap = Gap {
            tokens: exercises.len() * batch.length,
            ..Gap::default()
        };
        let mut states = vec![self.start(&batch)?];
        for layer in self.layers() {
            let last = states.last().context("no state")?;
            states.push(self.model.layer(layer, last, &batch.frame, false)?);
        }
        let last = states.pop().context("no state")?;
        let mut gradient = self.learn_next(&last, &batch, weight, gradients, &mut gap)?;
        let mut output = last;
        for (layer, input) in self.layers().zip(states).rev() {
            for hint in self.hints_at(layer) {
                let state = Var::from_tensor(&output.to_dtype(DType::F32)?)?;
                let far = distance(&state, &batch.state(hint, &output)?)?;
                gap.distance += f64::from(far.to_scalar::<f32>()?);
                let found = (far * (weight * hidden_weight))?.backward()?;
                let own = found.get(&state).context("a hint has no gradient")?;
                gradient = (gradient + own.detach().to_dtype(output.dtype())?)?;
            }
            let is_first = layer == self.model.first();
            let input = match is_first {
                true => input,
                false => Var::from_tensor(&input)?.into_inner(),
            };
            let computed = self.model.layer(layer, &input, &batch.frame, true)?;
            let found = (&computed * &gradient)?.sum_all()?.backward()?;
            self.collect(&found, gradients)?;
            if !is_first {
                let below = found.get(&input).context("a layer has no gradient")?;
                gradient = below.detach();
            }
            output = input.detach();
        }
        Ok(gap)
    }

    /// The head's part: the gradient for the last states.
    fn learn_next(
        &self,
        last: &Tensor,
        batch: &Batch,
        weight: f64,
        gradients: &mut Gradients,
        gap: &mut Gap,
    ) -> Result<Tensor> {
        let rows = last.flatten(0, 1)?;
        let mut parts = Vec::new();
        for part in self.parts(gap.tokens) {
            let rows = rows.narrow(0, part.start, part.len())?;
            let rows = Var::from_tensor(&rows.contiguous()?)?;
            let logits = self.model.logits(&rows, true)?;
            let far = divergence(&logits, &log_sum_exp(&logits)?, &batch.next(part))?;
            gap.divergence += f64::from(far.to_scalar::<f32>()?);
            let found = (far * weight)?.backward()?;
            self.collect(&found, gradients)?;
            parts.push(
                found
                    .get(&rows)
                    .context("the head has no gradient")?
                    .detach(),
            );
        }
        Ok(Tensor::cat(&parts, 0)?.reshape(last.shape())?)
    }

    fn collect(
        &self,
        found: &candle_core::backprop::GradStore,
        gradients: &mut Gradients,
    ) -> Result<()> {
        gradients.resize(self.model.parameters().count(), None);
        for (sum, parameter) in gradients.iter_mut().zip(self.model.parameters()) {
            if let Some(gradient) = found.get(parameter.var()) {
                // candle's gradients of variables hold the graph that made them.
                let gradient = gradient.detach();
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + gradient)?,
                    None => gradient,
                });
            }
        }
        Ok(())
    }

    fn batch<'e>(&self, exercises: &'e [&'e Exercise]) -> Result<Batch<'e>> {
        let length = exercises.first().map_or(0, |one| one.tokens.len());
        Ok(Batch {
            exercises,
            frame: self.model.frame(length)?,
            length,
        })
    }

    /// The states that come to the first layer that trains, [texts, length, hidden_size].
    fn start(&self, batch: &Batch) -> Result<Tensor> {
        let starts: Vec<&Tensor> = batch.exercises.iter().map(|one| &one.start).collect();
        let start = Tensor::stack(&starts, 0)?.to_device(self.model.model().device())?;
        Ok(start.to_dtype(self.model.dtype())?)
    }

    fn layers(&self) -> Range<usize> {
        self.model.first()..self.model.model().n_layers()
    }

    fn hints_at(&self, layer: usize) -> Vec<usize> {
        let hints = self.hints.iter().enumerate();
        let at = hints.filter(|(_, hint)| hint.pruned == layer);
        at.map(|(number, _)| number).collect()
    }

    /// Rows whose logits are held at once.
    fn parts(&self, rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let some = (LOGITS / self.model.model().config().vocab_size.max(1)).max(1);
        (0..rows)
            .step_by(some)
            .map(move |start| start..(start + some).min(rows))
    }
}

impl Batch<'_> {
    /// The original's states at a hint, on the device of `like`.
    fn state(&self, hint: usize, like: &Tensor) -> Result<Tensor> {
        let states = self.exercises.iter().map(|one| one.lesson.states.get(hint));
        let states: Option<Vec<&Tensor>> = states.collect();
        let states = states.context("a lesson without its states")?;
        Ok(Tensor::stack(&states, 0)?.to_device(like.device())?)
    }

    /// What the original gives next after some of the rows.
    fn next(&self, rows: Range<usize>) -> Next {
        let mut next = Next::default();
        for (text, one) in self.exercises.iter().enumerate() {
            let clamped = |row: usize| row.clamp(text * self.length, (text + 1) * self.length);
            let own =
                clamped(rows.start) - text * self.length..clamped(rows.end) - text * self.length;
            if !own.is_empty() {
                next.append(&one.lesson.next.part(own));
            }
        }
        next
    }

    /// How many of the rows have a token after them, and Σ −ln of its probability.
    fn surprise(
        &self,
        logits: &Tensor,
        log_sums: &Tensor,
        rows: Range<usize>,
    ) -> Result<(usize, f64)> {
        let following = |row: usize| {
            let tokens = &self.exercises.get(row / self.length)?.tokens;
            tokens.get(row % self.length + 1).copied()
        };
        let following: Vec<Option<u32>> = rows.map(following).collect();
        let counts = following
            .iter()
            .map(|token| f32::from(u8::from(token.is_some())));
        let tokens: Vec<u32> = following.iter().map(|token| token.unwrap_or(0)).collect();
        let (rows, device) = ((following.len(), 1), logits.device());
        let counts = Tensor::from_vec(counts.collect::<Vec<f32>>(), rows, device)?;
        let own = logits.gather(&Tensor::from_vec(tokens, rows, device)?, D::Minus1)?;
        let surprise = ((log_sums - own)? * counts)?.sum_all()?;
        let scored = following.iter().flatten().count();
        Ok((scored, f64::from(surprise.to_scalar::<f32>()?)))
    }
}
