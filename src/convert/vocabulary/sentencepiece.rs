//! SentencePiece's `tokenizer.model`: a protobuf message, read and written by its field numbers
//! (`sentencepiece_model.proto` of the SentencePiece project; proto2 with defaults).

use std::path::Path;

use prost::Message;

use super::{Error, MAX_TOKENS, Role, SPACE, Token, TokenKind, Vocabulary};

/// The whole file.
#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
}

/// One token. `kind` is numbered as in GGUF, which took the numbers from here; absent means 1.
#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

/// The settings of the training that matter afterwards. Absent `model_type` means Unigram.
#[derive(Clone, PartialEq, Message)]
struct Trainer {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    vocab_size: Option<i32>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
    #[prost(int32, optional, tag = "40")]
    unk_id: Option<i32>,
    #[prost(int32, optional, tag = "41")]
    bos_id: Option<i32>,
    #[prost(int32, optional, tag = "42")]
    eos_id: Option<i32>,
    #[prost(int32, optional, tag = "43")]
    pad_id: Option<i32>,
    #[prost(string, optional, tag = "45")]
    unk_piece: Option<String>,
    #[prost(string, optional, tag = "46")]
    bos_piece: Option<String>,
    #[prost(string, optional, tag = "47")]
    eos_piece: Option<String>,
    #[prost(string, optional, tag = "48")]
    pad_piece: Option<String>,
}

/// What happens to text before it is cut into pieces. Absent `add_dummy_prefix` means true.
#[derive(Clone, PartialEq, Message)]
struct Normalizer {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    escape_whitespaces: Option<bool>,
}

const MODEL_TYPE_BPE: i32 = 2;
const PIECE_USER_DEFINED: i32 = TokenKind::UserDefined as i32;

/// What a `tokenizer.model` says.
pub(crate) struct Model {
    /// The pieces by id. User-defined pieces come as normal ones, as stock converters write
    /// them; those that the model's settings list as added tokens become user-defined there.
    pub tokens: Vec<Token>,
    /// Whether text gets a space before it.
    pub add_dummy_prefix: bool,
}

/// Reads the bytes of a `tokenizer.model`.
pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Model, Error> {
    let malformed = |reason: String| Error::Malformed {
        path: path.to_owned(),
        reason,
    };
    let proto = ModelProto::decode(bytes).map_err(|e| {
        malformed(format!(
            "not a SentencePiece model ({e}); expected the binary protobuf file"
        ))
    })?;
    if proto.pieces.is_empty() || proto.pieces.len() > MAX_TOKENS {
        return Err(malformed(format!("{} pieces", proto.pieces.len())));
    }
    let model_type = proto
        .trainer
        .as_ref()
        .and_then(|t| t.model_type)
        .unwrap_or(1);
    if model_type != MODEL_TYPE_BPE {
        return Err(Error::Unsupported(format!(
            "{}: a SentencePiece model of type {model_type} (1 is Unigram, 3 word, 4 char). Only \
             BPE pieces (2) keep their ids in GGUF, whose 'llama' tokenizer merges by score",
            path.display()
        )));
    }
    let tokens = proto.pieces.into_iter().map(Piece::into_token).collect();
    let add_dummy_prefix = proto
        .normalizer
        .and_then(|n| n.add_dummy_prefix)
        .unwrap_or(true);
    Ok(Model {
        tokens,
        add_dummy_prefix,
    })
}

impl Piece {
    fn into_token(self) -> Token {
        let kind = self.kind.map_or(Some(TokenKind::Normal), |n| {
            TokenKind::from_number(n.into())
        });
        Token {
            text: self.text.unwrap_or_default(),
            kind: match kind {
                Some(TokenKind::UserDefined) | None => TokenKind::Normal,
                Some(kind) => kind,
            },
            score: self.score.unwrap_or_default(),
        }
    }

    /// In a model file a user-defined text carries the space marker like every other piece.
    fn from_token(token: &Token) -> Self {
        let user_defined = token.kind as i32 == PIECE_USER_DEFINED;
        let text = match user_defined {
            true => token.text.replace(' ', &SPACE.to_string()),
            false => token.text.clone(),
        };
        let kind = Some(token.kind as i32).filter(|kind| *kind != TokenKind::Normal as i32);
        Self {
            text: Some(text),
            score: Some(token.score),
            kind,
        }
    }
}

/// Writes a SentencePiece vocabulary as the bytes of a `tokenizer.model`.
pub(crate) fn write(vocabulary: &Vocabulary) -> Vec<u8> {
    let id = |role| vocabulary.role(role).map_or(-1, |id| id as i32);
    let unknown = vocabulary
        .tokens
        .iter()
        .position(|token| token.kind == TokenKind::Unknown);
    let piece = |id: i32| {
        let token = usize::try_from(id)
            .ok()
            .and_then(|id| vocabulary.tokens.get(id));
        token.map(|token| token.text.clone())
    };
    let unk = unknown.map_or(0, |id| id as i32);
    let (bos, eos, pad) = (id(Role::Bos), id(Role::Eos), id(Role::Pad));
    let proto = ModelProto {
        pieces: vocabulary.tokens.iter().map(Piece::from_token).collect(),
        trainer: Some(Trainer {
            model_type: Some(MODEL_TYPE_BPE),
            vocab_size: i32::try_from(vocabulary.tokens.len()).ok(),
            byte_fallback: Some(vocabulary.has_byte_tokens()),
            unk_id: Some(unk),
            bos_id: Some(bos),
            eos_id: Some(eos),
            pad_id: Some(pad),
            unk_piece: piece(unk),
            bos_piece: piece(bos),
            eos_piece: piece(eos),
            pad_piece: piece(pad),
        }),
        normalizer: Some(Normalizer {
            name: Some("identity".to_owned()),
            add_dummy_prefix: Some(vocabulary.adds_space_prefix()),
            remove_extra_whitespaces: Some(false),
            escape_whitespaces: Some(true),
        }),
    };
    proto.encode_to_vec()
}

impl Vocabulary {
    /// Whether every byte has a token, so that any text can be spelled.
    pub(crate) fn has_byte_tokens(&self) -> bool {
        self.tokens
            .iter()
            .filter(|token| token.kind == TokenKind::Byte)
            .count()
            == 256
    }
}
