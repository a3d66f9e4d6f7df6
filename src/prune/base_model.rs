//! `general.base_model.*`: the model that a pruned one was made of, as llama.cpp and the hub read it.

use crate::checkpoint::gguf::{Value, keys};
use crate::checkpoint::hub::Cached;

const PREFIX: &str = "general.base_model.";

/// What is said of the source, and where its own metadata say it.
const SAID: [(&str, &[&str]); 5] = [
    ("name", &[keys::NAME]),
    ("author", &["general.author"]),
    ("version", &["general.version"]),
    ("organization", &["general.organization"]),
    (
        "repo_url",
        &["general.repo_url", "general.source.repo_url", "general.url"],
    ),
];

/// The source's entries with itself as the one base model: what it was made of is its own business.
pub(super) fn name_source<'a>(entries: &mut Vec<(String, Value<'a>)>, hub: Option<Cached>) {
    let said = |keys: &[&str]| {
        let mut found = keys.iter().filter_map(|key| {
            let (_, value) = entries.iter().find(|(known, _)| known == key)?;
            value.as_str().map(str::to_owned)
        });
        found.next()
    };
    let of_hub = hub.map(|Cached { id, .. }| format!("https://huggingface.co/{id}"));
    let said: Vec<(String, String)> = SAID
        .iter()
        .filter_map(|(what, keys)| {
            let found = said(keys).or_else(|| of_hub.clone().filter(|_| *what == "repo_url"));
            Some((format!("{PREFIX}0.{what}"), found?))
        })
        .collect();
    entries.retain(|(key, _)| !key.starts_with(PREFIX));
    if said.is_empty() {
        return;
    }
    entries.push((format!("{PREFIX}count"), Value::u32(1)));
    entries.extend(said.into_iter().map(|(key, text)| (key, Value::str(&text))));
}
