//! A model from the hub, through the binary.

use crate::server::{Asked, COMMIT, Reply, Server, git, ok, sha256, status};
use assert_cmd::Command;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Output;

const CARD: &[u8] = b"---\nlicense: apache-2.0\ntags:\n- tiny\n---\n# Village\n\nA small one.\n";

/// The repository `owner/village`: the fixture's files, a card, a GGUF file in two types, and pickled
/// weights, which nobody wants.
fn village(asked: &Asked) -> Reply {
    let content = |name: &str| match name {
        "README.md" => Some(CARD.to_vec()),
        "village-F32.gguf" | "village-F16.gguf" | "pytorch_model.bin" => Some(b"no".to_vec()),
        _ => fs::read(Path::new("fixtures/village").join(name)).ok(),
    };
    let names = [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "tokenizer.json",
        "tokenizer_config.json",
        "village-F16.gguf",
        "village-F32.gguf",
    ];
    if asked.path == "/api/models/owner/village/revision/main?blobs=true" {
        let file = |name: &&str| {
            let content = content(name)?;
            let lfs = json!({"sha256": sha256(&content), "size": content.len()});
            let lfs = name.ends_with(".safetensors").then_some(lfs);
            Some(
                json!({"rfilename": name, "size": content.len(), "blobId": git(&content), "lfs": lfs}),
            )
        };
        let files: Vec<Value> = names.iter().filter_map(file).collect();
        return ok(json!({"id": "owner/village", "sha": COMMIT, "siblings": files}).to_string());
    }
    let name = asked
        .path
        .strip_prefix(&format!("/owner/village/resolve/{COMMIT}/"));
    name.and_then(content).map_or_else(|| status(404), ok)
}

fn slim(arguments: &str, folder: &Path, endpoint: &str, offline: bool) -> Output {
    let mut slim = Command::cargo_bin("slim").unwrap();
    slim.args(arguments.split_whitespace())
        .current_dir(folder)
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HOME", folder.join("home"))
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_TOKEN");
    match offline {
        true => slim.env("HF_HUB_OFFLINE", "1"),
        false => slim.env_remove("HF_HUB_OFFLINE"),
    };
    slim.output().unwrap()
}

#[test]
fn a_model_from_the_hub_is_pruned_by_its_name_and_named_in_the_card() {
    let server = Server::new(village);
    let folder = tempfile::tempdir().unwrap();
    let prune = "prune --drop-layers 3 hf:owner/village";
    let ran = slim(
        &format!("{prune} small"),
        folder.path(),
        &server.endpoint,
        false,
    );
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert_eq!(server.downloads("model.safetensors").len(), 1);
    for unwanted in ["pytorch_model.bin", "village-F16.gguf"] {
        assert!(server.downloads(unwanted).is_empty(), "{unwanted}");
    }
    let read = |name: &str| fs::read(folder.path().join("small").join(name)).unwrap();
    assert_eq!(read("README.source.md"), CARD);
    let card = String::from_utf8(read("README.md")).unwrap();
    let (front, text) = card[4..].split_once("\n---\n").unwrap();
    let lines: Vec<&str> = front.lines().collect();
    assert!(lines.contains(&"license: apache-2.0"), "{card}");
    assert!(lines.contains(&"base_model: owner/village"), "{card}");
    assert!(!lines.contains(&"- tiny"), "{card}");
    assert!(
        text.contains("7 of 8 layers") && text.contains("its layers 3."),
        "{card}"
    );
    // Again, from the cache: nobody is asked.
    let before = server.log().len();
    let again = slim(
        &format!("{prune} again.gguf"),
        folder.path(),
        &server.endpoint,
        true,
    );
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(server.log().len(), before);
    let shown = slim(
        "inspect again.gguf --json",
        folder.path(),
        &server.endpoint,
        true,
    );
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains(&format!("owner/village@{COMMIT}")),
        "{shown}"
    );
}

#[test]
fn what_the_hub_does_not_have_is_an_error_that_says_what_it_has() {
    let server = Server::new(village);
    let folder = tempfile::tempdir().unwrap();
    for (command, words) in [
        (
            "inspect hf:owner/village:Q4_K_M",
            &["Q4_K_M", "village-F16.gguf"][..],
        ),
        (
            "inspect hf:owner/other",
            &["hf:owner/other", "knows no such repository"],
        ),
        ("inspect hf:owner/village@v9", &["hf:owner/village@v9"]),
        ("inspect hf:a/b/c", &["hf:owner/name"]),
        // Fetched, and no GGUF file.
        ("inspect hf:owner/village:F16", &["village-F16.gguf"]),
    ] {
        let ran = slim(command, folder.path(), &server.endpoint, false);
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{command}: {said}");
        for word in words {
            assert!(said.contains(word), "{command}: {said}");
        }
    }
    let ran = slim(
        "inspect hf:owner/other",
        folder.path(),
        &server.endpoint,
        true,
    );
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("HF_HUB_OFFLINE"), "{said}");
}
