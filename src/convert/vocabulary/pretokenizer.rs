//! The rules that split text before byte-pair merging: llama.cpp's names for them
//! (`tokenizer.ggml.pre`) and the `tokenizer.json` structures that mean the same.
//!
//! The table is `pretokenizers.json`. Its `same_as` names share one branch of llama.cpp's
//! splitter, so a GGUF that carries any of them runs under the entry's structure.
//!
//! A `tokenizer.json` names nothing; its rule is recognised by structure, not by hashing the
//! ids of a probe text as stock converters do: a fine-tune with added or trimmed tokens keeps
//! the structure and loses the hash. Where several names share a structure the entry's own
//! name is written. That never changes an id, because the names share their llama.cpp branch;
//! the canonical `smollm` is the one of its group that leaves spaces before punctuation alone
//! when llama.cpp turns ids back into text.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Error;

/// One splitting rule.
#[derive(Debug, Deserialize)]
pub(crate) struct PreTokenizer {
    /// llama.cpp's name, written to `tokenizer.ggml.pre`.
    pub name: String,
    /// Names of the same rule, read only.
    pub same_as: Vec<String>,
    /// Whether a word that is a token as it stands skips the merges.
    pub ignore_merges: bool,
    /// llama.cpp's default for `add_bos_token` under this name.
    pub add_bos: bool,
    /// What `tokenizer.json` does to text first. llama.cpp normalises nothing.
    pub normalizer: Value,
    /// What `tokenizer.json` splits with.
    pub pre_tokenizer: Value,
}

static TABLE: LazyLock<Vec<PreTokenizer>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("pretokenizers.json"))
        .expect("pretokenizers.json is part of this crate and is parsed by its tests")
});

/// The rule of a `tokenizer.ggml.pre` name, if the table has it.
pub(crate) fn by_name(name: &str) -> Option<&'static PreTokenizer> {
    TABLE
        .iter()
        .find(|entry| entry.name == name || entry.same_as.iter().any(|n| n == name))
}

/// The rule of a `tokenizer.ggml.pre` name, or an error that lists the known ones.
pub(crate) fn require(name: &str) -> Result<&'static PreTokenizer, Error> {
    by_name(name).ok_or_else(|| Error::UnknownPre {
        what: format!("the pre-tokenizer '{name}' is not in slim's table"),
        known: known_names(),
    })
}

/// The rule of a `tokenizer.json`'s normalizer, pre_tokenizer and `model.ignore_merges`.
///
/// The splitting must be the table's. Between entries that split alike, the closest in
/// normalizer and `ignore_merges` wins; a normalizer that changes more than Unicode
/// composition (lower case, for one) has no GGUF form and matches nothing.
pub(crate) fn by_structure(
    normalizer: &Value,
    pre_tokenizer: &Value,
    ignore_merges: bool,
) -> Result<&'static PreTokenizer, Error> {
    let (normalizer, splitting) = (canonical(normalizer), canonical(pre_tokenizer));
    let composes_only = normalizer.is_null() || normalizer["type"] == "NFC";
    TABLE
        .iter()
        .filter(|entry| composes_only && canonical(&entry.pre_tokenizer) == splitting)
        .min_by_key(|entry| {
            (
                entry.ignore_merges != ignore_merges,
                canonical(&entry.normalizer) != normalizer,
            )
        })
        .ok_or_else(|| Error::UnknownPre {
            what: format!(
                "tokenizer.json splits text in a way that slim has no llama.cpp name for \
                 (normalizer {normalizer}, pre_tokenizer {splitting})"
            ),
            known: known_names(),
        })
}

/// Every name of the table, in its order.
fn known_names() -> String {
    let names = TABLE
        .iter()
        .flat_map(|e| std::iter::once(&e.name).chain(&e.same_as));
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The structure without what cannot change an id: nesting of sequences, sequences of one or
/// none, offsets, fields left at their defaults, and the two spellings of a line break in a
/// pattern.
fn canonical(value: &Value) -> Value {
    let Value::Object(object) = value else {
        return Value::Null;
    };
    match object.get("type").and_then(Value::as_str) {
        Some("Sequence") => canonical_sequence(object),
        Some(kind) => Value::Object(canonical_step(kind, object)),
        None => value.clone(),
    }
}

fn canonical_sequence(object: &Map<String, Value>) -> Value {
    let parts = ["pretokenizers", "normalizers"]
        .iter()
        .find_map(|key| object.get(*key)?.as_array());
    let mut steps = Vec::new();
    for part in parts.into_iter().flatten() {
        match canonical(part) {
            Value::Null => {}
            Value::Array(inner) => steps.extend(inner),
            step => steps.push(step),
        }
    }
    match steps.len() {
        0 => Value::Null,
        1 => steps.remove(0),
        _ => Value::Array(steps),
    }
}

fn canonical_step(kind: &str, object: &Map<String, Value>) -> Map<String, Value> {
    let mut step = object.clone();
    step.remove("trim_offsets");
    if kind == "ByteLevel" {
        step.entry("use_regex").or_insert(Value::Bool(true));
        step.entry("add_prefix_space").or_insert(Value::Bool(true));
    }
    if let Some(Value::String(regex)) = step.get_mut("pattern").and_then(|p| p.get_mut("Regex")) {
        *regex = regex.replace('\r', "\\r").replace('\n', "\\n");
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_entry_is_recognised_by_its_own_structure() {
        for entry in TABLE.iter() {
            let found = by_structure(&entry.normalizer, &entry.pre_tokenizer, entry.ignore_merges);
            assert_eq!(found.unwrap().name, entry.name);
        }
    }

    #[test]
    fn every_name_leads_to_one_entry() {
        let mut names: Vec<&str> = TABLE
            .iter()
            .flat_map(|e| e.same_as.iter().chain([&e.name]))
            .map(|n| &**n)
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn spelling_of_a_structure_does_not_matter() {
        let smollm = json!({"type": "Sequence", "pretokenizers": [
            {"individual_digits": true, "type": "Digits"},
            {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": false}]}
        ]});
        let empty = json!({"type": "Sequence", "normalizers": []});
        assert_eq!(by_structure(&empty, &smollm, false).unwrap().name, "smollm");
        let line_break = json!({"type": "Split", "pattern": {"Regex": "[\r\n]+"}});
        let escaped = json!({"type": "Split", "pattern": {"Regex": "[\\r\\n]+"}});
        assert_eq!(canonical(&line_break), canonical(&escaped));
    }

    #[test]
    fn an_unknown_structure_names_the_way_out() {
        let lower = json!({"type": "Lowercase"});
        let known = &by_name("gpt-2").unwrap().pre_tokenizer;
        for (normalizer, pre) in [
            (&Value::Null, &json!({"type": "Whitespace"})),
            (&lower, known),
        ] {
            let message = by_structure(normalizer, pre, false)
                .unwrap_err()
                .to_string();
            assert!(
                message.contains("llama-bpe") && message.contains("--tokenizer-pre"),
                "{message}"
            );
        }
    }
}
