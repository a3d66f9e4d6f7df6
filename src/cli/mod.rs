//! One file a subcommand: flags → library calls → what the terminal shows.

mod bench;
mod completions;
mod eval;
mod files;
mod gates;
mod heal;
mod hub;
mod inspect;
mod machine;
mod modelfile;
mod options;
mod plan;
mod progress;
mod prune;
mod report;
mod score;
mod shard;
mod subject;
mod suite;
mod verify;

use crate::checkpoint::clean_up_on_signals;
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Prune the layers of a language model by what it must keep, and prove what was kept.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  slim prune --keep 24 --preserve retrieval model.safetensors small.gguf
  slim prune --keep 24 hf:HuggingFaceTB/SmolLM2-135M-Instruct small/
  slim prune --drop-layers 20-23 model.gguf small.gguf
  slim score model.gguf -o profile.json
  slim plan profile.json --model model.gguf --keep 24 -o plan.json
  slim prune --plan plan.json model.gguf small.gguf
  slim verify model.gguf small.gguf --gate 'retrieval>=0.9'

Exit codes: 0 done and all gates passed, 1 a gate failed, 2 an error.";

#[derive(Subcommand)]
enum Command {
    /// Score, choose, write and verify; or write only what was decided
    Prune(Box<prune::Args>),
    /// What a checkpoint is, and which layers may go
    Inspect(inspect::Args),
    /// The importance of every layer for each family and protocol
    Score(score::Args),
    /// Choose the layers that stay
    Plan(plan::Args),
    /// Ask a checkpoint the suite
    Eval(eval::Args),
    /// Draw what was measured
    Report(report::Args),
    /// The tasks, and what an item looks like to a model
    Suite(suite::Args),
    /// Hold a pruned checkpoint against its original
    Verify(verify::Args),
    /// Size, loading, speed and memory of a model beside another's
    Bench(bench::Args),
    /// Completions for a shell
    Completions(completions::Args),
    /// Manual pages
    Man(completions::ManArgs),
    /// Train a pruned checkpoint shortly by what its original says
    Heal(heal::Args),
}

/// Whether all gates were passed.
type Passed = bool;

/// Writes text to stdout. A reader that has seen enough is no error.
fn show(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("writing to stdout"),
    }
}

/// Tells something by the way. Nobody listening on stderr is no reason to stop.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

/// The most characters of a message or value that are shown, from its start and from its end.
const MAX_SHOWN: [usize; 2] = [6000, 2000];

/// A text that may come from a file, as a terminal may get it: control characters spelled out,
/// and without its middle where it is endless.
fn printable(text: &str) -> String {
    let [head, tail] = MAX_SHOWN;
    let len = text.chars().count();
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        match c.is_control() && c != '\n' {
            _ if at == head && at + tail < len => shown.push('…'),
            _ if at > head && at + tail < len => {}
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// Writes JSON to stdout.
fn show_json(value: &impl serde::Serialize) -> Result<()> {
    show(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Runs the command line: 0 done, 1 a gate failed, 2 an error.
pub fn run() -> ExitCode {
    let command = Cli::parse().command;
    let done = clean_up_on_signals().context("signal handlers");
    match done.and_then(|()| command.run()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("slim: {}", printable(&format!("{error:#}")));
            ExitCode::from(2)
        }
    }
}

impl Command {
    /// The models that it reads.
    fn models(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Prune(args) => vec![&mut args.input],
            Self::Inspect(args) => vec![&mut args.model],
            Self::Score(args) => args.model.iter_mut().collect(),
            Self::Plan(args) => vec![&mut args.model],
            Self::Eval(args) => vec![&mut args.model],
            Self::Bench(args) => args.models.iter_mut().collect(),
            Self::Verify(args) => vec![&mut args.original, &mut args.pruned],
            Self::Heal(args) => vec![&mut args.original, &mut args.pruned],
            Self::Suite(args) => args.model().into_iter().collect(),
            Self::Report(_) | Self::Completions(_) | Self::Man(_) => Vec::new(),
        }
    }

    fn run(mut self) -> Result<Passed> {
        for model in self.models() {
            hub::fetch(model)?;
        }
        match self {
            Self::Prune(args) => prune::run(&args),
            Self::Inspect(args) => inspect::run(&args),
            Self::Score(args) => score::run(&args),
            Self::Report(args) => report::run(&args),
            Self::Bench(args) => bench::run(&args),
            Self::Completions(args) => completions::run(&args),
            Self::Man(args) => completions::man(&args),
            Self::Plan(args) => plan::run(&args),
            Self::Eval(args) => eval::run(&args),
            Self::Suite(args) => suite::run(&args),
            Self::Verify(args) => verify::run(&args),
            Self::Heal(args) => heal::run(&args),
        }
    }
}
