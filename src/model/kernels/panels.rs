//! Weight matrices in the order in which products read them.

use super::micro::{COLUMNS, ROWS, Sums, add_product, by_rows, interleave};
use anyhow::Result;
use multiversion::multiversion;
use multiversion::target::target_cfg_f;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of the left matrix that stay in a core's second cache while all panels pass.
const ROW_BLOCK: usize = 72;

/// Outputs of a matrix that one thread makes when there are few rows.
const OUTPUT_BLOCK: usize = 12 * COLUMNS;

/// A matrix W [n_outputs, n_inputs] as panels of sixteen outputs each, [n_inputs, 16]: a product
/// x · Wᵀ reads every weight once, in order.
pub(in crate::model) struct Panels {
    n_outputs: usize,
    n_inputs: usize,
    data: Vec<f32>,
}

impl Panels {
    /// Arranges the rows of a matrix: `read` gives some of them, [rows, n_inputs]. The last panel is
    /// filled up with zeros.
    ///
    /// # Errors
    /// What `read` reports.
    pub(in crate::model) fn new(
        n_outputs: usize,
        n_inputs: usize,
        read: impl Fn(Range<usize>, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let n_inputs = n_inputs.max(1);
        let mut data = vec![0.0; n_outputs.next_multiple_of(COLUMNS) * n_inputs];
        data.par_chunks_mut(COLUMNS * n_inputs)
            .enumerate()
            .try_for_each_init(
                || vec![0.0; COLUMNS * n_inputs],
                |rows, (panel, place)| {
                    let first = panel * COLUMNS;
                    let last = (first + COLUMNS).min(n_outputs);
                    let rows = &mut rows[..(last - first) * n_inputs];
                    read(first..last, rows)?;
                    for (column, row) in rows.chunks_exact(n_inputs).enumerate() {
                        for (inputs, &weight) in place.chunks_exact_mut(COLUMNS).zip(row) {
                            inputs[column] = weight;
                        }
                    }
                    anyhow::Ok(())
                },
            )?;
        Ok(Self {
            n_outputs,
            n_inputs,
            data,
        })
    }

    /// x [rows, n_inputs] · Wᵀ to `out` [rows, n_outputs]; `arranged` is room to work in.
    pub(in crate::model) fn product(&self, x: &[f32], arranged: &mut Vec<f32>, out: &mut Vec<f32>) {
        let (n, k) = (self.n_outputs, self.n_inputs);
        let rows = x.len() / k;
        out.resize(rows * n, 0.0);
        if n == 0 {
            return;
        }
        arranged.resize(x.len(), 0.0);
        arranged
            .par_chunks_mut(ROW_BLOCK * k)
            .zip(x.par_chunks(ROW_BLOCK * k))
            .for_each(|(out, x)| interleave(x.len() / k, k, |row| &x[row * k..][..k], out));
        // Enough work for every thread by rows alone?
        if rows >= 2 * ROW_BLOCK * rayon::current_num_threads() {
            out.par_chunks_mut(ROW_BLOCK * n)
                .zip(arranged.par_chunks(ROW_BLOCK * k))
                .for_each(|(out, x)| block(x, k, &self.data, out, n));
            return;
        }
        // Blocks of about as many rows, because a small rest would wait for the weights. All blocks of some
        // outputs follow each other, so that these weights are read from memory once.
        let height = rows.div_ceil(rows.div_ceil(ROW_BLOCK).max(1));
        let height = height.next_multiple_of(ROWS).max(ROWS);
        let outputs = (0..n).step_by(OUTPUT_BLOCK);
        let tiles: Vec<(usize, usize)> = outputs
            .flat_map(|output| (0..rows).step_by(height).map(move |row| (row, output)))
            .collect();
        let products = tiles.par_iter().map(|&(row, output)| {
            let x = &arranged[row * k..(row + height).min(rows) * k];
            let width = OUTPUT_BLOCK.min(n - output);
            let panels = output * k..(output + width).next_multiple_of(COLUMNS) * k;
            let mut tile = vec![0.0; x.len() / k * width];
            block(x, k, &self.data[panels], &mut tile, width);
            tile
        });
        let products: Vec<Vec<f32>> = products.collect();
        for ((row, output), tile) in tiles.into_iter().zip(products) {
            let width = OUTPUT_BLOCK.min(n - output);
            let rows = out[row * n..].chunks_mut(n);
            for (out, tile) in rows.zip(tile.chunks_exact(width)) {
                out[output..output + width].copy_from_slice(tile);
            }
        }
    }
}

/// Interleaved rows [rows, k] times panels, to out [rows, n].
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn block(x: &[f32], k: usize, panels: &[f32], out: &mut [f32], n: usize) {
    const FUSED: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    // As many panels as make the sums that hide how long an addition takes, to a depth that stays in the
    // first cache while rows pass.
    const WIDE: bool = target_cfg_f!(target_feature = "avx512f");
    const PANELS: usize = if WIDE { 2 } else { 1 };
    const DEPTH: usize = if WIDE { 288 } else { 768 };
    let parts = k.div_ceil(DEPTH);
    let depth = k.div_ceil(parts);
    for start in (0..k).step_by(depth) {
        let inputs = start..(start + depth).min(k);
        let mut output = 0;
        for panels in panels.chunks(PANELS * k * COLUMNS) {
            let mut each = panels.chunks_exact(k * COLUMNS);
            match (each.next(), each.next()) {
                (Some(one), Some(other)) => {
                    strip::<2, FUSED>(x, k, inputs.clone(), [one, other], out, output, n);
                }
                (Some(one), None) => {
                    strip::<1, FUSED>(x, k, inputs.clone(), [one], out, output, n);
                }
                _ => {}
            }
            output += PANELS * COLUMNS;
        }
    }
}

/// All rows times some inputs of panels that lie side by side, added to out [rows, n] from column `output` on.
#[inline(always)]
fn strip<const P: usize, const FUSED: bool>(
    x: &[f32],
    k: usize,
    inputs: Range<usize>,
    panels: [&[f32]; P],
    out: &mut [f32],
    output: usize,
    n: usize,
) {
    let panels = panels.map(|panel| &panel[inputs.start * COLUMNS..inputs.end * COLUMNS]);
    let width = |p: usize| COLUMNS.min(n - output - p * COLUMNS);
    by_rows!(out.len() / n, |first, R| {
        let x = &x[first * k..][inputs.start * R..inputs.end * R];
        let place = |r: usize, p: usize| {
            let start = (first + r) * n + output + p * COLUMNS;
            start..start + width(p)
        };
        let mut sums: Sums<R, P> = [[[0.0; COLUMNS]; P]; R];
        if inputs.start > 0 {
            for r in 0..R {
                for p in 0..P {
                    sums[r][p][..width(p)].copy_from_slice(&out[place(r, p)]);
                }
            }
        }
        add_product::<R, P, FUSED>(x, panels, &mut sums);
        for r in 0..R {
            for p in 0..P {
                out[place(r, p)].copy_from_slice(&sums[r][p][..width(p)]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..n).map(|_| random.f32() - 0.5).collect()
    }

    fn product(panels: &Panels, x: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        panels.product(x, &mut Vec::new(), &mut out);
        out
    }

    fn panels(w: &[f32], k: usize) -> Panels {
        let read = |rows: Range<usize>, out: &mut [f32]| {
            out.copy_from_slice(&w[rows.start * k..rows.end * k]);
            Ok(())
        };
        Panels::new(w.len() / k, k, read).unwrap()
    }

    #[test]
    fn a_product_is_the_sum_over_inputs_whatever_the_shape() {
        for (rows, n, k) in [
            (1, 1, 1),
            (2, 17, 5),
            (7, 96, 33),
            (80, 200, 800),
            (300, 40, 64),
        ] {
            let (x, w) = (random(rows * k, 1), random(n * k, 2));
            let found = product(&panels(&w, k), &x);
            for (i, found) in found.iter().enumerate() {
                let (x, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
                let sum: f64 = x.iter().zip(w).map(|(a, b)| f64::from(a * b)).sum();
                assert!((f64::from(*found) - sum).abs() < 1e-4, "{rows} {n} {k}");
            }
        }
    }

    /// Samples of several machines make one profile.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn sums_are_the_same_bits_whatever_vectors_the_machine_has() {
        let (n, k) = (53, 900);
        let (x, w) = (random(7 * k, 5), random(n * k, 6));
        let add = |sum: f32, (a, b): (&f32, &f32)| match is_x86_feature_detected!("fma") {
            true => a.mul_add(*b, sum),
            false => a * b + sum,
        };
        for (i, found) in product(&panels(&w, k), &x).into_iter().enumerate() {
            let (x, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
            assert_eq!(found, x.iter().zip(w).fold(0.0, add));
        }
    }

    #[test]
    fn a_row_gives_the_same_bits_alone_and_among_others() {
        let (n, k) = (200, 900);
        let (x, panels) = (random(400 * k, 3), panels(&random(n * k, 4), k));
        let together = product(&panels, &x);
        for row in [0, 5, 77, 399] {
            let alone = product(&panels, &x[row * k..][..k]);
            assert_eq!(alone, together[row * n..][..n]);
        }
    }
}
