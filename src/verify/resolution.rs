//! What the items can show, and how many it would take.

use super::Comparison;
use crate::eval::stats::Flips;
use crate::suite::Family;
use serde::{Deserialize, Serialize};

/// What the items of a report can and cannot show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resolution {
    /// The wanted half-width of the 95 % interval of a change in accuracy.
    pub precision: f64,
    /// By family.
    pub families: Vec<FamilyResolution>,
}

/// What a family's items can show, under the protocol that shows least.
///
/// Protocols in which the original is not above chance do not count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FamilyResolution {
    /// The family.
    pub family: Family,
    /// Questions under the protocol with the fewest.
    pub n: usize,
    /// The smallest loss of accuracy that would be seen under every protocol; absent where one
    /// has too few questions for any.
    pub min_detectable: Option<f64>,
    /// Items of the family that would bring the wanted precision under every protocol.
    pub items_needed: usize,
    /// Items of the family that the report split has.
    pub items_available: usize,
}

impl Resolution {
    /// Of a comparison whose items were (asked, available) by family.
    pub fn of(
        comparison: &Comparison,
        precision: f64,
        items: impl Fn(Family) -> (usize, usize),
    ) -> Self {
        let of_family = |family: &Family| {
            let cells = comparison.cells.iter();
            let measured: Vec<_> = cells
                .filter(|cell| cell.family == *family && cell.above_chance)
                .collect();
            let (asked, available) = items(*family);
            let needed = measured.iter().map(|cell| {
                let (n, lost, gained) = (cell.n, cell.lost, cell.gained);
                let questions = Flips { n, lost, gained }.needed(precision);
                // Not every item can be asked under every protocol.
                (questions as f64 * asked as f64 / n as f64).ceil() as usize
            });
            let losses: Option<Vec<f64>> = measured.iter().map(|c| c.min_detectable).collect();
            Some(FamilyResolution {
                family: *family,
                n: measured.iter().map(|cell| cell.n).min()?,
                min_detectable: losses.and_then(|all| all.into_iter().reduce(f64::max)),
                items_needed: needed.max()?,
                items_available: available,
            })
        };
        Self {
            precision,
            families: Family::ALL.iter().filter_map(of_family).collect(),
        }
    }
}
