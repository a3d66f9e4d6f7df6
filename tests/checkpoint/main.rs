//! What the checkpoint room promises: the same bytes back, clear refusals, nothing half-written.

mod agreement;
mod atomic;
mod hostile;
mod layouts;
mod round_trip;
mod split;
mod tiny;
mod values;

use std::path::{Path, PathBuf};

use slim::checkpoint::{Checkpoint, Data, OutTensor};

/// The folders of the golden models, or none with a line that says so.
fn golden_folders() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    let entries = std::fs::read_dir(&golden).into_iter().flatten().flatten();
    let folders: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("model.safetensors").is_file())
        .collect();
    if folders.is_empty() {
        eprintln!("skipped: {} is absent", golden.display());
    }
    folders
}

/// The GGUF files of the golden models.
fn golden_ggufs() -> Vec<PathBuf> {
    let types = ["f32", "f16", "bf16"];
    let file = |folder: &PathBuf, ty| folder.join(format!("converted.{ty}.gguf"));
    let folders = golden_folders();
    let files = folders
        .iter()
        .flat_map(|folder| types.map(|ty| file(folder, ty)));
    files.filter(|path| path.is_file()).collect()
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
