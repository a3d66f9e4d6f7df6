//! What can go wrong between a path and a checkpoint, each as a sentence for the person who asked.

use std::io;
use std::path::{Path, PathBuf};

/// An error from code that the caller hands in (a tensor's stream, a finishing step).
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a checkpoint could not be opened or written. Every message names the file and says what to
/// do next; causes are part of the text, so printing the outermost error is enough.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {doing} {}: {cause}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    /// The path exists but is none of the layouts that slim opens.
    #[error(
        "{} is not a checkpoint that slim opens: {found}. Give a .gguf file, a .safetensors file \
         with its config.json beside it, or a Hugging Face folder with config.json and \
         model.safetensors (or its shards and index)",
        path.display()
    )]
    NotACheckpoint { path: PathBuf, found: String },
    /// The bytes break the GGUF format.
    #[error(
        "{} is not a valid GGUF file: {problem} (byte {offset}). It is damaged or was cut short: \
         fetch or convert it again",
        path.display()
    )]
    Gguf {
        path: PathBuf,
        offset: u64,
        problem: String,
    },
    /// The bytes break the safetensors format.
    #[error(
        "{} is not a valid safetensors file: {problem}. It is damaged or was cut short: fetch or \
         save it again",
        path.display()
    )]
    Safetensors { path: PathBuf, problem: String },
    /// A text file of a Hugging Face layout (config, index) is missing or wrong.
    #[error("{}: {problem}", path.display())]
    Layout { path: PathBuf, problem: String },
    /// Valid, but of a kind that slim does not handle.
    #[error("{}: {problem}. {remedy}", path.display())]
    Unsupported {
        path: PathBuf,
        problem: String,
        remedy: String,
    },
    /// A repository on the hub could not be fetched; the problem says what to do.
    #[error("{repo}: {problem}")]
    Hub { repo: String, problem: String },
    /// The output cannot go where it was asked for.
    #[error("cannot write to {}: {problem}", path.display())]
    Target { path: PathBuf, problem: String },
    /// What was to be written does not fit the format.
    #[error("cannot write {what} into {}: {problem}", path.display())]
    Output {
        path: PathBuf,
        what: String,
        problem: String,
    },
}

impl Error {
    /// For `map_err`: an I/O failure while `doing` something to `path`.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |cause| Self::Io {
            doing,
            path: path.to_owned(),
            cause,
        }
    }

    pub(crate) fn layout(path: &Path, problem: impl Into<String>) -> Self {
        Self::Layout {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn target(path: &Path, problem: impl Into<String>) -> Self {
        Self::Target {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn output(path: &Path, what: String, problem: impl Into<String>) -> Self {
        Self::Output {
            path: path.to_owned(),
            what,
            problem: problem.into(),
        }
    }
}
