//! Tasks in lm-evaluation-harness's words: what slim makes of documents is what the harness makes
//! of them (fixtures/harness, recorded from the harness itself), and every mistake in a task file
//! is named with its line and field.

use serde_json::Value;
use slim::eval::{Likelihood, judge};
use slim::suite::harness::{Options, builtins};
use slim::suite::{Answer, Ask, Suite, Task};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn fixture(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/harness");
    serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
}

/// The documents of every task, laid out as on the hub.
fn data() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (task, splits) in fixture("documents.json").as_object().unwrap() {
        for (split, documents) in splits.as_object().unwrap() {
            let lines: Vec<String> = documents
                .as_array()
                .unwrap()
                .iter()
                .map(Value::to_string)
                .collect();
            let place = folder.path().join(task);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join(format!("{split}.jsonl")), lines.join("\n")).unwrap();
        }
    }
    // Tasks of one dataset.
    let other = [
        ("mmlu", "mmlu_continuation"),
        ("mmlu", "mmlu_generative"),
        ("arc_easy", "arc_challenge"),
    ];
    for (from, to) in other {
        let root = folder.path();
        std::os::unix::fs::symlink(root.join(from), root.join(to)).unwrap();
    }
    folder
}

fn opened(task: &str, options: &Options) -> Task {
    let suite = Suite::select(&[task.to_owned()], options);
    suite
        .unwrap_or_else(|e| panic!("{task}: {e}"))
        .tasks
        .remove(0)
}

/// The texts that are given to a model: (before, after).
fn requests(ask: &Ask) -> Vec<(String, String)> {
    match &ask.answer {
        Answer::Passage { text, .. } => vec![(text.clone(), String::new())],
        Answer::Written(_) => vec![(ask.prompts().remove(0), String::new())],
        _ => {
            let after = |option| format!("{}{option}", ask.delimiter);
            let prompts = ask.prompts().into_iter();
            let pairs = prompts.flat_map(|prompt| {
                let options = ask.options().into_iter();
                options.map(move |option| (prompt.clone(), after(option)))
            });
            pairs.collect()
        }
    }
}

/// The model of fixtures/harness/make.py: it knows the texts' lengths only.
fn likelihood(before: &str, after: &str) -> Likelihood {
    let (before, after) = (before.chars().count(), after.chars().count());
    Likelihood {
        log_prob: -(((before * 7 + after * 13) % 101) as f64) / 10.0,
        greedy: after.is_multiple_of(2),
    }
}

const SAID: [&str; 8] = [
    " B\nmore",
    " The answer is 7, I think.\n#### 7",
    "Paris",
    " yes",
    " No.",
    " 12 and 5.00",
    " (A) because",
    " True",
];

fn answered(ask: &Ask, turn: usize) -> HashMap<String, (f64, f64)> {
    let measured = match &ask.answer {
        Answer::Written(_) => judge(ask, &[], Some(SAID[turn % SAID.len()])),
        Answer::Passage { text, .. } => {
            let whole = Likelihood {
                log_prob: -((text.chars().count() % 101) as f64),
                greedy: false,
            };
            judge(ask, &[whole], None)
        }
        _ => {
            let requests = requests(ask);
            let found: Vec<_> = requests.iter().map(|(b, a)| likelihood(b, a)).collect();
            judge(ask, &found, None)
        }
    };
    let values = measured
        .into_iter()
        .map(|m| (m.metric, (m.value, m.weight)));
    values.collect()
}

#[test]
fn prompts_examples_filters_and_metrics_are_the_harnesss() {
    let data = data();
    let mut compared = 0;
    for run in fixture("expected.json")["runs"].as_array().unwrap() {
        let name = run["task"].as_str().unwrap();
        let shots = run["num_fewshot"].as_u64();
        let options = Options {
            data: vec![data.path().to_owned()],
            num_fewshot: shots.map(|n| n as usize),
            limit: None,
            download: None,
        };
        let task = opened(name, &options);
        let expected = run["items"].as_array().unwrap();
        assert_eq!(task.items.len(), expected.len(), "{name}");
        // The harness has a task for each subject, and its model begins anew with each.
        let mut turns: HashMap<&str, usize> = HashMap::new();
        for (item, expected) in task.items.iter().zip(expected) {
            let place = format!("{name}, {shots:?} shots, item {}", item.id);
            let ask = &item.asks[0];
            let subject = item.slices.last().map_or("", String::as_str);
            let group = if name.starts_with("mmlu") {
                subject
            } else {
                ""
            };
            let turn = turns.entry(group).or_default();
            let texts = expected["requests"].as_array().unwrap();
            let ours = requests(ask);
            assert_eq!(ours.len(), texts.len(), "{place}");
            for ((before, after), theirs) in ours.iter().zip(texts) {
                assert_eq!(before, theirs[0].as_str().unwrap(), "{place}");
                if !after.is_empty() {
                    assert_eq!(after, theirs[1].as_str().unwrap(), "{place}");
                }
            }
            let found = answered(ask, *turn);
            *turn += 1;
            let metrics = expected["metrics"].as_object().unwrap();
            for (metric, theirs) in metrics {
                let Some(found) = found.get(metric) else {
                    panic!("{place}: no {metric}, only {found:?}");
                };
                let theirs = (theirs[0].as_f64().unwrap(), theirs[1].as_f64().unwrap());
                assert!(
                    (found.0 - theirs.0).abs() < 1e-9,
                    "{place}: {metric} {found:?} {theirs:?}"
                );
                assert_eq!(found.1, theirs.1, "{place}: {metric}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn every_definition_that_slim_carries_can_be_read() {
    let nowhere = Options::default();
    for builtin in builtins() {
        let error = builtin.open(&nowhere).unwrap_err().to_string();
        assert!(error.contains("--data"), "{}: {error}", builtin.name);
        let name = format!("task: {}\n", builtin.name);
        assert!(builtin.text.contains(&name), "{}", builtin.name);
    }
}

const GOOD: &str = r#"task: mine
dataset_path: json
dataset_kwargs:
  data_files:
    test: mine.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}\nAnswer:"
doc_to_choice: "{{options}}"
doc_to_target: "{{answer}}"
num_fewshot: 0
metric_list:
  - metric: acc
metadata:
  family: knowledge
  slices: "{{topic}}"
"#;

const DOCUMENTS: &str = r#"{"question": "Which is a bird?", "options": ["owl", "cod"], "answer": 0, "topic": "animals"}
{"question": "Which is a fish?", "options": ["owl", "cod"], "answer": 1, "topic": "animals"}
"#;

/// A task file with `from` replaced by `to`, and its documents beside it.
fn edited(from: &str, to: &str, documents: &str) -> (TempDir, PathBuf) {
    assert!(
        from.is_empty() || GOOD.contains(from),
        "{from} is not in the text"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.yaml");
    fs::write(&path, GOOD.replacen(from, to, 1)).unwrap();
    fs::write(folder.path().join("mine.jsonl"), documents).unwrap();
    (folder, path)
}

#[test]
fn a_task_file_of_ones_own_is_asked_as_it_says() {
    let (_folder, path) = edited("", "", DOCUMENTS);
    let task = opened(&path.display().to_string(), &Options::default());
    assert_eq!((task.name.as_str(), task.items.len()), ("mine", 2));
    let ask = &task.items[1].asks[0];
    assert_eq!(ask.prompts(), ["Which is a fish?\nAnswer:"]);
    assert_eq!((ask.options(), ask.right()), (vec!["owl", "cod"], &[1][..]));
    assert_eq!(task.items[1].slices, ["animals"]);
}

#[test]
fn every_mistake_in_a_task_file_is_named_with_its_line_and_field() {
    // (what is changed, to what, words of the message)
    let cases: &[(&str, &str, &[&str])] = &[
        ("task: mine\n", "", &["line 1", "task", "missing"]),
        (
            "task: mine",
            "task: [mine]",
            &["line 1", "task", "a list", "a text"],
        ),
        (
            "doc_to_text",
            "doc_to_txt",
            &["line 8", "doc_to_txt", "did you mean doc_to_text"],
        ),
        (
            "multiple_choice",
            "multi_choice",
            &[
                "line 7",
                "output_type",
                "multi_choice",
                "multiple_choice",
                "generate_until",
            ],
        ),
        (
            "{{question}}",
            "{{question",
            &["line 8", "doc_to_text", "Jinja"],
        ),
        (
            "{{question}}",
            "{{qestion}}",
            &[
                "line 8",
                "doc_to_text",
                "undefined",
                "question, options, answer, topic",
            ],
        ),
        (
            "\"{{options}}\"",
            "\"{{question}}\"",
            &["line 9", "doc_to_choice", "not a list"],
        ),
        (
            "doc_to_choice: \"{{options}}\"\n",
            "",
            &["line 1", "doc_to_choice", "missing"],
        ),
        (
            "\"{{answer}}\"",
            "\"{{question}}\"",
            &[
                "line 10",
                "doc_to_target",
                "none of the 2 choices",
                "Which is a bird?",
            ],
        ),
        (
            "doc_to_target: \"{{answer}}\"\n",
            "",
            &["doc_to_target", "missing"],
        ),
        (
            "\"{{answer}}\"",
            "!function utils.target",
            &["line 10", "doc_to_target", "Python function utils.target"],
        ),
        (
            "num_fewshot: 0",
            "num_fewshot: many",
            &["line 11", "num_fewshot", "many", "whole number"],
        ),
        (
            "num_fewshot: 0",
            "num_fewshot: -1",
            &["line 11", "num_fewshot", "-1", "0 to 100"],
        ),
        (
            "num_fewshot: 0",
            "num_fewshot: 5",
            &["num_fewshot", "is 5", "only 1"],
        ),
        (
            "metric: acc",
            "metric: accuracy",
            &["line 13", "metric_list[0].metric", "accuracy", "acc_norm"],
        ),
        (
            "metric: acc",
            "metric: exact_match",
            &["line 13", "metric_list[0].metric", "exact_match", "acc"],
        ),
        (
            "family: knowledge",
            "family: facts",
            &[
                "line 15",
                "metadata.family",
                "facts",
                "knowledge, retrieval",
            ],
        ),
        (
            "  family: knowledge\n",
            "",
            &["metadata.family", "missing", "knowledge, retrieval"],
        ),
        (
            "family: knowledge",
            "family: knowledge\n  protocol: generate",
            &["metadata.protocol", "generate", "multiple_choice"],
        ),
        ("test_split: test\n", "", &["test_split", "missing"]),
        (
            "test: mine.jsonl",
            "test: other.jsonl",
            &["split test", "other.jsonl"],
        ),
        (
            "dataset_kwargs:\n  data_files:\n    test: mine.jsonl\n",
            "",
            &["split test", "--data"],
        ),
        (
            "num_fewshot: 0",
            "num_fewshot: 0\nnum_fewshot: 1",
            &["line 12", "num_fewshot", "twice"],
        ),
        (
            "num_fewshot: 0",
            "process_docs: !function utils.f",
            &["line 11", "process_docs", "Python"],
        ),
        ("num_fewshot: 0", "repeats: 3", &["line 11", "repeats", "1"]),
        (
            "num_fewshot: 0",
            "generation_kwargs: {do_sample: true, temperature: 0.0}",
            &["generation_kwargs.temperature", "do_sample false"],
        ),
        (
            "num_fewshot: 0",
            "generation_kwargs: {until: [\"\"]}",
            &["generation_kwargs.until", "empty"],
        ),
        (
            "num_fewshot: 0",
            "filter_list: [{name: x, filter: [{function: majority}]}]",
            &["filter_list[0].filter[0].function", "majority", "regex"],
        ),
        (
            "num_fewshot: 0",
            "filter_list: [{name: x, filter: [{function: regex, regex_pattern: \"(\"}]}]",
            &[
                "filter_list[0].filter[0].regex_pattern",
                "regular expression",
            ],
        ),
        ("num_fewshot: 0", "include: base.yaml", &["base.yaml"]),
        ("task: mine", "task: {mine", &["mine.yaml", "line"]),
    ];
    for (from, to, words) in cases {
        let (_folder, path) = edited(from, to, DOCUMENTS);
        let error = Suite::open(&path, &Options::default());
        let error = error.expect_err(to).to_string();
        assert!(!error.contains("line 0"), "{error}");
        for word in *words {
            assert!(
                error.contains(word),
                "{from} → {to}: {error:?} lacks {word:?}"
            );
        }
    }
    assert!(cases.len() >= 20);
}

#[test]
fn every_mistake_in_the_documents_is_named_with_its_place() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["split test", "no documents"]),
        ("{\"question\": 1\n", &["mine.jsonl", "line 1"]),
        ("[1, 2]\n", &["mine.jsonl", "line 1", "no object"]),
        (
            "{\"question\": \"x\", \"options\": [\"a\", \"b\"], \"answer\": 7, \"topic\": \"t\"}\n",
            &["doc_to_target", "\"7\"", "2 choices"],
        ),
        (
            "{\"question\": \"x\", \"options\": [], \"answer\": 0, \"topic\": \"t\"}\n",
            &["doc_to_choice", "not a list"],
        ),
    ];
    for (documents, words) in cases {
        let (_folder, path) = edited("", "", documents);
        let error = Suite::open(&path, &Options::default());
        let error = error.expect_err(documents).to_string();
        for word in *words {
            assert!(
                error.contains(word),
                "{documents}: {error:?} lacks {word:?}"
            );
        }
    }
}

#[test]
fn an_unknown_task_is_answered_with_the_nearest_name() {
    let unknown = |name: &str| {
        let suite = Suite::select(&[name.to_owned()], &Options::default());
        suite.unwrap_err().to_string()
    };
    assert!(unknown("helaswag").contains("did you mean hellaswag"));
    assert!(unknown("xyz").contains("gsm8k"));
}
