//! What stands beside the weights: who they come from, a Modelfile, completions and manual pages.

use crate::bench::{Bench, SLIM};
use serde_json::Value;
use slim::checkpoint::Checkpoint;
use std::fs;
use std::path::Path;

#[test]
fn a_pruned_gguf_names_the_model_that_it_was_made_of() {
    let bench = Bench::new();
    bench
        .slim("prune --drop-layers none VILLAGE whole.gguf")
        .quietly();
    bench
        .slim("prune --drop-layers 3 whole.gguf less.gguf")
        .quietly();
    let text = |file: &str, key: &str| {
        let checkpoint = Checkpoint::open(&bench.path(file)).unwrap();
        let metadata = checkpoint.gguf().unwrap();
        metadata.get_str(key).map(str::to_owned)
    };
    let name = "general.base_model.0.name";
    assert_eq!(text("whole.gguf", name), None);
    assert_eq!(text("less.gguf", name), text("whole.gguf", "general.name"));
    let less = Checkpoint::open(&bench.path("less.gguf")).unwrap();
    let count = less.gguf().unwrap().get_u64("general.base_model.count");
    assert_eq!(count, Some(1));
}

#[test]
fn a_modelfile_finds_the_weights_beside_it_and_elsewhere() {
    let bench = Bench::new();
    fs::create_dir(bench.path("out")).unwrap();
    let prune = "prune --drop-layers 3 VILLAGE out/small.gguf";
    bench
        .slim(&format!("{prune} --modelfile out/Modelfile"))
        .quietly();
    let beside = fs::read_to_string(bench.path("out/Modelfile")).unwrap();
    assert!(beside.ends_with("FROM ./small.gguf\n"), "{beside}");
    bench
        .slim(&format!("{prune} --modelfile Modelfile"))
        .quietly();
    let away = fs::read_to_string(bench.path("Modelfile")).unwrap();
    let from = away.lines().last().unwrap().strip_prefix("FROM ").unwrap();
    assert!(fs::metadata(from).unwrap().is_file(), "{away}");
    for (command, words) in [
        (
            "prune --drop-layers 3 VILLAGE other --modelfile m".to_owned(),
            &["--modelfile", ".gguf"][..],
        ),
        (
            format!("{prune} --modelfile m --max-shard-size 1MB"),
            &["cannot be used with"],
        ),
        (
            format!("{prune} --modelfile absent/m"),
            &["absent", "create it"],
        ),
        // Written after the model, it would take its place.
        (
            format!("{prune} --modelfile out/small.gguf"),
            &["out/small.gguf", "give another name"],
        ),
    ] {
        let ran = bench.slim(&command);
        assert_eq!(ran.unlike_an_error(words), None, "{command}");
    }
}

#[test]
fn two_models_are_measured_beside_each_other() {
    let bench = Bench::new();
    bench
        .slim("prune --drop-layers 2-5 VILLAGE small.gguf")
        .quietly();
    let ask = "--prompt-tokens 8 --tokens 4 --rounds 2 --device cpu --compute f32";
    let ran = bench.slim(&format!("bench VILLAGE small.gguf {ask} --json"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let figures: Value = serde_json::from_str(&ran.stdout).unwrap();
    let of = |i: usize, what: &str| figures[i][what].as_u64().unwrap();
    assert_eq!([of(0, "n_layers"), of(1, "n_layers")], [8, 4]);
    assert!(of(1, "bytes") < of(0, "bytes"));
    for model in figures.as_array().unwrap() {
        assert!(model["speed"]["prompt"].as_f64().unwrap() > 0.0);
        assert!(model["speed"]["generation"].as_f64().unwrap() > 0.0);
    }
    let table = bench
        .slim(&format!("bench VILLAGE small.gguf {ask}"))
        .stdout;
    assert!(
        table.contains("small.gguf") && table.contains("× 0.50"),
        "{table}"
    );
    let ran = bench.slim("bench VILLAGE absent.gguf --prompt-tokens 8 --tokens 4");
    assert_eq!(ran.unlike_an_error(&["absent.gguf"]), None);
    let ran = bench.slim("bench VILLAGE --tokens 100000");
    assert_eq!(ran.unlike_an_error(&["context"]), None);
}

/// A release may arrive while a job runs for hours.
#[cfg(target_os = "linux")]
#[test]
fn a_program_whose_file_is_gone_still_measures() {
    let bench = Bench::new();
    fs::copy(SLIM, bench.path("copy")).unwrap();
    let measure = "bench VILLAGE VILLAGE --prompt-tokens 8 --tokens 4 --rounds 1";
    let ran = bench.sh(&format!(
        "exec 3<copy; rm copy; /proc/self/fd/3 {measure} --json"
    ));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("generation"), "{ran:?}");
}

#[test]
fn completions_and_manual_pages_know_every_subcommand() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = bench.slim(&format!("completions {shell}"));
        assert!(
            ran.stdout.contains("verify") && ran.stdout.contains("preserve"),
            "{shell}"
        );
    }
    bench.slim("man pages").quietly();
    let pages: Vec<String> = fs::read_dir(bench.path("pages"))
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in ["slim.1", "slim-prune.1", "slim-verify.1"] {
        assert!(pages.iter().any(|found| found == page), "{pages:?}");
    }
}

#[test]
fn perplexity_and_speed_of_both_models_are_measured_and_judged() {
    let bench = Bench::new();
    bench
        .slim("prune --drop-layers 2-5 VILLAGE small.gguf")
        .quietly();
    let text = "Anna lives in the red house. Ben has a dog and a cat. ".repeat(20);
    fs::write(bench.path("t.txt"), text).unwrap();
    let verify =
        "verify VILLAGE small.gguf --suite VILLAGE/suite --protocols continuation --report-items 2";
    let text = "--perplexity t.txt --ctx-size 16";
    let ran = bench.slim(&format!(
        "{verify} {text} --gate perplexity<=100000 --gate speed>=0.001 --json"
    ));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let of = |model: &str| report["perplexity"][model]["perplexity"].as_f64().unwrap();
    for (name, model) in [("VILLAGE", "original"), ("small.gguf", "pruned")] {
        let alone = bench.slim(&format!("eval {name} {text} --json"));
        let alone: Value = serde_json::from_str(&alone.stdout).unwrap();
        assert_eq!(alone["perplexity"], of(model));
    }
    let ratio = report["perplexity"]["ratio"]["estimate"].as_f64().unwrap();
    assert!((ratio - of("pruned") / of("original")).abs() < 1e-9);
    assert_eq!(report["speed"]["pruned"]["n_layers"], 4);
    let failed = bench.slim(&format!("{verify} {text} --gate perplexity<=0.01"));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.contains("perplexity of t.txt"), "{failed:?}");
    for (wrong, words) in [
        (
            "--gate perplexity<=2",
            &["perplexity<=2", "--perplexity"][..],
        ),
        ("--perplexity absent.txt", &["absent.txt"]),
        ("--gate speed<=1", &["speed", ">="]),
    ] {
        let ran = bench.slim(&format!("{verify} {wrong}"));
        assert_eq!(ran.unlike_an_error(words), None, "{wrong}");
    }
}

#[test]
fn another_type_than_f32_is_held_against_it() {
    let bench = Bench::new();
    bench
        .slim("prune --drop-layers 2-5 VILLAGE small.gguf")
        .quietly();
    let verify = "verify VILLAGE small.gguf --suite VILLAGE/suite --protocols continuation --report-items 2 --json";
    let agreement = |compute: &str| {
        let ran = bench.slim(&format!("{verify} --device cpu --compute {compute}"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(report["dtype"], compute);
        report["agreement"].clone()
    };
    assert_eq!(agreement("f32"), Value::Null);
    let found = agreement("q8_0");
    assert_eq!(found["beyond"], false, "{found}");
    assert!(found["mean"].as_f64().unwrap() > 0.0, "{found}");
}

/// docs/pipeline/prune.sh as a pipeline runs it: its exit code, and what it leaves to publish.
#[test]
fn the_example_for_pipelines_gives_0_1_and_2_and_publishes_what_was_measured() {
    let bench = Bench::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pipeline/prune.sh");
    let slim = Path::new(SLIM).parent().unwrap().display();
    for (name, gates) in [
        (
            "pass.toml",
            "by = \"point\"\ngates = [\"size<=0.95\", \"language>=0.1\"]",
        ),
        ("fail.toml", "gates = [\"size<=0.1\"]"),
        ("typo.toml", "gates = [\"size<0.1\"]"),
    ] {
        fs::write(bench.path(name), gates).unwrap();
    }
    let options = "--keep 6 --method influence --suite VILLAGE/suite --protocols continuation \
                   --calibrate-items 1 --select-items 1 --report-items 2";
    for (out, gates, code, published) in [
        ("pass", "pass.toml", 0, true),
        ("fail", "fail.toml", 1, true),
        ("error", "typo.toml", 2, false),
    ] {
        let ran = bench.sh(&format!(
            "PATH={slim}:$PATH GITHUB_STEP_SUMMARY={out}.md {} VILLAGE {out} {gates} {options}",
            script.display()
        ));
        assert_eq!(ran.code, Some(code), "{out}: {ran:?}");
        let files = [
            "model.gguf",
            "Modelfile",
            "report.json",
            "report.html",
            "summary.md",
            "junit.xml",
        ];
        for file in files {
            let there = bench.path(out).join(file).exists();
            assert_eq!(there, published, "{out}/{file}");
        }
        let summary = fs::read_to_string(bench.path(&format!("{out}.md"))).unwrap_or_default();
        assert_eq!(summary.starts_with("## slim: "), published, "{summary}");
    }
}
