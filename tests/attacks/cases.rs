//! The attacks of `fixtures/attacks/*.json`: an honest model with a few changes, and what slim
//! says of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::base::{self, Files};
use crate::bytes::{bytes, number};
use crate::tiny::{Gguf, key, string, tensor};

/// The fuzz targets.
const TARGETS: [&str; 5] = [
    "gguf",
    "safetensors",
    "config_json",
    "tokenizer",
    "documents",
];

/// The name of the model file of the GGUF base.
const GGUF: &str = "model.gguf";

/// One attack.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique, and the name of its folder.
    pub name: String,
    /// The weakness that it probes, and where that was found.
    pub attacks: String,
    /// The honest model: `gguf`, `split`, `folder`, `shards`, `sentencepiece`, or `nothing`.
    pub base: String,
    /// What slim is given, in the case's folder; the GGUF file or the folder unless it is said.
    #[serde(default)]
    open: Option<String>,
    /// Changes to the parts of the GGUF file, in order: each a verb and its arguments.
    #[serde(default)]
    gguf: Vec<Vec<Value>>,
    /// Changes to the content of files.
    #[serde(default)]
    files: Vec<Vec<Value>>,
    /// What is put beside the files at last.
    #[serde(default)]
    disk: Vec<Vec<Value>>,
    /// Words of the message. None: the file is harmless, and slim does its work.
    #[serde(default)]
    pub says: Vec<String>,
    /// The commands that say so, of [`COMMANDS`]; all but `eval` unless it is said. The others succeed.
    #[serde(default = "by_default")]
    pub refused_by: Vec<String>,
}

/// The commands that an attack goes through. `IN` is the model. The last one, which runs the model,
/// is asked only about models that it is to refuse.
pub const COMMANDS: [(&str, &str); 4] = [
    ("inspect", "inspect IN"),
    ("to gguf", "prune --drop-layers 1 IN out.gguf"),
    ("to folder", "prune --drop-layers 1 IN out"),
    ("eval", "eval IN"),
];

fn by_default() -> Vec<String> {
    ["inspect", "to gguf", "to folder"]
        .map(str::to_owned)
        .into()
}

/// Where the attacks are.
pub fn home() -> PathBuf {
    // The fuzz targets' package lies one folder deeper.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = [package.to_owned(), package.join("..")];
    let home = roots.map(|root| root.join("fixtures/attacks"));
    home.into_iter()
        .find(|home| home.is_dir())
        .expect("fixtures/attacks")
}

/// All attacks, by file.
pub fn all() -> Vec<(String, Vec<Case>)> {
    let entries = fs::read_dir(home()).expect("fixtures/attacks");
    let paths = entries.map(|entry| entry.expect("fixtures/attacks").path());
    let mut paths: Vec<_> = paths
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read(path).expect("a file of attacks");
        let cases = serde_json::from_slice(&text);
        let cases = cases.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            cases,
        )
    };
    paths.iter().map(read).collect()
}

impl Case {
    /// Writes the model into `folder` and returns what slim is to be given.
    pub fn build(&self, folder: &Path) -> PathBuf {
        let mut files = match self.base.as_str() {
            "gguf" => vec![(GGUF.to_owned(), self.changed(base::gguf()))],
            // The part that is opened is honest; the other one lies.
            "split" => {
                let [first, second] = base::split();
                let parts = [first.bytes(), self.changed(second)];
                base::PARTS
                    .map(str::to_owned)
                    .into_iter()
                    .zip(parts)
                    .collect()
            }
            "folder" => base::folder(),
            "shards" => base::shards(),
            "sentencepiece" => {
                let mut files = base::folder();
                files.retain(|(name, _)| name != "tokenizer.json");
                files.push(("tokenizer.model".to_owned(), base::sentencepiece()));
                files
            }
            "nothing" => Files::new(),
            other => panic!("{}: no base is called {other:?}", self.name),
        };
        for change in self.changes(&self.files) {
            change.in_files(&mut files);
        }
        for (name, content) in &files {
            fs::write(folder.join(name), content).expect("room for a file");
        }
        for change in self.changes(&self.disk) {
            change.on_disk(folder);
        }
        let name = match (&self.open, self.base.as_str()) {
            (Some(name), _) => name,
            (None, "gguf") => GGUF,
            (None, "split") => base::PARTS[0],
            (None, _) => return folder.to_owned(),
        };
        folder.join(name)
    }

    /// The bytes of a GGUF file with the changes of the case.
    fn changed(&self, mut file: Gguf) -> Vec<u8> {
        for change in self.changes(&self.gguf) {
            change.in_gguf(&mut file);
        }
        file.bytes()
    }

    fn changes<'a>(&'a self, changes: &'a [Vec<Value>]) -> impl Iterator<Item = Change<'a>> {
        let case = &self.name;
        changes.iter().map(move |words| Change { case, words })
    }
}

/// Inputs that the fuzz targets found, by target.
pub fn found() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let of = |target| {
        let entries = fs::read_dir(home().join("found").join(target));
        let mut paths: Vec<PathBuf> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect();
        paths.sort();
        let read = |path: &PathBuf| fs::read(path).expect("an input that was found");
        (target, paths.iter().map(read).collect())
    };
    TARGETS.map(of).into()
}

/// What each fuzz target starts from: the honest file and that of every attack on it.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let files = [
        ("gguf", "gguf", GGUF),
        ("safetensors", "folder", "model.safetensors"),
        ("config_json", "folder", "config.json"),
        ("tokenizer", "folder", "tokenizer.json"),
        ("tokenizer", "sentencepiece", "tokenizer.model"),
    ];
    let attacks: Vec<Case> = all().into_iter().flat_map(|(_, cases)| cases).collect();
    let of = |(target, base, file): (&'static str, &str, &str)| {
        let folder = tempfile::tempdir().expect("a folder to work in");
        let attacks = attacks.iter().filter(|case| case.base == base);
        let mut seeds: Vec<Vec<u8>> = attacks
            .filter_map(|case| {
                let folder = folder.path().join(&case.name);
                fs::create_dir(&folder).expect("a folder to work in");
                case.build(&folder);
                let path = folder.join(file);
                path.is_file()
                    .then(|| fs::read(path).expect("a file of an attack"))
            })
            .filter(|seed| seed.len() <= LARGEST_SEED)
            .collect();
        seeds.sort();
        seeds.dedup();
        (target, seeds)
    };
    files.map(of).into()
}

/// Larger files only slow a fuzzer down.
const LARGEST_SEED: usize = 16 << 10;

/// A verb and its arguments.
struct Change<'a> {
    case: &'a str,
    words: &'a [Value],
}

impl Change<'_> {
    fn text(&self, at: usize) -> &str {
        let word = self.words.get(at).and_then(Value::as_str);
        word.unwrap_or_else(|| panic!("{}: no text at {at} of {:?}", self.case, self.words))
    }

    fn number(&self, at: usize) -> u64 {
        number_of(&self.words[at])
    }

    fn bytes(&self, at: usize) -> Vec<u8> {
        bytes(self.text(at))
    }

    fn unknown(&self) -> ! {
        panic!("{}: no change is called {:?}", self.case, self.words[0])
    }

    fn in_gguf(&self, file: &mut Gguf) {
        match self.text(0) {
            "magic" => file.magic.copy_from_slice(&self.bytes(1)),
            "version" => file.version = self.number(1) as u32,
            "key count" => file.n_keys = Some(self.number(1)),
            "tensor count" => file.n_tensors = Some(self.number(1)),
            "data" => file.data = self.bytes(1),
            "append data" => file.data.extend(self.bytes(1)),
            "alignment" => file.alignment = self.number(1) as usize,
            "key" => {
                let record = key(self.text(1), self.number(2) as u32, &self.bytes(3));
                put(&mut file.keys, self.text(1), record);
            }
            "remove key" => take(&mut file.keys, self.text(1)),
            "add key" => file.keys.push(self.bytes(1)),
            "tensor" => {
                let ne: Vec<u64> = self.words[2]
                    .as_array()
                    .expect("ne")
                    .iter()
                    .map(number_of)
                    .collect();
                let record = tensor(self.text(1), &ne, self.number(3) as u32, self.number(4));
                put(&mut file.tensors, self.text(1), record);
            }
            "remove tensor" => take(&mut file.tensors, self.text(1)),
            "add tensor" => file.tensors.push(self.bytes(1)),
            _ => self.unknown(),
        }
    }

    fn in_files(&self, files: &mut Files) {
        let verb = self.text(0);
        match verb {
            "write" => *content_of(files, self.text(1)) = self.bytes(2),
            "text" => *content_of(files, self.text(1)) = self.text(2).as_bytes().to_vec(),
            "append" => content_of(files, self.text(1)).extend(self.bytes(2)),
            "cut" => {
                let len = self.number(2) as usize;
                content_of(files, self.text(1)).truncate(len);
            }
            "remove" => files.retain(|(name, _)| name != self.text(1)),
            "set" => {
                let content = content_of(files, self.text(1));
                let mut json: Value = serde_json::from_slice(content).expect("JSON");
                set(&mut json, self.text(2), self.words[3].clone());
                *content = json.to_string().into_bytes();
            }
            "replace" => {
                let content = content_of(files, self.text(1));
                *content = self
                    .replaced(std::str::from_utf8(content).expect("text"))
                    .into_bytes();
            }
            "replace in header" => {
                let file = content_of(files, self.text(1));
                let (header, data) = split(file);
                *file = crate::tiny::safetensors(&self.replaced(&header), &data);
            }
            "header" => {
                let file = content_of(files, self.text(1));
                let (_, data) = split(file);
                *file = crate::tiny::safetensors(self.text(2), &data);
            }
            "entry" => {
                let file = content_of(files, self.text(1));
                let (header, data) = split(file);
                let mut header = serde_json::from_str(&header).expect("a header");
                set(
                    &mut header,
                    &format!("/{}", self.text(2)),
                    self.words[3].clone(),
                );
                *file = crate::tiny::safetensors(&header.to_string(), &data);
            }
            "header length" => {
                let len = self.number(2).to_le_bytes();
                content_of(files, self.text(1))[..8].copy_from_slice(&len);
            }
            _ => self.unknown(),
        }
    }

    fn replaced(&self, text: &str) -> String {
        let (from, to) = (self.text(2), self.text(3));
        assert!(text.contains(from), "{}: {from:?} is not there", self.case);
        text.replacen(from, to, 1)
    }

    fn on_disk(&self, folder: &Path) {
        let done = match self.text(0) {
            "link" => symlink(self.text(2), folder.join(self.text(1))),
            "folder" => fs::create_dir(folder.join(self.text(1))),
            "sparse" => fs::File::options()
                .append(true)
                .create(true)
                .open(folder.join(self.text(1)))
                .and_then(|file| file.set_len(self.number(2))),
            "pipe" => Command::new("mkfifo")
                .arg(folder.join(self.text(1)))
                .status()
                .map(|status| assert!(status.success(), "mkfifo")),
            _ => self.unknown(),
        };
        done.unwrap_or_else(|e| panic!("{}: {:?}: {e}", self.case, self.words));
    }
}

/// The content of this file, which is added if it is not there.
fn content_of<'f>(files: &'f mut Files, name: &str) -> &'f mut Vec<u8> {
    let at = files.iter().position(|(known, _)| known == name);
    let at = at.unwrap_or_else(|| {
        files.push((name.to_owned(), Vec::new()));
        files.len() - 1
    });
    &mut files[at].1
}

fn number_of(value: &Value) -> u64 {
    match value {
        Value::String(text) => number(text),
        value => value
            .as_u64()
            .unwrap_or_else(|| panic!("{value} is no number")),
    }
}

/// Replaces the record of this name, or adds it.
fn put(records: &mut Vec<Vec<u8>>, name: &str, record: Vec<u8>) {
    match records
        .iter_mut()
        .find(|known| known.starts_with(&string(name)))
    {
        Some(known) => *known = record,
        None => records.push(record),
    }
}

fn take(records: &mut Vec<Vec<u8>>, name: &str) {
    let before = records.len();
    records.retain(|known| !known.starts_with(&string(name)));
    assert!(records.len() < before, "{name} is not there");
}

/// Sets the field that a path such as `/rope_scaling/factor` names; null takes it away.
fn set(json: &mut Value, path: &str, value: Value) {
    let (parent, field) = path.rsplit_once('/').expect("a path begins with /");
    let parent = json.pointer_mut(parent).and_then(Value::as_object_mut);
    let parent = parent.unwrap_or_else(|| panic!("{path} has no place"));
    match value {
        Value::Null => drop(parent.shift_remove(field)),
        value => drop(parent.insert(field.to_owned(), value)),
    }
}

/// A safetensors file's header and data.
fn split(file: &[u8]) -> (String, Vec<u8>) {
    let (len, rest) = file.split_first_chunk::<8>().expect("a safetensors file");
    let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    (String::from_utf8_lossy(header).into_owned(), data.to_vec())
}
