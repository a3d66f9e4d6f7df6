//! What the checkpoint room promises: the same bytes back, clear refusals, nothing half-written.

mod agreement;
mod atomic;
mod hostile;
mod layouts;
mod round_trip;
mod tiny;
mod values;

use std::path::{Path, PathBuf};

use slim::checkpoint::{Checkpoint, Data, OutTensor};

/// The GGUF files of the golden models, or none with a line that says so.
fn golden_ggufs() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    let mut found = Vec::new();
    for folder in std::fs::read_dir(&golden).into_iter().flatten().flatten() {
        let files = std::fs::read_dir(folder.path()).into_iter().flatten();
        found.extend(
            files
                .flatten()
                .map(|file| file.path())
                .filter(|path| path.extension().is_some_and(|e| e == "gguf")),
        );
    }
    if found.is_empty() {
        eprintln!("skipped: {} is absent", golden.display());
    }
    found
}

/// All tensors of a checkpoint, to be copied.
fn copies(checkpoint: &Checkpoint) -> Vec<OutTensor<'_>> {
    let copy = |tensor| {
        let (file, range) = checkpoint.source(tensor);
        Data::Copy { file, range }
    };
    let tensors = checkpoint.tensors().iter();
    tensors
        .map(|tensor| OutTensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            data: copy(tensor),
        })
        .collect()
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn no_progress(_: u64) {}
