//! What became of each question.

use super::engine::{Engine, Likelihood};
use super::generate::{Generated, generate};
use super::judge::{Measured, best, judge};
use super::question::Question;
use super::{Progress, Share};
use crate::arch::KeepSet;
use crate::convert::vocabulary::TextTokenizer;
use crate::model::Model;
use crate::suite::{Answer, Family, IN_CONTEXT, Protocol};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One question's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The task's name.
    pub task: String,
    /// The item's id within the task.
    pub id: String,
    /// The task's family.
    pub family: Family,
    /// The item's slices.
    pub slices: Vec<String>,
    /// How it was asked.
    pub protocol: Protocol,
    /// The share of right answers that guessing reaches.
    pub chance: f64,
    /// The continuous score in nats; see [`Question::value`].
    pub value: f64,
    /// Whether the answer was right: the best candidate, or the generated text.
    pub correct: bool,
    /// The answer: the likeliest option, or the generated text up to the first stop string.
    pub said: String,
    /// Summed log-probability of each candidate, in nats.
    pub log_probs: Vec<f64>,
    /// The harness's metrics.
    #[serde(default)]
    pub metrics: Vec<Measured>,
    /// The state of generated text; absent where nothing was generated.
    pub health: Option<Health>,
}

impl Outcome {
    /// Whether the item asks another's fact once more, with the fact in its context. It is held
    /// against the other, and is no part of its family's mean: reading would hide forgetting.
    pub fn is_twin(&self) -> bool {
        self.id.ends_with(IN_CONTEXT)
    }
}

/// How sound a generated text is, apart from being right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// No stop string and no end of text within the allowed tokens.
    pub unterminated: bool,
    /// Nothing but white space.
    pub empty: bool,
    /// Share of adjacent token pairs that had occurred before.
    pub repetition: f64,
}

impl Health {
    fn of(generated: &Generated) -> Self {
        let pairs: Vec<&[u32]> = generated.tokens.windows(2).collect();
        let distinct: std::collections::HashSet<_> = pairs.iter().collect();
        Self {
            unterminated: !generated.terminated,
            empty: generated.text.trim().is_empty(),
            repetition: match pairs.len() {
                0 => 0.0,
                n => 1.0 - distinct.len() as f64 / n as f64,
            },
        }
    }
}

/// Asks all questions of the layers in `keep`; `log` hears of every portion that is finished.
///
/// # Errors
/// What the engine, generation, the tokenizer and the log report.
pub fn outcomes(
    model: &Model,
    keep: &KeepSet,
    questions: &[Question],
    tokenizer: &TextTokenizer,
    stage: &str,
    progress: &dyn Progress,
    log: &mut dyn Log,
) -> Result<Vec<Outcome>> {
    let engine = Engine::new(model);
    progress.begin(stage, questions.len() as u64 * STEPS);
    let mut all = Vec::with_capacity(questions.len());
    // Always the same portions, so that a run that is taken up again computes the same numbers.
    for portion in questions.chunks(PORTION) {
        if let Some(known) = log.known(portion) {
            progress.resume(portion.len() as u64 * STEPS);
            all.extend(known);
            continue;
        }
        let answered = answer(&engine, model, keep, portion, tokenizer, progress)?;
        log.finished(portion, &answered)?;
        all.extend(answered);
    }
    Ok(all)
}

/// Questions that are answered together.
const PORTION: usize = 64;

/// Units of progress a question.
const STEPS: u64 = 1000;

/// What is known of earlier runs, and hears of what is finished.
pub trait Log {
    /// The outcomes of a portion, if all of them are known.
    fn known(&mut self, portion: &[Question]) -> Option<Vec<Outcome>>;

    /// A portion is finished.
    ///
    /// # Errors
    /// It cannot be recorded.
    fn finished(&mut self, portion: &[Question], outcomes: &[Outcome]) -> Result<()>;
}

/// Knows nothing and keeps nothing.
pub struct NoLog;

impl Log for NoLog {
    fn known(&mut self, _: &[Question]) -> Option<Vec<Outcome>> {
        None
    }

    fn finished(&mut self, _: &[Question], _: &[Outcome]) -> Result<()> {
        Ok(())
    }
}

fn answer(
    engine: &Engine,
    model: &Model,
    keep: &KeepSet,
    questions: &[Question],
    tokenizer: &TextTokenizer,
    progress: &dyn Progress,
) -> Result<Vec<Outcome>> {
    let masks = std::slice::from_ref(keep);
    let writes = |question: &&Question| !question.prompt.is_empty();
    let (written, scored): (Vec<&Question>, Vec<&Question>) = questions.iter().partition(writes);
    let worth = |questions: &[&Question]| questions.len() as u64 * STEPS;
    let share = Share::new(progress, worth(&scored), engine.work(&scored, masks));
    let likelihoods = engine.likelihoods(&scored, masks, &share)?;
    let share = Share::new(progress, worth(&written), written.len() as u64);
    let replies = generate(model, masks, &written, tokenizer, &share)?;
    let mut scored = likelihoods.into_iter().flatten();
    let mut written = replies.into_iter().flatten();
    let outcome = |question: &Question| {
        let none = "an answer is missing";
        Ok(match writes(&question) {
            true => {
                let reply = written.next().context(none)?;
                outcome(question, &reply.likelihoods, Some(reply.generated))
            }
            false => outcome(question, &scored.next().context(none)?, None),
        })
    };
    questions.iter().map(outcome).collect()
}

fn outcome(
    question: &Question,
    likelihoods: &[Likelihood],
    generated: Option<Generated>,
) -> Outcome {
    let (task, item, ask) = (question.task, question.item, question.ask);
    let said = match (&generated, ask.written()) {
        (Some(generated), Some(written)) => written.cut(&generated.text).to_owned(),
        _ => {
            let best = best(likelihoods.iter().map(|l| l.log_prob));
            let texts = match &ask.answer {
                Answer::Inputs { texts, .. } => texts.iter().map(String::as_str).collect(),
                Answer::Passage { .. } => Vec::new(),
                _ => ask.options(),
            };
            texts.get(best).copied().unwrap_or_default().to_owned()
        }
    };
    let metrics = judge(ask, likelihoods, generated.as_ref().map(|_| said.as_str()));
    let correct = match metrics.first() {
        Some(main) if generated.is_some() => main.value > 0.0,
        _ => question.is_right(likelihoods),
    };
    Outcome {
        task: task.name.clone(),
        id: item.id.clone(),
        family: task.family,
        slices: item.slices.clone(),
        protocol: question.protocol(),
        chance: ask.chance(),
        value: question.value(likelihoods),
        correct,
        said,
        log_probs: likelihoods.iter().map(|l| l.log_prob).collect(),
        metrics,
        health: generated.as_ref().map(Health::of),
    }
}
