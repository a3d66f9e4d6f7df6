//! Metadata of the other format, as its stock converter or its model class would write them.

use super::vocabulary::{Role, Vocabulary};
use crate::arch::{Activation, Arch, ParamType, Params, RopeScaling, shortest};
use crate::checkpoint::gguf::{Value, keys};
use crate::checkpoint::{Checkpoint, DType};
use anyhow::{Context, Result};
use serde_json::{Map, Value as Json, json};

/// ggml's version of its quantised blocks.
pub const QUANTIZATION_VERSION: u32 = 2;

/// `general.file_type` of each type that slim writes (llama.cpp's `llama_ftype`).
const FILE_TYPES: &[(DType, u32)] = &[
    (DType::F32, 0),
    (DType::F16, 1),
    (DType::Q4_0, 2),
    (DType::Q4_1, 3),
    (DType::Q8_0, 7),
    (DType::Q5_0, 8),
    (DType::Q5_1, 9),
    (DType::Q2_K, 10),
    (DType::Q3_K, 12),
    (DType::Q4_K, 15),
    (DType::Q5_K, 17),
    (DType::Q6_K, 18),
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
        text(keys::ARCHITECTURE, arch.gguf_name()),
        text("general.type", "model"),
        text(keys::NAME, name),
        text(keys::SIZE_LABEL, size_label),
    ];
    for param in arch.params.iter().filter(|param| !param.hf_only) {
        if let Some(value) = params.get(&param.key) {
            let value = match param.ty {
                ParamType::U32 => Value::u32(value as u32),
                ParamType::F32 => Value::f32(value as f32),
            };
            entries.push((arch.key(&param.key), value));
        }
    }
    let number = file_type(dtype)
        .with_context(|| format!("general.file_type of {} is not known", dtype.name()))?;
    entries.push((keys::FILE_TYPE.to_owned(), Value::u32(number)));
    let mut scaling = |suffix, value| entries.push((arch.key(suffix), value));
    match RopeScaling::from_hf(&files.config)? {
        RopeScaling::Linear { factor } => {
            scaling("rope.scaling.type", Value::str("linear"));
            scaling("rope.scaling.factor", Value::f32(factor as f32));
        }
        RopeScaling::LongRope {
            attention_factor, ..
        } => {
            let factor = Value::f32(attention_factor as f32);
            scaling("rope.scaling.attn_factor", factor);
        }
        RopeScaling::None | RopeScaling::Llama3 { .. } => {}
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
    arch.check_words(checkpoint)?;
    let mut config = Map::new();
    let mut set = |key: &str, value: Json| config.insert(key.to_owned(), value);
    let (model_type, class) = arch.model_types.iter().next().context("no model class")?;
    set("architectures", json!([class]));
    set("model_type", json!(model_type));
    for param in &arch.params {
        if let (Some(field), Some(value)) = (&param.hf, params.get(&param.key)) {
            set(field, number(param.ty, value));
        }
    }
    let has = |gguf: &str| checkpoint.tensor(gguf).is_some();
    let rows = checkpoint
        .tensor("token_embd.weight")
        .and_then(|tensor| tensor.shape.first().copied());
    set("vocab_size", json!(rows.context("no token embedding")?));
    set("attention_bias", json!(has("blk.0.attn_q.bias")));
    set("mlp_bias", json!(has("blk.0.ffn_gate.bias")));
    set("tie_word_embeddings", json!(!has("output.weight")));
    let activation = match arch.decoder()?.activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    };
    set("hidden_act", json!(activation));
    for (field, value) in &arch.requires {
        set(field, value.clone());
    }
    if params.get("attention.sliding_window") == Some(0.0) {
        set("sliding_window", Json::Null);
    }
    if let Some(rule) = &arch.attention_scale {
        let scale = arch.source_attention_scale(checkpoint, &params)?;
        // The width of a head, which transformers takes as a whole number only.
        set(&rule.hf, json!(scale.powi(-2).round() as u64));
    }
    let (rotary, head_dim) = (
        params.get("rope.dimension_count"),
        params.head_dim()? as f64,
    );
    if let Some(part) = rotary
        .map(|dims| dims / head_dim)
        .filter(|&part| part != 1.0)
    {
        set("partial_rotary_factor", json!(shortest(part as f32)));
    }
    for (field, kinds) in arch.layers(checkpoint)?.fields() {
        set(field, Json::Array(kinds));
    }
    let scaling = stored_scaling(checkpoint, arch, &params)?;
    set("rope_scaling", scaling.to_hf().unwrap_or(Json::Null));
    for (field, token) in [
        ("bos_token_id", vocabulary.bos()),
        ("eos_token_id", vocabulary.eos()),
        // Said even where there is none: some classes have a default outside the vocabulary.
        ("pad_token_id", vocabulary.role(Role::Pad)),
    ] {
        set(field, json!(token));
    }
    set("torch_dtype", json!(torch_name(dtype)));
    set("use_cache", json!(true));
    Ok(config)
}

fn stored_scaling(checkpoint: &Checkpoint, arch: &Arch, params: &Params) -> Result<RopeScaling> {
    let Some(tensor) = checkpoint.tensor("rope_freqs.weight") else {
        return RopeScaling::of(arch, checkpoint);
    };
    let bytes = checkpoint.bytes(tensor).chunks_exact(4);
    let factors: Vec<f32> = bytes
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let theta = params.get("rope.freq_base").unwrap_or(10_000.0);
    RopeScaling::from_freq_factors(&factors, theta)
}

fn number(ty: ParamType, value: f64) -> Json {
    match ty {
        ParamType::U32 => json!(value as u64),
        ParamType::F32 => json!(shortest(value as f32)),
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
