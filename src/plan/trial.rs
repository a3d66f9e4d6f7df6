//! Trying candidates: what each loses on some questions, compared with the original.

use super::compensation::Scales;
use super::objective::{Loss, Objective};
use crate::arch::KeepSet;
use crate::eval::{Candidate, Compared, Engine, Mended, Progress, Question, Reference};
use crate::model::Model;
use crate::suite::Family;
use anyhow::{Context, Result};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Texts on which candidates are tried, and how the original reads them.
pub struct Trial<'a, Q> {
    engine: Engine<'a>,
    questions: &'a [Q],
    original: Vec<Vec<Compared>>,
    reference: Reference,
    /// How candidates are mended while they are tried; absent, not at all.
    scales: Option<&'a Scales>,
    /// Layer passes of tokens that were spent.
    spent: Cell<u64>,
}

impl<'a, Q: AsRef<[Candidate]>> Trial<'a, Q> {
    /// Reads the questions with the original.
    ///
    /// # Errors
    /// What the engine reports.
    pub fn new(
        model: &'a Model,
        questions: &'a [Q],
        scales: Option<&'a Scales>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let engine = Engine::new(model);
        let all = [KeepSet::all(model.n_layers())];
        let work = engine.work(questions, &all);
        progress.begin("asking the original", 2 * work);
        let reference = engine.reference(questions, progress)?;
        let original = engine.compare(questions, &all, &reference, progress)?;
        Ok(Self {
            original: original.into_iter().next().context("no answers")?,
            engine,
            questions,
            reference,
            scales,
            spent: Cell::new(2 * work),
        })
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Layer passes of tokens that were spent so far.
    pub fn spent(&self) -> u64 {
        self.spent.get()
    }

    /// Layer passes of tokens that trying some sets takes.
    pub fn work(&self, sets: &[KeepSet]) -> u64 {
        self.engine.work(self.questions, sets)
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
        let work = self.engine.work(self.questions, masks);
        self.spent.set(self.spent.get() + work);
        self.engine
            .compare(self.questions, masks, &self.reference, progress)
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
        let before = self.mean(&self.original, surprise);
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
    /// What each candidate loses, and what every family retains; see [`Objective::retained`]. `copying` has what
    /// each loses of copying, for [`Objective::judge`].
    ///
    /// # Errors
    /// As of [`Self::answers`].
    pub fn judged(
        &self,
        objective: &Objective,
        masks: &[Mended],
        copying: &[f64],
        progress: &dyn Progress,
    ) -> Result<Vec<(Loss, BTreeMap<Family, f64>)>> {
        let answers = self.answers_of(masks, progress)?;
        let one = |(i, after): (usize, &Vec<Vec<Compared>>)| {
            let (questions, before) = (self.questions, &self.original);
            (
                objective.judge(questions, before, after, copying.get(i).copied()),
                objective.retained(questions, before, after),
            )
        };
        Ok(answers.iter().enumerate().map(one).collect())
    }
}
