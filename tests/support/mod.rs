//! What several test files need.
#![allow(dead_code)]

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

/// The trained fixture.
pub fn village() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/village")
}
