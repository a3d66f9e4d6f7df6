//! Which sets of layers may be chosen: the architecture's pattern, and what is protected.

use crate::arch::{KeepSet, Layers};
use anyhow::{Result, bail, ensure};
use std::collections::BTreeSet;

/// The sets that may be chosen of one model.
pub struct Scope<'a> {
    layers: &'a Layers<'a>,
    /// Layers that must stay.
    stay: Vec<usize>,
    free_ends: bool,
}

impl<'a> Scope<'a> {
    /// Of a model's layers; the first and the last are protected unless `free_ends`.
    pub fn new(layers: &'a Layers<'a>, free_ends: bool) -> Self {
        let mut stay = layers.protected();
        if !free_ends {
            stay.extend([0, layers.len() - 1]);
        }
        Self {
            layers,
            stay,
            free_ends,
        }
    }

    /// How many layers the model has.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Whether a set may be chosen.
    pub fn allows(&self, keep: &KeepSet) -> bool {
        self.layers.allows(keep) && self.stay.iter().all(|&layer| keep.contains(layer))
    }

    /// Whether a layer is not protected.
    pub fn may_go(&self, layer: usize) -> bool {
        layer < self.n_layers() && !self.stay.contains(&layer)
    }

    /// The set of `size` layers whose dropped layers cost least together.
    pub fn cheapest(&self, costs: &[f64], size: usize) -> Option<KeepSet> {
        self.cheapest_of(&KeepSet::all(self.n_layers()), costs, size)
    }

    fn cheapest_of(&self, within: &KeepSet, costs: &[f64], size: usize) -> Option<KeepSet> {
        self.layers.cheapest(within, size, costs, &self.stay, &[])
    }

    /// The depths that have a set, deepest first, without the whole model.
    pub fn depths(&self) -> Vec<usize> {
        let costs = vec![0.0; self.n_layers()];
        let some = |&depth: &usize| self.cheapest(&costs, depth).is_some();
        (1..self.n_layers()).rev().filter(some).collect()
    }

    /// The smallest groups of layers that may go next so that `target` layers can still stay, those
    /// that cost least a layer first.
    pub fn groups(&self, keep: &KeepSet, costs: &[f64], target: usize) -> Vec<Vec<usize>> {
        let mean = |group: &[usize]| {
            let sum: f64 = group.iter().map(|&layer| costs[layer]).sum();
            sum / group.len() as f64
        };
        let free = keep
            .layers()
            .iter()
            .filter(|layer| !self.stay.contains(layer));
        let mut groups: BTreeSet<Vec<usize>> = free
            .map(|&layer| self.layers.group(layer, keep, costs, &self.stay))
            .filter(|group| !group.is_empty())
            .collect();
        groups.retain(|group| {
            let left = keep.drop_layers(group);
            self.cheapest_of(&left, costs, target).is_some()
        });
        let mut ranked: Vec<Vec<usize>> = groups.into_iter().collect();
        ranked.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
        ranked
    }

    /// All allowed sets that have one layer of `keep` in exchange for one that is gone.
    pub fn swaps(&self, keep: &KeepSet) -> Vec<KeepSet> {
        let gone = keep.dropped(self.n_layers());
        let pairs = keep
            .layers()
            .iter()
            .flat_map(|&out| gone.iter().map(move |&back| (out, back)));
        pairs
            .map(|(out, back)| keep.drop_layers(&[out]).with_layer(back))
            .filter(|set| self.allows(set))
            .collect()
    }

    /// Checks, before any work, that the model's pattern has a set of so many layers.
    ///
    /// # Errors
    /// A number of layers that cannot stay, with the nearest that can.
    pub fn check(&self, size: usize) -> Result<()> {
        let n_layers = self.n_layers();
        ensure!(size > 0, "keep at least one layer");
        ensure!(
            size <= n_layers,
            "the model has {n_layers} layers: it cannot keep {size}"
        );
        let costs = vec![0.0; n_layers];
        let found = |size: usize| self.cheapest(&costs, size);
        if let Some(set) = found(size) {
            return self.layers.check(&set);
        }
        let below = (1..size).rev().find(|&size| found(size).is_some());
        let above = (size..=n_layers).find(|&size| found(size).is_some());
        let near = below.into_iter().chain(above).map(|n| n.to_string());
        let near: Vec<String> = near.collect();
        let rules = self.layers.rules();
        bail!(
            "{size} of {n_layers} layers cannot stay{}{}: --keep {} can",
            match self.free_ends {
                true => "",
                false => " while the first and the last are protected (--free-ends lets them go)",
            },
            match rules.is_empty() {
                true => String::new(),
                false => format!(", because {}", rules.join("; ")),
            },
            near.join(" or ")
        )
    }
}
