//! Every layer removed in turn, all in one pass of the mask engine.

use super::influence::BlockInfluence;
use super::sparsity::HiddenSparsity;
use super::{Drop, LayerProfile, Score};
use crate::arch::KeepSet;
use crate::eval::{Engine, Likelihood, Progress, Question, stats};
use crate::model::Model;
use crate::suite::{Family, Protocol};
use anyhow::Result;
use std::collections::BTreeMap;

/// Candidate likelihoods of every question.
type Answers = Vec<Vec<Likelihood>>;

/// Scores the whole model and every single-layer ablation on the questions.
///
/// # Errors
/// What the engine reports.
pub fn profile(
    model: &Model,
    questions: &[Question],
    progress: &dyn Progress,
) -> Result<(Vec<Score>, Vec<LayerProfile>)> {
    let n_layers = model.n_layers();
    let all = KeepSet::all(n_layers);
    let ablations = (0..n_layers).map(|layer| all.drop_layers(&[layer]));
    let masks: Vec<KeepSet> = std::iter::once(all.clone()).chain(ablations).collect();
    let engine = Engine::new(model);
    progress.begin("scoring every layer", engine.work(questions, &masks));

    let mut influence = BlockInfluence::new(n_layers);
    let mut sparsity = HiddenSparsity::new(n_layers, questions);
    let observe = |layer: usize, before: &_, after: &_, ends: &_| {
        influence.add(layer, before, after)?;
        sparsity.add(layer, after, ends)
    };
    let answers = engine.observe(questions, &masks, progress, observe)?;
    let Some((original, ablated)) = answers.split_first() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let groups = by_cell(questions);
    let scores = groups
        .iter()
        .map(|(&(family, protocol), members)| Score {
            family,
            protocol,
            n: members.len(),
            value: stats::mean_se(&values(questions, members, original)).0,
            accuracy: accuracy(questions, members, original),
        })
        .collect();
    let layers = ablated
        .iter()
        .zip(influence.means())
        .zip(sparsity.means())
        .enumerate()
        .map(|(layer, ((answers, influence), sparsity))| LayerProfile {
            layer,
            influence,
            drops: groups
                .iter()
                .map(|(&cell, members)| drop(cell, questions, members, original, answers))
                .collect(),
            sparsity,
        })
        .collect();
    Ok((scores, layers))
}

fn by_cell(questions: &[Question]) -> BTreeMap<(Family, Protocol), Vec<usize>> {
    let mut cells: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (i, question) in questions.iter().enumerate() {
        let cell = (question.task.family, question.protocol());
        cells.entry(cell).or_default().push(i);
    }
    cells
}

fn values(questions: &[Question], members: &[usize], answers: &Answers) -> Vec<f64> {
    let value = |&i: &usize| questions[i].value(&answers[i]);
    members.iter().map(value).collect()
}

fn accuracy(questions: &[Question], members: &[usize], answers: &Answers) -> Option<f64> {
    let right = |&&i: &&usize| questions[i].is_right(&answers[i]);
    let choices = members
        .iter()
        .all(|&i| questions[i].protocol() != Protocol::Generate);
    choices.then(|| members.iter().filter(right).count() as f64 / members.len() as f64)
}

fn drop(
    (family, protocol): (Family, Protocol),
    questions: &[Question],
    members: &[usize],
    original: &Answers,
    ablated: &Answers,
) -> Drop {
    let before = values(questions, members, original);
    let after = values(questions, members, ablated);
    let falls: Vec<f64> = before.iter().zip(after).map(|(b, a)| b - a).collect();
    let (nats, nats_se) = stats::mean_se(&falls);
    let accuracies =
        accuracy(questions, members, original).zip(accuracy(questions, members, ablated));
    Drop {
        family,
        protocol,
        nats,
        nats_se,
        accuracy: accuracies.map(|(before, after)| before - after),
    }
}
