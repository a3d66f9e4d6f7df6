//! Rotary position scaling, as config.json and GGUF say it.

use super::Arch;
use super::params::hf_field;
use crate::checkpoint::Checkpoint;
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
    /// LongRoPE (Phi-3): each frequency divided by a factor of its own.
    LongRope {
        /// The divisors for texts up to `original_context`.
        short: Vec<f32>,
        /// The divisors for longer texts.
        long: Vec<f32>,
        /// The context length before scaling.
        original_context: f64,
        /// What cos and sin are multiplied with.
        attention_factor: f64,
    },
}

/// The published parameters of Llama 3.1 to 3.3: GGUF stores only the resulting factors.
const LLAMA3: (f64, f64, f64) = (1.0, 4.0, 8192.0);

impl RopeScaling {
    /// The scaling of a checkpoint. A GGUF file's `rope_freqs.weight` is not read here: its
    /// factors need no name to be computed with.
    ///
    /// # Errors
    /// A type that the decoder does not know.
    pub fn of(arch: &Arch, checkpoint: &Checkpoint) -> Result<Self> {
        match checkpoint.hf() {
            Some(files) => Self::from_hf(&files.config),
            None => Self::from_gguf(arch, checkpoint),
        }
    }

    /// Reads `rope_scaling` (transformers 4) or `rope_parameters` (5), there the one of layers
    /// that attend to the whole text.
    ///
    /// # Errors
    /// A type that the decoder does not know.
    pub fn from_hf(config: &Map<String, Value>) -> Result<Self> {
        let object = |name: &str| config.get(name).and_then(Value::as_object);
        let Some(scaling) = object("rope_scaling").or_else(|| object("rope_parameters")) else {
            return Ok(Self::None);
        };
        let of_kind = |name: &str| scaling.get(name).and_then(Value::as_object);
        if let Some(local) = of_kind("sliding_attention") {
            let scaled = rope_type(local) != "default";
            ensure!(
                !scaled,
                "config.json: rope scaling of sliding_attention layers is not known"
            );
        }
        let scaling = of_kind("full_attention").unwrap_or(scaling);
        let number = |name: &str| {
            let value = hf_field(scaling, name).or_else(|| hf_field(config, name));
            let value = value.and_then(Value::as_f64);
            let value = value.filter(|v| v.is_finite() && *v > 0.0);
            value.with_context(|| format!("config.json: rope scaling has no usable {name}"))
        };
        match rope_type(scaling) {
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
            "longrope" | "su" => {
                let original_context = number("original_max_position_embeddings")?;
                let stretch = number("max_position_embeddings")? / original_context;
                let stated = hf_field(scaling, "attention_factor").and_then(Value::as_f64);
                Ok(Self::LongRope {
                    short: factors(scaling, "short_factor")?,
                    long: factors(scaling, "long_factor")?,
                    original_context,
                    attention_factor: stated
                        .unwrap_or_else(|| longrope_attention(stretch, original_context)),
                })
            }
            other => bail!(
                "config.json: rope scaling '{other}' is not known (slim knows default, linear, llama3, longrope)"
            ),
        }
    }

    /// Reads `{arch}.rope.scaling.*` and `rope_factors_*.weight`.
    fn from_gguf(arch: &Arch, checkpoint: &Checkpoint) -> Result<Self> {
        let metadata = checkpoint.gguf().context("not a GGUF checkpoint")?;
        let number = |suffix: &str| metadata.get(&arch.key(suffix)).and_then(|v| v.as_f64());
        let stored = |name: &str| checkpoint.tensor(name).map(|t| f32s(checkpoint.bytes(t)));
        if let (Some(short), Some(long)) = (
            stored("rope_factors_short.weight"),
            stored("rope_factors_long.weight"),
        ) {
            let original = number("rope.scaling.original_context_length");
            return Ok(Self::LongRope {
                short,
                long,
                original_context: original.context("no rope.scaling.original_context_length")?,
                attention_factor: number("rope.scaling.attn_factor").unwrap_or(1.0),
            });
        }
        let Some(kind) = metadata.get(&arch.key("rope.scaling.type")) else {
            return Ok(Self::None);
        };
        match kind.as_str().unwrap_or_default() {
            "none" => Ok(Self::None),
            "linear" => {
                let factor = number("rope.scaling.factor");
                let factor = factor.filter(|f| f.is_finite() && *f > 0.0);
                let factor = factor.context("no usable rope.scaling.factor")?;
                Ok(Self::Linear { factor })
            }
            other => bail!(
                "rope.scaling.type '{other}' is not known (slim knows none, linear, rope_freqs.weight and rope_factors_*.weight)"
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
        match self {
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
                "original_max_position_embeddings": *original_context as u64,
                "rope_type": "llama3"
            })),
            Self::LongRope {
                short,
                long,
                attention_factor,
                ..
            } => Some(serde_json::json!({
                "attention_factor": shortest(*attention_factor as f32),
                "long_factor": long.iter().copied().map(shortest).collect::<Vec<_>>(),
                "short_factor": short.iter().copied().map(shortest).collect::<Vec<_>>(),
                "rope_type": "longrope",
                "type": "longrope"
            })),
        }
    }
}

fn rope_type(scaling: &Map<String, Value>) -> &str {
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
    kind.and_then(Value::as_str).unwrap_or("default")
}

/// √(1 + ln stretch / ln original context): LongRoPE, arXiv 2402.13753, as Phi-3 uses it.
fn longrope_attention(stretch: f64, original_context: f64) -> f64 {
    match stretch > 1.0 {
        true => (1.0 + stretch.ln() / original_context.ln()).sqrt(),
        false => 1.0,
    }
}

fn factors(scaling: &Map<String, Value>, name: &str) -> Result<Vec<f32>> {
    let list = hf_field(scaling, name).and_then(Value::as_array);
    let list = list.with_context(|| format!("config.json: rope scaling has no {name}"))?;
    let number = |value: &Value| value.as_f64().filter(|v| v.is_finite() && *v > 0.0);
    let all: Option<Vec<f32>> = list.iter().map(|v| number(v).map(|v| v as f32)).collect();
    all.with_context(|| format!("config.json: {name} is no list of positive numbers"))
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.chunks_exact(4);
    chunks
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

/// The shortest decimal that reads back as the same f32, so that 1e-5 stays 1e-5.
pub(crate) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
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
