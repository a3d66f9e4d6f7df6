//! An item under a protocol, as tokens.

use crate::convert::vocabulary::TextTokenizer;
use crate::suite::{Item, Protocol, Task};
use anyhow::{Context, Result, ensure};

/// One item asked one way.
pub struct Question<'s> {
    /// The item's task.
    pub task: &'s Task,
    /// The item.
    pub item: &'s Item,
    /// The way it is asked.
    pub protocol: Protocol,
    /// Tokens before the answer; never empty.
    pub prompt: Vec<u32>,
    /// Tokens of each candidate answer; none is empty.
    pub candidates: Vec<Vec<u32>>,
}

impl Question<'_> {
    /// The continuous score, in nats, higher is better and 0 is best: with several candidates
    /// the log of the right one's share among them, with one its mean log-probability a token.
    pub fn value(&self, log_probs: &[f64]) -> f64 {
        match (self.protocol, log_probs) {
            (Protocol::Generate, [target]) => {
                let tokens = self.candidates.first().map_or(1, Vec::len);
                target / tokens.max(1) as f64
            }
            _ => {
                let best = log_probs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = log_probs.iter().map(|lp| (lp - best).exp()).sum();
                let right = log_probs.get(self.item.answer).copied();
                right.unwrap_or(f64::NEG_INFINITY) - best - sum.ln()
            }
        }
    }

    /// The candidate with the highest log-probability; the first of equals.
    pub fn best(&self, log_probs: &[f64]) -> usize {
        (1..log_probs.len()).fold(0, |best, i| match log_probs[i] > log_probs[best] {
            true => i,
            false => best,
        })
    }
}

/// Every way in which the protocols can ask the items, those with a common beginning together.
///
/// Tokens are split as lm-evaluation-harness does: prompt and candidate are encoded as one text,
/// and what follows the prompt's own tokens is the candidate. An empty prompt becomes the
/// beginning-of-text token.
///
/// # Errors
/// A text that the tokenizer cannot encode, or one longer than the model's context.
pub fn questions<'s>(
    items: &[(&'s Task, &'s Item)],
    protocols: &[Protocol],
    tokenizer: &TextTokenizer,
    context_length: usize,
) -> Result<Vec<Question<'s>>> {
    let mut asked = Vec::new();
    for &protocol in protocols {
        for &(task, item) in items {
            if task.serves(item, protocol) {
                let question = question(task, item, protocol, tokenizer)
                    .with_context(|| format!("task {}, item {}", task.task, item.id))?;
                asked.push(question);
            }
        }
    }
    for question in &asked {
        let longest = question.candidates.iter().map(Vec::len).max().unwrap_or(0);
        let room = longest.max(question.task.max_new_tokens);
        ensure!(
            question.prompt.len() + room <= context_length,
            "task {}, item {}: {} tokens do not fit the model's context of {context_length}",
            question.task.task,
            question.item.id,
            question.prompt.len() + room
        );
    }
    // A stable sort: the shots of a task are computed once for the items beside each other.
    asked.sort_by(|a, b| (a.protocol, &a.task.task).cmp(&(b.protocol, &b.task.task)));
    Ok(asked)
}

fn question<'s>(
    task: &'s Task,
    item: &'s Item,
    protocol: Protocol,
    tokenizer: &TextTokenizer,
) -> Result<Question<'s>> {
    let text = task.prompt(item, protocol);
    let mut prompt = tokenizer.encode(&text, tokenizer.add_bos())?;
    let written = prompt.len();
    if prompt.is_empty() {
        let start = tokenizer.bos().or(tokenizer.eos());
        prompt.push(start.context("the tokenizer names no beginning-of-text token")?);
    }
    let mut candidates = Vec::new();
    for candidate in task.candidates(item, protocol) {
        let whole = tokenizer.encode(&format!("{text}{candidate}"), tokenizer.add_bos())?;
        let tokens = whole.get(written..).unwrap_or_default().to_vec();
        ensure!(!tokens.is_empty(), "the answer '{candidate}' has no tokens");
        candidates.push(tokens);
    }
    Ok(Question {
        task,
        item,
        protocol,
        prompt,
        candidates,
    })
}
