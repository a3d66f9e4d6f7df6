//! Reads a GGUF header. Everything that the file claims is checked here, once; afterwards it is
//! trusted.

use std::ops::Range;
use std::sync::Arc;

use super::cursor::{Cursor, Fault};
use super::metadata::{Entry, Metadata};
use super::value::{ValueType, skip};
use super::{DEFAULT_ALIGNMENT, MAGIC, MAX_ALIGNMENT, MAX_DIMS, keys, valid_alignment};
use crate::checkpoint::file::MappedFile;
use crate::checkpoint::{DType, Error, TensorInfo};

/// Reads the header of `file`, the checkpoint's file number `index`.
pub(super) fn read(
    file: Arc<MappedFile>,
    index: usize,
) -> Result<(Metadata, Vec<TensorInfo>), Error> {
    let at_fault = |fault: Fault| Error::Gguf {
        path: file.path.clone(),
        offset: fault.offset as u64,
        problem: fault.problem,
    };
    let mut cursor = Cursor::new(file.bytes());
    let version = version(&mut cursor, &file)?;
    let (entries, tensors) = header(&mut cursor).map_err(at_fault)?;
    let by_key = sorted_by_name(file.bytes(), entries.iter().map(|e| e.key.clone()))
        .map_err(|fault| at_fault(fault.of("the key")))?;
    let mut metadata = Metadata {
        file: Arc::clone(&file),
        version,
        alignment: DEFAULT_ALIGNMENT,
        entries,
        by_key,
    };
    metadata.alignment = alignment(&metadata).map_err(at_fault)?;
    sorted_by_name(file.bytes(), tensors.iter().map(|t| t.name.clone()))
        .map_err(|fault| at_fault(fault.of("the tensor")))?;
    let tensors = placed(&cursor, tensors, metadata.alignment, index).map_err(at_fault)?;
    Ok((metadata, tensors))
}

fn version(cursor: &mut Cursor<'_>, file: &MappedFile) -> Result<u32, Error> {
    let unsupported = |problem: String, remedy: &str| Error::Unsupported {
        path: file.path.clone(),
        problem,
        remedy: remedy.to_owned(),
    };
    let found = cursor.take(MAGIC.len() as u64).ok() == Some(MAGIC);
    match cursor.u32() {
        Ok(version @ (2 | 3)) if found => Ok(version),
        Ok(1) if found => Err(unsupported(
            "GGUF version 1, which only the first weeks of the format used".into(),
            "Convert the model again with a current llama.cpp",
        )),
        Ok(v) if found && (1..=3).contains(&v.swap_bytes()) => Err(unsupported(
            format!("a big-endian GGUF (version {})", v.swap_bytes()),
            "Convert it with llama.cpp's gguf_convert_endian.py first",
        )),
        Ok(v) if found => Err(unsupported(
            format!("GGUF version {v}, which is newer than this slim"),
            "Update slim, or convert the model for version 3",
        )),
        _ => Err(Error::Gguf {
            path: file.path.clone(),
            offset: 0,
            problem: "it does not begin with GGUF and a version".into(),
        }),
    }
}

/// A tensor's entry before its data's place in the file is known.
struct RawTensor {
    name: Range<usize>,
    dtype: DType,
    shape: Vec<u64>,
    offset: u64,
    /// Where the entry ends, for messages.
    at: usize,
}

fn header(cursor: &mut Cursor<'_>) -> Result<(Vec<Entry>, Vec<RawTensor>), Fault> {
    let n_tensors = cursor.u64()?;
    let n_entries = cursor.u64()?;
    // A key takes at least 8 + 1 + 4 + 1 bytes, a tensor 8 + 4 + 4 + 8: no file can hold more.
    cursor.expect_room(n_entries, 14, "keys")?;
    cursor.expect_room(n_tensors, 24, "tensors")?;
    let mut entries = Vec::new();
    for _ in 0..n_entries {
        entries.push(entry(cursor)?);
    }
    let mut tensors = Vec::new();
    for _ in 0..n_tensors {
        tensors.push(raw_tensor(cursor)?);
    }
    Ok((entries, tensors))
}

fn entry(cursor: &mut Cursor<'_>) -> Result<Entry, Fault> {
    let key = cursor.name("a key")?;
    let id = cursor.u32()?;
    let Some(ty) = ValueType::from_id(id) else {
        return Err(cursor.fault(format!("a key has the unknown value type {id}")));
    };
    let start = cursor.at();
    skip(cursor, ty, 0)?;
    Ok(Entry {
        key,
        ty,
        value: start..cursor.at(),
    })
}

fn raw_tensor(cursor: &mut Cursor<'_>) -> Result<RawTensor, Fault> {
    let name = cursor.name("a tensor's name")?;
    let n_dims = cursor.u32()? as usize;
    if n_dims > MAX_DIMS {
        return Err(cursor.fault(format!(
            "a tensor with {n_dims} dimensions; {MAX_DIMS} is the most"
        )));
    }
    let mut shape = Vec::with_capacity(n_dims);
    for _ in 0..n_dims {
        shape.push(cursor.u64()?);
    }
    shape.reverse(); // ne[0] is the innermost
    if shape.contains(&0) {
        return Err(cursor.fault(format!("a tensor of the shape {shape:?}, with no elements")));
    }
    if shape
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(d))
        .is_none()
    {
        return Err(cursor.fault(format!("a tensor of the impossible shape {shape:?}")));
    }
    let dtype = DType::from_ggml(cursor.u32()?);
    let offset = cursor.u64()?;
    Ok(RawTensor {
        name,
        dtype,
        shape,
        offset,
        at: cursor.at(),
    })
}

/// Indices of the names in sorted order; a name that occurs twice is a fault.
fn sorted_by_name(
    bytes: &[u8],
    names: impl Iterator<Item = Range<usize>>,
) -> Result<Vec<usize>, Fault> {
    let names: Vec<_> = names.collect();
    let name = |i: &usize| {
        let span = names.get(*i).cloned();
        span.and_then(|span| bytes.get(span)).unwrap_or_default()
    };
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(name);
    for pair in order.windows(2) {
        if let [a, b] = pair
            && name(a) == name(b)
        {
            let span = names.get(*b).cloned().unwrap_or_default();
            return Err(Fault {
                offset: span.start,
                problem: format!("{} occurs twice", String::from_utf8_lossy(name(a))),
            });
        }
    }
    Ok(order)
}

fn alignment(metadata: &Metadata) -> Result<u32, Fault> {
    let Some(entry) = metadata.find(keys::ALIGNMENT) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let value = metadata.value(entry);
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
    match number {
        Some(n) if valid_alignment(n.into()) && entry.ty == ValueType::U32 => Ok(n),
        _ => Err(Fault {
            offset: entry.value.start,
            problem: format!(
                "{} is {value:?}, no power of two up to {MAX_ALIGNMENT} as U32",
                keys::ALIGNMENT
            ),
        }),
    }
}

/// Gives every tensor its range in the file, in the header's order.
fn placed(
    cursor: &Cursor<'_>,
    tensors: Vec<RawTensor>,
    alignment: u32,
    file: usize,
) -> Result<Vec<TensorInfo>, Fault> {
    let file_len = cursor.bytes.len() as u64;
    let alignment = u64::from(alignment);
    let data_start = (cursor.at() as u64).next_multiple_of(alignment);
    let mut by_offset: Vec<usize> = (0..tensors.len()).collect();
    by_offset.sort_by_key(|&i| tensors.get(i).map(|t| t.offset));
    let mut ends = vec![0u64; tensors.len()];
    let mut limit = file_len; // of the tensor at hand: where the next one starts
    for &i in by_offset.iter().rev() {
        let Some(tensor) = tensors.get(i) else {
            continue;
        };
        let name =
            || String::from_utf8_lossy(cursor.bytes.get(tensor.name.clone()).unwrap_or_default());
        let fault = |problem: String| Fault {
            offset: tensor.at,
            problem,
        };
        if tensor.offset % alignment != 0 {
            return Err(fault(format!(
                "tensor {} is at offset {}, no multiple of the alignment {alignment}",
                name(),
                tensor.offset
            )));
        }
        let start = data_start.checked_add(tensor.offset).filter(|s| *s < limit);
        let Some(start) = start else {
            return Err(fault(format!(
                "tensor {} is at offset {}, beyond the end of the file or at another tensor's place",
                name(),
                tensor.offset
            )));
        };
        // A type newer than slim has no known size: it ends where the next tensor starts.
        let end = match tensor.dtype {
            DType::Ggml(_) => Some(limit).filter(|end| is_plausible(&tensor.shape, end - start)),
            known => known
                .byte_len(&tensor.shape)
                .and_then(|len| start.checked_add(len)),
        };
        let Some(end) = end.filter(|end| *end <= limit) else {
            return Err(fault(format!(
                "tensor {} ({} of the shape {:?}) does not fit between its offset {} and the next \
                 tensor or the end of the file",
                name(),
                tensor.dtype,
                tensor.shape,
                tensor.offset
            )));
        };
        if let Some(slot) = ends.get_mut(i) {
            *slot = end;
        }
        limit = start;
    }
    Ok(tensors
        .into_iter()
        .zip(ends)
        .map(|(tensor, end)| TensorInfo {
            name: String::from_utf8_lossy(cursor.bytes.get(tensor.name).unwrap_or_default())
                .into_owned(),
            dtype: tensor.dtype,
            shape: tensor.shape,
            file,
            range: data_start + tensor.offset..end,
        })
        .collect())
}

/// Whether elements of an unknown type can be in so many bytes. Known types pack 8 into a byte at
/// most; without any bound a shape would be the file's mere claim.
fn is_plausible(shape: &[u64], bytes: u64) -> bool {
    shape.iter().product::<u64>() / 64 <= bytes
}
