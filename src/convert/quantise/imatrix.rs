//! The importance matrix: how large the inputs of each matrix are, column by column, as
//! llama-imatrix measures it.
//!
//! Its GGUF holds two f32 tensors for each matrix NAME: `NAME.in_sum2`, the sums of the squared
//! inputs (one row an expert), and `NAME.counts`, how many inputs were summed (one number an
//! expert). Its older format is binary, little-endian: the number of entries, then for each the
//! name's length and bytes, the number of calls, the number of values, and the values; all counts
//! are i32, the values f32. The names are those of the model that was measured: of the source,
//! before layers go.

use crate::checkpoint::gguf::Metadata;
use crate::checkpoint::{Checkpoint, DType};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// An importance matrix.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imatrix {
    /// The file's name.
    pub file: String,
    /// The text that was measured, where the file says so.
    pub dataset: Option<String>,
    /// Chunks of text that were measured.
    pub chunks: Option<u32>,
    entries: BTreeMap<String, Vec<f32>>,
}

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

impl Imatrix {
    /// Reads a file in either format.
    ///
    /// # Errors
    /// A file that is none, is damaged, or holds what no importance can be.
    pub fn open(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let bytes = fs::read(path)?;
            let mut imatrix = match bytes.starts_with(b"GGUF") {
                true => Self::from_gguf(&Checkpoint::open(path)?)?,
                false => Self::from_legacy(&bytes)?,
            };
            let name = path.file_name().unwrap_or_default();
            imatrix.file = name.to_string_lossy().into_owned();
            Ok(imatrix)
        };
        read().with_context(|| {
            format!(
                "{}: no importance matrix that slim reads (llama-imatrix writes them)",
                path.display()
            )
        })
    }

    fn from_gguf(file: &Checkpoint) -> Result<Self> {
        let metadata = file.gguf().context("no GGUF file")?;
        let mut imatrix = Self {
            dataset: dataset(metadata),
            chunks: metadata
                .get_u64("imatrix.chunk_count")
                .and_then(|count| u32::try_from(count).ok()),
            ..Self::default()
        };
        for tensor in file.tensors() {
            let Some(name) = tensor.name.strip_suffix(SUMS) else {
                let other = tensor.name.strip_suffix(COUNTS);
                let paired =
                    other.is_some_and(|name| file.tensor(&format!("{name}{SUMS}")).is_some());
                ensure!(paired, "tensor {} has no sums beside it", tensor.name);
                continue;
            };
            let counts = file.tensor(&format!("{name}{COUNTS}"));
            let counts = counts.with_context(|| format!("tensor {name}{COUNTS} is missing"))?;
            for part in [tensor, counts] {
                ensure!(
                    part.dtype == DType::F32,
                    "tensor {} is not of f32",
                    part.name
                );
            }
            let sums = floats(file.bytes(tensor));
            let counts = floats(file.bytes(counts));
            imatrix.insert(name, means(sums, &counts))?;
        }
        ensure!(
            !imatrix.entries.is_empty(),
            "the file has no {SUMS} tensors"
        );
        Ok(imatrix)
    }

    fn from_legacy(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let mut imatrix = Self::default();
        let entries = count(&mut rest).filter(|&n| n > 0).context("no entries")?;
        for i in 0..entries {
            let mut entry = || {
                let len = count(&mut rest)?;
                let name = std::str::from_utf8(take(&mut rest, len)?).ok()?.to_owned();
                let calls = count(&mut rest)?;
                let len = count(&mut rest).filter(|&n| n > 0)?;
                let sums = floats(take(&mut rest, len.checked_mul(4)?)?);
                Some((name, means(sums, &[calls.max(1) as f32])))
            };
            let (name, means) = entry().with_context(|| {
                format!("entry {i} of {entries} is damaged, or the file is something else")
            })?;
            imatrix.insert(&name, means)?;
        }
        imatrix.chunks = count(&mut rest).and_then(|chunks| u32::try_from(chunks).ok());
        Ok(imatrix)
    }

    fn insert(&mut self, name: &str, means: Vec<f32>) -> Result<()> {
        let sound = |x: &f32| x.is_finite() && *x >= 0.0;
        ensure!(
            !means.is_empty() && means.iter().all(sound),
            "the importance of {name} holds a value that is no sum of squares"
        );
        let known = self.entries.insert(name.to_owned(), means);
        ensure!(known.is_none(), "{name} is in it twice");
        Ok(())
    }

    /// How many matrices it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The importance of each column of a matrix of the source, expert by expert; `None` where
    /// nothing was measured.
    ///
    /// # Errors
    /// Another number of columns: it was measured on another model.
    pub fn of(&self, name: &str, shape: &[u64]) -> Result<Option<Importance<'_>>> {
        let Some(values) = self.entries.get(name) else {
            return Ok(None);
        };
        let mut inner = shape.iter().rev();
        let columns = inner.next().copied().unwrap_or(1);
        let rows = inner.next().copied().unwrap_or(1);
        let experts = inner.product::<u64>();
        if columns.checked_mul(experts) == Some(values.len() as u64) {
            return Ok(Some(Importance {
                values,
                columns: columns as usize,
                rows: rows as usize,
            }));
        }
        if name.ends_with("token_embd.weight") {
            // Measured where it serves as the output; llama-quantize ignores it as well.
            return Ok(None);
        }
        bail!(
            "{}: {} values for {name}, which has {columns} columns and {experts} experts: it was measured on another model",
            self.file,
            values.len()
        )
    }
}

/// The importance of the columns of one matrix.
#[derive(Debug, Clone, Copy)]
pub struct Importance<'a> {
    values: &'a [f32],
    columns: usize,
    /// Rows of each expert.
    rows: usize,
}

impl<'a> Importance<'a> {
    /// One number a column, for a matrix of `rows`.
    pub fn of_columns(values: &'a [f32], rows: usize) -> Self {
        Self {
            values,
            columns: values.len(),
            rows,
        }
    }

    /// The columns' importance in this row of all experts' rows, and how many rows share it.
    pub(super) fn shared_from(&self, row: usize) -> (&'a [f32], usize) {
        let rows = self.rows.max(1);
        let start = row / rows * self.columns;
        let values = self.values.get(start..start + self.columns);
        (values.unwrap_or_default(), rows - row % rows)
    }
}

fn dataset(metadata: &Metadata) -> Option<String> {
    let names = metadata.get("imatrix.datasets")?;
    let first = names.iter_str()?.next()?;
    Some(first.to_owned())
}

/// The mean of each sum; 1 where an expert was never asked.
fn means(mut sums: Vec<f32>, counts: &[f32]) -> Vec<f32> {
    if counts.is_empty() || !sums.len().is_multiple_of(counts.len()) {
        return Vec::new();
    }
    let columns = sums.len() / counts.len();
    for (row, &count) in sums.chunks_mut(columns.max(1)).zip(counts) {
        for value in row {
            *value = if count > 0.0 { *value / count } else { 1.0 };
        }
    }
    sums
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<4>();
    values.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

/// A count as i32.
fn count(rest: &mut &[u8]) -> Option<usize> {
    let bytes = take(rest, 4)?.try_into().ok()?;
    usize::try_from(i32::from_le_bytes(bytes)).ok()
}
