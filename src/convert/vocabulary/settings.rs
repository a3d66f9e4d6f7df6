//! The small files beside a tokenizer: which token plays which role, and what is added around
//! a text. The order of precedence is that of stock GGUF converters.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::post_processor::Template;
use super::special::ROLES;
use super::{Error, Role, Vocabulary, chat_template, tokenizer_json};

pub(crate) type Object = Map<String, Value>;

/// What the settings files say, apart from the tokens themselves.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub special: Vec<(Role, u32)>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub add_sep: Option<bool>,
    pub add_prefix_space: Option<bool>,
    pub stop: Vec<u32>,
    pub chat_template: Option<String>,
    pub named_templates: Vec<(String, String)>,
    /// `added_tokens_decoder` of tokenizer_config.json: (id, text, special).
    pub added_tokens: Vec<(u32, String, bool)>,
}

/// Reads the settings of the folder `dir`, whose parsed config.json is `config`.
///
/// `id_of` finds the id of a token by its text among the added tokens; `post_processor` is that
/// of tokenizer.json, or null.
pub(crate) fn read(
    dir: &Path,
    config: &Object,
    post_processor: &Value,
    id_of: impl Fn(&str) -> Option<u32>,
) -> Result<Settings, Error> {
    let object = |name| Ok::<_, Error>(object_file(&dir.join(name))?.unwrap_or_default());
    let mut named = object("special_tokens_map.json")?;
    let tokenizer_config = object("tokenizer_config.json")?;
    named.extend(tokenizer_config.clone());
    let mut settings = Settings::default();
    Template::of(post_processor).apply(&mut named, &mut settings);

    for (role, _, stem) in ROLES {
        let text = named.get(&format!("{stem}_token")).and_then(token_text);
        if let Some(id) = text.and_then(&id_of) {
            settings.special.push((role, id));
        }
    }
    for (role, _, stem) in ROLES {
        let known = settings.special.iter().any(|(r, _)| *r == role);
        let id = in_config(config, &format!("{stem}_token_id")).and_then(id_value);
        settings
            .special
            .extend(id.filter(|_| !known).map(|id| (role, id)));
    }
    let flag = |key: &str| tokenizer_config.get(key).and_then(Value::as_bool);
    settings.add_bos = flag("add_bos_token").or(settings.add_bos);
    settings.add_eos = flag("add_eos_token").or(settings.add_eos);
    settings.add_sep = flag("add_sep_token").or(settings.add_sep);
    settings.add_prefix_space = flag("add_prefix_space");
    settings.stop = stop_ids(&object("generation_config.json")?, config);
    settings.added_tokens = added_tokens(&tokenizer_config);
    chat_template::read(dir, &tokenizer_config, &mut settings)?;
    Ok(settings)
}

/// A JSON object from a file; `None` if there is no such file.
pub(crate) fn object_file(path: &Path) -> Result<Option<Object>, Error> {
    let Some(text) = optional_file(path)? else {
        return Ok(None);
    };
    let malformed = |e: serde_json::Error| Error::Malformed {
        path: path.to_owned(),
        reason: format!("expected a JSON object: {e}"),
    };
    serde_json::from_slice(&text).map(Some).map_err(malformed)
}

/// The largest tokenizer files that are published have 35 MB.
const MAX_FILE: u64 = 256 << 20;

/// The bytes of a file; `None` if there is no such file.
pub(crate) fn optional_file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let read = fs::metadata(path).and_then(|about| match about.len() {
        _ if !about.is_file() => Err(io::Error::other("is no regular file")),
        0..=MAX_FILE => fs::read(path),
        len => Err(io::Error::other(format!(
            "is of {len} bytes; {MAX_FILE} is the most"
        ))),
    });
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A field of config.json, or of the text model's part of it in a multimodal checkpoint.
pub(crate) fn in_config<'a>(config: &'a Object, key: &str) -> Option<&'a Value> {
    let nested = || config.get("text_config").and_then(|text| text.get(key));
    config
        .get(key)
        .filter(|value| !value.is_null())
        .or_else(nested)
}

/// A token as settings files write it: its text, or an object with the text as `content`.
pub(crate) fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn id_value(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// Every id under `eos_token_id` of generation_config.json and config.json: a number or a list.
fn stop_ids(generation: &Object, config: &Object) -> Vec<u32> {
    let mut ids = Vec::new();
    let places = [
        generation.get("eos_token_id"),
        in_config(config, "eos_token_id"),
    ];
    for place in places.into_iter().flatten() {
        let list = place
            .as_array()
            .map_or(std::slice::from_ref(place), Vec::as_slice);
        ids.extend(list.iter().filter_map(id_value));
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn added_tokens(tokenizer_config: &Object) -> Vec<(u32, String, bool)> {
    let listed = tokenizer_config
        .get("added_tokens_decoder")
        .and_then(Value::as_object);
    let read = |(id, token): (&String, &Value)| {
        let special = token
            .get("special")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        Some((id.parse().ok()?, token_text(token)?.to_owned(), special))
    };
    listed.into_iter().flatten().filter_map(read).collect()
}

/// `tokenizer_config.json` and `special_tokens_map.json` of a vocabulary.
pub(crate) fn write(vocabulary: &Vocabulary) -> (Object, Object) {
    let mut roles = Object::new();
    for (role, id) in &vocabulary.special {
        if let Some(token) = vocabulary.tokens.get(*id as usize) {
            roles.insert(format!("{}_token", role.stem()), json!(token.text));
        }
    }
    let mut config = Object::new();
    let flags = [
        ("add_bos_token", vocabulary.add_bos),
        ("add_eos_token", vocabulary.add_eos),
        ("add_sep_token", vocabulary.add_sep),
        ("add_prefix_space", vocabulary.add_space_prefix),
    ];
    let stated = flags
        .into_iter()
        .filter_map(|(key, flag)| Some((key.to_owned(), json!(flag?))));
    config.extend(stated);
    config.insert(
        "added_tokens_decoder".to_owned(),
        added_tokens_decoder(vocabulary),
    );
    config.extend(roles.clone());
    if let Some(template) = chat_template::write(vocabulary) {
        config.insert("chat_template".to_owned(), template);
    }
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    // The one class that runs tokenizer.json as it stands; the model-specific ones rebuild it.
    config.insert(
        "tokenizer_class".to_owned(),
        json!("PreTrainedTokenizerFast"),
    );
    (config, roles)
}

/// The added tokens by id. From a SentencePiece vocabulary only those that were added after its
/// training, told by their score: to list a piece here makes converters overwrite its own score.
fn added_tokens_decoder(vocabulary: &Vocabulary) -> Value {
    let byte_level = vocabulary.model != super::Model::SentencePiece;
    let listed = tokenizer_json::added_tokens(vocabulary).filter(|added| {
        let token = vocabulary.tokens.get(added.id as usize);
        byte_level || token.is_some_and(|token| token.score == super::hf::ADDED_SCORE)
    });
    let entries = listed.map(|added| {
        let flags = json!({
            "content": added.content, "lstrip": added.lstrip, "normalized": added.normalized,
            "rstrip": added.rstrip, "single_word": added.single_word, "special": added.special,
        });
        (added.id.to_string(), flags)
    });
    Value::Object(entries.collect())
}
