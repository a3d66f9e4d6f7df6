//! The honest model that every attack starts from: a llama of three layers in five kilobytes, in
//! each of the layouts that slim opens, put together byte by byte and not by slim's writers.

use serde_json::{Map, Value, json};

use crate::tiny::{Gguf, array, key, safetensors, string, tensor};

pub const N_LAYERS: usize = 3;
const HIDDEN: u64 = 4;
const HEADS: u64 = 2;
const KV_HEADS: u64 = 1;
const HEAD_DIM: u64 = 2;
const MLP: u64 = 4;
const TOKENS: [&str; 8] = ["<|end|>", "a", "b", "c", "Ġ", "ab", "Ġab", "abc"];
const MERGES: [&str; 3] = ["a b", "Ġ ab", "ab c"];
const VOCAB: u64 = TOKENS.len() as u64;

/// A tensor of the model: its GGUF name, its Hugging Face name, its shape from the outermost
/// dimension.
type Row = (String, String, Vec<u64>);

fn rows() -> Vec<Row> {
    let row =
        |gguf: &str, hf: &str, shape: &[u64]| (gguf.to_owned(), hf.to_owned(), shape.to_vec());
    let mut rows = vec![
        row(
            "token_embd.weight",
            "model.embed_tokens.weight",
            &[VOCAB, HIDDEN],
        ),
        row("output_norm.weight", "model.norm.weight", &[HIDDEN]),
    ];
    let (q, kv) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let layer: [(&str, &str, &[u64]); 9] = [
        ("attn_norm", "input_layernorm", &[HIDDEN]),
        ("attn_q", "self_attn.q_proj", &[q, HIDDEN]),
        ("attn_k", "self_attn.k_proj", &[kv, HIDDEN]),
        ("attn_v", "self_attn.v_proj", &[kv, HIDDEN]),
        ("attn_output", "self_attn.o_proj", &[HIDDEN, q]),
        ("ffn_norm", "post_attention_layernorm", &[HIDDEN]),
        ("ffn_gate", "mlp.gate_proj", &[MLP, HIDDEN]),
        ("ffn_up", "mlp.up_proj", &[MLP, HIDDEN]),
        ("ffn_down", "mlp.down_proj", &[HIDDEN, MLP]),
    ];
    for n in 0..N_LAYERS {
        rows.extend(layer.iter().map(|(gguf, hf, shape)| {
            let names = (
                format!("blk.{n}.{gguf}.weight"),
                format!("model.layers.{n}.{hf}.weight"),
            );
            (names.0, names.1, shape.to_vec())
        }));
    }
    rows
}

/// f32 elements: small, and different everywhere.
fn elements(shape: &[u64], seed: usize) -> Vec<u8> {
    let n: u64 = shape.iter().product();
    let value = |i: u64| ((i as usize * 7 + seed * 3) % 11) as f32 * 0.125 - 0.5;
    (0..n).flat_map(|i| value(i).to_le_bytes()).collect()
}

/// The model as a GGUF file.
pub fn gguf() -> Gguf {
    let number = |suffix: &str, value: u64| {
        key(&format!("llama.{suffix}"), 4, &(value as u32).to_le_bytes())
    };
    let strings = |texts: &[&str]| {
        let encoded: Vec<u8> = texts.iter().flat_map(string).collect();
        array(8, texts.len() as u64, &encoded)
    };
    let kinds: Vec<u8> = (0..VOCAB)
        .flat_map(|id| if id == 0 { 3i32 } else { 1 }.to_le_bytes())
        .collect();
    let keys = vec![
        key("general.architecture", 8, &string("llama")),
        key("general.name", 8, &string("honest")),
        key("general.alignment", 4, &32u32.to_le_bytes()),
        number("block_count", N_LAYERS as u64),
        number("context_length", 64),
        number("embedding_length", HIDDEN),
        number("feed_forward_length", MLP),
        number("attention.head_count", HEADS),
        number("attention.head_count_kv", KV_HEADS),
        key(
            "llama.attention.layer_norm_rms_epsilon",
            6,
            &1e-5f32.to_le_bytes(),
        ),
        number("vocab_size", VOCAB),
        key("tokenizer.ggml.model", 8, &string("gpt2")),
        key("tokenizer.ggml.pre", 8, &string("gpt-2")),
        key("tokenizer.ggml.tokens", 9, &strings(&TOKENS)),
        key("tokenizer.ggml.token_type", 9, &array(5, VOCAB, &kinds)),
        key("tokenizer.ggml.merges", 9, &strings(&MERGES)),
        key("tokenizer.ggml.eos_token_id", 4, &0u32.to_le_bytes()),
        key(
            "tokenizer.chat_template",
            8,
            &string("{{ messages[0].content }}"),
        ),
    ];
    holding(keys, rows().into_iter().enumerate())
}

/// A GGUF file of these keys and tensors.
fn holding(keys: Vec<Vec<u8>>, rows: impl Iterator<Item = (usize, Row)>) -> Gguf {
    let (mut tensors, mut data) = (Vec::new(), Vec::new());
    for (seed, (name, _, shape)) in rows {
        let ne: Vec<u64> = shape.iter().rev().copied().collect();
        tensors.push(tensor(&name, &ne, 0, data.len() as u64));
        data.extend(elements(&shape, seed));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    Gguf {
        keys,
        tensors,
        data,
        ..Gguf::valid()
    }
}

/// The names of the parts of [`split`].
pub const PARTS: [&str; 2] = ["model-00001-of-00002.gguf", "model-00002-of-00002.gguf"];

/// The model as a GGUF file in two parts: all but the last layer, and the last layer.
pub fn split() -> [Gguf; 2] {
    let last = format!("blk.{}.", N_LAYERS - 1);
    let own = |no: u16| {
        let n_tensors = rows().len() as i32;
        vec![
            key("split.no", 2, &no.to_le_bytes()),
            key("split.count", 2, &2u16.to_le_bytes()),
            key("split.tensors.count", 5, &n_tensors.to_le_bytes()),
        ]
    };
    [0u16, 1].map(|no| {
        let mut keys = if no == 0 { gguf().keys } else { Vec::new() };
        keys.extend(own(no));
        let part = |row: &Row| u16::from(row.0.starts_with(&last));
        holding(
            keys,
            rows()
                .into_iter()
                .enumerate()
                .filter(|(_, row)| part(row) == no),
        )
    })
}

/// A safetensors file of some of the tensors.
fn safetensors_of(rows: impl Iterator<Item = (usize, Row)>) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for (seed, (_, name, shape)) in rows {
        let start = data.len();
        data.extend(elements(&shape, seed));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, entry);
    }
    safetensors(&Value::Object(header).to_string(), &data)
}

/// Files by name.
pub type Files = Vec<(String, Vec<u8>)>;

fn files(texts: &[(&str, Value)]) -> Files {
    let text = |value: &Value| format!("{value:#}\n").into_bytes();
    texts
        .iter()
        .map(|(name, value)| ((*name).to_owned(), text(value)))
        .collect()
}

/// config.json and the tokenizer's files.
fn beside() -> Files {
    let ids: Map<String, Value> = TOKENS
        .iter()
        .zip(0..)
        .map(|(t, id)| ((*t).to_owned(), json!(id)))
        .collect();
    let pairs: Vec<Vec<&str>> = MERGES.iter().map(|m| m.split(' ').collect()).collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    files(&[
        (
            "config.json",
            json!({
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "eos_token_id": 0,
                "hidden_act": "silu",
                "hidden_size": HIDDEN,
                "head_dim": HEAD_DIM,
                "intermediate_size": MLP,
                "max_position_embeddings": 64,
                "num_attention_heads": HEADS,
                "num_hidden_layers": N_LAYERS,
                "num_key_value_heads": KV_HEADS,
                "rms_norm_eps": 1e-5,
                "rope_theta": 10000.0,
                "rope_scaling": null,
                "tie_word_embeddings": true,
                "torch_dtype": "float32",
                "vocab_size": VOCAB,
            }),
        ),
        (
            "tokenizer.json",
            json!({
                "version": "1.0",
                "truncation": null,
                "padding": null,
                "added_tokens": [{"id": 0, "content": TOKENS[0], "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true}],
                "normalizer": null,
                "pre_tokenizer": byte_level,
                "post_processor": null,
                "decoder": byte_level,
                "model": {"type": "BPE", "dropout": null, "unk_token": null,
                    "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                    "byte_fallback": false, "ignore_merges": false, "vocab": ids, "merges": pairs},
            }),
        ),
        (
            "tokenizer_config.json",
            json!({
                "eos_token": TOKENS[0],
                "add_bos_token": false,
                "chat_template": "{{ messages[0].content }}",
                "tokenizer_class": "PreTrainedTokenizerFast",
            }),
        ),
    ])
}

/// The model as a Hugging Face folder.
pub fn folder() -> Files {
    let mut files = beside();
    let tensors = safetensors_of(rows().into_iter().enumerate());
    files.push(("model.safetensors".to_owned(), tensors));
    files
}

/// The model as a Hugging Face folder with two shards: the last layer, and all that comes before.
pub fn shards() -> Files {
    let names = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let last = format!("model.layers.{}.", N_LAYERS - 1);
    let shard = |row: &Row| usize::from(row.1.starts_with(&last));
    let map: Map<String, Value> = rows()
        .iter()
        .map(|row| (row.1.clone(), json!(names[shard(row)])))
        .collect();
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
    let mut all = beside();
    all.extend(files(&[("model.safetensors.index.json", index)]));
    for (n, name) in names.into_iter().enumerate() {
        let own = rows()
            .into_iter()
            .enumerate()
            .filter(|(_, row)| shard(row) == n);
        all.push((name.to_owned(), safetensors_of(own)));
    }
    all
}

/// A SentencePiece model of the same tokens, to lie in the folder instead of tokenizer.json.
pub fn sentencepiece() -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8], bytes].concat();
    let piece = |(text, id): (&&str, i32)| {
        let kind: &[u8] = if id == 0 { &[0x18, 2] } else { &[] };
        let score = (-(id as f32)).to_le_bytes();
        let body = [&field(0x0A, text.as_bytes())[..], &[0x15], &score, kind].concat();
        field(0x0A, &body)
    };
    let pieces: Vec<u8> = ["<unk>", "a", "b", "c", "▁", "ab", "▁ab", "abc"]
        .iter()
        .zip(0..)
        .flat_map(piece)
        .collect();
    // trainer_spec.model_type = BPE
    [&pieces[..], &field(0x12, &[0x18, 2])].concat()
}
