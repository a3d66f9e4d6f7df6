//! Small vocabularies whose ids can be worked out by hand, and the files they go through.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use slim::checkpoint::Checkpoint;
use slim::checkpoint::gguf;
use slim::convert::vocabulary::{Model, Role, Token, TokenKind, Vocabulary};
use tempfile::TempDir;

pub fn token(text: &str, kind: TokenKind, score: f32) -> Token {
    Token {
        text: text.to_owned(),
        kind,
        score,
    }
}

/// The letter that byte-level BPE spells `byte` with: printable Latin-1 stands for itself, the
/// rest are numbered from U+0100.
fn letter(byte: u8) -> char {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(&byte) {
        return byte.into();
    }
    let before = (0..byte).filter(|b| !printable(b)).count();
    char::from_u32(0x100 + before as u32).unwrap()
}

/// Byte-level BPE: `<|end|>` 0, `<|start|>` 1, the bytes from 2 on, then one token for every
/// merge, a user-defined token, and two fillers.
pub fn byte_level(pre: &str) -> Vocabulary {
    let merges = [
        ("h", "e"),
        ("l", "l"),
        ("he", "ll"),
        ("hell", "o"),
        ("Ġ", "hello"),
        ("1", "2"),
        ("12", "3"),
    ];
    let mut tokens = vec![
        token("<|end|>", TokenKind::Control, 0.0),
        token("<|start|>", TokenKind::Control, 0.0),
    ];
    tokens.extend((0..=255).map(|byte| token(&letter(byte).to_string(), TokenKind::Normal, 0.0)));
    for (left, right) in merges {
        tokens.push(token(&format!("{left}{right}"), TokenKind::Normal, 0.0));
    }
    tokens.push(token("<tool call>", TokenKind::UserDefined, 0.0));
    for id in tokens.len()..tokens.len() + 2 {
        tokens.push(token(&format!("[PAD{id}]"), TokenKind::Unused, 0.0));
    }
    Vocabulary {
        tokens,
        model: Model::Bpe {
            pre: pre.to_owned(),
            merges: merges.map(|(l, r)| (l.to_owned(), r.to_owned())).to_vec(),
        },
        special: vec![(Role::Bos, 1), (Role::Eos, 0)],
        add_bos: Some(false),
        add_eos: None,
        add_sep: None,
        add_space_prefix: None,
        stop: vec![0],
        chat_template: Some("{{ messages[0].content }}".to_owned()),
        named_templates: vec![("tool_use".to_owned(), "{{ tools }}".to_owned())],
    }
}

/// The id of a byte in [`byte_level`].
pub fn byte(byte: u8) -> u32 {
    2 + u32::from(byte)
}

/// The id of the merged token `text` in [`byte_level`].
pub fn id(vocabulary: &Vocabulary, text: &str) -> u32 {
    let found = vocabulary
        .tokens
        .iter()
        .position(|token| token.text == text);
    found.unwrap_or_else(|| panic!("no token {text:?}")) as u32
}

/// SentencePiece BPE: `<unk>` 0, `<s>` 1, `</s>` 2, the bytes from 3 on, then pieces, an added
/// token and a filler.
pub fn sentencepiece() -> Vocabulary {
    let mut tokens = vec![
        token("<unk>", TokenKind::Unknown, 0.0),
        token("<s>", TokenKind::Control, 0.0),
        token("</s>", TokenKind::Control, 0.0),
    ];
    tokens.extend((0..=255).map(|b| token(&format!("<0x{b:02X}>"), TokenKind::Byte, 0.0)));
    let pieces = ["▁a", "ab", "▁ab", "abab", "▁", "a", "b"];
    let scored = pieces.iter().zip(0..);
    tokens.extend(scored.map(|(text, rank)| token(text, TokenKind::Normal, -(rank as f32))));
    tokens.push(token("<|turn|>", TokenKind::Control, -1000.0));
    tokens.push(token("[PAD267]", TokenKind::Unused, -10000.0));
    Vocabulary {
        tokens,
        model: Model::SentencePiece,
        special: vec![(Role::Bos, 1), (Role::Eos, 2)],
        add_bos: Some(true),
        add_eos: Some(false),
        add_sep: None,
        add_space_prefix: None,
        stop: vec![2],
        chat_template: None,
        named_templates: Vec::new(),
    }
}

/// The config.json that belongs to a vocabulary.
pub fn config(vocabulary: &Vocabulary) -> Map<String, Value> {
    let config = json!({
        "model_type": "llama",
        "vocab_size": vocabulary.tokens.len(),
        "bos_token_id": vocabulary.bos(),
        "eos_token_id": vocabulary.eos(),
    });
    config.as_object().unwrap().clone()
}

/// The vocabulary's Hugging Face files in a folder of their own.
pub fn folder(vocabulary: &Vocabulary) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, bytes) in vocabulary.to_hf().unwrap() {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// Changes a JSON file of a folder.
pub fn edit(dir: &Path, name: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let path = dir.join(name);
    let bytes = fs::read(&path).unwrap_or_else(|_| b"{}".to_vec());
    let mut object = serde_json::from_slice(&bytes).unwrap();
    change(&mut object);
    fs::write(path, serde_json::to_vec(&object).unwrap()).unwrap();
}

/// Keys in a GGUF file, opened.
pub fn gguf(keys: &[(String, gguf::Value<'_>)]) -> (TempDir, Checkpoint) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vocabulary.gguf");
    let mut all = vec![("general.architecture".to_owned(), gguf::Value::str("llama"))];
    all.extend(keys.iter().cloned());
    gguf::write(&path, &all, &[], |_| Ok(()), &|_| ()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    (dir, checkpoint)
}

/// The vocabulary in a GGUF file and back.
pub fn through_gguf(vocabulary: &Vocabulary) -> Vocabulary {
    let (_dir, checkpoint) = gguf(&vocabulary.to_gguf());
    Vocabulary::from_gguf(checkpoint.gguf().unwrap()).unwrap()
}
