//! Task files: JSON in, validated tasks out.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{Family, Item, Protocol, Suite, Task, check, split};

/// A task file above this size is refused before it is read: 64 MiB.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Why a suite could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("cannot read {path}", path = .path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is above [`MAX_FILE_BYTES`].
    #[error(
        "{path} is larger than the {MAX_FILE_BYTES} bytes a task file may have: \
         split its items over several task files in one folder",
        path = .path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not a task file: bad JSON, or a field of the task that is unknown, missing or mistyped.
    #[error("{path} is not a task file: {source} (docs/suite.md describes the format)", path = .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The folder holds no `*.json` file.
    #[error("{path} holds no *.json task file: name a task file or a folder of them", path = .path.display())]
    NoTasks {
        /// The folder.
        path: PathBuf,
    },
    /// Well-formed, but it means nothing.
    #[error("{path}: {place}: {problem}", path = .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The item and the field, or the field of the task.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl Suite {
    /// Reads a task file, or every `*.json` file of a folder as a task, sorted by name.
    ///
    /// # Errors
    /// The first thing wrong in any file; nothing is skipped silently.
    pub fn open(path: impl AsRef<Path>) -> Result<Suite, Error> {
        let path = path.as_ref();
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let is_dir = std::fs::metadata(path).map_err(io)?.is_dir();
        let files = if is_dir {
            task_files(path)?
        } else {
            vec![path.to_owned()]
        };
        let mut tasks: Vec<Task> = Vec::new();
        for file in &files {
            let task = task(file, &read(file)?)?;
            if tasks.iter().any(|other| other.task == task.task) {
                let problem = format!(
                    "another file names its task {:?} too: rename one",
                    task.task
                );
                return Err(invalid(file, "field \"task\"", problem));
            }
            tasks.push(task);
        }
        let name = path
            .file_stem()
            .map_or_else(|| "suite".into(), |stem| stem.to_string_lossy());
        Ok(Suite {
            name: name.into_owned(),
            tasks,
        })
    }
}

fn task_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let io = |source| Error::Io {
        path: folder.to_owned(),
        source,
    };
    let entries: Result<Vec<_>, _> = std::fs::read_dir(folder).map_err(io)?.collect();
    let mut files: Vec<PathBuf> = entries.map_err(io)?.iter().map(|e| e.path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "json") && file.is_file());
    files.sort();
    if files.is_empty() {
        return Err(Error::NoTasks {
            path: folder.to_owned(),
        });
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    // One byte past the limit tells "too large" without trusting the size the system reports.
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// The file as written. Items stay JSON until each is read alone, so that an error can name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema_version: u32,
    task: String,
    family: Family,
    #[serde(default)]
    about: String,
    protocols: Vec<Protocol>,
    #[serde(default = "default_stop")]
    stop: Vec<String>,
    #[serde(default = "default_max_new_tokens")]
    max_new_tokens: usize,
    #[serde(default)]
    shots: Vec<Value>,
    items: Vec<Value>,
}

fn default_stop() -> Vec<String> {
    vec!["\n".to_owned()]
}

fn default_max_new_tokens() -> usize {
    12
}

/// Reads one task file's bytes; `path` is for the errors.
pub(super) fn task(path: &Path, bytes: &[u8]) -> Result<Task, Error> {
    let file: File = serde_json::from_slice(bytes).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })?;
    let mut task = Task {
        schema_version: file.schema_version,
        task: file.task,
        family: file.family,
        about: file.about,
        protocols: file.protocols,
        stop: file.stop,
        max_new_tokens: file.max_new_tokens,
        shots: items(path, "shot", file.shots)?,
        items: items(path, "item", file.items)?,
    };
    check::task(&task).map_err(|(field, problem)| invalid(path, &field, problem))?;
    split::assign(&mut task.items);
    Ok(task)
}

/// Reads and checks items; `kind` is "item" or "shot", and only items need an id.
fn items(path: &Path, kind: &str, values: Vec<Value>) -> Result<Vec<Item>, Error> {
    let mut ids = HashSet::new();
    let mut items = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let id = value
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let place = match id.as_str() {
            "" => format!("{kind} {index}"),
            id => format!("{kind} {id:?}"),
        };
        let item: Item = serde_json::from_value(value.clone()).map_err(|error| {
            invalid(
                path,
                &format!("{place}{}", faulty_field(&value)),
                format!("{error}; see docs/suite.md"),
            )
        })?;
        check::item(&item).map_err(|(field, problem)| {
            invalid(path, &format!("{place}, field \"{field}\""), problem)
        })?;
        let problem = match (kind, id.is_empty()) {
            ("item", true) => Some("is missing: give every item an id of its own"),
            _ if !id.is_empty() && !ids.insert(id) => {
                Some("is used twice: give every item an id of its own")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(invalid(
                path,
                &format!("{place}, field \"id\""),
                problem.to_owned(),
            ));
        }
        items.push(item);
    }
    Ok(items)
}

/// Which field of an unreadable item is at fault: the one that cannot be read alone either, since
/// none is required by itself. serde's own message names neither field nor number.
fn faulty_field(item: &Value) -> String {
    let alone = |(key, value): (&String, &Value)| {
        serde_json::from_value::<Item>(serde_json::json!({ key: value })).is_err()
    };
    match item
        .as_object()
        .and_then(|fields| fields.iter().find(|field| alone(*field)))
    {
        Some((key, value)) => {
            let shown: String = value.to_string().chars().take(60).collect();
            format!(", field {key:?} = {shown}")
        }
        None => String::new(),
    }
}

fn invalid(path: &Path, place: &str, problem: String) -> Error {
    Error::Invalid {
        path: path.to_owned(),
        place: place.to_owned(),
        problem,
    }
}
