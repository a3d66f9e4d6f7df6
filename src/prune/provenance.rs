//! Where a pruned file comes from, in the words that both formats carry.

use super::Request;
use crate::arch::{Arch, Half, KeepSet};
use anyhow::Result;

/// The digest's key; in GGUF its value is filled in once the source has been read.
pub(super) const SHA256: &str = "slim.source.sha256";

/// Who wrote the file.
pub(super) const VERSION: &str = "slim.version";

/// The layers that were kept, by original index.
pub(super) const KEPT: &str = "slim.layers.kept";

/// The kept layers of which only a half was kept, each with that half: `3:attention,7:mlp`.
pub(super) const KEPT_HALVES: &str = "slim.layers.kept_halves";

/// Provenance of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// `slim.version`, `slim.source.name`, … as text, in writing order, without the layers.
    pub texts: Vec<(&'static str, String)>,
    /// How many layers the source had.
    pub source_layers: usize,
    /// The layers that were kept.
    pub kept: KeepSet,
}

impl Provenance {
    pub(super) fn of(request: &Request, arch: &Arch) -> Result<Self> {
        let path = request.checkpoint.path();
        let name = path.canonicalize().ok().and_then(|path| {
            let name = path.file_name()?;
            Some(name.to_string_lossy().into_owned())
        });
        let mut texts = vec![
            (VERSION, env!("CARGO_PKG_VERSION").to_owned()),
            ("slim.source.name", name.unwrap_or_default()),
        ];
        if let Some(measured) = &request.measured {
            texts.push(("slim.measured", measured.clone()));
        }
        Ok(Self {
            texts,
            source_layers: arch.n_layers(request.checkpoint)?,
            kept: request.keep.clone(),
        })
    }
}

/// The model's name with what became of it.
pub(super) fn pruned_name(name: &str, keep: &KeepSet, n_layers: usize) -> String {
    let mut parts = match keep.len() == n_layers {
        true => Vec::new(),
        false => vec![format!("{} of {n_layers} layers", keep.len())],
    };
    for gone in [Half::Attention, Half::Mlp] {
        let without = keep
            .halves()
            .iter()
            .filter(|(_, kept)| kept.other() == gone);
        parts.extend(match without.count() {
            0 => None,
            count => Some(format!("{count} without {}", gone.title())),
        });
    }
    match parts.is_empty() {
        true => name.to_owned(),
        false => format!("{name} ({})", parts.join(", ")),
    }
}
