//! What is done to each number of a row, or to each row.

use super::micro::multiply_add;
use crate::arch::Activation;
use multiversion::multiversion;
use multiversion::target::target_cfg_f;
use rayon::prelude::*;

/// Numbers that a thread takes at once: below, handing them out costs more than it gains.
const SHARE: usize = 1 << 14;

/// e^x to 2 units in the last place: 2^n · e^r with |r| ≤ ln 2 / 2, e^r by a polynomial (Cephes'
/// expf, Moshier 1989). Below e^-87 it is e^-87, not 0; what is not a number stays so.
#[inline(always)]
fn exp<const FUSED: bool>(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding it leaves the integer in the last bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add::<FUSED>(n, -LN_2_HIGH, x);
    let r = multiply_add::<FUSED>(n, -LN_2_LOW, r);
    let mut p = 1.987_569_2e-4;
    for c in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = multiply_add::<FUSED>(p, r, c);
    }
    let e = multiply_add::<FUSED>(p, r * r, r) + 1.0;
    let exponent = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127);
    e * f32::from_bits(exponent.wrapping_shl(23))
}

/// Replaces each x by e^(x − largest).
#[inline(always)]
pub(super) fn exp_less<const FUSED: bool>(row: &mut [f32], largest: f32) {
    for x in row {
        *x = exp::<FUSED>(*x - largest);
    }
}

/// c · tanh(x / c).
#[inline(always)]
pub(super) fn soft_cap<const FUSED: bool>(row: &mut [f32], cap: f32) {
    for x in row {
        // tanh y = 1 − 2 / (e^2y + 1)
        *x = cap * (1.0 - 2.0 / (exp::<FUSED>(2.0 * *x / cap) + 1.0));
    }
}

/// Sums by eight lanes, the lane of a number being its index modulo 8.
#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    lanes.iter().sum()
}

/// The largest of a row.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub fn largest(row: &[f32]) -> f32 {
    highest(row)
}

#[inline(always)]
pub(super) fn highest(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut lanes = [f32::NEG_INFINITY; 8];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let all = lanes.iter().chain(rest);
    all.fold(f32::NEG_INFINITY, |a, &x| if x > a { x } else { a })
}

/// Σ e^(x − largest) of a row, and the largest.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub fn exp_sum(row: &[f32]) -> (f32, f32) {
    const FUSED: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let highest = highest(row);
    let (chunks, rest) = row.as_chunks::<8>();
    let mut lanes = [0.0f32; 8];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += exp::<FUSED>(x - highest);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += exp::<FUSED>(x - highest);
    }
    (lanes.iter().sum(), highest)
}

/// Σ e^(a − highest) · (a − b) over two rows.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub fn exp_gap(a: &[f32], b: &[f32], highest: f32) -> f32 {
    const FUSED: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let ((chunks, rest), (others, other_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0f32; 8];
    for (a, b) in chunks.iter().zip(others) {
        for ((lane, &a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = multiply_add::<FUSED>(exp::<FUSED>(a - highest), a - b, *lane);
        }
    }
    for ((lane, &a), b) in lanes.iter_mut().zip(rest).zip(other_rest) {
        *lane = multiply_add::<FUSED>(exp::<FUSED>(a - highest), a - b, *lane);
    }
    lanes.iter().sum()
}

/// x / √(mean x² + eps) · weight to `out`, for each row of as many numbers as there are weights.
pub(in crate::model) fn normalise(x: &[f32], weight: &[f32], eps: f32, out: &mut Vec<f32>) {
    let width = weight.len().max(1);
    out.resize(x.len(), 0.0);
    out.par_chunks_mut(width)
        .zip(x.par_chunks(width))
        .with_min_len(SHARE / width + 1)
        .for_each(|(out, x)| {
            out.copy_from_slice(x);
            norm_row(out, weight, eps);
        });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn norm_row(row: &mut [f32], weight: &[f32], eps: f32) {
    const FUSED: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let (chunks, rest) = row.as_chunks::<8>();
    let mut lanes = [0.0f32; 8];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = multiply_add::<FUSED>(x, x, *lane);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = multiply_add::<FUSED>(x, x, *lane);
    }
    let mean = lanes.iter().sum::<f32>() / row.len().max(1) as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for (x, weight) in row.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}

/// activation(gate) · up to `out` [rows, width], of rows [rows, 2 · width] that hold the gate and
/// then the up projection.
pub(in crate::model) fn gate(
    both: &[f32],
    width: usize,
    activation: Activation,
    out: &mut Vec<f32>,
) {
    let width = width.max(1);
    out.resize(both.len() / 2, 0.0);
    out.par_chunks_mut(width)
        .zip(both.par_chunks(2 * width))
        .with_min_len(SHARE / width + 1)
        .for_each(|(out, both)| {
            let (gate, up) = both.split_at(width);
            match activation {
                Activation::Silu => silu_row(out, gate, up),
                Activation::GeluTanh => gelu_row(out, gate, up),
            }
        });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn silu_row(out: &mut [f32], gate: &[f32], up: &[f32]) {
    const FUSED: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for ((out, &x), up) in out.iter_mut().zip(gate).zip(up) {
        *out = x / (1.0 + exp::<FUSED>(-x)) * up;
    }
}

/// ½ x (1 + tanh u) = x / (1 + e^−2u), u = √(2/π) (x + 0.044715 x³).
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn gelu_row(out: &mut [f32], gate: &[f32], up: &[f32]) {
    const FUSED: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    const ROOT: f32 = 0.797_884_6;
    for ((out, &x), up) in out.iter_mut().zip(gate).zip(up) {
        let u = ROOT * (x + 0.044_715 * x * x * x);
        *out = x / (1.0 + exp::<FUSED>(-2.0 * u)) * up;
    }
}

/// x += scale · y.
pub(in crate::model) fn add(x: &mut [f32], y: &[f32], scale: f32) {
    x.par_chunks_mut(SHARE)
        .zip(y.par_chunks(SHARE))
        .for_each(|(x, y)| {
            for (x, y) in x.iter_mut().zip(y) {
                *x += scale * y;
            }
        });
}

/// How the heads of a projection are turned.
#[derive(Clone, Copy)]
pub(in crate::model) struct Rotation<'a> {
    /// cos and sin of every token's angles, [tokens, rotary_dim / 2]; absent where none rotates.
    pub(in crate::model) angles: Option<(&'a [f32], &'a [f32])>,
    /// Of every head on its own, or of all heads together; absent where there is no norm.
    pub(in crate::model) norm: Option<&'a [f32]>,
    pub(in crate::model) eps: f32,
    /// What the result is multiplied with.
    pub(in crate::model) scale: f32,
}

/// Norms, turns and scales the heads that stand at `heads` of each row of `width` numbers, in
/// place. Row i is token i modulo `tokens`; dimension d turns with dimension d + rotary_dim / 2.
pub(in crate::model) fn rotate(
    rows: &mut [f32],
    width: usize,
    heads: std::ops::Range<usize>,
    head_dim: usize,
    tokens: usize,
    rotation: Rotation,
) {
    let one = |(i, row): (usize, &mut [f32])| {
        let all = &mut row[heads.clone()];
        if let Some(weight) = rotation.norm {
            for part in all.chunks_exact_mut(weight.len()) {
                norm_row(part, weight, rotation.eps);
            }
        }
        if let Some((cos, sin)) = rotation.angles {
            let pairs = cos.len() / tokens.max(1);
            let at = i % tokens.max(1) * pairs;
            let (cos, sin) = (&cos[at..at + pairs], &sin[at..at + pairs]);
            for head in all.chunks_exact_mut(head_dim) {
                turn(head, cos, sin);
            }
        }
        if rotation.scale != 1.0 {
            all.iter_mut().for_each(|x| *x *= rotation.scale);
        }
    };
    rows.par_chunks_mut(width)
        .enumerate()
        .with_min_len(SHARE / width.max(1) + 1)
        .for_each(one);
}

fn turn(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, rest) = head.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(rest).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_to_two_units_in_the_last_place() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let (found, truth) = (exp::<false>(x), f64::from(x).exp());
            let error = (f64::from(found) - truth).abs() / truth;
            assert!(error < 2.4e-7, "{x}: {found} {truth}");
        }
        assert!(exp::<false>(f32::NEG_INFINITY) < 1e-37);
        assert!(exp::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn activations_are_those_of_f64() {
        let x: Vec<f32> = (-200..200).map(|i| i as f32 / 20.0).collect();
        let both = [x.as_slice(), &vec![1.0; x.len()]].concat();
        let (mut silu, mut gelu) = (Vec::new(), Vec::new());
        gate(&both, x.len(), Activation::Silu, &mut silu);
        gate(&both, x.len(), Activation::GeluTanh, &mut gelu);
        for ((x, silu), gelu) in x.iter().zip(silu).zip(gelu) {
            let x = f64::from(*x);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            assert!((f64::from(silu) - x / (1.0 + (-x).exp())).abs() < 1e-6 * x.abs().max(1.0));
            assert!((f64::from(gelu) - 0.5 * x * (1.0 + u.tanh())).abs() < 2e-6 * x.abs().max(1.0));
        }
    }
}
