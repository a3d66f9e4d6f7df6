//! Reading Hugging Face's `tokenizer.json`.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Error;
use super::gguf::split_merge;
use super::settings::optional_file;

/// The parts of the file that a vocabulary is made of.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct TokenizerFile {
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub normalizer: Value,
    #[serde(default)]
    pub pre_tokenizer: Value,
    #[serde(default)]
    pub post_processor: Value,
    #[serde(default)]
    pub decoder: Value,
    pub model: ModelPart,
}

/// A token that is matched as a whole.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct AddedToken {
    id: u32,
    pub content: String,
    #[serde(default)]
    pub special: bool,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub normalized: bool,
}

/// The `model` object.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct ModelPart {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    #[serde(default)]
    pub vocab: Vocab,
    #[serde(default)]
    pub merges: Merges,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    pub fuse_unk: Option<bool>,
    pub byte_fallback: Option<bool>,
    pub ignore_merges: Option<bool>,
}

/// Token texts and their ids, in the order of the file. Empty for a Unigram model, whose
/// vocabulary is a list.
#[derive(Debug, Default)]
pub(crate) struct Vocab(pub Vec<(String, u32)>);

/// The merges, whichever way the file spells them.
#[derive(Debug, Default)]
pub(crate) struct Merges(Vec<(String, String)>);

impl TokenizerFile {
    /// Reads the file; `None` if there is none.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        let Some(bytes) = optional_file(path)? else {
            return Ok(None);
        };
        Self::parse(path, &bytes).map(Some)
    }

    /// Reads the bytes of the file, which errors call `path`.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|e| Error::Malformed {
            path: path.to_owned(),
            reason: format!("not a tokenizer.json: {e}"),
        })
    }

    /// Whether this is GPT-2's kind of tokenizer, which spells bytes as letters.
    pub fn is_byte_level(&self) -> bool {
        self.is_bpe()
            && [&self.decoder, &self.pre_tokenizer]
                .into_iter()
                .any(|v| mentions(v, "ByteLevel"))
    }

    /// Whether this is a SentencePiece BPE vocabulary in this file's form.
    pub fn is_sentencepiece(&self) -> bool {
        self.is_bpe() && !self.is_byte_level() && self.model.byte_fallback == Some(true)
    }

    /// Whether text gets a space before it.
    pub fn prepends_space(&self) -> bool {
        let metaspace = find(&self.pre_tokenizer, "Metaspace").is_some_and(|part| {
            part.get("prepend_scheme")
                .is_none_or(|scheme| scheme != "never")
                && part.get("add_prefix_space").is_none_or(|flag| flag == true)
        });
        metaspace || mentions(&self.normalizer, "Prepend")
    }

    /// The id of an added token.
    pub fn added_id(&self, text: &str) -> Option<u32> {
        self.added_tokens
            .iter()
            .find(|token| token.content == text)
            .map(|token| token.id)
    }

    /// The added tokens: id, text, whether marked special.
    pub fn added(&self) -> impl Iterator<Item = (u32, String, bool)> {
        self.added_tokens
            .iter()
            .map(|token| (token.id, token.content.clone(), token.special))
    }

    /// Files from before the field existed hold BPE or WordPiece; only BPE has merges.
    pub fn is_bpe(&self) -> bool {
        match &self.model.kind {
            Some(kind) => kind == "BPE",
            None => !self.model.merges.0.is_empty(),
        }
    }
}

/// The step of the type `kind` in a component, which may be a sequence of steps.
fn find<'v>(component: &'v Value, kind: &str) -> Option<&'v Value> {
    if component["type"] == kind {
        return Some(component);
    }
    let lists = ["pretokenizers", "normalizers", "decoders"];
    let steps = lists
        .iter()
        .find_map(|key| component.get(*key)?.as_array())?;
    steps.iter().find_map(|step| find(step, kind))
}

fn mentions(component: &Value, kind: &str) -> bool {
    find(component, kind).is_some()
}

impl Merges {
    /// The pairs as the file has them.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of token texts to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Vocab(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocab, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocab::default())
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

/// One merge: a pair, or (before transformers 4.45) one string with a space between the parts.
struct Merge(String, String);

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::<Merge>::deserialize(deserializer)?;
        Ok(Self(
            list.into_iter()
                .map(|Merge(left, right)| (left, right))
                .collect(),
        ))
    }
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a merge: [\"left\", \"right\"] or \"left right\"")
            }

            fn visit_str<E: serde::de::Error>(self, line: &str) -> Result<Merge, E> {
                let pair = split_merge(line)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(line), &self))?;
                Ok(Merge(pair.0, pair.1))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
                let part = |part: Option<String>, at| {
                    part.ok_or_else(|| serde::de::Error::invalid_length(at, &self))
                };
                let left = part(seq.next_element()?, 0)?;
                let right = part(seq.next_element()?, 1)?;
                Ok(Merge(left, right))
            }
        }
        deserializer.deserialize_any(Pair)
    }
}
