//! `slim plan PROFILE --model MODEL --keep N -o plan.json`

use super::Passed;
use super::machine::MachineOptions;
use super::options::{ChoiceOptions, Depth, SuiteOptions, check_json, read_json, write_json};
use super::progress::Bar;
use super::subject::Subject;
use super::{show, show_json};
use crate::eval::Progress;
use crate::importance::Profile;
use crate::plan::{Objective, Plan, measurable, search};
use crate::report::terminal;
use crate::suite::{Split, Suite};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  slim plan profile.json --model model.gguf --keep 24 --preserve retrieval -o plan.json"
)]
pub(super) struct Args {
    /// A profile that `slim score` wrote
    profile: PathBuf,
    /// The checkpoint that was scored: the search measures every step on it
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Where the plan goes
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    depth: Depth,
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
    check_json(args.output.as_ref(), &[&args.model, &args.profile])?;
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
    let keep = args.depth.kept(subject.model.n_layers())?;
    let plan = choose(
        &subject,
        &profile,
        &suite,
        &args.suite,
        &args.choice,
        keep,
        &progress,
    )?;
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

/// Items of each family that tell whether the original is above chance.
const SIGNAL_ITEMS: usize = 32;

/// Searches the keep set of a loaded model.
pub(super) fn choose(
    subject: &Subject,
    profile: &Profile,
    suite: &Suite,
    asked: &SuiteOptions,
    choice: &ChoiceOptions,
    keep: usize,
    progress: &dyn Progress,
) -> Result<Plan> {
    let model = &subject.model;
    let layers = choice.layers(&subject.checkpoint)?;
    let budget = choice.budget(&layers, keep)?;
    let ask = |split, items| asked.questions(suite, subject, split, items);
    // All items that do not judge the result: whether there is a signal takes many of them.
    let calibrate = ask(Split::Calibrate, SIGNAL_ITEMS)?;
    let objective = Objective::new(&choice.preserve, measurable(model, &calibrate, progress)?);
    let mut questions = ask(Split::Select, choice.select_items)?;
    questions.retain(|question| objective.counts(question.task.family, question.protocol()));
    search(
        &subject.model,
        &layers,
        profile,
        &questions,
        &objective,
        budget,
        progress,
    )
}
