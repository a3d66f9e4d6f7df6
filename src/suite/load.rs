//! Task files in, checked tasks out: sheets (JSON) and the harness's definitions (YAML).

use std::io::Read;
use std::path::{Path, PathBuf};

use super::harness::{self, Builtin, Options};
use super::sheet::Sheet;
use super::{Suite, Task};

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
    /// The file is larger than such a file may be.
    #[error(
        "{path} is larger than the {most} bytes such a file may have: \
         split its items over several files in one folder",
        path = .path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        most: u64,
    },
    /// Not a task file: bad JSON, or a field of the task that is unknown, missing or mistyped.
    #[error("{path} is not a task file: {source} (docs/suite.md describes the format)", path = .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The folder holds no task file.
    #[error("{path} holds no *.json or *.yaml task file: name a task file or a folder of them", path = .path.display())]
    NoTasks {
        /// The folder.
        path: PathBuf,
    },
    /// A task's documents.
    #[error("task {task}: its split {split} {problem}")]
    Data {
        /// The task.
        task: String,
        /// The split that is needed.
        split: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// No task has this name.
    #[error("there is no task {name}: {problem}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        problem: String,
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
    /// Reads a task file, or every `*.json`, `*.yaml` and `*.yml` file of a folder, sorted by name.
    ///
    /// # Errors
    /// The first thing wrong in any file; nothing is skipped silently.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Suite, Error> {
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
        let name = path
            .file_stem()
            .map_or_else(|| "suite".into(), |stem| stem.to_string_lossy());
        let mut suite = Suite {
            name: name.into_owned(),
            tasks: Vec::new(),
        };
        for file in &files {
            suite.add(task_file(file, options)?, file)?;
        }
        Ok(suite)
    }

    /// The tasks of these names, in this order: embedded tasks, the harness's tasks that slim
    /// defines, and paths of task files.
    ///
    /// # Errors
    /// A name that nothing has, and whatever [`Suite::open`] reports.
    pub fn select(names: &[String], options: &Options) -> Result<Suite, Error> {
        let embedded = Suite::embedded();
        let mut suite = Suite {
            name: names.join(","),
            tasks: Vec::new(),
        };
        for name in names {
            let own = embedded.tasks.iter().find(|task| task.name == *name);
            let task = match (own, Builtin::named(name)) {
                (Some(task), _) => task.clone(),
                (_, Some(builtin)) => builtin.open(options)?,
                _ if is_task_file(Path::new(name)) => task_file(Path::new(name), options)?,
                _ => return Err(unknown(name, &embedded)),
            };
            suite.add(task, Path::new(name))?;
        }
        Ok(suite)
    }

    fn add(&mut self, task: Task, file: &Path) -> Result<(), Error> {
        if self.tasks.iter().any(|other| other.name == task.name) {
            let problem = format!(
                "another file names its task {:?} too: rename one",
                task.name
            );
            return Err(invalid(file, "field \"task\"", problem));
        }
        self.tasks.push(task);
        Ok(())
    }
}

fn unknown(name: &str, embedded: &Suite) -> Error {
    let harness = harness::builtins().iter().map(|builtin| builtin.name);
    let known: Vec<&str> = harness
        .chain(embedded.tasks.iter().map(|task| task.name.as_str()))
        .collect();
    let near = known
        .iter()
        .map(|known| (strsim::jaro_winkler(known, name), known));
    let near = near.max_by(|a, b| a.0.total_cmp(&b.0));
    Error::Unknown {
        name: name.to_owned(),
        problem: match near.filter(|(likeness, _)| *likeness > 0.85) {
            Some((_, known)) => format!("did you mean {known}?"),
            None => format!(
                "name a .yaml or .json task file, or one of {} (`slim suite list`)",
                known.join(", ")
            ),
        },
    }
}

/// The endings of task files.
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];

fn is_task_file(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

fn task_file(path: &Path, options: &Options) -> Result<Task, Error> {
    match path.extension().is_some_and(|ending| ending == "json") {
        true => Ok(Sheet::read(path, &read(path, MAX_FILE_BYTES)?)?.to_task()),
        false => harness::open(path, options),
    }
}

fn task_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let io = |source| Error::Io {
        path: folder.to_owned(),
        source,
    };
    let entries: Result<Vec<_>, _> = std::fs::read_dir(folder).map_err(io)?.collect();
    let mut files: Vec<PathBuf> = entries.map_err(io)?.iter().map(|e| e.path()).collect();
    files.retain(|file| is_task_file(file) && file.is_file());
    files.sort();
    if files.is_empty() {
        return Err(Error::NoTasks {
            path: folder.to_owned(),
        });
    }
    Ok(files)
}

/// A file of at most `most` bytes.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    // One byte past the limit tells "too large" without trusting the size the system reports.
    file.take(most + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > most {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            most,
        });
    }
    Ok(bytes)
}

/// A task file that can be read but means nothing.
pub(super) fn invalid(path: &Path, place: &str, problem: String) -> Error {
    Error::Invalid {
        path: path.to_owned(),
        place: place.to_owned(),
        problem,
    }
}
