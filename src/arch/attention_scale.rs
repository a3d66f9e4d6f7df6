//! The scale of queries, where GGUF runtimes tell it from the number of layers.

use super::params::hf_field;
use super::{Arch, AttentionScale, Params};
use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result};

impl AttentionScale {
    /// What a GGUF runtime multiplies queries with in a model of so many layers.
    fn of_runtime(&self, n_layers: usize, params: &Params) -> Result<f64> {
        let heads = params.count("attention.head_count")?.max(1);
        let width = match n_layers == self.wide_layers {
            true => params.count("embedding_length")? / heads,
            false => params.head_dim()?,
        };
        Ok((width as f64).powf(-0.5))
    }
}

impl Arch {
    /// What queries of a checkpoint are multiplied with: head_dim to the −½, unless the
    /// architecture says otherwise.
    ///
    /// # Errors
    /// Hyper-parameters that are missing.
    pub fn source_attention_scale(&self, checkpoint: &Checkpoint, params: &Params) -> Result<f64> {
        let Some(rule) = &self.attention_scale else {
            return Ok((params.head_dim()? as f64).powf(-0.5));
        };
        let Some(files) = checkpoint.hf() else {
            return rule.of_runtime(params.count("block_count")?, params);
        };
        let stated = hf_field(&files.config, &rule.hf).map(|value| {
            let number = value.as_f64().filter(|v| v.is_finite() && *v > 0.0);
            number.with_context(|| format!("config.json: {} cannot be {value}", rule.hf))
        });
        Ok(stated.transpose()?.unwrap_or(rule.default).powf(-0.5))
    }

    /// The tensor (without layer) that must be multiplied, and with what, so that a GGUF runtime
    /// gives a model of `n_layers` layers the scale of its source. `None` where it does so by
    /// itself.
    ///
    /// # Errors
    /// Hyper-parameters that are missing.
    pub fn attention_fold(
        &self,
        checkpoint: &Checkpoint,
        n_layers: usize,
    ) -> Result<Option<(&str, f64)>> {
        let Some(rule) = &self.attention_scale else {
            return Ok(None);
        };
        let params = self.params(checkpoint)?;
        let wanted = self.source_attention_scale(checkpoint, &params)?;
        let factor = wanted / rule.of_runtime(n_layers, &params)?;
        let same = (factor - 1.0).abs() < 1e-9;
        Ok((!same).then_some((rule.fold_into.as_str(), factor)))
    }
}
