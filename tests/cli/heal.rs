//! Healing a pruned model by its original.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::bench::{Bench, Ran, SLIM, assert_refused, words};

/// Small steps over the fixture's own suite.
const SHORT: &str = "--suite VILLAGE/suite --sequence-length 32 --batch-tokens 128";

/// A folder with a model that misses three layers, one of which it cannot do without.
fn with_pruned() -> Bench {
    let bench = Bench::new();
    let ran = slim(&bench, "prune --drop-layers 1,4-5 VILLAGE small");
    ran.quietly();
    bench
}

/// Runs slim with one thread for candle's small operations: more wait for each other busily, which
/// the tests beside this one would pay for.
fn slim(bench: &Bench, arguments: &str) -> Ran {
    let mut command = bench.command(SLIM);
    let command = command.env("CANDLE_NUM_THREADS", "1");
    Ran::of(command.args(words(arguments)).output().unwrap())
}

fn json(ran: Ran) -> Value {
    serde_json::from_str(&ran.quietly().stdout).unwrap()
}

fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path);
    found
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{path} in {value}"))
}

fn divergence(healing: &Value, when: &str) -> f64 {
    number(healing, &format!("/effect/{when}/divergence"))
}

/// The longest run, done once for all tests: its folder and its result.
fn done() -> &'static (Bench, Value) {
    static DONE: OnceLock<(Bench, Value)> = OnceLock::new();
    DONE.get_or_init(|| {
        let bench = Bench::shared("heal");
        bench
            .slim("prune --drop-layers 1,4-5 VILLAGE small")
            .quietly();
        let heal = format!("heal VILLAGE small healed {SHORT} --tokens 6400 --json");
        let healing = json(slim(&bench, &heal));
        (bench, healing)
    })
}

#[test]
fn what_is_held_out_comes_closer_to_the_original() {
    let (_, healing) = done();
    let (before, after) = (divergence(healing, "before"), divergence(healing, "after"));
    assert!(before > 2.0 && after < before / 2.5, "{before} {after}");
    let perplexity = |when: &str| number(healing, &format!("/effect/{when}/perplexity"));
    assert!(
        perplexity("after") < perplexity("before") / 3.0,
        "{healing}"
    );
    assert_eq!(healing["effect"]["healed"], true);
    assert_eq!(number(healing, "/effect/tokens"), 6400.0);
    assert_eq!(number(healing, "/effect/steps"), 50.0);
    let checks = healing["checks"].as_array().unwrap();
    assert_eq!(
        checks.len(),
        6,
        "at the start and after each fifth: {checks:?}"
    );
    assert_eq!(checks[0]["tokens"], 0);
}

#[test]
fn only_the_layers_beside_the_cuts_and_norms_change() {
    let (bench, _) = done();
    let read = |model: &str| fs::read(bench.path(model).join("model.safetensors")).unwrap();
    let (small, healed) = (read("small"), read("healed"));
    let (small, healed) = (
        SafeTensors::deserialize(&small).unwrap(),
        SafeTensors::deserialize(&healed).unwrap(),
    );
    assert_eq!(small.names().len(), healed.names().len());
    for (name, before) in small.tensors() {
        let after = healed.tensor(&name).unwrap();
        assert_eq!(
            (before.dtype(), before.shape()),
            (after.dtype(), after.shape())
        );
        // Of the layers 0 | 2 3 | 6 7 that were kept, the cuts are behind the first and the third.
        let beside_a_cut = ["0", "1", "2", "3"]
            .iter()
            .any(|layer| name.starts_with(&format!("model.layers.{layer}.")));
        let trained = beside_a_cut || name.contains("norm");
        assert_eq!(before.data() != after.data(), trained, "{name}");
    }
}

#[test]
fn the_healed_model_says_where_it_comes_from_and_is_asked_like_any_other() {
    let (bench, healing) = done();
    let inspected = json(slim(bench, "inspect healed --json"));
    let pruned = json(slim(bench, "inspect small --json"));
    let says = &inspected["slim"];
    for key in ["slim.layers.kept", "slim.source.sha256", "slim.source.name"] {
        assert_eq!(says[key], pruned["slim"][key], "{key}");
    }
    assert_eq!(says["slim.layers.kept"], "0,2-3,6-7");
    let told: Value = serde_json::from_str(says["slim.heal"].as_str().unwrap()).unwrap();
    assert_eq!(told, healing["effect"]);
    let eval = "eval healed --suite VILLAGE/suite --items 2 --protocols continuation";
    let ran = slim(bench, eval).quietly();
    assert!(ran.stdout.contains("knowledge"), "{}", ran.stdout);
}

#[test]
fn what_was_measured_is_what_was_written() {
    let (bench, healing) = done();
    let again = format!("heal VILLAGE healed again {SHORT} --tokens 1 --json");
    let again = json(slim(bench, &again));
    let (written, measured) = (divergence(&again, "before"), divergence(healing, "after"));
    assert!((written - measured).abs() < 1e-5, "{written} {measured}");
}

#[test]
fn gguf_is_healed_too() {
    let bench = Bench::new();
    bench
        .slim("prune --drop-layers none --outtype f16 VILLAGE whole.gguf")
        .quietly();
    bench
        .slim("prune --drop-layers 1 whole.gguf small.gguf")
        .quietly();
    let heal = |pruned: &str, out: &str, tokens: usize| {
        let heal = format!("heal whole.gguf {pruned} {out} {SHORT} --tokens {tokens} --json");
        json(slim(&bench, &heal))
    };
    let first = heal("small.gguf", "healed.gguf", 2560);
    let (before, after) = (divergence(&first, "before"), divergence(&first, "after"));
    assert!(after < 0.75 * before, "{before} {after}");
    let second = heal("healed.gguf", "again.gguf", 1);
    let written = divergence(&second, "before");
    assert!((written - after).abs() < 1e-5, "{written} {after}");
    let inspected = json(slim(&bench, "inspect healed.gguf --json"));
    assert_eq!(inspected["slim"]["slim.layers.kept"], "0,2-7");
    assert_eq!(inspected["slim"]["slim.source.block_count"], "8");
}

#[test]
fn layers_that_miss_a_half_are_healed_as_cuts() {
    let bench = Bench::new();
    bench
        .slim("prune --drop-layers 1:attention,4,6:mlp VILLAGE small.gguf")
        .quietly();
    let heal = format!("heal VILLAGE small.gguf healed.gguf {SHORT} --tokens 2560 --json");
    let healing = json(slim(&bench, &heal));
    assert_eq!(healing["effect"]["train"], "cuts");
    let (before, after) = (
        divergence(&healing, "before"),
        divergence(&healing, "after"),
    );
    assert!(after < 0.8 * before, "{before} {after}");
    let says = |model: &str| json(slim(&bench, &format!("inspect {model} --json")));
    let (small, healed) = (says("small.gguf"), says("healed.gguf"));
    assert_eq!(
        healed["lacking"],
        serde_json::json!(["1:attention", "5:mlp"])
    );
    for key in ["slim.layers.kept", "slim.layers.kept_halves"] {
        assert_eq!(healed["slim"][key], small["slim"][key], "{key}");
    }
    assert!(healed["slim"]["slim.heal"].is_string(), "{healed}");
}

/// Waits for a state other than `known`.
fn wait_for_state(file: &Path, known: Option<&[u8]>) -> Vec<u8> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(120) {
        match fs::read(file) {
            Ok(bytes) if known != Some(&bytes) => return bytes,
            _ => sleep(Duration::from_millis(5)),
        }
    }
    panic!("no new {}", file.display());
}

#[test]
fn a_run_that_is_killed_ends_with_the_same_bytes() {
    let bench = with_pruned();
    let heal = |out: &str, state: &str| {
        format!(
            "heal VILLAGE small {out} {SHORT} --tokens 3840 --state {state} --save-minutes 0 --train all"
        )
    };
    slim(&bench, &heal("straight", "state-1")).quietly();
    let file = bench.path("state-2/state.safetensors");
    let mut last: Option<Vec<u8>> = None;
    for _ in 0..2 {
        let mut command = bench.command(SLIM);
        let mut child: Child = command
            .args(words(&heal("killed", "state-2")))
            .spawn()
            .unwrap();
        // Its second state of this life.
        for _ in 0..2 {
            last = Some(wait_for_state(&file, last.as_deref()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            !bench.path("killed").exists(),
            "it was too fast to be killed"
        );
    }
    let ran = slim(&bench, &heal("killed", "state-2"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stderr.contains("tokens are trained on in state-2"),
        "{ran:?}"
    );
    let read = |out: &str| fs::read(bench.path(out).join("model.safetensors")).unwrap();
    assert!(read("straight") == read("killed"));
    assert!(read("straight") != fs::read(bench.path("small").join("model.safetensors")).unwrap());
}

#[test]
fn a_finished_state_goes_on_with_a_larger_budget_and_serves_no_other_run() {
    let bench = with_pruned();
    let heal = |out: &str, more: &str| {
        slim(
            &bench,
            &format!("heal VILLAGE small {out} {SHORT} --state state --json {more}"),
        )
    };
    let first = json(heal("first", "--tokens 640"));
    let ran = heal("second", "--tokens 1280");
    let second: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(number(&second, "/effect/steps"), 10.0);
    assert!(divergence(&second, "after") < divergence(&first, "after"));
    let state = "of another run";
    for (more, word) in [
        ("--learning-rate 0.5", "--learning-rate"),
        ("--seed 1", "--seed"),
        ("--train all", "--train"),
        ("--hidden-weight 2", "--hidden-weight"),
    ] {
        let ran = heal("third", &format!("--tokens 1280 {more}"));
        assert_eq!(ran.unlike_an_error(&[state, word]), None);
        assert!(!bench.path("third").exists());
    }
}

#[test]
fn weights_that_became_worse_are_not_written() {
    let bench = with_pruned();
    let heal = format!("heal VILLAGE small out {SHORT} --tokens 640 --learning-rate 30");
    let ran = slim(&bench, &heal);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains("Healing did not help"),
        "{}",
        ran.stdout
    );
    let read = |model: &str| fs::read(bench.path(model).join("model.safetensors")).unwrap();
    let (small, out) = (read("small"), read("out"));
    let (small, out) = (
        SafeTensors::deserialize(&small).unwrap(),
        SafeTensors::deserialize(&out).unwrap(),
    );
    for (name, before) in small.tensors() {
        assert!(before.data() == out.tensor(&name).unwrap().data(), "{name}");
    }
}

/// Leaves a model as another program would have written it.
fn forget_where_it_comes_from(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    header["__metadata__"] = serde_json::json!({"format": "pt"});
    let header = serde_json::to_vec(&header).unwrap();
    let len = (header.len() as u64).to_le_bytes();
    fs::write(path, [&len, header.as_slice(), &bytes[end..]].concat()).unwrap();
}

#[test]
fn a_model_that_does_not_say_what_it_misses_learns_by_what_comes_next() {
    let bench = with_pruned();
    forget_where_it_comes_from(&bench.path("small/model.safetensors"));
    let ran = slim(
        &bench,
        &format!("heal VILLAGE small out {SHORT} --tokens 640 --json"),
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for word in ["does not say which layers were kept", "all layers train"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    let healing: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(healing["effect"]["train"], "all");
    assert!(divergence(&healing, "after") < divergence(&healing, "before"));
}

#[test]
fn texts_are_files_of_either_kind() {
    let bench = with_pruned();
    let story = "The old miller of the village keeps seven grey cats in the barn. ".repeat(60);
    fs::write(bench.path("story.txt"), &story).unwrap();
    let lines: String = (0..40)
        .map(|i| format!("{{\"id\": {i}, \"text\": \"Number {i} lives in house {i}.\"}}\n"))
        .collect();
    fs::write(bench.path("lines.jsonl"), lines).unwrap();
    let healing = json(slim(
        &bench,
        "heal VILLAGE small out --text story.txt --text lines.jsonl --sequence-length 16 \
         --batch-tokens 64 --tokens 320 --json",
    ));
    assert_eq!(
        healing["text"],
        serde_json::json!(["story.txt", "lines.jsonl"])
    );
    assert!(divergence(&healing, "after") < divergence(&healing, "before"));
}

#[test]
fn wrong_uses_are_told_before_any_work() {
    let bench = with_pruned();
    fs::write(bench.path("short.txt"), "Too short.").unwrap();
    fs::write(
        bench.path("wrong.jsonl"),
        "{\"text\": \"one\"}\n{\"words\": \"two\"}\n",
    )
    .unwrap();
    bench
        .slim("prune --drop-layers none VILLAGE whole.gguf")
        .quietly();
    bench
        .slim("prune --drop-layers 2 --outtype q8_0 whole.gguf small.q8_0.gguf")
        .quietly();
    fs::create_dir(bench.path("full")).unwrap();
    fs::write(bench.path("full/file"), "").unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden/qwen3");
    let other = format!("heal VILLAGE {} out", golden.display());
    assert_refused(
        &bench,
        &[
            (
                "heal VILLAGE small out --text short.txt",
                &["tokens", "--text", "--sequence-length"],
            ),
            (
                "heal VILLAGE small out --text wrong.jsonl",
                &["wrong.jsonl", "line 2", "\"text\""],
            ),
            ("heal VILLAGE small out --text none.txt", &["none.txt"]),
            ("heal small VILLAGE out", &["name the original first"]),
            (&other, &["no pruned form", "vocabulary"]),
            (
                "heal whole.gguf small.q8_0.gguf out.gguf",
                &["q8_0", "before it is quantised"],
            ),
            ("heal VILLAGE small full", &["full", "not empty"]),
            (
                "heal whole.gguf whole.gguf whole.gguf",
                &["it is the file that is read"],
            ),
            (
                "heal whole.gguf small whole.gguf",
                &["it is the file that is read"],
            ),
            ("heal VILLAGE small out --tokens 0", &["--tokens"]),
            ("heal VILLAGE small out --minutes 0", &["--minutes"]),
            (
                "heal VILLAGE small out --learning-rate nan",
                &["--learning-rate"],
            ),
            (
                "heal VILLAGE small out --hidden-weight -1",
                &["--hidden-weight"],
            ),
            (
                "heal VILLAGE small out --sequence-length 100000",
                &["--sequence-length", "512"],
            ),
            ("heal VILLAGE small out --save-minutes 1", &["--state"]),
            (
                "heal VILLAGE small out --state small",
                &["--state", "name of a model"],
            ),
            (
                "heal VILLAGE small out --memory 250MiB --train all",
                &["--memory"],
            ),
        ],
    );
}
