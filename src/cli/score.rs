//! `slim score MODEL -o profile.json`

use super::Passed;
use super::machine::MachineOptions;
use super::options::{SuiteOptions, check_json, write_json};
use super::progress::Bar;
use super::subject::Subject;
use super::{show, show_json};
use crate::eval::{Progress, Question};
use crate::importance::{Profile, SCHEMA_VERSION, profile};
use crate::report::terminal;
use crate::suite::{Split, Suite};
use anyhow::Result;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  slim score model.gguf -o profile.json")]
pub(super) struct Args {
    /// A .safetensors or .gguf file, or a Hugging Face folder
    model: PathBuf,
    /// Where the profile goes
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    suite: SuiteOptions,
    #[command(flatten)]
    items: ScoreItems,
    #[command(flatten)]
    machine: MachineOptions,
    /// The profile as JSON on stdout instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct ScoreItems {
    /// Items of each family that score the layers
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(super) calibrate_items: usize,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    check_json(args.output.as_ref(), &[&args.model])?;
    let resources = args.machine.resources()?;
    let progress = Bar::new();
    let suite = args.suite.open()?;
    let subject = Subject::open(&args.model, &resources, &progress)?;
    let per_family = args.items.calibrate_items;
    let questions = args
        .suite
        .questions(&suite, &subject, Split::Calibrate, per_family)?;
    let profile = score(&subject, &suite, &questions, per_family, &progress)?;
    drop(progress);
    if let Some(path) = &args.output {
        write_json(path, &profile)?;
    }
    match args.json {
        true => show_json(&profile)?,
        false => show(&terminal::profile(&profile))?,
    }
    Ok(true)
}

/// The profile of a loaded model.
pub(super) fn score(
    subject: &Subject,
    suite: &Suite,
    questions: &[Question],
    items_per_family: usize,
    progress: &dyn Progress,
) -> Result<Profile> {
    let (original, layers) = profile(&subject.model, questions, progress)?;
    Ok(Profile {
        schema_version: SCHEMA_VERSION,
        slim: env!("CARGO_PKG_VERSION").to_owned(),
        model: subject.name(),
        model_sha256: subject.checkpoint.sha256()?,
        suite: suite.name.clone(),
        items_per_family,
        original,
        layers,
    })
}
