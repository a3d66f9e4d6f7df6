//! slim's own: down one layer at a time by what is to be preserved, measured anew at every step with the
//! compensation in place; the best of that and of the cheap methods' sets is refined by swaps; and of
//! the last few the one that writes best is taken, because likelihood alone passes broken models.

use super::greedy::path;
use super::{Choice, Method, Search, by_cost, span};
use crate::arch::KeepSet;
use crate::eval::Share;
use crate::plan::objective::Loss;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// Cheap methods whose sets are tried too.
const SEEDS: &[&dyn Method] = &[
    &by_cost::INFLUENCE,
    &by_cost::ABLATION,
    &by_cost::CLUSTERS,
    &span::Angular,
];

/// Rounds of swaps, at most, and those without a gain after which there are no more.
const ROUNDS: u64 = 8;
const FRUITLESS: u64 = 2;

/// Sets that write a text in the end.
const FINALISTS: usize = 3;

/// Units of progress of a round.
const ROUND: u64 = 1000;

pub(super) struct Iterative;

impl Method for Iterative {
    fn name(&self) -> &'static str {
        "iterative"
    }

    fn about(&self) -> &'static str {
        "slim's own: step by step by the preserved families, then swaps, then the best writer"
    }

    fn choose(&self, search: &Search, sizes: &[usize]) -> Result<Vec<Choice>> {
        let refine = |choice: Choice| refine(search, choice);
        self.curve(search, sizes)?.into_iter().map(refine).collect()
    }

    fn curve(&self, search: &Search, sizes: &[usize]) -> Result<Vec<Choice>> {
        let judge = |sets: &[KeepSet], worth: u64| losses(search, sets, worth);
        path(search, search.expected(), search.candidates, sizes, judge)
    }
}

fn losses(search: &Search, sets: &[KeepSet], worth: u64) -> Result<Vec<Loss>> {
    let share = Share::new(search.progress, worth, search.trial.work(sets));
    search.trial.losses(search.objective, sets, &share)
}

/// Sets that were tried, with what they lose.
struct Tried<'s, 'a> {
    search: &'s Search<'a>,
    losses: BTreeMap<KeepSet, f64>,
}

impl Tried<'_, '_> {
    fn add(&mut self, mut sets: Vec<KeepSet>, worth: u64) -> Result<()> {
        sets.retain(|set| !self.losses.contains_key(set));
        sets.sort_unstable();
        sets.dedup();
        let found = match sets.is_empty() {
            true => Vec::new(),
            false => losses(self.search, &sets, worth)?,
        };
        let found = found.into_iter().map(|loss| loss.total);
        self.losses.extend(sets.into_iter().zip(found));
        Ok(())
    }

    /// The sets that lose least, best first.
    fn best(&self, n: usize) -> Vec<(&KeepSet, f64)> {
        let mut ranked: Vec<(&KeepSet, f64)> = self.losses.iter().map(|(s, l)| (s, *l)).collect();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        ranked.truncate(n);
        ranked
    }
}

fn refine(search: &Search, choice: Choice) -> Result<Choice> {
    let size = choice.keep.len();
    if size == search.scope.n_layers() {
        return Ok(choice);
    }
    let mut tried = Tried {
        search,
        losses: BTreeMap::new(),
    };
    search.progress.begin("trying swaps", (ROUNDS + 1) * ROUND);
    let mut seeds = vec![choice.keep.clone()];
    for method in SEEDS {
        // Not every method has a set of every size under every pattern.
        let found = method.choose(search, &[size]);
        seeds.extend(found.into_iter().flatten().map(|seed| seed.keep));
    }
    tried.add(seeds, ROUND)?;
    let mut random = search.random();
    let (mut rounds, mut fruitless) = (0, 0);
    while rounds < ROUNDS && fruitless < FRUITLESS {
        let (best, least) = *tried.best(1).first().context("no set was tried")?;
        let mut swaps = search.scope.swaps(best);
        swaps.retain(|set| !tried.losses.contains_key(set));
        random.shuffle(&mut swaps);
        let swaps = promising(search, best, swaps);
        if swaps.is_empty() {
            break;
        }
        tried.add(swaps, ROUND)?;
        let gained = tried.best(1).first().is_some_and(|(_, loss)| *loss < least);
        fruitless = if gained { 0 } else { fruitless + 1 };
        rounds += 1;
    }
    search.progress.advance((ROUNDS - rounds) * ROUND);
    let finalists: Vec<(KeepSet, f64)> = tried
        .best(FINALISTS)
        .into_iter()
        .map(|(set, loss)| (set.clone(), loss))
        .collect();
    let keep = best_writer(search, finalists)?;
    Ok(Choice {
        steps: choice.steps,
        keep,
    })
}

/// Some of the swaps: half those of which the profile expects most, because what goes is worth little
/// by itself and what comes back much; half as they were drawn, because single layers understate joint
/// damage.
fn promising(search: &Search, best: &KeepSet, mut swaps: Vec<KeepSet>) -> Vec<KeepSet> {
    let costs = search.expected();
    let sum = |a: &KeepSet, b: &KeepSet| -> f64 {
        let only = a.layers().iter().filter(|layer| !b.contains(**layer));
        only.map(|&layer| costs[layer]).sum()
    };
    let loss = |set: &KeepSet| sum(best, set) - sum(set, best);
    let n = search.candidates.max(1);
    let mut drawn = swaps.split_off(swaps.len() / 2);
    swaps.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
    swaps.truncate(n.div_ceil(2));
    drawn.truncate(n / 2);
    swaps.append(&mut drawn);
    swaps
}

/// Of sets that lose about as little, the one whose own texts lose least.
fn best_writer(search: &Search, finalists: Vec<(KeepSet, f64)>) -> Result<KeepSet> {
    let sets: Vec<KeepSet> = finalists.iter().map(|(set, _)| set.clone()).collect();
    let written = search.writing.losses(&sets, search.progress)?;
    let total = finalists.into_iter().zip(written);
    let best = total.min_by(|((_, a), written_a), ((_, b), written_b)| {
        (a + written_a).total_cmp(&(b + written_b))
    });
    Ok(best.context("no set was tried")?.0.0)
}
