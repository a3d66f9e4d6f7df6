//! `slim plan PROFILE --model MODEL --keep N -o plan.json`

use super::Passed;
use super::files::{check_beside, read_json, write_json};
use super::machine::MachineOptions;
use super::options::{ChoiceOptions, Chooser, Depth, SuiteOptions, TypeOptions, methods};
use super::progress::Bar;
use super::subject::Subject;
use super::{show, show_json};
use crate::arch::KeepSet;
use crate::checkpoint::Checkpoint;
use crate::convert::Target;
use crate::convert::quantise::Imatrix;
use crate::importance::Profile;
use crate::plan::Size;
use crate::prune::planned;
use crate::report::terminal;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:
  slim plan profile.json --model model.gguf --keep 24 --preserve retrieval -o plan.json
  slim plan profile.json --model model.gguf --max-size 600MB --outtype q4_k_m -o plan.json
  slim plan profile.json --model model.gguf --min-retention knowledge=0.9 -o plan.json
  slim plan profile.json --model model.gguf --curve

Without a depth, the knee of the measured curve of loss over depth is taken.",
    after_long_help = format!("Examples:
  slim plan profile.json --model model.gguf --keep 24 --preserve retrieval -o plan.json
  slim plan profile.json --model model.gguf --max-size 600MB --outtype q4_k_m -o plan.json
  slim plan profile.json --model model.gguf --min-retention knowledge=0.9 -o plan.json
  slim plan profile.json --model model.gguf --curve

Without a depth, the knee of the measured curve of loss over depth is taken.

{}", methods())
)]
pub(super) struct Args {
    /// A profile that `slim score` wrote
    profile: PathBuf,
    /// The checkpoint that was scored: the search measures every step on it
    #[arg(long, value_name = "MODEL")]
    pub(super) model: PathBuf,
    /// Where the plan goes
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    depth: Depth,
    /// Measure every depth: what each family retains, against size and speed
    #[arg(long)]
    curve: bool,
    #[command(flatten)]
    types: TypeOptions,
    #[command(flatten)]
    suite: SuiteOptions,
    #[command(flatten)]
    choice: ChoiceOptions,
    #[command(flatten)]
    machine: MachineOptions,
    /// The plan as JSON on stdout instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    check_beside(args.output.as_ref(), &[&args.model, &args.profile])?;
    let imatrix = args.types.imatrix()?;
    let resources = args.machine.resources()?;
    let progress = Bar::new();
    let profile: Profile = read_json(&args.profile, "profile")?;
    let named = || args.profile.display().to_string();
    profile.check().with_context(named)?;
    let suite = args.suite.open()?;
    args.choice.check(&suite)?;
    let subject = Subject::open(&args.model, &resources, &progress)?;
    ensure!(
        profile.model_sha256 == subject.checkpoint.sha256()?,
        "{} is the profile of {}, not of {}: score this model",
        args.profile.display(),
        profile.model,
        args.model.display()
    );
    // Quantised types and half layers are GGUF's.
    let gguf = args.types.outtype().is_quantised()
        || args.choice.halves()
        || subject.checkpoint.gguf().is_some();
    let target = if gguf {
        Target::Gguf
    } else {
        Target::HuggingFace
    };
    let size = sizes(&subject.checkpoint, target, &args.types, imatrix.as_ref())?;
    let chooser = Chooser {
        choice: &args.choice,
        suite: &suite,
        asked: &args.suite,
        budget: args.depth.budget(subject.model.n_layers())?,
        curve: args.curve,
        size: &size,
    };
    let plan = chooser.choose(&subject, &profile, &progress)?.plan;
    drop(progress);
    if let Some(path) = &args.output {
        write_json(path, &plan)?;
    }
    match args.json {
        true => show_json(&plan)?,
        false => show(&terminal::plan(&plan))?,
    }
    Ok(true)
}

/// How large the output of a set is.
pub(super) fn sizes<'a>(
    checkpoint: &'a Checkpoint,
    target: Target,
    types: &'a TypeOptions,
    imatrix: Option<&'a Imatrix>,
) -> Result<impl Fn(&KeepSet) -> Result<Size> + 'a> {
    let n_layers = crate::arch::Arch::of(checkpoint)?.n_layers(checkpoint)?;
    let of = move |keep: &KeepSet| {
        planned(
            checkpoint,
            keep,
            target,
            types.outtype(),
            types.quantise(imatrix),
        )
    };
    let all = of(&KeepSet::all(n_layers))?;
    Ok(move |keep: &KeepSet| {
        let found = of(keep)?;
        Ok(Size {
            bytes: found.bytes,
            params: found.params,
            speedup: all.multiplied as f64 / found.multiplied.max(1) as f64,
        })
    })
}
