//! What several test files need.
#![allow(dead_code)]

use candle_core::Tensor;
use std::path::{Path, PathBuf};

/// A folder of ../shared/golden; says so and gives nothing where it is not there.
pub fn golden(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("../shared/golden").join(name);
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

/// The golden cases that the repository itself has, by name, and where it is beside the checkout
/// those of ../shared.
pub fn golden_cases() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cases = Vec::new();
    for folder in ["fixtures/golden", "../shared/golden"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
            eprintln!("skipped: {folder} is not there");
            continue;
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        for path in paths.filter(|path| path.join("golden.safetensors").exists()) {
            let name = path.file_name().unwrap().to_string_lossy();
            cases.push((format!("{folder}/{name}"), path.clone()));
        }
    }
    cases.sort();
    assert!(cases.len() >= 17, "the repository's golden cases are there");
    cases
}

/// The case that slim refuses: GGUF has no word for layers that attend to a window from some
/// layer on, and the stock converter drops it silently.
pub const REFUSED: &str = "qwen2_sliding";

/// The trained fixture.
pub fn village() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/village")
}

/// The largest difference as a share of the largest value.
pub fn relative_error(found: &Tensor, expected: &Tensor) -> f32 {
    let largest = |t: Tensor| {
        t.abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    largest((found - expected).unwrap()) / largest(expected.clone())
}
