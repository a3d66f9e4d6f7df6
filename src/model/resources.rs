//! What a model may use of the machine.

use super::config::Config;
use super::weights::Weights;
use crate::checkpoint::DType;
use anyhow::{Result, ensure};
use candle_core::quantized::GgmlDType;
use candle_core::{DType as CandleDType, Device, DeviceLocation};
use std::fmt;

/// What a model may use, and how it computes.
#[derive(Debug, Clone)]
pub struct Resources {
    /// What computes.
    pub device: Device,
    /// In which type.
    pub compute: Compute,
    /// Whether candle's graph computes on a CPU too, in place of the kernels: slower, but gradients
    /// flow through it.
    pub graph: bool,
    /// Bytes of memory for the whole process.
    pub memory: u64,
}

impl Resources {
    /// The device as `--device` names it.
    pub fn device_name(&self) -> String {
        match self.device.location() {
            DeviceLocation::Cpu => "cpu".to_owned(),
            DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        }
    }
}

/// The type in which products are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compute {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, on a GPU.
    F16,
    /// 16 bits with the range of 32, on a GPU.
    BF16,
    /// Weights and what they are multiplied with rounded to 8 bits in blocks of 32, on a CPU.
    Q8_0,
    /// K-quantised weights as they are stored, others in 32 bits, on a CPU.
    Stored,
}

/// The types that candle multiplies as fast as the kernels do f32, at a fraction of the memory.
const FAST: &[(DType, GgmlDType)] = &[
    (DType::Q2_K, GgmlDType::Q2K),
    (DType::Q3_K, GgmlDType::Q3K),
    (DType::Q4_K, GgmlDType::Q4K),
    (DType::Q5_K, GgmlDType::Q5K),
    (DType::Q6_K, GgmlDType::Q6K),
];

impl fmt::Display for Compute {
    /// As `--compute` names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Stored => "stored",
        })
    }
}

impl Compute {
    /// The type of candle's graph.
    pub(super) fn dtype(self) -> CandleDType {
        match self {
            Self::F16 => CandleDType::F16,
            Self::BF16 => CandleDType::BF16,
            _ => CandleDType::F32,
        }
    }

    /// The ggml type in which rows of a stored type are multiplied, if it is not f32.
    pub(super) fn multiplied(self, stored: DType, n_inputs: usize) -> Option<GgmlDType> {
        match self {
            Self::Q8_0 => Some(GgmlDType::Q8_0),
            Self::Stored => FAST
                .iter()
                .find(|(ours, _)| *ours == stored)
                .map(|(_, theirs)| *theirs),
            _ => None,
        }
        .filter(|kind| n_inputs.is_multiple_of(kind.block_size()))
    }
}

/// What a process needs beside the model: the program, the tokenizer, the questions.
const PROCESS: u64 = 192 << 20;

/// Rows that go through a layer at once, where memory allows it: more make no product faster.
const MOST_ROWS: usize = 2048;

/// Fewer rows than this make every product slow.
const LEAST_ROWS: usize = 256;

/// How a model divides the memory that it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Division {
    /// Whether layers are read from the file as the pass reaches them.
    pub(super) streamed: bool,
    /// Rows that go through a layer at once.
    pub(super) rows: usize,
    /// Bytes for hidden states, keys and values.
    pub(super) room: u64,
}

impl Resources {
    /// All memory there is, in 32 bits.
    pub fn of(device: &Device) -> Self {
        Self {
            device: device.clone(),
            compute: Compute::F32,
            graph: false,
            memory: u64::MAX,
        }
    }

    pub(super) fn by_kernels(&self) -> bool {
        self.device.is_cpu() && !self.graph
    }

    /// # Errors
    /// The model needs more, even layer by layer; how much is said.
    pub(super) fn divide(&self, weights: &Weights, config: &Config) -> Result<Division> {
        let layers: Vec<u64> = (0..config.n_layers)
            .map(|l| weights.layer_bytes(l))
            .collect();
        let largest = layers.iter().max().copied().unwrap_or(0);
        let number = size_of::<f32>() as u64;
        let head = (config.vocab_size * config.hidden_size) as u64 * number;
        // Half of what is left for rows, half for states, keys and values.
        let rows = |left: u64| {
            let rows = (left / 2 / bytes_of_a_row(config)) as usize;
            rows.clamp(LEAST_ROWS, MOST_ROWS)
        };
        let work = |rows: usize| rows as u64 * bytes_of_a_row(config);
        let division = |streamed: bool, left: u64| Division {
            streamed,
            rows: rows(left),
            room: left - work(rows(left)),
        };
        let whole = PROCESS + layers.iter().sum::<u64>() + head;
        let left = self.memory.saturating_sub(whole);
        if left >= 2 * work(LEAST_ROWS) {
            return Ok(division(false, left));
        }
        // One layer computes while the next is read; the head comes in blocks no larger than that.
        let block = head.min(head / config.vocab_size.max(1) as u64 * 8192);
        let parts = PROCESS + 2 * largest.max(block / 2);
        let least = parts + 2 * work(LEAST_ROWS);
        ensure!(
            self.memory >= least,
            "the memory allowed, {:.1} MiB, is too little for this model: its layers alone need {} MiB \
             when they are read one by one; give --memory {}MiB or more",
            self.memory as f64 / f64::from(1 << 20),
            parts >> 20,
            (least >> 20) + 1
        );
        Ok(division(true, self.memory - parts))
    }
}

/// Bytes that a row takes while it goes through a layer: the state before and after, its norms,
/// queries, keys and values (twice, where they are stored), and the three sides of the MLP.
fn bytes_of_a_row(config: &Config) -> u64 {
    let (q, kv) = (
        config.n_heads * config.head_dim,
        config.n_kv_heads * config.head_dim,
    );
    let numbers = 6 * config.hidden_size + 2 * q + 4 * kv + 3 * config.intermediate_size;
    (numbers * size_of::<f32>()) as u64
}
