//! Original against pruned: the same questions to both, what was retained, what broke and why,
//! gates and verdict.

mod agreement;
mod answers;
mod besides;
mod cells;
mod contrast;
mod gate;
mod health;
mod recall;
mod resolution;
mod structure;
mod texts;

pub use agreement::Agreement;
pub use besides::{Besides, Both, PerplexityChange};
pub use cells::{FamilyRetention, Retention};
pub use contrast::{Contrast, SLICE_PAIRS, Side, SlicePair};
pub use gate::{By, Gate, GateResult};
pub use health::{HealthChange, Measure};
pub use recall::Recall;
pub use resolution::{FamilyResolution, Resolution};
pub use structure::{check_pair, check_structure};
pub use texts::{TextPair, texts};

use crate::eval::stats::ALPHA;
use crate::eval::{Outcome, Summary, summarise};
use answers::Answers;
use serde::{Deserialize, Serialize};

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
    /// What was retained by family and protocol; `p_holm` is adjusted over all of these.
    pub cells: Vec<Retention>,
    /// What was retained by family, protocol and slice; `p_holm` is adjusted over the slices of a
    /// family.
    pub slices: Vec<Retention>,
    /// Slices against their counterparts.
    pub contrasts: Vec<Contrast>,
    /// Facts asked for from memory and with the answer in the context.
    pub recall: Vec<Recall>,
    /// Generated text before and after.
    pub health: Vec<HealthChange>,
}

/// Compares answers to the same questions, whatever their order. A question that only one of the
/// models was asked is left out.
pub fn compare(original: &[Outcome], pruned: &[Outcome]) -> Comparison {
    let answers = Answers::both(original, pruned);
    // A fact that is asked both ways counts once: reading it would hide that it was forgotten.
    let once = answers.only(|answer| !answer.original.is_twin());
    let cells = cells::by_protocol(&once);
    Comparison {
        original: summarise(original),
        pruned: summarise(pruned),
        families: cells::by_family(&once, &cells),
        slices: cells::by_slice(&answers),
        contrasts: contrast::contrasts(&answers),
        recall: recall::recall(&answers),
        health: health::changes(&answers),
        cells,
    }
}

impl Comparison {
    /// Slices that fell although the mean of their family held under the same protocol, the
    /// surest first.
    ///
    /// A mean held when its interval has no loss for certain; a slice fell when its adjusted p
    /// says so.
    pub fn silent_breaks(&self) -> Vec<&Retention> {
        let held = |slice: &&Retention| {
            let mut wholes = self.cells.iter();
            let whole = wholes.find(|c| (c.family, c.protocol) == (slice.family, slice.protocol));
            whole.is_some_and(|whole| whole.difference.high >= 0.0)
        };
        let mut breaks: Vec<_> = self.slices.iter().filter(|s| s.fell()).collect();
        breaks.retain(held);
        breaks.sort_by(|a, b| a.p.total_cmp(&b.p));
        breaks
    }
}

impl Retention {
    /// Whether it fell for certain: the original was above chance, and the adjusted p of the fall
    /// is below 5 %.
    pub fn fell(&self) -> bool {
        let significant = self.p_holm.is_some_and(|p| p < ALPHA);
        self.above_chance && significant && self.difference.estimate < 0.0
    }
}

#[cfg(test)]
mod tests;
