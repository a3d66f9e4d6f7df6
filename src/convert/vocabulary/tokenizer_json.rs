//! Writing Hugging Face's `tokenizer.json`, the form in which every vocabulary is run.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Value, json};

use super::{
    Error, Model, Role, SPACE, Token, TokenKind, Vocabulary, merges, post_processor, pretokenizer,
};

/// The file's top level, in the order in which the tokenizers library writes it.
#[derive(serde::Serialize)]
struct TokenizerJson<'a> {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<AddedToken<'a>>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: BpeModel<'a>,
}

/// A token that is matched as a whole in the raw text.
#[derive(serde::Serialize)]
pub(crate) struct AddedToken<'a> {
    pub id: u32,
    pub content: &'a str,
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub normalized: bool,
    pub special: bool,
}

#[derive(serde::Serialize)]
struct BpeModel<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    dropout: Option<f32>,
    unk_token: Option<&'a str>,
    continuing_subword_prefix: Option<&'a str>,
    end_of_word_suffix: Option<&'a str>,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: VocabMap<'a>,
    merges: MergeList<'a>,
}

/// Text → id, in the order of the ids. The fillers of an unused tail are no tokens.
///
/// Added tokens are entries too: the library gives an added token that the model does not know
/// the next free id, whatever id the file states.
struct VocabMap<'a>(&'a [Token]);

/// The merges as pairs, borrowed from wherever they are.
enum MergeList<'a> {
    Stored(&'a [(String, String)]),
    Derived(Vec<(&'a str, &'a str)>),
}

impl Serialize for VocabMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let real = self
            .0
            .iter()
            .enumerate()
            .filter(|(id, token)| !token.is_padding(*id));
        for (id, token) in real {
            map.serialize_entry(&token.text, &id)?;
        }
        map.end()
    }
}

impl Serialize for MergeList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        match self {
            Self::Stored(pairs) => pairs.iter().try_for_each(|p| list.serialize_element(p))?,
            Self::Derived(pairs) => pairs.iter().try_for_each(|p| list.serialize_element(p))?,
        }
        list.end()
    }
}

/// The bytes of `tokenizer.json`.
///
/// # Errors
/// A byte-level vocabulary whose `pre` is not in the table of splitting rules.
pub(crate) fn write(vocabulary: &Vocabulary) -> Result<Vec<u8>, Error> {
    let (normalizer, pre_tokenizer, decoder, model) = match &vocabulary.model {
        Model::Bpe { pre, merges } => byte_level(vocabulary, pre, merges)?,
        Model::SentencePiece => sentencepiece(vocabulary),
    };
    let json = TokenizerJson {
        version: "1.0",
        truncation: None,
        padding: None,
        added_tokens: added_tokens(vocabulary).collect(),
        normalizer,
        pre_tokenizer,
        post_processor: post_processor::write(vocabulary),
        decoder,
        model,
    };
    serde_json::to_vec(&json).map_err(|e| Error::Inconsistent(format!("tokenizer.json: {e}")))
}

/// The tokens that are matched as wholes, in the order of their ids.
pub(crate) fn added_tokens(vocabulary: &Vocabulary) -> impl Iterator<Item = AddedToken<'_>> {
    let whole = vocabulary
        .tokens
        .iter()
        .enumerate()
        .filter(|(_, t)| t.kind.is_matched_whole());
    whole.map(|(id, token)| AddedToken {
        id: id as u32,
        content: &token.text,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: token.kind != TokenKind::UserDefined,
    })
}

type Parts<'a> = (Value, Value, Value, BpeModel<'a>);

fn byte_level<'a>(
    vocabulary: &'a Vocabulary,
    pre: &str,
    merges: &'a [(String, String)],
) -> Result<Parts<'a>, Error> {
    let rule = pretokenizer::require(pre)?;
    let decoder = json!({
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true
    });
    let model = BpeModel {
        kind: "BPE",
        dropout: None,
        unk_token: None,
        continuing_subword_prefix: None,
        end_of_word_suffix: None,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: rule.ignore_merges,
        vocab: VocabMap(&vocabulary.tokens),
        merges: MergeList::Stored(merges),
    };
    Ok((
        rule.normalizer.clone(),
        rule.pre_tokenizer.clone(),
        decoder,
        model,
    ))
}

/// Spaces become `▁` and the whole text is merged at once: SentencePiece BPE knows no words.
fn sentencepiece(vocabulary: &Vocabulary) -> Parts<'_> {
    let mark = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let unmark = json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "});
    let (bytes, fuse) = (json!({"type": "ByteFallback"}), json!({"type": "Fuse"}));
    let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    let prepend = json!({"type": "Prepend", "prepend": SPACE});
    let (normalizer, decoders) = match vocabulary.adds_space_prefix() {
        true => (
            json!({"type": "Sequence", "normalizers": [prepend, mark]}),
            json!([unmark, bytes, fuse, strip]),
        ),
        false => (mark, json!([unmark, bytes, fuse])),
    };
    let by_kind = vocabulary
        .tokens
        .iter()
        .find(|token| token.kind == TokenKind::Unknown);
    let unknown = by_kind.or_else(|| vocabulary.tokens.get(vocabulary.role(Role::Unk)? as usize));
    let model = BpeModel {
        kind: "BPE",
        dropout: None,
        unk_token: unknown.map(|token| &*token.text),
        continuing_subword_prefix: None,
        end_of_word_suffix: None,
        fuse_unk: true,
        byte_fallback: vocabulary.has_byte_tokens(),
        ignore_merges: false,
        vocab: VocabMap(&vocabulary.tokens),
        merges: MergeList::Derived(merges::from_pieces(&vocabulary.tokens)),
    };
    (
        normalizer,
        Value::Null,
        json!({"type": "Sequence", "decoders": decoders}),
        model,
    )
}
