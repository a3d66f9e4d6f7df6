//! Reads a GGUF header. Everything that the file claims is checked here, once; afterwards it is
//! trusted.

use std::ops::Range;
use std::sync::Arc;

use super::value::{Value, ValueType, skip};
use super::{DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, keys};
use crate::checkpoint::file::MappedFile;
use crate::checkpoint::{DType, Error, TensorInfo};

/// The keys and values of a GGUF file, in the file's order, as spans over its mapping.
#[derive(Clone, Debug)]
pub struct Metadata {
    file: Arc<MappedFile>,
    version: u32,
    alignment: u32,
    entries: Vec<Entry>,
    /// Indices into `entries`, sorted by key.
    by_key: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Range<usize>,
    ty: ValueType,
    value: Range<usize>,
}

impl Metadata {
    /// The format's version, 2 or 3 (which differ in nothing that slim reads).
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the tensors' places are multiples of.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True of a file without keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of this key.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.find(key).map(|entry| self.value(entry))
    }

    /// The string of this key, if it is one.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        let entry = self.find(key).filter(|entry| entry.ty == ValueType::Str)?;
        let text = self.file.bytes().get(entry.value.clone())?.get(8..)?;
        std::str::from_utf8(text).ok()
    }

    /// The integer of this key, of whatever width, if it is one and not negative.
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// The number of this key, if it is one.
    pub fn get_f64(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    /// All keys and values, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries
            .iter()
            .map(|entry| (self.key(entry), self.value(entry)))
    }

    fn find(&self, key: &str) -> Option<&Entry> {
        let entry = |&i: &u32| self.entries.get(i as usize);
        let at = self
            .by_key
            .binary_search_by(|i| entry(i).map_or("", |e| self.key(e)).cmp(key))
            .ok()?;
        self.by_key.get(at).and_then(entry)
    }

    fn key(&self, entry: &Entry) -> &str {
        let bytes = self.file.bytes().get(entry.key.clone());
        bytes
            .and_then(|key| std::str::from_utf8(key).ok())
            .unwrap_or_default()
    }

    fn value(&self, entry: &Entry) -> Value<'_> {
        let bytes = self.file.bytes().get(entry.value.clone());
        Value::trusted(entry.ty, bytes.unwrap_or_default())
    }
}

/// Reads the header of `file`, the checkpoint's file number 0.
pub(crate) fn read(file: Arc<MappedFile>) -> Result<(Metadata, Vec<TensorInfo>), Error> {
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
    refuse_split(&metadata)?;
    sorted_by_name(file.bytes(), tensors.iter().map(|t| t.name.clone()))
        .map_err(|fault| at_fault(fault.of("the tensor")))?;
    let tensors = placed(&cursor, tensors, metadata.alignment).map_err(at_fault)?;
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
) -> Result<Vec<u32>, Fault> {
    let names: Vec<_> = names.collect();
    let name = |i: &u32| {
        let span = names.get(*i as usize).cloned();
        span.and_then(|span| bytes.get(span)).unwrap_or_default()
    };
    let mut order: Vec<u32> = (0..).take(names.len()).collect();
    order.sort_by_key(name);
    for pair in order.windows(2) {
        if let [a, b] = pair
            && name(a) == name(b)
        {
            let span = names.get(*b as usize).cloned().unwrap_or_default();
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
        Some(n) if n.is_power_of_two() && entry.ty == ValueType::U32 => Ok(n),
        _ => Err(Fault {
            offset: entry.value.start,
            problem: format!("{} is {value:?}, no power of two as U32", keys::ALIGNMENT),
        }),
    }
}

fn refuse_split(metadata: &Metadata) -> Result<(), Error> {
    let count = metadata.get_u64(keys::SPLIT_COUNT).unwrap_or(0);
    if count <= 1 {
        return Ok(());
    }
    let path = &metadata.file.path;
    let part = metadata
        .get_u64(keys::SPLIT_NO)
        .unwrap_or(0)
        .saturating_add(1);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // llama.cpp's naming, which its loader insists on: PREFIX-00001-of-00003.gguf.
    let others = match name.strip_suffix(&format!("-{part:05}-of-{count:05}.gguf")) {
        Some(prefix) => {
            format!("{prefix}-00001-of-{count:05}.gguf to {prefix}-{count:05}-of-{count:05}.gguf")
        }
        None => format!("all {count} parts"),
    };
    Err(Error::Unsupported {
        path: path.clone(),
        problem: format!("part {part} of a checkpoint that is split into {count} files"),
        remedy: format!("Join {others} with `llama-gguf-split --merge` and give slim the result"),
    })
}

/// Gives every tensor its range in the file, in the header's order.
fn placed(
    cursor: &Cursor<'_>,
    tensors: Vec<RawTensor>,
    alignment: u32,
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
            DType::Ggml(_) => Some(limit),
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
            file: 0,
            range: data_start + tensor.offset..end,
        })
        .collect())
}

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub offset: usize,
    pub problem: String,
}

impl Fault {
    fn of(self, what: &str) -> Self {
        Self {
            problem: format!("{what} {}", self.problem),
            ..self
        }
    }
}

/// A position in little-endian bytes that never passes their end.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault {
            offset: self.at,
            problem: problem.into(),
        }
    }

    pub fn take(&mut self, n: u64) -> Result<&'a [u8], Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(n).ok().and_then(|n| rest.get(..n));
        let Some(taken) = taken else {
            return Err(self.fault(format!("{n} bytes are needed, {} are left", rest.len())));
        };
        self.at += taken.len();
        Ok(taken)
    }

    pub fn u32(&mut self) -> Result<u32, Fault> {
        let bytes = self.take(4)?;
        Ok(bytes.try_into().map_or(0, u32::from_le_bytes))
    }

    pub fn u64(&mut self) -> Result<u64, Fault> {
        let bytes = self.take(8)?;
        Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
    }

    pub fn string(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.u64()?;
        self.take(len)
    }

    /// Refuses a count that the rest of the bytes cannot hold, before anything is done with it.
    pub fn expect_room(&self, count: u64, least_size: u64, what: &str) -> Result<(), Fault> {
        let left = self.bytes.len().saturating_sub(self.at) as u64;
        if count > left / least_size.max(1) {
            return Err(self.fault(format!("{count} {what} cannot be in the {left} bytes left")));
        }
        Ok(())
    }

    /// The span of a string that names something: UTF-8, not empty, and without NUL, at which
    /// runtimes written in C would end it.
    fn name(&mut self, what: &str) -> Result<Range<usize>, Fault> {
        let bytes = self.string()?;
        let span = self.at - bytes.len()..self.at;
        let fault = |problem: &str| Fault {
            offset: span.start,
            problem: format!("{what} {problem}"),
        };
        match std::str::from_utf8(bytes) {
            Err(_) => Err(fault("is not UTF-8")),
            Ok("") => Err(fault("is empty")),
            Ok(name) if name.contains('\0') => Err(fault("holds a NUL character")),
            Ok(_) => Ok(span),
        }
    }
}
