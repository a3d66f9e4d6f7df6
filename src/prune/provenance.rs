//! Where a pruned file comes from, in the words that both formats carry.

use super::Request;
use crate::arch::{Arch, Half, KeepSet, Part, parse_parts};
use crate::checkpoint::Checkpoint;
use anyhow::Result;

/// The digest's key; in GGUF its value is filled in once the source has been read.
pub(super) const SHA256: &str = "slim.source.sha256";

/// Who wrote the file.
pub(super) const VERSION: &str = "slim.version";

/// The layers that were kept, by original index.
pub(super) const KEPT: &str = "slim.layers.kept";

/// The kept layers of which only a half was kept, each with that half: `3:attention,7:mlp`.
pub(super) const KEPT_HALVES: &str = "slim.layers.kept_halves";

/// The source's name.
const NAME: &str = "slim.source.name";

/// How the keep set came about.
const MEASURED: &str = "slim.measured";

/// What healing did.
const HEAL: &str = "slim.heal";

/// How many layers the source had, as GGUF and Hugging Face name it.
pub(super) const SOURCE_LAYERS: [&str; 2] =
    ["slim.source.block_count", "slim.source.num_hidden_layers"];

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
    /// What slim wrote into a checkpoint of where that comes from; `None` where another program wrote
    /// it.
    pub fn read(checkpoint: &Checkpoint) -> Option<Self> {
        let known = [VERSION, NAME, MEASURED, HEAL, SHA256];
        if let Some(files) = checkpoint.hf() {
            let header = &files.header_metadata;
            let texts = known.map(|key| Some((key, header.get(key)?.clone())));
            return Some(Self {
                texts: texts.into_iter().flatten().collect(),
                source_layers: header.get(SOURCE_LAYERS[1])?.parse().ok()?,
                kept: parse_parts(header.get(KEPT)?).ok()?.into(),
            })
            .filter(Self::is_sound);
        }
        let metadata = checkpoint.gguf()?;
        let texts = known.map(|key| Some((key, metadata.get_str(key)?.to_owned())));
        let kept = metadata.get(KEPT)?;
        let kept = kept.iter_i64()?.map(|layer| usize::try_from(layer).ok());
        let kept = kept.collect::<Option<Vec<_>>>()?;
        let halves = match metadata.get_str(KEPT_HALVES) {
            Some(text) => parse_parts(text).ok()?,
            None => Vec::new(),
        };
        Some(Self {
            texts: texts.into_iter().flatten().collect(),
            source_layers: usize::try_from(metadata.get_u64(SOURCE_LAYERS[0])?).ok()?,
            kept: with_halves(kept.into(), &halves),
        })
        .filter(Self::is_sound)
    }

    /// How the keep set came about, as JSON, where slim chose it.
    pub fn measured(&self) -> Option<&str> {
        let found = self.texts.iter().find(|(key, _)| *key == MEASURED);
        found.map(|(_, text)| text.as_str())
    }

    fn is_sound(&self) -> bool {
        self.kept.check(self.source_layers).is_ok()
    }

    /// What a request's output says. Healing changes nothing of where a pruned model comes from.
    pub(super) fn of(request: &Request, arch: &Arch) -> Result<Self> {
        let Some(healed) = &request.healed else {
            return Self::of_source(request, arch);
        };
        let mut provenance = match Self::read(request.checkpoint) {
            Some(carried) => carried,
            None => Self::of_source(request, arch)?,
        };
        provenance
            .texts
            .retain(|(key, _)| ![VERSION, HEAL].contains(key));
        provenance.texts.push((VERSION, version()));
        provenance.texts.push((HEAL, healed.clone()));
        Ok(provenance)
    }

    /// Whether the source's digest is known already.
    pub(super) fn has_digest(&self) -> bool {
        self.texts.iter().any(|(key, _)| *key == SHA256)
    }

    fn of_source(request: &Request, arch: &Arch) -> Result<Self> {
        let name = request.checkpoint.name();
        let mut texts = vec![(VERSION, version()), (NAME, name)];
        if let Some(measured) = &request.measured {
            texts.push((MEASURED, measured.clone()));
        }
        Ok(Self {
            texts,
            source_layers: arch.n_layers(request.checkpoint)?,
            kept: request.keep.clone(),
        })
    }
}

fn with_halves(kept: KeepSet, halves: &[Part]) -> KeepSet {
    let known = halves.iter().filter(|part| kept.contains(part.layer));
    known.fold(kept.clone(), |kept, part| match part.half {
        Some(half) => kept.with_half(part.layer, half),
        None => kept,
    })
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
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
