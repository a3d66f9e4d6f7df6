//! Choosing: methods, budgets, the curve, compensation.

use crate::bench::{Bench, village};
use serde_json::Value;
use std::fs;
use std::sync::OnceLock;

const CHOICE: &str = "--suite VILLAGE/suite --protocols continuation --select-items 2 --candidates 2 --generations 2";

/// A bench with the fixture's profile.
fn scored() -> &'static Bench {
    static SCORED: OnceLock<Bench> = OnceLock::new();
    SCORED.get_or_init(|| {
        let bench = Bench::shared("plan");
        let score = "score VILLAGE --suite VILLAGE/suite --calibrate-items 2 -o profile.json";
        bench.slim(score).quietly();
        bench
    })
}

fn plan(options: &str) -> Value {
    let ran = scored().slim(&format!(
        "plan profile.json --model VILLAGE {CHOICE} {options} --json"
    ));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

fn kept(plan: &Value) -> Vec<u64> {
    let keep = plan["keep"].as_array().unwrap();
    keep.iter().map(|layer| layer.as_u64().unwrap()).collect()
}

#[test]
fn every_method_chooses_as_many_layers_as_asked_and_spares_the_ends() {
    let help = scored().slim("plan --help").stdout;
    let methods: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Methods:"))
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        methods.len() >= 10 && methods.contains(&"influence"),
        "{help}"
    );
    for method in methods {
        let plan = plan(&format!("--keep 5 --method {method} --heal none"));
        let kept = kept(&plan);
        assert_eq!(kept.len(), 5, "{method}");
        assert!(kept.contains(&0) && kept.contains(&7), "{method}: {kept:?}");
        assert_eq!(plan["method"], method);
    }
    assert_eq!(kept(&plan("--keep 5 --method reverse")), [0, 1, 2, 3, 7]);
}

#[test]
fn drawn_sets_follow_the_seed() {
    let random = |seed: u32| kept(&plan(&format!("--keep 4 --method random --seed {seed}")));
    assert_eq!(random(1), random(1));
    assert!((2..8).any(|seed| random(seed) != random(1)));
}

#[test]
fn a_size_a_speed_and_a_number_of_parameters_each_give_the_most_layers_that_fit() {
    let bench = scored();
    let curve = plan("--curve --keep 8 --method influence");
    let points = curve["curve"].as_array().unwrap();
    assert_eq!(
        points.len(),
        7,
        "8 layers and all depths down to the protected two"
    );
    let point = &points[3];
    let layers = kept(point).len();
    let size = &point["size"];
    let [bytes, params] = ["bytes", "params"].map(|what| size[what].as_u64().unwrap());
    let speedup = size["speedup"].as_f64().unwrap();
    for budget in [
        format!("--max-size {}kB", bytes.div_ceil(1000)),
        format!("--max-params {params}"),
        format!("--speedup {:.6}", speedup - 1e-6),
    ] {
        let plan = plan(&format!("{budget} --method influence"));
        assert_eq!(kept(&plan).len(), layers, "{budget}");
        assert!(plan["why"].as_str().unwrap().contains(&layers.to_string()));
    }
    // What is promised of the size holds for the file.
    bench
        .slim("prune --drop-layers 2-4 VILLAGE of-size.safetensors")
        .quietly();
    let written = fs::metadata(bench.path("of-size.safetensors"))
        .unwrap()
        .len();
    assert!(
        written >= bytes && written < bytes + 100_000,
        "{written} {bytes}"
    );
}

#[test]
fn what_must_be_retained_bounds_the_depth_and_else_the_knee_does() {
    let plan_ = plan("--min-retention retrieval=0.9 --method influence");
    let keep = kept(&plan_).len();
    let points = plan_["curve"].as_array().unwrap();
    for point in points.iter().filter(|point| kept(point).len() >= keep) {
        assert!(point["retained"]["retrieval"].as_f64().unwrap() >= 0.9);
    }
    assert!(keep < 8, "the fixture's middle layers do little");
    let knee = plan("--method influence");
    assert!(knee["why"].as_str().unwrap().contains("bends at"), "{knee}");
}

#[test]
fn a_plan_is_written_with_the_compensation_that_it_names() {
    let bench = scored();
    let choice = format!("{CHOICE} --keep 5 --method influence");
    let mut files = Vec::new();
    for heal in ["none", "scale", "linear"] {
        let plan =
            format!("plan profile.json --model VILLAGE {choice} --heal {heal} -o {heal}.json");
        bench.slim(&plan).quietly();
        let write = format!(
            "prune --plan {heal}.json --suite VILLAGE/suite --protocols continuation VILLAGE {heal}.gguf"
        );
        bench.slim(&write).quietly();
        // A linear map is fitted anew, to the same bytes.
        let again = write.replace(&format!("{heal}.gguf"), "again.gguf");
        bench.slim(&again).quietly();
        let file = fs::read(bench.path(&format!("{heal}.gguf"))).unwrap();
        assert!(
            file == fs::read(bench.path("again.gguf")).unwrap(),
            "{heal}"
        );
        files.push(file);
    }
    assert!(files[0] != files[1] && files[1] != files[2] && files[0] != files[2]);
    let other = bench
        .slim("prune --plan linear.json --suite VILLAGE/suite --protocols choice VILLAGE o.gguf");
    let words = ["fitted on other questions", "--protocols"];
    assert_eq!(other.unlike_an_error(&words), None);
}

#[test]
fn wishes_that_cannot_be_are_refused_before_any_work() {
    let plan = |options: &str| format!("plan profile.json --model VILLAGE {CHOICE} {options}");
    let uses = [
        (
            "--keep 5 --method best",
            &["'best'", "influence", "iterative"][..],
        ),
        ("--keep 5 --floor 2", &["between 0 and 1"]),
        ("--speedup 0.5", &["more than 1"]),
        ("--speedup 99", &["none are 99 times", "2,"]),
        ("--max-size 1kB", &["none fit 1000 bytes"]),
        ("--max-params many", &["'many'", "1.5B"]),
        ("--min-retention retrieval", &["retrieval=0.95"]),
        ("--keep 5 --heal magic", &["magic", "linear"]),
        ("--keep 5 --speedup 2", &["cannot be used with"]),
    ];
    let uses = uses.map(|(options, words)| (plan(options), words));
    let uses: Vec<_> = uses
        .iter()
        .map(|(use_, words)| (use_.as_str(), *words))
        .collect();
    let bench = scored();
    for (command, words) in uses {
        let ran = bench.slim(command);
        assert_eq!(ran.unlike_an_error(words), None, "{command}");
    }
}

#[test]
fn half_layers_go_by_themselves_and_leave_no_more_than_whole_ones_would() {
    let bench = scored();
    // A set of whole layers that is easily bettered.
    let choice = format!("{CHOICE} --keep 7 --method reverse");
    let plan = format!("plan profile.json --model VILLAGE {choice}");
    bench.slim(&format!("{plan} -o whole.json")).quietly();
    let ran = bench.slim(&format!("{plan} --granularity half -o halves.json"));
    ran.quietly();
    let write = |of: &str| {
        bench
            .slim(&format!(
                "prune --plan {of}.json --suite VILLAGE/suite --protocols continuation VILLAGE {of}.gguf"
            ))
            .quietly();
        let shown = bench.slim(&format!("inspect {of}.gguf --json")).stdout;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["parameters"].as_u64().unwrap()
    };
    let plan: Value =
        serde_json::from_slice(&fs::read(bench.path("halves.json")).unwrap()).unwrap();
    let kept = plan["keep"].as_array().unwrap();
    let halves = kept.iter().filter(|part| part.is_string()).count();
    let steps = plan["steps"].as_array().unwrap();
    assert!(halves > 0 && !steps.is_empty(), "{plan}");
    assert!(write("halves") <= write("whole"));
}

#[test]
fn half_layers_are_refused_before_any_work_where_they_cannot_be_written() {
    let bench = scored();
    let half = "--granularity half --keep 5";
    for (command, words) in [
        (
            format!("prune {half} VILLAGE out.safetensors"),
            &["only GGUF", ".gguf"][..],
        ),
        (
            format!("prune {half} GOLDEN/gemma2 out.gguf"),
            &["gemma2", "llama, mistral, qwen2"],
        ),
    ] {
        let command = command.replace(
            "GOLDEN",
            &format!("{}/fixtures/golden", env!("CARGO_MANIFEST_DIR")),
        );
        let ran = bench.slim(&command);
        assert_eq!(ran.unlike_an_error(words), None, "{command}");
    }
}

#[test]
fn every_attention_head_is_scored_for_every_family() {
    let bench = scored();
    let score = "score VILLAGE --suite VILLAGE/suite --protocols continuation --calibrate-items 2 --granularity head";
    let ran = bench.slim(&format!("{score} --json"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let profile: Value = serde_json::from_str(&ran.stdout).unwrap();
    let config = fs::read_to_string(village().join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let n = |key: &str| config[key].as_u64().unwrap() as usize;
    let heads = profile["heads"].as_array().unwrap();
    assert_eq!(
        heads.len(),
        n("num_hidden_layers") * n("num_attention_heads")
    );
    for head in heads {
        let drops = head["drops"].as_array().unwrap();
        assert_eq!(drops.len(), profile["original"].as_array().unwrap().len());
    }
    let costs = heads
        .iter()
        .map(|head| head["drops"][0]["nats"].as_f64().unwrap());
    let mut costs: Vec<f64> = costs.collect();
    costs.sort_by(f64::total_cmp);
    costs.dedup();
    assert!(
        costs.len() > heads.len() / 2 && costs.iter().any(|&nats| nats > 0.0),
        "{costs:?}"
    );
    let ran = bench.slim(&format!("{score} --samples samples.jsonl"));
    assert_eq!(ran.unlike_an_error(&["cannot be used with"]), None);
}

#[test]
fn published_methods_choose_as_published_however_cuts_are_mended_afterwards() {
    let bench = scored();
    let steps = |heal: &str| {
        let ran = bench.slim(&format!(
            "plan profile.json --model VILLAGE {CHOICE} --keep 5 --method greedy --heal {heal} --json"
        ));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
        plan["steps"].clone()
    };
    let bare = steps("none");
    assert_eq!(bare.as_array().unwrap().len(), 3);
    assert_eq!(bare, steps("scale"));
}
