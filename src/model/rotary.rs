//! Rotary frequencies of one model.

use super::config::Config;
use super::weights::Weights;
use crate::arch::RopeScaling;
use anyhow::{Result, ensure};

/// Radians a position for each pair of dimensions, in each kind of layer.
pub(super) struct Rotary {
    /// In layers that attend to the whole text.
    global: Vec<f32>,
    /// The same for texts beyond a length, where that differs.
    beyond: Option<(usize, Vec<f32>)>,
    /// In layers that attend to a window, where that differs.
    pub(super) local: Option<Vec<f32>>,
    /// What cos and sin are multiplied with.
    pub(super) amplitude: f32,
}

impl Rotary {
    /// θ^(−2i/d), divided as the scaling says.
    ///
    /// # Errors
    /// A number of divisors that does not fit.
    pub(super) fn new(config: &Config, scaling: &RopeScaling, weights: &Weights) -> Result<Self> {
        let theta = config.rope_theta;
        let plain = |divisors: Option<&[f32]>, stretch: f64| {
            frequencies(config.rotary_dim, theta, divisors, stretch)
        };
        let local = config.rope_theta_local;
        let local = local.map(|theta| frequencies(config.rotary_dim, theta, None, 1.0));
        let mut rotary = Self {
            global: Vec::new(),
            beyond: None,
            local: local.transpose()?,
            amplitude: 1.0,
        };
        match scaling {
            RopeScaling::LongRope {
                short,
                long,
                original_context,
                attention_factor,
            } => {
                rotary.global = plain(Some(short), 1.0)?;
                rotary.beyond = Some((*original_context as usize, plain(Some(long), 1.0)?));
                rotary.amplitude = *attention_factor as f32;
            }
            RopeScaling::Linear { factor } => rotary.global = plain(None, *factor)?,
            _ => {
                let stored = weights.optional("rope_freqs.weight")?;
                let divisors = stored.or_else(|| scaling.freq_factors(config.rotary_dim, theta));
                rotary.global = plain(divisors.as_deref(), 1.0)?;
            }
        }
        Ok(rotary)
    }

    /// The frequencies of layers that attend to the whole text, for a text of this length.
    pub(super) fn global(&self, length: usize) -> &[f32] {
        match &self.beyond {
            Some((limit, frequencies)) if length > *limit => frequencies,
            _ => &self.global,
        }
    }
}

fn frequencies(dim: usize, theta: f64, divisors: Option<&[f32]>, stretch: f64) -> Result<Vec<f32>> {
    let pairs = dim / 2;
    ensure!(
        divisors.is_none_or(|d| d.len() == pairs),
        "rotary scaling has {} factors, but {pairs} pairs of dimensions rotate",
        divisors.map_or(0, <[f32]>::len)
    );
    let frequency = |i: usize| {
        let divisor = divisors.map_or(1.0, |d| f64::from(d[i]));
        (theta.powf(-2.0 * i as f64 / dim as f64) / divisor / stretch) as f32
    };
    Ok((0..pairs).map(frequency).collect())
}
