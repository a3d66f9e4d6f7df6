//! `slim verify ORIGINAL PRUNED --gate 'retrieval>=0.9'`

use super::Passed;
use super::bench::Work;
use super::files::{check_beside, write_json, write_text};
use super::gates;
use super::machine::MachineOptions;
use super::options::{SuiteOptions, at_least_one};
use super::progress::Bar;
use super::subject::Subject;
use super::{show, show_json};
use crate::arch::KeepSet;
use crate::checkpoint::Checkpoint;
use crate::eval::{Engine, NoLog, Outcome, Perplexity, Progress, Question, outcomes, perplexity};
use crate::model::{Compute, Model, Resources};
use crate::plan::Plan;
use crate::report::{Figures, ModelFile, Report, SCHEMA_VERSION, html, junit, markdown, terminal};
use crate::suite::{Family, Split, Suite};
use crate::verify::{
    Agreement, Besides, Both, By, Gate, PerplexityChange, Resolution, check_pair, check_structure,
    compare, texts,
};
use anyhow::{Context, Result, ensure};
use candle_core::Device;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  slim verify model.gguf small.gguf --gate 'retrieval>=0.9'
  slim verify model/ small.gguf --gate 'language>=0.8' --gate 'size<=600MB' --json
  slim verify model/ small.gguf --gates gates.toml --report report.json

Gates: the least share of the original's accuracy above chance that must be retained (FAMILY>=SHARE,
FAMILY/PROTOCOL>=SHARE, FAMILY/PROTOCOL/SLICE>=SHARE); the most unterminated, empty or repetitious text
(repetition<=0.1, language/empty<=0); the perplexity of a text over the original's (perplexity<=1.2, with
--perplexity FILE); slim's own speed over the original's (speed>=1.3, prompt_speed>=1.3; tokens a second);
the size (size<=0.8 of the original, size<=600MB). What was measured on items or chunks passes when its
whole 95 % interval does (--gate-by point: its estimate).
Exit codes: 0 all gates passed, 1 a gate failed, 2 an error.")]
pub(super) struct Args {
    /// The checkpoint before pruning
    pub(super) original: PathBuf,
    /// The checkpoint after pruning
    pub(super) pruned: PathBuf,
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
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = at_least_one)]
    pub(super) report_items: usize,
    /// How exactly a change in accuracy should be known: the report says how many items it takes
    /// for a 95 % interval of this half-width
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = precision)]
    pub(super) precision: f64,
    /// A text whose perplexity both models are asked for, as llama-perplexity measures it
    #[arg(long, value_name = "FILE")]
    perplexity: Option<PathBuf>,
    /// Tokens in a chunk of that text
    #[arg(long, value_name = "N", default_value_t = 512, requires = "perplexity")]
    ctx_size: usize,
    /// Time both models, as slim bench does; so does a gate on speed
    #[arg(long)]
    speed: bool,
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
        let asks = self.json || self.speed || self.perplexity.is_some();
        asks || !self.gate.is_empty() || self.gates.is_some() || !self.report.is_empty()
    }

    /// Checks, before any work, that reports and gates can be written and read.
    ///
    /// # Errors
    /// A report that would replace a model; a file of gates that cannot be read.
    pub(super) fn check(&self, models: &[&Path]) -> Result<()> {
        for report in &self.report {
            check_beside(Some(report), models)?;
            let extension = report.extension().and_then(|e| e.to_str());
            ensure!(
                matches!(extension, Some("json" | "html" | "md" | "xml")),
                "--report {}: name it .json, .html, .md (Markdown) or .xml (JUnit)",
                report.display()
            );
        }
        let (rules, _) = self.rules()?;
        if let Some(gate) = rules.iter().find(|gate| gate.needs_perplexity()) {
            let text = self.perplexity.as_ref();
            text.with_context(|| format!("the gate {gate} needs a text: give --perplexity FILE"))?;
        }
        self.text().map(|_| ())
    }

    /// The text whose perplexity is asked for.
    fn text(&self) -> Result<Option<String>> {
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            text.with_context(|| format!("--perplexity: reading {}", path.display()))
        };
        self.perplexity.as_ref().map(read).transpose()
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
        Some("html") => write_text(path, &html(report, &[], None)),
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
        machine: &args.machine,
        resources: &resources,
        progress: &progress,
    };
    let before = exam.ask(original, "asking the original")?;
    exam.deliver(&exam.conclude(before, &args.pruned, None)?)
}

/// The report split, asked of one model after the other.
pub(super) struct Exam<'a> {
    pub(super) suite: &'a Suite,
    pub(super) asked: &'a SuiteOptions,
    pub(super) proof: &'a ProofOptions,
    pub(super) rules: (Vec<Gate>, By),
    pub(super) machine: &'a MachineOptions,
    pub(super) resources: &'a Resources,
    pub(super) progress: &'a Bar,
}

/// One model's answers.
pub(super) struct Answered {
    file: ModelFile,
    outcomes: Vec<Outcome>,
    perplexity: Option<Perplexity>,
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
        let read = |text: String| {
            let size = self.proof.ctx_size;
            let most = usize::MAX;
            perplexity(&subject.model, tokenizer, &text, size, most, self.progress)
        };
        Ok(Answered {
            perplexity: self.proof.text()?.map(read).transpose()?,
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

    /// Opens the written file afresh, asks it, and judges.
    pub(super) fn conclude(
        &self,
        original: Answered,
        pruned: &Path,
        plan: Option<Plan>,
    ) -> Result<Report> {
        let checkpoint = Checkpoint::open(pruned)?;
        check_structure(&checkpoint)?;
        let pruned = Subject::load(checkpoint, self.resources, self.progress)?;
        let agreement = self.agreement(&pruned)?;
        let pruned = self.ask(pruned, "asking the pruned model")?;
        self.progress.begin("judging", 1);
        let comparison = compare(&original.outcomes, &pruned.outcomes);
        let perplexity = self.perplexity_change(original.perplexity, pruned.perplexity);
        let speed = self.figures(&original.file, &pruned.file)?;
        let besides = Besides {
            bytes: Both {
                original: original.file.bytes,
                pruned: pruned.file.bytes,
            },
            perplexity: perplexity.as_ref(),
            speed: speed.as_ref().map(|both| Both {
                original: both.original.speed,
                pruned: both.pruned.speed,
            }),
        };
        let (rules, by) = &self.rules;
        let judge = |gate: &Gate| gate.judge(&comparison, &besides, *by);
        let gates: Vec<_> = rules.iter().map(judge).collect();
        let items = |family| self.items(family, &original.outcomes);
        let resolution = Resolution::of(&comparison, self.proof.precision, items);
        Ok(Report {
            schema_version: SCHEMA_VERSION,
            slim: env!("CARGO_PKG_VERSION").to_owned(),
            original: original.file,
            pruned: pruned.file,
            suite: self.suite.name.clone(),
            device: self.resources.device_name(),
            dtype: self.resources.compute.to_string(),
            agreement,
            plan,
            passed: gates.iter().all(|gate| gate.passed),
            texts: texts(self.suite, &original.outcomes, &pruned.outcomes),
            comparison,
            resolution,
            perplexity,
            speed,
            gates,
        })
    }

    /// A few questions asked again on a CPU in f32, if that is not what computes here.
    fn agreement(&self, subject: &Subject) -> Result<Option<Agreement>> {
        let Resources {
            device, compute, ..
        } = self.resources;
        if device.is_cpu() && *compute == Compute::F32 {
            return Ok(None);
        }
        let reference = Resources {
            device: Device::Cpu,
            compute: Compute::F32,
            ..self.resources.clone()
        };
        self.progress
            .begin("loading on the CPU", subject.model.n_layers() as u64);
        let reference = Model::open(&subject.checkpoint, &reference, |_, _| {
            self.progress.advance(1);
        })?;
        let questions = self
            .asked
            .questions(self.suite, subject, Split::Report, 1)?;
        let all = [KeepSet::all(subject.model.n_layers())];
        let asked = |model: &Model| -> Result<_> {
            let engine = Engine::new(model);
            let work = engine.work(&questions, &all);
            self.progress.begin("comparing with the CPU", work);
            let found = engine.likelihoods(&questions, &all, self.progress)?;
            found.into_iter().next().context("no answers")
        };
        let tokens =
            |question: &Question| question.candidates.iter().map(|c| c.tokens.len()).collect();
        let tokens: Vec<Vec<usize>> = questions.iter().map(tokens).collect();
        let (reference, found) = (asked(&reference)?, asked(&subject.model)?);
        Ok(Some(Agreement::of(&reference, &found, &tokens, *compute)))
    }

    fn perplexity_change(
        &self,
        original: Option<Perplexity>,
        pruned: Option<Perplexity>,
    ) -> Option<PerplexityChange> {
        let text = self.proof.perplexity.as_ref()?.display().to_string();
        PerplexityChange::of(&text, original?, pruned?)
    }

    /// Both models timed, if that is wanted: in processes of their own, after everything else.
    fn figures(&self, original: &ModelFile, pruned: &ModelFile) -> Result<Option<Both<Figures>>> {
        let (rules, _) = &self.rules;
        if !self.proof.speed && !rules.iter().any(Gate::needs_speed) {
            return Ok(None);
        }
        let models = [original, pruned].map(|file| Path::new(&file.path));
        let found = Work::USUAL.medians(&models, self.machine)?;
        let mut found = found.into_iter();
        let both = found.next().zip(found.next());
        Ok(both.map(|(original, pruned)| Both { original, pruned }))
    }

    /// Writes and shows the report.
    pub(super) fn deliver(&self, report: &Report) -> Result<Passed> {
        self.progress.clear();
        for path in &self.proof.report {
            write_report(path, report)?;
        }
        match self.proof.json {
            true => show_json(report)?,
            false => show(&terminal::report(report, self.proof.slices))?,
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
