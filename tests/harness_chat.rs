//! Prompts as turns of a chat template: what lm-evaluation-harness and transformers make of the
//! same tasks (fixtures/harness/chat.json), also where a task begins the model's own turn.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::{ChatTemplate, Message, Speaker, TextTokenizer, runnable};
use slim::eval::{Asking, Question, questions};
use slim::suite::harness::Options;
use slim::suite::{Protocol, Suite};

fn fixtures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(path)
}

fn tokenizer() -> TextTokenizer {
    runnable(&Checkpoint::open(&fixtures("village")).unwrap()).unwrap()
}

/// The texts that a model is given: (before, after), read back from the tokens.
fn requests(question: &Question, tokenizer: &TextTokenizer) -> Vec<(String, String)> {
    let text = |tokens: &[u32]| tokenizer.decode(tokens).unwrap();
    match question.protocol() {
        Protocol::Generate => vec![(text(&question.prompt), String::new())],
        _ => {
            let candidates = question.candidates.iter();
            let pair = candidates.map(|c| (text(&c.prompt), text(&c.tokens)));
            pair.collect()
        }
    }
}

/// The harness scores the white space at a prompt's end with what follows.
fn as_scored(request: &Value) -> (String, String) {
    let before = request[0].as_str().unwrap();
    match request[1].as_str() {
        None => (before.to_owned(), String::new()),
        Some(after) => {
            let kept = before.trim_end();
            let moved = &before[kept.len()..];
            (kept.to_owned(), format!("{moved}{after}"))
        }
    }
}

#[test]
fn prompts_in_a_chat_template_are_the_harnesss() {
    let made = fs::read_to_string(fixtures("harness/chat.json")).unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    let tokenizer = tokenizer();
    let special = made["special_tokens"].as_object().unwrap().iter();
    let special: Vec<(String, String)> = special
        .map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned()))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let lines = made["documents"].as_array().unwrap().iter();
    let lines: Vec<String> = lines.map(Value::to_string).collect();
    let (train, test) = lines.split_at(2);
    fs::write(folder.path().join("train.jsonl"), train.join("\n")).unwrap();
    fs::write(folder.path().join("test.jsonl"), test.join("\n")).unwrap();
    let file = folder.path().join("chat.yaml");
    let mut compared = 0;
    for case in made["cases"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let place = format!("{name}, {}, {}", case["kind"], case["extra"]);
        let source = fs::read_to_string(fixtures("chat/templates").join(name)).unwrap();
        let template = ChatTemplate::new(name, source, special.clone()).unwrap();
        fs::write(&file, case["task"].as_str().unwrap()).unwrap();
        let suite = Suite::open(&file, &Options::default()).unwrap();
        let asking = Asking {
            tokenizer: &tokenizer,
            context_length: 4096,
            chat: Some(&template),
        };
        let asked = questions(&suite.all(), Protocol::ALL, &asking).unwrap();
        let expected = case["requests"].as_array().unwrap();
        assert_eq!(asked.len(), expected.len(), "{place}");
        for (question, expected) in asked.iter().zip(expected) {
            let theirs = expected.as_array().unwrap().iter().map(as_scored);
            let theirs: Vec<(String, String)> = theirs.collect();
            assert_eq!(requests(question, &tokenizer), theirs, "{place}");
            assert_eq!(question.text, expected[0][0].as_str().unwrap(), "{place}");
            compared += theirs.len();
        }
    }
    assert!(compared >= 150, "{compared}");
}

#[test]
fn a_template_that_hides_the_turn_which_is_gone_on_with_is_refused() {
    let source = "{% for m in messages %}{{ m.role }}{% endfor %}".to_owned();
    let template = ChatTemplate::new("default", source, Vec::new()).unwrap();
    let turns = [
        Message::new(Speaker::User, "Who?"),
        Message::new(Speaker::Assistant, "It is"),
    ];
    let error = template.render_begun(&turns).unwrap_err().to_string();
    assert!(error.contains("own turn begins"), "{error}");
    assert!(error.ends_with("Leave out --apply-chat-template to ask without it"));
}
