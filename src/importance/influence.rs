//! Block influence (Men et al., ShortGPT, arXiv 2403.03853, eq. 1): BI = 1 − E cos(h_l, h_{l+1}).

use super::record::{finite, or_nan};
use anyhow::Result;
use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

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

/// The cosine distances of one layer over some tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Influence {
    /// Their sum; absent where it is no number.
    pub sum: Option<f64>,
    /// Tokens.
    pub tokens: u64,
}

impl Influence {
    /// Nothing yet.
    pub const NONE: Self = Self {
        sum: Some(0.0),
        tokens: 0,
    };

    /// Of the states around a layer, both [tokens, hidden_size].
    ///
    /// # Errors
    /// What candle reports.
    pub fn of(before: &Tensor, after: &Tensor) -> Result<Self> {
        let distances = cosine_distances(before, after)?;
        Ok(Self {
            sum: finite(distances.iter().map(|&d| f64::from(d)).sum()),
            tokens: distances.len() as u64,
        })
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            sum: finite(or_nan(self.sum) + or_nan(other.sum)),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }

    /// 1 − E cos.
    pub fn mean(self) -> f64 {
        or_nan(self.sum) / self.tokens.max(1) as f64
    }
}
