//! `slim verify ORIGINAL PRUNED --gate 'retrieval>=0.9'`

use super::Passed;
use super::options::{SuiteOptions, check_json, write_json};
use super::progress::Bar;
use super::subject::Subject;
use super::{show, show_json};
use crate::arch::KeepSet;
use crate::checkpoint::Checkpoint;
use crate::eval::{NoLog, Outcome, Progress, outcomes};
use crate::plan::Plan;
use crate::report::{ModelFile, Report, SCHEMA_VERSION, terminal};
use crate::suite::{Split, Suite};
use crate::verify::{Gate, check_pair, check_structure, compare};
use anyhow::Result;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  slim verify model.gguf small.gguf --gate 'retrieval>=0.9'
  slim verify model/ small.gguf --gate 'language>=0.8' --gate 'knowledge/choice>=0.7' --json

A gate is the least share of the original's accuracy above chance that must be retained.
Exit codes: 0 all gates passed, 1 a gate failed, 2 an error.")]
pub(super) struct Args {
    /// The checkpoint before pruning
    original: PathBuf,
    /// The checkpoint after pruning
    pruned: PathBuf,
    #[command(flatten)]
    suite: SuiteOptions,
    #[command(flatten)]
    proof: ProofOptions,
}

#[derive(clap::Args)]
pub(super) struct ProofOptions {
    /// A rule that the result must pass: FAMILY>=SHARE or FAMILY/PROTOCOL>=SHARE; may be repeated
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub(super) gate: Vec<Gate>,
    /// Items of each family that judge the result
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(super) report_items: usize,
    /// Where the report goes as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// The report as JSON on stdout instead of tables
    #[arg(long)]
    pub(super) json: bool,
}

impl ProofOptions {
    /// Whether a proof is wanted of a file that was only written.
    pub(super) fn asked_for(&self) -> bool {
        !self.gate.is_empty() || self.report.is_some() || self.json
    }
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    check_json(args.proof.report.as_ref(), &[&args.original, &args.pruned])?;
    let (original, pruned) = (
        Checkpoint::open(&args.original)?,
        Checkpoint::open(&args.pruned)?,
    );
    check_pair(&original, &pruned)?;
    let progress = Bar::new();
    let suite = args.suite.open()?;
    let original = Subject::load(original, &progress)?;
    let exam = Exam {
        suite: &suite,
        asked: &args.suite,
        proof: &args.proof,
        progress: &progress,
    };
    let before = exam.ask(original, "asking the original")?;
    exam.conclude(before, &args.pruned, None)
}

/// The report split, asked of one model after the other.
pub(super) struct Exam<'a> {
    pub(super) suite: &'a Suite,
    pub(super) asked: &'a SuiteOptions,
    pub(super) proof: &'a ProofOptions,
    pub(super) progress: &'a Bar,
}

/// One model's answers.
pub(super) struct Answered {
    file: ModelFile,
    outcomes: Vec<Outcome>,
}

impl Exam<'_> {
    /// Asks a model, then lets go of it: two large models need not fit into memory together.
    pub(super) fn ask(&self, subject: Subject, stage: &str) -> Result<Answered> {
        let items = self.proof.report_items;
        let questions = self
            .asked
            .questions(self.suite, &subject, Split::Report, items)?;
        let keep = KeepSet::all(subject.model.n_layers());
        let tokenizer = &subject.tokenizer;
        Ok(Answered {
            outcomes: outcomes(
                &subject.model,
                &keep,
                &questions,
                tokenizer,
                stage,
                self.progress,
                &mut NoLog,
            )?,
            file: subject.file()?,
        })
    }

    /// Opens the written file afresh, asks it, judges and reports.
    pub(super) fn conclude(
        &self,
        original: Answered,
        pruned: &Path,
        plan: Option<Plan>,
    ) -> Result<Passed> {
        let checkpoint = Checkpoint::open(pruned)?;
        check_structure(&checkpoint)?;
        let pruned = self.ask(
            Subject::load(checkpoint, self.progress)?,
            "asking the pruned model",
        )?;
        self.progress.begin("judging", 1);
        let comparison = compare(&original.outcomes, &pruned.outcomes);
        let judge = |gate: &Gate| gate.judge(&comparison);
        let gates: Vec<_> = self.proof.gate.iter().map(judge).collect();
        let report = Report {
            schema_version: SCHEMA_VERSION,
            slim: env!("CARGO_PKG_VERSION").to_owned(),
            original: original.file,
            pruned: pruned.file,
            suite: self.suite.name.clone(),
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
            plan,
            passed: gates.iter().all(|gate| gate.passed),
            comparison,
            gates,
        };
        self.progress.clear();
        if let Some(path) = &self.proof.report {
            write_json(path, &report)?;
        }
        match self.proof.json {
            true => show_json(&report)?,
            false => show(&terminal::report(&report))?,
        }
        Ok(report.passed)
    }
}
