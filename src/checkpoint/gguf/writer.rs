//! Writes GGUF version 3. Data first, header last: a digest computed on the way can still go into
//! the metadata.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use super::parts::Parts;
use super::value::{Value, ValueType};
use super::{DEFAULT_ALIGNMENT, MAGIC, MAX_ALIGNMENT, MAX_DIMS, keys, valid_alignment};
use crate::checkpoint::atomic::{AtomicFile, commit_together};
use crate::checkpoint::output::{OutTensor, Sink};
use crate::checkpoint::{BoxError, Error};

const VERSION: u32 = 3;

/// Writes a GGUF file: [`write_parts`] into one.
///
/// # Errors
/// As there.
pub fn write<'v>(
    target: &Path,
    metadata: &[(String, Value<'v>)],
    tensors: &[OutTensor<'_>],
    finish: impl FnOnce(&mut [(String, Value<'v>)]) -> Result<(), BoxError>,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    let parts = Parts::new(target, tensors, None)?;
    write_parts(&parts, metadata, finish, progress)
}

/// Writes a GGUF checkpoint, whole or not at all: keys and tensors in the given order, each tensor
/// at the next multiple of `general.alignment` (32 without that key), zeros between them and after
/// the last.
///
/// The tensors are written first. Then `finish` may put other values into the metadata, of the
/// same keys and encoded lengths; then the header is written. `progress` is told the number of
/// tensor bytes written since it was last called.
///
/// # Errors
/// A target is refused (see [`check_target`](crate::checkpoint::check_target)), a key or tensor
/// does not fit the format, a stream or `finish` failed, or the system did. The targets are then
/// as they were.
pub fn write_parts<'v>(
    parts: &Parts<'_>,
    metadata: &[(String, Value<'v>)],
    finish: impl FnOnce(&mut [(String, Value<'v>)]) -> Result<(), BoxError>,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    check_keys(&parts.target, metadata)?;
    check_names(parts)?;
    let alignment = alignment(&parts.target, metadata)?;
    let mut keys = parts.keys(metadata);
    let mut files = Vec::with_capacity(keys.len());
    for ((path, tensors), keys) in parts.files.iter().zip(&keys) {
        files.push(Plan::new(path, keys, tensors, alignment)?);
    }
    // All of them are begun before any is filled: what cannot be placed is told first.
    let outputs = parts.paths().map(AtomicFile::create);
    let outputs: Vec<AtomicFile> = outputs.collect::<Result<_, _>>()?;
    for (plan, output) in files.iter().zip(&outputs) {
        plan.reserve(output.file())?;
    }
    for (plan, output) in files.iter().zip(&outputs) {
        plan.fill(output.file(), progress)?;
    }
    if let Some(metadata) = keys.first_mut() {
        finish(metadata)
            .map_err(|e| Error::output(&parts.target, "the metadata".into(), e.to_string()))?;
    }
    for ((plan, output), keys) in files.iter().zip(&outputs).zip(&keys) {
        plan.write_header(output.file(), keys)?;
    }
    commit_together(outputs)
}

/// One file whose layout is settled.
struct Plan<'a> {
    path: &'a Path,
    tensors: &'a [&'a OutTensor<'a>],
    places: Vec<Place>,
    header_len: u64,
    data_start: u64,
    end: u64,
}

impl<'a> Plan<'a> {
    fn new(
        path: &'a Path,
        keys: &[(String, Value<'_>)],
        tensors: &'a [&'a OutTensor<'a>],
        alignment: u64,
    ) -> Result<Self, Error> {
        let places = layout(path, tensors, alignment)?;
        let header_len = header_len(keys, tensors, &places);
        let data_start = header_len.next_multiple_of(alignment);
        let end = places.last().map_or(header_len, |last| {
            let data = last.offset.saturating_add(last.len);
            let data = data.checked_next_multiple_of(alignment);
            data_start.saturating_add(data.unwrap_or(u64::MAX))
        });
        Ok(Self {
            path,
            tensors,
            places,
            header_len,
            data_start,
            end,
        })
    }

    fn sink<'s>(&'s self, file: &'s File, progress: &'s dyn Fn(u64)) -> Sink<'s> {
        Sink::new(file, self.path, progress)
    }

    fn reserve(&self, file: &File) -> Result<(), Error> {
        self.sink(file, &|_| {}).reserve(self.end)
    }

    /// Writes the tensors.
    fn fill(&self, file: &File, progress: &dyn Fn(u64)) -> Result<(), Error> {
        let sink = self.sink(file, progress);
        for (tensor, place) in self.tensors.iter().zip(&self.places) {
            sink.tensor(tensor, self.data_start + place.offset, place.len)?;
        }
        // The disk works while others wait for what they need.
        file.sync_data().map_err(Error::io("write", self.path))
    }

    fn write_header(&self, mut file: &File, keys: &[(String, Value<'_>)]) -> Result<(), Error> {
        if header_len(keys, self.tensors, &self.places) != self.header_len {
            let problem = "the final values are not as long as those they replace";
            return Err(Error::output(self.path, "the metadata".into(), problem));
        }
        let mut write = || {
            file.rewind()?;
            let mut out = BufWriter::new(file);
            header(&mut out, keys, self.tensors, &self.places)?;
            out.flush()
        };
        write().map_err(Error::io("write", self.path))
    }
}

/// A tensor's place behind the header.
struct Place {
    offset: u64,
    len: u64,
}

fn layout(target: &Path, tensors: &[&OutTensor<'_>], alignment: u64) -> Result<Vec<Place>, Error> {
    let mut places = Vec::with_capacity(tensors.len());
    let mut offset = 0u64;
    for tensor in tensors {
        let wrong = |problem: String| Error::output(target, tensor.what(), problem);
        check_tensor(tensor).map_err(wrong)?;
        let len = tensor.byte_len(target)?;
        places.push(Place { offset, len });
        offset = offset
            .checked_add(len)
            .and_then(|end| end.checked_next_multiple_of(alignment))
            .ok_or_else(|| wrong("the file would be larger than any file can be".into()))?;
    }
    Ok(places)
}

fn check_names(parts: &Parts<'_>) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    let mut tensors = parts.files.iter().flat_map(|(_, tensors)| tensors);
    match tensors.find(|tensor| !names.insert(&tensor.name)) {
        None => Ok(()),
        Some(twin) => {
            let problem = "there are two of this name";
            Err(Error::output(&parts.target, twin.what(), problem))
        }
    }
}

fn check_tensor(tensor: &OutTensor<'_>) -> Result<(), String> {
    check_name(&tensor.name)?;
    let OutTensor { dtype, shape, .. } = tensor;
    if dtype.ggml_id().is_none() {
        return Err(format!("GGUF has no type {dtype}; convert it first"));
    }
    if shape.len() > MAX_DIMS {
        return Err(format!(
            "GGUF holds no more than {MAX_DIMS} dimensions, its shape is {shape:?}"
        ));
    }
    if shape.contains(&0) {
        return Err(format!("its shape {shape:?} has no elements"));
    }
    Ok(())
}

fn check_keys(target: &Path, metadata: &[(String, Value<'_>)]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for (key, _) in metadata {
        let wrong = |problem| Err(Error::output(target, format!("the key {key}"), problem));
        check_name(key).or_else(wrong)?;
        if !seen.insert(key) {
            return wrong("there are two of this name");
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("its name is empty"),
        name if name.contains('\0') => Err("its name holds a NUL character"),
        _ => Ok(()),
    }
}

fn alignment(target: &Path, metadata: &[(String, Value<'_>)]) -> Result<u64, Error> {
    let Some((key, value)) = metadata.iter().find(|(key, _)| key == keys::ALIGNMENT) else {
        return Ok(DEFAULT_ALIGNMENT.into());
    };
    match value.as_u64() {
        Some(n) if valid_alignment(n) && value.ty() == ValueType::U32 => Ok(n),
        _ => {
            let problem = format!("{value:?} is no power of two up to {MAX_ALIGNMENT} as U32");
            Err(Error::output(target, format!("the key {key}"), problem))
        }
    }
}

fn header(
    out: &mut impl Write,
    metadata: &[(String, Value<'_>)],
    tensors: &[&OutTensor<'_>],
    layout: &[Place],
) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&(tensors.len() as u64).to_le_bytes())?;
    out.write_all(&(metadata.len() as u64).to_le_bytes())?;
    for (key, value) in metadata {
        string(out, key)?;
        out.write_all(&value.ty().id().to_le_bytes())?;
        out.write_all(value.encoded())?;
    }
    for (tensor, place) in tensors.iter().zip(layout) {
        string(out, &tensor.name)?;
        out.write_all(&(tensor.shape.len() as u32).to_le_bytes())?;
        for dim in tensor.shape.iter().rev() {
            out.write_all(&dim.to_le_bytes())?;
        }
        let id = tensor.dtype.ggml_id().ok_or(io::ErrorKind::InvalidInput)?;
        out.write_all(&id.to_le_bytes())?;
        out.write_all(&place.offset.to_le_bytes())?;
    }
    Ok(())
}

fn string(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())
}

fn header_len(
    metadata: &[(String, Value<'_>)],
    tensors: &[&OutTensor<'_>],
    layout: &[Place],
) -> u64 {
    let mut count = Count(0);
    // Counting cannot fail, and types without an id were refused with the layout.
    let _ = header(&mut count, metadata, tensors, layout);
    count.0
}

/// A writer that only counts.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
