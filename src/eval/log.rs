//! Outcomes on disk, a line each, written as they come: the per-item file that people ask for, and
//! what a run that was killed is taken up from.

use super::lines::{Header, Identity, JsonLines};
use super::outcome::{Log, Outcome};
use super::question::Question;
use crate::checkpoint::hex;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;

/// What a run is of: only the same run is taken up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// slim's version.
    pub slim: String,
    /// SHA-256 of the model.
    pub model_sha256: String,
    /// The type in which products are made.
    pub compute: String,
    /// Digest of the questions; see [`digest`].
    pub asked: String,
}

impl Header for Run {
    const FILE_OF: &'static str = "samples";

    fn identity(&self) -> Identity {
        vec![
            ("slim's version", self.slim.clone()),
            ("the model", self.model_sha256.clone()),
            ("--compute", self.compute.clone()),
            ("the questions", self.asked.clone()),
        ]
    }
}

/// A digest of all that is asked, token by token, and of what counts as right.
pub fn digest(questions: &[Question]) -> String {
    let mut hasher = Sha256::new();
    for question in questions {
        let (task, item) = (question.task, question.item);
        hasher.update(format!("{}\0{}\0{}\0", task.name, task.family, item.id));
        hasher.update(format!("{}\0{:?}\0", question.protocol(), item.slices));
        hasher.update(format!("{:?}\0", question.ask.right()));
        let scored = question.candidates.iter();
        for tokens in scored
            .flat_map(|c| [&c.prompt[..], &c.tokens[..]])
            .chain([&question.prompt[..]])
        {
            hasher.update((tokens.len() as u64).to_le_bytes());
            tokens
                .iter()
                .for_each(|token| hasher.update(token.to_le_bytes()));
        }
    }
    hex(&hasher.finalize())
}

/// A file of outcomes that grows.
pub struct Samples {
    file: JsonLines,
    known: HashMap<(String, String, String), Outcome>,
}

impl Samples {
    /// Opens a file of outcomes: a new one, or one of the same run, whose last line may be broken.
    ///
    /// # Errors
    /// The file belongs to another run, is no such file, or cannot be written.
    pub fn open(path: &Path, run: &Run) -> Result<Self> {
        let (file, outcomes) = JsonLines::open::<_, Outcome>(path, run)?;
        let known = outcomes.into_iter().map(|outcome| (key(&outcome), outcome));
        Ok(Self {
            file,
            known: known.collect(),
        })
    }

    /// Questions whose outcomes are known from an earlier run.
    pub fn known_count(&self) -> usize {
        self.known.len()
    }
}

fn key(outcome: &Outcome) -> (String, String, String) {
    let protocol = outcome.protocol.to_string();
    (outcome.task.clone(), outcome.id.clone(), protocol)
}

impl Log for Samples {
    fn known(&mut self, portion: &[Question]) -> Option<Vec<Outcome>> {
        let known = |question: &Question| {
            let protocol = question.protocol().to_string();
            let key = (
                question.task.name.clone(),
                question.item.id.clone(),
                protocol,
            );
            self.known.get(&key).cloned()
        };
        portion.iter().map(known).collect()
    }

    fn finished(&mut self, portion: &[Question], outcomes: &[Outcome]) -> Result<()> {
        let mut lines = Vec::new();
        for (question, outcome) in portion.iter().zip(outcomes) {
            // Of a portion that was recorded in part, the rest.
            if self.known.contains_key(&key(outcome)) {
                continue;
            }
            let mut line = serde_json::to_value(outcome)?;
            line["prompt"] = question.text.as_str().into();
            lines.push(line);
        }
        self.file.push(&lines)
    }
}
