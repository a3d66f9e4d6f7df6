//! Plans, profiles and pairs of models that do not belong together.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, assert_refused};
use crate::tiny;
use crate::wrong_uses::bench;

/// A profile and a plan of the tiny model.
fn planned() -> (Bench, Value, Value) {
    let bench = bench();
    let few = "--suite VILLAGE/suite";
    bench
        .slim(&format!("score tiny -o p.json --calibrate-items 1 {few}"))
        .quietly();
    let plan = "plan p.json --model tiny --keep 3 --candidates 1 --select-items 1 -o plan.json";
    bench.slim(&format!("{plan} {few}")).quietly();
    let read = |name: &str| serde_json::from_slice(&fs::read(bench.path(name)).unwrap()).unwrap();
    let (profile, plan) = (read("p.json"), read("plan.json"));
    (bench, profile, plan)
}

fn save(bench: &Bench, name: &str, value: &Value, change: impl FnOnce(&mut Value)) {
    let mut value = value.clone();
    change(&mut value);
    fs::write(bench.path(name), value.to_string()).unwrap();
}

#[test]
fn a_plan_for_another_model_or_version_is_refused() {
    let (bench, _, plan) = planned();
    save(&bench, "version.json", &plan, |plan| {
        plan["schema_version"] = json!(99)
    });
    save(&bench, "deeper.json", &plan, |plan| {
        plan["n_layers"] = json!(12)
    });
    save(&bench, "range.json", &plan, |plan| {
        plan["keep"] = json!([0, 1, 9])
    });
    save(&bench, "order.json", &plan, |plan| {
        plan["keep"] = json!([3, 1])
    });
    save(&bench, "twice.json", &plan, |plan| {
        plan["keep"] = json!([1, 1])
    });
    save(&bench, "none.json", &plan, |plan| plan["keep"] = json!([]));
    save(&bench, "minus.json", &plan, |plan| {
        plan["keep"] = json!([-1, 1])
    });
    fs::write(bench.path("cut.json"), &plan.to_string()[..40]).unwrap();
    let refused: [(&str, &[&str]); 11] = [
        ("absent.json", &["absent.json", "no such file"]),
        ("cut.json", &["cut.json", "no plan"]),
        ("p.json", &["p.json", "no plan"]),
        ("version.json", &["version.json", "version 99"]),
        ("deeper.json", &["deeper.json", "12 layers"]),
        ("range.json", &["layer 9", "4 layers"]),
        ("order.json", &["ascending"]),
        ("twice.json", &["ascending"]),
        ("none.json", &["empty"]),
        ("minus.json", &["minus.json"]),
        ("tiny", &["tiny"]),
    ];
    let uses = refused.map(|(plan, words)| (format!("prune --plan {plan} tiny out.gguf"), words));
    let uses: Vec<_> = uses
        .iter()
        .map(|(command, words)| (command.as_str(), *words))
        .collect();
    assert_refused(&bench, &uses);
}

#[test]
fn a_profile_of_another_model_or_version_is_refused() {
    let (bench, profile, _) = planned();
    save(&bench, "version.json", &profile, |p| {
        p["schema_version"] = json!(99)
    });
    save(&bench, "shallow.json", &profile, |p| {
        p["layers"].as_array_mut().unwrap().pop();
    });
    let plan = "--keep 3 --suite VILLAGE/suite --select-items 1 --candidates 1 -o out.json";
    let refused: [(&str, &[&str]); 5] = [
        ("absent.json --model tiny", &["absent.json", "no such file"]),
        ("plan.json --model tiny", &["plan.json", "no profile"]),
        (
            "version.json --model tiny",
            &["version 99", "score the model again"],
        ),
        ("shallow.json --model tiny", &["3 layers", "another model"]),
        (
            "p.json --model three.gguf",
            &["p.json", "tiny", "three.gguf"],
        ),
    ];
    let uses = refused.map(|(given, words)| (format!("plan {given} {plan}"), words));
    let uses: Vec<_> = uses
        .iter()
        .map(|(command, words)| (command.as_str(), *words))
        .collect();
    assert_refused(&bench, &uses);
}

#[test]
fn a_plan_or_profile_of_a_model_that_only_looks_alike_is_refused() {
    let (bench, _, _) = planned();
    tiny::with_weights(&bench, "twin", |weights| {
        let (_, values) = weights.get_mut("model.norm.weight").unwrap();
        values[0] += 1.0;
    });
    let plan = "--keep 3 --suite VILLAGE/suite --select-items 1 --candidates 1 -o out.json";
    assert_refused(
        &bench,
        &[
            (
                "prune --plan plan.json twin out.gguf",
                &["plan.json", "tiny", "twin"],
            ),
            (
                &format!("plan p.json --model twin {plan}"),
                &["p.json", "tiny", "twin"],
            ),
        ],
    );
}

/// Such a profile would be searched as if the layer could not go.
#[test]
fn a_profile_that_lacks_a_layer_is_refused() {
    let (bench, profile, _) = planned();
    save(&bench, "gap.json", &profile, |p| {
        p["layers"][2]["layer"] = json!(77)
    });
    save(&bench, "twice.json", &profile, |p| {
        p["layers"][2]["layer"] = json!(1)
    });
    let plan = "--model tiny --keep 3 --suite VILLAGE/suite --select-items 1 -o out.json";
    assert_refused(
        &bench,
        &[
            (&format!("plan gap.json {plan}"), &["layer"]),
            (&format!("plan twice.json {plan}"), &["layer"]),
        ],
    );
}

#[test]
fn models_that_are_not_one_pair_cannot_be_verified() {
    let bench = bench();
    fs::write(bench.path("junk.gguf"), b"GGUF\x03\0\0\0").unwrap();
    let verify = "--suite VILLAGE/suite --report-items 1";
    assert_refused(
        &bench,
        &[
            (
                &format!("verify tiny absent.gguf {verify}"),
                &["absent.gguf", "no such file"],
            ),
            (
                &format!("verify absent three.gguf {verify}"),
                &["absent", "no such file"],
            ),
            (
                &format!("verify tiny junk.gguf {verify}"),
                &["junk.gguf", "not a valid gguf"],
            ),
        ],
    );
}

/// Any two models can be asked the same questions; the comparison means something for one pair.
#[test]
fn a_pruned_file_is_only_held_against_its_own_original() {
    let bench = bench();
    bench
        .slim("prune --drop-layers 3 VILLAGE seven.gguf")
        .quietly();
    let verify = "--suite VILLAGE/suite --report-items 1";
    assert_refused(
        &bench,
        &[
            (
                &format!("verify tiny seven.gguf {verify}"),
                &["seven.gguf", "tiny"],
            ),
            (&format!("verify seven.gguf VILLAGE {verify}"), &["layers"]),
        ],
    );
}
