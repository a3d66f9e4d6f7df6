//! A SentencePiece vocabulary out of a Hugging Face folder: the pieces of its model file, or of
//! tokenizer.json where that is missing, and what was added after training.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::hf::{
    ADDED_SCORE, Added, added_form, all_added, config_count, fillers, row_count, slot,
};
use super::hf_json::{TokenizerFile, Vocab};
use super::settings::{Settings, object_file};
use super::{Error, Model, Token, TokenKind, Vocabulary, merges, sentencepiece};

/// The score of a filler in a SentencePiece vocabulary.
const PADDING_SCORE: f32 = -10000.0;

/// The pieces of tokenizer.model, overlaid with what the folder's other files add.
pub(super) fn from_model(
    dir: &Path,
    model: sentencepiece::Model,
    json: Option<TokenizerFile>,
    mut settings: Settings,
    config: &Map<String, Value>,
) -> Result<Vocabulary, Error> {
    let pieces = model.tokens.len();
    let last = u32::try_from(pieces.saturating_sub(1)).ok();
    let count = match config_count(dir, config)? {
        Some(count) => count,
        None => row_count(dir, config, last)?,
    };
    let mut tokens = fillers(dir, count, pieces, PADDING_SCORE)?;
    for (place, piece) in tokens.iter_mut().zip(model.tokens) {
        *place = piece;
    }
    // Ids beyond the embedding are ignored here, as everywhere in this format's history: added
    // tokens that no row exists for cannot be produced.
    let legacy = object_file(&dir.join("added_tokens.json"))?.unwrap_or_default();
    for (text, id) in &legacy {
        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
        if let Some(place) = id.and_then(|id| tokens.get_mut(id)) {
            let kind = TokenKind::UserDefined;
            *place = Token {
                text: text.clone(),
                kind,
                score: ADDED_SCORE,
            };
        }
    }
    let overlay = json
        .map(|file| new_to(&tokens, &settings, file))
        .unwrap_or_default();
    for (id, text, special) in settings.added_tokens.drain(..).chain(overlay) {
        if let Some(place) = tokens.get_mut(id as usize) {
            let (text, kind) = added_form(text, special);
            *place = Token {
                text,
                kind,
                score: ADDED_SCORE,
            };
        }
    }
    if !model.add_dummy_prefix {
        settings.add_prefix_space.get_or_insert(false);
    }
    Ok(Vocabulary::assemble(tokens, Model::SentencePiece, settings))
}

/// The added tokens that only tokenizer.json knows: not listed in the settings, and not the
/// piece that already has the id.
fn new_to(tokens: &[Token], settings: &Settings, file: TokenizerFile) -> Vec<Added> {
    let listed: HashSet<u32> = settings.added_tokens.iter().map(|(id, ..)| *id).collect();
    let is_new = |(id, text, _): &Added| {
        !listed.contains(id)
            && tokens
                .get(*id as usize)
                .is_some_and(|token| token.text != *text)
    };
    file.added().filter(is_new).collect()
}

/// A SentencePiece vocabulary whose model file is missing: scores follow from the merges' order.
pub(super) fn from_json(
    dir: &Path,
    file: TokenizerFile,
    mut settings: Settings,
    config: &Map<String, Value>,
) -> Result<Vocabulary, Error> {
    if !file.is_sentencepiece() {
        return Err(Error::Unsupported(format!(
            "{}: a tokenizer of model type {:?} that is neither byte-level BPE nor SentencePiece \
             BPE with byte fallback; GGUF would give its text other ids",
            dir.join("tokenizer.json").display(),
            file.model.kind.as_deref().unwrap_or("(none)"),
        )));
    }
    settings.add_prefix_space = settings.add_prefix_space.or(Some(file.prepends_space()));
    let added = all_added(&file, &settings);
    let unknown = file.model.unk_token.clone();
    let Vocab(listed) = file.model.vocab;
    let ids = listed
        .iter()
        .map(|(_, id)| *id)
        .chain(added.iter().map(|(id, ..)| *id));
    let count = row_count(dir, config, ids.max())?;
    let scores = merges::scores(&file.model.merges.into_pairs());
    let lowest = -(scores.len() as f32);
    let mut tokens = fillers(dir, count, listed.len() + added.len(), PADDING_SCORE)?;
    for (text, id) in listed {
        let kind = if is_byte(&text) {
            TokenKind::Byte
        } else {
            TokenKind::Normal
        };
        let score = match kind {
            TokenKind::Byte => 0.0,
            _ => scores.get(&text).copied().unwrap_or(lowest),
        };
        *slot(dir, &mut tokens, id)? = Token { text, kind, score };
    }
    for (id, text, special) in added {
        let is_unknown = unknown.as_deref() == Some(&*text);
        let (text, kind) = added_form(text, special);
        let (kind, score) = if is_unknown {
            (TokenKind::Unknown, 0.0)
        } else {
            (kind, ADDED_SCORE)
        };
        *slot(dir, &mut tokens, id)? = Token { text, kind, score };
    }
    Ok(Vocabulary::assemble(tokens, Model::SentencePiece, settings))
}

fn is_byte(text: &str) -> bool {
    let digits = text
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && u8::from_str_radix(d, 16).is_ok())
}
