//! Texts before and after, side by side: what people look at first.

use super::answers::Answers;
use crate::eval::Outcome;
use crate::suite::{Family, Suite};
use serde::{Deserialize, Serialize};

/// Texts of each family.
const OF_FAMILY: usize = 4;

/// Characters of a prompt that are shown, its last ones.
const PROMPT: usize = 240;

/// What both models wrote on the same prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextPair {
    /// The family.
    pub family: Family,
    /// The task and the item.
    pub item: String,
    /// The end of the prompt.
    pub prompt: String,
    /// The right answer.
    pub right: String,
    /// What the original wrote, up to where it stops to count.
    pub original: String,
    /// Whether that is right.
    pub original_right: bool,
    /// What the pruned model wrote.
    pub pruned: String,
    /// Whether that is right.
    pub pruned_right: bool,
}

/// Some texts of every family: those that were right and are no longer first, then those that changed.
pub fn texts(suite: &Suite, original: &[Outcome], pruned: &[Outcome]) -> Vec<TextPair> {
    let answers = Answers::both(original, pruned);
    let mut written: Vec<_> = answers
        .0
        .iter()
        .filter(|answer| answer.original.health.is_some() && answer.pruned.health.is_some())
        .collect();
    written.sort_by_key(|answer| {
        let lost = answer.original.correct && !answer.pruned.correct;
        let changed = answer.original.said != answer.pruned.said;
        (answer.original.family, !lost, !changed)
    });
    let mut pairs: Vec<TextPair> = Vec::new();
    for answer in written {
        let (before, after) = (answer.original, answer.pruned);
        let of_family = pairs.iter().filter(|pair| pair.family == before.family);
        if of_family.count() >= OF_FAMILY {
            continue;
        }
        let task = suite.tasks.iter().find(|task| task.name == before.task);
        let item = task.and_then(|task| task.items.iter().find(|item| item.id == before.id));
        let ask = item.and_then(|item| item.ask(before.protocol));
        let written = ask.and_then(|ask| ask.written());
        pairs.push(TextPair {
            family: before.family,
            item: format!("{}/{}", before.task, before.id),
            prompt: ask.map_or(String::new(), |ask| tail(&ask.prompts().concat())),
            right: written
                .and_then(|written| written.targets.first().cloned())
                .unwrap_or_default(),
            original: before.said.clone(),
            original_right: before.correct,
            pruned: after.said.clone(),
            pruned_right: after.correct,
        });
    }
    pairs
}

fn tail(text: &str) -> String {
    let n = text.chars().count();
    match n > PROMPT {
        true => format!("…{}", text.chars().skip(n - PROMPT).collect::<String>()),
        false => text.to_owned(),
    }
}
