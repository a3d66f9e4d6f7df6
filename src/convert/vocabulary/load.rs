//! A `tokenizer.json` as a tokenizer that runs.
//!
//! The tokenizers library reads the same file, but its reader holds the whole model as a tree of
//! JSON values before it looks at it (most of the time that a large vocabulary takes), and a
//! merge longer than any token makes it panic. So byte-pair models are read here, checked, and
//! handed over finished; other kinds, which are small and rare, are left to the library.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Tokenizer,
};

use super::Error;
use super::hf_json::{ModelPart, TokenizerFile};

/// The tokenizer of the bytes of a `tokenizer.json`, which errors call `path`. Cutting and
/// padding, which a file may ask for, are left out: they would change what a model is shown.
///
/// # Errors
/// A file that is not of this form, or merges of tokens that it does not have.
pub(crate) fn tokenizer(path: &Path, bytes: &[u8]) -> Result<Tokenizer, Error> {
    let file = TokenizerFile::parse(path, bytes)?;
    if !file.is_bpe() {
        let mut tokenizer = Tokenizer::from_bytes(bytes)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        return Ok(tokenizer);
    }
    let malformed = |reason: String| Error::Malformed {
        path: path.to_owned(),
        reason,
    };
    let mut tokenizer = Tokenizer::new(model(file.model, malformed)?);
    tokenizer.with_normalizer(part::<NormalizerWrapper>(file.normalizer).map_err(malformed)?)?;
    tokenizer
        .with_pre_tokenizer(part::<PreTokenizerWrapper>(file.pre_tokenizer).map_err(malformed)?);
    tokenizer
        .with_post_processor(part::<PostProcessorWrapper>(file.post_processor).map_err(malformed)?);
    tokenizer.with_decoder(part::<DecoderWrapper>(file.decoder).map_err(malformed)?);
    tokenizer.add_tokens(file.added_tokens.into_iter().map(|token| AddedToken {
        content: token.content,
        single_word: token.single_word,
        lstrip: token.lstrip,
        rstrip: token.rstrip,
        normalized: token.normalized,
        special: token.special,
    }))?;
    Ok(tokenizer)
}

/// The byte-pair model. A merge must make a token that exists: the library writes its text
/// into a buffer of the longest token's size.
fn model(part: ModelPart, malformed: impl Fn(String) -> Error) -> Result<BPE, Error> {
    let vocab: Vocab = part.vocab.0.into_iter().collect();
    let merges = part.merges.into_pairs();
    let longest = vocab.keys().map(String::len).max().unwrap_or(0);
    let prefix = part.continuing_subword_prefix.unwrap_or_default();
    let fits = |left: &str, right: &str| {
        right
            .strip_prefix(&*prefix)
            .is_some_and(|rest| left.len() + rest.len() <= longest)
    };
    if let Some((left, right)) = merges.iter().find(|(left, right)| !fits(left, right)) {
        return Err(malformed(format!(
            "the merge of {left:?} and {right:?} makes no token"
        )));
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .fuse_unk(part.fuse_unk.unwrap_or(false))
        .byte_fallback(part.byte_fallback.unwrap_or(false))
        .ignore_merges(part.ignore_merges.unwrap_or(false));
    if let Some(unknown) = part.unk_token {
        builder = builder.unk_token(unknown);
    }
    if !prefix.is_empty() {
        builder = builder.continuing_subword_prefix(prefix);
    }
    if let Some(suffix) = part.end_of_word_suffix.filter(|suffix| !suffix.is_empty()) {
        builder = builder.end_of_word_suffix(suffix);
    }
    Ok(builder.build()?)
}

/// One component of the pipeline; null where the file has none.
fn part<T: DeserializeOwned>(value: Value) -> Result<Option<T>, String> {
    serde_json::from_value(value).map_err(|e| format!("not a tokenizer.json: {e}"))
}
