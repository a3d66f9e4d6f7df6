//! Where the tokens come from that a model is healed on.

use crate::convert::vocabulary::TextTokenizer;
use crate::suite::{Answer, Ask, Split, Suite};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

/// Of so many sequences one is held out.
const HELD_OUT: usize = 10;

/// Tokens that are held out at most: they are measured again and again.
const MOST_HELD_OUT: usize = 2048;

/// Sequences of the same length: those that are trained on, and those that only measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequences {
    /// Tokens in each.
    pub length: usize,
    /// Trained on.
    pub train: Vec<Vec<u32>>,
    /// Held out: spread evenly over the text.
    pub held_out: Vec<Vec<u32>>,
}

/// The texts of a file: JSON lines that have a `text` each, or else one plain text.
///
/// # Errors
/// A file that cannot be read or is no UTF-8; in a `.jsonl` file a line without a `text`.
pub fn texts_of(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("reading {}", path.display()))?;
    if path
        .extension()
        .is_none_or(|extension| extension != "jsonl")
    {
        return Ok(vec![text]);
    }
    let mut texts = Vec::new();
    for (number, line) in (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let found: Option<Value> = serde_json::from_str(line).ok();
        let found = found.as_ref().and_then(|line| line.get("text")?.as_str());
        let found = found.with_context(|| {
            format!(
                "{}, line {number}: no JSON with a text in \"text\"",
                path.display()
            )
        })?;
        texts.push(found.to_owned());
    }
    Ok(texts)
}

/// What the suite's calibrate items say: each prompt with its right answer. What is shown before
/// several items (a description, examples) comes once.
pub fn texts_of_suite(suite: &Suite) -> Vec<String> {
    let items = suite.sample(Split::Calibrate, usize::MAX);
    let asks = items.iter().flat_map(|(_, item)| &item.asks);
    let mut shown = HashSet::new();
    let mut texts = Vec::new();
    for ask in asks {
        texts.extend(right_texts(ask, &mut shown));
    }
    texts
}

fn right_texts(ask: &Ask, shown: &mut HashSet<String>) -> Option<String> {
    let before: String = plain(&ask.shown);
    let question: String = plain(&ask.question);
    let delimiter = &ask.delimiter;
    let told = match &ask.answer {
        Answer::Options { texts, right } => {
            format!("{question}{delimiter}{}", texts.get(*right.first()?)?)
        }
        Answer::Inputs {
            texts,
            ending,
            right,
        } => format!(
            "{}{question}{delimiter}{ending}",
            texts.get(*right.first()?)?
        ),
        Answer::Text(text) => format!("{question}{delimiter}{text}"),
        Answer::Passage { text, .. } => text.clone(),
        Answer::Written(written) => {
            format!("{question}{delimiter}{}", written.targets.first()?)
        }
    };
    Some(match shown.insert(before.clone()) {
        true => before + &told,
        false => told,
    })
}

fn plain(messages: &[crate::suite::Message]) -> String {
    let text = messages
        .iter()
        .map(|m| format!("{}{}", m.content, m.delimiter));
    text.collect()
}

impl Sequences {
    /// Tokens of texts behind each other, each after the beginning-of-text token if the model wants
    /// one and with the end-of-text token behind it, cut into sequences of `length`. What remains
    /// is left out.
    ///
    /// # Errors
    /// Too little text to hold some out.
    pub fn of(texts: &[String], tokenizer: &TextTokenizer, length: usize) -> Result<Self> {
        ensure!(length >= 2, "--sequence-length {length}: give 2 or more");
        let mut tokens = Vec::new();
        for text in texts.iter().filter(|text| !text.trim().is_empty()) {
            tokens.extend(tokenizer.encode(text, tokenizer.add_bos())?);
            tokens.extend(tokenizer.eos());
        }
        let count = tokens.len() / length;
        ensure!(
            count >= HELD_OUT,
            "the text has {} tokens; {} sequences of {length} are the least, of which one is held \
             out to measure by: give more --text, or a smaller --sequence-length",
            tokens.len(),
            HELD_OUT
        );
        let most = (MOST_HELD_OUT / length).max(1);
        let every = HELD_OUT.max(count.div_ceil(most));
        let (mut train, mut held_out) = (Vec::new(), Vec::new());
        for (at, sequence) in tokens.chunks_exact(length).enumerate() {
            match at % every == every - 1 {
                true => held_out.push(sequence.to_vec()),
                false => train.push(sequence.to_vec()),
            }
        }
        Ok(Self {
            length,
            train,
            held_out,
        })
    }
}
