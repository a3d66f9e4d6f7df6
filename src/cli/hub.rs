//! Models on the hub: where a command takes the path of a model, it takes `hf:owner/name` too.

use super::progress::Fetched;
use crate::checkpoint::hub::{Hub, RemoteModel};
use anyhow::Result;
use std::path::PathBuf;

/// Replaces the name of a model on the hub by where the cache has it, after fetching what is missing.
///
/// # Errors
/// A name that is none; what the hub reports.
pub(super) fn fetch(path: &mut PathBuf) -> Result<()> {
    let Some(text) = path.to_str().filter(|_| RemoteModel::is_named(path)) else {
        return Ok(());
    };
    let model = RemoteModel::parse(text)?;
    let progress = Fetched::new();
    *path = model.fetch(&Hub::from_env()?, |step| progress.show(text, step))?;
    Ok(())
}
