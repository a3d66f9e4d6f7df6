//! What is to be written, and the one place that writes tensors' bytes.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use super::file::At;
use super::{BoxError, DType, Error};

/// Writes a tensor's bytes into the given writer, in order.
pub type Producer<'a> = Box<dyn Fn(&mut dyn Write) -> Result<(), BoxError> + Sync + 'a>;

/// One tensor of a checkpoint to be written.
pub struct OutTensor<'a> {
    /// The name in the output's format.
    pub name: String,
    /// How its elements will be stored.
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// Where its bytes come from.
    pub data: Data<'a>,
}

/// Where the bytes of a tensor come from.
pub enum Data<'a> {
    /// Bytes of another file.
    Copy {
        /// The file to copy from. Its cursor is not used.
        file: &'a File,
        /// The bytes in it.
        range: Range<u64>,
    },
    /// Bytes that are computed while they are written. Yielding too many or too few is an error.
    Stream(Producer<'a>),
}

impl OutTensor<'_> {
    /// The bytes that this tensor takes, after checking that its type, shape and source agree.
    pub(crate) fn byte_len(&self, target: &Path) -> Result<u64, Error> {
        let wrong = |problem: String| Err(Error::output(target, self.what(), problem));
        let needed = self.dtype.byte_len(&self.shape);
        match (&self.data, needed) {
            (Data::Copy { range, .. }, Some(needed)) => match range.end.checked_sub(range.start) {
                Some(len) if len == needed => Ok(len),
                len => wrong(format!(
                    "{} of the shape {:?} takes {needed} bytes, its source has {}",
                    self.dtype,
                    self.shape,
                    len.unwrap_or(0)
                )),
            },
            // A type newer than slim: its bytes are as many as they were.
            (Data::Copy { range, .. }, None) if self.dtype.block().is_none() => {
                Ok(range.end.saturating_sub(range.start))
            }
            (Data::Stream(_), Some(needed)) => Ok(needed),
            (_, None) => wrong(format!(
                "the shape {:?} is no whole number of {} blocks",
                self.shape, self.dtype
            )),
        }
    }

    /// For messages.
    pub(crate) fn what(&self) -> String {
        format!("the tensor {}", self.name)
    }
}

/// Writes tensors into a file at given places and tells how many bytes were written.
pub(crate) struct Sink<'a> {
    file: &'a File,
    target: &'a Path,
    progress: &'a dyn Fn(u64),
    /// Up to where the disk was told to begin.
    begun: Cell<u64>,
}

impl<'a> Sink<'a> {
    pub fn new(file: &'a File, target: &'a Path, progress: &'a dyn Fn(u64)) -> Self {
        Self {
            file,
            target,
            progress,
            begun: Cell::new(0),
        }
    }

    /// Sets the file's final length and asks the system for the space, so that a full disk is told
    /// before the work, not after it. What is never written reads as zeros: padding comes free.
    pub fn reserve(&self, len: u64) -> Result<(), Error> {
        self.file
            .set_len(len)
            .map_err(Error::io("write", self.target))?;
        match reserve_blocks(self.file, len) {
            Err(rustix::io::Errno::NOSPC) => Err(Error::target(
                self.target,
                format!("its disk has no room for the {len} bytes; free some or write elsewhere"),
            )),
            // Many file systems cannot reserve; then a full disk is found when it is full.
            _ => Ok(()),
        }
    }

    /// Writes the `len` bytes of `tensor` at `place`.
    pub fn tensor(&self, tensor: &OutTensor<'_>, place: u64, len: u64) -> Result<(), Error> {
        self.produce(&tensor.data, place, len)
            .map_err(|e| Error::output(self.target, tensor.what(), e.to_string()))
    }

    fn produce(&self, data: &Data<'_>, place: u64, len: u64) -> Result<(), BoxError> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(place))?;
        let exact = Exact {
            sink: self,
            place,
            left: Some(len),
        };
        let mut writer = BufWriter::with_capacity(BUFFER, exact);
        match data {
            Data::Copy { file, range } => copy(file, range, &mut writer)?,
            Data::Stream(produce) => produce(&mut writer)?,
        }
        writer.flush()?;
        match writer.get_ref().left {
            Some(0) => Ok(()),
            Some(left) => Err(format!("{left} of its {len} bytes never came").into()),
            None => Err(TOO_MANY.into()),
        }
    }

    /// Tells the disk to begin with what was written up to `end`, so that the last sync finds
    /// little left to wait for.
    fn begin_writeback(&self, end: u64) {
        let begun = self.begun.get();
        if end.abs_diff(begun) >= WRITEBACK {
            start_writeback(self.file, begun.min(end), end.abs_diff(begun));
            self.begun.set(end);
        }
    }
}

/// Copying reads and writes this much at a time. `copy_file_range` is slower where it cannot share
/// blocks, and it cannot here: tensors behind a dropped layer are not aligned to pages any more.
const BUFFER: usize = 1 << 20;

/// What is written between two requests to the disk to begin.
const WRITEBACK: u64 = 8 << 20;

const TOO_MANY: &str = "more bytes came than its type and shape hold";

/// Takes a known number of bytes; `left` is `None` once more were offered.
struct Exact<'a> {
    sink: &'a Sink<'a>,
    place: u64,
    left: Option<u64>,
}

impl Write for Exact<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len() as u64;
        self.left = self.left.and_then(|left| left.checked_sub(len));
        if self.left.is_none() {
            return Err(io::Error::other(TOO_MANY));
        }
        let mut file = self.sink.file;
        file.write_all(bytes)?;
        self.place += len;
        self.sink.begin_writeback(self.place);
        (self.sink.progress)(len);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies `range` of a file, whose cursor does not matter.
fn copy(from: &File, range: &Range<u64>, to: &mut impl Write) -> Result<(), BoxError> {
    let len = range.end - range.start;
    let copied = io::copy(&mut At(from, range.start).take(len), to)?;
    match len - copied {
        0 => Ok(()),
        missing => Err(format!(
            "its source file has ended {missing} bytes early: was it changed meanwhile?"
        )
        .into()),
    }
}

/// `DontNeed` makes Linux start writing the dirty pages of the range at once; they stay in memory.
#[cfg(target_os = "linux")]
fn start_writeback(file: &File, from: u64, len: u64) {
    use rustix::fs::{Advice, fadvise};
    // Only speed depends on it.
    let _ = fadvise(file, from, std::num::NonZeroU64::new(len), Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn start_writeback(_: &File, _: u64, _: u64) {}

#[cfg(target_os = "linux")]
fn reserve_blocks(file: &File, len: u64) -> rustix::io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len)
}

#[cfg(not(target_os = "linux"))]
fn reserve_blocks(_: &File, _: u64) -> rustix::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_has_become_shorter_is_an_error() {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(&[7; 1000]).unwrap();
        let mut to = Vec::new();
        copy(&from, &(300..900), &mut to).unwrap();
        assert_eq!(to, [7; 600]);
        let error = copy(&from, &(990..1001), &mut to).unwrap_err();
        assert!(error.to_string().contains("ended 1 bytes early"), "{error}");
    }
}
