//! One factor a cut (Prune&Comp): layers add to the hidden state, so what follows a cut expects
//! states of another magnitude. α is the mean over channels of the ratio of their mean magnitudes
//! behind and before the cut.

use super::cuts;
use crate::arch::KeepSet;
use crate::eval::Mended;
use crate::model::Mend;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The factors of all cuts of one model.
pub struct Scales {
    /// Mean magnitude of every channel before each layer, and behind the last:
    /// [n_layers + 1][hidden_size].
    magnitudes: Vec<Vec<f64>>,
    /// By cut: candidates with the same cut share the factor, and so their states.
    known: Mutex<HashMap<Range<usize>, Arc<Mend>>>,
}

impl Scales {
    /// Of magnitudes [n_layers + 1][hidden_size], of the original.
    pub fn new(magnitudes: Vec<Vec<f64>>) -> Self {
        Self {
            magnitudes,
            known: Mutex::default(),
        }
    }

    /// α of a cut: mean over channels of E|x_end| / E|x_start|. 1 where there is no such ratio.
    pub fn factor(&self, gone: &Range<usize>) -> f32 {
        let at = |layer: usize| self.magnitudes.get(layer).map_or(&[][..], Vec::as_slice);
        let ratios = at(gone.start).iter().zip(at(gone.end));
        let ratios: Vec<f64> = ratios
            .map(|(start, end)| end / start)
            .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
            .collect();
        match ratios.is_empty() {
            true => 1.0,
            false => (ratios.iter().sum::<f64>() / ratios.len() as f64) as f32,
        }
    }

    /// The candidate with a factor at each of its cuts.
    pub fn mend(&self, keep: &KeepSet) -> Mended {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mends = cuts(keep).into_iter().map(|(after, gone)| {
            let mend = known.entry(gone.clone());
            let mend = mend.or_insert_with(|| Arc::new(Mend::Scale(self.factor(&gone))));
            (after, mend.clone())
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
        let scales = Scales::new(vec![vec![1.0, 2.0], vec![2.0, 2.0], vec![4.0, 0.0]]);
        assert_eq!(scales.factor(&(0..1)), 1.5);
        // A channel that vanishes says nothing.
        assert_eq!(scales.factor(&(0..2)), 4.0);
        assert_eq!(scales.factor(&(2..7)), 1.0);
    }

    #[test]
    fn candidates_share_the_factor_of_a_cut_that_they_share() {
        let scales = Scales::new(vec![vec![1.0]; 9]);
        let [one, two] = [&[3][..], &[3, 6]].map(|gone| {
            let keep = KeepSet::without(8, gone).unwrap();
            scales.mend(&keep)
        });
        assert!(Arc::ptr_eq(&one.mends[&2], &two.mends[&2]));
        assert_eq!(two.mends.len(), 2);
    }
}
