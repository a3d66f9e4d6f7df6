//! One factor a cut (Prune&Comp): layers add to the hidden state, so what follows a cut expects
//! states of another magnitude. α is the mean over channels of the ratio of their mean magnitudes
//! behind and before the cut.

use super::cuts;
use crate::arch::KeepSet;
use crate::eval::Mended;
use crate::model::{Mend, Model};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The factors of all cuts of one model.
pub struct Scales {
    /// Mean magnitude of every channel before each layer, and behind the last:
    /// [n_layers + 1][hidden_size].
    magnitudes: Vec<Vec<f64>>,
    /// Whether each half of a layer has a norm before it: else layers see the scale of the state, and
    /// a factor cannot be moved into those that follow.
    foldable: bool,
    /// By cut: candidates with the same cut share the factor, and so their states.
    known: Mutex<HashMap<Range<usize>, Arc<Mend>>>,
}

impl Scales {
    /// Of magnitudes [n_layers + 1][hidden_size], of the original.
    pub fn new(magnitudes: Vec<Vec<f64>>, model: &Model) -> Self {
        Self::of(magnitudes, model.has_norms_before())
    }

    fn of(magnitudes: Vec<Vec<f64>>, foldable: bool) -> Self {
        Self {
            magnitudes,
            foldable,
            known: Mutex::default(),
        }
    }

    /// α of a cut: mean over channels of E|x_end| / E|x_start|; `None` where there is no such ratio, or
    /// no place for it.
    pub fn factor(&self, gone: &Range<usize>) -> Option<f32> {
        let at = |layer: usize| self.magnitudes.get(layer).map_or(&[][..], Vec::as_slice);
        let ratios = at(gone.start).iter().zip(at(gone.end));
        let ratios: Vec<f64> = ratios
            .map(|(start, end)| end / start)
            .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
            .collect();
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        (self.foldable && !ratios.is_empty()).then_some(mean as f32)
    }

    /// The candidate with a factor at each of its cuts.
    pub fn mend(&self, keep: &KeepSet) -> Mended {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mends = cuts(keep).into_iter().filter_map(|(after, gone)| {
            let factor = self.factor(&gone)?;
            let mend = known.entry(gone);
            let mend = mend.or_insert_with(|| Arc::new(Mend::Scale(factor)));
            Some((after, mend.clone()))
        });
        Mended {
            mends: mends.collect::<BTreeMap<_, _>>(),
            keep: keep.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_the_mean_ratio_of_the_channels_magnitudes() {
        let magnitudes = vec![vec![1.0, 2.0], vec![2.0, 2.0], vec![4.0, 0.0]];
        let scales = Scales::of(magnitudes.clone(), true);
        assert_eq!(scales.factor(&(0..1)), Some(1.5));
        // A channel that vanishes says nothing.
        assert_eq!(scales.factor(&(0..2)), Some(4.0));
        assert_eq!(scales.factor(&(2..7)), None);
        assert_eq!(Scales::of(magnitudes, false).factor(&(0..1)), None);
    }

    #[test]
    fn candidates_share_the_factor_of_a_cut_that_they_share() {
        let scales = Scales::of(vec![vec![1.0]; 9], true);
        let [one, two] = [&[3][..], &[3, 6]].map(|gone| {
            let keep = KeepSet::without(8, gone).unwrap();
            scales.mend(&keep)
        });
        assert!(Arc::ptr_eq(&one.mends[&2], &two.mends[&2]));
        assert_eq!(two.mends.len(), 2);
    }
}
