//! Half layers: attention and MLPs go separately, down to what a set of whole layers would take. The
//! criterion of a step is what it costs for each parameter that goes, because an MLP is several times as
//! large as the attention before it.

use super::swaps::{Tried, losses};
use super::{Choice, Search};
use crate::arch::{Half, KeepSet, Part};
use crate::plan::budget::{Budget, Size};
use crate::plan::{Step, objective::Loss};
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// What bounds the sets.
pub struct Halving<'h> {
    /// Layers of which a half may go.
    pub halvable: &'h [usize],
    /// How large a set's output is.
    pub size: &'h dyn Fn(&KeepSet) -> Result<Size>,
    /// What was asked for.
    pub budget: &'h Budget,
    /// The set of whole layers.
    pub whole: &'h Choice,
}

/// A half of a layer.
type HalfLayer = (usize, Half);

/// The best set of half layers that is no larger than a set of whole layers, or that set itself, if
/// nothing is better.
///
/// # Errors
/// What the engine or a size reports.
pub fn halved(search: &Search, halving: &Halving) -> Result<Choice> {
    let whole = (halving.size)(&halving.whole.keep)?;
    let descent = Descent::new(search, halving, whole)?;
    let free = descent.free();
    if free.is_empty() || halving.whole.keep.len() == search.scope.n_layers() {
        return Ok(halving.whole.clone());
    }
    let (path, costs) = descent.path(&free)?;
    let first = vec![path.keep.clone(), halving.whole.keep.clone()];
    let mut tried = Tried::new(search, "trying swaps of halves", first)?;
    let swaps = |best: &KeepSet| -> Result<Vec<KeepSet>> {
        let (stay, gone): (Vec<HalfLayer>, Vec<HalfLayer>) = free
            .iter()
            .partition(|(layer, half)| best.contains_half(*layer, *half));
        let mut sets = Vec::new();
        for &(layer, half) in &stay {
            let without = best.drop_half(layer, half);
            for &(layer, half) in &gone {
                let set = without.add_half(layer, half);
                if descent.allows(&set)? {
                    sets.push(set);
                }
            }
        }
        Ok(sets)
    };
    let expected = |set: &KeepSet| {
        let gone = free.iter().filter(|(l, h)| !set.contains_half(*l, *h));
        gone.filter_map(|half| costs.get(half)).sum()
    };
    tried.improve(swaps, expected)?;
    let keep = tried.best_writer()?;
    Ok(
        match keep.halves().is_empty() && keep == halving.whole.keep {
            true => halving.whole.clone(),
            false => Choice { keep, ..path },
        },
    )
}

struct Descent<'d, 'a> {
    search: &'d Search<'a>,
    halving: &'d Halving<'d>,
    whole: Size,
    /// Parameters of a layer's halves: they are alike in most models, but not in all.
    params: BTreeMap<HalfLayer, u64>,
}

impl<'d, 'a> Descent<'d, 'a> {
    fn new(search: &'d Search<'a>, halving: &'d Halving<'d>, whole: Size) -> Result<Self> {
        let mut descent = Self {
            search,
            halving,
            whole,
            params: BTreeMap::new(),
        };
        let all = KeepSet::all(search.scope.n_layers());
        let params = (halving.size)(&all)?.params;
        for (layer, half) in descent.free() {
            let left = (halving.size)(&all.drop_half(layer, half))?.params;
            descent
                .params
                .insert((layer, half), params.saturating_sub(left));
        }
        Ok(descent)
    }

    /// Halves that may go.
    fn free(&self) -> Vec<HalfLayer> {
        let free = |&&layer: &&usize| self.search.scope.may_go(layer);
        let layers = self.halving.halvable.iter().filter(free);
        layers
            .flat_map(|&layer| Half::ALL.map(|half| (layer, half)))
            .collect()
    }

    fn fits(&self, set: &KeepSet) -> Result<bool> {
        let size = (self.halving.size)(set)?;
        Ok(self.halving.budget.allows(&size, &self.whole))
    }

    /// Whether a set is small enough and has a form: the first layer needs its attention.
    fn allows(&self, set: &KeepSet) -> Result<bool> {
        let headless = set.layers().first().map(|&first| set.half(first)) == Some(Some(Half::Mlp));
        Ok(!headless && self.fits(set)?)
    }

    /// One half at a time, the one that costs least for each of its parameters, until the set fits;
    /// then what fits besides comes back. With what each half cost when it was last tried.
    fn path(&self, free: &[HalfLayer]) -> Result<(Choice, BTreeMap<HalfLayer, f64>)> {
        let all = KeepSet::all(self.search.scope.n_layers());
        let singles: Vec<KeepSet> = free.iter().map(|(l, h)| all.drop_half(*l, *h)).collect();
        let work = self.search.work(self.search.trial, &singles);
        self.search.progress.begin("half layers, each alone", work);
        let found = losses(self.search, &singles, work)?;
        let found = found.into_iter().map(|loss| loss.total);
        let mut costs: BTreeMap<HalfLayer, f64> = free.iter().copied().zip(found).collect();
        let (mut keep, mut loss, mut steps) = (all, 0.0, Vec::new());
        let most = free.len() as u64;
        self.search.progress.begin("choosing half layers", most);
        while !self.fits(&keep)? {
            let stays = |half: &HalfLayer| keep.contains_half(half.0, half.1);
            let dearness = |half: &HalfLayer| self.a_parameter(half, costs[half]);
            let mut tried: Vec<HalfLayer> = free.iter().copied().filter(stays).collect();
            tried.sort_by(|a, b| dearness(a).total_cmp(&dearness(b)));
            tried.truncate(self.search.candidates.max(1));
            let (half, step) = self.cheapest(&keep, loss, &tried, &mut costs)?;
            keep = keep.drop_half(half.0, half.1);
            loss = step.loss;
            steps.push(step);
        }
        // The last one may have been larger than it had to be.
        let mut back: Vec<HalfLayer> = free.to_vec();
        back.sort_by(|a, b| costs[b].total_cmp(&costs[a]));
        for (layer, half) in back {
            let more = keep.add_half(layer, half);
            if more != keep && self.fits(&more)? {
                keep = more;
            }
        }
        Ok((Choice { keep, steps }, costs))
    }

    fn a_parameter(&self, half: &HalfLayer, cost: f64) -> f64 {
        cost / self.params.get(half).copied().unwrap_or(0).max(1) as f64
    }

    /// Of some halves the one whose going costs least for each of its parameters.
    fn cheapest(
        &self,
        keep: &KeepSet,
        loss: f64,
        tried: &[HalfLayer],
        costs: &mut BTreeMap<HalfLayer, f64>,
    ) -> Result<(HalfLayer, Step)> {
        let sets: Vec<KeepSet> = tried.iter().map(|(l, h)| keep.drop_half(*l, *h)).collect();
        let found = losses(self.search, &sets, 1)?;
        let mut best: Option<(f64, HalfLayer, Loss)> = None;
        for (&half, after) in tried.iter().zip(found) {
            let cost = after.total - loss;
            costs.insert(half, cost);
            let dearness = self.a_parameter(&half, cost);
            if best.as_ref().is_none_or(|(least, ..)| dearness < *least) {
                best = Some((dearness, half, after));
            }
        }
        let (_, (layer, half), after) = best.context("no half layer is left that may go")?;
        let step = Step {
            layers: vec![Part {
                layer,
                half: Some(half),
            }],
            loss: after.total,
            families: after.families,
            tried: tried.len(),
        };
        Ok(((layer, half), step))
    }
}
