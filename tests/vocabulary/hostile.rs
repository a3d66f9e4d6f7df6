//! Damaged and lying files end in an error that names them.

use std::fs;

use proptest::prelude::*;
use serde_json::json;
use slim::checkpoint::gguf::Value;
use slim::convert::vocabulary::{Error, TextTokenizer, Vocabulary};
use tempfile::TempDir;

use crate::build::*;

fn from_folder(dir: &TempDir, vocabulary: &Vocabulary) -> Result<Vocabulary, Error> {
    Vocabulary::from_hf(dir.path(), &config(vocabulary), None)
}

#[test]
fn a_merge_that_makes_no_token_is_an_error() {
    let vocabulary = byte_level("gpt-2");
    let dir = folder(&vocabulary);
    edit(dir.path(), "tokenizer.json", |json| {
        let long = "<|start|>";
        json["model"]["merges"]
            .as_array_mut()
            .unwrap()
            .push(json!([long, long]));
    });
    let error = TextTokenizer::from_hf(dir.path(), &config(&vocabulary)).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}

#[test]
fn an_id_beyond_the_embedding_is_an_error() {
    let vocabulary = byte_level("gpt-2");
    let dir = folder(&vocabulary);
    edit(dir.path(), "tokenizer.json", |json| {
        json["model"]["vocab"]["stray"] = json!(4_000_000_000_u32);
    });
    let error = from_folder(&dir, &vocabulary).unwrap_err().to_string();
    assert!(error.contains("vocab_size"), "{error}");
    let error = Vocabulary::from_hf(dir.path(), &Default::default(), None).unwrap_err();
    assert!(error.to_string().contains("4000000001"), "{error}");
}

#[test]
fn an_absurd_vocabulary_size_is_not_allocated() {
    let vocabulary = sentencepiece();
    let dir = folder(&vocabulary);
    let config = json!({"vocab_size": 1_u64 << 60})
        .as_object()
        .unwrap()
        .clone();
    let error = Vocabulary::from_hf(dir.path(), &config, None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no model has so many"), "{error}");
}

#[test]
fn a_model_file_that_is_none_is_an_error() {
    let vocabulary = sentencepiece();
    let dir = folder(&vocabulary);
    fs::write(dir.path().join("tokenizer.model"), b"IQ== 0\nIg== 1\n").unwrap();
    let error = from_folder(&dir, &vocabulary).unwrap_err().to_string();
    assert!(error.contains("tokenizer.model"), "{error}");
}

#[test]
fn unigram_pieces_are_refused() {
    let dir = TempDir::new().unwrap();
    // One piece "a" and no trainer settings, whose default is Unigram.
    fs::write(dir.path().join("tokenizer.model"), [0x0A, 3, 0x0A, 1, b'a']).unwrap();
    let error = Vocabulary::from_hf(dir.path(), &Default::default(), None).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
}

#[test]
fn a_folder_without_a_tokenizer_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    let error = Vocabulary::from_hf(dir.path(), &Default::default(), None).unwrap_err();
    assert!(error.to_string().contains("save_pretrained"), "{error}");
}

#[test]
fn gguf_keys_that_contradict_each_other_are_named() {
    let keys = sentencepiece().to_gguf();
    let with = |key: &str, value: Option<Value<'static>>| {
        let mut keys: Vec<_> = keys.iter().filter(|(k, _)| k != key).cloned().collect();
        keys.extend(value.map(|value| (key.to_owned(), value)));
        let (_dir, checkpoint) = gguf(&keys);
        Vocabulary::from_gguf(checkpoint.gguf().unwrap())
            .unwrap_err()
            .to_string()
    };
    for (key, value) in [
        ("tokenizer.ggml.scores", Some(Value::f32s(&[0.0]))),
        ("tokenizer.ggml.token_type", Some(Value::i32s(&[1, 1]))),
        ("tokenizer.ggml.tokens", Some(Value::u32(5))),
        ("tokenizer.ggml.model", None),
        ("tokenizer.ggml.model", Some(Value::str("bert"))),
    ] {
        let message = with(key, value);
        assert!(message.contains(key), "{message}");
    }
}

/// A file of a small vocabulary's folder with some bytes changed or the end cut off.
fn damaged(original: &[u8]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let original = original.to_vec();
    let length = original.len();
    let changes = proptest::collection::vec((0..length, any::<u8>()), 0..8);
    (changes, length / 2..=length).prop_map(move |(changes, end)| {
        let mut bytes = original.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(end);
        bytes
    })
}

fn file_of(vocabulary: &Vocabulary, name: &str) -> Vec<u8> {
    let files = vocabulary.to_hf().unwrap();
    files.into_iter().find(|(n, _)| n == name).unwrap().1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_damaged_tokenizer_json_is_read_or_refused(
        bytes in damaged(&file_of(&byte_level("gpt-2"), "tokenizer.json"))
    ) {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("tokenizer.json"), bytes).unwrap();
        let read = Vocabulary::from_hf(dir.path(), &Default::default(), None);
        let through_vocabulary = read.and_then(|vocabulary| TextTokenizer::new(&vocabulary));
        let as_it_stands = TextTokenizer::from_hf(dir.path(), &Default::default());
        for tokenizer in [through_vocabulary, as_it_stands].into_iter().flatten() {
            prop_assert!(tokenizer.encode("hello 123", true).is_ok());
        }
    }

    #[test]
    fn a_damaged_model_file_is_read_or_refused(
        bytes in damaged(&file_of(&sentencepiece(), "tokenizer.model"))
    ) {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("tokenizer.model"), bytes).unwrap();
        if let Ok(read) = Vocabulary::from_hf(dir.path(), &Default::default(), None) {
            prop_assert!(!read.tokens.is_empty());
        }
    }
}
