//! A random llama of a few kilobytes with the fixture's tokenizer, written by the safetensors
//! crate, for everything that needs no trained model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};

use crate::bench::{Bench, village};

pub const N_LAYERS: usize = 4;
pub const HIDDEN: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 16;
const MLP: usize = 96;

/// Tensors by name: shape and f32 elements.
pub type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Writes the model into the folder `name` of the bench.
pub fn write(bench: &Bench, name: &str) {
    write_changed(bench, name, |_| {}, |_| {});
}

/// The same with another config.json.
pub fn with_config(bench: &Bench, name: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    write_changed(bench, name, change, |_| {});
}

/// The same with other tensors.
pub fn with_weights(bench: &Bench, name: &str, change: impl FnOnce(&mut Weights)) {
    write_changed(bench, name, |_| {}, change);
}

fn write_changed(
    bench: &Bench,
    name: &str,
    config: impl FnOnce(&mut Map<String, Value>),
    weights: impl FnOnce(&mut Weights),
) {
    let folder = bench.path(name);
    fs::create_dir(&folder).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(village().join(file), folder.join(file)).unwrap();
    }
    let (mut fields, mut tensors) = (self::config(), self::weights());
    config(&mut fields);
    weights(&mut tensors);
    let text = serde_json::to_vec_pretty(&fields).unwrap();
    fs::write(folder.join("config.json"), text).unwrap();
    save(&folder.join("model.safetensors"), &tensors);
}

/// Writes tensors in one file.
pub fn save(path: &Path, weights: &Weights) {
    let encode = |values: &Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let bytes: Vec<Vec<u8>> = weights.values().map(|(_, values)| encode(values)).collect();
    let views = weights
        .iter()
        .zip(&bytes)
        .map(|((name, (shape, _)), bytes)| {
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

fn vocab_size() -> usize {
    let text = fs::read(village().join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&text).unwrap();
    config["vocab_size"].as_u64().unwrap() as usize
}

fn config() -> Map<String, Value> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "head_dim": HEAD_DIM,
        "intermediate_size": MLP,
        "max_position_embeddings": 256,
        "num_attention_heads": HEADS,
        "num_hidden_layers": N_LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "vocab_size": vocab_size(),
    });
    config.as_object().unwrap().clone()
}

fn weights() -> Weights {
    let mut random = fastrand::Rng::with_seed(7);
    let mut weights = Weights::new();
    let mut add = |name: String, shape: &[usize]| {
        let n = shape.iter().product();
        let values = (0..n).map(|_| random.f32() * 0.4 - 0.2).collect();
        weights.insert(name, (shape.to_vec(), values));
    };
    add("model.embed_tokens.weight".into(), &[vocab_size(), HIDDEN]);
    add("model.norm.weight".into(), &[HIDDEN]);
    for layer in 0..N_LAYERS {
        let shapes: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
            ("self_attn.q_proj", &[HEADS * HEAD_DIM, HIDDEN]),
            ("self_attn.k_proj", &[KV_HEADS * HEAD_DIM, HIDDEN]),
            ("self_attn.v_proj", &[KV_HEADS * HEAD_DIM, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, HEADS * HEAD_DIM]),
            ("mlp.gate_proj", &[MLP, HIDDEN]),
            ("mlp.up_proj", &[MLP, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, MLP]),
        ];
        for (tensor, shape) in shapes {
            add(format!("model.layers.{layer}.{tensor}.weight"), shape);
        }
    }
    weights
}
