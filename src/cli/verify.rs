//! `slim verify ORIGINAL PRUNED --gate 'retrieval>=0.9'`

use super::Passed;
use super::gates;
use super::machine::MachineOptions;
use super::options::{SuiteOptions, check_json, write_json, write_text};
use super::progress::Bar;
use super::subject::Subject;
use super::{show, show_json};
use crate::arch::KeepSet;
use crate::checkpoint::Checkpoint;
use crate::eval::{NoLog, Outcome, Progress, outcomes};
use crate::model::Resources;
use crate::plan::Plan;
use crate::report::{ModelFile, Report, SCHEMA_VERSION, html, junit, markdown, terminal};
use crate::suite::{Family, Split, Suite};
use crate::verify::{By, Gate, Resolution, Sizes, check_pair, check_structure, compare, texts};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  slim verify model.gguf small.gguf --gate 'retrieval>=0.9'
  slim verify model/ small.gguf --gate 'language>=0.8' --gate 'size<=600MB' --json
  slim verify model/ small.gguf --gates gates.toml --report report.json

Gates: the least share of the original's accuracy above chance that must be retained (FAMILY>=SHARE,
FAMILY/PROTOCOL>=SHARE, FAMILY/PROTOCOL/SLICE>=SHARE); the most unterminated, empty or repetitious text
(repetition<=0.1, language/empty<=0); the size (size<=0.8 of the original, size<=600MB).
A share counts as retained when its whole 95 % interval lies above the bound (--gate-by point: its estimate).
Exit codes: 0 all gates passed, 1 a gate failed, 2 an error.")]
pub(super) struct Args {
    /// The checkpoint before pruning
    original: PathBuf,
    /// The checkpoint after pruning
    pruned: PathBuf,
    #[command(flatten)]
    suite: SuiteOptions,
    #[command(flatten)]
    machine: MachineOptions,
    #[command(flatten)]
    proof: ProofOptions,
}

#[derive(clap::Args)]
pub(super) struct ProofOptions {
    /// A rule that the result must pass, as retrieval>=0.9, knowledge/choice/tail>=0.8,
    /// repetition<=0.1 or size<=600MB; may be repeated
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub(super) gate: Vec<Gate>,
    /// More such rules: a .toml, .yaml or .json file with a list 'gates'
    #[arg(long, value_name = "FILE")]
    gates: Option<PathBuf>,
    /// What a share must show: by its whole 95 % interval, or by its estimate [default: what the
    /// file says, or interval]
    #[arg(long, value_enum)]
    gate_by: Option<By>,
    /// Items of each family that judge the result
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(super) report_items: usize,
    /// How exactly a change in accuracy should be known: the report says how many items it takes
    /// for a 95 % interval of this half-width
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = precision)]
    pub(super) precision: f64,
    /// The table by slice too
    #[arg(long)]
    pub(super) slices: bool,
    /// Where the report goes: JSON, a page (.html), Markdown (.md) for a job's summary, or JUnit
    /// (.xml); may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) report: Vec<PathBuf>,
    /// The report as JSON on stdout instead of tables
    #[arg(long)]
    pub(super) json: bool,
}

/// A half-width between 0 and 1.
fn precision(text: &str) -> Result<f64> {
    let half_width: f64 = text.parse().context("write a share, like 0.05")?;
    ensure!(
        (0.001..1.0).contains(&half_width),
        "a share from 0.001 to 1: 0.05 means ± 5 points"
    );
    Ok(half_width)
}

impl ProofOptions {
    /// Whether a proof is wanted of a file that was only written.
    pub(super) fn asked_for(&self) -> bool {
        !self.gate.is_empty() || self.gates.is_some() || !self.report.is_empty() || self.json
    }

    /// Checks, before any work, that reports and gates can be written and read.
    ///
    /// # Errors
    /// A report that would replace a model; a file of gates that cannot be read.
    pub(super) fn check(&self, models: &[&Path]) -> Result<()> {
        for report in &self.report {
            check_json(Some(report), models)?;
        }
        self.rules().map(|_| ())
    }

    /// All gates, and how they are judged.
    ///
    /// # Errors
    /// A file of gates that cannot be read.
    pub(super) fn rules(&self) -> Result<(Vec<Gate>, By)> {
        let (mut gates, by) = match &self.gates {
            None => (Vec::new(), None),
            Some(path) => gates::read(path)?,
        };
        gates.extend(self.gate.iter().cloned());
        Ok((gates, self.gate_by.or(by).unwrap_or_default()))
    }
}

/// As the extension says.
fn write_report(path: &Path, report: &Report) -> Result<()> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("md") => write_text(path, &markdown(report)),
        Some("html") => write_text(path, &html(report, &[])),
        Some("xml") => write_text(path, &junit(report)),
        _ => write_json(path, report),
    }
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    args.proof.check(&[&args.original, &args.pruned])?;
    let (original, pruned) = (
        Checkpoint::open(&args.original)?,
        Checkpoint::open(&args.pruned)?,
    );
    check_pair(&original, &pruned)?;
    let resources = args.machine.resources()?;
    let progress = Bar::new();
    let suite = args.suite.open()?;
    let original = Subject::load(original, &resources, &progress)?;
    let exam = Exam {
        suite: &suite,
        asked: &args.suite,
        rules: args.proof.rules()?,
        proof: &args.proof,
        resources: &resources,
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
    pub(super) rules: (Vec<Gate>, By),
    pub(super) resources: &'a Resources,
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
            Subject::load(checkpoint, self.resources, self.progress)?,
            "asking the pruned model",
        )?;
        self.progress.begin("judging", 1);
        let comparison = compare(&original.outcomes, &pruned.outcomes);
        let sizes = Sizes {
            original: original.file.bytes,
            pruned: pruned.file.bytes,
        };
        let (rules, by) = &self.rules;
        let judge = |gate: &Gate| gate.judge(&comparison, sizes, *by);
        let gates: Vec<_> = rules.iter().map(judge).collect();
        let items = |family| self.items(family, &original.outcomes);
        let resolution = Resolution::of(&comparison, self.proof.precision, items);
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
            texts: texts(self.suite, &original.outcomes, &pruned.outcomes),
            comparison,
            resolution,
            gates,
        };
        self.progress.clear();
        for path in &self.proof.report {
            write_report(path, &report)?;
        }
        match self.proof.json {
            true => show_json(&report)?,
            false => show(&terminal::report(&report, self.proof.slices))?,
        }
        Ok(report.passed)
    }

    /// Items of a family that were asked, and that the report split has.
    fn items(&self, family: Family, outcomes: &[Outcome]) -> (usize, usize) {
        let asked = outcomes.iter().filter(|outcome| outcome.family == family);
        let asked: BTreeSet<(&str, &str)> = asked.map(|o| (&*o.task, &*o.id)).collect();
        let all = self.suite.sample(Split::Report, usize::MAX);
        let available = all.iter().filter(|(task, _)| task.family == family);
        (asked.len(), available.count())
    }
}
