//! A checkpoint's tensors by their GGUF names, in Hugging Face row order, as f32.

use super::config::Config;
use super::resources::Resources;
use crate::arch::{Arch, RowOrder};
use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::convert::{to_f32, to_quantised};
use anyhow::{Context, Result, ensure};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// The tensors of one checkpoint, each found by the GGUF name of its place.
pub(super) struct Weights {
    checkpoint: Checkpoint,
    places: HashMap<String, Place>,
    head_dim: usize,
    resources: Resources,
}

/// Where one tensor comes from.
struct Place {
    /// One tensor, or one an expert, by expert.
    parts: BTreeMap<usize, TensorInfo>,
    stacked: bool,
    order: RowOrder,
    plus_one: bool,
}

/// Matrices with the same number of columns below each other, to be read row by row.
pub(super) struct Stack<'w> {
    weights: &'w Weights,
    parts: Vec<Part<'w>>,
    n_inputs: usize,
}

/// Some rows of one tensor.
struct Part<'w> {
    info: &'w TensorInfo,
    rows: Range<usize>,
    order: RowOrder,
}

impl Weights {
    /// # Errors
    /// A tensor of the wrong shape, or one that the description does not know: a model that runs without it would be wrong.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        arch: &Arch,
        config: &Config,
        resources: &Resources,
    ) -> Result<Self> {
        arch.check_complete(checkpoint)?;
        config.check_shapes(arch, checkpoint)?;
        let gguf = checkpoint.gguf().is_some();
        let mut places: HashMap<String, Place> = HashMap::new();
        for info in checkpoint.tensors() {
            if arch.ignores(&info.name) {
                continue;
            }
            let slot = arch.known_slot(checkpoint, info)?;
            let place = places.entry(slot.gguf_name()).or_insert_with(|| Place {
                parts: BTreeMap::new(),
                stacked: slot.expert.is_some(),
                // Only GGUF files reorder rows, and have 1 added to these weights.
                order: match gguf {
                    true => slot.rule.rows,
                    false => RowOrder::Same,
                },
                plus_one: slot.rule.plus_one && !gguf,
            });
            place.parts.insert(slot.expert.unwrap_or(0), info.clone());
        }
        Ok(Self {
            checkpoint: checkpoint.clone(),
            places,
            head_dim: config.head_dim,
            resources: resources.clone(),
        })
    }

    /// The device that computes.
    pub(super) fn device(&self) -> &Device {
        &self.resources.device
    }

    /// Whether the kernels compute, not candle's graph.
    pub(super) fn by_kernels(&self) -> bool {
        self.resources.by_kernels()
    }

    /// The type in which candle's graph computes.
    pub(super) fn dtype(&self) -> DType {
        self.resources.compute.dtype()
    }

    /// Whether the checkpoint has a tensor for this place.
    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Bytes of all tensors of a layer as they are multiplied.
    pub(super) fn layer_bytes(&self, layer: usize) -> u64 {
        let prefix = format!("blk.{layer}.");
        let places = self.places.iter();
        let places = places.filter(|(name, _)| name.starts_with(&prefix));
        let infos = places.flat_map(|(_, place)| place.parts.values());
        infos.map(|info| self.multiplied_bytes(info)).sum()
    }

    fn multiplied_bytes(&self, info: &TensorInfo) -> u64 {
        let numbers = info.shape.iter().product::<u64>();
        let n_inputs = info.shape.last().map_or(0, |&n| n as usize);
        let compute = self.resources.compute;
        match compute
            .multiplied(info.dtype, n_inputs)
            .filter(|_| info.shape.len() > 1)
        {
            Some(kind) => numbers / kind.block_size() as u64 * kind.type_size() as u64,
            None => numbers * self.dtype().size_in_bytes() as u64,
        }
    }

    /// What a tensor is; of experts, what the first one's is.
    ///
    /// # Errors
    /// It is missing.
    pub(super) fn info(&self, name: &str) -> Result<&TensorInfo> {
        let place = self.places.get(name).with_context(|| self.missing(name))?;
        let first = place.parts.values().next();
        first.with_context(|| self.missing(name))
    }

    /// A vector.
    ///
    /// # Errors
    /// It is missing or of a type that cannot be read.
    pub(super) fn vector(&self, name: &str) -> Result<Vec<f32>> {
        self.optional(name)?.with_context(|| self.missing(name))
    }

    /// A vector that may be missing.
    ///
    /// # Errors
    /// As of [`Self::vector`].
    pub(super) fn optional(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(place) = self.places.get(name) else {
            return Ok(None);
        };
        let info = place.parts.values().next();
        let info = info.with_context(|| self.missing(name))?;
        let n = info.shape.iter().product::<u64>() as usize;
        // The only vectors whose order differs are the biases of rotated heads.
        let part = Part {
            info,
            rows: 0..n,
            order: place.order,
        };
        let mut values = vec![0.0; n];
        part.read(self, 0..n, 1, &mut values)?;
        if place.plus_one {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        Ok(Some(values))
    }

    /// Matrices below each other.
    ///
    /// # Errors
    /// One is missing, or their widths differ.
    pub(super) fn stack(&self, names: &[&str]) -> Result<Stack<'_>> {
        self.stacked(names, None)
    }

    /// The same of one expert.
    ///
    /// # Errors
    /// As of [`Self::stack`].
    pub(super) fn stack_of(&self, names: &[&str], expert: usize) -> Result<Stack<'_>> {
        self.stacked(names, Some(expert))
    }

    /// How many experts a tensor has rows for.
    ///
    /// # Errors
    /// It is missing.
    pub(super) fn experts(&self, name: &str) -> Result<usize> {
        let place = self.places.get(name).with_context(|| self.missing(name))?;
        let first = self.info(name)?;
        Ok(match place.stacked {
            true => place.parts.len(),
            false => first.shape.first().map_or(0, |&n| n as usize),
        })
    }

    fn stacked(&self, names: &[&str], expert: Option<usize>) -> Result<Stack<'_>> {
        let mut parts = Vec::with_capacity(names.len());
        let mut n_inputs = None;
        for name in names {
            let place = self.places.get(*name);
            let place = place.with_context(|| self.missing(name))?;
            let key = expert.filter(|_| place.stacked).unwrap_or(0);
            let info = place.parts.get(&key);
            let info = info.with_context(|| self.missing(name))?;
            let shape: Vec<usize> = info.shape.iter().map(|&d| d as usize).collect();
            let (first, rows, columns) = match (shape.as_slice(), expert) {
                (&[_, rows, columns], Some(expert)) => (expert * rows, rows, columns),
                (&[rows, columns], _) => (0, rows, columns),
                // GGUF stores a matrix of one row as a vector.
                (&[columns], _) => (0, 1, columns),
                _ => anyhow::bail!("tensor {} is no matrix: {shape:?}", info.name),
            };
            ensure!(
                *n_inputs.get_or_insert(columns) == columns,
                "tensor {} has {columns} columns, others of its kind have not",
                info.name
            );
            parts.push(Part {
                info,
                rows: first..first + rows,
                order: place.order,
            });
        }
        Ok(Stack {
            weights: self,
            parts,
            n_inputs: n_inputs.unwrap_or(0),
        })
    }

    fn missing(&self, name: &str) -> String {
        format!(
            "{}: tensor {name} is missing",
            self.checkpoint.path().display()
        )
    }
}

impl Stack<'_> {
    /// Columns.
    pub(super) fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    /// Rows of all matrices.
    pub(super) fn n_outputs(&self) -> usize {
        self.parts.iter().map(|part| part.rows.len()).sum()
    }

    /// Some rows, to `out`, [rows, n_inputs].
    ///
    /// # Errors
    /// There are not so many, or they are of a type that cannot be read.
    pub(super) fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let (mut before, mut rest) = (0, out);
        for part in &self.parts {
            let end = before + part.rows.len();
            let mine = rows.start.clamp(before, end) - before..rows.end.clamp(before, end) - before;
            let (out, others) = rest.split_at_mut(mine.len() * self.n_inputs);
            // candle takes no empty blocks.
            if !mine.is_empty() {
                part.read(self.weights, mine, self.n_inputs, out)?;
            }
            (before, rest) = (end, others);
        }
        ensure!(rest.is_empty(), "there is no row {}", rows.end);
        Ok(())
    }

    /// Stretches of some rows, each with the ggml type in which it is multiplied, if that is not f32.
    pub(super) fn pieces(&self, rows: Range<usize>) -> Vec<(Option<GgmlDType>, Range<usize>)> {
        let compute = self.weights.resources.compute;
        let mut pieces: Vec<(Option<GgmlDType>, Range<usize>)> = Vec::new();
        let mut start = 0;
        for part in &self.parts {
            let end = start + part.rows.len();
            let mine = start.max(rows.start)..end.min(rows.end);
            start = end;
            if mine.is_empty() {
                continue;
            }
            let kind = compute.multiplied(part.info.dtype, self.n_inputs);
            match pieces.last_mut() {
                Some((last, before)) if *last == kind => before.end = mine.end,
                _ => pieces.push((kind, mine)),
            }
        }
        pieces
    }

    /// Some rows in a ggml type: as they are stored, where that is their type.
    ///
    /// # Errors
    /// As of [`Self::read`]; what candle reports.
    pub(super) fn quantised(&self, rows: Range<usize>, dtype: GgmlDType) -> Result<QTensor> {
        let shape = [rows.len(), self.n_inputs];
        let (mut start, mut bytes, mut stored) = (0, Vec::new(), None);
        for part in &self.parts {
            let end = start + part.rows.len();
            let mine = rows.start.clamp(start, end) - start..rows.end.clamp(start, end) - start;
            start = end;
            if !mine.is_empty() {
                stored = Some(part.info.dtype);
                part.append(self.weights, mine, self.n_inputs, &mut bytes)?;
            }
        }
        let stored = stored
            .map(|stored| to_quantised(&bytes, stored, &shape))
            .transpose()?;
        if let Some(stored) = stored.flatten().filter(|stored| stored.dtype() == dtype) {
            return Ok(stored);
        }
        let mut values = vec![0.0; rows.len() * self.n_inputs];
        self.read(rows, &mut values)?;
        let values = Tensor::from_vec(values, &shape[..], &Device::Cpu)?;
        Ok(QTensor::quantize(&values, dtype)?)
    }

    /// All rows as a tensor on the device, [n_outputs, n_inputs].
    ///
    /// # Errors
    /// As of [`Self::read`]; what candle reports.
    pub(super) fn tensor(&self) -> Result<Tensor> {
        let (rows, columns) = (self.n_outputs(), self.n_inputs);
        let mut values = vec![0.0; rows * columns];
        self.read(0..rows, &mut values)?;
        let values = Tensor::from_vec(values, (rows, columns), self.weights.device())?;
        Ok(values.to_dtype(self.weights.dtype())?)
    }

    /// Gives the file's pages back to the system.
    pub(super) fn release(&self) {
        for part in &self.parts {
            self.weights.checkpoint.release(part.info);
        }
    }
}

impl Part<'_> {
    /// Rows are whole blocks in every type, so any of them can be read alone.
    fn read(
        &self,
        weights: &Weights,
        rows: Range<usize>,
        n_inputs: usize,
        out: &mut [f32],
    ) -> Result<()> {
        let n_rows = rows.len();
        if self.order == RowOrder::Same {
            let bytes = self.bytes(weights, self.rows.start + rows.start, n_rows, n_inputs)?;
            out.copy_from_slice(&self.values(bytes, n_rows, n_inputs)?);
            return Ok(());
        }
        let mut ordered = Vec::new();
        self.append(weights, rows, n_inputs, &mut ordered)?;
        out.copy_from_slice(&self.values(&ordered, n_rows, n_inputs)?);
        Ok(())
    }

    /// Appends the bytes of rows in Hugging Face order. Rows are whole blocks in every type.
    fn append(
        &self,
        weights: &Weights,
        rows: Range<usize>,
        n_inputs: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if self.order == RowOrder::Same {
            let first = self.rows.start + rows.start;
            out.extend_from_slice(self.bytes(weights, first, rows.len(), n_inputs)?);
            return Ok(());
        }
        for row in rows {
            let row = self.order.gguf_row(self.rows.start + row, weights.head_dim);
            out.extend_from_slice(self.bytes(weights, row, 1, n_inputs)?);
        }
        Ok(())
    }

    /// The bytes of rows as they lie in the file.
    fn bytes<'w>(
        &self,
        weights: &'w Weights,
        first: usize,
        n_rows: usize,
        n_inputs: usize,
    ) -> Result<&'w [u8]> {
        let bytes = weights.checkpoint.bytes(self.info);
        let all = self.info.shape.iter().product::<u64>() as usize / n_inputs.max(1);
        let row_bytes = bytes.len() / all.max(1);
        bytes
            .get(first * row_bytes..(first + n_rows) * row_bytes)
            .with_context(|| format!("tensor {} has {all} rows", self.info.name))
    }

    fn values(&self, bytes: &[u8], n_rows: usize, n_inputs: usize) -> Result<Vec<f32>> {
        let values = to_f32(bytes, self.info.dtype, &[n_rows, n_inputs]);
        let values = values.with_context(|| self.info.name.clone())?;
        ensure!(
            values.len() == n_rows * n_inputs,
            "tensor {} has rows that are no whole blocks",
            self.info.name
        );
        Ok(values)
    }
}
