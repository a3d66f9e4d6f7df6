//! `slim eval MODEL`

use super::Passed;
use super::options::{SuiteOptions, check_json, write_json};
use super::progress::Bar;
use super::subject::Subject;
use super::{show, show_json};
use crate::arch::KeepSet;
use crate::eval::{outcomes, summarise};
use crate::report::{Evaluation, SCHEMA_VERSION, terminal};
use crate::suite::Split;
use anyhow::Result;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  slim eval model.gguf --protocols choice,generate")]
pub(super) struct Args {
    /// A .safetensors or .gguf file, or a Hugging Face folder
    model: PathBuf,
    #[command(flatten)]
    suite: SuiteOptions,
    /// The part of the suite: calibrate, select or report
    #[arg(long, default_value_t = Split::Report)]
    split: Split,
    /// Items of each family, all if fewer
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    items: usize,
    /// A table of all slices too
    #[arg(long)]
    slices: bool,
    /// Where the results go as JSON, item by item
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The results as JSON on stdout instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    check_json(args.output.as_ref(), &[&args.model])?;
    let progress = Bar::new();
    let suite = args.suite.open()?;
    let subject = Subject::open(&args.model, &progress)?;
    let questions = args
        .suite
        .questions(&suite, &subject, args.split, args.items)?;
    let keep = KeepSet::all(subject.model.n_layers());
    let tokenizer = &subject.tokenizer;
    let outcomes = outcomes(
        &subject.model,
        &keep,
        &questions,
        tokenizer,
        "asking",
        &progress,
    )?;
    drop(progress);
    let evaluation = Evaluation {
        schema_version: SCHEMA_VERSION,
        slim: env!("CARGO_PKG_VERSION").to_owned(),
        model: subject.file()?,
        suite: suite.name.clone(),
        summary: summarise(&outcomes),
        outcomes,
    };
    if let Some(path) = &args.output {
        write_json(path, &evaluation)?;
    }
    match args.json {
        true => show_json(&evaluation)?,
        false => show(&terminal::summary(&evaluation.summary, args.slices))?,
    }
    Ok(true)
}
