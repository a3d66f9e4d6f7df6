//! Attention heads: what each family loses without one (after Wu et al., Retrieval Head, arXiv
//! 2404.15574, who find few heads that carry retrieval). For people who study a model: nothing is
//! pruned by it.

use super::assemble::{Cells, cells, drops, scores};
use super::{Drop, Sample, Score};
use crate::eval::{Engine, Likelihood, Progress, Question, WithoutHead};
use crate::model::Model;
use crate::suite::Family;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Heads that are left out in one pass: the states of more would take too much room.
const AT_ONCE: usize = 32;

/// The importance of every attention head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadProfile {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// slim's version.
    pub slim: String,
    /// The checkpoint's file name.
    pub model: String,
    /// Its digest; see [`crate::checkpoint::Checkpoint::sha256`].
    pub model_sha256: String,
    /// The suite's name.
    pub suite: String,
    /// Items asked of each family, of the calibrate split.
    pub items_per_family: usize,
    /// The whole model on the same items.
    pub original: Vec<Score>,
    /// In order of layers, then heads.
    pub heads: Vec<Head>,
}

/// What one attention head is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The layer, from 0.
    pub layer: usize,
    /// The head, from 0.
    pub head: usize,
    /// What is lost without it, by family and protocol.
    pub drops: Vec<Drop>,
}

impl Head {
    /// What a family loses without it, nats, the mean over protocols.
    pub fn nats(&self, family: Family) -> f64 {
        let of_family = self.drops.iter().filter(|drop| drop.family == family);
        let (sum, n) = of_family.fold((0.0, 0.0), |(sum, n), drop| (sum + drop.nats, n + 1.0));
        if n > 0.0 { sum / n } else { 0.0 }
    }
}

/// Leaves out every attention head in turn: the whole model's scores, and what each head is worth.
///
/// # Errors
/// A model without attention; what the engine reports.
pub fn heads(
    model: &Model,
    questions: &[Question],
    progress: &dyn Progress,
) -> Result<(Vec<Score>, Vec<Head>)> {
    let layers = (0..model.n_layers()).map(|layer| (layer, model.n_heads(layer)));
    let all: Vec<(usize, usize)> = layers
        .flat_map(|(layer, n)| (0..n).map(move |head| (layer, head)))
        .collect();
    ensure!(!all.is_empty(), "the model has no attention heads");
    let engine = Engine::new(model);
    let groups: Vec<Vec<WithoutHead>> = all
        .chunks(AT_ONCE)
        .map(|heads| {
            let without = heads.iter().map(|&head| WithoutHead(Some(head)));
            std::iter::once(WithoutHead(None)).chain(without).collect()
        })
        .collect();
    let work = groups.iter().map(|masks| engine.work(questions, masks));
    progress.begin("scoring every head", work.sum());
    let (mut original, mut found) = (Vec::new(), Vec::new());
    let mut ahead = all.iter();
    for masks in &groups {
        let samples = samples(&engine, questions, masks, progress)?;
        let cells: Cells = cells(samples.iter());
        original = scores(&cells);
        for mask in 1..masks.len() {
            let &(layer, head) = ahead.next().context("more masks than heads")?;
            let drops = drops(&cells, mask);
            found.push(Head { layer, head, drops });
        }
    }
    Ok((original, found))
}

fn samples(
    engine: &Engine,
    questions: &[Question],
    masks: &[WithoutHead],
    progress: &dyn Progress,
) -> Result<Vec<Sample>> {
    let found = engine.likelihoods(questions, masks, progress)?;
    let sample = |(at, question): (usize, &Question)| {
        let answers = found.iter().filter_map(|answers| answers.get(at));
        let answers: Vec<&[Likelihood]> = answers.map(Vec::as_slice).collect();
        Sample::new(question, &answers, Vec::new())
    };
    Ok(questions.iter().enumerate().map(sample).collect())
}
