//! Outcomes by family, protocol and slice.

use super::outcome::Outcome;
use super::stats;
use crate::suite::{Family, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The mean of one group of questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The family.
    pub family: Family,
    /// How it was asked.
    pub protocol: Protocol,
    /// The slice, absent for the family as a whole.
    pub slice: Option<String>,
    /// Questions.
    pub n: usize,
    /// Share of right answers by guessing.
    pub chance: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// Its standard error.
    pub accuracy_se: f64,
    /// Mean continuous score, nats.
    pub value: f64,
    /// Its standard error.
    pub value_se: f64,
    /// Whether the accuracy is above chance; see [`stats::above_chance`].
    pub above_chance: bool,
}

/// The state of everything that was generated for one family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthCell {
    /// The family.
    pub family: Family,
    /// Texts.
    pub n: usize,
    /// Share that did not end by itself.
    pub unterminated: f64,
    /// Share with nothing in it.
    pub empty: f64,
    /// Mean share of repeated token pairs.
    pub repetition: f64,
}

/// A model's results in tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Families × protocols.
    pub cells: Vec<Cell>,
    /// Families × protocols × slices.
    pub slices: Vec<Cell>,
    /// What was generated, by family.
    pub health: Vec<HealthCell>,
}

/// Sums up outcomes, in a fixed order, whatever theirs.
pub fn summarise(outcomes: &[Outcome]) -> Summary {
    let mut outcomes: Vec<&Outcome> = outcomes.iter().collect();
    outcomes.sort_by_key(|o| (&o.task, &o.id, o.protocol));
    let mut cells: BTreeMap<_, Vec<&Outcome>> = BTreeMap::new();
    let mut slices: BTreeMap<_, Vec<&Outcome>> = BTreeMap::new();
    let mut health: BTreeMap<_, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        let key = (outcome.family, outcome.protocol);
        if !outcome.is_twin() {
            cells.entry((key, None)).or_default().push(outcome);
        }
        for slice in &outcome.slices {
            let slice = Some(slice.clone());
            slices.entry((key, slice)).or_default().push(outcome);
        }
        if outcome.health.is_some() {
            health.entry(outcome.family).or_default().push(outcome);
        }
    }
    let cell = |((key, slice), outcomes): (_, Vec<&Outcome>)| cell(key, slice, &outcomes);
    Summary {
        cells: cells.into_iter().map(cell).collect(),
        slices: slices.into_iter().map(cell).collect(),
        health: health
            .into_iter()
            .map(|(f, o)| health_cell(f, &o))
            .collect(),
    }
}

fn cell(
    (family, protocol): (Family, Protocol),
    slice: Option<String>,
    outcomes: &[&Outcome],
) -> Cell {
    let column = |of: fn(&Outcome) -> f64| -> Vec<f64> { outcomes.iter().map(|o| of(o)).collect() };
    let (accuracy, accuracy_se) = stats::mean_se(&column(|o| f64::from(u8::from(o.correct))));
    let (value, value_se) = stats::mean_se(&column(|o| o.value));
    let (chance, _) = stats::mean_se(&column(|o| o.chance));
    Cell {
        family,
        protocol,
        slice,
        n: outcomes.len(),
        chance,
        accuracy,
        accuracy_se,
        value,
        value_se,
        above_chance: stats::above_chance(accuracy, outcomes.len(), chance),
    }
}

fn health_cell(family: Family, outcomes: &[&Outcome]) -> HealthCell {
    let all: Vec<_> = outcomes.iter().filter_map(|o| o.health).collect();
    let share = |of: fn(&super::Health) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    HealthCell {
        family,
        n: all.len(),
        unterminated: share(|h| f64::from(u8::from(h.unterminated))),
        empty: share(|h| f64::from(u8::from(h.empty))),
        repetition: share(|h| h.repetition),
    }
}
