//! Finding and reading a task's documents: JSON lines, JSON and Parquet, laid out as on the hub or
//! named after the task.

use super::Fetching;
use super::definition::{Definition, Splits};
use super::template::Document;
use crate::checkpoint;
use crate::checkpoint::hub::{self, Kind, Repo};
use crate::suite::Error;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value as Json;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::panic;
use std::path::{Path, PathBuf};

/// The kinds of files that are read, by their endings.
const ENDINGS: [&str; 3] = ["jsonl", "json", "parquet"];

/// A JSON file above this size is refused, and a line of JSON lines: 256 MiB.
const MAX_BYTES: u64 = 256 << 20;

/// Where a definition's documents may be.
pub(super) struct Source<'a> {
    pub definition: &'a Definition,
    /// The definition's own folder.
    pub folder: &'a Path,
    /// The folders that the user named.
    pub roots: &'a [PathBuf],
    /// Whether the hub is asked for what they lack; see [`super::Options::download`].
    pub download: Option<&'a Fetching>,
}

impl<'a> Source<'a> {
    fn splits(&self) -> &'a Splits {
        &self.definition.splits
    }

    /// The split whose documents are asked: test before validation, as the harness does.
    pub fn asked(&self) -> &'a str {
        let splits = self.splits();
        let split = splits.test.as_deref().or(splits.validation.as_deref());
        split.unwrap_or_default()
    }

    /// The split from which examples are taken, where any are needed.
    pub fn fewshot(&self, wanted: Option<usize>) -> Result<Option<String>, Error> {
        let needed = wanted.unwrap_or(self.definition.num_fewshot) > 0;
        if !needed || (self.splits().fewshot.is_none() && self.definition.samples.is_some()) {
            return Ok(None);
        }
        let splits = self.splits();
        let named = [
            &splits.fewshot,
            &splits.training,
            &splits.validation,
            &splits.test,
        ];
        Ok(named.into_iter().flatten().next().cloned())
    }

    /// All documents of a split, in order.
    pub fn documents(&self, split: &str) -> Result<Vec<Document>, Error> {
        let mut documents = Vec::new();
        for file in self.files(split)? {
            read(&file, &mut documents)?;
        }
        if documents.is_empty() {
            return Err(self.missing(split, "has no documents".to_owned()));
        }
        Ok(documents)
    }

    fn missing(&self, split: &str, problem: String) -> Error {
        Error::Data {
            task: self.definition.task.clone(),
            split: split.to_owned(),
            problem,
        }
    }

    fn files(&self, split: &str) -> Result<Vec<PathBuf>, Error> {
        if let Some(names) = self.definition.data_files.get(split) {
            return names.iter().map(|name| self.named(split, name)).collect();
        }
        let folders = self.folders();
        for folder in &folders {
            let files = self.matching(folder, split);
            if !files.is_empty() {
                return Ok(files);
            }
        }
        if let Some(tell) = self.download {
            return self.fetched(split, tell);
        }
        if self.roots.is_empty() {
            let problem = format!(
                "of {} is needed: name the folder that holds it with --data DIR, or fetch it with --download",
                self.definition.dataset_path
            );
            return Err(self.missing(split, problem));
        }
        if let Some(absent) = self.roots.iter().find(|root| !root.is_dir()) {
            let problem = format!("is not there: --data {} is no folder", absent.display());
            return Err(self.missing(split, problem));
        }
        let shown: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        let problem = format!(
            "of {} is not there: no {split}.jsonl, {split}-*.parquet or {}_{split}.jsonl in {}",
            self.definition.dataset_path,
            self.definition.task,
            shown.join(", ")
        );
        Err(self.missing(split, problem))
    }

    /// The split's files in the dataset's repository on the hub.
    fn fetched(&self, split: &str, tell: &Fetching) -> Result<Vec<PathBuf>, Error> {
        let name = self.definition.dataset_path.as_str();
        let failed = |e: checkpoint::Error| self.missing(split, format!("of {name}: {e}"));
        let repo = Repo::parse(Kind::Dataset, &format!("{}{name}", hub::PREFIX)).map_err(failed)?;
        let places = self.inside();
        let wanted = |file: &str| {
            let path = Path::new(file);
            let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
            self.is_of(path, split) && places.iter().any(|place| place == folder)
        };
        let snapshot = hub::fetch(&repo, wanted, |step| tell(name, step)).map_err(failed)?;
        let found = places
            .iter()
            .map(|place| self.matching(&snapshot.join(place), split));
        found
            .into_iter()
            .find(|files| !files.is_empty())
            .ok_or_else(|| self.missing(split, format!("of {name} is not on the hub")))
    }

    /// Where in a dataset its files are, best first.
    fn inside(&self) -> Vec<String> {
        let name = self.definition.dataset_name.clone().into_iter();
        name.chain(["", "data"].map(str::to_owned)).collect()
    }

    /// A file that the definition names: beside it, or in the user's folders.
    fn named(&self, split: &str, name: &str) -> Result<PathBuf, Error> {
        let roots = self.roots.iter().map(PathBuf::as_path);
        let places = std::iter::once(self.folder).chain(roots);
        let found: Vec<PathBuf> = places.map(|place| place.join(name)).collect();
        match found.iter().find(|path| path.is_file()) {
            Some(path) => Ok(path.clone()),
            None => {
                let shown: Vec<String> = found.iter().map(|f| f.display().to_string()).collect();
                Err(self.missing(split, format!("is not there: no {}", shown.join(", no "))))
            }
        }
    }

    /// Where the split may lie, best first.
    fn folders(&self) -> Vec<PathBuf> {
        let path = self.definition.dataset_path.as_str();
        let base = path.rsplit('/').next().unwrap_or(path);
        let inside = self.inside();
        let mut folders: Vec<PathBuf> = Vec::new();
        for root in self.roots {
            for place in [
                root.join(&self.definition.task),
                root.join(path),
                root.join(base),
                root.clone(),
            ] {
                for inner in &inside {
                    let folder = place.join(inner);
                    if folder.is_dir() && !folders.contains(&folder) {
                        folders.push(folder);
                    }
                }
            }
        }
        folders
    }

    fn matching(&self, folder: &Path, split: &str) -> Vec<PathBuf> {
        let entries = folder.read_dir().into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| self.is_of(path, split) && path.is_file())
            .collect();
        files.sort();
        files
    }

    /// Whether a file's name says that it holds the split.
    fn is_of(&self, path: &Path, split: &str) -> bool {
        let task = &self.definition.task;
        let part = |part: Option<&std::ffi::OsStr>| {
            part.and_then(|p| p.to_str()).unwrap_or_default().to_owned()
        };
        let (stem, ending) = (part(path.file_stem()), part(path.extension()));
        let named = stem == split || stem == format!("{task}_{split}") || stem == *task;
        let sharded = stem
            .strip_prefix(split)
            .is_some_and(|rest| rest.starts_with('-'));
        ENDINGS.contains(&ending.as_str()) && (named || sharded)
    }
}

fn read(path: &Path, documents: &mut Vec<Document>) -> Result<(), Error> {
    let wrong = |place: String, problem: String| super::super::load::invalid(path, &place, problem);
    let mut add = |place: String, value: Json| match value.is_object() {
        true => {
            documents.push(Document::new(value));
            Ok(())
        }
        false => Err(wrong(place, "is no object with fields".to_owned())),
    };
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("parquet") => {
            let rows = rows(path).map_err(|problem| wrong("Parquet".to_owned(), problem))?;
            let mut rows = rows.into_iter().enumerate();
            rows.try_for_each(|(i, row)| add(format!("row {i}"), row))
        }
        Some("json") => {
            let bytes = super::super::load::read(path, MAX_BYTES)?;
            let value: Json = serde_json::from_slice(&bytes)
                .map_err(|e| wrong(format!("line {}", e.line()), e.to_string()))?;
            let Some(values) = listed(value) else {
                let problem = "is no list of documents, nor an object with one".to_owned();
                return Err(wrong("JSON".to_owned(), problem));
            };
            let mut values = values.into_iter().enumerate();
            values.try_for_each(|(i, value)| add(format!("document {i}"), value))
        }
        _ => lines(path, |number, line| {
            let value = serde_json::from_str(line)
                .map_err(|e| wrong(format!("line {number}"), e.to_string()))?;
            add(format!("line {number}"), value)
        }),
    }
}

/// The documents of a JSON file: a list, or the only list in an object.
fn listed(value: Json) -> Option<Vec<Json>> {
    match value {
        Json::Array(values) => Some(values),
        Json::Object(fields) => {
            let mut lists = fields.into_iter().filter_map(|(_, value)| match value {
                Json::Array(values) => Some(values),
                _ => None,
            });
            let list = lists.next();
            list.filter(|_| lists.next().is_none())
        }
        _ => None,
    }
}

fn lines(
    path: &Path,
    mut visit: impl FnMut(usize, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        let mut taken = reader.by_ref().take(MAX_BYTES);
        if taken.read_line(&mut line).map_err(io)? == 0 {
            break;
        }
        if !line.trim().is_empty() {
            visit(number, &line)?;
        }
    }
    Ok(())
}

/// The rows of a Parquet file. The library panics on some damage, so it runs behind a guard.
fn rows(path: &Path) -> Result<Vec<Json>, String> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let read = panic::catch_unwind(|| -> Result<Vec<Json>, String> {
        let file = File::open(path).map_err(|e| e.to_string())?;
        let reader = SerializedFileReader::new(file).map_err(|e| e.to_string())?;
        let rows = reader.get_row_iter(None).map_err(|e| e.to_string())?;
        rows.map(|row| Ok(row.map_err(|e| e.to_string())?.to_json_value()))
            .collect()
    });
    panic::set_hook(hook);
    read.unwrap_or_else(|_| Err("is damaged".to_owned()))
}
