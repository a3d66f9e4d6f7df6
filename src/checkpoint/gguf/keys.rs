//! Names of the metadata keys that slim itself reads or writes. Keys of one architecture carry its
//! name as a prefix: see [`of`].

/// The architecture's name, the prefix of its keys.
pub const ARCHITECTURE: &str = "general.architecture";
/// Alignment of the tensors' places, u32, a power of two.
pub const ALIGNMENT: &str = "general.alignment";
/// The model's name for people.
pub const NAME: &str = "general.name";
/// The parameter count for people, `135M`.
pub const SIZE_LABEL: &str = "general.size_label";
/// The type of most tensors, by llama.cpp's `LLAMA_FTYPE` numbers.
pub const FILE_TYPE: &str = "general.file_type";
/// Version of the quantisation formats.
pub const QUANTIZATION_VERSION: &str = "general.quantization_version";

/// Which part of a split checkpoint this file is, counted from 0.
pub const SPLIT_NO: &str = "split.no";
/// How many parts a split checkpoint has.
pub const SPLIT_COUNT: &str = "split.count";
/// Tensors in all parts of a split checkpoint.
pub const SPLIT_TENSORS_COUNT: &str = "split.tensors.count";

/// Which algorithm the vocabulary belongs to: `gpt2`, `llama`, …
pub const TOKENIZER_MODEL: &str = "tokenizer.ggml.model";
/// Which pre-tokenizer.
pub const TOKENIZER_PRE: &str = "tokenizer.ggml.pre";
/// The vocabulary, an array of strings.
pub const TOKENIZER_TOKENS: &str = "tokenizer.ggml.tokens";
/// A score for every token, f32.
pub const TOKENIZER_SCORES: &str = "tokenizer.ggml.scores";
/// A kind for every token, i32.
pub const TOKENIZER_TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
/// The merges of a BPE vocabulary, an array of strings.
pub const TOKENIZER_MERGES: &str = "tokenizer.ggml.merges";
/// The chat template.
pub const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// Layers, a suffix for [`of`].
pub const BLOCK_COUNT: &str = "block_count";

/// The key of one architecture: `of("llama", BLOCK_COUNT)` is `llama.block_count`.
pub fn of(arch: &str, suffix: &str) -> String {
    format!("{arch}.{suffix}")
}
