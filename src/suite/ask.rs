//! An item as it is put to a model: texts, and how the answer is judged.

use super::harness::{Metric, Pipeline};
use super::{Protocol, Split};
use std::sync::Arc;

/// Tasks that are asked as one, of one ability.
#[derive(Debug, Clone)]
pub struct Task {
    /// Unique name, by which it is shown.
    pub name: String,
    /// The ability it measures.
    pub family: super::Family,
    /// One sentence for people.
    pub about: String,
    /// What the harness's results say of a task.
    pub terms: Terms,
    /// The items, in file order.
    pub items: Vec<Item>,
}

/// A task's fixed terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The version of its definition.
    pub version: String,
    /// The harness's output type: `multiple_choice`, `generate_until`, …; `mixed` where items are
    /// asked in several ways.
    pub output_type: String,
    /// The dataset, or where the items come from.
    pub dataset: String,
    /// Examples before each item.
    pub n_shot: usize,
}

/// One item of a task, in all the ways it can be asked.
#[derive(Debug, Clone)]
pub struct Item {
    /// Unique within the task.
    pub id: String,
    /// What distinguishes it within its task; the first is the main one.
    pub slices: Vec<String>,
    /// The part of the task it belongs to.
    pub split: Split,
    /// At most one way for each protocol.
    pub asks: Vec<Ask>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What holds for the whole text.
    System,
    /// The question.
    User,
    /// The answer.
    Assistant,
}

/// A part of a prompt: a turn of a chat, or a stretch of plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// What follows it in plain text; a chat template puts its own marks there.
    pub delimiter: String,
}

impl Message {
    /// A message and what follows it in plain text.
    pub fn new(role: Role, content: impl Into<String>, delimiter: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            delimiter: delimiter.into(),
        }
    }
}

/// One way to ask an item.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The way.
    pub protocol: Protocol,
    /// What comes before the question: the description and the examples.
    pub shown: Arc<[Message]>,
    /// The question, and how the answer begins where that is given; where the inputs differ by
    /// option only the latter.
    pub question: Vec<Message>,
    /// Between the question and the answer in plain text.
    pub delimiter: String,
    /// What is right.
    pub answer: Answer,
    /// What is measured.
    pub metrics: Arc<[Metric]>,
}

/// What is right, and what is compared with it.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The likeliest of several texts counts.
    Options {
        /// The texts.
        texts: Vec<String>,
        /// Indices of the right ones.
        right: Vec<usize>,
    },
    /// One text after several questions: the question after which it is likeliest counts.
    Inputs {
        /// The questions.
        texts: Vec<String>,
        /// What follows each.
        ending: String,
        /// Indices of the right ones.
        right: Vec<usize>,
    },
    /// A text counts where each of its tokens is the likeliest.
    Text(String),
    /// A long text, whose likelihood is measured.
    Passage {
        /// The text.
        text: String,
        /// Words that a perplexity counts.
        words: usize,
        /// Bytes that a perplexity counts.
        bytes: usize,
    },
    /// Generated text counts where it equals one of several.
    Written(Written),
}

/// What generated text is compared with.
#[derive(Debug, Clone)]
pub struct Written {
    /// The right texts; the first is the main one.
    pub targets: Vec<String>,
    /// The text ends before the first of these.
    pub until: Vec<String>,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// How tokens are drawn; absent, the likeliest is taken.
    pub sampling: Option<Sampling>,
    /// How it is compared.
    pub check: Check,
}

/// How tokens are drawn, in transformers' words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// What logits are divided by.
    pub temperature: f64,
    /// Draw among so many of the likeliest.
    pub top_k: Option<usize>,
    /// Draw among the likeliest that together have this probability.
    pub top_p: Option<f64>,
}

/// How generated text is compared with what is right.
#[derive(Debug, Clone)]
pub enum Check {
    /// Equal without case, surrounding space and quotes, and closing punctuation.
    Normalised,
    /// Equal after each of several chains of filters; the first is the main one.
    Filtered(Arc<[Pipeline]>),
}

impl Written {
    /// The text before the first stop string.
    pub fn cut<'t>(&self, text: &'t str) -> &'t str {
        let ends = self
            .until
            .iter()
            .filter_map(|stop| text.find(stop.as_str()));
        ends.min().and_then(|end| text.get(..end)).unwrap_or(text)
    }
}

impl Item {
    /// The first slice, or the empty string.
    pub fn main_slice(&self) -> &str {
        self.slices.first().map_or("", String::as_str)
    }

    /// The way it is asked under a protocol, if there is one.
    pub fn ask(&self, protocol: Protocol) -> Option<&Ask> {
        self.asks.iter().find(|ask| ask.protocol == protocol)
    }
}

impl Ask {
    /// Share of right answers that guessing reaches: right options / options, and 0 for free text.
    pub fn chance(&self) -> f64 {
        match &self.answer {
            Answer::Options { texts, right } | Answer::Inputs { texts, right, .. } => {
                right.len() as f64 / texts.len().max(1) as f64
            }
            _ => 0.0,
        }
    }

    /// Indices of the right options; empty for free text.
    pub fn right(&self) -> &[usize] {
        match &self.answer {
            Answer::Options { right, .. } | Answer::Inputs { right, .. } => right,
            _ => &[],
        }
    }

    /// The prompts in plain text: one, or one for each input.
    pub fn prompts(&self) -> Vec<String> {
        let shown: String = self.shown.iter().map(plain).collect();
        let question: String = self.question.iter().map(plain).collect();
        match &self.answer {
            Answer::Inputs { texts, .. } => {
                let input = |text| format!("{shown}{text}{question}");
                texts.iter().map(input).collect()
            }
            _ => vec![shown + &question],
        }
    }

    /// The texts whose likelihood is measured, without what comes before them.
    pub fn options(&self) -> Vec<&str> {
        match &self.answer {
            Answer::Options { texts, .. } => texts.iter().map(String::as_str).collect(),
            Answer::Inputs { ending, .. } => vec![ending],
            Answer::Text(text) | Answer::Passage { text, .. } => vec![text],
            Answer::Written(written) => {
                written.targets.iter().take(1).map(String::as_str).collect()
            }
        }
    }

    /// What is generated, where something is.
    pub fn written(&self) -> Option<&Written> {
        match &self.answer {
            Answer::Written(written) => Some(written),
            _ => None,
        }
    }
}

fn plain(message: &Message) -> String {
    format!("{}{}", message.content, message.delimiter)
}
