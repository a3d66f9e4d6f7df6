//! Metadata of the other format, as its stock converter or its model class would write them.

use super::vocabulary::Vocabulary;
use crate::arch::{Arch, ParamType, Params, RopeScaling};
use crate::checkpoint::gguf::{Value, keys};
use crate::checkpoint::{Checkpoint, DType};
use anyhow::{Context, Result};
use serde_json::{Map, Value as Json, json};

/// ggml's version of its quantised blocks.
const QUANTIZATION_VERSION: u32 = 2;

/// `general.file_type` of each type that slim writes (llama.cpp's `llama_ftype`).
const FILE_TYPES: &[(DType, u32)] = &[
    (DType::F32, 0),
    (DType::F16, 1),
    (DType::Q4_0, 2),
    (DType::Q4_1, 3),
    (DType::Q8_0, 7),
    (DType::BF16, 32),
];

/// `general.file_type` of a file whose matrices are mostly of a type.
pub fn file_type(dtype: DType) -> Option<u32> {
    let known = FILE_TYPES.iter().find(|(ours, _)| *ours == dtype);
    known.map(|(_, number)| *number)
}

/// GGUF metadata of a Hugging Face checkpoint with its tokenizer, keys in the stock converter's
/// order. `size_label` and the block count are those of the whole model.
///
/// # Errors
/// A tokenizer that GGUF cannot carry.
pub fn gguf_metadata(
    checkpoint: &Checkpoint,
    arch: &Arch,
    name: &str,
    size_label: &str,
    dtype: DType,
    tokenizer_pre: Option<&str>,
) -> Result<Vec<(String, Value<'static>)>> {
    let files = checkpoint.hf().context("not a Hugging Face checkpoint")?;
    let params = arch.params(checkpoint)?;
    let text = |key: &str, value: &str| (key.to_owned(), Value::str(value));
    let mut entries = vec![
        text(keys::ARCHITECTURE, &arch.name),
        text("general.type", "model"),
        text(keys::NAME, name),
        text(keys::SIZE_LABEL, size_label),
    ];
    for param in arch.params.iter().filter(|param| !param.hf_only) {
        if param.key == "vocab_size" {
            let number = file_type(dtype)
                .with_context(|| format!("general.file_type of {} is not known", dtype.name()))?;
            entries.push((keys::FILE_TYPE.to_owned(), Value::u32(number)));
        }
        if let Some(value) = params.get(&param.key) {
            let value = match param.ty {
                ParamType::U32 => Value::u32(value as u32),
                ParamType::F32 => Value::f32(value as f32),
            };
            entries.push((keys::of(&arch.name, &param.key), value));
        }
    }
    let head_dim = params.head_dim()? as u32;
    entries.push((
        keys::of(&arch.name, "rope.dimension_count"),
        Value::u32(head_dim),
    ));
    if let RopeScaling::Linear { factor } = RopeScaling::from_hf(&files.config)? {
        let key = |suffix| keys::of(&arch.name, suffix);
        entries.push((key("rope.scaling.type"), Value::str("linear")));
        entries.push((key("rope.scaling.factor"), Value::f32(factor as f32)));
    }
    entries.push((
        keys::QUANTIZATION_VERSION.to_owned(),
        Value::u32(QUANTIZATION_VERSION),
    ));
    let vocabulary = Vocabulary::from_hf(&files.dir, &files.config, tokenizer_pre)?;
    entries.extend(vocabulary.to_gguf());
    Ok(entries)
}

/// config.json of a GGUF checkpoint, as its model class would write it.
///
/// # Errors
/// Rotary scaling that config.json has no words for.
pub fn hf_config(
    checkpoint: &Checkpoint,
    arch: &Arch,
    vocabulary: &Vocabulary,
    dtype: DType,
) -> Result<Map<String, Json>> {
    let params = arch.params(checkpoint)?;
    let mut config = Map::new();
    let mut set = |key: &str, value: Json| config.insert(key.to_owned(), value);
    let class = arch.model_types.get(&arch.name);
    set("architectures", json!([class]));
    set("model_type", json!(arch.name));
    for param in &arch.params {
        if let Some(value) = params.get(&param.key) {
            set(&param.hf, number(param.ty, value));
        }
    }
    let has = |gguf: &str| checkpoint.tensor(gguf).is_some();
    let rows = checkpoint
        .tensor("token_embd.weight")
        .and_then(|tensor| tensor.shape.first().copied());
    set("vocab_size", json!(rows.context("no token embedding")?));
    set("hidden_act", json!("silu"));
    set("attention_bias", json!(has("blk.0.attn_q.bias")));
    set("mlp_bias", json!(has("blk.0.ffn_gate.bias")));
    set("tie_word_embeddings", json!(!has("output.weight")));
    let scaling = stored_scaling(checkpoint, arch, &params)?;
    set("rope_scaling", scaling.to_hf().unwrap_or(Json::Null));
    for (field, token) in [
        ("bos_token_id", vocabulary.bos()),
        ("eos_token_id", vocabulary.eos()),
    ] {
        set(field, json!(token));
    }
    set("torch_dtype", json!(torch_name(dtype)));
    set("use_cache", json!(true));
    Ok(config)
}

fn stored_scaling(checkpoint: &Checkpoint, arch: &Arch, params: &Params) -> Result<RopeScaling> {
    let Some(tensor) = checkpoint.tensor("rope_freqs.weight") else {
        let metadata = checkpoint.gguf().context("not a GGUF checkpoint")?;
        return RopeScaling::from_gguf(&arch.name, metadata);
    };
    let bytes = checkpoint.bytes(tensor).chunks_exact(4);
    let factors: Vec<f32> = bytes
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let theta = params.get("rope.freq_base").unwrap_or(10_000.0);
    RopeScaling::from_freq_factors(&factors, theta)
}

/// The shortest decimal that reads back as the stored f32, so that 1e-5 stays 1e-5.
fn number(ty: ParamType, value: f64) -> Json {
    match ty {
        ParamType::U32 => json!(value as u64),
        ParamType::F32 => {
            let shortest = (value as f32).to_string().parse::<f64>();
            json!(shortest.unwrap_or(value))
        }
    }
}

/// PyTorch's name of a type, as `torch_dtype` has it.
pub fn torch_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float32",
        DType::BF16 => "bfloat16",
        _ => "float16",
    }
}
