//! How few coordinates carry a hidden state, by layer, family and slice.
//!
//! Two measures of a state x of n coordinates, both in [0, 1]:
//!
//! - **top-k energy**: Σ of the k largest x_i² / Σ x_i², k = n/100 but at least 1. It is one minus
//!   the relative squared error of the best k-term approximation (Cohen, Dahmen and DeVore,
//!   *Compressed sensing and best k-term approximation*, J. Amer. Math. Soc. 22, 2009).
//! - **Hoyer sparsity**: (√n − ‖x‖₁/‖x‖₂) / (√n − 1), 0 where all coordinates are alike and 1 where
//!   all but one are zero (Hoyer, *Non-negative matrix factorization with sparseness constraints*,
//!   JMLR 5, 2004, section 3.1).
//!
//! They are taken at the last token of each prompt only, after every layer: there the model has
//! read the whole question and decides. A mean over all tokens would mostly be one over the solved
//! examples, which the questions of a task share, and over the first token, whose state is a spike
//! in every model with an attention sink.

use serde::{Deserialize, Serialize};

/// The share of the coordinates that count as the top: one in so many.
const TOP: usize = 100;

/// The sparsity of one state.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sparsity {
    /// Share of the squared norm in the largest 1 % of the coordinates.
    pub top_energy: f64,
    /// Hoyer's measure.
    pub hoyer: f64,
}

/// The sparsity of a state; `None` for one without a direction (all zeros, not finite, or fewer
/// than two coordinates).
pub fn sparsity(state: &[f32]) -> Option<Sparsity> {
    let mut squares: Vec<f64> = state.iter().map(|&x| f64::from(x).powi(2)).collect();
    let energy: f64 = squares.iter().sum();
    if squares.len() < 2 || !energy.is_finite() || energy == 0.0 {
        return None;
    }
    let k = (squares.len() / TOP).max(1);
    squares.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let top: f64 = squares.iter().take(k).sum();
    let l1: f64 = state.iter().map(|&x| f64::from(x).abs()).sum();
    let root = (squares.len() as f64).sqrt();
    Some(Sparsity {
        top_energy: (top / energy).clamp(0.0, 1.0),
        hoyer: ((root - l1 / energy.sqrt()) / (root - 1.0)).clamp(0.0, 1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Sparsity, top_energy: f64, hoyer: f64) -> bool {
        (found.top_energy - top_energy).abs() < 1e-12 && (found.hoyer - hoyer).abs() < 1e-12
    }

    /// ‖x‖₁ = 7, ‖x‖₂ = 5, √n = 2: the largest of 4 has 16/25, and (2 − 7/5) / (2 − 1) = 0.6.
    #[test]
    fn both_measures_are_those_worked_out_by_hand() {
        assert!(close(sparsity(&[3.0, 0.0, -4.0, 0.0]).unwrap(), 0.64, 0.6));
    }

    #[test]
    fn the_extremes_are_one_spike_and_no_difference() {
        let mut spike = vec![0.0; 300];
        spike[17] = -2.5;
        assert!(close(sparsity(&spike).unwrap(), 1.0, 1.0));
        let even = sparsity(&vec![0.1; 300]).unwrap();
        assert!(close(even, 3.0 / 300.0, 0.0), "{even:?}");
    }

    /// Three of 300: 100 + 81 + 64 of 285 + 1, with signs that do not matter.
    #[test]
    fn the_top_is_one_coordinate_in_a_hundred() {
        let mut state = vec![0.0; 300];
        for (at, value) in [
            (5, 10.0),
            (299, -9.0),
            (0, 8.0),
            (7, 6.0),
            (8, 2.0),
            (9, 1.0),
        ] {
            state[at] = value;
        }
        let found = sparsity(&state).unwrap();
        assert!(
            (found.top_energy - 245.0 / 286.0).abs() < 1e-12,
            "{found:?}"
        );
    }

    #[test]
    fn states_without_a_direction_have_no_sparsity() {
        for state in [
            &[0.0, 0.0][..],
            &[1.0],
            &[],
            &[f32::NAN, 1.0],
            &[f32::INFINITY, 1.0],
        ] {
            assert_eq!(sparsity(state), None, "{state:?}");
        }
    }
}
