//! A sheet's file: JSON in, a checked sheet out.

use super::{Sheet, SheetItem, check};
use crate::suite::load::invalid;
use crate::suite::{Error, Family, Protocol};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

/// The file as written. SheetItems stay JSON until each is read alone, so that an error can name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema_version: u32,
    task: String,
    family: Family,
    #[serde(default)]
    about: String,
    protocols: Vec<Protocol>,
    #[serde(default = "default_stop")]
    stop: Vec<String>,
    #[serde(default = "default_max_new_tokens")]
    max_new_tokens: usize,
    #[serde(default)]
    shots: Vec<Value>,
    items: Vec<Value>,
}

fn default_stop() -> Vec<String> {
    vec!["\n".to_owned()]
}

fn default_max_new_tokens() -> usize {
    12
}

impl Sheet {
    /// Reads one sheet's bytes; `path` is for the errors.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn read(path: &Path, bytes: &[u8]) -> Result<Sheet, Error> {
        let file: File = serde_json::from_slice(bytes).map_err(|source| Error::Json {
            path: path.to_owned(),
            source,
        })?;
        let sheet = Sheet {
            schema_version: file.schema_version,
            task: file.task,
            family: file.family,
            about: file.about,
            protocols: file.protocols,
            stop: file.stop,
            max_new_tokens: file.max_new_tokens,
            shots: items(path, "shot", file.shots)?,
            items: items(path, "item", file.items)?,
        };
        check::task(&sheet).map_err(|(field, problem)| invalid(path, &field, problem))?;
        Ok(sheet)
    }
}

/// Reads and checks items; `kind` is "item" or "shot", and only items need an id.
fn items(path: &Path, kind: &str, values: Vec<Value>) -> Result<Vec<SheetItem>, Error> {
    let mut ids = HashSet::new();
    let mut items = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let id = value
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let place = match id.as_str() {
            "" => format!("{kind} {index}"),
            id => format!("{kind} {id:?}"),
        };
        let item: SheetItem = serde_json::from_value(value.clone()).map_err(|error| {
            invalid(
                path,
                &format!("{place}{}", faulty_field(&value)),
                format!("{error}; see docs/suite.md"),
            )
        })?;
        check::item(&item).map_err(|(field, problem)| {
            invalid(path, &format!("{place}, field \"{field}\""), problem)
        })?;
        let problem = match (kind, id.is_empty()) {
            ("item", true) => Some("is missing: give every item an id of its own"),
            _ if !id.is_empty() && !ids.insert(id) => {
                Some("is used twice: give every item an id of its own")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(invalid(
                path,
                &format!("{place}, field \"id\""),
                problem.to_owned(),
            ));
        }
        items.push(item);
    }
    Ok(items)
}

/// Which field of an unreadable item is at fault: the one that cannot be read alone either, since
/// none is required by itself. serde's own message names neither field nor number.
fn faulty_field(item: &Value) -> String {
    let alone = |(key, value): (&String, &Value)| {
        serde_json::from_value::<SheetItem>(serde_json::json!({ key: value })).is_err()
    };
    match item
        .as_object()
        .and_then(|fields| fields.iter().find(|field| alone(*field)))
    {
        Some((key, value)) => {
            let shown: String = value.to_string().chars().take(60).collect();
            format!(", field {key:?} = {shown}")
        }
        None => String::new(),
    }
}
