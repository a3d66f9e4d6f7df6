//! Models that contradict themselves: refused before anything is written, naming what is wrong.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, Wrong, assert_refused};
use crate::tiny::{self, HIDDEN, Weights};

/// Every use, of the folder and of a GGUF or folder made of it.
#[track_caller]
fn refused_in_any_layout(bench: &Bench, models: &[(&str, &[&str])]) {
    let mut uses = Vec::new();
    for (model, words) in models {
        for output in ["out.gguf", "out"] {
            uses.push((format!("prune --drop-layers 1 {model} {output}"), *words));
        }
    }
    let uses: Vec<Wrong> = uses
        .iter()
        .map(|(command, words)| (command.as_str(), *words))
        .collect();
    assert_refused(bench, &uses);
}

fn with_field(bench: &Bench, name: &str, field: &str, value: Value) {
    tiny::with_config(bench, name, |config| {
        config.insert(field.into(), value);
    });
}

#[test]
fn an_unknown_architecture_is_refused_with_the_known_ones() {
    let bench = Bench::new();
    with_field(&bench, "other", "model_type", json!("mamba3"));
    with_field(&bench, "none", "model_type", Value::Null);
    with_field(&bench, "gelu", "hidden_act", json!("gelu"));
    tiny::write(&bench, "tiny");
    bench
        .slim("prune --drop-layers 1 tiny other.gguf")
        .quietly();
    // The same length: no offset changes.
    let mut bytes = fs::read(bench.path("other.gguf")).unwrap();
    let at = bytes.windows(5).position(|w| w == b"llama").unwrap();
    bytes[at..at + 5].copy_from_slice(b"blurb");
    fs::write(bench.path("other.gguf"), bytes).unwrap();
    refused_in_any_layout(
        &bench,
        &[
            ("other", &["mamba3", "slim knows", "llama"]),
            ("other.gguf", &["blurb", "slim knows", "llama"]),
            ("none", &["model_type"]),
            ("gelu", &["hidden_act", "gelu", "silu"]),
        ],
    );
    assert_refused(
        &bench,
        &[
            ("inspect other", &["gemma2"]),
            ("inspect other.gguf", &["blurb"]),
        ],
    );
}

#[test]
fn a_layer_count_that_is_none_is_refused() {
    let bench = Bench::new();
    with_field(&bench, "text", "num_hidden_layers", json!("4"));
    with_field(&bench, "zero", "num_hidden_layers", json!(0));
    with_field(&bench, "minus", "num_hidden_layers", json!(-4));
    with_field(&bench, "half", "num_hidden_layers", json!(4.5));
    with_field(&bench, "huge", "num_hidden_layers", json!(u64::MAX));
    let count: &[&str] = &["number of layers"];
    refused_in_any_layout(
        &bench,
        &["text", "zero", "minus", "half", "huge"].map(|name| (name, count)),
    );
}

/// Found before writing and in the words of the source, not of the output.
#[test]
fn tensors_and_layer_count_that_contradict_each_other_are_refused() {
    let bench = Bench::new();
    with_field(&bench, "more", "num_hidden_layers", json!(6));
    with_field(&bench, "fewer", "num_hidden_layers", json!(3));
    tiny::with_weights(&bench, "missing", |weights| {
        weights.remove("model.layers.2.mlp.up_proj.weight").unwrap();
    });
    tiny::with_weights(&bench, "headless", |weights| {
        weights.remove("model.embed_tokens.weight").unwrap();
    });
    refused_in_any_layout(
        &bench,
        &[
            ("more", &["more", "layers.4"]),
            ("fewer", &["fewer", "layers.3"]),
            ("missing", &["layers.2.mlp.up_proj.weight", "missing"]),
            ("headless", &["embed_tokens", "missing"]),
        ],
    );
}

#[test]
fn an_unknown_tensor_is_refused_by_name() {
    let bench = Bench::new();
    let add = |name: &'static str| {
        move |weights: &mut Weights| {
            weights.insert(name.into(), (vec![2], vec![0.0; 2]));
        }
    };
    tiny::with_weights(&bench, "global", add("model.extra.weight"));
    tiny::with_weights(&bench, "layer", add("model.layers.1.router.weight"));
    refused_in_any_layout(
        &bench,
        &[
            ("global", &["model.extra.weight", "llama"]),
            ("layer", &["model.layers.1.router.weight", "llama"]),
        ],
    );
}

/// Rows of another number would be reordered beyond their end.
#[test]
fn a_tensor_of_the_wrong_shape_is_refused_by_name() {
    let bench = Bench::new();
    let reshape = |name: &'static str, rows: usize, columns: usize| {
        move |weights: &mut Weights| {
            weights.insert(
                name.into(),
                (vec![rows, columns], vec![0.1; rows * columns]),
            );
        }
    };
    let (q, k) = (
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.2.self_attn.k_proj.weight",
    );
    tiny::with_weights(&bench, "q", reshape(q, HIDDEN + 1, HIDDEN));
    tiny::with_weights(&bench, "k", reshape(k, 8, HIDDEN));
    let down = "model.layers.3.mlp.down_proj.weight";
    tiny::with_weights(&bench, "down", reshape(down, HIDDEN, 32));
    tiny::with_weights(&bench, "flat", |weights| {
        weights.insert(
            q.into(),
            (vec![HIDDEN * HIDDEN], vec![0.1; HIDDEN * HIDDEN]),
        );
    });
    refused_in_any_layout(
        &bench,
        &[
            ("q", &[q, "shape"]),
            ("k", &[k, "shape"]),
            ("down", &[down, "shape"]),
            ("flat", &[q, "shape"]),
        ],
    );
}

/// Some of these are panics in row reordering unless the sizes are checked first.
#[test]
fn sizes_that_the_tensors_do_not_have_are_refused() {
    let bench = Bench::new();
    let sizes: &[(&str, &str, Value)] = &[
        ("head0", "head_dim", json!(0)),
        ("head1", "head_dim", json!(1)),
        ("head48", "head_dim", json!(48)),
        ("heads0", "num_attention_heads", json!(0)),
        ("heads3", "num_attention_heads", json!(3)),
        ("kv0", "num_key_value_heads", json!(0)),
        ("wide", "hidden_size", json!(2 * HIDDEN)),
        ("mlp", "intermediate_size", json!(97)),
        ("text", "hidden_size", json!("64")),
    ];
    let mut uses = Vec::new();
    for (name, field, value) in sizes {
        with_field(&bench, name, field, value.clone());
        uses.push((format!("prune --drop-layers 1 {name} out.gguf"), [*name]));
    }
    let uses: Vec<Wrong> = uses
        .iter()
        .map(|(command, words)| (command.as_str(), &words[..]))
        .collect();
    assert_refused(&bench, &uses);
}

#[test]
fn a_tokenizer_that_is_missing_or_broken_is_refused_for_gguf() {
    let bench = Bench::new();
    for (name, content) in [
        ("missing", None),
        ("broken", Some("{")),
        ("other", Some("{}")),
    ] {
        tiny::write(&bench, name);
        let path = bench.path(name).join("tokenizer.json");
        match content {
            None => fs::remove_file(path).unwrap(),
            Some(content) => fs::write(path, content).unwrap(),
        }
    }
    assert_refused(
        &bench,
        &[
            (
                "prune --drop-layers 1 missing out.gguf",
                &["missing", "tokenizer.json", "save_pretrained"],
            ),
            ("prune --drop-layers 1 broken out.gguf", &["tokenizer.json"]),
            ("prune --drop-layers 1 other out.gguf", &["tokenizer.json"]),
            (
                "eval missing --suite VILLAGE/suite",
                &["missing", "tokenizer.json"],
            ),
        ],
    );
}

#[test]
fn fewer_ids_in_the_model_than_in_the_tokenizer_are_refused() {
    let bench = Bench::new();
    with_field(&bench, "small", "vocab_size", json!(600));
    assert_refused(
        &bench,
        &[("prune --drop-layers 1 small out.gguf", &["small", "600"])],
    );
}

/// The tokens of a GGUF are filled up to vocab_size: more than the embedding has rows, and no
/// runtime opens it.
#[test]
fn a_vocabulary_that_is_not_the_embeddings_is_refused() {
    let bench = Bench::new();
    with_field(&bench, "large", "vocab_size", json!(900));
    refused_in_any_layout(&bench, &[("large", &["900"])]);
}

#[test]
fn a_gguf_array_of_unknown_meaning_with_an_element_a_layer_is_refused_by_key() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    bench
        .slim("prune --drop-layers 1 tiny three.gguf")
        .quietly();
    let key = "llama.attention.odd_pattern";
    with_array(&bench, "three.gguf", "odd.gguf", key, 3);
    with_array(&bench, "three.gguf", "fine.gguf", key, 5);
    with_array(
        &bench,
        "three.gguf",
        "heads.gguf",
        "llama.attention.head_count_kv",
        3,
    );
    assert_refused(
        &bench,
        &[("prune --drop-layers 1 odd.gguf out.gguf", &[key, "layer"])],
    );
    bench
        .slim("prune --drop-layers 1 fine.gguf fine-out.gguf")
        .quietly();
}

#[test]
fn a_gguf_array_of_known_meaning_keeps_the_kept_layers_entries() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    bench
        .slim("prune --drop-layers 1 tiny three.gguf")
        .quietly();
    let key = "llama.attention.head_count_kv";
    with_array(&bench, "three.gguf", "arrays.gguf", key, 3);
    bench
        .slim("prune --drop-layers 1 arrays.gguf out.gguf")
        .quietly();
    let checkpoint = slim::checkpoint::Checkpoint::open(&bench.path("out.gguf")).unwrap();
    let value = checkpoint.gguf().unwrap().get(key).unwrap();
    assert_eq!(value.iter_i64().unwrap().collect::<Vec<_>>(), [100, 102]);
}

/// Copies a GGUF with `key` set to the array 100, 101, … of `n` elements.
fn with_array(bench: &Bench, from: &str, to: &str, key: &str, n: i32) {
    use slim::checkpoint::{Checkpoint, Data, OutTensor, gguf};
    let checkpoint = Checkpoint::open(&bench.path(from)).unwrap();
    let elements: Vec<i32> = (100..100 + n).collect();
    let entries = checkpoint.gguf().unwrap().iter();
    let mut entries: Vec<_> = entries.map(|(k, v)| (k.to_owned(), v)).collect();
    entries.retain(|(known, _)| known != key);
    entries.push((key.to_owned(), gguf::Value::i32s(&elements)));
    let tensors: Vec<OutTensor> = checkpoint
        .tensors()
        .iter()
        .map(|tensor| {
            let (file, range) = checkpoint.source(tensor);
            OutTensor {
                name: tensor.name.clone(),
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                data: Data::Copy { file, range },
            }
        })
        .collect();
    gguf::write(&bench.path(to), &entries, &tensors, |_| Ok(()), &|_| {}).unwrap();
}
