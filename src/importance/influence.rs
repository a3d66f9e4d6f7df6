//! Block influence (Men et al., ShortGPT, arXiv 2403.03853, eq. 1): BI = 1 − E cos(h_l, h_{l+1}).

use anyhow::Result;
use candle_core::{D, Tensor};

/// 1 − cos of the states of each token before and after a layer, both [tokens, hidden_size].
///
/// # Errors
/// What candle reports.
pub fn cosine_distances(before: &Tensor, after: &Tensor) -> Result<Vec<f32>> {
    let dot = (before * after)?.sum(D::Minus1)?;
    let norms = (before.sqr()?.sum(D::Minus1)? * after.sqr()?.sum(D::Minus1)?)?.sqrt()?;
    let cosine = (dot / norms)?;
    Ok(cosine.affine(-1.0, 1.0)?.to_vec1()?)
}

/// The running mean of every layer's cosine distances.
pub struct BlockInfluence {
    /// Sum and count, by layer.
    sums: Vec<(f64, usize)>,
}

impl BlockInfluence {
    /// For a model of `n_layers`.
    pub fn new(n_layers: usize) -> Self {
        Self {
            sums: vec![(0.0, 0); n_layers],
        }
    }

    /// Takes in the states around one layer.
    ///
    /// # Errors
    /// What candle reports.
    pub fn add(&mut self, layer: usize, before: &Tensor, after: &Tensor) -> Result<()> {
        let distances = cosine_distances(before, after)?;
        if let Some((sum, count)) = self.sums.get_mut(layer) {
            *sum += distances.iter().map(|&d| f64::from(d)).sum::<f64>();
            *count += distances.len();
        }
        Ok(())
    }

    /// The mean of every layer.
    pub fn means(&self) -> Vec<f64> {
        let mean = |(sum, count): &(f64, usize)| sum / (*count).max(1) as f64;
        self.sums.iter().map(mean).collect()
    }
}
