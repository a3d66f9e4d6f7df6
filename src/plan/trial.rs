//! Trying candidates: what each loses on some questions, compared with the original.

use super::compensation::Scales;
use super::objective::{Loss, Objective, Unasked};
use crate::arch::KeepSet;
use crate::eval::{Candidate, Compared, Engine, Mended, Progress, Question, Reference};
use crate::model::Model;
use crate::suite::Family;
use anyhow::{Context, Result};
use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;

/// The original, to compare with.
struct Read {
    answers: Vec<Vec<Compared>>,
    reference: Reference,
}

/// Texts on which candidates are tried, and how the original reads them.
pub struct Trial<'a, Q> {
    engine: Engine<'a>,
    questions: &'a [Q],
    original: [KeepSet; 1],
    /// How the original reads them, since something was asked of a candidate: not every method asks everything.
    read: OnceCell<Read>,
    /// How candidates are mended while they are tried; absent, not at all.
    scales: Option<&'a Scales>,
    /// Layer passes of tokens that were spent.
    spent: Cell<u64>,
}

impl<'a, Q: AsRef<[Candidate]>> Trial<'a, Q> {
    /// Of some texts; nothing is read yet.
    pub fn new(model: &'a Model, questions: &'a [Q], scales: Option<&'a Scales>) -> Self {
        Self {
            engine: Engine::new(model),
            questions,
            original: [KeepSet::all(model.n_layers())],
            read: OnceCell::new(),
            scales,
            spent: Cell::new(0),
        }
    }

    fn read(&self, progress: &dyn Progress) -> Result<&Read> {
        if let Some(read) = self.read.get() {
            return Ok(read);
        }
        self.spent.set(self.spent.get() + self.unread_work());
        let reference = self.engine.reference(self.questions, progress)?;
        let answers = self
            .engine
            .compare(self.questions, &self.original, &reference, progress)?;
        let answers = answers.into_iter().next().context("no answers")?;
        Ok(self.read.get_or_init(|| Read { answers, reference }))
    }

    /// What reading the texts with the original will take, if that is still to be done.
    fn unread_work(&self) -> u64 {
        match self.read.get() {
            Some(_) => 0,
            None => 2 * self.engine.work(self.questions, &self.original),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Layer passes of tokens that were spent so far.
    pub fn spent(&self) -> u64 {
        self.spent.get()
    }

    /// Layer passes of tokens that trying some sets takes; the first time, with reading the original.
    pub fn work(&self, sets: &[KeepSet]) -> u64 {
        self.unread_work() + self.engine.work(self.questions, sets)
    }

    /// What candidates make of the texts: `[set][question][candidate]`.
    ///
    /// # Errors
    /// What the engine reports.
    pub fn answers(
        &self,
        sets: &[KeepSet],
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Vec<Compared>>>> {
        let masks: Vec<Mended> = sets.iter().map(|keep| self.mended(keep)).collect();
        self.answers_of(&masks, progress)
    }

    fn answers_of(
        &self,
        masks: &[Mended],
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Vec<Compared>>>> {
        let read = self.read(progress)?;
        let work = self.engine.work(self.questions, masks);
        self.spent.set(self.spent.get() + work);
        self.engine
            .compare(self.questions, masks, &read.reference, progress)
    }

    /// A set as it is tried.
    pub fn mended(&self, keep: &KeepSet) -> Mended {
        match self.scales {
            Some(scales) => scales.mend(keep),
            None => Mended {
                keep: keep.clone(),
                mends: BTreeMap::new(),
            },
        }
    }

    /// Mean of a number over the tokens of all texts, for each set.
    fn means(
        &self,
        masks: &[Mended],
        progress: &dyn Progress,
        of: impl Fn(&Compared) -> f64,
    ) -> Result<Vec<f64>> {
        let answers = self.answers_of(masks, progress)?;
        let means = answers.iter().map(|answers| self.mean(answers, &of));
        Ok(means.collect())
    }

    fn mean(&self, answers: &[Vec<Compared>], of: impl Fn(&Compared) -> f64) -> f64 {
        let candidates = self.questions.iter().flat_map(|question| question.as_ref());
        let tokens: usize = candidates.map(|candidate| candidate.tokens.len()).sum();
        answers.iter().flatten().map(of).sum::<f64>() / tokens.max(1) as f64
    }

    /// By how many nats a token is less likely than in the original: the rise of the perplexity's log.
    ///
    /// # Errors
    /// As of [`Self::answers`].
    pub fn surprises(&self, sets: &[KeepSet], progress: &dyn Progress) -> Result<Vec<f64>> {
        let masks: Vec<Mended> = sets.iter().map(|keep| self.mended(keep)).collect();
        let surprise = |found: &Compared| -found.likelihood.log_prob;
        let before = self.mean(&self.read(progress)?.answers, surprise);
        let after = self.means(&masks, progress, surprise)?;
        Ok(after.into_iter().map(|after| after - before).collect())
    }

    /// Mean KL(original ‖ candidate) of a token, nats.
    ///
    /// # Errors
    /// As of [`Self::answers`].
    pub fn divergences(&self, sets: &[KeepSet], progress: &dyn Progress) -> Result<Vec<f64>> {
        let masks: Vec<Mended> = sets.iter().map(|keep| self.mended(keep)).collect();
        self.divergences_of(&masks, progress)
    }

    /// The same of sets that are mended in their own way.
    ///
    /// # Errors
    /// As of [`Self::answers`].
    pub fn divergences_of(&self, masks: &[Mended], progress: &dyn Progress) -> Result<Vec<f64>> {
        self.means(masks, progress, |found| found.divergence)
    }
}

impl Trial<'_, &Question<'_>> {
    /// What each candidate loses, and what every family retains; see [`Objective::judge`], for which `unasked` has
    /// something of each candidate, and [`Objective::retained`].
    ///
    /// # Errors
    /// As of [`Self::answers`].
    pub fn judged(
        &self,
        objective: &Objective,
        masks: &[Mended],
        unasked: &[Unasked],
        progress: &dyn Progress,
    ) -> Result<Vec<(Loss, BTreeMap<Family, f64>)>> {
        let before = &self.read(progress)?.answers;
        let answers = self.answers_of(masks, progress)?;
        let one = |(after, unasked): (&Vec<Vec<Compared>>, &Unasked)| {
            let questions = self.questions;
            (
                objective.judge(questions, before, after, *unasked),
                objective.retained(questions, before, after),
            )
        };
        Ok(answers.iter().zip(unasked).map(one).collect())
    }
}
