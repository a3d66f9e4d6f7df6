//! What no tokenizer file says, but the model line has settled.

use super::{Model, Vocabulary};

/// Model types whose texts never get a space prefix, whatever the SentencePiece file says.
const NO_SPACE_PREFIX: [&str; 7] = [
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gemma3n",
    "gemma3n_text",
    "t5gemma",
];

/// Model types of the llama line, to which the next rules apply.
const LLAMA_LINE: [&str; 6] = [
    "llama",
    "mistral",
    "mixtral",
    "smollm3",
    "granite",
    "granitemoe",
];

/// The vocabulary of 49,152 tokens that granite code and SmolLM share was trained without a
/// beginning-of-sequence token.
const TRAINED_WITHOUT_BOS: usize = 49_152;

/// Applies the rules of `model_type` (config.json) to a vocabulary read from Hugging Face files.
pub(crate) fn apply(vocabulary: &mut Vocabulary, model_type: &str) {
    if NO_SPACE_PREFIX.contains(&model_type) {
        vocabulary.add_space_prefix = Some(false);
    }
    // Only there does a byte-level vocabulary say what it never does anyway.
    if !LLAMA_LINE.contains(&model_type) && matches!(vocabulary.model, Model::Bpe { .. }) {
        vocabulary.add_space_prefix = None;
    }
    if LLAMA_LINE.contains(&model_type) && vocabulary.tokens.len() == TRAINED_WITHOUT_BOS {
        vocabulary.add_bos = Some(false);
    }
}
