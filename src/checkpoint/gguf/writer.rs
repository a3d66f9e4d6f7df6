//! Writes GGUF version 3. Data first, header last: a digest computed on the way can still go into
//! the metadata.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use super::value::{Value, ValueType};
use super::{DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, keys};
use crate::checkpoint::atomic::AtomicFile;
use crate::checkpoint::output::{OutTensor, Sink};
use crate::checkpoint::{BoxError, Error};

const VERSION: u32 = 3;

/// Writes a GGUF file, whole or not at all: keys and tensors in the given order, each tensor at
/// the next multiple of `general.alignment` (32 without that key), zeros between them and after
/// the last.
///
/// The tensors are written first. Then `finish` may put other values into the metadata, of the
/// same keys and encoded lengths; then the header is written. `progress` is told the number of
/// tensor bytes written since it was last called.
///
/// # Errors
/// The target is refused (see [`check_target`](crate::checkpoint::check_target)), a key or tensor
/// does not fit the format, a stream or `finish` failed, or the system did. The target is then as
/// it was.
pub fn write<'v>(
    target: &Path,
    metadata: &[(String, Value<'v>)],
    tensors: &[OutTensor<'_>],
    finish: impl FnOnce(&mut [(String, Value<'v>)]) -> Result<(), BoxError>,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    check_keys(target, metadata)?;
    let alignment = alignment(target, metadata)?;
    let layout = layout(target, tensors, alignment)?;
    let head_len = header_len(metadata, tensors, &layout);
    let data_start = head_len.next_multiple_of(alignment);
    let end = layout.last().map_or(head_len, |last| {
        data_start.saturating_add(
            last.offset
                .saturating_add(last.len)
                .next_multiple_of(alignment),
        )
    });

    let output = AtomicFile::create(target)?;
    let sink = Sink {
        file: output.file(),
        target,
        progress,
    };
    sink.reserve(end)?;
    for (tensor, place) in tensors.iter().zip(&layout) {
        sink.tensor(tensor, data_start + place.offset, place.len)?;
    }

    // The disk works while `finish` waits for what it needs.
    output
        .file()
        .sync_data()
        .map_err(Error::io("write", target))?;
    let mut metadata = metadata.to_vec();
    finish(&mut metadata)
        .map_err(|e| Error::output(target, "the metadata".into(), e.to_string()))?;
    if header_len(&metadata, tensors, &layout) != head_len {
        let problem = "the final values are not as long as those they replace";
        return Err(Error::output(target, "the metadata".into(), problem));
    }
    let mut file = output.file();
    let mut write_head = || {
        file.rewind()?;
        let mut out = BufWriter::new(file);
        header(&mut out, &metadata, tensors, &layout)?;
        out.flush()
    };
    write_head().map_err(Error::io("write", target))?;
    output.commit()
}

/// A tensor's place behind the header.
struct Place {
    offset: u64,
    len: u64,
}

fn layout(target: &Path, tensors: &[OutTensor<'_>], alignment: u64) -> Result<Vec<Place>, Error> {
    let mut names = BTreeSet::new();
    let mut places = Vec::with_capacity(tensors.len());
    let mut offset = 0u64;
    for tensor in tensors {
        let wrong = |problem: String| Error::output(target, tensor.what(), problem);
        check_tensor(tensor).map_err(wrong)?;
        if !names.insert(&tensor.name) {
            return Err(wrong("there are two of this name".into()));
        }
        let len = tensor.byte_len(target)?;
        places.push(Place { offset, len });
        offset = offset
            .checked_add(len)
            .and_then(|end| end.checked_next_multiple_of(alignment))
            .ok_or_else(|| wrong("the file would be larger than any file can be".into()))?;
    }
    Ok(places)
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
        Some(n) if n.is_power_of_two() && value.ty() == ValueType::U32 => Ok(n),
        _ => {
            let problem = format!("{value:?} is no power of two as U32");
            Err(Error::output(target, format!("the key {key}"), problem))
        }
    }
}

fn header(
    out: &mut impl Write,
    metadata: &[(String, Value<'_>)],
    tensors: &[OutTensor<'_>],
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
    tensors: &[OutTensor<'_>],
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
