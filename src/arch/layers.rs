//! The layers of one checkpoint: which sets of them may stay.

use super::pattern::{Cycle, Marks, Role, Switch, states};
use super::ranges::ranges;
use super::{Arch, KeepSet};
use crate::checkpoint::Checkpoint;
use anyhow::{Result, bail, ensure};
use serde_json::Value;

/// Models have tens of layers; beyond this, proposals would take long to find.
const MAX_PROPOSING: usize = 1024;

/// How many legal sets an error proposes.
const PROPOSALS: usize = 3;

/// What a checkpoint's layers are, and what its architecture's pattern means for them.
#[derive(Debug)]
pub struct Layers<'a> {
    arch: &'a Arch,
    n_layers: usize,
    cycles: Vec<Kinds<'a>>,
    switches: Vec<&'a Switch>,
    /// Layers that must stay, and why.
    protected: Vec<(Vec<usize>, &'a str)>,
    refused: Option<&'a str>,
    /// Layers without attention, which cannot be the first.
    headless: Vec<usize>,
    /// Whether runtimes that read one flag a layer are all that must run the result.
    by_arrays: bool,
}

/// One cycle's kinds, by original index.
#[derive(Debug)]
struct Kinds<'a> {
    cycle: &'a Cycle,
    period: usize,
    special: Vec<bool>,
}

impl Kinds<'_> {
    /// Whether the layers already follow no period: only runtimes that read the array run them.
    fn in_array_only(&self) -> bool {
        let computed = |(index, &special): (usize, &bool)| {
            self.cycle.is_special(index, self.period) == special
        };
        !self.special.iter().enumerate().all(computed)
    }
}

impl<'a> Kinds<'a> {
    /// The field of config.json that lists the kinds, with the elements of some layers.
    fn field(&self, layers: &[usize]) -> Option<(&'a str, Vec<Value>)> {
        let (special, other) = (
            self.cycle.hf_special.as_ref()?,
            self.cycle.hf_other.as_ref()?,
        );
        let element = |&layer: &usize| match self.special[layer] {
            true => special.clone(),
            false => other.clone(),
        };
        let elements = layers.iter().map(element).collect();
        Some((self.cycle.hf_array.as_deref()?, elements))
    }
}

impl<'a> Layers<'a> {
    pub(super) fn of(arch: &'a Arch, checkpoint: &Checkpoint) -> Result<Self> {
        let n_layers = arch.n_layers(checkpoint)?;
        let mut cycles = Vec::new();
        for cycle in &arch.pattern.cycles {
            let Some(period) = cycle.period_of(arch, checkpoint)? else {
                continue;
            };
            let listed = cycle.listed(arch, checkpoint, n_layers)?;
            let computed = || (0..n_layers).map(|i| cycle.is_special(i, period)).collect();
            cycles.push(Kinds {
                cycle,
                period,
                special: listed.unwrap_or_else(computed),
            });
        }
        let pattern = &arch.pattern;
        let switches = pattern.switches.iter();
        let protect = pattern.protect.iter();
        let protected =
            protect.map(|rule| (rule.of(arch, checkpoint, n_layers), rule.reason.as_str()));
        Ok(Self {
            arch,
            n_layers,
            cycles,
            switches: switches
                .filter(|rule| rule.holds(arch, checkpoint))
                .collect(),
            protected: protected.filter(|(layers, _)| !layers.is_empty()).collect(),
            refused: refused(arch, checkpoint),
            headless: arch.headless(checkpoint)?,
            by_arrays: false,
        })
    }

    /// Also allows sets that are right only where the runtime reads one flag a layer from arrays.
    pub fn by_arrays(mut self, allowed: bool) -> Self {
        self.by_arrays = allowed;
        self
    }

    /// How many layers there are.
    pub fn len(&self) -> usize {
        self.n_layers
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.n_layers == 0
    }

    /// The special layers of a cycle, by original index; `None` where the model has no such cycle.
    pub fn special(&self, role: Role) -> Option<&[bool]> {
        let found = self.cycles.iter().find(|k| k.cycle.role == Some(role));
        found.map(|kinds| kinds.special.as_slice())
    }

    /// Cycles whose kinds no runtime could compute in a model of these kept layers.
    fn uncomputed(&self, keep: &KeepSet) -> impl Iterator<Item = &Kinds<'a>> {
        self.cycles.iter().filter(|kinds| {
            let mut kept = keep.layers().iter().enumerate();
            !kept.all(|(index, &layer)| {
                kinds.special[layer] == kinds.cycle.is_special(index, kinds.period)
            })
        })
    }

    /// GGUF arrays (keys without prefix) that a file of these kept layers must carry, with one
    /// flag a kept layer.
    pub fn needed_arrays(&self, keep: &KeepSet) -> Vec<(&str, Vec<bool>)> {
        let array = self.uncomputed(keep).filter_map(|kinds| {
            let key = kinds.cycle.array.as_deref()?;
            let marked = kinds.cycle.array_marks == Marks::Special;
            let flag = |&layer: &usize| kinds.special[layer] == marked;
            Some((key, keep.layers().iter().map(flag).collect()))
        });
        array.collect()
    }

    /// Fields that a config.json of these kept layers must have, with one element a kept layer.
    pub fn needed_fields(&self, keep: &KeepSet) -> Vec<(&str, Vec<Value>)> {
        let field = |kinds: &Kinds<'a>| kinds.field(keep.layers());
        self.uncomputed(keep).filter_map(field).collect()
    }

    /// What config.json can say of each layer: fields with one element a layer.
    pub fn fields(&self) -> Vec<(&str, Vec<Value>)> {
        let all: Vec<usize> = (0..self.n_layers).collect();
        self.cycles
            .iter()
            .filter_map(|kinds| kinds.field(&all))
            .collect()
    }

    /// Cycles that every runtime computes from the index.
    fn binding(&self) -> impl Iterator<Item = &Kinds<'a>> {
        self.cycles.iter().filter(|kinds| {
            let listed = kinds.cycle.array.is_some();
            !(listed && (self.by_arrays || kinds.in_array_only()))
        })
    }

    /// Whether any layer may go.
    pub fn all_alike(&self) -> bool {
        let trivial = |k: &Kinds| k.special.iter().all(|&s| s == k.special[0]) && k.period <= 1;
        self.binding().all(trivial) && self.protected.is_empty()
    }

    /// Why no layer may go, where none may.
    pub fn refused(&self) -> Option<&str> {
        self.refused
    }

    /// Whether a layer may stand at an index of the result.
    fn fits(&self, layer: usize, index: usize) -> bool {
        let mut cycles = self.binding();
        (index > 0 || !self.headless.contains(&layer))
            && cycles.all(|k| k.special[layer] == k.cycle.is_special(index, k.period))
    }

    /// The layers that the pattern itself protects.
    pub fn protected(&self) -> Vec<usize> {
        let layers = self.protected.iter().flat_map(|(layers, _)| layers);
        layers.copied().collect()
    }

    /// Whether every kept layer comes to stand where its kind belongs, and all that must stay do.
    pub fn allows(&self, keep: &KeepSet) -> bool {
        let mut kept = keep.layers().iter().enumerate();
        kept.all(|(index, &layer)| self.fits(layer, index))
            && self.protected().into_iter().all(|l| keep.contains(l))
    }

    /// Checks a set of layers.
    ///
    /// # Errors
    /// An architecture of which no layer may go, a number of layers that switches the meaning of
    /// the weights, or a set that breaks the pattern: with the nearest sets that do not.
    pub fn check(&self, keep: &KeepSet) -> Result<()> {
        if keep.len() == self.n_layers {
            return Ok(());
        }
        let name = &self.arch.name;
        if let Some(reason) = self.refused {
            bail!("no layer of a {name} model can be removed: {reason}");
        }
        let switched = |rule: &&&Switch| {
            let is = |count: usize| rule.layers.contains(&count);
            is(self.n_layers) || is(keep.len())
        };
        if let Some(rule) = self.switches.iter().find(switched) {
            bail!(
                "a {name} model of {} layers cannot become one of {}: {}",
                self.n_layers,
                keep.len(),
                rule.reason
            );
        }
        let gone = |(layers, _): &&(Vec<usize>, &str)| layers.iter().any(|&l| !keep.contains(l));
        if let Some((layers, reason)) = self.protected.iter().find(gone) {
            bail!(
                "layers {} of a {name} model must stay: {reason}",
                ranges(layers)
            );
        }
        if let Some(first) = keep.layers().first().filter(|l| self.headless.contains(l)) {
            bail!(
                "layer {first} would be the first and has no attention, and llama.cpp works out from the first layer how long a head is: keep a layer before it, or drop it too"
            );
        }
        self.check_kinds(keep)
    }

    /// Checks that every kept layer comes to stand where its kind belongs.
    ///
    /// # Errors
    /// A layer that would run as another kind.
    pub fn check_kinds(&self, keep: &KeepSet) -> Result<()> {
        ensure!(self.allows(keep), "{}", self.broken(keep));
        Ok(())
    }

    fn broken(&self, keep: &KeepSet) -> String {
        let mut kept = keep.layers().iter().enumerate();
        let wrong = kept.find(|&(index, &layer)| !self.fits(layer, index));
        let (index, &layer) = wrong.unwrap_or((0, &0));
        let rules: Vec<String> = self.binding().map(|k| k.sentence()).collect();
        let (mut nearest, without) = (self.nearest(keep), self.nearest_without(keep));
        if let Some(set) = without.filter(|set| !nearest.contains(set)) {
            nearest.truncate(PROPOSALS - 1);
            nearest.push(set);
        }
        let proposals: Vec<String> = nearest
            .iter()
            .map(|set| format!("--drop-layers {}", ranges(&set.dropped(self.n_layers))))
            .collect();
        let mut text = format!(
            "dropping {} would break the pattern of this {} model: {}. Layer {layer} would stand at index {index} and run as another kind.",
            ranges(&keep.dropped(self.n_layers)),
            self.arch.name,
            rules.join("; ")
        );
        if !proposals.is_empty() {
            text += &format!(" Nearest that keep it: {}.", proposals.join(" or "));
        }
        if self.binding().any(|k| k.cycle.array.is_some()) {
            text += " (--needs-layer-arrays allows any set, for runtimes that read one flag a layer: llama.cpp since 2026-09-17, transformers.)";
        }
        text
    }

    /// The allowed sets that differ least from a set, nearest first.
    pub fn nearest(&self, wanted: &KeepSet) -> Vec<KeepSet> {
        if self.n_layers > MAX_PROPOSING {
            return Vec::new();
        }
        let all = KeepSet::all(self.n_layers);
        // Keeping what should go costs as much as dropping what should stay.
        let cost = |layer: usize| match wanted.contains(layer) {
            true => 1.0,
            false => -1.0,
        };
        let costs: Vec<f64> = (0..self.n_layers).map(cost).collect();
        let distance = |set: &KeepSet| {
            let differs = |&l: &usize| set.contains(l) != wanted.contains(l);
            (0..self.n_layers).filter(differs).count()
        };
        let span = 2 * self.period();
        let sizes = wanted.len().saturating_sub(span).max(1)..=wanted.len() + span;
        let mut found: Vec<KeepSet> = Vec::new();
        for size in sizes.filter(|&size| size < self.n_layers) {
            found.extend(self.cheapest(&all, size, &costs, &self.protected(), &[]));
        }
        found.sort_by_key(|set| (distance(set), set.len().abs_diff(wanted.len())));
        found.truncate(PROPOSALS);
        found
    }

    /// The largest allowed set in which all that should go is gone.
    fn nearest_without(&self, wanted: &KeepSet) -> Option<KeepSet> {
        let sizes = (1..=wanted.len()).rev().take(self.period() + 1);
        // What goes with them should stand beside them.
        let dropped = wanted.dropped(self.n_layers);
        let away = |layer: usize| dropped.iter().map(move |&gone| gone.abs_diff(layer)).min();
        let costs: Vec<f64> = (0..self.n_layers)
            .map(|l| away(l).unwrap_or(0) as f64)
            .collect();
        let stay = self.protected();
        sizes
            .filter(|_| self.n_layers <= MAX_PROPOSING)
            .find_map(|size| self.cheapest(wanted, size, &costs, &stay, &[]))
    }

    /// The number of layers after which all cycles begin anew.
    fn period(&self) -> usize {
        let periods = self.binding().map(|k| k.period.max(1));
        periods.fold(1, |a, b| {
            let lcm = a / gcd(a, b) * b;
            lcm.min(self.n_layers)
        })
    }

    /// Of all allowed sets of `size` layers among `within`, the one whose dropped layers cost
    /// least; `None` where there is none.
    ///
    /// Exact, by dynamic programming over (layers looked at, layers kept): whether a layer fits
    /// depends only on how many are kept before it.
    pub fn cheapest(
        &self,
        within: &KeepSet,
        size: usize,
        costs: &[f64],
        stay: &[usize],
        go: &[usize],
    ) -> Option<KeepSet> {
        let layers = within.layers();
        if size > layers.len() || size == 0 {
            return None;
        }
        let mut best = vec![f64::INFINITY; size + 1];
        best[0] = 0.0;
        // taken[i][j]: whether the best way to have kept j of the first i + 1 layers keeps the last.
        let mut taken = vec![vec![false; size + 1]; layers.len()];
        for (i, &layer) in layers.iter().enumerate() {
            for kept in (0..=size.min(i + 1)).rev() {
                let drop = match stay.contains(&layer) {
                    true => f64::INFINITY,
                    false => best[kept] + costs[layer],
                };
                let may_stay = kept > 0 && !go.contains(&layer) && self.fits(layer, kept - 1);
                let keep = match may_stay {
                    true => best[kept - 1],
                    false => f64::INFINITY,
                };
                taken[i][kept] = keep < drop;
                best[kept] = keep.min(drop);
            }
        }
        if !best[size].is_finite() {
            return None;
        }
        let (mut kept, mut dropped) = (size, within.dropped(self.n_layers));
        for (i, &layer) in layers.iter().enumerate().rev() {
            match taken[i][kept] {
                true => kept -= 1,
                false => dropped.push(layer),
            }
        }
        KeepSet::without(self.n_layers, &dropped).ok()
    }

    /// The fewest layers of `within` that can go together with `layer`, by cost; empty where it
    /// cannot go.
    pub fn group(
        &self,
        layer: usize,
        within: &KeepSet,
        costs: &[f64],
        stay: &[usize],
    ) -> Vec<usize> {
        if self.refused().is_some() {
            return Vec::new();
        }
        // With the first layer go all behind it that cannot be the first.
        let most = self.period() + self.headless.len();
        let most = most.min(within.len().saturating_sub(1));
        let smaller =
            (1..=most).find_map(|n| self.cheapest(within, within.len() - n, costs, stay, &[layer]));
        let Some(smaller) = smaller else {
            return Vec::new();
        };
        let gone = within.layers().iter().copied();
        gone.filter(|&l| !smaller.contains(l)).collect()
    }

    /// One sentence a rule, for people.
    pub fn rules(&self) -> Vec<String> {
        let cycles = self.binding().map(|kinds| kinds.sentence());
        let protected = self
            .arch
            .pattern
            .protect
            .iter()
            .map(|rule| format!("layers {} must stay: {}", ranges(&rule.layers), rule.reason));
        cycles.chain(protected).collect()
    }
}

impl Kinds<'_> {
    fn sentence(&self) -> String {
        let special = |(i, &s): (usize, &bool)| s.then_some(i);
        let listed: Vec<usize> = self
            .special
            .iter()
            .enumerate()
            .filter_map(special)
            .collect();
        format!(
            "one layer in {} ({}) {}",
            self.period,
            ranges(&listed),
            self.cycle.special
        )
    }
}

/// Why no layer of a checkpoint may go, where none may.
fn refused<'a>(arch: &'a Arch, checkpoint: &Checkpoint) -> Option<&'a str> {
    let pattern = &arch.pattern;
    let with = pattern.refuse_with.iter().find(|rule| {
        let metadata = checkpoint.gguf();
        metadata.is_some_and(|metadata| states(arch, metadata, &rule.key))
    });
    pattern
        .refuse
        .as_deref()
        .or(with.map(|rule| rule.reason.as_str()))
}

fn gcd(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}
