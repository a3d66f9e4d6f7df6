//! The model card of a folder: README.md with the front matter that the hub reads.

use super::Request;
use super::provenance::{Provenance, pruned_name};
use crate::checkpoint::hub::Cached;
use crate::checkpoint::{AtomicFile, HfFiles};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// The card's file name.
pub(super) const CARD: &str = "README.md";

/// The name under which the source's own card is carried along.
pub(super) const SOURCE_CARD: &str = "README.source.md";

/// Entries of the source's front matter that hold of any model made of it.
const INHERITED: &[&str] = &[
    "language",
    "license",
    "license_link",
    "license_name",
    "pipeline_tag",
];

/// Marks that the hub finds models by.
const TAGS: [&str; 2] = ["slim", "depth-pruning"];

/// A longer card is not looked into.
const MAX_CARD: u64 = 4 << 20;

/// The card of a request's output.
pub(super) fn card(request: &Request, provenance: &Provenance) -> String {
    let source = request.checkpoint;
    let files = source.hf();
    let (name, hub) = (source.name(), Cached::at(source.path()));
    let kept = &provenance.kept;
    let mut text = String::from("---\nlibrary_name: transformers\n");
    text += &files
        .and_then(source_card)
        .map_or_else(String::new, |card| inherited(&card));
    if let Some(Cached { id, .. }) = &hub {
        let _ = writeln!(text, "base_model: {id}");
    }
    text += "tags:\n";
    for tag in TAGS {
        let _ = writeln!(text, "- {tag}");
    }
    let title = pruned_name(&name, kept, provenance.source_layers);
    let _ = writeln!(text, "---\n\n# {}\n", plain(&title));
    let _ = writeln!(
        text,
        "Made of {} by slim {}, without its layers {}. What is left was renumbered; everything else is as it was{}.\n",
        match &hub {
            Some(Cached { id, .. }) => format!("[{id}](https://huggingface.co/{id})"),
            None => format!("`{}`", plain(&name)),
        },
        env!("CARGO_PKG_VERSION"),
        ranges(&kept.dropped(provenance.source_layers)),
        match request.edits.is_empty() {
            true => "",
            false => ", but for weights that make up for what is gone",
        },
    );
    if files.and_then(source_card).is_some() {
        let _ = writeln!(
            text,
            "The source's own card: [{SOURCE_CARD}]({SOURCE_CARD}).\n"
        );
    }
    text += "The header of the weights says how the layers were chosen: `slim inspect` shows it.\n";
    text
}

/// Adds what was measured to the card of a folder that was just written.
///
/// # Errors
/// A card that cannot be read or written.
pub fn add_to_card(folder: &Path, measured: &str) -> Result<()> {
    let path = folder.join(CARD);
    let reading = || format!("reading {}", path.display());
    let card = fs::read_to_string(&path).with_context(reading)?;
    let file = AtomicFile::create(&path)?;
    write!(file.file(), "{card}\n{measured}").with_context(|| path.display().to_string())?;
    Ok(file.commit()?)
}

/// The source's own card, if it has one.
fn source_card(files: &HfFiles) -> Option<String> {
    let path = files.sidecars.iter().find(|path| path.ends_with(CARD))?;
    let small = fs::metadata(path).ok()?.len() <= MAX_CARD;
    small.then(|| fs::read_to_string(path).ok()).flatten()
}

/// The inherited entries of a card's front matter, as they are written there.
fn inherited(card: &str) -> String {
    let front = card
        .strip_prefix("---")
        .and_then(|rest| rest.split_once("\n---"));
    let Some((front, _)) = front else {
        return String::new();
    };
    let mut taken = false;
    let mut text = String::new();
    for line in front.lines().skip(1) {
        let key = line.split_once(':').map(|(key, _)| key);
        if !line.starts_with([' ', '-', '#']) {
            taken = key.is_some_and(|key| INHERITED.contains(&key));
        }
        if taken {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// A name that stays text in Markdown.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control() && !"`<>[]".contains(*c))
        .collect()
}

/// `3, 7–9, 12`, or `none`.
fn ranges(layers: &[usize]) -> String {
    let runs = layers.chunk_by(|a, b| a + 1 == *b);
    let shown = runs.filter_map(|run| match run {
        [one] => Some(one.to_string()),
        [first, .., last] => Some(format!("{first}–{last}")),
        [] => None,
    });
    match shown.collect::<Vec<_>>() {
        none if none.is_empty() => "none".to_owned(),
        shown => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_and_languages_are_inherited_and_nothing_else() {
        let card = "---\nlibrary_name: x\nlicense: apache-2.0\nlanguage:\n- en\n- de\ntags:\n- chat\nbase_model: a/b\n---\n# A\nlicense: no\n";
        assert_eq!(
            inherited(card),
            "license: apache-2.0\nlanguage:\n- en\n- de\n"
        );
        assert_eq!(inherited("# A\nlicense: no\n---\n"), "");
    }

    #[test]
    fn layers_are_written_as_ranges() {
        assert_eq!(ranges(&[3, 7, 8, 9, 12, 13]), "3, 7–9, 12–13");
        assert_eq!(ranges(&[]), "none");
    }
}
