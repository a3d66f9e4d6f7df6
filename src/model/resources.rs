//! What a model may use of the machine.

use super::config::Config;
use super::weights::Weights;
use anyhow::{Result, ensure};
use candle_core::Device;

/// What a model may use.
#[derive(Debug, Clone)]
pub struct Resources {
    /// What computes.
    pub device: Device,
    /// Bytes of memory for the whole process.
    pub memory: u64,
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
    /// # Errors
    /// The model needs more, even layer by layer; how much is said.
    pub(super) fn divide(&self, weights: &Weights, config: &Config) -> Result<Division> {
        let layers: Vec<u64> = (0..config.n_layers)
            .map(|l| weights.layer_bytes(l))
            .collect();
        let largest = layers.iter().max().copied().unwrap_or(0);
        let number = size_of::<f32>() as u64;
        let head = (config.vocab_size * config.hidden_size) as u64 * number;
        let rows = |memory: u64| {
            let rows = (memory / 8 / bytes_of_a_row(config)) as usize;
            rows.clamp(LEAST_ROWS, MOST_ROWS)
        };
        let work = |rows: usize| rows as u64 * bytes_of_a_row(config);
        let whole = PROCESS + layers.iter().sum::<u64>() + head;
        let most = rows(self.memory);
        if let Some(room) = self.memory.checked_sub(whole + work(most)) {
            return Ok(Division {
                streamed: false,
                rows: most,
                room,
            });
        }
        // One layer computes while the next is read; the head comes in blocks no larger than that.
        let block = (head / config.vocab_size.max(1) as u64) * 8192;
        let parts = PROCESS + 2 * largest.max(block / 2);
        let least = parts + 2 * work(LEAST_ROWS);
        ensure!(
            self.memory >= least,
            "the memory allowed, {} MiB, is too little for this model: its layers alone need {} MiB \
             when they are read one by one; give --memory {}MiB or more",
            self.memory >> 20,
            parts >> 20,
            (least >> 20) + 1
        );
        let rows = rows(self.memory - parts);
        Ok(Division {
            streamed: true,
            rows,
            room: self.memory - parts - work(rows),
        })
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
