//! `slim prune --keep 24 --preserve retrieval IN OUT`: the whole job, or only the writing.

use super::Passed;
use super::files::read_json;
use super::machine::MachineOptions;
use super::modelfile;
use super::options::{ChoiceOptions, Chooser, Depth, SuiteOptions, TypeOptions, calibrate};
use super::plan::sizes;
use super::progress::Bar;
use super::score::{ScoreItems, score};
use super::show;
use super::subject::Subject;
use super::verify::{Exam, ProofOptions};
use crate::arch::{Arch, KeepSet, parse_parts};
use crate::checkpoint::{ByteSize, Checkpoint, Format};
use crate::convert::{Edits, Target};
use crate::eval::Progress;
use crate::model::Resources;
use crate::plan::compensation::edits;
use crate::plan::{Budget, Chosen, Plan};
use crate::prune::{Request, add_to_card, check, target_format, write};
use crate::report::{markdown, terminal};
use crate::suite::{Split, Suite};
use crate::verify::check_structure;
use anyhow::{Context, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  slim prune --keep 24 --preserve retrieval model.safetensors small.gguf
  slim prune --drop 6 --preserve knowledge=1,language=0.5 --gate 'knowledge>=0.9' model/ small/
  slim prune --drop-layers 20-23 model.gguf small.gguf
  slim prune --drop-layers 3,5:attention,7:mlp model/ small.gguf
  slim prune --max-size 600MB --outtype q4_k_m --preserve retrieval model/ small.gguf
  slim prune --plan plan.json --outtype q8_0 model/ small.gguf
  slim prune --drop 8 --max-shard-size 5GB model-00001-of-00009.gguf small.gguf

A depth (--keep, --drop, --max-size, --max-params, --speedup, --min-retention; without any, the knee
of the measured curve) scores the layers, chooses, writes, and verifies the written file.
--plan and --drop-layers write what was decided; they verify it too with --gate, --report or --json.")]
pub(super) struct Args {
    /// A .safetensors or .gguf file, a Hugging Face folder, or hf:owner/name[@revision][:FILE]
    pub(super) input: PathBuf,
    /// Where the result goes: its extension says the format, a folder means Hugging Face
    output: PathBuf,
    #[command(flatten)]
    depth: Depth,
    /// Layers to drop, as 20-27,3, and halves of layers, as 5:attention,7-9:mlp (into .gguf);
    /// none only converts
    #[arg(long, value_name = "LAYERS", conflicts_with_all = ["Depth", "plan"])]
    drop_layers: Option<String>,
    /// A plan that `slim plan` wrote
    #[arg(long, value_name = "FILE", conflicts_with = "Depth")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    types: TypeOptions,
    /// Write a Modelfile beside a .gguf, for `ollama create NAME -f FILE`
    #[arg(long, value_name = "FILE", conflicts_with = "max_shard_size")]
    modelfile: Option<PathBuf>,
    /// Split the output into files of at most this much tensor data, like 5GB, 500M or 300MiB
    #[arg(long, value_name = "SIZE")]
    max_shard_size: Option<ByteSize>,
    /// Leave the source's SHA-256 out of the output: on a fast disk it takes longer than the copy
    #[arg(long)]
    no_source_digest: bool,
    /// The GGUF name of the tokenizer's splitting rule, where slim cannot tell it
    #[arg(long, value_name = "NAME")]
    tokenizer_pre: Option<String>,
    #[command(flatten)]
    suite: SuiteOptions,
    #[command(flatten)]
    score: ScoreItems,
    #[command(flatten)]
    choice: ChoiceOptions,
    #[command(flatten)]
    machine: MachineOptions,
    #[command(flatten)]
    proof: ProofOptions,
}

/// Layers that were chosen before this run.
struct Decided {
    keep: KeepSet,
    plan: Option<Plan>,
}

/// What is written.
struct Wanted<'w> {
    keep: &'w KeepSet,
    edits: &'w Edits,
    /// How it came about, as JSON.
    measured: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    // What cannot be written is found before any work.
    args.types.imatrix()?;
    let resources = args.machine.resources()?;
    let checkpoint = Checkpoint::open(&args.input)?;
    check(&checkpoint, &args.output, args.max_shard_bytes())?;
    args.proof.check(&[&args.input, &args.output])?;
    if let Some(path) = &args.modelfile {
        modelfile::check(path, &args.output)?;
    }
    if target_format(&args.output)? == Format::Gguf {
        for lost in Arch::of(&checkpoint)?.lost_in_gguf(&checkpoint)? {
            // Nobody listening on stderr is no reason to stop.
            let _ = writeln!(std::io::stderr(), "slim: note: {lost}");
        }
    }
    match args.decided(&checkpoint)? {
        Some(decided) => args.write_decided(&checkpoint, &decided, &resources),
        None => args.whole_job(checkpoint, &resources),
    }
}

fn target_of(output: &Path) -> Result<Target> {
    Ok(match target_format(output)? {
        Format::Gguf => Target::Gguf,
        _ => Target::HuggingFace,
    })
}

impl Args {
    /// The keep set, where the command line or a plan names it.
    fn decided(&self, checkpoint: &Checkpoint) -> Result<Option<Decided>> {
        let n_layers = Arch::of(checkpoint)?.n_layers(checkpoint)?;
        if let Some(layers) = &self.drop_layers {
            let dropped = match layers.as_str() {
                "none" => Vec::new(),
                some => parse_parts(some)?,
            };
            let keep = KeepSet::without_parts(n_layers, &dropped)?;
            return Ok(Some(Decided { keep, plan: None }));
        }
        let Some(path) = &self.plan else {
            let target = target_of(&self.output)?;
            self.choice.check_halves(checkpoint, target)?;
            if let Budget::Keep(keep) = self.depth.budget(n_layers)? {
                self.choice.check_depth(checkpoint, keep)?;
            }
            return Ok(None);
        };
        let plan: Plan = read_json(path, "plan")?;
        plan.check(checkpoint, n_layers)
            .with_context(|| path.display().to_string())?;
        Ok(Some(Decided {
            keep: plan.keep.clone(),
            plan: Some(plan),
        }))
    }

    fn write_decided(
        &self,
        checkpoint: &Checkpoint,
        decided: &Decided,
        resources: &Resources,
    ) -> Result<Passed> {
        let progress = Bar::new();
        // Whatever can be wrong is found before anything is written.
        let suite = self.suite.open()?;
        let measured = decided
            .plan
            .as_ref()
            .map(serde_json::to_string)
            .transpose()?;
        let needs_fit = |plan: &&Plan| plan.needs_fit();
        let subject = match decided.plan.as_ref().filter(needs_fit) {
            Some(_) => Some(Subject::open(&self.input, resources, &progress)?),
            None => None,
        };
        let edits = match &decided.plan {
            Some(plan) => self.mended(plan, checkpoint, &suite, subject.as_ref(), &progress)?,
            None => Edits::default(),
        };
        let wanted = Wanted {
            keep: &decided.keep,
            edits: &edits,
            measured,
        };
        let written = self.write(checkpoint, wanted, &progress)?;
        check_structure(&Checkpoint::open(&written)?)?;
        progress.clear();
        if !self.proof.asked_for() {
            return Ok(true);
        }
        let exam = self.exam(&suite, resources, &progress)?;
        let original = match subject {
            Some(subject) => subject,
            None => Subject::open(&self.input, resources, &progress)?,
        };
        self.prove(&exam, original, &written, decided.plan.clone())
    }

    /// Holds what was written against the original; a folder's card says what was found.
    fn prove(
        &self,
        exam: &Exam,
        original: Subject,
        written: &Path,
        plan: Option<Plan>,
    ) -> Result<Passed> {
        let before = exam.ask(original, "asking the original")?;
        let report = exam.conclude(before, written, plan)?;
        if written.is_dir() {
            add_to_card(written, &markdown(&report))?;
        }
        exam.deliver(&report)
    }

    fn whole_job(&self, checkpoint: Checkpoint, resources: &Resources) -> Result<Passed> {
        let progress = Bar::new();
        let suite = self.suite.open()?;
        self.choice.check(&suite)?;
        let subject = Subject::load(checkpoint, resources, &progress)?;
        let Chosen { plan, mended } = self.choose(&subject, &suite, &progress)?;
        let arch = Arch::of(&subject.checkpoint)?;
        let wanted = Wanted {
            keep: &plan.keep,
            edits: &edits(&subject.checkpoint, arch, &mended)?,
            measured: Some(serde_json::to_string(&plan)?),
        };
        let written = self.write(&subject.checkpoint, wanted, &progress)?;
        if !self.proof.json {
            progress.clear();
            show(&terminal::plan(&plan))?;
            show("\n")?;
        }
        let exam = self.exam(&suite, resources, &progress)?;
        self.prove(&exam, subject, &written, Some(plan))
    }

    /// The weights that hold what a plan mends.
    fn mended(
        &self,
        plan: &Plan,
        checkpoint: &Checkpoint,
        suite: &Suite,
        subject: Option<&Subject>,
        progress: &Bar,
    ) -> Result<Edits> {
        let arch = Arch::of(checkpoint)?;
        let Some(subject) = subject else {
            return edits(checkpoint, arch, &plan.mended(None, &[], progress)?);
        };
        let questions = calibrate(&self.suite, suite, subject)?;
        let mended = plan.mended(Some(&subject.model), &questions, progress)?;
        edits(checkpoint, arch, &mended)
    }

    fn choose(&self, subject: &Subject, suite: &Suite, progress: &Bar) -> Result<Chosen> {
        let items = self.score.calibrate_items;
        let questions = self
            .suite
            .questions(suite, subject, Split::Calibrate, items)?;
        let profile = score(subject, suite, &questions, items, progress)?;
        let target = target_of(&self.output)?;
        let imatrix = self.types.imatrix()?;
        let size = sizes(&subject.checkpoint, target, &self.types, imatrix.as_ref())?;
        let chooser = Chooser {
            choice: &self.choice,
            suite,
            asked: &self.suite,
            budget: self.depth.budget(subject.model.n_layers())?,
            curve: false,
            size: &size,
        };
        chooser.choose(subject, &profile, progress)
    }

    fn write(&self, checkpoint: &Checkpoint, wanted: Wanted, progress: &Bar) -> Result<PathBuf> {
        let imatrix = self.types.imatrix()?;
        let request = Request {
            edits: wanted.edits,
            outtype: self.types.outtype(),
            quantise: self.types.quantise(imatrix.as_ref()),
            max_shard_bytes: self.max_shard_bytes(),
            tokenizer_pre: self.tokenizer_pre.as_deref(),
            layer_arrays: self.choice.needs_layer_arrays,
            source_digest: !self.no_source_digest,
            measured: wanted.measured,
            ..Request::new(checkpoint, wanted.keep, &self.output)
        };
        progress.begin("writing", checkpoint.total_bytes());
        let written = write(&request, &|bytes| progress.advance(bytes))?;
        if let Some(path) = &self.modelfile {
            modelfile::write(path, &written)?;
        }
        Ok(written)
    }

    fn max_shard_bytes(&self) -> Option<u64> {
        self.max_shard_size.map(|size| size.bytes())
    }

    fn exam<'a>(
        &'a self,
        suite: &'a Suite,
        resources: &'a Resources,
        progress: &'a Bar,
    ) -> Result<Exam<'a>> {
        Ok(Exam {
            suite,
            asked: &self.suite,
            rules: self.proof.rules()?,
            proof: &self.proof,
            machine: &self.machine,
            resources,
            progress,
        })
    }
}
