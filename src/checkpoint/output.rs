//! What is to be written, and the one place that writes tensors' bytes.

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
    /// Bytes of another file, copied by the kernel.
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
    pub file: &'a File,
    pub target: &'a Path,
    pub progress: &'a dyn Fn(u64),
}

impl Sink<'_> {
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
        match &tensor.data {
            Data::Copy { file, range } => {
                copy(file, range.clone(), self.file, place, self.progress)
                    .map_err(|e| Error::output(self.target, tensor.what(), e.to_string()))
            }
            Data::Stream(produce) => self
                .stream(produce, place, len)
                .map_err(|e| Error::output(self.target, tensor.what(), e.to_string())),
        }
    }

    fn stream(&self, produce: &Producer<'_>, place: u64, len: u64) -> Result<(), BoxError> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(place))?;
        let exact = Exact {
            file,
            left: Some(len),
            progress: self.progress,
        };
        let mut writer = BufWriter::with_capacity(1 << 20, exact);
        produce(&mut writer)?;
        writer.flush()?;
        match writer.get_ref().left {
            Some(0) => Ok(()),
            Some(left) => Err(format!("{left} of its {len} bytes never came").into()),
            None => Err(TOO_MANY.into()),
        }
    }
}

const TOO_MANY: &str = "more bytes came than its type and shape hold";

/// Takes a known number of bytes; `left` is `None` once more were offered.
struct Exact<'a> {
    file: &'a File,
    left: Option<u64>,
    progress: &'a dyn Fn(u64),
}

impl Write for Exact<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .and_then(|left| left.checked_sub(bytes.len() as u64));
        if self.left.is_none() {
            return Err(io::Error::other(TOO_MANY));
        }
        self.file.write_all(bytes)?;
        (self.progress)(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The most that is copied between two calls of `progress`.
const STEP: u64 = 64 << 20;

/// Copies `range` of one file to `place` in another. The kernel does it where it can (sharing
/// blocks on file systems that know how); neither file's cursor matters.
fn copy(
    from: &File,
    range: Range<u64>,
    to: &File,
    place: u64,
    progress: &dyn Fn(u64),
) -> io::Result<()> {
    let mut at = range.start;
    let mut place = place;
    while at < range.end {
        let n = copy_in_kernel(from, at, to, place, STEP.min(range.end - at));
        if n == 0 {
            return copy_through_memory(from, at..range.end, to, place, progress);
        }
        at += n;
        place += n;
        progress(n);
    }
    Ok(())
}

/// How many bytes the kernel copied; 0 if it cannot between these files, or if `from` has ended.
#[cfg(target_os = "linux")]
fn copy_in_kernel(from: &File, mut at: u64, to: &File, mut place: u64, len: u64) -> u64 {
    let len = usize::try_from(len).unwrap_or(1 << 30);
    rustix::fs::copy_file_range(from, Some(&mut at), to, Some(&mut place), len).unwrap_or(0) as u64
}

#[cfg(not(target_os = "linux"))]
fn copy_in_kernel(_: &File, _: u64, _: &File, _: u64, _: u64) -> u64 {
    0
}

fn copy_through_memory(
    from: &File,
    range: Range<u64>,
    mut to: &File,
    place: u64,
    progress: &dyn Fn(u64),
) -> io::Result<()> {
    let len = range.end - range.start;
    to.seek(SeekFrom::Start(place))?;
    let mut exact = Exact {
        file: to,
        left: Some(len),
        progress,
    };
    let copied = io::copy(&mut At(from, range.start).take(len), &mut exact)?;
    if copied < len {
        return Err(io::Error::other(format!(
            "its source file has ended {} bytes early: was it changed meanwhile?",
            len - copied
        )));
    }
    Ok(())
}

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

    /// Both ways of copying, since the kernel's refusal cannot be arranged on every file system.
    #[test]
    fn a_range_is_copied_through_memory_as_the_kernel_copies_it() {
        let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(&bytes).unwrap();
        let none = |_| {};
        for way in [copy, copy_through_memory] {
            let to = tempfile::tempfile().unwrap();
            way(&from, 12_345..345_678, &to, 1000, &none).unwrap();
            let mut written = Vec::new();
            At(&to, 1000).read_to_end(&mut written).unwrap();
            assert!(written == bytes[12_345..345_678]);
            let beyond = 399_000..400_001;
            let error = way(&from, beyond, &to, 0, &none).unwrap_err();
            assert!(error.to_string().contains("ended 1 bytes early"), "{error}");
        }
    }
}
