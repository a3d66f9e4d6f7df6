//! `slim eval MODEL`

use super::Passed;
use super::files::{check_beside, write_json};
use super::machine::MachineOptions;
use super::options::SuiteOptions;
use super::progress::Bar;
use super::subject::Subject;
use super::{show, show_json};
use crate::arch::KeepSet;
use crate::eval::{
    Log, NoLog, Question, Run, Samples, digest, harness_results, outcomes, perplexity, summarise,
};
use crate::report::{Evaluation, SCHEMA_VERSION, tasks, terminal};
use crate::suite::{Split, Suite};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  slim eval model.gguf --protocols choice,generate\n  \
    slim eval model.gguf --tasks mmlu,gsm8k --data datasets --limit 100 --samples items.jsonl"
)]
pub(super) struct Args {
    /// A .safetensors or .gguf file, a Hugging Face folder, or hf:owner/name[@revision][:FILE]
    pub(super) model: PathBuf,
    #[command(flatten)]
    suite: SuiteOptions,
    /// The part of the suite: calibrate, select or report; tasks that are named are asked whole
    #[arg(long)]
    split: Option<Split>,
    /// Items of each family, all if fewer
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    items: usize,
    /// Only the perplexity of this text, measured as llama-perplexity does
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tasks", "suite", "split", "samples"])]
    perplexity: Option<PathBuf>,
    /// Tokens in a chunk of the text
    #[arg(long, value_name = "N", default_value_t = 512, requires = "perplexity")]
    ctx_size: usize,
    /// Chunks of the text, all if fewer
    #[arg(long, value_name = "N", requires = "perplexity")]
    chunks: Option<usize>,
    /// Where every item goes as a line of JSON; a run that was killed is taken up from there
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// A table of all slices too
    #[arg(long)]
    slices: bool,
    /// Where the results go as JSON, item by item
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineOptions,
    /// The results as JSON on stdout instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    check_beside(args.output.as_ref(), &[&args.model])?;
    check_beside(args.samples.as_ref(), &[&args.model])?;
    let progress = Bar::new();
    if let Some(text) = &args.perplexity {
        return args.perplexity(text, &progress);
    }
    let suite = args.suite.open()?;
    let subject = Subject::open(&args.model, &args.machine.resources()?, &progress)?;
    let questions = args.questions(&suite, &subject)?;
    let keep = KeepSet::all(subject.model.n_layers());
    let file = subject.file()?;
    let mut log = args.log(&questions, &subject)?;
    let outcomes = outcomes(
        &subject.model,
        &keep,
        &questions,
        &subject.tokenizer,
        "asking",
        &progress,
        log.as_mut(),
    )?;
    drop(progress);
    let harness = harness_results(&suite, &outcomes);
    let evaluation = Evaluation {
        schema_version: SCHEMA_VERSION,
        slim: env!("CARGO_PKG_VERSION").to_owned(),
        model: file,
        suite: suite.name.clone(),
        truncated: questions.iter().filter(|q| q.truncated > 0).count(),
        results: harness.results,
        configs: harness.configs,
        versions: harness.versions,
        n_shot: harness.n_shot,
        higher_is_better: harness.higher_is_better,
        n_samples: harness.n_samples,
        summary: summarise(&outcomes),
        outcomes,
    };
    if let Some(path) = &args.output {
        write_json(path, &evaluation)?;
    }
    match args.json {
        true => show_json(&evaluation)?,
        false => {
            if args.suite.names_tasks() {
                show(&tasks::table(&evaluation))?;
                show("\n")?;
            }
            show(&terminal::summary(&evaluation.summary, args.slices))?;
        }
    }
    Ok(true)
}

impl Args {
    fn perplexity(&self, path: &Path, progress: &Bar) -> Result<Passed> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("reading {}", path.display()))?;
        let subject = Subject::open(&self.model, &self.machine.resources()?, progress)?;
        let (model, tokenizer) = (&subject.model, &subject.tokenizer);
        let most = self.chunks.unwrap_or(usize::MAX);
        let found = perplexity(model, tokenizer, &text, self.ctx_size, most, progress)?;
        progress.clear();
        if let Some(path) = &self.output {
            write_json(path, &found)?;
        }
        match self.json {
            true => show_json(&found)?,
            false => show(&format!(
                "perplexity {:.4} ± {:.4} ({} chunks of {} tokens, the second half of each scored)\n",
                found.perplexity, found.stderr, found.chunks, found.ctx_size
            ))?,
        }
        Ok(true)
    }

    fn questions<'s>(&self, suite: &'s Suite, subject: &Subject) -> Result<Vec<Question<'s>>> {
        match (self.split, self.suite.names_tasks()) {
            (None, true) => {
                let asked = self.suite.ask(&suite.all(), subject)?;
                ensure!(
                    !asked.is_empty(),
                    "nothing is asked of '{}': give other --protocols or a --limit above 0",
                    suite.name
                );
                Ok(asked)
            }
            (split, _) => {
                let split = split.unwrap_or(Split::Report);
                self.suite.questions(suite, subject, split, self.items)
            }
        }
    }

    fn log(&self, questions: &[Question], subject: &Subject) -> Result<Box<dyn Log>> {
        let Some(path) = &self.samples else {
            return Ok(Box::new(NoLog));
        };
        let run = Run {
            slim: env!("CARGO_PKG_VERSION").to_owned(),
            model_sha256: subject.checkpoint.sha256()?,
            compute: subject.compute(),
            asked: digest(questions),
        };
        let samples = Samples::open(path, &run)?;
        if samples.known_count() > 0 {
            let known = samples.known_count();
            eprintln!(
                "note: {known} of {} questions are answered in {}",
                questions.len(),
                path.display()
            );
        }
        Ok(Box::new(samples))
    }
}
