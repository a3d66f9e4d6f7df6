//! Architectures whose layers are not all alike: what the user is told.

use super::bench::Bench;
use std::path::Path;

fn with_golden(names: &[&str]) -> Bench {
    let bench = Bench::new();
    for name in names {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden");
        std::os::unix::fs::symlink(golden.join(name), bench.path(name)).unwrap();
    }
    bench
}

#[test]
fn layers_that_break_a_pattern_are_refused_with_the_nearest_that_do_not() {
    let bench = with_golden(&["gemma2", "smollm3"]);
    for (model, layers, words) in [
        ("gemma2", "1", ["one layer in 2 (1,3)", "--drop-layers 1-2"]),
        (
            "smollm3",
            "3",
            ["one layer in 4 (3,7)", "or --drop-layers 2-5"],
        ),
        // What was asked to go is gone in one of the proposals.
        (
            "smollm3",
            "1",
            ["one layer in 4 (3,7)", "or --drop-layers 0-3"],
        ),
    ] {
        for output in ["small.gguf", "small"] {
            let ran = bench.slim(&format!("prune --drop-layers {layers} {model} {output}"));
            assert_eq!(ran.unlike_an_error(&words), None, "{model} → {output}");
        }
    }
    assert_eq!(bench.names(), ["gemma2", "smollm3"]);
}

#[test]
fn what_an_error_proposes_is_accepted() {
    let bench = with_golden(&["gemma2", "smollm3"]);
    for (model, layers) in [("gemma2", "1-2"), ("gemma2", "3"), ("smollm3", "3-6")] {
        let ran = bench.slim(&format!(
            "prune --drop-layers {layers} {model} {model}-{layers}.gguf"
        ));
        ran.quietly();
    }
}

#[test]
fn a_depth_that_no_pattern_allows_is_refused_before_any_work_with_the_nearest_that_are() {
    let bench = with_golden(&["gemma2"]);
    let ran = bench.slim("prune --keep 3 --preserve language gemma2 small.gguf");
    let words = ["3 of 4 layers cannot stay", "--free-ends", "--keep 2 or 4"];
    assert_eq!(ran.unlike_an_error(&words), None);
    assert_eq!(bench.names(), ["gemma2"]);
}

#[test]
fn a_pattern_without_an_array_stays_binding_whatever_the_runtime_reads() {
    let bench = with_golden(&["gemma2", "smollm3"]);
    let ran = bench.slim("prune --drop-layers 1 --needs-layer-arrays smollm3 small.gguf");
    assert_eq!(ran.unlike_an_error(&["would break the pattern"]), None);
    bench
        .slim("prune --drop-layers 1 --needs-layer-arrays gemma2 small.gguf")
        .quietly();
}

#[test]
fn inspect_says_which_layers_may_go_together_and_why() {
    let bench = with_golden(&["smollm3", "qwen3"]);
    let told = bench.slim("inspect smollm3").stdout;
    for words in ["one layer in 4 (3,7) does not rotate", "0-3 or 1-4"] {
        assert!(told.contains(words), "{words} is not in {told}");
    }
    let told = bench.slim("inspect qwen3").stdout;
    assert!(told.contains("all layers are alike"), "{told}");
    let json = bench.slim("inspect --json smollm3").stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["may_go"]["7"], "7");
    assert_eq!(
        json["can"],
        serde_json::json!(["prune", "convert", "score"])
    );
}

#[test]
fn drop_layers_none_only_converts() {
    let bench = with_golden(&["qwen3"]);
    bench
        .slim("prune --drop-layers none qwen3 whole.gguf")
        .quietly();
    bench
        .slim("prune --drop-layers none --outtype f32 whole.gguf back")
        .quietly();
    let told = bench.slim("inspect --json back").stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["n_layers"], 4);
}

#[test]
fn what_gguf_has_no_word_for_is_said_aloud() {
    let bench = with_golden(&["mistral"]);
    let ran = bench.slim("prune --drop-layers 1 mistral small.gguf");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for words in ["note:", "attends to a window", "sliding_window 12"] {
        assert!(
            ran.stderr.contains(words),
            "{words} is not in {}",
            ran.stderr
        );
    }
    bench.slim("prune --drop-layers 1 mistral small").quietly();
}

#[test]
fn the_sources_digest_is_left_out_where_it_is_not_wanted() {
    let bench = with_golden(&["qwen3"]);
    for output in ["small.gguf", "small"] {
        let command = format!("prune --drop-layers 1 --no-source-digest qwen3 {output}");
        bench.slim(&command).quietly();
        let told = bench.slim(&format!("inspect --json {output}")).stdout;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert!(told["slim"]["slim.source.sha256"].is_null(), "{told}");
        assert!(told["slim"]["slim.layers.kept"].is_string(), "{told}");
    }
}
