//! Iterative re-scoring: drop the layer that is missed least, measure again, repeat.
//!
//! Single-layer scores understate joint damage, so after every drop the most promising layers
//! are tried again on the smaller model. Trying all of them each time would spend most of the
//! work on layers that were hopeless before: only the best few by their last score are tried.

use super::objective::Objective;
use super::{Plan, SCHEMA_VERSION, Step};
use crate::arch::KeepSet;
use crate::eval::{Engine, Progress, Question, Share};
use crate::importance::Profile;
use crate::model::Model;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

/// Units of progress that a step counts.
const STEP: u64 = 1000;

/// How many layers may stay, and what the search may spend.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Layers that stay.
    pub keep: usize,
    /// Layers tried at each step.
    pub candidates: usize,
    /// Whether the first and the last layer may go.
    pub free_ends: bool,
}

/// Chooses the layers that stay, on the select split's questions.
///
/// # Errors
/// A budget that cannot be met; what the engine reports.
pub fn search(
    model: &Model,
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
    let mut scores = first_scores(profile, objective, budget);
    let to_drop = n_layers.saturating_sub(budget.keep);
    ensure!(budget.keep > 0, "keep at least one layer");
    ensure!(
        budget.keep <= n_layers,
        "the model has {n_layers} layers: it cannot keep {}",
        budget.keep
    );
    ensure!(
        to_drop <= scores.len(),
        "{to_drop} of {n_layers} layers cannot go while the first and last are protected: keep more, or pass --free-ends"
    );

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
        let tried = most_promising(&scores, budget.candidates);
        let masks: Vec<KeepSet> = tried.iter().map(|&layer| keep.drop_layer(layer)).collect();
        let answers = step(&engine, questions, &masks, STEP, progress)?;
        let outcomes = tried.iter().zip(&answers).map(|(&layer, answers)| {
            let families = Objective::falls(questions, whole, answers);
            (layer, objective.loss(&families), families)
        });
        let outcomes: Vec<_> = outcomes.collect();
        for (layer, after, _) in &outcomes {
            scores.insert(*layer, after - loss);
        }
        let best = outcomes.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let (layer, after, families) = best.context("no layer may go")?;
        keep = keep.drop_layer(layer);
        scores.remove(&layer);
        loss = after;
        steps.push(Step {
            layer,
            loss,
            families,
            tried: masks.len(),
        });
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

/// Candidate log-probabilities under some keep sets: `[mask][question][candidate]`.
fn step(
    engine: &Engine,
    questions: &[Question],
    masks: &[KeepSet],
    worth: u64,
    progress: &dyn Progress,
) -> Result<Vec<Vec<Vec<f64>>>> {
    let share = Share::new(progress, worth, engine.work(questions, masks));
    engine.log_probs(questions, masks, &share)
}

/// What the profile expects of every layer that may go.
fn first_scores(profile: &Profile, objective: &Objective, budget: Budget) -> BTreeMap<usize, f64> {
    let last = profile.layers.len().saturating_sub(1);
    let may_go = |layer: usize| budget.free_ends || (layer != 0 && layer != last);
    profile
        .layers
        .iter()
        .filter(|layer| may_go(layer.layer))
        .map(|layer| (layer.layer, objective.expected(layer)))
        .collect()
}

/// The layers with the lowest last score, in layer order.
fn most_promising(scores: &BTreeMap<usize, f64>, candidates: usize) -> Vec<usize> {
    let mut ranked: Vec<(usize, f64)> = scores.iter().map(|(&l, &s)| (l, s)).collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut tried: Vec<usize> = ranked.iter().take(candidates.max(1)).map(|r| r.0).collect();
    tried.sort_unstable();
    tried
}
