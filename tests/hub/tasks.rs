//! A task's documents from the hub, through the binary.

use crate::server::{Asked, COMMIT, Reply, Server, git, ok, status};
use assert_cmd::Command;
use serde_json::json;

const DOCUMENTS: &[u8] =
    br#"{"goal": "Dry a cup", "sol1": "Use a cloth.", "sol2": "Sink it.", "label": 0}
"#;

fn dataset(asked: &Asked) -> Reply {
    let listing = json!({"id": "baber/piqa", "sha": COMMIT, "siblings": [
        {"rfilename": "README.md", "size": 5, "blobId": git(b"piqa!")},
        {"rfilename": "data/train.jsonl", "size": DOCUMENTS.len(), "blobId": git(DOCUMENTS)},
        {"rfilename": "data/validation.jsonl", "size": DOCUMENTS.len(), "blobId": git(DOCUMENTS)},
    ]});
    let file = format!("/datasets/baber/piqa/resolve/{COMMIT}/data/validation.jsonl");
    match asked.path.as_str() {
        path if path.starts_with("/api/datasets/baber/piqa/revision/main") => {
            ok(listing.to_string())
        }
        path if path == file => ok(DOCUMENTS),
        _ => status(404),
    }
}

#[test]
fn a_tasks_documents_are_fetched_on_request_and_only_those_that_are_needed() {
    let server = Server::new(dataset);
    let home = tempfile::tempdir().unwrap();
    let show = |arguments: &[&str]| {
        let mut slim = Command::cargo_bin("slim").unwrap();
        slim.args(["suite", "show", "piqa"]).args(arguments);
        slim.env("HF_ENDPOINT", &server.endpoint)
            .env("HF_HOME", home.path());
        slim.env_remove("HF_HUB_CACHE").env_remove("HF_HUB_OFFLINE");
        slim.output().unwrap()
    };
    let unasked = show(&[]);
    assert_eq!(unasked.status.code(), Some(2));
    let told = String::from_utf8_lossy(&unasked.stderr);
    assert!(told.contains("--download"), "{told}");
    assert!(server.log().is_empty());
    let fetched = show(&["--download"]);
    // The bar is for terminals.
    assert_eq!(String::from_utf8_lossy(&fetched.stderr), "");
    let text = String::from_utf8_lossy(&fetched.stdout);
    assert!(text.contains("Question: Dry a cup\nAnswer:"), "{text}");
    assert_eq!(server.downloads("validation.jsonl").len(), 1);
    assert!(server.downloads("train.jsonl").is_empty());
}
