//! Every published weakness of model file parsers that fits slim, tried on slim: each attack of
//! `fixtures/attacks` is refused with the words that it names, or harmless, through the library
//! and through the binary, and leaves nothing behind.

mod base;
#[path = "../cli/bench.rs"]
#[allow(dead_code)]
mod bench;
mod bytes;
mod cases;
mod target;
#[path = "../checkpoint/tiny.rs"]
mod tiny;
mod walk;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bench::{Bench, Ran, SLIM};
use cases::{COMMANDS, Case};

/// Addresses, in KiB, and seconds: a guard against hanging, no measurement.
const LIMITS: &str = "ulimit -v 4194304; exec timeout 20";

/// Runs `try_it` on every attack, each in its own folder with an empty `in`, and fails with all
/// that it says.
#[track_caller]
fn each(try_it: impl Fn(&Case, &Bench) -> Result<(), String>) {
    let mut failures = Vec::new();
    for (file, cases) in cases::all() {
        for case in cases {
            let bench = Bench::new();
            fs::create_dir(bench.path("in")).unwrap();
            if let Err(why) = try_it(&case, &bench) {
                failures.push(format!("{file}.json: {}: {why}", case.name));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{}\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn missing<'a>(case: &'a Case, told: &str) -> Option<&'a String> {
    case.says.iter().find(|word| !told.contains(*word))
}

#[test]
fn the_library_refuses_every_attack_in_the_words_it_names() {
    each(|case, bench| {
        let input = case.build(&bench.path("in"));
        let scratch = bench.path("scratch");
        fs::create_dir(&scratch).unwrap();
        let walked = catch_unwind(AssertUnwindSafe(|| walk::walk(&input, &scratch)));
        if fs::read_dir(&scratch).unwrap().next().is_some() {
            return Err("something was left behind".to_owned());
        }
        match walked {
            Err(_) => Err("panicked".to_owned()),
            Ok(Ok(())) if case.refused_by.is_empty() => Ok(()),
            Ok(Ok(())) => Err("was accepted".to_owned()),
            Ok(Err(error)) if case.refused_by.is_empty() => Err(format!("was refused: {error:#}")),
            Ok(Err(error)) => match missing(case, &format!("{error:#}")) {
                Some(word) => Err(format!("'{word}' is not in: {error:#}")),
                None => Ok(()),
            },
        }
    });
}

/// The names in a folder, whatever they are.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect()
}

#[test]
fn the_binary_refuses_every_attack_and_writes_nothing() {
    each(|case, bench| {
        let input = case.build(&bench.path("in"));
        let (outside, inside) = (bench.names(), names(&bench.path("in")));
        let mut failures = Vec::new();
        for (name, command) in COMMANDS {
            let refused = case.refused_by.iter().any(|by| by == name);
            if name == "eval" && !refused {
                continue;
            }
            let command = command.replace("IN", input.to_str().unwrap());
            let ran = bench.sh(&format!("{LIMITS} {SLIM} {command}"));
            failures.extend(unexpected(case, refused, &ran).map(|why| format!("{name}: {why}")));
            if !refused {
                let _ = fs::remove_file(bench.path("out.gguf"));
                let _ = fs::remove_dir_all(bench.path("out"));
            }
            if (bench.names(), names(&bench.path("in"))) != (outside.clone(), inside.clone()) {
                failures.push(format!("{name}: left {:?}", bench.names()));
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("; "))
        }
    });
}

fn unexpected(case: &Case, refused: bool, ran: &Ran) -> Option<String> {
    let (code, told) = (ran.code, ran.stderr.as_str());
    let wrong = match (refused, code) {
        (_, Some(0 | 2)) if told.contains("panicked") => "panicked".to_owned(),
        (true, Some(2)) => {
            let control = |c: char| c.is_control() && c != '\n';
            if told.chars().any(control) || told.chars().count() > 9000 {
                "said what harms a terminal".to_owned()
            } else {
                format!("'{}' is not in", missing(case, told)?)
            }
        }
        (false, Some(0)) => return None,
        _ => format!("exit {code:?}"),
    };
    Some(format!("{wrong}: {told:.600}"))
}

/// They must only come back: what the fuzz targets once found, and what they start from.
#[test]
fn the_inputs_of_the_fuzz_targets_come_back() {
    for (name, inputs) in cases::found().into_iter().chain(cases::seeds()) {
        println!("{name}: {} inputs", inputs.len());
        inputs.iter().for_each(|input| target::run(name, input));
    }
}

#[test]
#[ignore = "not a test: it writes the seeds of the fuzz targets"]
fn write_the_seeds_of_the_fuzz_targets() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, inputs) in cases::found().into_iter().chain(cases::seeds()) {
        fs::create_dir_all(fuzz.join(name)).unwrap();
        for (n, input) in inputs.iter().enumerate() {
            let name = format!("{name}/seed-{n:03}-{}", input.len());
            fs::write(fuzz.join(name), input).unwrap();
        }
    }
}

/// The honest models are accepted: what is refused is refused for its lie.
#[test]
fn the_honest_models_are_harmless() {
    for base in ["gguf", "split", "folder", "shards", "sentencepiece"] {
        let bench = Bench::new();
        let case = serde_json::json!({"name": base, "attacks": "", "base": base});
        let case: Case = serde_json::from_value(case).unwrap();
        let input = case.build(&bench.path("."));
        fs::create_dir(bench.path("scratch")).unwrap();
        walk::walk(&input, &bench.path("scratch")).unwrap_or_else(|e| panic!("{base}: {e:#}"));
    }
}

#[test]
fn every_attack_is_in_the_readme() {
    let readme = fs::read_to_string(cases::home().join("README.md")).unwrap();
    let mut seen = BTreeSet::new();
    for (file, cases) in cases::all() {
        for case in cases {
            assert!(seen.insert(case.name.clone()), "{} occurs twice", case.name);
            let row = format!("| {} | {} |", case.name, case.attacks.replace('|', "\\|"));
            assert!(
                readme.contains(&row),
                "{file}.json: not in README.md: {row}"
            );
            let known = |by: &String| COMMANDS.iter().any(|(name, _)| name == by);
            assert!(
                case.refused_by.iter().all(known),
                "{}: {:?}",
                case.name,
                case.refused_by
            );
            assert_eq!(
                case.says.is_empty(),
                case.refused_by.is_empty(),
                "{}",
                case.name
            );
        }
    }
}
