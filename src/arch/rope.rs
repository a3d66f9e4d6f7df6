//! Rotary position scaling, as config.json and GGUF say it.

use super::params::hf_field;
use crate::checkpoint::gguf;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// How rotary frequencies are stretched beyond the trained context.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by a factor.
    Linear {
        /// The divisor of positions.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, those between blended.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// original_context / low_freq_factor is the shortest wavelength divided in full.
        low_freq_factor: f64,
        /// original_context / high_freq_factor is the longest wavelength left alone.
        high_freq_factor: f64,
        /// The context length before scaling.
        original_context: f64,
    },
}

/// The published parameters of Llama 3.1 to 3.3: GGUF stores only the resulting factors.
const LLAMA3: (f64, f64, f64) = (1.0, 4.0, 8192.0);

impl RopeScaling {
    /// Reads `rope_scaling` (transformers 4) or `rope_parameters` (5).
    ///
    /// # Errors
    /// A type that the decoder does not know.
    pub fn from_hf(config: &Map<String, Value>) -> Result<Self> {
        let object = |name: &str| config.get(name).and_then(Value::as_object);
        let Some(scaling) = object("rope_scaling").or_else(|| object("rope_parameters")) else {
            return Ok(Self::None);
        };
        let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
        let number = |name: &str| {
            let value = hf_field(scaling, name).and_then(Value::as_f64);
            let value = value.filter(|v| v.is_finite() && *v > 0.0);
            value.with_context(|| format!("config.json: rope scaling has no usable {name}"))
        };
        match kind.and_then(Value::as_str).unwrap_or("default") {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear {
                factor: number("factor")?,
            }),
            "llama3" => Ok(Self::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_context: number("original_max_position_embeddings")?,
            }),
            other => bail!(
                "config.json: rope scaling '{other}' is not known (slim knows default, linear, llama3)"
            ),
        }
    }

    /// Reads `{arch}.rope.scaling.*`; `factors` is the content of `rope_freqs.weight`.
    ///
    /// # Errors
    /// A type that the decoder does not know.
    pub fn from_gguf(arch: &str, metadata: &gguf::Metadata) -> Result<Self> {
        let Some(kind) = metadata.get(&format!("{arch}.rope.scaling.type")) else {
            return Ok(Self::None);
        };
        let key = format!("{arch}.rope.scaling.factor");
        match kind.as_str().unwrap_or_default() {
            "none" => Ok(Self::None),
            "linear" => {
                let factor = metadata.get(&key).and_then(|value| value.as_f64());
                let factor = factor.filter(|f| f.is_finite() && *f > 0.0);
                let factor = factor.with_context(|| format!("no usable {key}"))?;
                Ok(Self::Linear { factor })
            }
            other => bail!(
                "{arch}.rope.scaling.type '{other}' is not known (slim knows none, linear and rope_freqs.weight)"
            ),
        }
    }

    /// The divisors of the rotary frequencies, one for each pair of dimensions: what GGUF stores
    /// as `rope_freqs.weight`. `None` where every divisor is 1.
    ///
    /// Formula: Llama 3.1's reference code (`apply_scaling`), with wavelength 2π / frequency.
    pub fn freq_factors(&self, head_dim: usize, theta: f64) -> Option<Vec<f32>> {
        let Self::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } = *self
        else {
            return None;
        };
        let divisor = |i: usize| {
            let frequency = theta.powf(-2.0 * i as f64 / head_dim as f64);
            let turns = original_context * frequency / (2.0 * std::f64::consts::PI);
            if turns > high_freq_factor {
                1.0
            } else if turns < low_freq_factor {
                factor
            } else {
                let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        Some((0..head_dim / 2).map(|i| divisor(i) as f32).collect())
    }

    /// Finds the parameters behind a `rope_freqs.weight`, which GGUF does not name.
    ///
    /// # Errors
    /// Factors that the published Llama 3 parameters do not give: they cannot be named in
    /// config.json.
    pub fn from_freq_factors(factors: &[f32], theta: f64) -> Result<Self> {
        let (low_freq_factor, high_freq_factor, original_context) = LLAMA3;
        let factor = f64::from(factors.iter().copied().fold(1.0, f32::max));
        let scaling = Self::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        };
        let expected = scaling.freq_factors(2 * factors.len(), theta);
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs();
        let fits = expected.is_some_and(|e| factors.iter().zip(&e).all(close));
        ensure!(
            fits,
            "rope_freqs.weight is not Llama 3's scaling by {factor}: config.json has no words for it, so write GGUF instead"
        );
        Ok(scaling)
    }

    /// The `rope_scaling` object of config.json, `None` where there is no scaling.
    pub fn to_hf(&self) -> Option<Value> {
        match *self {
            Self::None => None,
            Self::Linear { factor } => {
                Some(serde_json::json!({"rope_type": "linear", "factor": factor}))
            }
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => Some(serde_json::json!({
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_context as u64,
                "rope_type": "llama3"
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_factors_lead_back_to_their_parameters() {
        let scaling = RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        let factors = scaling.freq_factors(64, 500_000.0).unwrap();
        assert_eq!(factors[0], 1.0);
        assert_eq!(factors[31], 32.0);
        assert!(factors.windows(2).all(|pair| pair[0] <= pair[1]));
        let found = RopeScaling::from_freq_factors(&factors, 500_000.0).unwrap();
        assert_eq!(found, scaling);
    }

    #[test]
    fn unknown_scaling_is_an_error_that_lists_the_known() {
        let config = serde_json::json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}});
        let error = RopeScaling::from_hf(config.as_object().unwrap()).unwrap_err();
        assert!(error.to_string().contains("llama3"), "{error}");
    }
}
