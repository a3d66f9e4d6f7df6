//! Every method at several depths, on questions that the choice never saw:
//!
//!     cargo bench --bench methods -- choose MODEL [KEY=VALUE …] > choices.jsonl
//!     cargo bench --bench methods -- judge MODEL choices.jsonl [KEY=VALUE …] > answers.jsonl
//!     cargo bench --bench methods -- weigh MODEL choices.jsonl > weights.jsonl
//!     python tests/real/methods.py answers.jsonl
//!
//! | key | |
//! |---|---|
//! | `keep=22,15` | depths |
//! | `methods=a,b` | all without it |
//! | `preserve=retrieval` | a family; `cross` chooses for each family in turn, and for none |
//! | `seeds=0,1,2` | each draws other items, and other numbers |
//! | `calibrate=16`, `select=40` | items of each family that make the profile, and that choose |
//! | `candidates=6`, `generations=24`, `measure=both` | as in `slim plan` |
//! | `halves=yes` | half layers in the place of what slim's own method chose, too (method `halves`) |
//! | `whole=choices.jsonl` | slim's own sets from an earlier run, for `halves` |
//! | `items=24` | items of each family that judge |
//! | `tasks=a,b`, `data=DIR`, `limit=100` | public tasks that judge too, by likelihood alone |
//! | `select=8,16,40`, `own=16` | of `weigh`: items of each family, and texts that the original writes |
//!
//! `choose` prints a line of JSON for each set, with what choosing it took; what slim's own method chose
//! appears three times, mended in every way. `judge` prints a line with every answer for each of them,
//! the original's first. `weigh` prints what each set loses by the things that a method can choose by:
//! whether these rank sets as judging does.

mod choose;
mod judge;
mod subject;
mod weigh;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use slim::arch::KeepSet;
use slim::plan::compensation::Heal;
use subject::Subject;

/// A chosen set, and how it came about.
#[derive(Clone, Serialize, Deserialize)]
struct Choice {
    method: String,
    /// The family; empty, none in particular.
    preserve: String,
    seed: u64,
    keep: usize,
    set: KeepSet,
    heal: Heal,
    /// Whether slim would mend it so by itself.
    default: bool,
    /// What choosing this and all deeper sets of the method took.
    seconds: f64,
    layer_passes: u64,
}

impl Choice {
    /// A file of choices, a line each.
    fn read(path: &str) -> Result<Vec<Self>> {
        let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
        let lines = text.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["choose", model, keys @ ..] => choose::run(&Subject::new(model, keys)?),
        ["judge", model, choices, keys @ ..] => judge::run(&Subject::new(model, keys)?, choices),
        ["weigh", model, choices, keys @ ..] => weigh::run(&Subject::new(model, keys)?, choices),
        [] => {
            // Benches of all kinds are run together, without arguments.
            println!("methods: give choose MODEL, or judge or weigh MODEL CHOICES");
            Ok(())
        }
        _ => bail!("choose MODEL [KEY=VALUE …], or judge or weigh MODEL CHOICES [KEY=VALUE …]"),
    }
}
