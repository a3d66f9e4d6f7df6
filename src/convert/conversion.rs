//! One tensor on its way into the output: rows put in order, edited, in another type.

use super::edit::{Edit, outputs_multiplied};
use super::element;
use super::quantise::{self, Chosen, Importance};
use crate::arch::RowOrder;
use crate::checkpoint::{Checkpoint, DType, Data, OutTensor, TensorInfo};
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use std::borrow::Cow;
use std::io::Write;
use std::ops::Range;

/// Bytes of source that are converted at a time, on each core.
const CHUNK_BYTES: usize = 1 << 20;

/// Everything that decides how one tensor is written.
pub(super) struct Conversion<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    /// The rows that it is made of, one after the other. What is edited by rows is one whole tensor.
    pub(super) parts: Vec<Part<'a>>,
    pub(super) from: DType,
    pub(super) to: DType,
    pub(super) rows: Rows,
    pub(super) head_dim: usize,
    pub(super) edit: Option<&'a Edit>,
    pub(super) arithmetic: Arithmetic,
    pub(super) importance: Option<Importance<'a>>,
}

/// Some rows of a source tensor.
pub(super) struct Part<'a> {
    pub(super) info: &'a TensorInfo,
    pub(super) rows: Range<usize>,
}

/// How the rows are ordered, each seen from Hugging Face's order.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Rows {
    pub(super) source: RowOrder,
    pub(super) output: RowOrder,
}

impl Rows {
    /// They need not be understood.
    pub(super) const AS_THEY_ARE: Self = Self {
        source: RowOrder::Same,
        output: RowOrder::Same,
    };
}

/// What becomes of every weight: w · factor + addend.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Arithmetic {
    pub(super) factor: f32,
    pub(super) addend: f32,
}

const NOTHING: Arithmetic = Arithmetic {
    factor: 1.0,
    addend: 0.0,
};

/// Where the rows of the output come from.
enum Source<'s> {
    /// The file, as it orders them.
    Stored(&'s [u8]),
    /// An edit, in Hugging Face's order.
    Edited(Cow<'s, [f32]>),
}

impl<'a> Part<'a> {
    pub(super) fn whole(info: &'a TensorInfo, rows: Rows) -> Self {
        let rows = 0..row_count(info, rows);
        Self { info, rows }
    }
}

/// The rows of a tensor. Those of a vector that is reordered are its elements.
fn row_count(info: &TensorInfo, rows: Rows) -> usize {
    let elements = info.shape.iter().product::<u64>() as usize;
    match (info.shape.as_slice(), rows) {
        ([_] | [], Rows::AS_THEY_ARE) => 1,
        ([_] | [], _) => elements,
        ([.., columns], _) => elements / (*columns as usize).max(1),
    }
}

impl<'a> Conversion<'a> {
    /// # Errors
    /// An edit of weights that cannot be read, or cannot be written any more.
    pub(super) fn tensor(
        mut self,
        name: String,
        shape: Vec<u64>,
        chosen: &Chosen<'a>,
    ) -> Result<OutTensor<'a>> {
        if let Some(choice) = chosen.get(&name) {
            (self.to, self.importance) = *choice;
        }
        self.check_edit(&name)?;
        let dtype = self.to;
        let data = match self.copied() {
            Some(copy) => copy,
            None => Data::Stream(Box::new(move |out: &mut dyn Write| Ok(self.write(out)?))),
        };
        Ok(OutTensor {
            name,
            dtype,
            shape,
            data,
        })
    }

    fn check_edit(&self, name: &str) -> Result<()> {
        let Some(edit) = self.edit else { return Ok(()) };
        ensure!(
            matches!(edit, Edit::Values(_)) || element::is_readable(self.from),
            "tensor {name} is {}, which slim can copy but not read, so it cannot be edited: give slim the model in f16 or bf16",
            self.from
        );
        ensure!(
            element::is_writable(self.to) || quantise::is_writable(self.to),
            "tensor {name} would be edited and written as {}, which slim does not write: choose another type with --outtype (f16, say)",
            self.to
        );
        Ok(())
    }

    /// The bytes as they are, where nothing changes.
    pub(super) fn copied(&self) -> Option<Data<'a>> {
        let [part] = self.parts.as_slice() else {
            return None;
        };
        let unchanged = self.to == self.from
            && self.rows == Rows::AS_THEY_ARE
            && self.edit.is_none()
            && self.arithmetic == NOTHING;
        if !unchanged {
            return None;
        }
        let (file, range) = self.checkpoint.source(part.info);
        let row = (range.end - range.start) / row_count(part.info, self.rows).max(1) as u64;
        // A type of unknown size has no rows, but is whole.
        let range = match part.rows.len() == row_count(part.info, self.rows) {
            true => range,
            false => {
                let at = |row_number: usize| range.start + row_number as u64 * row;
                at(part.rows.start)..at(part.rows.end)
            }
        };
        Some(Data::Copy { file, range })
    }

    /// Writes the tensor in blocks of whole heads, a few on each core at a time.
    fn write(&self, out: &mut dyn Write) -> Result<()> {
        let mut row = 0;
        for part in &self.parts {
            self.write_part(part, row, out)?;
            row += part.rows.len();
            self.checkpoint.release(part.info);
        }
        Ok(())
    }

    /// `at` is the output's row that the part begins with.
    fn write_part(&self, part: &Part, at: usize, out: &mut dyn Write) -> Result<()> {
        let n_rows = row_count(part.info, self.rows).max(1);
        let columns = part.info.shape.iter().product::<u64>() as usize / n_rows;
        let source = self.source(part, n_rows, columns)?;
        let row_bytes = match &source {
            Source::Stored(bytes) => bytes.len() / n_rows,
            Source::Edited(_) => columns * size_of::<f32>(),
        };
        let unit = match self.rows {
            Rows::AS_THEY_ARE => 1,
            _ => self.head_dim,
        };
        let rows = unit * (CHUNK_BYTES / (row_bytes * unit).max(1)).max(1);
        let chunks: Vec<usize> = part.rows.clone().step_by(rows).collect();
        for group in chunks.chunks(rayon::current_num_threads()) {
            let converted: Vec<Result<Vec<u8>>> = group
                .par_iter()
                .map(|&first| {
                    let wanted = first..(first + rows).min(part.rows.end);
                    let at = at + first - part.rows.start;
                    let hf = wanted.map(|row| self.hf_row(row));
                    match &source {
                        Source::Stored(bytes) => {
                            let stored = hf.map(|row| self.source_row(row));
                            self.retype(gathered(bytes, row_bytes, stored), columns, at)
                        }
                        Source::Edited(values) => {
                            self.encode(gathered(values, columns, hf), columns, at)
                        }
                    }
                })
                .collect();
            for chunk in converted {
                out.write_all(&chunk?)?;
            }
        }
        Ok(())
    }

    fn source<'s>(&'s self, part: &Part<'s>, n_rows: usize, columns: usize) -> Result<Source<'s>> {
        let bytes = self.checkpoint.bytes(part.info);
        Ok(match self.edit {
            None | Some(Edit::Scale(_)) => Source::Stored(bytes),
            Some(Edit::Values(values)) => Source::Edited(Cow::Borrowed(values)),
            Some(Edit::Output(matrix)) => {
                let rows = (0..n_rows).map(|row| self.source_row(row));
                let rows = gathered(bytes, bytes.len() / n_rows, rows);
                let weight = element::to_f32(&rows, self.from, &[n_rows, columns])?;
                drop(rows);
                Source::Edited(Cow::Owned(outputs_multiplied(matrix, weight)?))
            }
        })
    }

    /// The row of Hugging Face's tensor that a row of the output holds.
    fn hf_row(&self, row: usize) -> usize {
        self.rows.output.hf_row(row, self.head_dim)
    }

    /// The row of the source that holds a row of Hugging Face's tensor.
    fn source_row(&self, row: usize) -> usize {
        self.rows.source.gguf_row(row, self.head_dim)
    }

    /// Rows of the source as the output stores them; `first` is the output's row of the first.
    fn retype(&self, rows: Vec<u8>, columns: usize, first: usize) -> Result<Vec<u8>> {
        if self.to == self.from && self.arithmetic == NOTHING {
            return Ok(rows);
        }
        let (block, block_bytes) = self.from.block().context("a type of unknown size")?;
        let elements = rows.len() / block_bytes as usize * block as usize;
        let shape = [elements / columns.max(1), columns];
        let values = element::to_f32(&rows, self.from, &shape)?;
        drop(rows);
        self.encode(values, columns, first)
    }

    /// Values as the output stores them.
    fn encode(&self, mut values: Vec<f32>, columns: usize, first: usize) -> Result<Vec<u8>> {
        if self.arithmetic != NOTHING {
            let Arithmetic { factor, addend } = self.arithmetic;
            for value in &mut values {
                *value = *value * factor + addend;
            }
        }
        match self.to.is_quantised() {
            true => quantise::encode(&values, columns, self.to, self.importance, first),
            false => element::from_f32(&values, self.to),
        }
    }
}

/// Rows of a matrix, in the order wanted.
fn gathered<T: Copy>(matrix: &[T], width: usize, wanted: impl Iterator<Item = usize>) -> Vec<T> {
    let mut rows = Vec::with_capacity(wanted.size_hint().0 * width);
    for row in wanted {
        rows.extend_from_slice(&matrix[row * width..(row + 1) * width]);
    }
    rows
}
