//! Chat templates: what transformers rendered, where they come from, and what refusals say.
//!
//! `SLIM_CHAT=FOLDER` replays another folder that fixtures/chat/make.py was run on.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::{ChatTemplate, Message, Speaker, Vocabulary};
use tempfile::TempDir;

use crate::build::*;

#[derive(Deserialize)]
struct Rendered {
    special_tokens: BTreeMap<String, String>,
    conversations: BTreeMap<String, Vec<Turn>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    add_generation_prompt: bool,
    rendered: Option<String>,
    /// What transformers said instead.
    error: Option<String>,
}

fn message(turn: &Turn) -> Message {
    let known = [Speaker::System, Speaker::User, Speaker::Assistant];
    let role = known.into_iter().find(|role| role.name() == turn.role);
    Message::new(role.unwrap(), &*turn.content)
}

/// Every case in which slim and transformers part, and how many there are.
fn replay(folder: &Path) -> (Vec<String>, usize) {
    let made = fs::read_to_string(folder.join("rendered.json")).unwrap();
    let made: Rendered = serde_json::from_str(&made).unwrap();
    let mut apart = Vec::new();
    for case in &made.cases {
        let source = fs::read_to_string(folder.join("templates").join(&case.template)).unwrap();
        let messages: Vec<Message> = made.conversations[&case.conversation]
            .iter()
            .map(message)
            .collect();
        let tokens = made.special_tokens.clone().into_iter().collect();
        let rendered = ChatTemplate::new(&case.template, source, tokens)
            .and_then(|template| template.render(&messages, case.add_generation_prompt));
        let difference = match (&rendered, &case.rendered) {
            (Ok(ours), Some(theirs)) if ours == theirs => continue,
            (Ok(ours), Some(theirs)) => parting(ours, theirs),
            (Err(_), None) => continue,
            (Ok(_), None) => format!("transformers refuses: {:?}", case.error),
            (Err(error), Some(_)) => format!("slim refuses: {error}"),
        };
        let asked = (&case.conversation, case.add_generation_prompt);
        apart.push(format!("{} {asked:?}: {difference}", case.template));
    }
    (apart, made.cases.len())
}

/// Where two texts part.
fn parting(ours: &str, theirs: &str) -> String {
    let mut both = ours.char_indices().zip(theirs.chars());
    let at = both.find(|((_, a), b)| a != b).map(|((at, _), _)| at);
    let at = at.unwrap_or(ours.len().min(theirs.len()));
    let from = ours[..at]
        .char_indices()
        .rev()
        .nth(30)
        .map_or(0, |(i, _)| i);
    let around = |text: &str| text[from..].chars().take(70).collect::<String>();
    format!(
        "\n  slim:         {:?}\n  transformers: {:?}",
        around(ours),
        around(theirs)
    )
}

#[test]
fn templates_render_as_transformers_renders_them() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/chat");
    let other = env::var_os("SLIM_CHAT").map(PathBuf::from);
    for folder in std::iter::once(fixtures).chain(other) {
        let (apart, cases) = replay(&folder);
        println!("{}: {} of {cases} apart", folder.display(), apart.len());
        assert!(apart.is_empty(), "{}", apart.join("\n"));
    }
}

/// What a template makes of one question.
fn render(source: &str) -> Result<String, String> {
    let tokens = vec![("bos_token".to_owned(), "<s>".to_owned())];
    let template = ChatTemplate::new("default", source.to_owned(), tokens);
    let question = [Message::new(Speaker::User, "hello")];
    let rendered = template.and_then(|template| template.render(&question, true));
    rendered.map_err(|error| error.to_string())
}

#[test]
fn a_refusal_names_the_template_and_the_line_and_says_what_to_do() {
    let cases = [
        ("{% if %}", "line 1: unexpected end of block"),
        ("\n\n{% nothing %}", "line 3: unknown statement nothing"),
        (
            "\n{{ raise_exception('only in turn!') }}",
            "line 2: it refuses these messages, in its own words: \"only in turn!\"",
        ),
        ("\n\n{{ messages[0].a.b }}", "line 3: undefined value"),
        ("{{ messages | unheard_of }}", "line 1: unknown filter"),
        ("{{ 'a'.unheard_of() }}", "line 1: unknown method"),
        (
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "recursion limit",
        ),
        ("{{ {} | tojson(style=1) }}", "line 1: too many arguments"),
    ];
    for (source, told) in cases {
        let error = render(source).unwrap_err();
        assert!(
            error.starts_with("chat template 'default', line "),
            "{error}"
        );
        assert!(error.contains(told), "{source}: {error}");
        assert!(
            error.ends_with("Leave out --apply-chat-template to ask without it"),
            "{error}"
        );
    }
}

#[test]
fn a_source_longer_than_any_template_is_refused() {
    let error = render(&" ".repeat(300_000)).unwrap_err();
    assert!(error.contains("300000 bytes"), "{error}");
}

/// The same template and tokens from either format.
#[test]
fn the_default_template_comes_with_the_special_tokens() {
    let mut vocabulary = byte_level("qwen2");
    vocabulary.chat_template =
        Some("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}".into());
    let (_gguf, from_gguf) = gguf(&vocabulary.to_gguf());
    let (_folder, from_folder) = opened(&vocabulary);
    for checkpoint in [from_gguf, from_folder] {
        let template = ChatTemplate::of(&checkpoint).unwrap().unwrap();
        assert_eq!(template.name(), "default");
        let rendered = template.render(&[Message::new(Speaker::User, "hi")], false);
        assert_eq!(rendered.unwrap(), "<|start|>hi<|end|>");
    }
}

#[test]
fn without_a_default_the_first_template_is_taken_and_without_any_none() {
    let mut vocabulary = byte_level("qwen2");
    vocabulary.chat_template = None;
    let (_gguf, from_gguf) = gguf(&vocabulary.to_gguf());
    let (_folder, from_folder) = opened(&vocabulary);
    for checkpoint in [from_gguf, from_folder] {
        let template = ChatTemplate::of(&checkpoint).unwrap().unwrap();
        assert_eq!(template.name(), "tool_use");
    }
    vocabulary.named_templates.clear();
    let (_gguf, checkpoint) = gguf(&vocabulary.to_gguf());
    assert!(ChatTemplate::of(&checkpoint).unwrap().is_none());
}

#[test]
fn a_models_own_special_tokens_are_variables_too() {
    let vocabulary = byte_level("qwen2");
    let (folder, checkpoint) = opened(&vocabulary);
    edit(folder.path(), "tokenizer_config.json", |config| {
        config["chat_template"] =
            json!("{{ image_token }}{{ bos_token is defined }}{{ eos_token }}");
        config.insert(
            "extra_special_tokens".into(),
            json!({"image_token": "<image>"}),
        );
        config.insert(
            "eos_token".into(),
            json!({"content": "</s>", "special": true}),
        );
        config.insert("bos_token".into(), json!(null));
    });
    let template = ChatTemplate::of(&checkpoint).unwrap().unwrap();
    assert_eq!(template.render(&[], false).unwrap(), "<image>False</s>");
}

/// The vocabulary's files beside the smallest model.
fn opened(vocabulary: &Vocabulary) -> (TempDir, Checkpoint) {
    let folder = folder(vocabulary);
    let config = serde_json::to_vec(&config(vocabulary)).unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    let header = br#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    fs::write(folder.path().join("model.safetensors"), file).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    (folder, checkpoint)
}
