//! Original against pruned: the same questions to both, what was retained, gates and verdict.

mod gate;
mod structure;

pub use gate::{Gate, GateResult};
pub use structure::{check_pair, check_structure};

use crate::eval::stats::{Interval, Pair, retained};
use crate::eval::{Outcome, Summary, summarise};
use crate::suite::{Family, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A slice fell silently when its family held this share but the slice's whole interval lies
/// below it.
const HELD: f64 = 0.9;

/// Fewer questions than this tell nothing about a slice.
const SLICE_QUESTIONS: usize = 10;

/// Both models on the same questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The original's tables.
    pub original: Summary,
    /// The pruned model's tables.
    pub pruned: Summary,
    /// What was retained of every family, over the protocols in which the original is above
    /// chance.
    pub families: Vec<FamilyRetention>,
    /// What was retained by family and protocol.
    pub cells: Vec<Retention>,
    /// What was retained by family, protocol and slice.
    pub slices: Vec<Retention>,
}

/// What was retained of a family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FamilyRetention {
    /// The family.
    pub family: Family,
    /// The protocols that it could be measured with.
    pub protocols: Vec<Protocol>,
    /// The share of the original's accuracy above chance, absent where there was none.
    pub retained: Option<Interval>,
}

/// What was retained of one group of questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    /// The family.
    pub family: Family,
    /// How it was asked.
    pub protocol: Protocol,
    /// The slice; absent for all of them.
    pub slice: Option<String>,
    /// Questions.
    pub n: usize,
    /// Right answers by guessing.
    pub chance: f64,
    /// The original's accuracy.
    pub original: f64,
    /// The pruned model's accuracy.
    pub pruned: f64,
    /// Whether the original was above chance at all.
    pub above_chance: bool,
    /// The share of the original's accuracy above chance; absent where there was none.
    pub retained: Option<Interval>,
}

/// Compares answers to the same questions in the same order.
pub fn compare(original: &[Outcome], pruned: &[Outcome]) -> Comparison {
    let both: Vec<(&Outcome, &Outcome)> = original.iter().zip(pruned).collect();
    let tables = summarise(original);
    let mut cells: BTreeMap<_, Vec<(&Outcome, &Outcome)>> = BTreeMap::new();
    let mut slices: BTreeMap<_, Vec<(&Outcome, &Outcome)>> = BTreeMap::new();
    for &(o, p) in &both {
        cells
            .entry((o.family, o.protocol))
            .or_default()
            .push((o, p));
        for slice in &o.slices {
            let key = (o.family, o.protocol, slice.clone());
            slices.entry(key).or_default().push((o, p));
        }
    }
    let cells: Vec<Retention> = cells
        .into_iter()
        .map(|((family, protocol), both)| retention(family, protocol, None, &both))
        .collect();
    Comparison {
        families: families(&both, &cells),
        slices: slices
            .into_iter()
            .map(|((family, protocol, slice), both)| {
                retention(family, protocol, Some(slice), &both)
            })
            .collect(),
        cells,
        original: tables,
        pruned: summarise(pruned),
    }
}

impl Comparison {
    /// Slices that fell although their family held under the same protocol.
    pub fn silent_breaks(&self) -> Vec<&Retention> {
        let held = |slice: &&Retention| {
            let same = |cell: &&Retention| {
                (cell.family, cell.protocol) == (slice.family, slice.protocol) && cell.above_chance
            };
            let whole = self.cells.iter().find(same);
            let share = whole.and_then(|cell| cell.retained).map(|i| i.share);
            share.is_some_and(|share| share >= HELD)
        };
        let fell = |slice: &&Retention| slice.retained.is_some_and(|i| i.high < HELD);
        let slices = self
            .slices
            .iter()
            .filter(|slice| slice.above_chance && slice.n >= SLICE_QUESTIONS);
        slices.filter(fell).filter(held).collect()
    }
}

fn families(both: &[(&Outcome, &Outcome)], cells: &[Retention]) -> Vec<FamilyRetention> {
    let of_family = |family: Family| {
        let measurable = cells
            .iter()
            .filter(|cell| cell.family == family && cell.above_chance);
        let protocols: Vec<Protocol> = measurable.map(|cell| cell.protocol).collect();
        let pairs: Vec<Pair> = both
            .iter()
            .filter(|(o, _)| o.family == family && protocols.contains(&o.protocol))
            .map(|(o, p)| pair(o, p))
            .collect();
        FamilyRetention {
            family,
            protocols,
            retained: retained(&pairs),
        }
    };
    let asked = |family: &&Family| both.iter().any(|(o, _)| o.family == **family);
    let families = Family::ALL.iter().filter(asked);
    families.map(|&family| of_family(family)).collect()
}

fn retention(
    family: Family,
    protocol: Protocol,
    slice: Option<String>,
    both: &[(&Outcome, &Outcome)],
) -> Retention {
    let n = both.len();
    let share = |of: &dyn Fn(&(&Outcome, &Outcome)) -> f64| {
        both.iter().map(of).sum::<f64>() / n.max(1) as f64
    };
    let (chance, original) = (share(&|(o, _)| o.chance), share(&|(o, _)| right(o)));
    let pairs: Vec<Pair> = both.iter().map(|(o, p)| pair(o, p)).collect();
    Retention {
        family,
        protocol,
        slice,
        n,
        chance,
        original,
        pruned: share(&|(_, p)| right(p)),
        above_chance: crate::eval::stats::above_chance(original, n, chance),
        retained: retained(&pairs),
    }
}

fn right(outcome: &Outcome) -> f64 {
    f64::from(u8::from(outcome.correct))
}

fn pair(original: &Outcome, pruned: &Outcome) -> Pair {
    Pair {
        cluster: format!("{}/{}", original.task, original.id),
        group: original.protocol as usize,
        chance: original.chance,
        original: original.correct,
        pruned: pruned.correct,
    }
}
