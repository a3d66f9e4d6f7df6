//! EvoPress (Sieberling et al., arXiv 2410.14649): sets evolve by swaps of a kept and a dropped layer;
//! those whose predictions stay closest to the original's on plain text survive.

use super::{Choice, Method, Search};
use crate::arch::KeepSet;
use crate::eval::Share;
use anyhow::{Context, Result};
use std::collections::HashSet;

/// Sets that each generation makes of its parent.
const OFFSPRING: usize = 16;

/// Of these, those that go on to all texts.
const FINALISTS: usize = 2;

/// Random sets that the first parent is the best of.
const FIRST: usize = 32;

/// Units of progress of a generation.
const GENERATION: u64 = 1000;

pub(super) struct Evolution;

impl Method for Evolution {
    fn name(&self) -> &'static str {
        "evolution"
    }

    fn about(&self) -> &'static str {
        "swaps that keep predictions closest to the original's (EvoPress, arXiv 2410.14649)"
    }

    fn choose(&self, search: &Search, sizes: &[usize]) -> Result<Vec<Choice>> {
        let mut random = search.random();
        let choose = |&size: &usize| {
            Ok(Choice {
                keep: evolve(search, size, &mut random)?,
                steps: Vec::new(),
            })
        };
        sizes.iter().map(choose).collect()
    }
}

fn evolve(search: &Search, size: usize, random: &mut fastrand::Rng) -> Result<KeepSet> {
    let gone = search.scope.n_layers() - size;
    // The paper's number of generations for dropping k of n layers.
    let generations = (size * gone) as f64 / 1.5;
    let generations = (generations.ceil() as usize).min(search.generations);
    let worth = (generations as u64 + 1) * GENERATION;
    search.progress.begin("evolving", worth);
    let any = |random: &mut fastrand::Rng| {
        let costs: Vec<f64> = (0..search.scope.n_layers()).map(|_| random.f64()).collect();
        search.cheapest(&costs, size)
    };
    let first: HashSet<KeepSet> = (0..FIRST).map(|_| any(random)).collect::<Result<_>>()?;
    let mut parent = select(search, sorted(first), 1, true, GENERATION)?.remove(0);
    for _ in 0..generations {
        let offspring: HashSet<KeepSet> = (0..OFFSPRING)
            .map(|_| mutated(search, &parent, random))
            .filter(|set| *set != parent)
            .collect();
        let mut left = select(search, sorted(offspring), FINALISTS, true, GENERATION / 2)?;
        left.push(parent.clone());
        parent = select(search, left, 1, false, GENERATION / 2)?.remove(0);
    }
    Ok(parent)
}

/// In an order that does not depend on hashes.
fn sorted(sets: HashSet<KeepSet>) -> Vec<KeepSet> {
    let mut sets: Vec<KeepSet> = sets.into_iter().collect();
    sets.sort_unstable();
    sets
}

/// min(U{1..3}, U{1..3}) swaps, each one that is allowed.
fn mutated(search: &Search, parent: &KeepSet, random: &mut fastrand::Rng) -> KeepSet {
    let swaps = random.u32(1..=3).min(random.u32(1..=3));
    let mut set = parent.clone();
    for _ in 0..swaps {
        let possible = search.scope.swaps(&set);
        if let Some(next) = random.choice(possible) {
            set = next;
        }
    }
    set
}

/// The `n` sets that are closest to the original, on some of the texts or on all.
fn select(
    search: &Search,
    sets: Vec<KeepSet>,
    n: usize,
    few: bool,
    worth: u64,
) -> Result<Vec<KeepSet>> {
    let trial = match few {
        true => search.few_texts,
        false => search.texts,
    };
    let share = Share::new(search.progress, worth, trial.work(&sets));
    let found = trial.divergences(&sets, &share)?;
    let mut ranked: Vec<(f64, KeepSet)> = found.into_iter().zip(sets).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    ranked.truncate(n);
    let best: Vec<KeepSet> = ranked.into_iter().map(|(_, set)| set).collect();
    (!best.is_empty())
        .then_some(best)
        .context("no set is allowed")
}
