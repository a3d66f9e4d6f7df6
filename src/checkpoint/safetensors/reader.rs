//! Reads a safetensors header under the reference crate's strict rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use safetensors::tensor::{Metadata, TensorInfo as Entry};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{MAX_HEADER, METADATA};
use crate::checkpoint::file::MappedFile;
use crate::checkpoint::{DType, Error, TensorInfo};

/// What a header says.
#[derive(Debug)]
pub(crate) struct Header {
    /// `__metadata__`, in key order.
    pub metadata: BTreeMap<String, String>,
    /// In the order of their data.
    pub tensors: Vec<TensorInfo>,
}

/// Reads the header of `file`, the checkpoint's file number `index`.
pub(crate) fn read(file: &MappedFile, index: usize) -> Result<Header, Error> {
    parse(file.bytes(), index).map_err(|problem| Error::Safetensors {
        path: file.path.clone(),
        problem,
    })
}

fn parse(bytes: &[u8], file: usize) -> Result<Header, String> {
    let (json, data) = split(bytes)?;
    // The format asks for it, and a file of another format may pass as JSON after white space.
    if json.first() != Some(&b'{') {
        return Err("its header does not begin with {".into());
    }
    // Not the crate's `read_metadata`: it buffers numbers at 16 times their text, loses the order
    // of `__metadata__` and lets names occur twice. Its checks of offsets and sizes are used below.
    let raw: RawHeader = serde_json::from_slice(json).map_err(|e| format!("its header: {e}"))?;
    let RawHeader {
        metadata,
        mut tensors,
    } = raw;
    tensors.sort_by_key(|(_, entry)| entry.data_offsets);
    let end = tensors.last().map_or(0, |(_, entry)| entry.data_offsets.1);
    let checked = Metadata::new(None, tensors.clone()).map_err(|e| e.to_string())?;
    if checked.data_len() != end || end as u64 != data.end - data.start {
        let len = data.end - data.start;
        return Err(format!(
            "its tensors end at byte {end} of {len} bytes of data"
        ));
    }
    let tensors = tensors.into_iter().map(|(name, entry)| {
        let (start, end) = entry.data_offsets;
        TensorInfo {
            name,
            dtype: DType::from_safetensors(entry.dtype),
            shape: entry.shape.iter().map(|&dim| dim as u64).collect(),
            file,
            range: data.start + start as u64..data.start + end as u64,
        }
    });
    Ok(Header {
        metadata,
        tensors: tensors.collect(),
    })
}

/// The header's JSON, and the range of the data.
fn split(bytes: &[u8]) -> Result<(&[u8], std::ops::Range<u64>), String> {
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else {
        return Err("it is shorter than the 8 bytes of its header's length".into());
    };
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER {
        return Err(format!(
            "its header claims {len} bytes; {MAX_HEADER} is the most"
        ));
    }
    let Some(json) = rest.get(..len as usize) else {
        let left = rest.len();
        return Err(format!("its header claims {len} bytes, {left} are left"));
    };
    Ok((json, 8 + len..bytes.len() as u64))
}

struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, Entry)>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut metadata = None;
        let mut tensors = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == METADATA {
                if metadata.replace(map.next_value()?).is_some() {
                    return Err(A::Error::custom("__metadata__ occurs twice"));
                }
            } else {
                tensors.push((key, map.next_value()?));
            }
        }
        refuse_twins(&tensors).map_err(A::Error::custom)?;
        Ok(RawHeader {
            metadata: metadata.unwrap_or_default(),
            tensors,
        })
    }
}

fn refuse_twins(tensors: &[(String, Entry)]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match tensors.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        Some((name, _)) => Err(format!("the tensor {name} occurs twice")),
        None => Ok(()),
    }
}
