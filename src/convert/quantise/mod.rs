//! Quantised GGUF types: which tensor gets which, and the blocks themselves.

mod choice;
mod imatrix;
mod k;
mod pack;
mod recipe;
mod search;
mod simple;

pub use choice::{Chosen, Quantise};
pub use imatrix::{Imatrix, Importance};
pub use recipe::{Candidate, Recipe, Shape, pure_types};

use crate::checkpoint::DType;
use anyhow::{Result, ensure};
use multiversion::multiversion;

/// f16 has no larger number, and scales are stored in it.
const LARGEST: f32 = 65504.0;

/// Quantises rows of `columns` weights, which begin with row `first` of their matrix.
///
/// Without importance, q4_0, q4_1, q5_0, q5_1 and q8_0 are ggml's own bytes.
///
/// # Errors
/// A type that slim does not write, a row that is no whole number of its blocks, a weight that is
/// not finite in f16.
pub fn encode(
    values: &[f32],
    columns: usize,
    dtype: DType,
    importance: Option<Importance>,
    first: usize,
) -> Result<Vec<u8>> {
    let row_bytes = dtype.byte_len(&[columns as u64]).unwrap_or(0) as usize;
    ensure!(
        row_bytes > 0 && columns > 0 && values.len().is_multiple_of(columns),
        "{} weights are no rows of {columns} in whole {dtype} blocks",
        values.len()
    );
    ensure!(
        values
            .iter()
            .fold(true, |fine, x| fine & (x.abs() <= LARGEST)),
        "a weight is not finite, or too large for {dtype}: the source is damaged"
    );
    let mut out = vec![0; values.len() / columns * row_bytes];
    let n_rows = values.len() / columns;
    let mut row = 0;
    while row < n_rows {
        // Rows of one expert share their importance.
        let (importance, shared) = match importance {
            Some(importance) => {
                let (values, shared) = importance.shared_from(first + row);
                (Some(values), shared.min(n_rows - row))
            }
            None => (None, n_rows),
        };
        let rows = Rows {
            values: &values[row * columns..(row + shared) * columns],
            columns,
            importance: importance.filter(|values| values.len() == columns),
            out: &mut out[row * row_bytes..(row + shared) * row_bytes],
        };
        ensure!(encode_rows(rows, dtype), "slim does not write {dtype}");
        row += shared;
    }
    Ok(out)
}

/// Whether [`encode`] writes a type.
pub fn is_writable(dtype: DType) -> bool {
    let none = Rows {
        values: &[],
        columns: 0,
        importance: None,
        out: &mut [],
    };
    encode_rows(none, dtype)
}

struct Rows<'a> {
    values: &'a [f32],
    columns: usize,
    importance: Option<&'a [f32]>,
    out: &'a mut [u8],
}

/// Compiled twice: fused multiplication is never used, so the bytes are the same on every machine.
/// Returns whether the type is known.
#[multiversion(targets("x86_64+avx+avx2"))]
// A closure is compiled with this function's instructions; a function that is named need not be.
#[allow(clippy::redundant_closure)]
fn encode_rows(rows: Rows<'_>, dtype: DType) -> bool {
    match dtype {
        DType::Q4_0 => rows.each_block(|x, w, out| simple::q4_0(x, w, out)),
        DType::Q4_1 => rows.each_block(|x, w, out| simple::q4_1(x, w, out)),
        DType::Q5_0 => rows.each_block(|x, w, out| simple::q5_0(x, w, out)),
        DType::Q5_1 => rows.each_block(|x, w, out| simple::q5_1(x, w, out)),
        DType::Q8_0 => rows.each_block(|x, _, out| simple::q8_0(x, out)),
        DType::Q2_K => rows.each_block(|x, w, out| pack::q2_k(x, &even(x, w), out)),
        DType::Q3_K => rows.each_block(|x, w, out| pack::q3_k(x, &even(x, w), out)),
        DType::Q4_K => rows.each_block(|x, w, out| pack::q4_k(x, &even(x, w), out)),
        DType::Q5_K => rows.each_block(|x, w, out| pack::q5_k(x, &even(x, w), out)),
        DType::Q6_K => rows.each_block(|x, w, out| pack::q6_k(x, &even(x, w), out)),
        _ => return false,
    }
    true
}

impl Rows<'_> {
    /// Calls `encode` with the weights, their importance and the place of each block.
    #[inline(always)]
    fn each_block<const N: usize, const BYTES: usize>(
        self,
        encode: impl Fn(&[f32; N], Option<&[f32; N]>, &mut [u8; BYTES]),
    ) {
        let per_row = self.columns / N;
        let importance = self
            .importance
            .map(|importance| importance.as_chunks::<N>().0);
        let blocks = self.values.as_chunks::<N>().0.iter();
        let places = self.out.as_chunks_mut::<BYTES>().0;
        for (i, (x, out)) in blocks.zip(places).enumerate() {
            let w = importance.and_then(|blocks| blocks.get(i % per_row));
            encode(x, w.map(|w| weights(x, w)).as_ref(), out);
        }
    }
}

/// How much an error of each weight counts: importance · √(2σ² + x²), as in ggml's k-quants, which
/// spares the large weights of a block.
#[inline(always)]
fn weights<const N: usize>(x: &[f32; N], importance: &[f32; N]) -> [f32; N] {
    let mut sum = 0.0;
    for &value in importance {
        sum += value;
    }
    // Inputs that were always zero say nothing of how to round.
    let importance = if sum > 0.0 { importance } else { &[1.0; N] };
    let twice_mean_square = 2.0 * square_sum(x) / N as f32;
    let mut w = [0.0; N];
    for i in 0..N {
        w[i] = importance[i] * (twice_mean_square + x[i] * x[i]).sqrt();
    }
    w
}

/// The weights of the block where nothing is known of their importance.
#[inline(always)]
fn even<const N: usize>(x: &[f32; N], w: Option<&[f32; N]>) -> [f32; N] {
    w.copied().unwrap_or_else(|| weights(x, &[1.0; N]))
}

#[inline(always)]
fn square_sum<const N: usize>(x: &[f32; N]) -> f32 {
    let mut sums = [0.0; 8];
    for part in x.as_chunks::<8>().0 {
        for i in 0..8 {
            sums[i] += part[i] * part[i];
        }
    }
    search::sum(sums)
}
