//! `slim score MODEL -o profile.json`, on one machine or on many

use super::Passed;
use super::files::{check_beside, write_json};
use super::machine::MachineOptions;
use super::options::{SuiteOptions, at_least_one};
use super::progress::Bar;
use super::shard::Wish;
use super::subject::Subject;
use super::{note, show, show_json};
use crate::eval::{Progress, Question, digest};
use crate::importance::{
    HeadProfile, Profile, Run, SAMPLES_VERSION, SCHEMA_VERSION, Samples, Scoring, Shard, heads,
    merge,
};
use crate::report::terminal;
use crate::suite::{Split, Suite};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  slim score model.gguf -o profile.json
  slim score model.gguf --samples samples.jsonl -o profile.json
  slim score model.gguf --shard 3/16 --samples shard-3.jsonl
  slim score --merge shard-*.jsonl -o profile.json
  slim score model.gguf --device cuda:0,cuda:1 -o profile.json
  slim score model.gguf --granularity head -o heads.json

A run with --samples that was interrupted goes on where it was: start it again with the same file.
docs/cluster.md shows shards under Slurm and Kubernetes.")]
pub(super) struct Args {
    /// A .safetensors or .gguf file, a Hugging Face folder, or hf:owner/name[@revision][:FILE]
    #[arg(required_unless_present = "merge")]
    pub(super) model: Option<PathBuf>,
    /// Where the profile goes
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where every question's measurements go as they come; an interrupted run is taken up there
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// Score only this share of the questions, as 3/16 for the third of sixteen machines, into
    /// --samples; auto reads it from a Slurm array, auto/16 from a Kubernetes job of 16 completions
    #[arg(long, value_name = "I/N", requires = "samples")]
    shard: Option<Wish>,
    /// Make the profile of the samples of all shards; no model is needed
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = MEASURING)]
    merge: Vec<PathBuf>,
    #[command(flatten)]
    suite: SuiteOptions,
    #[command(flatten)]
    items: ScoreItems,
    #[command(flatten)]
    machine: MachineOptions,
    /// What is left out in turn: every layer, or every attention head (to study a model; nothing is
    /// pruned by heads)
    #[arg(long, value_enum, default_value_t = Granularity::Block, conflicts_with_all = ["samples", "shard", "merge"])]
    granularity: Granularity,
    /// The profile as JSON on stdout instead of a table
    #[arg(long)]
    json: bool,
}

/// What is left out at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Granularity {
    Block,
    Head,
}

/// What only a run that asks a model takes.
const MEASURING: [&str; 6] = [
    "model",
    "samples",
    "shard",
    "SuiteOptions",
    "ScoreItems",
    "MachineOptions",
];

#[derive(clap::Args)]
pub(super) struct ScoreItems {
    /// Items of each family that score the layers
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub(super) calibrate_items: usize,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    if let (Some(model), Granularity::Head) = (&args.model, args.granularity) {
        return args.show(&args.heads(model)?, terminal::heads);
    }
    let profile = match &args.model {
        Some(model) => args.measure(model)?,
        None => {
            let inputs: Vec<_> = args.merge.iter().map(PathBuf::as_path).collect();
            check_beside(args.output.as_ref(), &inputs)?;
            Some(merge(&args.merge)?)
        }
    };
    match profile {
        Some(profile) => args.show(&profile, terminal::profile),
        None => Ok(true),
    }
}

impl Args {
    fn show<P: Serialize>(&self, profile: &P, table: fn(&P) -> String) -> Result<Passed> {
        if let Some(path) = &self.output {
            write_json(path, profile)?;
        }
        match self.json {
            true => show_json(profile)?,
            false => show(&table(profile))?,
        }
        Ok(true)
    }

    /// Without each attention head.
    fn heads(&self, model: &Path) -> Result<HeadProfile> {
        check_beside(self.output.as_ref(), &[model])?;
        let resources = self.machine.resources()?;
        let progress = Bar::new();
        let suite = self.suite.open()?;
        let subject = Subject::open(model, &resources, &progress)?;
        let items_per_family = self.items.calibrate_items;
        let split = Split::Calibrate;
        let questions = self
            .suite
            .questions(&suite, &subject, split, items_per_family)?;
        let (original, heads) = heads(&subject.model, &questions, &progress)?;
        Ok(HeadProfile {
            schema_version: SCHEMA_VERSION,
            slim: env!("CARGO_PKG_VERSION").to_owned(),
            model: subject.checkpoint.name(),
            model_sha256: subject.checkpoint.sha256()?,
            suite: suite.name.clone(),
            items_per_family,
            original,
            heads,
        })
    }

    /// The profile, or of one shard of several nothing but its samples.
    fn measure(&self, model: &Path) -> Result<Option<Profile>> {
        check_beside(self.samples.as_ref(), &[model])?;
        let samples = self.samples.as_deref();
        let read: Vec<&Path> = samples.into_iter().chain([model]).collect();
        check_beside(self.output.as_ref(), &read)?;
        let shard = self.shard()?;
        let (resources, others) = self.machine.all_resources()?;
        let progress = Bar::new();
        let suite = self.suite.open()?;
        let subject = Subject::open(model, &resources, &progress)?;
        let per_family = self.items.calibrate_items;
        let questions = self
            .suite
            .questions(&suite, &subject, Split::Calibrate, per_family)?;
        let others = subject.on(&others, &progress)?;
        let scoring = Scoring::new(&subject.model, &others, &questions);
        let run = about(&scoring, &subject, &suite, per_family, shard)?;
        let mut samples = self.samples(&run)?;
        scoring.measure(shard, &mut samples, &progress)?;
        drop(progress);
        if shard == Shard::WHOLE {
            return run.profile(samples).map(Some);
        }
        show(&format!(
            "shard {shard}: {} of {} portions\n",
            run.share().len(),
            run.portions.len()
        ))?;
        Ok(None)
    }

    fn shard(&self) -> Result<Shard> {
        let Some(wish) = self.shard else {
            return Ok(Shard::WHOLE);
        };
        let (shard, by) = wish.find(&|name| std::env::var(name).ok())?;
        if let Some(by) = by {
            note(&format!("{by} makes this shard {shard}"));
        }
        ensure!(
            self.output.is_none() && !self.json || shard == Shard::WHOLE,
            "shard {shard} alone makes no profile: leave out -o and --json, and make it of all \
             shards with --merge"
        );
        Ok(shard)
    }

    fn samples(&self, run: &Run) -> Result<Samples> {
        let Some(path) = &self.samples else {
            return Ok(Samples::default());
        };
        let samples = Samples::open(path, run)?;
        let (known, all) = (samples.known_count(), run.share().len());
        match (known, all) {
            (_, 0) => note(&format!(
                "nothing falls to shard {}: the questions make only {} portions",
                run.shard,
                run.portions.len()
            )),
            (0, _) => {}
            _ => note(&format!(
                "{known} of {all} portions are measured in {}",
                path.display()
            )),
        }
        Ok(samples)
    }
}

fn about(
    scoring: &Scoring,
    subject: &Subject,
    suite: &Suite,
    items_per_family: usize,
    shard: Shard,
) -> Result<Run> {
    Ok(Run {
        schema_version: SAMPLES_VERSION,
        slim: env!("CARGO_PKG_VERSION").to_owned(),
        shard,
        model: subject.checkpoint.name(),
        model_sha256: subject.checkpoint.sha256()?,
        n_layers: subject.model.n_layers(),
        compute: subject.compute(),
        suite: suite.name.clone(),
        items_per_family,
        asked: digest(scoring.questions()),
        portions: scoring.tokens(),
    })
}

/// The profile of a loaded model.
pub(super) fn score(
    subject: &Subject,
    suite: &Suite,
    questions: &[Question],
    items_per_family: usize,
    progress: &dyn Progress,
) -> Result<Profile> {
    let scoring = Scoring::new(&subject.model, &[], questions);
    let run = about(&scoring, subject, suite, items_per_family, Shard::WHOLE)?;
    let mut samples = Samples::default();
    scoring.measure(Shard::WHOLE, &mut samples, progress)?;
    run.profile(samples).context("a whole run")
}
