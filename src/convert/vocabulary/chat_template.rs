//! Chat templates: one as a string, or several in a list by name.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::settings::{Object, Settings, object_file, optional_file};
use super::{Error, Vocabulary};

/// Reads the templates into `settings`, from the parsed tokenizer_config.json or else from the
/// files that newer and older versions of transformers write beside it.
pub(crate) fn read(dir: &Path, config: &Object, settings: &mut Settings) -> Result<(), Error> {
    for (name, text) in list(dir, config)? {
        match name.as_str() {
            "default" => settings.chat_template = Some(text),
            _ => settings.named_templates.push((name, text)),
        }
    }
    Ok(())
}

/// The templates by name; one without a name is `default`.
pub(crate) fn list(dir: &Path, config: &Object) -> Result<Vec<(String, String)>, Error> {
    let template = match config.get("chat_template") {
        Some(template) => Some(template.clone()),
        None => template_file(dir)?,
    };
    Ok(match template {
        Some(Value::String(text)) => vec![("default".to_owned(), text)],
        Some(Value::Array(list)) => {
            let field = |entry: &Value, key: &str| Some(entry.get(key)?.as_str()?.to_owned());
            let named = |entry| Some((field(entry, "name")?, field(entry, "template")?));
            list.iter().filter_map(named).collect()
        }
        _ => Vec::new(),
    })
}

/// `chat_template.jinja` with its companions in `additional_chat_templates/`, else the field of
/// `chat_template.json`.
fn template_file(dir: &Path) -> Result<Option<Value>, Error> {
    let Some(default) = text_file(&dir.join("chat_template.jinja"))? else {
        let object = object_file(&dir.join("chat_template.json"))?;
        return Ok(object.and_then(|mut object| object.remove("chat_template")));
    };
    let mut list = vec![json!({"name": "default", "template": default})];
    let mut paths: Vec<_> = fs::read_dir(dir.join("additional_chat_templates"))
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect()
        })
        .unwrap_or_default();
    paths.sort();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "jinja"))
    {
        let name = path.file_stem().and_then(|name| name.to_str());
        if let (Some(name), Some(text)) = (name, text_file(path)?) {
            list.push(json!({"name": name, "template": text}));
        }
    }
    Ok(Some(Value::Array(list)))
}

fn text_file(path: &Path) -> Result<Option<String>, Error> {
    let Some(bytes) = optional_file(path)? else {
        return Ok(None);
    };
    let reason = |_| Error::Malformed {
        path: path.to_owned(),
        reason: "not UTF-8".to_owned(),
    };
    String::from_utf8(bytes).map(Some).map_err(reason)
}

/// The `chat_template` field of a vocabulary's tokenizer_config.json.
pub(crate) fn write(vocabulary: &Vocabulary) -> Option<Value> {
    let default = vocabulary.chat_template.as_ref();
    if vocabulary.named_templates.is_empty() {
        return default.map(|text| json!(text));
    }
    let entry = |name: &str, text: &str| json!({"name": name, "template": text});
    let default = default.map(|text| entry("default", text));
    let named = vocabulary
        .named_templates
        .iter()
        .map(|(name, text)| entry(name, text));
    Some(Value::Array(default.into_iter().chain(named).collect()))
}
