//! One layer at a time: the one that is missed least goes, and everything is measured again.

use super::{Choice, Method, Search, Step};
use crate::arch::{KeepSet, Part};
use crate::eval::Share;
use crate::plan::objective::{Loss, Unasked};
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// SLEB (Song et al., arXiv 2402.09025): greedy by perplexity, every layer tried at every step.
pub(super) struct Sleb;

impl Method for Sleb {
    fn name(&self) -> &'static str {
        "greedy"
    }

    fn about(&self) -> &'static str {
        "greedy by perplexity, all layers tried at each step (SLEB, arXiv 2402.09025)"
    }

    fn choose(&self, search: &Search, sizes: &[usize]) -> Result<Vec<Choice>> {
        let costs = vec![0.0; search.scope.n_layers()];
        by_perplexity(search, costs, usize::MAX, sizes)
    }
}

/// At each step the `most` layers are tried that cost least when they were last tried, at first as `costs` says.
pub(super) fn by_perplexity(
    search: &Search,
    costs: Vec<f64>,
    most: usize,
    sizes: &[usize],
) -> Result<Vec<Choice>> {
    path(search, costs, most, sizes, |sets, worth| {
        let share = Share::new(search.progress, worth, search.texts.work(sets));
        let surprises = search.texts.surprises(sets, &share)?;
        let loss = |total| Loss {
            total,
            families: BTreeMap::new(),
            unasked: Unasked::default(),
        };
        Ok(surprises.into_iter().map(loss).collect())
    })
}

/// Units of progress of a step.
const STEP: u64 = 1000;

/// From the whole model down to the smallest of `sizes`: at each step the `most` groups of layers that
/// cost least so far are tried, and what was measured takes the place of what was expected. `judge` is
/// given the sets and what trying them is worth in progress.
pub(super) fn path(
    search: &Search,
    mut costs: Vec<f64>,
    most: usize,
    sizes: &[usize],
    judge: impl Fn(&[KeepSet], u64) -> Result<Vec<Loss>>,
) -> Result<Vec<Choice>> {
    let scope = search.scope;
    let smallest = sizes.iter().min().copied().unwrap_or(scope.n_layers());
    let mut keep = KeepSet::all(scope.n_layers());
    let (mut steps, mut loss) = (Vec::new(), 0.0);
    let mut chosen: BTreeMap<usize, Choice> = BTreeMap::new();
    search
        .progress
        .begin("choosing layers", (keep.len() - smallest) as u64 * STEP);
    loop {
        let choice = |steps: &Vec<Step>| Choice {
            keep: keep.clone(),
            steps: steps.clone(),
        };
        chosen.insert(keep.len(), choice(&steps));
        if keep.len() <= smallest {
            break;
        }
        let target = sizes.iter().copied().filter(|&size| size < keep.len());
        let target = target.max().context("no size is left")?;
        let mut tried = scope.groups(&keep, &costs, target);
        tried.truncate(most.max(1));
        let sets: Vec<KeepSet> = tried.iter().map(|group| keep.drop_layers(group)).collect();
        // Groups of several layers are several steps.
        let worth = STEP * tried.first().map_or(1, Vec::len) as u64;
        let found = judge(&sets, worth)?;
        let mut best: Option<(f64, Step)> = None;
        for (group, after) in tried.iter().zip(found) {
            let each = (after.total - loss) / group.len() as f64;
            group.iter().for_each(|&layer| costs[layer] = each);
            let step = Step {
                layers: group.iter().map(|&layer| Part::whole(layer)).collect(),
                loss: after.total,
                families: after.families,
                tried: tried.len(),
            };
            if best.as_ref().is_none_or(|(least, _)| each < *least) {
                best = Some((each, step));
            }
        }
        let (_, best) = best.context("no layer may go")?;
        let gone: Vec<usize> = best.layers.iter().map(|part| part.layer).collect();
        keep = keep.drop_layers(&gone);
        loss = best.loss;
        steps.push(best);
    }
    let of_size = |size: &usize| {
        let choice = chosen.get(size).cloned();
        choice.with_context(|| format!("no allowed set has {size} layers"))
    };
    sizes.iter().map(of_size).collect()
}
