//! slim's own: down one layer at a time by what is to be preserved, measured anew at every step with the
//! compensation in place; the best of that and of other methods' sets is refined by swaps; and of the
//! last few the one that writes best is taken.

use super::greedy::{by_perplexity, path};
use super::swaps::{Tried, losses};
use super::{Choice, Method, Search, by_cost, span};
use crate::arch::KeepSet;
use anyhow::Result;

/// Cheap methods whose sets are tried too.
const SEEDS: &[&dyn Method] = &[
    &by_cost::INFLUENCE,
    &by_cost::ABLATION,
    &by_cost::CLUSTERS,
    &span::Angular,
];

pub(super) struct Iterative;

impl Method for Iterative {
    fn name(&self) -> &'static str {
        "iterative"
    }

    fn about(&self) -> &'static str {
        "slim's own: step by step by the preserved families, then swaps, then the best writer"
    }

    fn choose(&self, search: &Search, sizes: &[usize]) -> Result<Vec<Choice>> {
        let own = self.curve(search, sizes)?;
        // SLEB's way at a fraction of its cost: not every layer is tried at every step.
        let alone = by_cost::perplexities(search)?;
        let by_text = by_perplexity(search, alone.clone(), search.candidates, sizes)?;
        let refined = |(own, by_text): (Choice, Choice)| {
            let at_once = search.cheapest(&alone, own.keep.len())?;
            refine(search, own, vec![by_text.keep, at_once])
        };
        own.into_iter().zip(by_text).map(refined).collect()
    }

    fn curve(&self, search: &Search, sizes: &[usize]) -> Result<Vec<Choice>> {
        let judge = |sets: &[KeepSet], worth: u64| losses(search, sets, worth);
        path(search, search.expected(), search.candidates, sizes, judge)
    }
}

fn refine(search: &Search, choice: Choice, others: Vec<KeepSet>) -> Result<Choice> {
    let size = choice.keep.len();
    if size == search.scope.n_layers() {
        return Ok(choice);
    }
    let mut first = others;
    first.push(choice.keep.clone());
    for method in SEEDS {
        // Not every method has a set of every size under every pattern.
        let found = method.choose(search, &[size]);
        first.extend(found.into_iter().flatten().map(|seed| seed.keep));
    }
    let mut tried = Tried::new(search, "trying swaps", first)?;
    let costs = search.expected();
    let gone = |set: &KeepSet| set.dropped(search.scope.n_layers());
    let expected = |set: &KeepSet| gone(set).iter().map(|&layer| costs[layer]).sum();
    tried.improve(|best| Ok(search.scope.swaps(best)), expected)?;
    Ok(Choice {
        steps: choice.steps,
        keep: tried.best_writer()?,
    })
}
