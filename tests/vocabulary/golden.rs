//! Against other programs: the stock converter's keys, and llama.cpp's and SentencePiece's ids.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::{TextTokenizer, Vocabulary};

/// The folder of golden models, or `None` (and a line that says so) where it is not.
fn golden() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    if !dir.is_dir() {
        eprintln!("skipped: {} is not there", dir.display());
        return None;
    }
    Some(dir)
}

fn config(dir: &Path) -> Map<String, Value> {
    serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap()
}

#[test]
fn keys_equal_the_stock_converters() {
    let Some(golden) = golden() else { return };
    let mut compared = 0;
    for entry in fs::read_dir(golden).unwrap() {
        let dir = entry.unwrap().path();
        let stock = dir.join("converted.f32.gguf");
        if !stock.is_file() {
            continue;
        }
        let stock = Checkpoint::open(&stock).unwrap();
        let keys = stock.gguf().unwrap().iter();
        let expected: Vec<_> = keys
            .filter(|(key, _)| key.starts_with("tokenizer."))
            .collect();
        let ours = Vocabulary::from_hf(&dir, &config(&dir), None)
            .unwrap()
            .to_gguf();
        let names =
            |pairs: &mut dyn Iterator<Item = &str>| pairs.map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            names(&mut ours.iter().map(|(key, _)| &**key)),
            names(&mut expected.iter().map(|(key, _)| *key)),
            "{}",
            dir.display()
        );
        for ((key, ours), (_, theirs)) in ours.iter().zip(&expected) {
            assert!(
                ours == theirs,
                "{}: {key}: {ours:?}, not {theirs:?}",
                dir.display()
            );
        }
        compared += 1;
    }
    assert!(compared > 0, "no golden conversion was found");
}

#[test]
fn ids_equal_llama_cpps_and_sentencepieces() {
    let Some(golden) = golden() else { return };
    let cases: Vec<(String, Vec<u32>)> =
        serde_json::from_str(include_str!("stories260k.json")).unwrap();
    let dir = golden.join("stories260k");
    let gguf = Checkpoint::open(&dir.join("converted.f32.gguf")).unwrap();
    let from_gguf = Vocabulary::from_gguf(gguf.gguf().unwrap()).unwrap();
    let tokenizers = [
        TextTokenizer::new(&from_gguf).unwrap(),
        TextTokenizer::from_hf(&dir, &config(&dir)).unwrap(),
    ];
    for (text, ids) in &cases {
        for tokenizer in &tokenizers {
            assert_eq!(&tokenizer.encode(text, false).unwrap(), ids, "{text:?}");
        }
    }
}
