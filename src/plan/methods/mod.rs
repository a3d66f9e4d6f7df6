//! Ways to choose the layers, one trait for all: those that people know, and slim's own.

mod by_cost;
mod evolution;
mod greedy;
mod halves;
mod iterative;
mod span;
mod swaps;

pub use halves::{Halving, halved};

use super::Step;
use super::objective::{Loss, Objective, Unasked};
use super::scope::Scope;
use super::trial::Trial;
use super::writing::Writing;
use crate::arch::KeepSet;
use crate::eval::{Candidate, Mended, Progress, Question};
use crate::importance::{Profile, Signals};
use crate::suite::Family;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// What methods choose by.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// Which sets may be chosen.
    pub scope: &'a Scope<'a>,
    /// What each layer is worth by itself.
    pub profile: &'a Profile,
    /// What the original's states show.
    pub signals: &'a Signals,
    /// What is to be preserved.
    pub objective: &'a Objective,
    /// A few questions of the select split, for many sets at little cost.
    pub trial: &'a Trial<'a, &'a Question<'a>>,
    /// All of them, for the best sets; absent where there are no more.
    pub jury: Option<&'a Trial<'a, &'a Question<'a>>>,
    /// Plain text, for methods that know no tasks.
    pub texts: &'a Trial<'a, [Candidate; 1]>,
    /// Words without sense, said twice, where copying counts.
    pub copies: &'a Trial<'a, [Candidate; 1]>,
    /// The first of the plain texts, for many sets at little cost.
    pub few_texts: &'a Trial<'a, [Candidate; 1]>,
    /// What candidates write.
    pub writing: &'a Writing<'a>,
    /// Layers, or groups of layers, that are tried at each step.
    pub candidates: usize,
    /// Generations of the evolution, at most.
    pub generations: usize,
    /// Of everything that is drawn.
    pub seed: u64,
    /// Told of all work.
    pub progress: &'a dyn Progress,
}

/// A chosen set.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What stays.
    pub keep: KeepSet,
    /// How it came about, where it came about by steps.
    pub steps: Vec<Step>,
}

/// A way to choose.
pub trait Method: Sync {
    /// As on the command line.
    fn name(&self) -> &'static str;
    /// One line with the source.
    fn about(&self) -> &'static str;
    /// A set of each of some sizes, deepest first.
    ///
    /// # Errors
    /// A size that no allowed set has; what the engine reports.
    fn choose(&self, search: &Search, sizes: &[usize]) -> Result<Vec<Choice>>;
    /// The same for a look at all depths, where each may cost little.
    ///
    /// # Errors
    /// As of [`Self::choose`].
    fn curve(&self, search: &Search, sizes: &[usize]) -> Result<Vec<Choice>> {
        self.choose(search, sizes)
    }
}

/// All methods, slim's own first.
pub static METHODS: &[&dyn Method] = &[
    &iterative::Iterative,
    &by_cost::INFLUENCE,
    &by_cost::ABLATION,
    &by_cost::PERPLEXITY,
    &greedy::Sleb,
    &span::Angular,
    &by_cost::CLUSTERS,
    &evolution::Evolution,
    &by_cost::REVERSE,
    &by_cost::RANDOM,
];

/// The method of a name.
pub fn method(name: &str) -> Option<&'static dyn Method> {
    METHODS.iter().copied().find(|method| method.name() == name)
}

impl Search<'_> {
    /// What sets lose as some questions and the plain text see it.
    ///
    /// # Errors
    /// What the engine reports.
    pub fn losses(
        &self,
        trial: &Trial<&Question>,
        sets: &[KeepSet],
        progress: &dyn Progress,
    ) -> Result<Vec<Loss>> {
        let masks: Vec<Mended> = sets.iter().map(|set| trial.mended(set)).collect();
        let unasked = self.unasked(&masks, progress)?;
        self.asked(trial, &masks, &unasked, progress)
    }

    /// The same where it is known what they lose of texts.
    fn asked(
        &self,
        trial: &Trial<&Question>,
        masks: &[Mended],
        unasked: &[Unasked],
        progress: &dyn Progress,
    ) -> Result<Vec<Loss>> {
        let judged = trial.judged(self.objective, masks, unasked, progress)?;
        Ok(judged.into_iter().map(|(loss, _)| loss).collect())
    }

    /// The same without plain text, and what every family retains.
    ///
    /// # Errors
    /// What the engine reports.
    pub fn judged(
        &self,
        trial: &Trial<&Question>,
        masks: &[Mended],
        progress: &dyn Progress,
    ) -> Result<Vec<(Loss, BTreeMap<Family, f64>)>> {
        let unasked = self.copying(masks, progress)?;
        trial.judged(self.objective, masks, &unasked, progress)
    }

    /// What candidates lose of copying and of plain text.
    fn unasked(&self, masks: &[Mended], progress: &dyn Progress) -> Result<Vec<Unasked>> {
        let mut unasked = self.copying(masks, progress)?;
        let texts = self.texts.divergences_of(masks, progress)?;
        for (unasked, text) in unasked.iter_mut().zip(texts) {
            unasked.plain_text = Some(text);
        }
        Ok(unasked)
    }

    /// What they lose of copying, where it counts.
    fn copying(&self, masks: &[Mended], progress: &dyn Progress) -> Result<Vec<Unasked>> {
        if self.copies.is_empty() {
            return Ok(vec![Unasked::default(); masks.len()]);
        }
        let copying = self.copies.divergences_of(masks, progress)?;
        let one = |copying| Unasked {
            copying: Some(copying),
            plain_text: None,
        };
        Ok(copying.into_iter().map(one).collect())
    }

    /// Layer passes of tokens that [`Self::losses`] takes.
    pub fn work(&self, trial: &Trial<&Question>, sets: &[KeepSet]) -> u64 {
        trial.work(sets) + self.texts.work(sets) + self.copies.work(sets)
    }

    /// All questions of the select split.
    pub fn all(&self) -> &Trial<'_, &Question<'_>> {
        self.jury.unwrap_or(self.trial)
    }

    /// Layer passes of tokens that were spent so far.
    pub fn spent(&self) -> u64 {
        let asked = self.trial.spent() + self.jury.map_or(0, Trial::spent);
        asked + self.texts.spent() + self.copies.spent() + self.few_texts.spent()
    }

    /// The cheapest allowed set of a size.
    fn cheapest(&self, costs: &[f64], size: usize) -> Result<KeepSet> {
        let set = self.scope.cheapest(costs, size);
        set.with_context(|| format!("no allowed set has {size} layers"))
    }

    /// What the profile expects of dropping each layer.
    fn expected(&self) -> Vec<f64> {
        let mut costs = vec![0.0; self.scope.n_layers()];
        for layer in &self.profile.layers {
            costs[layer.layer] = self.objective.expected(layer);
        }
        costs
    }

    fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }
}
