//! Outcomes on disk, a line each, written as they come: the per-item file that people ask for, and
//! what a run that was killed is taken up from.

use super::outcome::{Log, Outcome};
use super::question::Question;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What a run is of: only the same run is taken up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// slim's version.
    pub slim: String,
    /// SHA-256 of the model.
    pub model_sha256: String,
    /// The tasks with their number of questions, and what else changes a prompt.
    pub asked: String,
}

/// A file of outcomes that grows.
pub struct Samples {
    path: PathBuf,
    file: File,
    known: HashMap<(String, String, String), Outcome>,
}

impl Samples {
    /// Opens a file of outcomes: a new one, or one of the same run, whose last line may be broken.
    ///
    /// # Errors
    /// The file belongs to another run, is no such file, or cannot be written.
    pub fn open(path: &Path, run: &Run) -> Result<Self> {
        let what = || format!("{}: the samples' file", path.display());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        let mut file = file.open(path).with_context(what)?;
        let mut known = HashMap::new();
        let mut good = 0;
        let mut reader = BufReader::new(&file);
        let mut line = String::new();
        loop {
            line.clear();
            let read = reader.read_line(&mut line).with_context(what)? as u64;
            // A line without its end was cut off.
            if read == 0 || !line.ends_with('\n') {
                break;
            }
            match good {
                0 => Self::check(path, run, &line)?,
                _ => {
                    let outcome: Outcome = serde_json::from_str(&line).with_context(what)?;
                    known.insert(key(&outcome), outcome);
                }
            }
            good += read;
        }
        ensure!(
            good > 0 || line.is_empty(),
            "{} is no file of samples: name another one",
            path.display()
        );
        file.set_len(good).with_context(what)?;
        file.seek(SeekFrom::End(0)).with_context(what)?;
        if good == 0 {
            writeln!(file, "{}", serde_json::to_string(run)?).with_context(what)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            known,
        })
    }

    /// Questions whose outcomes are known from an earlier run.
    pub fn known_count(&self) -> usize {
        self.known.len()
    }

    fn check(path: &Path, run: &Run, line: &str) -> Result<()> {
        let Ok(found) = serde_json::from_str::<Run>(line) else {
            bail!("{} is no file of samples: name another one", path.display());
        };
        let differs = [
            ("slim's version", &found.slim, &run.slim),
            ("the model", &found.model_sha256, &run.model_sha256),
            ("the questions", &found.asked, &run.asked),
        ];
        let differs = differs.iter().find(|(_, found, wanted)| found != wanted);
        match differs {
            None => Ok(()),
            Some((what, found, wanted)) => bail!(
                "{} is of another run, {what} differ(s): {found} there, {wanted} here. Name another \
                 file, or remove this one to start afresh",
                path.display()
            ),
        }
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
        let mut text = String::new();
        for (question, outcome) in portion.iter().zip(outcomes) {
            // Of a portion that was recorded in part, the rest.
            if self.known.contains_key(&key(outcome)) {
                continue;
            }
            let mut line = serde_json::to_value(outcome)?;
            line["prompt"] = question.text.as_str().into();
            text += &line.to_string();
            text.push('\n');
        }
        let written = self.file.write_all(text.as_bytes());
        written.with_context(|| format!("writing {}", self.path.display()))
    }
}
