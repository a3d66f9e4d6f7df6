//! What was retained, by family, protocol and slice.

use super::answers::Answers;
use crate::eval::stats::{Interval, holm};
use crate::suite::{Family, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A slice of fewer questions is not tested: it could show nothing, and would cost the others
/// power.
pub(super) const SLICE_QUESTIONS: usize = 10;

/// What was retained of a family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FamilyRetention {
    /// The family.
    pub family: Family,
    /// The protocols that it could be measured with.
    pub protocols: Vec<Protocol>,
    /// The change in accuracy, the mean over these protocols; absent where there is none.
    pub difference: Option<Interval>,
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
    /// Questions that only the original has right.
    pub lost: usize,
    /// Questions that only the pruned model has right.
    pub gained: usize,
    /// The change in accuracy.
    pub difference: Interval,
    /// McNemar's p (mid-p, two-sided) of no change.
    pub p: f64,
    /// The same after Holm's adjustment; absent where it was not in the set that is tested.
    pub p_holm: Option<f64>,
    /// The smallest loss of accuracy that these questions would show in four of five cases;
    /// absent where they are too few for any.
    pub min_detectable: Option<f64>,
    /// The share of the original's accuracy above chance; absent where it was not above chance.
    pub retained: Option<Interval>,
}

/// Families × protocols, all of which are one set for Holm.
pub(super) fn by_protocol(answers: &Answers) -> Vec<Retention> {
    let cells = answers.by_protocol();
    let mut cells: Vec<Retention> = cells
        .into_iter()
        .filter_map(|((family, protocol), answers)| retention(family, protocol, None, &answers))
        .collect();
    adjust(cells.iter_mut().collect());
    cells
}

/// Families × protocols × slices; those of one family are one set for Holm.
pub(super) fn by_slice(answers: &Answers) -> Vec<Retention> {
    let slices = answers.grouped(|answer| {
        let (family, protocol) = (answer.original.family, answer.original.protocol);
        let slices = answer.original.slices.iter();
        slices.map(|s| (family, protocol, s.clone())).collect()
    });
    let mut slices: Vec<Retention> = slices
        .into_iter()
        .filter_map(|((family, protocol, slice), answers)| {
            retention(family, protocol, Some(slice), &answers)
        })
        .collect();
    let mut families: BTreeMap<Family, Vec<&mut Retention>> = BTreeMap::new();
    for slice in slices.iter_mut().filter(|s| s.n >= SLICE_QUESTIONS) {
        families.entry(slice.family).or_default().push(slice);
    }
    families.into_values().for_each(adjust);
    slices
}

/// Families over the protocols in which the original is above chance.
pub(super) fn by_family(answers: &Answers, cells: &[Retention]) -> Vec<FamilyRetention> {
    let families = answers.grouped(|answer| vec![answer.original.family]);
    let of_family = |(family, answers): (Family, Answers)| {
        let measurable = cells
            .iter()
            .filter(|c| c.family == family && c.above_chance);
        let protocols: Vec<Protocol> = measurable.map(|cell| cell.protocol).collect();
        let paired = answers
            .only(|answer| protocols.contains(&answer.original.protocol))
            .paired();
        FamilyRetention {
            family,
            protocols,
            difference: paired.difference(),
            retained: paired.retained(),
        }
    };
    families.into_iter().map(of_family).collect()
}

/// Holm's adjustment over one set of tests.
fn adjust(set: Vec<&mut Retention>) {
    let p: Vec<f64> = set.iter().map(|cell| cell.p).collect();
    for (cell, p) in set.into_iter().zip(holm(&p)) {
        cell.p_holm = Some(p);
    }
}

/// `None` where nothing was asked.
fn retention(
    family: Family,
    protocol: Protocol,
    slice: Option<String>,
    answers: &Answers,
) -> Option<Retention> {
    let (flips, paired) = (answers.flips(), answers.paired());
    let above_chance = answers.original_above_chance();
    Some(Retention {
        family,
        protocol,
        slice,
        n: flips.n,
        chance: answers.chance(),
        original: answers.original(),
        pruned: answers.pruned(),
        above_chance,
        lost: flips.lost,
        gained: flips.gained,
        difference: paired.difference()?,
        p: flips.p(),
        p_holm: None,
        min_detectable: flips.min_detectable(),
        retained: paired.retained().filter(|_| above_chance),
    })
}
