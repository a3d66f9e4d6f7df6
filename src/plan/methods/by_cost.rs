//! One number a layer, and the layers that cost least go at once.

use super::{Choice, Method, Search};
use crate::arch::KeepSet;
use anyhow::Result;

/// A method that is a cost of every layer, for a size.
pub(super) struct ByCost {
    name: &'static str,
    about: &'static str,
    costs: Costs,
}

/// What dropping each layer costs: the same whatever the size, or not.
enum Costs {
    Always(fn(&Search) -> Result<Vec<f64>>),
    OfSize(fn(&Search, usize) -> Vec<f64>),
}

pub(super) const INFLUENCE: ByCost = ByCost {
    name: "influence",
    about: "block influence: layers that turn the state least go (ShortGPT, arXiv 2403.03853)",
    costs: Costs::Always(|search| Ok(search.profile.layers.iter().map(|l| l.influence).collect())),
};

pub(super) const ABLATION: ByCost = ByCost {
    name: "ablation",
    about: "one-shot: layers whose removal alone costs the preserved families least go",
    costs: Costs::Always(|search| Ok(search.expected())),
};

pub(super) const PERPLEXITY: ByCost = ByCost {
    name: "perplexity",
    about: "one-shot: layers whose removal alone raises the perplexity least go",
    costs: Costs::Always(perplexities),
};

/// By how much the log of the perplexity rises without each layer.
pub(super) fn perplexities(search: &Search) -> Result<Vec<f64>> {
    let all = KeepSet::all(search.scope.n_layers());
    let sets: Vec<KeepSet> = (0..all.len()).map(|l| all.drop_layers(&[l])).collect();
    search
        .progress
        .begin("one layer less", search.texts.work(&sets));
    search.texts.surprises(&sets, search.progress)
}

pub(super) const REVERSE: ByCost = ByCost {
    name: "reverse",
    about: "the last layers go (but for protected ones)",
    // Powers: one layer more costs more than all before it.
    costs: Costs::Always(|search| {
        Ok((0..search.scope.n_layers())
            .map(|l| 0.5f64.powi(l as i32))
            .collect())
    }),
};

pub(super) const RANDOM: ByCost = ByCost {
    name: "random",
    about: "layers drawn by --seed",
    costs: Costs::Always(|search| {
        let mut random = search.random();
        Ok((0..search.scope.n_layers()).map(|_| random.f64()).collect())
    }),
};

pub(super) const CLUSTERS: ByCost = ByCost {
    name: "clusters",
    about: "neighbouring layers with similar states are one cluster, of which one stays (after LoRP)",
    costs: Costs::OfSize(clusters),
};

impl Method for ByCost {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn choose(&self, search: &Search, sizes: &[usize]) -> Result<Vec<Choice>> {
        let always = match self.costs {
            Costs::Always(costs) => costs(search)?,
            Costs::OfSize(_) => Vec::new(),
        };
        let choose = |&size: &usize| {
            let keep = match self.costs {
                Costs::Always(_) => search.cheapest(&always, size),
                Costs::OfSize(costs) => search.cheapest(&costs(search, size), size),
            };
            Ok(Choice {
                keep: keep?,
                steps: Vec::new(),
            })
        };
        sizes.iter().map(choose).collect()
    }
}

/// Cuts the layers into as many stretches as may stay, so that the states within each are most
/// similar (exact, by dynamic programming over cosines of the layers' outputs). Of each stretch the
/// layer stays that turns the state most.
fn clusters(search: &Search, size: usize) -> Vec<f64> {
    let n = search.scope.n_layers();
    let cosines = &search.signals.cosines;
    // What a stretch loses: the distances of its outputs from the first one's.
    let spread = |first: usize, end: usize| -> f64 {
        (first..end)
            .map(|layer| 1.0 - cosines[first + 1][layer + 1])
            .sum()
    };
    // Least loss of the first `end` layers in `k` stretches, and where the last begins.
    let mut best = vec![vec![(f64::INFINITY, 0); n + 1]; size + 1];
    best[0][0].0 = 0.0;
    for k in 1..=size {
        for end in k..=n {
            let through = |first: usize| (best[k - 1][first].0 + spread(first, end), first);
            let found = (k - 1..end).map(through);
            let least = found.min_by(|a, b| a.0.total_cmp(&b.0));
            best[k][end] = least.unwrap_or((f64::INFINITY, 0));
        }
    }
    let influence = |layer: &usize| search.profile.layers[*layer].influence;
    let mut costs: Vec<f64> = (0..n).map(|layer| influence(&layer)).collect();
    let most = costs.iter().copied().fold(1.0, f64::max);
    let mut end = n;
    for k in (1..=size).rev() {
        let first = best[k][end].1;
        let stays = (first..end).max_by(|a, b| influence(a).total_cmp(&influence(b)));
        if let Some(stays) = stays {
            costs[stays] += 2.0 * most * n as f64;
        }
        end = first;
    }
    costs
}
