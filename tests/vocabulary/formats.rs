//! What one format says arrives in the other.

use std::fs;

use serde_json::{Value, json};
use slim::convert::vocabulary::{Model, Role, TokenKind, Vocabulary};

use crate::build::*;

/// GGUF has no key for the list of stop ids; everything else survives.
fn without_stop(mut vocabulary: Vocabulary) -> Vocabulary {
    vocabulary.stop.clear();
    vocabulary
}

#[test]
fn both_kinds_survive_gguf() {
    for vocabulary in [byte_level("qwen2"), sentencepiece()] {
        assert_eq!(through_gguf(&vocabulary), without_stop(vocabulary));
    }
}

#[test]
fn both_kinds_survive_hugging_face() {
    for vocabulary in [byte_level("llama-bpe"), sentencepiece()] {
        let dir = folder(&vocabulary);
        let read = Vocabulary::from_hf(dir.path(), &config(&vocabulary), None).unwrap();
        assert_eq!(read, vocabulary);
    }
}

#[test]
fn every_name_of_a_splitting_rule_survives_or_becomes_its_group() {
    for (written, read) in [
        ("gpt-2", "gpt-2"),
        ("tekken", "tekken"),
        ("refact", "smollm"),
        ("starcoder", "smollm"),
        ("llama3", "llama-bpe"),
    ] {
        let vocabulary = byte_level(written);
        let dir = folder(&vocabulary);
        let back = Vocabulary::from_hf(dir.path(), &config(&vocabulary), None).unwrap();
        let Model::Bpe { pre, .. } = back.model else {
            panic!("no byte-level vocabulary");
        };
        assert_eq!(pre, read);
    }
}

#[test]
fn an_unknown_splitting_rule_is_refused_until_it_is_named() {
    let vocabulary = byte_level("qwen2");
    let dir = folder(&vocabulary);
    edit(dir.path(), "tokenizer.json", |json| {
        json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\p{Han}"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
        ]});
    });
    let config = config(&vocabulary);
    let message = Vocabulary::from_hf(dir.path(), &config, None)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("qwen2") && message.contains("--tokenizer-pre"),
        "{message}"
    );
    let named = Vocabulary::from_hf(dir.path(), &config, Some("kimi-k2")).unwrap();
    assert!(matches!(&named.model, Model::Bpe { pre, .. } if pre == "kimi-k2"));
    let message = named.tokenizer().unwrap_err().to_string();
    assert!(message.contains("kimi-k2"), "{message}");
}

#[test]
fn merges_are_read_in_both_spellings() {
    let vocabulary = byte_level("gpt-2");
    let dir = folder(&vocabulary);
    edit(dir.path(), "tokenizer.json", |json| {
        for merge in json["model"]["merges"].as_array_mut().unwrap() {
            let parts = merge.as_array().unwrap();
            *merge = json!(format!(
                "{} {}",
                parts[0].as_str().unwrap(),
                parts[1].as_str().unwrap()
            ));
        }
    });
    let read = Vocabulary::from_hf(dir.path(), &config(&vocabulary), None).unwrap();
    assert_eq!(read.model, vocabulary.model);
}

#[test]
fn a_space_inside_a_merge_does_not_split_it_in_gguf() {
    let vocabulary = byte_level("gpt-2");
    let dir = folder(&vocabulary);
    edit(dir.path(), "tokenizer.json", |json| {
        json["model"]["merges"] = json!([["a b", " c"]]);
    });
    let read = Vocabulary::from_hf(dir.path(), &config(&vocabulary), None).unwrap();
    let Model::Bpe { merges, .. } = through_gguf(&read).model else {
        panic!("no byte-level vocabulary");
    };
    assert_eq!(merges, [("aĠb".to_owned(), "Ġc".to_owned())]);
}

#[test]
fn tokens_marked_special_or_looking_so_are_control_tokens() {
    let vocabulary = byte_level("gpt-2");
    let dir = folder(&vocabulary);
    edit(dir.path(), "tokenizer.json", |json| {
        for (id, content, special) in [
            (300, "<|looks|>", false),
            (301, "[marked]", true),
            (302, "▁plain▁", false),
        ] {
            let added = json!({"id": id, "content": content, "special": special,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
            json["added_tokens"].as_array_mut().unwrap().push(added);
        }
    });
    let mut config = config(&vocabulary);
    config.insert("vocab_size".to_owned(), json!(304));
    let read = Vocabulary::from_hf(dir.path(), &config, None).unwrap();
    let seen = |id: usize| (&*read.tokens[id].text, read.tokens[id].kind);
    assert_eq!(seen(300), ("<|looks|>", TokenKind::Control));
    assert_eq!(seen(301), ("[marked]", TokenKind::Control));
    assert_eq!(seen(302), (" plain ", TokenKind::UserDefined));
    assert_eq!(seen(303), ("[PAD303]", TokenKind::Unused));
}

#[test]
fn ids_come_from_the_tokenizer_settings_before_the_model_configuration() {
    let vocabulary = byte_level("gpt-2");
    let dir = folder(&vocabulary);
    let mut config = config(&vocabulary);
    config.insert("eos_token_id".to_owned(), json!([7, 9]));
    config.insert("bos_token_id".to_owned(), json!(5));
    config.insert("pad_token_id".to_owned(), json!(6));
    let read = Vocabulary::from_hf(dir.path(), &config, None).unwrap();
    assert_eq!(
        read.special,
        [(Role::Bos, 1), (Role::Eos, 0), (Role::Pad, 6)]
    );
    assert_eq!(read.stop, [7, 9]);
}

#[test]
fn a_post_processor_says_what_is_added_around_a_text() {
    let mut vocabulary = byte_level("llama-bpe");
    (vocabulary.add_bos, vocabulary.add_eos) = (Some(true), Some(true));
    let dir = folder(&vocabulary);
    edit(dir.path(), "tokenizer_config.json", |config| {
        config.remove("add_bos_token");
        config.remove("add_eos_token");
    });
    let read = Vocabulary::from_hf(dir.path(), &config(&vocabulary), None).unwrap();
    assert_eq!((read.add_bos, read.add_eos), (Some(true), Some(true)));
}

#[test]
fn chat_templates_come_from_the_settings_then_jinja_then_json() {
    let mut vocabulary = byte_level("gpt-2");
    vocabulary.chat_template = None;
    vocabulary.named_templates.clear();
    let dir = folder(&vocabulary);
    let read = || Vocabulary::from_hf(dir.path(), &config(&vocabulary), None).unwrap();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(read().chat_template, None);

    fs::write(
        at("chat_template.json"),
        r#"{"chat_template": "from json"}"#,
    )
    .unwrap();
    assert_eq!(read().chat_template.as_deref(), Some("from json"));

    fs::write(at("chat_template.jinja"), "from jinja").unwrap();
    fs::create_dir(at("additional_chat_templates")).unwrap();
    fs::write(at("additional_chat_templates/rag.jinja"), "for rag").unwrap();
    assert_eq!(read().chat_template.as_deref(), Some("from jinja"));
    assert_eq!(
        read().named_templates,
        [("rag".to_owned(), "for rag".to_owned())]
    );

    edit(dir.path(), "tokenizer_config.json", |config| {
        config.insert("chat_template".to_owned(), Value::from("from settings"));
    });
    assert_eq!(read().chat_template.as_deref(), Some("from settings"));
}

#[test]
fn tokens_added_to_a_sentencepiece_model_are_found_in_every_file() {
    let vocabulary = sentencepiece();
    let dir = folder(&vocabulary);
    fs::write(
        dir.path().join("added_tokens.json"),
        r#"{"<old>": 268, "<beyond>": 9999}"#,
    )
    .unwrap();
    edit(dir.path(), "tokenizer.json", |json| {
        let added = json!({"id": 269, "content": "<new>", "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false});
        json["added_tokens"].as_array_mut().unwrap().push(added);
    });
    let mut config = config(&vocabulary);
    config.insert("vocab_size".to_owned(), json!(271));
    let read = Vocabulary::from_hf(dir.path(), &config, None).unwrap();
    let expected = [
        token("<|turn|>", TokenKind::Control, -1000.0),
        token("[PAD267]", TokenKind::Unused, -10000.0),
        token("<old>", TokenKind::UserDefined, -1000.0),
        token("<new>", TokenKind::Control, -1000.0),
        token("[PAD270]", TokenKind::Unused, -10000.0),
    ];
    assert_eq!(read.tokens[266..], expected);
}

#[test]
fn gemma_never_adds_a_space_prefix() {
    let vocabulary = sentencepiece();
    let dir = folder(&vocabulary);
    let mut config = config(&vocabulary);
    config.insert("model_type".to_owned(), json!("gemma2"));
    let read = Vocabulary::from_hf(dir.path(), &config, None).unwrap();
    assert_eq!(read.add_space_prefix, Some(false));
    let keys = read.to_gguf();
    assert_eq!(keys.last().unwrap().0, "tokenizer.ggml.add_space_prefix");
}
