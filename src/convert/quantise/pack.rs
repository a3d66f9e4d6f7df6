//! The k types' bits: where ggml's blocks keep scales and levels.

use super::k::{Affine, BLOCK, Fit, Symmetric, Weights};
use super::search::lanes;
use super::simple::put;

#[inline(always)]
pub(super) fn q2_k(x: &Weights, w: &Weights, out: &mut [u8; 84]) {
    let shape = Affine {
        top: 3.0,
        highest: 15.0,
        steps: lanes(|k| 0.125 * k as f32 - 1.0),
    };
    let fit: Fit<16> = shape.fit::<16, 16>(x, w);
    for ((out, a), b) in out.iter_mut().zip(fit.a).zip(fit.b) {
        *out = a as u8 | (b as u8) << 4;
    }
    crumbs(&fit.levels, &mut out[16..80]);
    put(out, 80, fit.d);
    put(out, 82, fit.m);
}

#[inline(always)]
pub(super) fn q3_k(x: &Weights, w: &Weights, out: &mut [u8; 110]) {
    let shape = Symmetric {
        top: 4.0,
        lowest: 32.0,
        steps: lanes(|k| {
            if k < 8 {
                -4.6 + 0.2 * k as f32
            } else {
                2.4 + 0.2 * (k - 8) as f32
            }
        }),
    };
    let fit = shape.fit(x, w);
    let high = |i: usize| fit.levels[i] >> 2;
    for (i, byte) in out[..32].iter_mut().enumerate() {
        *byte = (0..8).fold(0, |bits, j| bits | high(32 * j + i) << j);
    }
    crumbs(&fit.levels.map(|level| level & 3), &mut out[32..96]);
    let a = fit.a.map(|a| (a + 32.0) as u8);
    for j in 0..8 {
        out[96 + j] = (a[j] & 15) | (a[j + 8] & 15) << 4;
    }
    for j in 0..4 {
        out[104 + j] = (0..4).fold(0, |bits, i| bits | (a[4 * i + j] >> 4) << (2 * i));
    }
    put(out, 108, fit.d);
}

#[inline(always)]
pub(super) fn q4_k(x: &Weights, w: &Weights, out: &mut [u8; 144]) {
    let shape = Affine {
        top: 15.0,
        highest: 63.0,
        steps: lanes(|k| 0.125 * k as f32 - 1.0),
    };
    let fit: Fit<8> = shape.fit::<32, 8>(x, w);
    six_bit_scales(&fit, &mut out[..16]);
    nibbles(&fit.levels, &mut out[16..]);
}

#[inline(always)]
pub(super) fn q5_k(x: &Weights, w: &Weights, out: &mut [u8; 176]) {
    let shape = Affine {
        top: 31.0,
        highest: 63.0,
        steps: lanes(|k| 0.125 * k as f32 - 1.0),
    };
    let fit: Fit<8> = shape.fit::<32, 8>(x, w);
    six_bit_scales(&fit, &mut out[..16]);
    for i in 0..32 {
        out[16 + i] = (0..8).fold(0, |bits, j| bits | (fit.levels[32 * j + i] >> 4) << j);
    }
    nibbles(&fit.levels, &mut out[48..]);
}

#[inline(always)]
pub(super) fn q6_k(x: &Weights, w: &Weights, out: &mut [u8; 210]) {
    let shape = Symmetric {
        top: 32.0,
        lowest: 128.0,
        steps: lanes(|k| 0.125 * k as f32 - 33.0),
    };
    let fit = shape.fit(x, w);
    for half in 0..2 {
        let levels = &fit.levels[128 * half..128 * (half + 1)];
        for i in 0..64 {
            out[64 * half + i] = (levels[i] & 15) | (levels[i + 64] & 15) << 4;
        }
        for i in 0..32 {
            out[128 + 32 * half + i] =
                (0..4).fold(0, |bits, j| bits | (levels[32 * j + i] >> 4) << (2 * j));
        }
    }
    for (out, a) in out[192..208].iter_mut().zip(fit.a) {
        *out = a as i8 as u8;
    }
    put(out, 208, fit.d);
}

/// d, m and eight pairs of six-bit scales, the upper bits of the last four in the first bytes.
#[inline(always)]
fn six_bit_scales(fit: &Fit<8>, out: &mut [u8]) {
    put(out, 0, fit.d);
    put(out, 2, fit.m);
    let (a, b) = (fit.a.map(|a| a as u8), fit.b.map(|b| b as u8));
    for j in 0..4 {
        out[4 + j] = a[j] | (a[j + 4] >> 4) << 6;
        out[8 + j] = b[j] | (b[j + 4] >> 4) << 6;
        out[12 + j] = (a[j + 4] & 15) | (b[j + 4] & 15) << 4;
    }
}

/// Two-bit levels, four runs of 32 in a run of bytes.
#[inline(always)]
fn crumbs(levels: &[u8; BLOCK], out: &mut [u8]) {
    for half in 0..2 {
        for i in 0..32 {
            let level = |j: usize| levels[128 * half + 32 * j + i];
            out[32 * half + i] = level(0) | level(1) << 2 | level(2) << 4 | level(3) << 6;
        }
    }
}

/// The low nibbles, two runs of 32 in a run of bytes.
#[inline(always)]
fn nibbles(levels: &[u8; BLOCK], out: &mut [u8]) {
    for pair in 0..4 {
        for i in 0..32 {
            let level = |j: usize| levels[64 * pair + 32 * j + i] & 15;
            out[32 * pair + i] = level(0) | level(1) << 4;
        }
    }
}
