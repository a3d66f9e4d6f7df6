//! Files that were cut, flipped or made up: slim says what is wrong, whatever it reads.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::Device;
use slim::arch::{Arch, KeepSet};
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::runnable;
use slim::model::Model;
use slim::prune::{Request, write};

use crate::bench::{Bench, SLIM};
use crate::tiny;

/// Cases of each file inside this process.
const CASES: usize = 300;

/// Cases of each file through the binary.
const SAMPLE: usize = 12;

/// Damages a file: cut, flipped bits, bytes of the largest value, a moved piece.
fn damaged(bytes: &[u8], head: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let head = head.min(bytes.len());
    match random.u8(0..6) {
        0 => bytes.truncate(random.usize(0..bytes.len())),
        1 => bytes.truncate(random.usize(0..head)),
        2 => {
            let at = random.usize(0..head);
            let end = (at + random.usize(1..9)).min(bytes.len());
            bytes[at..end].fill(*random.choice(&[0, 0x7f, 0xff]).unwrap());
        }
        3 => {
            let (from, to) = (random.usize(0..head), random.usize(0..head));
            let piece: Vec<u8> = bytes[from..].iter().copied().take(16).collect();
            let end = (to + piece.len()).min(bytes.len());
            bytes[to..end].copy_from_slice(&piece[..end - to]);
        }
        _ => {
            for _ in 0..random.usize(1..9) {
                bytes[random.usize(0..head)] ^= 1 << random.u8(0..8);
            }
        }
    }
    bytes
}

/// Damages JSON so that it stays JSON: another value for one of its numbers or words.
fn edited(text: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    const VALUES: &[&str] = &[
        "0",
        "-1",
        "1",
        "3",
        "7",
        "48",
        "1.5",
        "1e5",
        "1e300",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "2147483647",
        "null",
        "true",
        "\"x\"",
        "[]",
        "{}",
        "\"\"",
        "[0,0,0,0]",
    ];
    let text = std::str::from_utf8(text).unwrap();
    let values: Vec<_> = text.match_indices(": ").map(|(at, _)| at + 2).collect();
    let start = *random.choice(&values).unwrap();
    let end = text[start..]
        .find([',', '\n'])
        .map_or(text.len(), |len| start + len);
    let value = random.choice(VALUES).unwrap();
    [&text[..start], value, &text[end..]].concat().into_bytes()
}

/// Everything that inspect, eval's loading and prune do with a checkpoint; errors are fine.
fn use_it(input: &Path, folder: &Path) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(input)?;
    let arch = Arch::of(&checkpoint)?;
    let n_layers = arch.n_layers(&checkpoint)?;
    let _ = Model::load(&checkpoint, &Device::Cpu, |_, _| {});
    let _ = runnable(&checkpoint);
    let keep = KeepSet::without(n_layers, &[1])?;
    let mut results = Vec::new();
    for name in ["out.gguf", "out"] {
        let target = folder.join(name);
        let request = Request::new(&checkpoint, &keep, &target);
        results.push(write(&request, &|_| {}));
        let _ = fs::remove_file(&target);
        let _ = fs::remove_dir_all(&target);
    }
    results.into_iter().try_for_each(|result| result.map(drop))
}

/// One file of a model under attack: the path that slim is given, the file that is damaged, and
/// how many of its first bytes matter most.
struct Attack {
    bench: Bench,
    input: &'static str,
    file: &'static str,
    head: usize,
}

impl Attack {
    fn new(input: &'static str, file: &'static str, head: usize) -> Self {
        let bench = Bench::new();
        tiny::write(&bench, "tiny");
        bench.slim("prune --drop-layers 0 tiny tiny.gguf").quietly();
        fs::create_dir(bench.path("outputs")).unwrap();
        Self {
            bench,
            input,
            file,
            head,
        }
    }

    /// Runs `look` on each damaged file; it says what went wrong.
    fn each(&self, n: usize, seed: u64, look: impl Fn(&Path) -> Option<String>) -> Vec<String> {
        let target = self.bench.path(self.file);
        let bytes = fs::read(&target).unwrap();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut failures = Vec::new();
        for case in 0..n {
            let json = self.file.ends_with("config.json") && random.bool();
            let damaged = match json {
                true => edited(&bytes, &mut random),
                false => damaged(&bytes, self.head, &mut random),
            };
            // A new file each time: the old one may still be mapped.
            fs::remove_file(&target).unwrap();
            fs::write(&target, damaged).unwrap();
            if let Some(why) = look(&self.bench.path(self.input)) {
                let kept = std::env::temp_dir().join(format!("slim-case-{seed}-{case}"));
                let _ = fs::copy(&target, &kept);
                failures.push(format!(
                    "{} case {case} ({}): {why}",
                    self.file,
                    kept.display()
                ));
            }
        }
        fs::write(&target, bytes).unwrap();
        failures
    }

    fn in_process(&self) -> Vec<String> {
        let outputs = self.bench.path("outputs");
        use_it(&self.bench.path(self.input), &outputs).expect("the undamaged model is a model");
        let refused = std::cell::Cell::new(0);
        let failures = self.each(CASES, 1, |input| {
            let result = catch_unwind(AssertUnwindSafe(|| use_it(input, &outputs)));
            refused.set(refused.get() + usize::from(matches!(result, Ok(Err(_)))));
            let left = fs::read_dir(&outputs).unwrap().count();
            match (result, left) {
                (Ok(_), 0) => None,
                (Ok(_), _) => Some("something was left behind".to_owned()),
                (Err(panic), _) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned()));
                    Some(format!("panicked: {}", text.unwrap_or_default()))
                }
            }
        });
        let refused = refused.get();
        println!("{}: {refused} of {CASES} refused", self.file);
        assert!(
            refused > CASES / 20,
            "hardly any damage was noticed: {refused}"
        );
        failures
    }

    /// Through the binary, in 4 GiB of addresses and 60 seconds.
    fn through_the_binary(&self) -> Vec<String> {
        self.each(SAMPLE, 2, |_| {
            let commands = [
                format!("inspect {}", self.input),
                format!("prune --drop-layers 1 {} outputs/out.gguf", self.input),
                format!("prune --drop-layers 1 {} outputs/out", self.input),
            ];
            for command in commands {
                let limits = "ulimit -v 4194304; exec timeout 60";
                let ran = self.bench.sh(&format!("{limits} {SLIM} {command}"));
                let _ = fs::remove_file(self.bench.path("outputs/out.gguf"));
                let _ = fs::remove_dir_all(self.bench.path("outputs/out"));
                let known = matches!(ran.code, Some(0 | 2)) && !ran.stderr.contains("panicked");
                if !known || (ran.code == Some(2)) == ran.stderr.is_empty() {
                    return Some(format!("slim {command}: {ran:?}"));
                }
            }
            None
        })
    }

    #[track_caller]
    fn survives(self) {
        let mut failures = self.in_process();
        failures.extend(self.through_the_binary());
        assert!(
            failures.is_empty(),
            "{}\n{}",
            failures.len(),
            failures.join("\n")
        );
    }
}

#[test]
fn a_damaged_gguf_file_is_an_error_or_a_model() {
    Attack::new("tiny.gguf", "tiny.gguf", 600).survives();
}

#[test]
fn a_damaged_vocabulary_in_a_gguf_file_is_an_error_or_a_model() {
    Attack::new("tiny.gguf", "tiny.gguf", 40_000).survives();
}

#[test]
fn a_damaged_safetensors_file_is_an_error_or_a_model() {
    Attack::new("tiny/model.safetensors", "tiny/model.safetensors", 4000).survives();
}

#[test]
fn a_damaged_config_is_an_error_or_a_model() {
    Attack::new("tiny", "tiny/config.json", 4000).survives();
}

#[test]
fn a_damaged_tokenizer_is_an_error_or_a_model() {
    Attack::new("tiny", "tiny/tokenizer.json", 20_000).survives();
}

#[test]
fn a_damaged_tokenizer_config_is_an_error_or_a_model() {
    Attack::new("tiny", "tiny/tokenizer_config.json", 4000).survives();
}
