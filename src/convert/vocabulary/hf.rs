//! A vocabulary as the tokenizer files of a Hugging Face folder.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::hf_json::{TokenizerFile, Vocab};
use super::settings::{self, Settings, in_config, optional_file};
use super::special::looks_special;
use super::{
    Error, MAX_TOKENS, Model, SPACE, Token, TokenKind, Vocabulary, hf_pieces, pretokenizer, quirks,
    sentencepiece, tokenizer_json,
};

/// The score that stock converters give a token which SentencePiece was not trained with.
pub(crate) const ADDED_SCORE: f32 = -1000.0;

/// One token added after training: its id, its text, and whether it is marked special.
pub(super) type Added = (u32, String, bool);

impl Vocabulary {
    /// Reads the vocabulary of the Hugging Face folder `dir`, whose parsed config.json is
    /// `config` (its `vocab_size` says how many rows the embedding has).
    ///
    /// A byte-level `tokenizer.json` is read as it stands. A SentencePiece vocabulary is read
    /// from `tokenizer.model`, which has the true scores, and from `tokenizer.json` only where
    /// the model file is absent. `pre_override` names the splitting rule instead of recognising
    /// it; it is taken as it is, for llama.cpp may know names that slim does not.
    ///
    /// # Errors
    /// A missing, damaged or contradictory file, a tokenizer whose ids GGUF cannot reproduce,
    /// or a splitting rule that has no name in the table and none in `pre_override`.
    pub fn from_hf(
        dir: &Path,
        config: &Map<String, Value>,
        pre_override: Option<&str>,
    ) -> Result<Self, Error> {
        let json = TokenizerFile::open(&dir.join("tokenizer.json"))?;
        let model_path = dir.join("tokenizer.model");
        let null = Value::Null;
        let post_processor = json.as_ref().map_or(&null, |file| &file.post_processor);
        let settings = settings::read(dir, config, post_processor, |text| {
            json.as_ref().and_then(|file| file.added_id(text))
        })?;
        let mut vocabulary = match json {
            Some(file) if file.is_byte_level() => {
                byte_level(dir, file, settings, config, pre_override)?
            }
            json => match optional_file(&model_path)? {
                Some(bytes) => {
                    let model = sentencepiece::read(&model_path, &bytes)?;
                    hf_pieces::from_model(dir, model, json, settings, config)?
                }
                None => match json {
                    Some(file) => hf_pieces::from_json(dir, file, settings, config)?,
                    None => return Err(Error::NoTokenizer(dir.to_owned())),
                },
            },
        };
        let count = vocabulary.tokens.len();
        vocabulary.special.retain(|(_, id)| (*id as usize) < count);
        vocabulary.stop.retain(|id| (*id as usize) < count);
        let model_type = config
            .get("model_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        quirks::apply(&mut vocabulary, model_type);
        Ok(vocabulary)
    }

    /// The tokenizer files of a Hugging Face folder, by name: `tokenizer.json`,
    /// `tokenizer_config.json` (with the chat template), `special_tokens_map.json`, and
    /// `tokenizer.model` for a SentencePiece vocabulary.
    ///
    /// # Errors
    /// A byte-level vocabulary whose `pre` is not in the table of splitting rules.
    pub fn to_hf(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let (config, roles) = settings::write(self);
        let pretty = |object: Map<String, Value>| {
            serde_json::to_vec_pretty(&object).map_err(|e| Error::Inconsistent(e.to_string()))
        };
        let mut files = vec![
            ("tokenizer.json".to_owned(), tokenizer_json::write(self)?),
            ("tokenizer_config.json".to_owned(), pretty(config)?),
            ("special_tokens_map.json".to_owned(), pretty(roles)?),
        ];
        if self.model == Model::SentencePiece {
            files.push(("tokenizer.model".to_owned(), sentencepiece::write(self)));
        }
        Ok(files)
    }

    pub(super) fn assemble(tokens: Vec<Token>, model: Model, settings: Settings) -> Self {
        Self {
            tokens,
            model,
            special: settings.special,
            add_bos: settings.add_bos,
            add_eos: settings.add_eos,
            add_sep: settings.add_sep,
            add_space_prefix: settings.add_prefix_space,
            stop: settings.stop,
            chat_template: settings.chat_template,
            named_templates: settings.named_templates,
        }
    }
}

fn byte_level(
    dir: &Path,
    file: TokenizerFile,
    settings: Settings,
    config: &Map<String, Value>,
    pre_override: Option<&str>,
) -> Result<Vocabulary, Error> {
    let pre = match pre_override {
        Some(name) => name.to_owned(),
        None => {
            let ignore_merges = file.model.ignore_merges.unwrap_or(false);
            let rule =
                pretokenizer::by_structure(&file.normalizer, &file.pre_tokenizer, ignore_merges)?;
            rule.name.clone()
        }
    };
    let added = all_added(&file, &settings);
    let Vocab(listed) = file.model.vocab;
    let ids = listed
        .iter()
        .map(|(_, id)| *id)
        .chain(added.iter().map(|(id, ..)| *id));
    let count = row_count(dir, config, ids.max())?;
    let mut tokens = fillers(dir, count, listed.len() + added.len(), 0.0)?;
    for (text, id) in listed {
        *slot(dir, &mut tokens, id)? = Token {
            text,
            kind: TokenKind::Normal,
            score: 0.0,
        };
    }
    for (id, text, special) in added {
        let (text, kind) = added_form(text, special);
        *slot(dir, &mut tokens, id)? = Token {
            text,
            kind,
            score: 0.0,
        };
    }
    let pairs = file.model.merges.into_pairs().into_iter();
    let merges = pairs
        .map(|(left, right)| (mark_spaces(left), mark_spaces(right)))
        .collect();
    Ok(Vocabulary::assemble(
        tokens,
        Model::Bpe { pre, merges },
        settings,
    ))
}

/// The added tokens of tokenizer.json, then of tokenizer_config.json, which has the last word.
pub(super) fn all_added(file: &TokenizerFile, settings: &Settings) -> Vec<Added> {
    let mut by_id: HashMap<u32, (String, bool)> = file
        .added()
        .map(|(id, text, special)| (id, (text, special)))
        .collect();
    let listed = settings.added_tokens.iter();
    by_id.extend(listed.map(|(id, text, special)| (*id, (text.clone(), *special))));
    by_id
        .into_iter()
        .map(|(id, (text, special))| (id, text, special))
        .collect()
}

/// How an added token is kept: control tokens as they are, others with plain spaces, because
/// both formats look for them in the raw text.
pub(super) fn added_form(text: String, special: bool) -> (String, TokenKind) {
    match special || looks_special(&text) {
        true => (text, TokenKind::Control),
        false => (text.replace(SPACE, " "), TokenKind::UserDefined),
    }
}

/// GGUF puts a space between the parts of a merge, so one inside a part is spelled as
/// byte-level vocabularies spell it.
fn mark_spaces(part: String) -> String {
    if part.contains(' ') {
        part.replace(' ', "\u{120}")
    } else {
        part
    }
}

/// The most ids without a token where there are not many tokens: embeddings are padded to a round
/// number of rows, or leave room for a few thousand tokens.
const MAX_FILLERS: usize = 1 << 16;

/// Places for `count` tokens, of which the files name `named`. The count may be a file's mere
/// claim.
pub(super) fn fillers(
    dir: &Path,
    count: usize,
    named: usize,
    score: f32,
) -> Result<Vec<Token>, Error> {
    if count.saturating_sub(named) > named.max(MAX_FILLERS) {
        return Err(Error::Inconsistent(format!(
            "{}: {count} ids for {named} tokens; the folder mixes files of two models",
            dir.display()
        )));
    }
    Ok((0..count).map(|id| Token::padding(id, score)).collect())
}

/// The number of tokens: config.json's, which must cover the ids, else one past the last id.
pub(super) fn row_count(
    dir: &Path,
    config: &Map<String, Value>,
    last: Option<u32>,
) -> Result<usize, Error> {
    let needed = last.map_or(0, |id| id as usize + 1);
    match config_count(dir, config)? {
        Some(count) if count >= needed => Ok(count),
        Some(count) => Err(Error::Inconsistent(format!(
            "{}: the tokenizer has ids up to {}, but config.json's vocab_size is {count}; the \
             folder mixes files of two models",
            dir.display(),
            needed.saturating_sub(1),
        ))),
        None if needed <= MAX_TOKENS => Ok(needed),
        None => Err(too_many(dir, needed as u64)),
    }
}

pub(super) fn config_count(
    dir: &Path,
    config: &Map<String, Value>,
) -> Result<Option<usize>, Error> {
    match in_config(config, "vocab_size").and_then(Value::as_u64) {
        Some(count) if count > MAX_TOKENS as u64 => Err(too_many(dir, count)),
        count => Ok(count.map(|count| count as usize)),
    }
}

fn too_many(dir: &Path, count: u64) -> Error {
    let dir = dir.display();
    Error::Inconsistent(format!(
        "{dir}: {count} tokens; no model has so many, a file is damaged"
    ))
}

pub(super) fn slot<'t>(
    dir: &Path,
    tokens: &'t mut [Token],
    id: u32,
) -> Result<&'t mut Token, Error> {
    let count = tokens.len();
    tokens.get_mut(id as usize).ok_or_else(|| {
        Error::Inconsistent(format!(
            "{}: token id {id} of {count} tokens",
            dir.display()
        ))
    })
}
