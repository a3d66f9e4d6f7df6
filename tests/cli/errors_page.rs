//! docs/errors.md shows what slim says to wrong uses; it must go on being what slim says.

use crate::bench::{Bench, village};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The page's commands and messages.
fn rows() -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let page = fs::read_to_string(page).unwrap();
    let row = |line: &str| {
        let cells = line.strip_prefix("| `slim ")?.strip_suffix(" |")?;
        let (command, message) = cells.split_once("` | ")?;
        Some((command.to_owned(), message.to_owned()))
    };
    page.lines().filter_map(row).collect()
}

/// What the page says is there.
fn workplace() -> Bench {
    let bench = Bench::new();
    symlink(village(), bench.path("model")).unwrap();
    bench
        .slim("prune --drop-layers none model model.gguf")
        .quietly();
    bench
        .slim("prune --drop-layers 2,5 model small.gguf")
        .quietly();
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden/llama");
    symlink(other, bench.path("other")).unwrap();
    fs::create_dir(bench.path("bare")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(village().join(name), bench.path("bare").join(name)).unwrap();
    }
    let whole = fs::read(bench.path("model.gguf")).unwrap();
    fs::write(bench.path("cut.gguf"), &whole[..2000]).unwrap();
    for (name, text) in [
        ("notes.txt", "just a text\n"),
        ("broken.json", "{\"layers\": 3}\n"),
        ("gates.toml", "gates = [\"retrieval>0.9\"]\n"),
        ("task.yaml", "task: farm\ndoc_to_txt: hi\n"),
    ] {
        fs::write(bench.path(name), text).unwrap();
    }
    bench
}

#[test]
fn the_page_of_errors_shows_what_slim_says() {
    let rows = rows();
    assert!(rows.len() >= 20, "{}", rows.len());
    let bench = workplace();
    let before = bench.snapshot();
    for (command, message) in rows {
        let ran = bench.slim(&command);
        assert_eq!(ran.code, Some(2), "{command}: {ran:?}");
        let first = ran.stderr.lines().next().unwrap_or_default();
        let said = first
            .trim_start_matches("slim: ")
            .trim_start_matches("error: ");
        assert_eq!(said, message, "slim {command}");
        assert!(
            bench.snapshot() == before,
            "{command} left something behind"
        );
    }
}
