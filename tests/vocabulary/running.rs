//! Text becomes the ids that the vocabulary's makers would get.

use std::fs;

use serde_json::json;
use slim::convert::vocabulary::{Role, TextTokenizer, Vocabulary};

use crate::build::*;

fn run(vocabulary: &Vocabulary) -> TextTokenizer {
    TextTokenizer::new(vocabulary).unwrap()
}

#[test]
fn byte_level_text_is_split_then_merged() {
    let vocabulary = byte_level("gpt-2");
    let tokenizer = run(&vocabulary);
    let hello = [id(&vocabulary, "hello"), id(&vocabulary, "Ġhello")];
    assert_eq!(tokenizer.encode("hello hello", false).unwrap(), hello);
    let accented = [byte(0xC3), byte(0xA9)];
    assert_eq!(tokenizer.encode("é", false).unwrap(), accented);
    assert_eq!(tokenizer.decode(&accented).unwrap(), "é");
}

#[test]
fn the_splitting_rule_decides_how_digits_group() {
    for (pre, grouped) in [
        ("gpt-2", true),
        ("llama-bpe", true),
        ("gpt-4o", true),
        ("smollm", false),
        ("command-r", false),
        ("qwen2", false),
        ("tekken", false),
    ] {
        let vocabulary = byte_level(pre);
        let ids = run(&vocabulary).encode("123", false).unwrap();
        let expected = match grouped {
            true => vec![id(&vocabulary, "123")],
            false => vec![byte(b'1'), byte(b'2'), byte(b'3')],
        };
        assert_eq!(ids, expected, "{pre}");
    }
}

#[test]
fn special_tokens_in_a_text_are_these_tokens() {
    let vocabulary = byte_level("qwen2");
    let tokenizer = run(&vocabulary);
    let ids = tokenizer
        .encode("<|start|>a<tool call><|end|>", false)
        .unwrap();
    assert_eq!(ids, [1, byte(b'a'), id(&vocabulary, "<tool call>"), 0]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "a<tool call>");
}

#[test]
fn the_beginning_token_is_added_once_and_only_when_asked() {
    let mut vocabulary = byte_level("llama-bpe");
    vocabulary.add_bos = Some(true);
    let dir = folder(&vocabulary);
    let from_files = TextTokenizer::from_hf(dir.path(), &config(&vocabulary)).unwrap();
    for tokenizer in [run(&vocabulary), from_files] {
        assert!(tokenizer.add_bos());
        assert_eq!(tokenizer.encode("a", true).unwrap(), [1, byte(b'a')]);
        assert_eq!(tokenizer.encode("a", false).unwrap(), [byte(b'a')]);
    }
}

#[test]
fn a_vocabulary_that_does_not_say_takes_its_kinds_default() {
    let adds = |mut vocabulary: Vocabulary| {
        vocabulary.add_bos = None;
        run(&vocabulary).add_bos()
    };
    assert!(adds(sentencepiece()));
    assert!(adds(byte_level("llama-bpe")));
    assert!(!adds(byte_level("qwen2")));
}

#[test]
fn sentencepiece_merges_by_score_and_marks_the_front() {
    let vocabulary = sentencepiece();
    let tokenizer = run(&vocabulary);
    let ids = |texts: &[&str]| texts.iter().map(|t| id(&vocabulary, t)).collect::<Vec<_>>();
    // "▁ab" is built from "▁a" before "abab", of a lower score, can be built from "ab" twice.
    assert_eq!(
        tokenizer.encode("abab", false).unwrap(),
        ids(&["▁ab", "ab"])
    );
    assert_eq!(
        tokenizer.encode("b abab", false).unwrap(),
        ids(&["▁", "b", "▁ab", "ab"])
    );
    assert_eq!(tokenizer.decode(&ids(&["▁a", "b", "▁a"])).unwrap(), "ab a");
}

#[test]
fn what_sentencepiece_cannot_spell_becomes_bytes_and_back() {
    let tokenizer = run(&sentencepiece());
    let ids = tokenizer.encode("é", false).unwrap();
    assert_eq!(ids[1..], [3 + 0xC3, 3 + 0xA9]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "é");
}

#[test]
fn without_a_prefix_no_space_is_added_or_taken_off() {
    let mut vocabulary = sentencepiece();
    vocabulary.add_space_prefix = Some(false);
    let tokenizer = run(&vocabulary);
    assert_eq!(
        tokenizer.encode("ab", false).unwrap(),
        [id(&vocabulary, "ab")]
    );
    assert_eq!(tokenizer.decode(&[id(&vocabulary, "▁a")]).unwrap(), " a");
}

#[test]
fn every_form_of_a_vocabulary_gives_the_same_ids() {
    let texts = [
        "abab ab",
        "  ba b",
        "<s>ab</s>a",
        "x<|turn|> ab",
        "",
        " ",
        "1234 hello\n\nhello",
    ];
    for vocabulary in [sentencepiece(), byte_level("smollm")] {
        let expected = run(&vocabulary);
        let dir = folder(&vocabulary);
        let config = config(&vocabulary);
        let files = TextTokenizer::from_hf(dir.path(), &config).unwrap();
        let read = Vocabulary::from_hf(dir.path(), &config, None).unwrap();
        // Without the model file a SentencePiece vocabulary is rebuilt from tokenizer.json.
        let _ = fs::remove_file(dir.path().join("tokenizer.model"));
        let from_json = Vocabulary::from_hf(dir.path(), &config, None).unwrap();
        let others = [
            files,
            run(&read),
            run(&from_json),
            run(&through_gguf(&vocabulary)),
        ];
        for text in texts {
            let ids = expected.encode(text, false).unwrap();
            for other in &others {
                assert_eq!(other.encode(text, false).unwrap(), ids, "{text:?}");
            }
        }
    }
}

#[test]
fn generation_ends_at_every_id_that_any_source_names() {
    let mut vocabulary = byte_level("qwen2");
    vocabulary.stop = vec![9];
    vocabulary.special = vec![(Role::Eos, 4), (Role::Eot, 5)];
    assert_eq!(run(&vocabulary).end_ids(), [0, 4, 5, 9], "0 is <|end|>");

    let dir = folder(&byte_level("qwen2"));
    edit(dir.path(), "generation_config.json", |file| {
        file.insert("eos_token_id".to_owned(), json!([7, 0]));
    });
    let config = json!({"eos_token_id": 6}).as_object().unwrap().clone();
    let tokenizer = TextTokenizer::from_hf(dir.path(), &config).unwrap();
    assert_eq!(tokenizer.end_ids(), [0, 6, 7]);
}

#[test]
fn a_file_that_asks_for_cutting_and_padding_is_not_obeyed() {
    let vocabulary = byte_level("gpt-2");
    let dir = folder(&vocabulary);
    edit(dir.path(), "tokenizer.json", |json| {
        json["truncation"] = json!({"direction": "Right", "max_length": 2,
            "strategy": "LongestFirst", "stride": 0});
        json["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_id": 0,
            "pad_to_multiple_of": null, "pad_type_id": 0, "pad_token": "<|end|>"});
    });
    let tokenizer = TextTokenizer::from_hf(dir.path(), &config(&vocabulary)).unwrap();
    assert_eq!(tokenizer.encode("abc", false).unwrap().len(), 3);
}
