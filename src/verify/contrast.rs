//! Slices against their counterparts: which side of an ability was lost.

use super::answers::{Answer, Answers, right};
use super::cells::SLICE_QUESTIONS;
use crate::eval::stats::{Interval, bootstrap};
use crate::suite::{Family, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Two slices of a family that differ in one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlicePair {
    /// One slice.
    pub one: &'static str,
    /// The other.
    pub other: &'static str,
}

const fn pair(one: &'static str, other: &'static str) -> SlicePair {
    SlicePair { one, other }
}

/// The pairs that are compared wherever a family has both slices.
pub const SLICE_PAIRS: &[SlicePair] = &[
    pair("head", "tail"),
    pair("closed-book", "in-context"),
    pair("near", "far"),
    pair("one-step", "many-steps"),
    pair("explain", "apply"),
    pair("shallow", "deep"),
];

/// What became of two slices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// The family.
    pub family: Family,
    /// How it was asked.
    pub protocol: Protocol,
    /// The two slices, in the order of [`SLICE_PAIRS`].
    pub sides: [Side; 2],
    /// How much more accuracy the second side lost than the first; negative where it lost less.
    pub second_lost_more: Interval,
}

/// One slice of a [`Contrast`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// The slice.
    pub slice: String,
    /// Questions.
    pub n: usize,
    /// The original's accuracy.
    pub original: f64,
    /// The pruned model's accuracy.
    pub pruned: f64,
    /// Whether the original was above chance here.
    pub above_chance: bool,
    /// Whether the pruned model still is.
    pub still_above_chance: bool,
}

impl Contrast {
    /// Whether the sides can be compared: enough questions on both, the original above chance on
    /// both, and the pruned model not down to guessing on both, where what differs is only what
    /// there was to lose.
    pub fn is_fair(&self) -> bool {
        let [first, second] = &self.sides;
        let able = |side: &Side| side.n >= SLICE_QUESTIONS && side.above_chance;
        able(first) && able(second) && (first.still_above_chance || second.still_above_chance)
    }

    /// The side that lost more, then the other, where they can be compared and it is certain.
    pub fn finding(&self) -> Option<[&Side; 2]> {
        let [first, second] = &self.sides;
        let sides = match self.second_lost_more.low > 0.0 {
            true => [second, first],
            false => [first, second],
        };
        (self.is_fair() && self.second_lost_more.excludes_zero()).then_some(sides)
    }

    /// How much more accuracy the one side of [`Contrast::finding`] lost than the other.
    pub fn how_much_more(&self) -> Interval {
        let Interval {
            estimate,
            low,
            high,
        } = self.second_lost_more;
        match low > 0.0 {
            true => self.second_lost_more,
            false => Interval {
                estimate: -estimate,
                low: -high,
                high: -low,
            },
        }
    }
}

/// All pairs under all protocols, by family.
pub(super) fn contrasts(answers: &Answers) -> Vec<Contrast> {
    let cells = answers.by_protocol();
    let of_cell = |((family, protocol), cell): (&(Family, Protocol), &Answers)| {
        let pairs = SLICE_PAIRS.iter();
        let found = pairs.filter_map(|pair| contrast((*family, *protocol), *pair, cell));
        found.collect::<Vec<_>>()
    };
    cells.iter().flat_map(of_cell).collect()
}

/// `None` where one of the slices has no questions.
fn contrast(
    (family, protocol): (Family, Protocol),
    pair: SlicePair,
    cell: &Answers,
) -> Option<Contrast> {
    // Of each side: questions, and the sum of changes.
    let mut items: BTreeMap<String, [f64; 4]> = BTreeMap::new();
    for answer in &cell.0 {
        let row = items.entry(answer.cluster()).or_default();
        let change = right(answer.pruned) - right(answer.original);
        let [n, changes, other_n, other_changes] = row;
        for (slice, n, changes) in [(pair.one, n, changes), (pair.other, other_n, other_changes)] {
            if answer.is_in(slice) {
                *n += 1.0;
                *changes += change;
            }
        }
    }
    let mut rows: Vec<[f64; 4]> = items.into_values().collect();
    rows.retain(|[n, _, other_n, _]| n + other_n > 0.0);
    let second_lost_more = bootstrap(&rows, &[], |[n, changes, other_n, other_changes]| {
        (*n > 0.0 && *other_n > 0.0).then(|| changes / n - other_changes / other_n)
    })?;
    let side = |slice: &str| side(slice, &cell.only(|answer: &Answer| answer.is_in(slice)));
    Some(Contrast {
        family,
        protocol,
        sides: [side(pair.one), side(pair.other)],
        second_lost_more,
    })
}

fn side(slice: &str, answers: &Answers) -> Side {
    Side {
        slice: slice.to_owned(),
        n: answers.len(),
        original: answers.original(),
        pruned: answers.pruned(),
        above_chance: answers.original_above_chance(),
        still_above_chance: answers.pruned_above_chance(),
    }
}
