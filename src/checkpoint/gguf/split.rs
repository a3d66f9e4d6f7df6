//! GGUF in several files, as `llama-gguf-split` makes them: `NAME-00001-of-00003.gguf` and so on.
//!
//! Every part is a GGUF file and says in `split.*` keys which one it is. The first has the model's
//! metadata; the tensors are dealt out over all.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Metadata, keys, reader};
use crate::checkpoint::atomic::parent_of;
use crate::checkpoint::file::MappedFile;
use crate::checkpoint::hf::within;
use crate::checkpoint::{Error, TensorInfo};

/// What the name of part `no` (counted from 0) ends in.
pub(super) fn suffix(no: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", no + 1)
}

/// Whether a file of this name would be taken for a part of a split checkpoint.
pub fn names_a_part(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    split_name(&name).is_some()
}

/// The name of a split checkpoint, of a part's file name.
pub fn split_name(part: &str) -> Option<&str> {
    let number = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let (rest, count) = part.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (name, no) = rest.rsplit_once('-').unwrap_or(("", rest));
    (number(no) && number(count)).then_some(name)
}

/// All that is read from a GGUF file and, if it is part of a split checkpoint, from the others.
pub(crate) struct Contents {
    /// Of the file, or of the first part.
    pub metadata: Metadata,
    /// The parts, in order.
    pub files: Vec<Arc<MappedFile>>,
    /// Part by part, each in its header's order.
    pub tensors: Vec<TensorInfo>,
}

/// Opens the GGUF file at `path` and, if it is any part of a split checkpoint, all the others in
/// its folder.
pub(crate) fn read(path: &Path) -> Result<Contents, Error> {
    let file = Arc::new(MappedFile::open(path)?);
    let (metadata, tensors) = reader::read(Arc::clone(&file), 0)?;
    // Merging leaves a count of 0, and a split into one file is no split.
    if metadata.get_u64(keys::SPLIT_COUNT).unwrap_or(0) <= 1 {
        return Ok(Contents {
            metadata,
            files: vec![file],
            tensors,
        });
    }
    let given = Split::of(&metadata)?;
    let paths = Siblings::of(path, given)?;
    drop(file);
    let first_path = paths.part(0)?;
    let file = Arc::new(MappedFile::open(&first_path)?);
    let (metadata, mut tensors) = reader::read(Arc::clone(&file), 0)?;
    let first = Split { no: 0, ..given };
    Split::of(&metadata)?.agrees(first, &first_path)?;
    let mut files = vec![file];
    for no in 1..given.count {
        let path = paths.part(no)?;
        let file = Arc::new(MappedFile::open(&path)?);
        let (part, more) = reader::read(Arc::clone(&file), files.len())?;
        Split::of(&part)?.agrees(Split { no, ..given }, &path)?;
        same_model(&metadata, &part, &path)?;
        tensors.extend(more);
        files.push(file);
    }
    if tensors.len() as u64 != given.n_tensors {
        return Err(Error::layout(
            &first_path,
            format!(
                "its {} parts hold {} tensors, but {} says {}: one of them was replaced; fetch all again",
                given.count,
                tensors.len(),
                keys::SPLIT_TENSORS_COUNT,
                given.n_tensors
            ),
        ));
    }
    Ok(Contents {
        metadata,
        files,
        tensors,
    })
}

/// What a part says about itself and the whole.
#[derive(Clone, Copy)]
struct Split {
    no: u64,
    count: u64,
    n_tensors: u64,
}

impl Split {
    fn of(metadata: &Metadata) -> Result<Self, Error> {
        let number = |key: &str| {
            metadata.get_u64(key).ok_or_else(|| {
                let problem = format!(
                    "is a part of a split checkpoint by its name or its keys, but has no valid {key}; fetch it again"
                );
                Error::layout(&metadata.file.path, problem)
            })
        };
        let this = Self {
            no: number(keys::SPLIT_NO)?,
            count: number(keys::SPLIT_COUNT)?,
            n_tensors: number(keys::SPLIT_TENSORS_COUNT)?,
        };
        if this.no >= this.count || this.count > MAX_PARTS {
            let problem = format!(
                "says that it is part {} of {}, which cannot be; fetch it again",
                this.no.saturating_add(1),
                this.count
            );
            return Err(Error::layout(&metadata.file.path, problem));
        }
        Ok(this)
    }

    /// Checks that this part, found at `path`, is what it is taken for.
    fn agrees(self, expected: Self, path: &Path) -> Result<(), Error> {
        let rows = [
            (keys::SPLIT_NO, self.no, expected.no),
            (keys::SPLIT_COUNT, self.count, expected.count),
            (
                keys::SPLIT_TENSORS_COUNT,
                self.n_tensors,
                expected.n_tensors,
            ),
        ];
        let Some((key, told, expected)) = rows.iter().find(|row| row.1 != row.2) else {
            return Ok(());
        };
        let problem = format!(
            "its {key} is {told}, not {expected} as its name and the other parts say: it was renamed or belongs to another model; put the right file there"
        );
        Err(Error::layout(path, problem))
    }
}

/// `split.count` is a u16.
pub(super) const MAX_PARTS: u64 = u16::MAX as u64;

/// Where the parts of a split checkpoint lie: all in one folder, told apart by number only.
struct Siblings<'a> {
    /// The part that the user named.
    given: &'a Path,
    given_no: u64,
    prefix: &'a OsStr,
    count: u64,
}

impl<'a> Siblings<'a> {
    /// Of the part at `path`, whose name must be what its keys say: runtimes insist on that too.
    fn of(path: &'a Path, part: Split) -> Result<Self, Error> {
        let suffix = suffix(part.no, part.count);
        let name = path.file_name().unwrap_or_default().as_bytes();
        let Some(prefix) = name.strip_suffix(suffix.as_bytes()) else {
            return Err(Error::layout(
                path,
                format!(
                    "is part {} of a checkpoint that is split into {} files, but its name does not end in {suffix}; give all parts their names back, or join them with `llama-gguf-split --merge`",
                    part.no + 1,
                    part.count
                ),
            ));
        };
        Ok(Self {
            given: path,
            given_no: part.no,
            prefix: OsStr::from_bytes(prefix),
            count: part.count,
        })
    }

    /// The path of part `no`, which must be there and no link that leads elsewhere.
    fn part(&self, no: u64) -> Result<PathBuf, Error> {
        // What was named on the command line may be a link to anywhere.
        if no == self.given_no {
            return Ok(self.given.to_owned());
        }
        let mut name = self.prefix.to_owned();
        name.push(suffix(no, self.count));
        let path = self.given.with_file_name(&name);
        if !path.exists() {
            let given = self.given.file_name().unwrap_or_default();
            return Err(Error::layout(
                &path,
                format!(
                    "is missing: {} is one of {} parts, which must lie in one folder; fetch this one too",
                    given.to_string_lossy(),
                    self.count
                ),
            ));
        }
        within(&parent_of(self.given), &name)?;
        Ok(path)
    }
}

/// Checks that a later part contradicts the first in nothing. What is in later parts only is not
/// read: no runtime does.
fn same_model(first: &Metadata, part: &Metadata, path: &Path) -> Result<(), Error> {
    let own = [
        keys::SPLIT_NO,
        keys::SPLIT_COUNT,
        keys::SPLIT_TENSORS_COUNT,
        keys::ALIGNMENT,
    ];
    let differs = part.iter().find(|(key, value)| {
        !own.contains(key) && first.get(key).is_some_and(|known| known != *value)
    });
    match differs {
        None => Ok(()),
        Some((key, _)) => Err(Error::layout(
            path,
            format!(
                "has another {key} than the first part: they are of different models; put the right file there"
            ),
        )),
    }
}
