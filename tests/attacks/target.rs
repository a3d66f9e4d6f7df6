//! The fuzz targets: bytes in, one file of a model made of them, and the walk through it.

use std::fs;
use std::path::{Path, PathBuf};

use slim::arch::KeepSet;
use slim::importance::Profile;
use slim::plan::Plan;
use slim::report::{Report, terminal};
use slim::suite::Suite;
use slim::suite::harness::Options;
use slim::verify::Gate;
use tempfile::TempDir;

use crate::base;
use crate::walk::walk;

/// Runs the target `name` on `bytes`. Returning is all that is asked of it.
pub fn run(name: &str, bytes: &[u8]) {
    thread_local!(static BENCH: Bench = Bench::new());
    BENCH.with(|bench| match name {
        "gguf" => bench.in_folder(&[], "model.gguf", bytes, "model.gguf"),
        "safetensors" => bench.in_folder(
            &["config.json", "tokenizer.json"],
            "model.safetensors",
            bytes,
            "",
        ),
        "config_json" => bench.in_folder(
            &["model.safetensors", "tokenizer.json"],
            "config.json",
            bytes,
            "",
        ),
        "tokenizer" => {
            // The two kinds of tokenizer file tell themselves apart.
            let file = if bytes.first() == Some(&b'{') {
                "tokenizer.json"
            } else {
                "tokenizer.model"
            };
            bench.in_folder(&["config.json", "model.safetensors"], file, bytes, "");
        }
        "documents" => bench.documents(bytes),
        other => panic!("no target is called {other}"),
    });
}

/// A folder in memory, in which one model after the other is put together.
struct Bench {
    folder: TempDir,
    honest: base::Files,
}

impl Bench {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let folder = tempfile::tempdir_in(home).expect("a folder to work in");
        for name in ["model", "scratch"] {
            fs::create_dir(folder.path().join(name)).expect("a folder to work in");
        }
        Self {
            folder,
            honest: base::folder(),
        }
    }

    /// A model of some honest files and one of `bytes`; `input` is what slim is given of it.
    fn in_folder(&self, honest: &[&str], file: &str, bytes: &[u8], input: &str) {
        let model = self.folder.path().join("model");
        let honest = self
            .honest
            .iter()
            .filter(|(name, _)| honest.contains(&name.as_str()));
        let honest = honest.map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        let mut written = Vec::new();
        for (name, bytes) in honest.chain([(file, bytes)]) {
            let path = model.join(name);
            fs::write(&path, bytes).expect("room for a file");
            written.push(path);
        }
        let input = if input.is_empty() {
            model
        } else {
            model.join(input)
        };
        let _ = walk(&input, &self.folder.path().join("scratch"));
        self.remove(&written);
    }

    /// The files that slim's commands hand to each other, and those that people write.
    fn documents(&self, bytes: &[u8]) {
        if let Ok(plan) = serde_json::from_slice::<Plan>(bytes) {
            let _ = plan.keep.check(plan.n_layers);
            let _ = terminal::plan(&plan);
        }
        if let Ok(profile) = serde_json::from_slice::<Profile>(bytes)
            && profile.check().is_ok()
        {
            let _ = terminal::profile(&profile);
        }
        if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
            let _ = terminal::report(&report, true);
        }
        if let Ok(text) = std::str::from_utf8(bytes) {
            let _ = text.parse::<Gate>();
            let layers = slim::arch::parse_ranges(text).unwrap_or_default();
            let _ = KeepSet::without(32, &layers);
        }
        let path = self.folder.path().join("task.json");
        fs::write(&path, bytes).expect("room for a file");
        let _ = Suite::open(&path, &Options::default());
        self.remove(&[path]);
    }

    fn remove(&self, files: &[PathBuf]) {
        for file in files {
            fs::remove_file(file).expect("slim left its input alone");
        }
    }
}
