//! Iterative re-scoring: drop the layer that is missed least, measure again, repeat.
//!
//! Single-layer scores understate joint damage, so after every drop the most promising layers
//! are tried again on the smaller model. Trying all of them each time would spend most of the
//! work on layers that were hopeless before: only the best few by their last score are tried.

use super::objective::Objective;
use super::{Plan, SCHEMA_VERSION, Step};
use crate::arch::{KeepSet, Layers};
use crate::eval::{Engine, Likelihood, Progress, Question, Share};
use crate::importance::Profile;
use crate::model::Model;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;

/// Units of progress that a step counts.
const STEP: u64 = 1000;

/// How many layers may stay, and what the search may spend.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Layers that stay.
    pub keep: usize,
    /// Layers, or groups of layers that go together, tried at each step.
    pub candidates: usize,
    /// Whether the first and the last layer may go.
    pub free_ends: bool,
}

impl Budget {
    /// The layers that must stay.
    fn stay(&self, layers: &Layers) -> Vec<usize> {
        let mut stay = layers.protected();
        if !self.free_ends {
            stay.extend([0, layers.len() - 1]);
        }
        stay
    }

    /// Checks, before any work, that a model's pattern has a set of so many layers.
    ///
    /// # Errors
    /// A number of layers that cannot stay, with the nearest that can.
    pub fn check(&self, layers: &Layers) -> Result<()> {
        let n_layers = layers.len();
        ensure!(self.keep > 0, "keep at least one layer");
        ensure!(
            self.keep <= n_layers,
            "the model has {n_layers} layers: it cannot keep {}",
            self.keep
        );
        let (all, stay) = (KeepSet::all(n_layers), self.stay(layers));
        let costs = vec![0.0; n_layers];
        let found = |size: usize| layers.cheapest(&all, size, &costs, &stay, &[]);
        if let Some(set) = found(self.keep) {
            return layers.check(&set);
        }
        let below = (1..self.keep).rev().find(|&size| found(size).is_some());
        let above = (self.keep..=n_layers).find(|&size| found(size).is_some());
        let near: Vec<String> = below
            .into_iter()
            .chain(above)
            .map(|n| n.to_string())
            .collect();
        let rules = layers.rules();
        bail!(
            "{} of {n_layers} layers cannot stay{}{}: --keep {} can",
            self.keep,
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

/// Chooses the layers that stay, on the select split's questions. Where the architecture has a
/// pattern, layers go in the smallest groups that leave it whole.
///
/// # Errors
/// A budget that cannot be met; what the engine reports.
pub fn search(
    model: &Model,
    layers: &Layers,
    profile: &Profile,
    questions: &[Question],
    objective: &Objective,
    budget: Budget,
    progress: &dyn Progress,
) -> Result<Plan> {
    let n_layers = model.n_layers();
    ensure!(
        profile.layers.len() == n_layers,
        "the profile has {} layers, the model {n_layers}: is it another model's profile?",
        profile.layers.len()
    );
    budget.check(layers)?;
    let stay = budget.stay(layers);
    let mut costs: Vec<f64> = vec![0.0; n_layers];
    for layer in &profile.layers {
        costs[layer.layer] = objective.expected(layer);
    }
    let to_drop = n_layers - budget.keep;
    let engine = Engine::new(model);
    let mut keep = KeepSet::all(n_layers);
    // A step costs about as much as another, and the whole model about as one step's quarter.
    progress.begin("choosing layers", to_drop as u64 * STEP + STEP / 4);
    let whole = step(
        &engine,
        questions,
        std::slice::from_ref(&keep),
        STEP / 4,
        progress,
    )?;
    let whole = whole.first().context("the whole model has answers")?;
    let (mut steps, mut loss) = (Vec::new(), 0.0);
    while keep.len() > budget.keep {
        let tried = most_promising(layers, &keep, &costs, &stay, budget);
        let masks: Vec<KeepSet> = tried.iter().map(|group| keep.drop_layers(group)).collect();
        let worth = STEP * tried.first().map_or(1, Vec::len) as u64;
        let answers = step(&engine, questions, &masks, worth, progress)?;
        let mut best: Option<Step> = None;
        for (group, answers) in tried.iter().zip(&answers) {
            let families = Objective::falls(questions, whole, answers);
            let after = objective.loss(&families);
            let each = (after - loss) / group.len() as f64;
            for &layer in group {
                costs[layer] = each;
            }
            let found = Step {
                layers: group.clone(),
                loss: after,
                families,
                tried: tried.len(),
            };
            let cheaper = |best: &Step| each < (best.loss - loss) / best.layers.len() as f64;
            if best.as_ref().is_none_or(cheaper) {
                best = Some(found);
            }
        }
        let best = best.context("no layer may go")?;
        keep = keep.drop_layers(&best.layers);
        loss = best.loss;
        steps.push(best);
    }
    Ok(Plan {
        schema_version: SCHEMA_VERSION,
        slim: env!("CARGO_PKG_VERSION").to_owned(),
        model: profile.model.clone(),
        model_sha256: profile.model_sha256.clone(),
        n_layers,
        dropped: keep.dropped(n_layers),
        keep,
        method: "iterative".to_owned(),
        objective: objective.weights().clone(),
        counted: objective.counted(),
        steps,
    })
}

/// Candidate likelihoods under some keep sets: `[mask][question][candidate]`.
fn step(
    engine: &Engine,
    questions: &[Question],
    masks: &[KeepSet],
    worth: u64,
    progress: &dyn Progress,
) -> Result<Vec<Vec<Vec<Likelihood>>>> {
    let share = Share::new(progress, worth, engine.work(questions, masks));
    engine.likelihoods(questions, masks, &share)
}

/// The groups of layers that cost least by their last score, and after which the budget can
/// still be met.
fn most_promising(
    layers: &Layers,
    keep: &KeepSet,
    costs: &[f64],
    stay: &[usize],
    budget: Budget,
) -> Vec<Vec<usize>> {
    let mean = |group: &[usize]| {
        let sum: f64 = group.iter().map(|&layer| costs[layer]).sum();
        sum / group.len() as f64
    };
    let free = keep.layers().iter().filter(|layer| !stay.contains(layer));
    let mut groups: BTreeSet<Vec<usize>> = free
        .map(|&layer| layers.group(layer, keep, costs, stay))
        .filter(|group| !group.is_empty())
        .collect();
    groups.retain(|group| {
        let left = keep.drop_layers(group);
        layers
            .cheapest(&left, budget.keep, costs, stay, &[])
            .is_some()
    });
    let mut ranked: Vec<Vec<usize>> = groups.into_iter().collect();
    ranked.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
    ranked.truncate(budget.candidates.max(1));
    ranked.sort_unstable();
    ranked
}
