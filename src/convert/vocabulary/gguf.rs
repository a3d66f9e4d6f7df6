//! A vocabulary as GGUF's `tokenizer.*` keys.

use super::special::{DEPRECATED, ROLES};
use super::{Error, MAX_TOKENS, Model, Token, TokenKind, Vocabulary};
use crate::checkpoint::gguf::{Metadata, Value};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SEP: &str = "tokenizer.ggml.add_sep_token";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
const TEMPLATE: &str = "tokenizer.chat_template";
const TEMPLATE_NAMES: &str = "tokenizer.chat_templates";

impl Vocabulary {
    /// Reads the vocabulary that a GGUF file carries.
    ///
    /// # Errors
    /// A missing or mistyped key, a token text that is not UTF-8, or a kind of tokenizer other
    /// than byte-level BPE (`gpt2`) and SentencePiece BPE (`llama`).
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, Error> {
        let flag = |key: &str| metadata.get(key).and_then(|value| value.as_bool());
        let text = |key: &str| metadata.get_str(key).map(str::to_owned);
        let tokens = read_tokens(metadata)?;
        Ok(Self {
            model: read_model(metadata)?,
            special: read_roles(metadata, tokens.len()),
            tokens,
            add_bos: flag(ADD_BOS),
            add_eos: flag(ADD_EOS),
            add_sep: flag(ADD_SEP),
            add_space_prefix: flag(ADD_SPACE_PREFIX),
            stop: Vec::new(),
            chat_template: text(TEMPLATE),
            named_templates: read_named_templates(metadata),
        })
    }

    /// The `tokenizer.*` keys, with the types and in the order of stock converters.
    pub fn to_gguf(&self) -> Vec<(String, Value<'static>)> {
        let mut keys = Vec::new();
        let mut put = |key: &str, value: Value<'static>| keys.push((key.to_owned(), value));
        let texts: Vec<&str> = self.tokens.iter().map(|token| &*token.text).collect();
        let kinds: Vec<i32> = self.tokens.iter().map(|token| token.kind as i32).collect();
        let (model, pre) = match &self.model {
            Model::Bpe { pre, .. } => ("gpt2", pre.as_str()),
            Model::SentencePiece => ("llama", "default"),
        };
        // Stock converters write this key first where the tokenizer's settings say it, and last
        // where the architecture does, which is only ever to turn SentencePiece's prefix off.
        let prefix = self.add_space_prefix.map(Value::bool);
        let forced = model == "llama" && self.add_space_prefix == Some(false);
        if let Some(value) = prefix.clone().filter(|_| !forced) {
            put(ADD_SPACE_PREFIX, value);
        }
        put(MODEL, Value::str(model));
        put(PRE, Value::str(pre));
        put(TOKENS, Value::strs(&texts));
        if self.model == Model::SentencePiece {
            let scores: Vec<f32> = self.tokens.iter().map(|token| token.score).collect();
            put(SCORES, Value::f32s(&scores));
        }
        put(KINDS, Value::i32s(&kinds));
        if let Model::Bpe { merges, .. } = &self.model {
            let lines: Vec<String> = merges.iter().map(|(l, r)| format!("{l} {r}")).collect();
            put(MERGES, Value::strs(&lines));
        }
        for (role, id) in &self.special {
            put(&role.gguf_key(), Value::u32(*id));
        }
        for (key, flag) in [
            (ADD_BOS, self.add_bos),
            (ADD_SEP, self.add_sep),
            (ADD_EOS, self.add_eos),
        ] {
            if let Some(flag) = flag {
                put(key, Value::bool(flag));
            }
        }
        for (name, template) in &self.named_templates {
            put(&template_key(name), Value::str(template));
        }
        if !self.named_templates.is_empty() {
            let names: Vec<String> = self
                .named_templates
                .iter()
                .map(|(name, _)| plain_name(name))
                .collect();
            put(TEMPLATE_NAMES, Value::strs(&names));
        }
        if let Some(template) = &self.chat_template {
            put(TEMPLATE, Value::str(template));
        }
        if let Some(value) = prefix.filter(|_| forced) {
            put(ADD_SPACE_PREFIX, value);
        }
        keys
    }
}

fn read_tokens(metadata: &Metadata) -> Result<Vec<Token>, Error> {
    let texts = require(metadata, TOKENS)?;
    let count = texts.array().map_or(0, |(_, count)| count);
    if count > MAX_TOKENS as u64 {
        return Err(wrong(
            TOKENS,
            format!("{count} tokens; no model has so many"),
        ));
    }
    let texts = texts
        .iter_str()
        .ok_or_else(|| wrong(TOKENS, "not an array of UTF-8 strings"))?;
    let mut tokens: Vec<Token> = texts
        .map(|text| Token {
            text: text.to_owned(),
            kind: TokenKind::Normal,
            score: 0.0,
        })
        .collect();
    if let Some(scores) = metadata.get(SCORES) {
        let scores = scores
            .iter_f64()
            .ok_or_else(|| wrong(SCORES, "not an array of numbers"))?;
        let set = tokens
            .iter_mut()
            .zip(scores)
            .map(|(token, s)| token.score = s as f32)
            .count();
        same_count(SCORES, set, tokens.len())?;
    }
    if let Some(kinds) = metadata.get(KINDS) {
        let kinds = kinds
            .iter_i64()
            .ok_or_else(|| wrong(KINDS, "not an array of integers"))?;
        // A number that means nothing (0 is "undefined") is what llama.cpp also passes over.
        let kinds = kinds.map(|n| TokenKind::from_number(n).unwrap_or(TokenKind::Normal));
        let set = tokens
            .iter_mut()
            .zip(kinds)
            .map(|(token, kind)| token.kind = kind)
            .count();
        same_count(KINDS, set, tokens.len())?;
    }
    Ok(tokens)
}

fn read_model(metadata: &Metadata) -> Result<Model, Error> {
    let model = require(metadata, MODEL)?;
    match model.as_str() {
        Some("llama") => Ok(Model::SentencePiece),
        Some("gpt2") => {
            let pre = require(metadata, PRE)?;
            let pre = pre
                .as_str()
                .ok_or_else(|| wrong(PRE, "not a string"))?
                .to_owned();
            Ok(Model::Bpe {
                pre,
                merges: read_merges(metadata)?,
            })
        }
        other => Err(Error::Unsupported(format!(
            "the file's tokenizer is of the kind {other:?} ({MODEL}); slim reads 'gpt2' \
             (byte-level BPE) and 'llama' (SentencePiece BPE)"
        ))),
    }
}

fn read_merges(metadata: &Metadata) -> Result<Vec<(String, String)>, Error> {
    let lines = require(metadata, MERGES)?;
    let lines = lines
        .iter_str()
        .ok_or_else(|| wrong(MERGES, "not an array of UTF-8 strings"))?;
    lines
        .enumerate()
        .map(|(rank, line)| {
            split_merge(line)
                .ok_or_else(|| wrong(MERGES, format!("entry {rank} ({line:?}) is not a pair")))
        })
        .collect()
}

/// The two parts of a merge line. The first may itself be a space, so the search for the one
/// between them starts at the second character.
pub(crate) fn split_merge(line: &str) -> Option<(String, String)> {
    let start = line.chars().next()?.len_utf8();
    let (left, right) = line.split_at(start + line.get(start..)?.find(' ')?);
    Some((left.to_owned(), right.get(1..)?.to_owned()))
}

/// The roles, in the order of the table. An id that no token has is left out, as llama.cpp
/// leaves it out.
fn read_roles(metadata: &Metadata, tokens: usize) -> Vec<(super::Role, u32)> {
    let mut roles = Vec::new();
    let current = ROLES.iter().map(|(role, key, _)| (*role, *key));
    for (role, key) in current.chain(DEPRECATED) {
        let id = metadata.get_u64(&format!("tokenizer.ggml.{key}"));
        let id = id
            .filter(|id| *id < tokens as u64)
            .and_then(|id| u32::try_from(id).ok());
        if let Some(id) = id.filter(|_| !roles.iter().any(|(known, _)| *known == role)) {
            roles.push((role, id));
        }
    }
    roles
}

fn read_named_templates(metadata: &Metadata) -> Vec<(String, String)> {
    let Some(names) = metadata.get(TEMPLATE_NAMES) else {
        return Vec::new();
    };
    let read = |name: &str| {
        Some((
            name.to_owned(),
            metadata.get_str(&template_key(name))?.to_owned(),
        ))
    };
    names
        .iter_str()
        .map(|names| names.filter_map(read).collect())
        .unwrap_or_default()
}

fn template_key(name: &str) -> String {
    format!("{TEMPLATE}.{}", plain_name(name))
}

/// A template's name as a key may carry it: ASCII letters, digits and underscores.
fn plain_name(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

fn require<'m>(metadata: &'m Metadata, key: &str) -> Result<Value<'m>, Error> {
    metadata
        .get(key)
        .ok_or_else(|| wrong(key, "missing; the file carries no usable vocabulary"))
}

fn same_count(key: &str, found: usize, tokens: usize) -> Result<(), Error> {
    if found == tokens {
        return Ok(());
    }
    Err(wrong(key, format!("{found} entries for {tokens} tokens")))
}

fn wrong(key: &str, reason: impl Into<String>) -> Error {
    Error::Key {
        key: key.to_owned(),
        reason: reason.into(),
    }
}
