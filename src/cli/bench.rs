//! `slim bench ORIGINAL PRUNED`: size, loading, speed and memory, each model in a process of its own.

use super::machine::MachineOptions;
use super::progress::Bar;
use super::subject::Subject;
use super::{Passed, show, show_json};
use crate::eval::{Progress, Silent, Speed, speed};
use crate::report::{Figures, terminal};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  slim bench model.gguf small.gguf
  slim bench model.gguf small.gguf --rounds 5 --json

This is slim's own decoder, in f32 unless --compute says otherwise: for the ratio of two models. A runtime
with kernels for quantised types is faster than this; measure it with its own tool (llama-bench).")]
pub(super) struct Args {
    /// Checkpoints; the first is what the others are compared with
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Tokens that are read
    #[arg(long, value_name = "N", default_value_t = 256)]
    prompt_tokens: usize,
    /// Tokens that are written
    #[arg(long, value_name = "N", default_value_t = 32)]
    tokens: usize,
    /// How often each model is measured, in turn; the median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    machine: MachineOptions,
    /// The figures as JSON on stdout instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    ensure!(args.rounds > 0, "--rounds: measure at least once");
    if let [model] = args.models.as_slice() {
        let figures = args.measure(model)?;
        match args.json {
            true => show_json(&figures)?,
            false => show(&terminal::bench(&[figures]))?,
        }
        return Ok(true);
    }
    let progress = Bar::new();
    let mut all: Vec<Vec<Figures>> = vec![Vec::new(); args.models.len()];
    progress.begin("measuring", (args.rounds * args.models.len()) as u64);
    for _ in 0..args.rounds {
        for (model, found) in args.models.iter().zip(&mut all) {
            found.push(args.apart(model)?);
            progress.advance(1);
        }
    }
    progress.clear();
    let medians: Option<Vec<Figures>> = all.into_iter().map(median).collect();
    let medians = medians.context("nothing was measured")?;
    match args.json {
        true => show_json(&medians)?,
        false => show(&terminal::bench(&medians))?,
    }
    Ok(true)
}

impl Args {
    /// In this process.
    fn measure(&self, model: &Path) -> Result<Figures> {
        let resources = self.machine.resources()?;
        let begun = Instant::now();
        let subject = Subject::open(model, &resources, &Silent)?;
        let load = begun.elapsed().as_secs_f64();
        let prompt = self.prompt(&subject)?;
        Ok(Figures {
            path: model.display().to_string(),
            bytes: subject.checkpoint.total_bytes(),
            n_layers: subject.model.n_layers(),
            load,
            speed: speed(&subject.model, &prompt, self.tokens)?,
            peak: peak(),
        })
    }

    /// Some text of as many tokens as wanted.
    fn prompt(&self, subject: &Subject) -> Result<Vec<u32>> {
        const TEXT: &str = "The river runs down to the sea, and the road runs beside it. ";
        let wanted = self.prompt_tokens.max(1);
        let mut tokens = subject.tokenizer.encode(&TEXT.repeat(wanted), true)?;
        tokens.truncate(wanted);
        Ok(tokens)
    }

    /// In a process of its own: what one model leaves in memory must not count for the next.
    fn apart(&self, model: &Path) -> Result<Figures> {
        let slim = std::env::current_exe().context("where slim is")?;
        let mut command = Command::new(slim);
        command.arg("bench").arg(model).arg("--json");
        for (name, n) in [
            ("--prompt-tokens", self.prompt_tokens),
            ("--tokens", self.tokens),
        ] {
            command.arg(name).arg(n.to_string());
        }
        command.args(self.machine.arguments());
        let ran = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .context("starting slim again")?;
        let said = String::from_utf8_lossy(&ran.stderr);
        ensure!(
            ran.status.success(),
            "{}: {}",
            model.display(),
            said.trim().trim_start_matches("slim: ")
        );
        serde_json::from_slice(&ran.stdout).context("what slim bench said")
    }
}

/// The figures of the round that was neither the best nor the worst, number by number.
fn median(rounds: Vec<Figures>) -> Option<Figures> {
    let middle = |of: fn(&Figures) -> f64| -> f64 {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let first = rounds.first()?.clone();
    Some(Figures {
        load: middle(|figures| figures.load),
        speed: Speed {
            prompt: middle(|figures| figures.speed.prompt),
            generation: middle(|figures| figures.speed.generation),
        },
        peak: rounds.iter().filter_map(|figures| figures.peak).max(),
        ..first
    })
}

/// The most memory that this process held so far, as Linux tells it.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
