//! Options that several subcommands share.

use crate::arch::{Arch, KeepSet, Layers};
use crate::checkpoint::{ByteSize, Checkpoint};
use crate::convert::quantise::{Imatrix, Quantise};
use crate::convert::vocabulary::ChatTemplate;
use crate::convert::{OutType, Target};
use crate::eval::{Asking, Progress, Question, questions};
use crate::importance::Profile;
use crate::plan::compensation::Heal;
use crate::plan::{
    Budget, Chosen, METHODS, Material, Measure, Method, Preserve, Retention, Scope, Size, Wishes,
    choose, method,
};
use crate::suite::harness::{self, Fetching};
use crate::suite::{Item, Protocol, Role, Split, Suite, Task};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::rc::Rc;

use super::progress::Fetched;
use super::subject::Subject;

/// What is asked.
#[derive(Args)]
pub(super) struct SuiteOptions {
    /// A task file (JSON or YAML) or a folder of them, instead of the suite that slim carries
    #[arg(long, value_name = "PATH", conflicts_with = "tasks")]
    suite: Option<PathBuf>,
    /// Tasks by name (see `slim suite list`), or task files
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Folder with the tasks' datasets, JSON lines or Parquet; may be repeated
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Fetch from the hub what no such folder holds
    #[arg(long)]
    download: bool,
    /// Examples before each item, instead of the task's own number
    #[arg(long, value_name = "N")]
    num_fewshot: Option<usize>,
    /// Only the first documents of each task that has a dataset
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Ask in the model's chat template, every example a turn of each side
    #[arg(long)]
    apply_chat_template: bool,
    /// Protocols to ask under
    #[arg(long, value_name = "PROTOCOL", value_delimiter = ',')]
    protocols: Vec<Protocol>,
}

impl SuiteOptions {
    fn harness(&self) -> harness::Options {
        harness::Options {
            data: self.data.clone(),
            num_fewshot: self.num_fewshot,
            limit: self.limit,
            download: self.download.then(|| {
                let bar = Fetched::new();
                let tell: Fetching = Rc::new(move |dataset, step| bar.show(dataset, step));
                tell
            }),
        }
    }

    /// One task, whatever else the options name.
    pub(super) fn named(&self, task: &str) -> Result<Suite> {
        Ok(Suite::select(&[task.to_owned()], &self.harness())?)
    }

    pub(super) fn open(&self) -> Result<Suite> {
        let options = self.harness();
        match &self.suite {
            _ if !self.tasks.is_empty() => Ok(Suite::select(&self.tasks, &options)?),
            None => Ok(Suite::embedded()),
            Some(path) => Ok(Suite::open(path, &options)?),
        }
    }

    /// The chat template, where it is wanted.
    pub(super) fn chat_template(&self, checkpoint: &Checkpoint) -> Result<Option<ChatTemplate>> {
        if !self.apply_chat_template {
            return Ok(None);
        }
        let template = ChatTemplate::of(checkpoint)?;
        ensure!(
            template.is_some(),
            "{} has no chat template: leave out --apply-chat-template",
            checkpoint.path().display()
        );
        Ok(template)
    }

    /// Whether the tasks were named one by one, to be asked whole.
    pub(super) fn names_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    pub(super) fn protocols(&self) -> Vec<Protocol> {
        match self.protocols.is_empty() {
            true => Protocol::ALL.to_vec(),
            false => self.protocols.clone(),
        }
    }

    /// The questions of a split for a model, at most `per_family` items of each family.
    pub(super) fn questions<'s>(
        &self,
        suite: &'s Suite,
        subject: &Subject,
        split: Split,
        per_family: usize,
    ) -> Result<Vec<Question<'s>>> {
        let asked = self.ask(&suite.sample(split, per_family), subject)?;
        ensure!(
            !asked.is_empty(),
            "the suite '{}' has no questions for the {split} split",
            suite.name
        );
        Ok(asked)
    }

    /// The questions that items make for a model.
    pub(super) fn ask<'s>(
        &self,
        items: &[(&'s Task, &'s Item)],
        subject: &Subject,
    ) -> Result<Vec<Question<'s>>> {
        let chat = self.chat_template(&subject.checkpoint)?;
        if chat.as_ref().is_some_and(|chat| !chat.takes_system()) && describes(items) {
            eprintln!(
                "note: the chat template refuses a system message: the tasks' descriptions are \
                 left out, as lm-evaluation-harness does"
            );
        }
        let asking = Asking {
            tokenizer: &subject.tokenizer,
            context_length: subject.model.config().context_length,
            chat: chat.as_ref(),
        };
        questions(items, &self.protocols(), &asking)
    }
}

/// Whether a task's description stands before any of the items.
fn describes(items: &[(&Task, &Item)]) -> bool {
    let mut asks = items.iter().flat_map(|(_, item)| &item.asks);
    asks.any(|ask| ask.shown.first().is_some_and(|m| m.role == Role::System))
}

/// What the choice of layers is judged by.
#[derive(Args)]
pub(super) struct ChoiceOptions {
    /// A family to preserve (knowledge, retrieval, reasoning, language); may be repeated
    #[arg(long, value_name = "FAMILY[=WEIGHT]", value_delimiter = ',')]
    pub(super) preserve: Vec<Preserve>,
    /// What every other family must retain in the search: 0.8 is four fifths of what the original
    /// does above guessing
    #[arg(long, value_name = "SHARE", value_parser = share)]
    floor: Option<f64>,
    /// How the layers are chosen; see the list below
    #[arg(long, default_value = "iterative", value_parser = known_method)]
    method: &'static dyn Method,
    /// What the search looks at: the answers' scores, how far predictions are from the original's,
    /// or both
    #[arg(long, value_enum, default_value_t = Measure::Both)]
    measure: Measure,
    /// What makes up for missing layers: nothing, one factor a cut, or one linear map a cut, folded
    /// into the layers that stay. Without it, whichever loses least
    #[arg(long, value_enum)]
    heal: Option<Heal>,
    /// What goes: whole layers, or attention and MLPs by themselves (llama, mistral and qwen2 models,
    /// into .gguf), as much as the whole layers would be
    #[arg(long, value_enum, default_value_t = Granularity::Block)]
    granularity: Granularity,
    /// Items of each family that choose the layers; the first 8 choose the sets that are asked all of them
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = at_least_one)]
    select_items: usize,
    /// Layers, groups of layers or swaps tried at each step
    #[arg(long, value_name = "N", default_value_t = 4)]
    candidates: usize,
    /// Generations of --method evolution, at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    generations: usize,
    /// Of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Let the first and the last layer go too
    #[arg(long)]
    free_ends: bool,
    /// Allow sets that break an architecture's pattern, for runtimes that read one flag a layer
    /// (llama.cpp since 2026-09-17, transformers)
    #[arg(long)]
    pub(super) needs_layer_arrays: bool,
}

/// What goes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Granularity {
    Block,
    Half,
}

pub(super) fn at_least_one(text: &str) -> Result<usize> {
    let items = text.parse();
    let items: usize = items.with_context(|| format!("'{text}' is no number"))?;
    ensure!(items > 0, "of no items nothing can be told: ask 1 or more");
    Ok(items)
}

fn share(text: &str) -> Result<f64> {
    let share: f64 = text
        .parse()
        .with_context(|| format!("'{text}' is no share"))?;
    ensure!(
        (0.0..=1.0).contains(&share),
        "a share lies between 0 and 1, not at {share}"
    );
    Ok(share)
}

fn known_method(name: &str) -> Result<&'static dyn Method> {
    method(name).with_context(|| {
        let names: Vec<&str> = METHODS.iter().map(|method| method.name()).collect();
        format!("'{name}' is no method: {}", names.join(", "))
    })
}

/// The methods, for --help.
pub(super) fn methods() -> String {
    let line = |method: &&dyn Method| format!("\n  {:<12} {}", method.name(), method.about());
    let lines: String = METHODS.iter().map(line).collect();
    format!("Methods:{lines}")
}

/// Items of each family that tell whether the original is above chance, and that cuts are mended by.
const CALIBRATE_ITEMS: usize = 32;

/// All that a choice is made with, but the profile.
pub(super) struct Chooser<'c> {
    pub(super) choice: &'c ChoiceOptions,
    pub(super) suite: &'c Suite,
    pub(super) asked: &'c SuiteOptions,
    pub(super) budget: Budget,
    pub(super) curve: bool,
    pub(super) size: &'c dyn Fn(&KeepSet) -> Result<Size>,
}

impl Chooser<'_> {
    /// Chooses the layers of a loaded model.
    pub(super) fn choose(
        self,
        subject: &Subject,
        profile: &Profile,
        progress: &dyn Progress,
    ) -> Result<Chosen> {
        let choice = self.choice;
        let layers = choice.layers(&subject.checkpoint)?;
        let select =
            self.asked
                .questions(self.suite, subject, Split::Select, choice.select_items)?;
        let calibrate = calibrate(self.asked, self.suite, subject)?;
        let halvable = choice.halvable(&subject.checkpoint)?;
        let wishes = Wishes {
            preserve: &choice.preserve,
            floor: choice.floor,
            measure: choice.measure,
            method: choice.method,
            heal: choice.heal,
            budget: self.budget,
            curve: self.curve,
            free_ends: choice.free_ends,
            halvable: halvable.as_deref(),
            candidates: choice.candidates,
            seed: choice.seed,
            generations: choice.generations,
        };
        let material = Material {
            model: &subject.model,
            tokenizer: &subject.tokenizer,
            layers: &layers,
            profile,
            calibrate: &calibrate,
            select: &select,
            size: self.size,
        };
        choose(&wishes, &material, progress)
    }
}

/// The questions that tell what can be measured, and that cuts are mended by.
pub(super) fn calibrate<'s>(
    asked: &SuiteOptions,
    suite: &'s Suite,
    subject: &Subject,
) -> Result<Vec<Question<'s>>> {
    asked.questions(suite, subject, Split::Calibrate, CALIBRATE_ITEMS)
}

impl ChoiceOptions {
    /// Checks, before any work, that a model's pattern has a set of so many layers.
    pub(super) fn check_depth(&self, checkpoint: &Checkpoint, keep: usize) -> Result<()> {
        let layers = self.layers(checkpoint)?;
        Scope::new(&layers, self.free_ends).check(keep)
    }

    /// The pattern of a model's layers, as far as it binds the choice.
    fn layers(&self, checkpoint: &Checkpoint) -> Result<Layers<'static>> {
        let layers = Arch::of(checkpoint)?.layers(checkpoint)?;
        Ok(layers.by_arrays(self.needs_layer_arrays))
    }

    /// Checks, before any work, that half layers can be written, where they may go.
    pub(super) fn check_halves(&self, checkpoint: &Checkpoint, target: Target) -> Result<()> {
        if self.halvable(checkpoint)?.is_some() {
            ensure!(
                target == Target::Gguf,
                "only GGUF has a form for half layers: name the output .gguf, or leave out --granularity half"
            );
        }
        Ok(())
    }

    /// Whether halves of layers may go.
    pub(super) fn halves(&self) -> bool {
        self.granularity == Granularity::Half
    }

    /// The layers of which a half may go, where halves may.
    fn halvable(&self, checkpoint: &Checkpoint) -> Result<Option<Vec<usize>>> {
        match self.granularity {
            Granularity::Block => Ok(None),
            Granularity::Half => Ok(Some(Arch::of(checkpoint)?.halvable(checkpoint)?)),
        }
    }

    /// Checks that the suite can measure what is to be preserved.
    pub(super) fn check(&self, suite: &Suite) -> Result<()> {
        for wish in &self.preserve {
            ensure!(
                suite.tasks.iter().any(|task| task.family == wish.family),
                "the suite '{}' has no task of the {} family",
                suite.name,
                wish.family
            );
        }
        Ok(())
    }
}

/// How many layers stay.
#[derive(Args, Clone)]
#[group(required = false, multiple = false)]
pub(super) struct Depth {
    /// Layers that stay
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Layers that go
    #[arg(long, value_name = "N")]
    drop: Option<usize>,
    /// As many layers as fit into a file of this size, like 600MB
    #[arg(long, value_name = "SIZE")]
    max_size: Option<ByteSize>,
    /// As many layers as so many parameters allow, like 1.5B
    #[arg(long, value_name = "N", value_parser = count)]
    max_params: Option<u64>,
    /// As many layers as leave a token this much less work, like 1.3
    #[arg(long, value_name = "FACTOR", value_parser = speedup)]
    speedup: Option<f64>,
    /// The fewest layers with which a family retains a share; may be repeated
    #[arg(long, value_name = "FAMILY=SHARE", value_delimiter = ',')]
    min_retention: Vec<Retention>,
}

fn count(text: &str) -> Result<u64> {
    let wanted = || format!("'{text}' is no number of parameters: write it like 500M or 1.5B");
    let units = [('K', 1e3), ('M', 1e6), ('B', 1e9), ('T', 1e12)];
    let unit = units
        .iter()
        .find(|(unit, _)| text.to_uppercase().ends_with(*unit));
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok().with_context(wanted)?;
    let number = number * unit.map_or(1.0, |(_, factor)| *factor);
    ensure!((1.0..1e18).contains(&number), "{}", wanted());
    Ok(number as u64)
}

fn speedup(text: &str) -> Result<f64> {
    let factor: f64 = text
        .parse()
        .with_context(|| format!("'{text}' is no factor"))?;
    ensure!(
        factor > 1.0 && factor.is_finite(),
        "a speedup is more than 1, not {factor}"
    );
    Ok(factor)
}

impl Depth {
    /// What bounds the depth of a model of `n_layers`; where nothing is said, the curve's knee.
    pub(super) fn budget(&self, n_layers: usize) -> Result<Budget> {
        let keep =
            match (self.keep, self.drop) {
                (Some(keep), _) => Some(keep),
                (None, Some(drop)) => Some(n_layers.checked_sub(drop).with_context(|| {
                    format!("--drop {drop}: the model has only {n_layers} layers")
                })?),
                (None, None) => None,
            };
        let Some(keep) = keep else {
            return Ok(match (self.max_size, self.max_params, self.speedup) {
                (Some(size), ..) => Budget::Bytes(size.bytes()),
                (_, Some(params), _) => Budget::Params(params),
                (.., Some(factor)) => Budget::Speedup(factor),
                _ if !self.min_retention.is_empty() => {
                    Budget::Retention(self.min_retention.clone())
                }
                _ => Budget::Knee,
            });
        };
        ensure!(
            keep > 0,
            "at least one layer must stay: --keep takes 1 to {n_layers} for this model"
        );
        ensure!(
            keep <= n_layers,
            "--keep {keep}: the model has only {n_layers} layers"
        );
        Ok(Budget::Keep(keep))
    }
}

/// The element types of the output.
#[derive(Args)]
pub(super) struct TypeOptions {
    /// The type of the weight matrices: keep, f32, f16 or bf16; for GGUF also a type or mix as
    /// llama-quantize knows it: q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k_s, q3_k_m, q3_k_l,
    /// q4_k_s, q4_k_m, q5_k_s, q5_k_m, q6_k (q3_k, q4_k, q5_k: the _m)
    #[arg(long, value_name = "TYPE", default_value_t = OutType::Keep)]
    outtype: OutType,
    /// Give every matrix the one type, where the mix would spare some
    #[arg(long)]
    pure: bool,
    /// Quantise by this importance matrix, which llama-imatrix measured on the source
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Quantise even what is quantised already
    #[arg(long)]
    allow_requantize: bool,
}

impl TypeOptions {
    pub(super) fn outtype(&self) -> OutType {
        match self.pure {
            true => self.outtype.pure(),
            false => self.outtype,
        }
    }

    /// Checks, before any work, that the options go together, and reads the imatrix.
    pub(super) fn imatrix(&self) -> Result<Option<Imatrix>> {
        let quantised = self.outtype.is_quantised();
        for (given, flag) in [
            (self.imatrix.is_some(), "--imatrix"),
            (self.pure, "--pure"),
            (self.allow_requantize, "--allow-requantize"),
        ] {
            ensure!(
                quantised || !given,
                "{flag} is for quantised types, but --outtype is {}: choose one, as --outtype q4_k_m",
                self.outtype
            );
        }
        self.imatrix.as_deref().map(Imatrix::open).transpose()
    }

    pub(super) fn quantise<'a>(&self, imatrix: Option<&'a Imatrix>) -> Quantise<'a> {
        Quantise {
            imatrix,
            allow_requantize: self.allow_requantize,
        }
    }
}
