//! How a GGUF checkpoint to be written is dealt out to files.

use std::path::{Path, PathBuf};

use super::split::{MAX_PARTS, suffix};
use super::value::Value;
use super::{DEFAULT_ALIGNMENT, keys};
use crate::checkpoint::deal::deal;
use crate::checkpoint::{Error, OutTensor};

/// A file's keys, in order.
type Keys<'v> = Vec<(String, Value<'v>)>;

/// The files of a checkpoint to be written, and which tensors go into each.
pub struct Parts<'a> {
    pub(super) target: PathBuf,
    /// At least one.
    pub(super) files: Vec<(PathBuf, Vec<&'a OutTensor<'a>>)>,
}

impl<'a> Parts<'a> {
    /// One file, `target`, unless its tensors are more than `max_bytes`: then as many as are
    /// needed, `NAME-00001-of-0000N.gguf`, filled in order as `llama-gguf-split` fills them, a
    /// tensor larger than `max_bytes` by itself. Headers are not counted.
    ///
    /// # Errors
    /// A tensor that does not fit the format; more parts than it can count.
    pub fn new(
        target: &Path,
        tensors: &'a [OutTensor<'a>],
        max_bytes: Option<u64>,
    ) -> Result<Self, Error> {
        let dealt = deal(target, tensors, max_bytes, DEFAULT_ALIGNMENT.into())?;
        let count = dealt.len() as u64;
        if count > MAX_PARTS {
            let problem =
                format!("that would be {count} files, {MAX_PARTS} are the most; allow larger ones");
            return Err(Error::target(target, problem));
        }
        let mut files = Vec::with_capacity(dealt.len());
        for (tensors, no) in dealt.into_iter().zip(0..) {
            let path = match count {
                1 => target.to_owned(),
                _ => part_path(target, no, count),
            };
            files.push((path, tensors));
        }
        Ok(Self {
            target: target.to_owned(),
            files,
        })
    }

    /// Where they will be, in order. The first is the one to open.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The keys of each file: the model's in the first, in all of them those of a split.
    pub(super) fn keys<'v>(&self, metadata: &[(String, Value<'v>)]) -> Vec<Keys<'v>> {
        let n_tensors: usize = self.files.iter().map(|(_, tensors)| tensors.len()).sum();
        let count = self.files.len();
        let alignment = metadata.iter().filter(|(key, _)| key == keys::ALIGNMENT);
        let keys = |no: usize| {
            let mut keys: Keys<'v> = match no {
                0 => metadata.to_vec(),
                _ => alignment.clone().cloned().collect(),
            };
            if count > 1 {
                // In llama-gguf-split's order, so that the files are the same.
                let number = |key: &str, value| (key.to_owned(), value);
                keys.extend([
                    number(keys::SPLIT_NO, Value::u16(no as u16)),
                    number(keys::SPLIT_TENSORS_COUNT, Value::i32(n_tensors as i32)),
                    number(keys::SPLIT_COUNT, Value::u16(count as u16)),
                ]);
            }
            keys
        };
        (0..count).map(keys).collect()
    }
}

fn part_path(target: &Path, no: u64, count: u64) -> PathBuf {
    let mut name = target.file_stem().unwrap_or_default().to_owned();
    name.push(suffix(no, count));
    target.with_file_name(name)
}
