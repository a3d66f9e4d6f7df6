//! One mapped file of a checkpoint.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};
use sha2::{Digest, Sha256};

use super::Error;

/// A read-only file and its mapping. Nobody may shorten the file while it is open: a mapped page
/// that has lost its file kills the process that reads it, as with every program that maps files.
#[derive(Debug)]
pub struct MappedFile {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    map: Mmap,
}

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        // SAFETY: the mapping is read-only and shared; see the type's comment for its one condition.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            map,
        })
    }

    /// The file's name, without its folder.
    pub(crate) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The bytes of a range that was checked when the header was read; `None` for a range of some
    /// other file.
    pub(crate) fn slice(&self, range: &Range<u64>) -> Option<&[u8]> {
        local(range).and_then(|range| self.map.get(range))
    }

    /// Gives the pages of `range` back to the system; they are read from the file again on use.
    pub(crate) fn release(&self, range: &Range<u64>) {
        let Some(range) = local(range).filter(|r| r.start < r.end && r.end <= self.map.len())
        else {
            return;
        };
        // SAFETY: dropping pages of a read-only file mapping changes no byte that a reader sees.
        // A kernel that declines the advice only costs memory, so its answer is not needed.
        let _ = unsafe {
            self.map
                .unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
        };
    }

    /// Hexadecimal SHA-256 of the whole file. Reads rather than maps, so that the process does not
    /// grow by the file's size.
    pub(crate) fn sha256(&self) -> Result<String, Error> {
        let mut reader = At(&self.file, 0);
        let mut hasher = Sha256::new();
        let mut buffer = vec![0u8; 1 << 20];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(hex(&hasher.finalize())),
                Ok(n) => hasher.update(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", &self.path)(e)),
            }
        }
    }
}

/// Reads a file from a position of its own, leaving the shared cursor of the handle alone.
pub(crate) struct At<'a>(pub &'a File, pub u64);

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read_at(buffer, self.1)?;
        self.1 += n as u64;
        Ok(n)
    }
}

fn local(range: &Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
