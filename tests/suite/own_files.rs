//! People's own task files.

use std::path::Path;

use slim::suite::harness::Options;
use slim::suite::{Protocol, Sheet, Suite};

/// Opens one task file with this text.
fn open_text(text: &str) -> Result<Suite, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("mine.json");
    std::fs::write(&file, text).expect("written");
    Suite::open(&file, &Options::default()).map_err(|error| error.to_string())
}

/// A task of two small items, with `from` replaced by `to`.
fn edited(from: &str, to: &str) -> Result<Suite, String> {
    const GOOD: &str = r#"{"schema_version": 1, "task": "mine", "family": "knowledge",
        "protocols": ["choice", "continuation"], "items": [
        {"id": "a", "question": "Who?", "stem": "It is", "options": ["you", "me"], "answer": 1},
        {"id": "b", "question": "Where?", "stem": "It is", "options": ["here", "there"], "answer": 0}]}"#;
    assert!(
        from.is_empty() || GOOD.contains(from),
        "{from} is not in the text"
    );
    open_text(&if from.is_empty() {
        GOOD.to_owned()
    } else {
        GOOD.replacen(from, to, 1)
    })
}

#[test]
fn a_small_file_of_ones_own_is_a_suite() {
    let suite = edited("", "").expect("valid");
    let task = &suite.tasks[0];
    assert_eq!((suite.name.as_str(), task.items.len()), ("mine", 2));
    let ways: Vec<Protocol> = task.items[0].asks.iter().map(|ask| ask.protocol).collect();
    assert_eq!(ways, [Protocol::Choice, Protocol::Continuation]);
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "knowledge",
            "recall",
            &["recall", "knowledge", "retrieval", "line 1"],
        ),
        ("\"choice\"", "\"letters\"", &["letters", "continuation"]),
        (
            "schema_version\": 1",
            "schema_version\": 9",
            &["schema_version", "is 9", "version 1"],
        ),
        ("\"task\"", "\"name\"", &["name", "task"]),
        (
            "answer\": 1",
            "answer\": 2",
            &["item \"a\"", "answer", "2 options"],
        ),
        (
            "answer\": 1",
            "answer\": -1",
            &["item \"a\"", "answer", "-1"],
        ),
        (
            "answer\": 1",
            "answer\": 1.5",
            &["item \"a\"", "answer", "1.5"],
        ),
        (
            "\"answer\"",
            "\"anwser\"",
            &["item \"a\"", "anwser", "answer"],
        ),
        (
            "\"id\": \"b\"",
            "\"id\": \"a\"",
            &["item \"a\"", "id", "twice"],
        ),
        ("\"id\": \"b\",", "", &["item 1", "id", "missing"]),
        (
            "[\"you\", \"me\"]",
            "[\"me\", \"me\"]",
            &["item \"a\"", "options", "twice"],
        ),
        (
            "[\"you\", \"me\"]",
            "[\"you\", \"\"]",
            &["item \"a\"", "options", "empty"],
        ),
        (
            "[\"you\", \"me\"]",
            "[\"you\", \" me\"]",
            &["item \"a\"", "options", "space"],
        ),
        (
            "[\"you\", \"me\"]",
            "[\"me\"]",
            &["item \"a\"", "options", "2 to 26"],
        ),
        (
            "\"It is\"",
            "\"It is \"",
            &["item \"a\"", "stem", "white space"],
        ),
        ("\"continuation\"", "\"generate\", \"choice\"", &[]),
        (
            "\"choice\", \"continuation\"",
            "",
            &["protocols", "choice, continuation, generate"],
        ),
        (
            "\"protocols\"",
            "\"stop\": [\"\"], \"protocols\"",
            &["stop", "empty"],
        ),
        (
            "\"protocols\"",
            "\"max_new_tokens\": 0, \"protocols\"",
            &["max_new_tokens", "1 to"],
        ),
        ("}]}", "}", &["mine.json", "line 4"]),
    ];
    for (from, to, expected) in cases {
        let result = edited(from, to);
        if expected.is_empty() {
            assert!(result.is_ok(), "{from} → {to}: {result:?}");
            continue;
        }
        let error = result.expect_err(to);
        assert!(error.contains("mine.json"), "{error}");
        for word in *expected {
            assert!(
                error.contains(word),
                "{from} → {to}: {error:?} lacks {word:?}"
            );
        }
    }
}

#[test]
fn an_item_without_the_fields_of_any_protocol_is_refused() {
    let error = edited(
        "\"question\": \"Who?\", \"stem\": \"It is\", \"options\": [\"you\", \"me\"], \"answer\": 1",
        "\"stem\": \"x\"",
    );
    let error = error.expect_err("cannot be asked");
    assert!(
        error.contains("item \"a\"") && error.contains("options"),
        "{error}"
    );
}

#[test]
fn a_folder_is_read_in_name_order_and_task_names_are_unique() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = |path: &Path| Suite::open(path, &Options::default());
    let empty = open(folder.path()).expect_err("nothing there").to_string();
    assert!(empty.contains("no *.json"), "{empty}");
    let mut task = Sheet::embedded().swap_remove(0);
    for (file, name) in [
        ("b.json", "second"),
        ("a.json", "first"),
        ("notes.txt", "third"),
    ] {
        task.task = name.to_owned();
        std::fs::write(folder.path().join(file), task.to_json()).expect("written");
    }
    let suite = open(folder.path()).expect("two tasks");
    let names: Vec<&str> = suite.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["first", "second"]);
    task.task = "first".to_owned();
    std::fs::write(folder.path().join("c.json"), task.to_json()).expect("written");
    let twice = open(folder.path()).expect_err("two of a name").to_string();
    assert!(
        twice.contains("c.json") && twice.contains("\"first\""),
        "{twice}"
    );
    let absent = open(&folder.path().join("absent.json"))
        .expect_err("absent")
        .to_string();
    assert!(absent.contains("absent.json"), "{absent}");
}

#[test]
fn a_file_above_the_size_cap_is_refused_unread() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("huge.json");
    let sparse = std::fs::File::create(&file).expect("created");
    sparse
        .set_len(slim::suite::MAX_FILE_BYTES + 1)
        .expect("sparse");
    let error = Suite::open(&file, &Options::default());
    let error = error.expect_err("too large").to_string();
    assert!(
        error.contains("huge.json") && error.contains("larger"),
        "{error}"
    );
}
