//! config.json and the files beside it: what depends on the layers changes, nothing else does.

use std::fs;

use serde_json::{Map, Value, json};

use crate::bench::{Bench, village};
use crate::tiny::{self, N_LAYERS};

fn text(bench: &Bench, path: &str) -> String {
    fs::read_to_string(bench.path(path)).unwrap()
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn one_line_of_config_json_changes() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    // Numbers, order, escapes and fields as no serialiser of slim's would choose them.
    let before = format!(
        r#"{{
  "zz_last_first": "é \" \\ /",
  "architectures": [
    "LlamaForCausalLM"
  ],
  "model_type": "llama",
  "rms_norm_eps": 1e-05,
  "initializer_range": 2e-2,
  "rope_theta": 10000.0,
  "big": 123456789012345678901234567890,
  "precise": 0.10000000000000000555,
  "nested": {{
    "b": 1.0,
    "a": [
      1,
      2.50,
      null
    ]
  }},
  "rope_scaling": null,
  "hidden_act": "silu",
  "hidden_size": 64,
  "head_dim": 16,
  "intermediate_size": 96,
  "max_position_embeddings": 256,
  "num_attention_heads": 4,
  "num_hidden_layers": 4,
  "num_key_value_heads": 2,
  "tie_word_embeddings": true,
  "torch_dtype": "float32",
  "vocab_size": {}
}}"#,
        object(&text(&bench, "tiny/config.json"))["vocab_size"]
    );
    fs::write(bench.path("tiny/config.json"), &before).unwrap();
    bench.slim("prune --drop-layers 1 tiny small").quietly();
    let wanted = before.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3");
    assert_eq!(text(&bench, "small/config.json").trim_end(), wanted);
}

#[test]
fn a_type_that_was_asked_for_is_told_under_the_name_that_was_there() {
    let bench = Bench::new();
    tiny::write(&bench, "four");
    tiny::with_config(&bench, "five", |config| {
        config.remove("torch_dtype");
        config.insert("dtype".into(), json!("float32"));
    });
    for (name, field, other) in [
        ("four", "torch_dtype", "dtype"),
        ("five", "dtype", "torch_dtype"),
    ] {
        bench
            .slim(&format!(
                "prune --drop-layers 1 --outtype bf16 {name} {name}-out"
            ))
            .quietly();
        let config = object(&text(&bench, &format!("{name}-out/config.json")));
        assert_eq!(config[field], "bfloat16");
        assert!(!config.contains_key(other));
    }
}

#[test]
fn layer_types_keeps_the_kept_layers_entries() {
    let bench = Bench::new();
    tiny::with_config(&bench, "tiny", |config| {
        config.insert("layer_types".into(), json!(["a", "b", "c", "d"]));
        config.insert("mask".into(), json!([1, 2, 3]));
    });
    bench.slim("prune --drop-layers 1 tiny small").quietly();
    let config = object(&text(&bench, "small/config.json"));
    assert_eq!(config["layer_types"], json!(["a", "c", "d"]));
    assert_eq!(config["mask"], json!([1, 2, 3]));
    assert_eq!(config["num_hidden_layers"], 3);
}

#[test]
fn an_array_of_unknown_meaning_with_an_element_a_layer_is_refused_by_name() {
    let bench = Bench::new();
    tiny::with_config(&bench, "tiny", |config| {
        config.insert("mystery_layers".into(), json!(vec![1; N_LAYERS]));
    });
    let ran = bench.slim("prune --drop-layers 1 tiny small");
    assert_eq!(ran.unlike_an_error(&["mystery_layers", "layer"]), None);
    assert_eq!(bench.names(), ["tiny"]);
}

/// Not only the fields at the top, and not only where config.json is written again.
#[test]
fn such_an_array_is_found_inside_other_objects_and_on_the_way_to_gguf() {
    let bench = Bench::new();
    tiny::with_config(&bench, "nested", |config| {
        config.insert("extra".into(), json!({"per_layer": vec![1; N_LAYERS]}));
    });
    tiny::with_config(&bench, "flat", |config| {
        config.insert("per_layer".into(), json!(vec![1; N_LAYERS]));
    });
    for (model, output) in [
        ("nested", "small"),
        ("nested", "small.gguf"),
        ("flat", "small.gguf"),
    ] {
        let ran = bench.slim(&format!("prune --drop-layers 1 {model} {output}"));
        assert_eq!(
            ran.unlike_an_error(&["per_layer"]),
            None,
            "{model} → {output}"
        );
    }
    assert_eq!(bench.names(), ["flat", "nested"]);
}

/// transformers refuses a config whose layer_types is not as long as the model is deep.
#[test]
fn a_known_layer_field_of_another_length_is_refused_by_name() {
    let bench = Bench::new();
    tiny::with_config(&bench, "tiny", |config| {
        config.insert(
            "layer_types".into(),
            json!(vec!["full_attention"; N_LAYERS - 1]),
        );
    });
    let ran = bench.slim("prune --drop-layers 1 tiny small");
    assert_eq!(ran.unlike_an_error(&["layer_types"]), None);
    assert_eq!(bench.names(), ["tiny"]);
}

#[test]
fn files_that_belong_to_a_model_are_carried_along_byte_for_byte() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    let sidecars = [
        "generation_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "LICENSE",
    ];
    for name in sidecars.iter().chain(&["README.md"]) {
        fs::write(
            bench.path("tiny").join(name),
            format!("{{ \"odd\" : \"{name}\" }}\r\n"),
        )
        .unwrap();
    }
    for left_out in ["optimizer.pt", "training_args.bin", ".hidden"] {
        fs::write(bench.path("tiny").join(left_out), "x").unwrap();
    }
    bench.slim("prune --drop-layers 1 tiny small").quietly();
    for name in sidecars
        .iter()
        .chain(&["tokenizer.json", "tokenizer_config.json"])
    {
        let read = |folder: &str| fs::read(bench.path(folder).join(name)).unwrap();
        assert!(read("tiny") == read("small"), "{name}");
    }
    // A card says what the model is, and this is another one.
    let card = |path: &str| fs::read(bench.path(path)).unwrap();
    assert_eq!(card("small/README.source.md"), card("tiny/README.md"));
    bench.slim("prune --drop-layers 1 small smaller").quietly();
    assert_eq!(
        card("smaller/README.source.md"),
        card("tiny/README.md"),
        "through several prunings"
    );
    let there = fs::read_dir(bench.path("small")).unwrap().count();
    assert_eq!(
        there,
        sidecars.len() + 6,
        "config, weights, two tokenizer files and two cards besides"
    );
}

#[test]
fn the_header_of_safetensors_carries_what_was_there_and_the_provenance() {
    let bench = Bench::new();
    bench
        .slim("prune --drop-layers 2,5 VILLAGE small")
        .quietly();
    let header = |path: &std::path::Path| {
        let bytes = fs::read(path).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        metadata.metadata().clone().unwrap_or_default()
    };
    let (before, after) = (
        header(&village().join("model.safetensors")),
        header(&bench.path("small/model.safetensors")),
    );
    for (key, value) in &before {
        assert_eq!(after.get(key), Some(value), "{key}");
    }
    assert_eq!(after["format"], "pt");
    assert_eq!(after["slim.layers.kept"], "0-1,3-4,6-7");
    assert_eq!(after["slim.source.num_hidden_layers"], "8");
    assert_eq!(after["slim.source.sha256"].len(), 64);
}
