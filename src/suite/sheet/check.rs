//! What a task file may not say.

use std::collections::HashSet;

use super::LETTERS;
use super::{Protocol, SCHEMA_VERSION, Sheet, SheetItem};

/// More than this is a mistake: an item would take longer than a whole suite should.
const MAX_NEW_TOKENS: usize = 4096;

/// Field and problem of the first thing wrong with an item by itself.
pub(super) fn item(item: &SheetItem) -> Result<(), (&'static str, String)> {
    let fail = |field, problem: String| Err((field, problem));
    let count = item.options.len();
    if count == 1 || count > LETTERS.len() {
        return fail(
            "options",
            format!("has {count}: give 2 to {}, or none", LETTERS.len()),
        );
    }
    if item.answer >= count.max(1) {
        let problem = format!(
            "is {} but there are {count} options, counted from 0",
            item.answer
        );
        return fail("answer", problem);
    }
    for (field, texts) in [("options", &item.options), ("accept", &item.accept)] {
        let mut seen = HashSet::new();
        for text in texts {
            if text.trim().is_empty() {
                return fail(
                    field,
                    "has an empty text: fill it in or remove it".to_owned(),
                );
            }
            if text.trim() != text {
                return fail(
                    field,
                    format!("{text:?} has space at an end: remove it, prompts add their own"),
                );
            }
            if !seen.insert(text) {
                return fail(field, format!("has {text:?} twice: make each different"));
            }
        }
    }
    for (field, text) in [
        ("context", &item.context),
        ("question", &item.question),
        ("stem", &item.stem),
    ] {
        if text.trim_end() != text {
            return fail(
                field,
                "ends in white space: remove it, prompts add their own".to_owned(),
            );
        }
    }
    Ok(())
}

/// Place and problem of the first thing wrong with a task whose items are right by themselves.
pub(super) fn task(task: &Sheet) -> Result<(), (String, String)> {
    let fail = |field: &str, problem: String| Err((format!("field \"{field}\""), problem));
    if task.schema_version != SCHEMA_VERSION {
        let problem = format!(
            "is {} but this slim reads version {SCHEMA_VERSION}: use the slim that wrote it, or convert it",
            task.schema_version
        );
        return fail("schema_version", problem);
    }
    if task.task.trim().is_empty() {
        return fail("task", "is empty: give the task a name".to_owned());
    }
    if task.stop.iter().any(String::is_empty) {
        return fail(
            "stop",
            "has an empty string, which ends every text at once: remove it".to_owned(),
        );
    }
    if !(1..=MAX_NEW_TOKENS).contains(&task.max_new_tokens) {
        let problem = format!("is {}: give 1 to {MAX_NEW_TOKENS}", task.max_new_tokens);
        return fail("max_new_tokens", problem);
    }
    if task.items.is_empty() {
        return fail(
            "items",
            "is empty: give the task at least one item".to_owned(),
        );
    }
    if task.protocols.is_empty() {
        return fail(
            "protocols",
            format!("is empty: name some of {}", known_protocols()),
        );
    }
    for protocol in &task.protocols {
        if !task.items.iter().any(|item| task.serves(item, *protocol)) {
            let needs = needs(*protocol);
            let problem =
                format!("names {protocol}, but no item has {needs}: add them or remove it");
            return fail("protocols", problem);
        }
    }
    for item in &task.items {
        if !task
            .protocols
            .iter()
            .any(|protocol| task.serves(item, *protocol))
        {
            let ways: Vec<_> = task
                .protocols
                .iter()
                .map(|p| format!("{p} ({})", needs(*p)))
                .collect();
            let problem = format!(
                "lacks the fields of every protocol of the task: {}",
                ways.join(", ")
            );
            return Err((format!("item {:?}", item.id), problem));
        }
    }
    Ok(())
}

fn needs(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Choice => "a question and options",
        Protocol::Continuation => "options",
        Protocol::Generate => "a stem and an answer",
    }
}

fn known_protocols() -> String {
    Protocol::ALL
        .iter()
        .map(|protocol| protocol.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
