//! Generated text before and after, apart from being right.

use super::answers::Answers;
use crate::eval::Health;
use crate::eval::stats::{Interval, bootstrap};
use crate::suite::Family;
use serde::{Deserialize, Serialize};

/// How one measure of generated text changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthChange {
    /// The family.
    pub family: Family,
    /// What was measured: unterminated, empty or repetition.
    pub measure: Measure,
    /// Texts.
    pub n: usize,
    /// The original's mean.
    pub original: f64,
    /// The pruned model's mean.
    pub pruned: f64,
    /// The change; above 0 is worse.
    pub difference: Interval,
    /// Whether the whole interval of the change lies above 0.
    pub worse: bool,
}

/// What is measured of generated text; less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// The share that did not end within the allowed tokens.
    Unterminated,
    /// The share with nothing in it.
    Empty,
    /// The mean share of adjacent token pairs that had occurred before.
    Repetition,
}

impl Measure {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Unterminated, Self::Empty, Self::Repetition];

    /// The lower-case name of tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unterminated => "unterminated",
            Self::Empty => "empty",
            Self::Repetition => "repetition",
        }
    }

    fn of(self, health: Health) -> f64 {
        let share = |yes: bool| f64::from(u8::from(yes));
        match self {
            Self::Unterminated => share(health.unterminated),
            Self::Empty => share(health.empty),
            Self::Repetition => health.repetition,
        }
    }
}

/// By family and measure, where both models generated.
pub(super) fn changes(answers: &Answers) -> Vec<HealthChange> {
    let families = answers.grouped(|answer| vec![answer.original.family]);
    let of_family = |(family, answers): (Family, Answers)| {
        let texts: Vec<(Health, Health)> = answers
            .0
            .iter()
            .filter_map(|answer| Some((answer.original.health?, answer.pruned.health?)))
            .collect();
        let changes = Measure::ALL.map(|measure| change(family, measure, &texts));
        changes.into_iter().flatten()
    };
    families.into_iter().flat_map(of_family).collect()
}

fn change(family: Family, measure: Measure, texts: &[(Health, Health)]) -> Option<HealthChange> {
    let rows: Vec<[f64; 3]> = texts
        .iter()
        .map(|(original, pruned)| [1.0, measure.of(*original), measure.of(*pruned)])
        .collect();
    let mean =
        |column: fn(&[f64; 3]) -> f64| rows.iter().map(column).sum::<f64>() / rows.len() as f64;
    let difference = bootstrap(&rows, &[], |[n, original, pruned]| {
        (*n > 0.0).then(|| (pruned - original) / n)
    })?;
    Some(HealthChange {
        family,
        measure,
        n: rows.len(),
        original: mean(|[_, original, _]| *original),
        pruned: mean(|[_, _, pruned]| *pruned),
        difference,
        worse: difference.low > 0.0,
    })
}
