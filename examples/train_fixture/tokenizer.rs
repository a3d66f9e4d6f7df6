//! A byte-level BPE tokenizer in GPT-2's style, trained on the village's own text.

use anyhow::{Result, anyhow};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder, TokenizerImpl};

use crate::text::Document;

/// The text that separates documents; it is also the beginning, the end and the unknown token.
pub const END_OF_TEXT: &str = "<|endoftext|>";
pub const END_OF_TEXT_ID: u32 = 0;
const VOCAB_SIZE: usize = 768;

pub struct Tokenizer(TokenizerImpl<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>);

impl Tokenizer {
    /// Learns the merges. The sample has no numbers of several digits, so digits stay single.
    pub fn train(sample: impl Iterator<Item = String> + Send) -> Result<Self> {
        let byte_level = ByteLevel::new(false, false, true);
        let mut trainer = BpeTrainer::builder()
            .vocab_size(VOCAB_SIZE)
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .show_progress(false)
            .build();
        let mut tokenizer = TokenizerBuilder::new()
            .with_model(BPE::default())
            .with_normalizer(None)
            .with_pre_tokenizer(Some(byte_level))
            .with_post_processor(Some(byte_level))
            .with_decoder(Some(byte_level))
            .build()
            .map_err(|error| anyhow!("cannot assemble the tokenizer: {error}"))?;
        tokenizer
            .train(&mut trainer, sample)
            .map_err(|error| anyhow!("cannot train the tokenizer: {error}"))?;
        Ok(Self(tokenizer))
    }

    pub fn vocab_size(&self) -> usize {
        self.0.get_vocab_size(true)
    }

    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .0
            .encode(text, false)
            .map_err(|error| anyhow!("cannot encode {text:?}: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The document's tokens, each with whether it is part of an answer.
    pub fn encode_document(&self, document: &Document) -> Result<Vec<(u32, bool)>> {
        let encoding = self
            .0
            .encode(document.text.as_str(), false)
            .map_err(|error| anyhow!("cannot encode a document: {error}"))?;
        let within = |start: usize| {
            document
                .answers
                .iter()
                .any(|answer| answer.contains(&start))
        };
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(tokens
            .map(|(id, (start, _))| (*id, within(*start)))
            .collect())
    }

    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.0
            .decode(ids, true)
            .map_err(|error| anyhow!("cannot decode {ids:?}: {error}"))
    }

    pub fn to_json(&self) -> Result<String> {
        self.0
            .to_string(false)
            .map_err(|error| anyhow!("cannot write the tokenizer: {error}"))
    }
}
