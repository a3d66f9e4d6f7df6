//! What commands read and write beside models: profiles, plans, reports.

use crate::checkpoint::{AtomicFile, check_target};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Checks, before any work, that a file beside the models can be written and is none of them.
pub(super) fn check_beside(path: Option<&PathBuf>, models: &[&Path]) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    check_target(path, models)?;
    let extension = path.extension().unwrap_or_default();
    ensure!(
        extension != "gguf" && extension != "safetensors",
        "{} has the name of a model: give another name, as NAME.json",
        path.display()
    );
    let absolute = |path: &Path| std::path::absolute(path).ok();
    for model in models {
        ensure!(
            absolute(path) != absolute(model),
            "{} is also the name of a model here: give another name",
            path.display()
        );
        ensure!(
            !path.exists() || !model.is_dir() || path.parent() != Some(*model),
            "{} belongs to a model: give another name",
            path.display()
        );
    }
    Ok(())
}

/// Writes a JSON file through a temporary one.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_text(path, &(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes a text, whole or not at all.
pub(super) fn write_text(path: &Path, text: &str) -> Result<()> {
    let file = AtomicFile::create(path)?;
    file.file()
        .write_all(text.as_bytes())
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(file.commit()?)
}

/// Reads a JSON file of a known kind.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        format!(
            "{} is no {what} that this slim reads: make it again",
            path.display()
        )
    })
}
