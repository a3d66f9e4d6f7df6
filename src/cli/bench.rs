//! `slim bench ORIGINAL PRUNED`: size, loading, speed and memory, each model in a process of its own.

use super::machine::MachineOptions;
use super::progress::Bar;
use super::subject::Subject;
use super::{Passed, show, show_json};
use crate::checkpoint::Checkpoint;
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
    pub(super) models: Vec<PathBuf>,
    #[command(flatten)]
    work: Work,
    #[command(flatten)]
    machine: MachineOptions,
    /// The figures as JSON on stdout instead of a table
    #[arg(long)]
    json: bool,
}

/// What is timed.
#[derive(clap::Args)]
pub(super) struct Work {
    /// Tokens that are read
    #[arg(long, value_name = "N", default_value_t = Self::USUAL.prompt_tokens)]
    prompt_tokens: usize,
    /// Tokens that are written
    #[arg(long, value_name = "N", default_value_t = Self::USUAL.tokens)]
    tokens: usize,
    /// How often each model is measured, in turn; the median counts
    #[arg(long, value_name = "N", default_value_t = Self::USUAL.rounds)]
    rounds: usize,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    let Work { rounds, .. } = args.work;
    ensure!(rounds > 0, "--rounds: measure at least once");
    let figures = match args.models.as_slice() {
        [model] if rounds == 1 => vec![args.work.measure(model, &args.machine)?],
        models => {
            let models: Vec<&Path> = models.iter().map(PathBuf::as_path).collect();
            args.work.medians(&models, &args.machine)?
        }
    };
    match args.json {
        true => show_json(&figures)?,
        false => show(&terminal::bench(&figures))?,
    }
    Ok(true)
}

impl Work {
    /// What is timed where nothing else is said.
    pub(super) const USUAL: Self = Self {
        prompt_tokens: 256,
        tokens: 32,
        rounds: 3,
    };

    /// Every model in turn, round by round, so that what slows the machine down slows all of them.
    ///
    /// # Errors
    /// A model that cannot be opened or run.
    pub(super) fn medians(
        &self,
        models: &[&Path],
        machine: &MachineOptions,
    ) -> Result<Vec<Figures>> {
        for model in models {
            Checkpoint::open(model)?;
        }
        let progress = Bar::new();
        let mut all: Vec<Vec<Figures>> = vec![Vec::new(); models.len()];
        progress.begin("measuring", (self.rounds * models.len()) as u64);
        for _ in 0..self.rounds {
            for (model, found) in models.iter().zip(&mut all) {
                found.push(self.apart(model, machine)?);
                progress.advance(1);
            }
        }
        progress.clear();
        let medians: Option<Vec<Figures>> = all.into_iter().map(median).collect();
        medians.context("nothing was measured")
    }

    /// In this process.
    fn measure(&self, model: &Path, machine: &MachineOptions) -> Result<Figures> {
        let resources = machine.resources()?;
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
    fn apart(&self, model: &Path, machine: &MachineOptions) -> Result<Figures> {
        let mut command = Command::new(myself()?);
        command.arg("bench").arg(model).arg("--json");
        for (name, n) in [
            ("--rounds", 1),
            ("--prompt-tokens", self.prompt_tokens),
            ("--tokens", self.tokens),
        ] {
            command.arg(name).arg(n.to_string());
        }
        command.args(machine.arguments());
        let ran = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .context("starting slim again")?;
        let said = String::from_utf8_lossy(&ran.stderr);
        ensure!(
            ran.status.success(),
            "{}",
            said.trim().trim_start_matches("slim: ")
        );
        let figures: Vec<Figures> =
            serde_json::from_slice(&ran.stdout).context("what slim bench said")?;
        figures
            .into_iter()
            .next()
            .context("slim bench said nothing")
    }
}

/// The program that runs. Its file may have been replaced since it was started, hours ago: where the system
/// can start what is in memory all the same, it does.
fn myself() -> Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    match running.exists() {
        true => Ok(running),
        false => std::env::current_exe().context("where slim is"),
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
