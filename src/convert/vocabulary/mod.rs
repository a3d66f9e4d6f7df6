//! The tokens of a model: one neutral [`Vocabulary`], read from and written to both formats,
//! and made runnable.
//!
//! GGUF keeps a vocabulary as flat `tokenizer.*` keys, Hugging Face as a `tokenizer.json`
//! (or a SentencePiece `tokenizer.model`) with settings spread over four more files. Both are
//! read into the same structure, so every direction is one reader and one writer:
//!
//! ```text
//!   GGUF keys  ⇄  Vocabulary  ⇄  tokenizer.json, tokenizer.model, tokenizer_config.json …
//!                     ↓
//!               TextTokenizer   (through the very tokenizer.json that is written)
//! ```
//!
//! What only one side can say (which splitting rule `tokenizer.ggml.pre` names) is a data
//! table, `pretokenizers.json`; what belongs to no file but to a model line (gemma never adds
//! a space prefix) is in `quirks`.

mod chat;
mod chat_template;
mod gguf;
mod hf;
mod hf_json;
mod hf_pieces;
mod load;
mod merges;
mod post_processor;
mod pretokenizer;
mod quirks;
mod sentencepiece;
mod settings;
mod special;
mod text;
mod tokenizer_json;

use std::path::PathBuf;

pub use chat::{ChatTemplate, Message, Speaker};
pub use special::Role;
pub use text::{TextTokenizer, runnable};

/// More tokens than any model has; a larger count in a file is an error, not an allocation.
pub(crate) const MAX_TOKENS: usize = 1 << 24;

/// The marker that SentencePiece puts where a space was.
pub(crate) const SPACE: char = '▁';

/// Everything that both formats know of a model's vocabulary.
///
/// `Option<bool>` settings stay unset where the source does not say: a converted file then
/// leaves the decision to the runtime's default, as its source did.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// The tokens, by id. As many as the embedding has rows.
    pub tokens: Vec<Token>,
    /// How text becomes tokens.
    pub model: Model,
    /// Which token plays which role, in the order in which the source names them.
    pub special: Vec<(Role, u32)>,
    /// Whether a beginning-of-sequence token goes before a text; see [`Vocabulary::adds_bos`].
    pub add_bos: Option<bool>,
    /// Whether an end-of-sequence token goes after a text.
    pub add_eos: Option<bool>,
    /// Whether a separator goes between two texts.
    pub add_sep: Option<bool>,
    /// Whether a space goes before a text (SentencePiece; no effect on byte-level BPE).
    pub add_space_prefix: Option<bool>,
    /// Ids at which generation ends beside the eos, eot and eom roles (Hugging Face's
    /// `generation_config.json` lists several; GGUF has no key for them).
    pub stop: Vec<u32>,
    /// The chat template (Jinja source).
    pub chat_template: Option<String>,
    /// Further chat templates by name, such as `tool_use`.
    pub named_templates: Vec<(String, String)>,
}

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its text as the vocabulary spells it: byte-level letters (`Ġ` for a space) in BPE, `▁`
    /// for a space in SentencePiece, plain text for control and user-defined tokens.
    pub text: String,
    /// What it is for.
    pub kind: TokenKind,
    /// SentencePiece: the higher, the earlier it is merged. 0 in BPE, whose order is the merges'.
    pub score: f32,
}

/// What a token is for; the numbers are those of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenKind {
    /// A piece of text.
    Normal = 1,
    /// Stands for what the vocabulary cannot spell.
    Unknown = 2,
    /// Matched only as a whole and not shown: `<s>`, `<|im_end|>`.
    Control = 3,
    /// Matched as a whole before anything else, and shown.
    UserDefined = 4,
    /// Never produced; also the padding up to the embedding's row count.
    Unused = 5,
    /// A single byte, written `<0x0A>`.
    Byte = 6,
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Model {
    /// Byte-level byte-pair encoding.
    Bpe {
        /// llama.cpp's name of the rule that splits text before merging (`tokenizer.ggml.pre`).
        pre: String,
        /// Pairs, the earliest to be merged first. A space inside a part is spelled U+0120.
        merges: Vec<(String, String)>,
    },
    /// SentencePiece BPE: neighbours merge into the piece of the highest score.
    SentencePiece,
}

/// Why a vocabulary could not be read, written or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the checkpoint's folder could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not have the structure that its name promises.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// No file that a vocabulary could be read from.
    #[error(
        "{}: no tokenizer.json and no tokenizer.model; load the tokenizer with transformers and \
         save_pretrained() it there, which writes tokenizer.json",
        .0.display()
    )]
    NoTokenizer(PathBuf),
    /// A GGUF key is absent or has another type than the format gives it.
    #[error("GGUF key {key}: {reason}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A kind of tokenizer that cannot be carried over without changing its ids.
    #[error("{0}")]
    Unsupported(String),
    /// The splitting rule has no entry in the table.
    #[error(
        "{what}. Known names: {known}. If the model's makers name its llama.cpp pre-tokenizer, \
         pass --tokenizer-pre NAME"
    )]
    UnknownPre {
        /// The name, or the structure, that was found.
        what: String,
        /// The names of the table.
        known: String,
    },
    /// The tokens contradict themselves or the model's configuration.
    #[error("{0}")]
    Inconsistent(String),
    /// A chat template cannot be used; see [`ChatTemplate`].
    #[error("chat template '{name}'{}: {problem}", line.map(|n| format!(", line {n}")).unwrap_or_default())]
    ChatTemplate {
        /// The template's name, `default` for the only one.
        name: String,
        /// The line of its source, from 1, where one is to blame.
        line: Option<usize>,
        /// What is wrong, and what to do about it.
        problem: String,
    },
    /// The tokenizers library refused the vocabulary or a text.
    #[error("tokenizer: {0}")]
    Tokenizer(#[from] tokenizers::Error),
}

impl Vocabulary {
    /// The token that plays `role`, if the source names one.
    pub fn role(&self, role: Role) -> Option<u32> {
        special::id_of(&self.special, role)
    }

    /// Beginning of sequence. A SentencePiece vocabulary that names none has it at id 1, which
    /// is llama.cpp's default.
    pub fn bos(&self) -> Option<u32> {
        self.role(Role::Bos)
            .or_else(|| self.sentencepiece_default(1))
    }

    /// End of sequence. A SentencePiece vocabulary that names none has it at id 2, which is
    /// llama.cpp's default.
    pub fn eos(&self) -> Option<u32> {
        self.role(Role::Eos)
            .or_else(|| self.sentencepiece_default(2))
    }

    /// Whether a text starts with [`Vocabulary::bos`]: as the source says, else llama.cpp's
    /// default for this kind of vocabulary.
    pub fn adds_bos(&self) -> bool {
        self.add_bos.unwrap_or_else(|| match &self.model {
            Model::SentencePiece => true,
            Model::Bpe { pre, .. } => pretokenizer::by_name(pre).is_some_and(|p| p.add_bos),
        })
    }

    /// Whether a text gets a space before it: as the source says, else llama.cpp's default.
    pub fn adds_space_prefix(&self) -> bool {
        self.add_space_prefix
            .unwrap_or(matches!(self.model, Model::SentencePiece))
    }

    /// Every id at which generation ends, in ascending order: eos, end of turn, end of message,
    /// what `generation_config.json` lists, and the control tokens whose text has that meaning
    /// in every model that has them. The last rule is llama.cpp's; without it the same model
    /// would stop in one format and run on in the other.
    pub fn end_ids(&self) -> Vec<u32> {
        let control = |token: &Token| token.kind == TokenKind::Control;
        let tokens = self
            .tokens
            .iter()
            .zip(0..)
            .filter(|(token, _)| control(token));
        let named = tokens.map(|(token, id)| (&*token.text, id));
        let stop: Vec<u32> = self.stop.iter().copied().chain(self.eos()).collect();
        special::end_ids(&self.special, &stop, named)
    }

    fn sentencepiece_default(&self, id: u32) -> Option<u32> {
        let token = self.tokens.get(id as usize)?;
        let control = token.kind == TokenKind::Control;
        (self.model == Model::SentencePiece && control).then_some(id)
    }
}

impl TokenKind {
    /// The kind that `tokenizer.ggml.token_type` numbers so.
    pub fn from_number(number: i64) -> Option<Self> {
        use TokenKind::*;
        [Normal, Unknown, Control, UserDefined, Unused, Byte]
            .into_iter()
            .find(|kind| *kind as i64 == number)
    }

    /// Whether the token is looked for in the raw text, before the model sees it.
    pub(crate) fn is_matched_whole(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::UserDefined)
    }
}

impl Token {
    /// The filler for an id that no token has, as stock converters write it.
    pub(crate) fn padding(id: usize, score: f32) -> Self {
        Self {
            text: format!("[PAD{id}]"),
            kind: TokenKind::Unused,
            score,
        }
    }

    /// Whether this is the filler of [`Token::padding`], not a token of the model.
    pub(crate) fn is_padding(&self, id: usize) -> bool {
        let number = self
            .text
            .strip_prefix("[PAD")
            .and_then(|t| t.strip_suffix(']'));
        self.kind == TokenKind::Unused && number.and_then(|n| n.parse().ok()) == Some(id)
    }
}
