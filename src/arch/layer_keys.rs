//! Metadata with something to say of each layer, in both formats: what pruning must rewrite.

use super::Arch;
use super::keep::KeepSet;
use super::pattern::{Pin, Pinned};
use crate::checkpoint::gguf::{Metadata, Value as GgufValue};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// GGUF keys (without prefix) whose array gives every layer a shape of its own: query heads, key and
/// value heads, the width of the MLP.
pub(super) const SHAPES: [&str; 3] = [
    "attention.head_count",
    "attention.head_count_kv",
    "feed_forward_length",
];

/// GGUF keys (without prefix) whose array has one element a layer.
const ARRAYS: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "feed_forward_length",
    "attention.sliding_window_pattern",
    "attention.recurrent_layers",
    "attention.indexer.types",
    "attention.compress_ratios",
    "attention.rope_pattern",
    "expert_feed_forward_length",
    "expert_used_count",
    "swiglu_clamp_exp",
    "swiglu_clamp_shexp",
    "deepstack_mapping",
    "activation_sparsity_scale",
];

/// GGUF keys whose array has one element a layer, and that have no prefix.
const BARE_ARRAYS: &[&str] = &["xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps"];

/// GGUF keys (without prefix) whose one number depends on the layers' indices or count. A
/// description must say what its architecture does with them. No layer differs where it is 0, nor
/// where a period is 1.
const SCALARS: &[&str] = &[
    "attention.sliding_window_pattern",
    "full_attention_interval",
    "interleave_moe_layer_step",
    "moe_every_n_layers",
    "rescale_every_n_layers",
    "leading_dense_block_count",
    "nextn_predict_layers",
    "hash_layer_count",
    "attention.shared_kv_layers",
    "n_deepstack_layers",
    "attn_res.block_size",
    "decoder_block_count",
];

/// Those that are periods.
const PERIODS: &[&str] = &[
    "attention.sliding_window_pattern",
    "full_attention_interval",
    "interleave_moe_layer_step",
    "moe_every_n_layers",
    "attn_res.block_size",
];

/// Fields of config.json whose array has one element a layer.
const FIELDS: &[&str] = &[
    "layer_types",
    "mlp_layer_types",
    "no_rope_layers",
    "layers_block_type",
];

/// Fields of config.json that list layer indices.
const INDEX_FIELDS: &[&str] = &["mlp_only_layers"];

/// Fields of config.json whose arrays have nothing to do with layers, whatever their length.
const NEVER_PER_LAYER: &[&str] = &[
    "architectures",
    "eos_token_id",
    "long_factor",
    "short_factor",
];

/// A key with its new value.
pub type Rewritten = (String, GgufValue<'static>);

impl Arch {
    /// GGUF keys that change when layers go, with their new values.
    ///
    /// # Errors
    /// An array with one element a layer, or a number that depends on the layers, of which slim
    /// does not know the meaning: pruning would shift it.
    pub fn gguf_layer_keys(
        &self,
        metadata: &Metadata,
        keep: &KeepSet,
        n_layers: usize,
    ) -> Result<Vec<Rewritten>> {
        let prefix = self.key("");
        let mut rewritten = Vec::new();
        if keep.len() == n_layers {
            return Ok(rewritten);
        }
        for (key, value) in metadata.iter() {
            let bare = BARE_ARRAYS.contains(&key).then_some(key);
            let Some(suffix) = key.strip_prefix(&prefix).or(bare) else {
                continue;
            };
            let new = match value.array() {
                Some((_, len)) => self.new_array(suffix, &value, len, keep, n_layers),
                None => self.new_scalar(suffix, &value, keep, n_layers),
            };
            if let Some(new) = new.with_context(|| key.to_owned())? {
                rewritten.push((key.to_owned(), new));
            }
        }
        self.check_first(metadata, keep)?;
        rewritten.extend(self.pinned(metadata, n_layers));
        Ok(rewritten)
    }

    /// Where the length of a head is not stated, runtimes work it out from the heads of the first
    /// layer.
    fn check_first(&self, metadata: &Metadata, keep: &KeepSet) -> Result<()> {
        let heads = metadata.get(&self.key("attention.head_count"));
        let heads = heads.filter(|value| value.array().is_some());
        let heads: Option<Vec<i64>> =
            heads.and_then(|value| value.iter_i64().map(Iterator::collect));
        let stated = |key: &str| metadata.get(&self.key(key)).is_some();
        let (Some(heads), Some(&first)) = (heads, keep.layers().first()) else {
            return Ok(());
        };
        ensure!(
            heads.get(first) == heads.first()
                || (stated("attention.key_length")
                    && stated("attention.value_length")
                    && [0, first].iter().all(|&l| heads.get(l) != Some(&0))),
            "layer {first} would be the first, and its number of attention heads is not that of layer 0, from which runtimes work out the length of every head"
        );
        Ok(())
    }

    /// What runtimes would otherwise work out from the new number of layers.
    fn pinned(&self, metadata: &Metadata, n_layers: usize) -> Vec<Rewritten> {
        let pins = self.pattern.pins.iter().filter(|pin| {
            let holds = pin.layers.is_empty() || pin.layers.contains(&n_layers);
            holds && metadata.get(&self.key(&pin.key)).is_none()
        });
        let value = |pin: &Pin| match pin.value {
            Pinned::U32(number) => GgufValue::u32(number),
            Pinned::PerRootOfLayers(number) => {
                GgufValue::f32((number / (n_layers as f64).sqrt()) as f32)
            }
        };
        pins.map(|pin| (self.key(&pin.key), value(pin))).collect()
    }

    fn new_array(
        &self,
        suffix: &str,
        value: &GgufValue,
        len: u64,
        keep: &KeepSet,
        n_layers: usize,
    ) -> Result<Option<GgufValue<'static>>> {
        if self.pattern.index_lists.iter().any(|key| key == suffix) {
            let kept = |index: i64| keep.new_index(usize::try_from(index).ok()?);
            let indices = value.iter_i64().context("is no list of layer indices")?;
            let new: Vec<u32> = indices.filter_map(kept).map(|i| i as u32).collect();
            return Ok(Some(GgufValue::u32s(&new)));
        }
        let known = ARRAYS.contains(&suffix) || BARE_ARRAYS.contains(&suffix);
        match (known, len == n_layers as u64) {
            (true, true) => value
                .select(keep.layers())
                .context("is no array of layers")
                .map(Some),
            // An array that stays empty says nothing of layers.
            (true, false) if len == 0 => Ok(None),
            (true, false) => bail!("has {len} elements, but the model has {n_layers} layers"),
            (false, true) => bail!(
                "is an array with one element a layer, and slim does not know what it means: pruning would shift it"
            ),
            (false, false) => Ok(None),
        }
    }

    fn new_scalar(
        &self,
        suffix: &str,
        value: &GgufValue,
        keep: &KeepSet,
        n_layers: usize,
    ) -> Result<Option<GgufValue<'static>>> {
        let mut counts = self.pattern.counts.iter();
        if let Some(rule) = counts.find(|rule| rule.key.as_deref() == Some(suffix)) {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            let count = count.context("is no number of layers")?;
            let new = rule.after(count, keep, n_layers) as u32;
            return Ok(Some(GgufValue::u32(new)));
        }
        let known = self.pattern.names(suffix);
        let most = u64::from(PERIODS.contains(&suffix));
        let alike = value.as_u64().is_some_and(|number| number <= most);
        ensure!(
            known || !SCALARS.contains(&suffix) || alike,
            "depends on the layers, and slim does not know how a {} model uses it: pruning would shift it",
            self.name
        );
        Ok(None)
    }

    /// Rewrites what config.json says of each layer.
    ///
    /// # Errors
    /// An array with one element a layer of which slim does not know the meaning, at any depth;
    /// or a known one of another length.
    pub fn rewrite_layer_fields(
        &self,
        config: &mut Map<String, Value>,
        keep: &KeepSet,
        n_layers: usize,
    ) -> Result<()> {
        if keep.len() == n_layers {
            return Ok(());
        }
        for (field, value) in config.iter_mut() {
            let field = field.as_str();
            match value {
                Value::Object(nested) => nested
                    .iter()
                    .try_for_each(|(name, value)| not_per_layer(name, value, n_layers))?,
                Value::Array(elements) if FIELDS.contains(&field) => {
                    ensure!(
                        elements.len() == n_layers,
                        "config.json: {field} has {} elements, but the model has {n_layers} layers",
                        elements.len()
                    );
                    let mut layers = 0..n_layers;
                    elements.retain(|_| layers.next().is_some_and(|l| keep.contains(l)));
                }
                Value::Array(elements) if INDEX_FIELDS.contains(&field) => {
                    let indices = elements.iter().filter_map(Value::as_u64);
                    let new = indices.filter_map(|index| keep.new_index(index as usize));
                    *elements = new.map(|index| json!(index)).collect();
                }
                value => not_per_layer(field, value, n_layers)?,
            }
        }
        for rule in &self.pattern.counts {
            let Some(field) = &rule.hf else { continue };
            if let Some(count) = config.get(field).and_then(Value::as_u64) {
                let new = rule.after(count as usize, keep, n_layers);
                config.insert(field.clone(), json!(new));
            }
        }
        Ok(())
    }
}

fn not_per_layer(field: &str, value: &Value, n_layers: usize) -> Result<()> {
    match value {
        Value::Object(nested) => nested
            .iter()
            .try_for_each(|(name, value)| not_per_layer(name, value, n_layers)),
        Value::Array(elements) if !NEVER_PER_LAYER.contains(&field) => {
            ensure!(
                elements.len() != n_layers || n_layers == 1,
                "config.json: {field} is an array with one element a layer, and slim does not know what it means: pruning would shift it"
            );
            Ok(())
        }
        _ => Ok(()),
    }
}
