//! What goes to stdout and stderr.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::bench::{Bench, FEW, SLIM, words};
use crate::tiny;

#[test]
fn json_is_all_that_stdout_gets_when_it_is_asked_for() {
    let bench = Bench::new();
    let few = "--suite VILLAGE/suite";
    bench
        .slim("prune --drop-layers 3 VILLAGE small.gguf")
        .quietly();
    for (command, field) in [
        ("inspect VILLAGE --json".to_owned(), "n_layers"),
        (
            format!("score VILLAGE --json --calibrate-items 1 {few} -o p.json"),
            "layers",
        ),
        (
            format!(
                "plan p.json --model VILLAGE --keep 7 --candidates 1 --select-items 1 --json {few}"
            ),
            "keep",
        ),
        (format!("eval VILLAGE --json --items 1 {few}"), "outcomes"),
        (
            format!("verify VILLAGE small.gguf --json --report-items 1 {few}"),
            "comparison",
        ),
        (
            format!("prune --keep 7 VILLAGE whole.gguf --json --report-items 1 {FEW}"),
            "plan",
        ),
    ] {
        let ran = bench.slim(&command).quietly();
        let json: Value = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|e| panic!("slim {command}: {e}: {}", ran.stdout));
        assert!(
            json.get(field).is_some_and(|v| !v.is_null()),
            "{command}: no {field}"
        );
    }
}

#[test]
fn only_writing_says_nothing() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    let ran = bench
        .slim("prune --drop-layers 1 tiny small.gguf")
        .quietly();
    assert_eq!(ran.stdout, "");
}

/// Without a gate there is nothing to fail, but the report was asked for.
#[test]
fn a_report_that_was_asked_for_is_written_even_where_nothing_is_searched() {
    let bench = Bench::new();
    let ran = bench.slim("prune --drop-layers 3 VILLAGE small.gguf --report r.json --json --report-items 1 --suite VILLAGE/suite");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told: Value = serde_json::from_str(&ran.stdout).expect("--json means JSON on stdout");
    let report: Value = serde_json::from_slice(&fs::read(bench.path("r.json")).unwrap()).unwrap();
    assert_eq!(told, report);
}

/// `println!` panics where the write fails.
#[test]
fn a_full_stdout_is_an_error_and_no_panic() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    for command in ["inspect tiny", "inspect --json tiny"] {
        let ran = bench.sh(&format!("slim {command} > /dev/full"));
        assert!(!ran.stderr.contains("panicked"), "{command}: {ran:?}");
        assert_eq!(ran.code, Some(2), "{command}: {ran:?}");
    }
}

/// As in `slim eval --json MODEL | head -1`.
#[test]
fn a_reader_that_has_seen_enough_is_no_panic() {
    let bench = Bench::new();
    let eval = "eval VILLAGE --json --items 8 --protocols continuation --suite VILLAGE/suite";
    let mut child = bench
        .command(SLIM)
        .args(words(eval))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!told.contains("panicked"), "{told}");
}
