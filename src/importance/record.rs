//! What was measured, question by question: all that a profile is made of.

use super::{Influence, Sparsity};
use crate::eval::{Likelihood, Question};
use crate::suite::{Family, Protocol};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// One portion's measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The portion, from 0.
    pub portion: usize,
    /// Block influence on the portion's tokens, by layer.
    pub influence: Vec<Influence>,
    /// Its questions, in order.
    pub samples: Vec<Sample>,
}

/// One question's measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The task's name.
    pub task: String,
    /// The item's id within the task.
    pub id: String,
    /// The task's family.
    pub family: Family,
    /// How it was asked.
    pub protocol: Protocol,
    /// The item's main slice; may be empty.
    pub slice: String,
    /// The continuous score (see [`crate::eval::Question::value`]) of the whole model, then without
    /// each layer; absent where it is no number.
    pub values: Vec<Option<f64>>,
    /// Whether the answer was right, likewise.
    pub right: Vec<bool>,
    /// How sparse the state is where the prompt ends, after each layer; absent for a state without
    /// a direction.
    pub sparsity: Vec<Option<Sparsity>>,
}

impl Sample {
    /// Of the likelihoods of a question's candidates under every mask.
    pub(super) fn new(
        question: &Question,
        answers: &[&[Likelihood]],
        sparsity: Vec<Option<Sparsity>>,
    ) -> Self {
        Self {
            task: question.task.name.clone(),
            id: question.item.id.clone(),
            family: question.task.family,
            protocol: question.protocol(),
            slice: question.item.main_slice().to_owned(),
            values: answers.iter().map(|a| finite(question.value(a))).collect(),
            right: answers.iter().map(|a| question.is_right(a)).collect(),
            sparsity,
        }
    }
}

impl Record {
    /// Checks a record that came from a file.
    ///
    /// # Errors
    /// It is not of a model of `n_layers`, or there is no such portion.
    pub fn check(&self, n_layers: usize, n_portions: usize) -> Result<()> {
        let of_layers = |sample: &Sample| {
            let masks = [sample.values.len(), sample.right.len()];
            masks == [n_layers + 1; 2] && sample.sparsity.len() == n_layers
        };
        ensure!(
            self.portion < n_portions
                && self.influence.len() == n_layers
                && self.samples.iter().all(of_layers),
            "the record of portion {} is not one of {n_portions} of a model of {n_layers} layers",
            self.portion
        );
        Ok(())
    }
}

/// A number as JSON can say it.
pub(super) fn finite(value: f64) -> Option<f64> {
    Some(value).filter(|value| value.is_finite())
}

/// And back: what was no number is none.
pub(super) fn or_nan(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}
