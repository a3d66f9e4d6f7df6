//! Compensation: what is folded into the layers that stay to make up for those that go. The written
//! file stays one of a stock architecture.

mod fold;
mod linear;
mod scale;

pub use fold::edits;
pub use linear::{Fit, fit};
pub use scale::Scales;

use crate::arch::KeepSet;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How missing layers are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Heal {
    /// Not at all.
    None,
    /// One factor a cut, folded into the layers after it.
    Scale,
    /// One linear map a cut, folded into the MLP before it; a factor where that cannot be.
    Linear,
}

/// What makes up for one cut, for people and for taking it up again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// The last layer before it.
    pub after: usize,
    /// The layers that are gone.
    pub gone: Vec<usize>,
    /// How it is made up for.
    pub heal: Heal,
    /// The factor, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f32>,
    /// ‖what is missing − what makes up for it‖ / ‖what is missing‖ on tokens that were held out of
    /// the fit: 1 is no help, 0 is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual: Option<f64>,
}

/// The cuts of a set: the last layer before each, and the layers that are gone. A cut before the
/// first kept layer or behind the last has nothing to be folded into.
pub fn cuts(keep: &KeepSet) -> Vec<(usize, Range<usize>)> {
    let pairs = keep.layers().windows(2);
    pairs
        .filter(|pair| pair[1] > pair[0] + 1)
        .map(|pair| (pair[0], pair[0] + 1..pair[1]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_the_gaps_between_kept_layers() {
        let keep = KeepSet::without(10, &[0, 2, 3, 6, 9]).unwrap();
        assert_eq!(cuts(&keep), [(1, 2..4), (5, 6..7)]);
        assert!(cuts(&KeepSet::all(4)).is_empty());
    }
}
