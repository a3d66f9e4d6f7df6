//! Half layers, named on the command line.

use super::bench::{Bench, assert_refused};
use serde_json::{Value, json};
use std::path::Path;

const FEW: &str = "--suite VILLAGE/suite --report-items 4";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn halves_of_layers_go_beside_whole_ones_and_the_written_file_is_proved() {
    let bench = Bench::new();
    let ran = bench.slim(&format!(
        "prune --drop-layers 3,5:attention,6:mlp VILLAGE small.gguf --json {FEW}"
    ));
    let report = json(&ran.quietly().stdout);
    assert_eq!(report["passed"], true);
    assert_eq!(report["pruned"]["n_layers"], 7);
    assert!(report["comparison"]["families"].as_array().unwrap().len() > 2);

    let told = bench.slim("inspect small.gguf").quietly().stdout;
    for words in [
        "deci",
        "without attention: 4; without MLP: 5",
        "0-2,4-7",
        "5:mlp,6:attention",
    ] {
        assert!(told.contains(words), "{words} is not in {told}");
    }
    let told = json(&bench.slim("inspect --json small.gguf").stdout);
    assert_eq!(told["lacking"], json!(["4:attention", "5:mlp"]));
    assert_eq!(told["can"], json!(["prune", "score"]));
    assert_eq!(told["slim"]["slim.layers.kept_halves"], "5:mlp,6:attention");

    bench
        .slim(&format!("verify VILLAGE small.gguf --json {FEW}"))
        .quietly();
    bench
        .slim("prune --drop-layers 6 small.gguf smaller.gguf")
        .quietly();
    let told = json(&bench.slim("inspect --json smaller.gguf").stdout);
    assert_eq!(told["lacking"], json!(["4:attention", "5:mlp"]));
    assert_eq!(told["n_layers"], 6);
}

#[test]
fn the_layers_of_a_file_with_half_layers_are_scored_and_chosen() {
    let bench = Bench::new();
    bench
        .slim("prune --drop-layers 2:mlp,5:attention VILLAGE halves.gguf")
        .quietly();
    bench
        .slim(
            "prune --keep 7 --preserve retrieval halves.gguf small.gguf --report-items 1 \
             --suite VILLAGE/suite --calibrate-items 1 --select-items 1 --candidates 1",
        )
        .quietly();
    let told = json(&bench.slim("inspect --json small.gguf").stdout);
    assert_eq!(
        (&told["architecture"], &told["n_layers"]),
        (&json!("deci"), &json!(7))
    );
}

#[test]
fn a_plan_can_keep_half_layers() {
    let bench = Bench::new();
    bench
        .slim("score VILLAGE -o profile.json --suite VILLAGE/suite --calibrate-items 2")
        .quietly();
    bench
        .slim(
            "plan profile.json --model VILLAGE --drop 1 --preserve retrieval -o plan.json \
             --suite VILLAGE/suite --select-items 2 --candidates 2",
        )
        .quietly();
    let mut plan = json(&std::fs::read_to_string(bench.path("plan.json")).unwrap());
    plan["keep"] = json!([0, "1:attention", 2, 3, 5, "6:mlp", 7]);
    std::fs::write(bench.path("plan.json"), plan.to_string()).unwrap();
    bench
        .slim("prune --plan plan.json VILLAGE small.gguf")
        .quietly();
    let told = json(&bench.slim("inspect --json small.gguf").stdout);
    assert_eq!(told["lacking"], json!(["1:mlp", "5:attention"]));
    assert_eq!(told["slim"]["slim.layers.kept"], "0-3,5-7");
}

#[test]
fn halves_that_cannot_go_are_refused_and_nothing_is_written() {
    let bench = Bench::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden/gemma2");
    std::os::unix::fs::symlink(golden, bench.path("gemma2")).unwrap();
    assert_refused(
        &bench,
        &[
            (
                "prune --drop-layers 5:both VILLAGE small.gguf",
                &["'5:both'", "7:attention or 7:mlp"],
            ),
            (
                "prune --drop-layers 5:mlp,5:attention VILLAGE small.gguf",
                &["layer 5 is named twice"],
            ),
            (
                "prune --drop-layers 8:mlp VILLAGE small.gguf",
                &["layer 8 does not exist", "0 to 7"],
            ),
            (
                "prune --drop-layers 5:mlp VILLAGE small",
                &["GGUF only", "Name a .gguf"],
            ),
            (
                "prune --drop-layers 0:attention VILLAGE small.gguf",
                &["layer 0 would be the first", "keep its attention"],
            ),
            (
                "prune --drop-layers 1:mlp gemma2 small.gguf",
                &["gemma2", "llama, mistral, qwen2"],
            ),
        ],
    );
}
