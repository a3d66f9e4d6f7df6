//! `slim heal ORIGINAL PRUNED OUT`

mod pair;

use self::pair::{Pair, cuts, learning, student, tokenizer};
use super::machine::MachineOptions;
use super::progress::Bar;
use super::subject::Subject;
use super::{Passed, note, show, show_json};
use crate::arch::{Arch, KeepSet};
use crate::checkpoint::{Checkpoint, Format, check_target, hex};
use crate::convert::{Edit, Edits};
use crate::eval::Progress;
use crate::heal::{
    Budget, Healed, Keeping, Original, Run, Sequences, Settings, State, Student, Trainer,
    same_below, texts_of, texts_of_suite,
};
use crate::model::{Compute, Config, Resources};
use crate::prune::{Request, check, target_format, write};
use crate::report::heal::{Effect, Healing};
use crate::report::{ModelFile, SCHEMA_VERSION, terminal};
use crate::suite::{Suite, harness};
use crate::verify::{check_pair, check_structure};
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  slim heal model/ small/ healed/
  slim heal model/ small/ healed/ --text books.txt --text chats.jsonl --minutes 60
  slim heal model.gguf small.gguf healed.gguf --train all --tokens 2000000 --state healing
  slim heal model/ small/ healed.gguf --device cuda --minutes 30 --json

PRUNED learns to say what ORIGINAL says. A tenth of the text is held out and measures whether that
helped: the best weights by it are written, PRUNED's own if none are better. A run with --state that
was interrupted goes on where it was: start it again with the same folder.")]
pub(super) struct Args {
    /// The checkpoint before pruning
    pub(super) original: PathBuf,
    /// The checkpoint after pruning, not quantised
    pub(super) pruned: PathBuf,
    /// Where the result goes: its extension says the format, a folder means Hugging Face
    output: PathBuf,
    /// A text, or JSON lines with a \"text\" each (.jsonl), instead of the suite's calibrate items;
    /// may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "suite")]
    text: Vec<PathBuf>,
    /// A task file (JSON or YAML) or a folder of them, whose calibrate items are the text
    #[arg(long, value_name = "PATH")]
    suite: Option<PathBuf>,
    /// End after this time [default: 10, without --tokens]
    #[arg(long, value_name = "MINUTES", value_parser = positive)]
    minutes: Option<f64>,
    /// End after so many tokens of training
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tokens: Option<u64>,
    #[command(flatten)]
    training: Training,
    /// Folder where the training is kept, so that it can be interrupted
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How often it is written there
    #[arg(
        long,
        value_name = "MINUTES",
        default_value_t = 5.0,
        requires = "state"
    )]
    save_minutes: f64,
    #[command(flatten)]
    machine: MachineOptions,
    /// The result as JSON on stdout instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Training {
    /// What is trained: the layers beside each cut and the norms above them, or all layers
    #[arg(long, value_enum, default_value_t = Train::Cuts)]
    train: Train,
    /// The highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 3e-4, value_parser = positive)]
    learning_rate: f64,
    /// Tokens of each step
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = at_least_one)]
    batch_tokens: usize,
    /// Tokens of each text
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    sequence_length: usize,
    /// What the distance of the states at the cuts weighs beside the divergence of what comes next
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0, value_parser = not_negative, allow_negative_numbers = true)]
    hidden_weight: f64,
    /// Where the order of the texts comes from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Train {
    Cuts,
    All,
}

fn not_negative(text: &str) -> Result<f64> {
    let number: f64 = text.parse().context("write a number, like 0.5")?;
    ensure!(number.is_finite() && number >= 0.0, "a number from 0 on");
    Ok(number)
}

fn positive(text: &str) -> Result<f64> {
    let number = not_negative(text)?;
    ensure!(number > 0.0, "a number above 0");
    Ok(number)
}

fn at_least_one(text: &str) -> Result<usize> {
    let number: usize = text.parse().context("write a whole number")?;
    ensure!(number > 0, "1 or more");
    Ok(number)
}

/// The minutes of a run that names no end.
const MINUTES: f64 = 10.0;

pub(super) fn run(args: &Args) -> Result<Passed> {
    let pair = args.pair()?;
    let resources = args.machine.resources()?;
    ensure!(
        resources.compute != Compute::F16,
        "small gradients are nothing in f16: heal with --compute bf16 or f32"
    );
    let progress = Bar::new();
    let tokenizer = tokenizer(&pair)?;
    let (texts, names) = args.texts()?;
    let length = args.length(&pair)?;
    let sequences = Sequences::of(&texts, &tokenizer, length)?;
    drop(texts);
    let run = args.about(&pair, &sequences, &resources)?;
    let keeping = args.keeping(&run)?;
    // Each model may take half.
    let half = Resources {
        memory: resources.memory / 2,
        ..resources
    };
    let original = Subject::load(pair.original.clone(), &half, &progress)?;
    let student = student(&pair, &half, &progress)?;
    let parameters = student.parameters().map(|p| p.var().elem_count() as u64);
    let parameters = parameters.sum();
    let hints = match args.training.hidden_weight > 0.0 {
        true => pair.cuts.hints(),
        false => &[],
    };
    let first = student.first();
    let shared = !pair.cuts.is_empty()
        && learning(&half) == half.compute
        && same_below(&pair.original, &pair.pruned, first)?;
    let settings = args.settings(original.model.room() / 2);
    let trainer = Trainer::new(
        Original::new(&original.model, hints, shared.then_some(first)),
        Student::new(student, hints),
        &sequences,
        settings,
        &progress,
    )?;
    let healed = trainer.run(keeping.as_ref(), &progress)?;
    if healed.broken_off {
        note(
            "the training was broken off, since its gradients were no numbers any more: try a \
             lower --learning-rate",
        );
    }
    let effect = Effect {
        healed: healed.values.is_some(),
        train: run.train.clone(),
        parameters,
        tokens: healed.course.tokens,
        steps: healed.course.steps,
        learning_rate: run.learning_rate,
        held_out_tokens: (sequences.held_out.len() * length) as u64,
        original_perplexity: healed.original_perplexity,
        before: healed.before,
        after: healed.after,
    };
    args.write(&pair, &healed, &effect, &progress)?;
    let healing = Healing {
        schema_version: SCHEMA_VERSION,
        slim: run.slim,
        original: file(&pair.original, run.original_sha256)?,
        pruned: file(&pair.pruned, run.pruned_sha256)?,
        output: args.output.display().to_string(),
        text: names,
        effect,
        seconds: healed.course.seconds,
        checks: healed.course.checks,
    };
    progress.clear();
    match args.json {
        true => show_json(&healing)?,
        false => show(&terminal::heal(&healing))?,
    }
    Ok(true)
}

impl Args {
    /// Opens both models; what cannot be healed or written is found here.
    fn pair(&self) -> Result<Pair> {
        let (original, pruned) = (
            Checkpoint::open(&self.original)?,
            Checkpoint::open(&self.pruned)?,
        );
        check_pair(&original, &pruned)?;
        check(&pruned, &self.output, None)?;
        if target_format(&self.output)? != Format::HfFolder {
            check_target(&self.output, &original.files().collect::<Vec<_>>())?;
        }
        if let Some(state) = &self.state {
            let models = [&self.original, &self.pruned, &self.output];
            ensure!(
                !models.contains(&state),
                "--state {} is the name of a model here: name another folder",
                state.display()
            );
        }
        let cuts = cuts(&original, &pruned)?;
        let train = match cuts.is_empty() {
            true => Train::All,
            false => self.training.train,
        };
        Ok(Pair {
            original,
            pruned,
            cuts,
            train,
        })
    }

    /// The texts, and what they are called.
    fn texts(&self) -> Result<(Vec<String>, Vec<String>)> {
        if self.text.is_empty() {
            let options = harness::Options::default();
            let suite = match &self.suite {
                Some(path) => Suite::open(path, &options)?,
                None => Suite::embedded(),
            };
            return Ok((texts_of_suite(&suite), vec![suite.name]));
        }
        let mut texts = Vec::new();
        for path in &self.text {
            texts.extend(texts_of(path)?);
        }
        let names = self.text.iter().map(|path| path.display().to_string());
        Ok((texts, names.collect()))
    }

    /// Tokens of each text, which both models can read at once.
    fn length(&self, pair: &Pair) -> Result<usize> {
        let length = self.training.sequence_length;
        for checkpoint in [&pair.original, &pair.pruned] {
            let config = Config::read(Arch::of(checkpoint)?, checkpoint)?;
            ensure!(
                length <= config.context_length,
                "--sequence-length {length}: {} reads {} tokens at once",
                checkpoint.path().display(),
                config.context_length
            );
        }
        Ok(length)
    }

    fn about(&self, pair: &Pair, sequences: &Sequences, on: &Resources) -> Result<Run> {
        let mut hasher = Sha256::new();
        for sequence in sequences.train.iter().chain(&sequences.held_out) {
            hasher.update((sequence.len() as u64).to_le_bytes());
            let tokens = sequence.iter();
            tokens.for_each(|token| hasher.update(token.to_le_bytes()));
        }
        let training = &self.training;
        Ok(Run {
            slim: env!("CARGO_PKG_VERSION").to_owned(),
            original_sha256: pair.original.sha256()?,
            pruned_sha256: pair.pruned.sha256()?,
            text: hex(&hasher.finalize()),
            compute: format!("{:?}", on.compute).to_lowercase(),
            train: format!("{:?}", pair.train).to_lowercase(),
            learning_rate: training.learning_rate,
            batch_tokens: training.batch_tokens,
            hidden_weight: training.hidden_weight,
            seed: training.seed,
        })
    }

    fn keeping(&self, run: &Run) -> Result<Option<Keeping>> {
        let Some(folder) = &self.state else {
            return Ok(None);
        };
        let state = State::open(folder, run)?;
        // What is of another run is found before any work.
        if let Some((course, _)) = state.read()? {
            note(&format!(
                "{} tokens are trained on in {}",
                course.tokens,
                folder.display()
            ));
        }
        Ok(Some(Keeping {
            state,
            every: Duration::from_secs_f64(60.0 * self.save_minutes.clamp(0.0, 1e6)),
        }))
    }

    fn settings(&self, room: u64) -> Settings {
        let minutes = match (self.minutes, self.tokens) {
            (None, None) => Some(MINUTES),
            (minutes, _) => minutes,
        };
        Settings {
            budget: Budget {
                tokens: self.tokens,
                seconds: minutes.map(|minutes| 60.0 * minutes),
            },
            learning_rate: self.training.learning_rate,
            batch_tokens: self.training.batch_tokens,
            hidden_weight: self.training.hidden_weight,
            seed: self.training.seed,
            room,
        }
    }

    /// Writes the pruned model with its better weights.
    fn write(&self, pair: &Pair, healed: &Healed, effect: &Effect, progress: &Bar) -> Result<()> {
        let edits = edits(healed)?;
        let n_layers = Arch::of(&pair.pruned)?.n_layers(&pair.pruned)?;
        let keep = KeepSet::all(n_layers);
        let request = Request {
            edits: &edits,
            layer_arrays: true,
            healed: Some(serde_json::to_string(effect)?),
            ..Request::new(&pair.pruned, &keep, &self.output)
        };
        progress.begin("writing", pair.pruned.total_bytes());
        let written = write(&request, &|bytes| progress.advance(bytes))?;
        check_structure(&Checkpoint::open(&written)?)
    }
}

/// What becomes of the checkpoint's tensors.
fn edits(healed: &Healed) -> Result<Edits> {
    let mut edits = Edits::default();
    for (parameter, values) in healed.values.iter().flatten() {
        let mut at = 0;
        for piece in parameter.pieces() {
            let own = values.narrow(0, at, piece.rows)?;
            at += piece.rows;
            let own: Vec<f32> = own.flatten_all()?.to_vec1()?;
            edits.insert(piece.name.clone(), Edit::Values(own.into()));
        }
    }
    Ok(edits)
}

fn file(checkpoint: &Checkpoint, sha256: String) -> Result<ModelFile> {
    Ok(ModelFile {
        path: checkpoint.path().display().to_string(),
        bytes: checkpoint.total_bytes(),
        n_layers: Arch::of(checkpoint)?.n_layers(checkpoint)?,
        sha256,
    })
}
