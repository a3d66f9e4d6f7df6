//! Writes one safetensors file as the reference crate lays it out, but streaming and in the given
//! order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use safetensors::tensor::TensorInfo as Entry;

use super::{MAX_HEADER, METADATA};
use crate::checkpoint::Error;
use crate::checkpoint::atomic::AtomicFile;
use crate::checkpoint::output::{OutTensor, Sink};

/// Writes a safetensors file, whole or not at all, with the tensors in the given order.
///
/// `header_metadata` goes into `__metadata__`; transformers expects `format: pt` in it. `progress`
/// is told the number of tensor bytes written since it was last called.
///
/// # Errors
/// The target is refused (see [`check_target`](crate::checkpoint::check_target)), a tensor does
/// not fit the format, a stream failed, or the system did. The target is then as it was.
pub fn write(
    target: &Path,
    header_metadata: &BTreeMap<String, String>,
    tensors: &[OutTensor<'_>],
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    let tensors: Vec<_> = tensors.iter().collect();
    let plan = Plan::new(target, header_metadata, &tensors)?;
    let output = AtomicFile::create(target)?;
    plan.fill(output.file(), target, progress)?;
    output.commit()
}

/// A file whose layout is settled and checked.
pub(super) struct Plan<'a> {
    header: Vec<u8>,
    /// Each tensor and its length in bytes.
    tensors: Vec<(&'a OutTensor<'a>, u64)>,
}

impl<'a> Plan<'a> {
    pub fn new(
        target: &Path,
        header_metadata: &BTreeMap<String, String>,
        tensors: &[&'a OutTensor<'a>],
    ) -> Result<Self, Error> {
        let mut lens = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            lens.push((*tensor, tensor.byte_len(target)?));
        }
        Ok(Self {
            header: header(target, header_metadata, &lens)?,
            tensors: lens,
        })
    }

    /// Writes the file's content.
    pub fn fill(
        &self,
        mut file: &File,
        target: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<(), Error> {
        let sink = Sink::new(file, target, progress);
        let data_start = 8 + self.header.len() as u64;
        // The layout was summed up without overflow when the header was made.
        let data: u64 = self.tensors.iter().map(|(_, len)| len).sum();
        sink.reserve(data_start + data)?;
        let mut write_header = || {
            file.rewind()?;
            let mut out = BufWriter::new(file);
            out.write_all(&(self.header.len() as u64).to_le_bytes())?;
            out.write_all(&self.header)?;
            out.flush()
        };
        write_header().map_err(Error::io("write", target))?;
        let mut place = data_start;
        for (tensor, len) in &self.tensors {
            sink.tensor(tensor, place, *len)?;
            place += len;
        }
        Ok(())
    }
}

/// The header's JSON, filled up with spaces so that the data starts at a multiple of 8.
fn header(
    target: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: &[(&OutTensor<'_>, u64)],
) -> Result<Vec<u8>, Error> {
    let mut names = BTreeSet::new();
    let mut fields = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        fields.push(field(METADATA, metadata));
    }
    let mut offset = 0usize;
    for &(tensor, len) in tensors {
        let wrong = |problem: &str| Error::output(target, tensor.what(), problem);
        if tensor.name == METADATA || !names.insert(&tensor.name) {
            return Err(wrong("there are two of this name"));
        }
        let (entry, end) = entry(tensor, offset, len).map_err(|problem| wrong(&problem))?;
        fields.push(field(&tensor.name, &entry));
        offset = end;
    }
    let mut json = format!("{{{}}}", fields.join(",")).into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    if json.len() as u64 > MAX_HEADER {
        let problem = format!("it would be longer than the {MAX_HEADER} bytes that readers accept");
        return Err(Error::output(target, "the header".into(), problem));
    }
    Ok(json)
}

/// A tensor's entry and where its data ends.
fn entry(tensor: &OutTensor<'_>, offset: usize, len: u64) -> Result<(Entry, usize), String> {
    let dtype = tensor
        .dtype
        .safetensors()
        .ok_or_else(|| format!("safetensors has no type {}; convert it first", tensor.dtype))?;
    let too_large = || "the file would be larger than any file can be".to_owned();
    let len = usize::try_from(len).map_err(|_| too_large())?;
    let end = offset.checked_add(len).ok_or_else(too_large)?;
    let shape = tensor.shape.iter().map(|&dim| usize::try_from(dim));
    let entry = Entry {
        dtype,
        shape: shape.collect::<Result<_, _>>().map_err(|_| too_large())?,
        data_offsets: (offset, end),
    };
    Ok((entry, end))
}

fn field(name: &str, value: &impl serde::Serialize) -> String {
    // Strings, numbers and maps with string keys always have a JSON form.
    let json = serde_json::to_string(value).unwrap_or_default();
    format!("{}:{json}", serde_json::Value::from(name))
}
