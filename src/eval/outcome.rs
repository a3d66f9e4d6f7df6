//! What became of each question.

use super::Progress;
use super::engine::Engine;
use super::generate::{Generated, generate};
use super::question::Question;
use crate::arch::KeepSet;
use crate::convert::vocabulary::TextTokenizer;
use crate::model::Model;
use crate::suite::{Family, Protocol};
use anyhow::Result;
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
    /// The answer: the best candidate's text, or the generated text.
    pub said: String,
    /// Summed log-probability of each candidate, in nats.
    pub log_probs: Vec<f64>,
    /// The state of generated text; absent where nothing was generated.
    pub health: Option<Health>,
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

/// Asks all questions of the layers in `keep`.
///
/// # Errors
/// What the engine, generation and the tokenizer report.
pub fn outcomes(
    model: &Model,
    keep: &KeepSet,
    questions: &[Question],
    tokenizer: &TextTokenizer,
    stage: &str,
    progress: &dyn Progress,
) -> Result<Vec<Outcome>> {
    let engine = Engine::new(model);
    let masks = [keep.clone()];
    progress.begin(stage, engine.work(questions, &masks));
    let log_probs = engine.log_probs(questions, &masks, progress)?;
    let written: Vec<&Question> = questions
        .iter()
        .filter(|question| question.protocol == Protocol::Generate)
        .collect();
    progress.begin(&format!("{stage}, generating"), written.len() as u64);
    let mut written = generate(model, keep, &written, tokenizer, progress)?.into_iter();
    let scored = log_probs.into_iter().flatten();
    let outcome = |(question, log_probs): (&Question, Vec<f64>)| {
        let generated = match question.protocol {
            Protocol::Generate => written.next(),
            _ => None,
        };
        outcome(question, log_probs, generated)
    };
    Ok(questions.iter().zip(scored).map(outcome).collect())
}

fn outcome(question: &Question, log_probs: Vec<f64>, generated: Option<Generated>) -> Outcome {
    let (task, item) = (question.task, question.item);
    let (said, correct) = match &generated {
        Some(generated) => (generated.text.clone(), task.accepts(item, &generated.text)),
        None => {
            let best = question.best(&log_probs);
            let texts = task.candidates(item, question.protocol);
            (
                texts.get(best).cloned().unwrap_or_default(),
                best == item.answer,
            )
        }
    };
    Outcome {
        task: task.task.clone(),
        id: item.id.clone(),
        family: task.family,
        slices: item.slices.clone(),
        protocol: question.protocol,
        chance: item.chance(question.protocol),
        value: question.value(&log_probs),
        correct,
        said,
        log_probs,
        health: generated.as_ref().map(Health::of),
    }
}
