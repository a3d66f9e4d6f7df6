//! The five types of 32-weight blocks, bit for bit as ggml's reference writes them.
//!
//! | type | block |
//! |---|---|
//! | q4_0 | d: f16, 16 × two 4-bit levels; x = d · (level − 8) |
//! | q4_1 | d, m: f16, 16 × two 4-bit levels; x = d · level + m |
//! | q5_0 | d: f16, 32 fifth bits, 16 × two 4-bit levels; x = d · (level − 16) |
//! | q5_1 | d, m: f16, 32 fifth bits, 16 × two 4-bit levels; x = d · level + m |
//! | q8_0 | d: f16, 32 × i8; x = d · level |
//!
//! With importance, the scale is searched for as in the k types.

use super::search::{self, Lanes, Line, bytes, extremes, farthest, lanes};
use half::f16;

/// Weights in a block.
pub(super) const BLOCK: usize = 32;

/// Times that a line is fitted to its own levels.
const REFITS: usize = 3;

type Weights = [f32; BLOCK];
type Levels = [u8; BLOCK];

/// Levels from −top to top − 1 times a scale: q4_0 (8), q5_0 (16). Returns d and the levels,
/// counted from −top.
#[inline(always)]
pub(super) fn symmetric(x: &Weights, w: Option<&Weights>, top: f32) -> (f16, Levels) {
    let Some(w) = w else {
        let d = farthest(x) / -top;
        let inverse = search::inverse(d);
        // A scale so small that it has no inverse is zero as f16.
        return match inverse.is_finite() {
            true => {
                let highest = (2.0 * top - 1.0) as u8;
                let level = |x: f32| search::whole(x * inverse + (top + 0.5));
                (f16::from_f32(d), bytes(x, |x| level(x).min(highest)))
            }
            false => (f16::from_f32(d), [0; BLOCK]),
        };
    };
    // The weight of largest magnitude at either end of the levels.
    let steps: Lanes = lanes(|k| match k {
        0..8 => 0.125 * k as f32 - 0.5 - top,
        _ => 0.125 * (k - 8) as f32 - 1.375 + top,
    });
    let d = f16::from_f32(search::symmetric(x, w, top, &steps));
    let inverse = search::inverse(d.to_f32());
    let levels = bytes(x, |x| {
        search::whole(search::level(x * inverse, -top, top - 1.0) + top)
    });
    (d, levels)
}

/// Levels from 0 to top times a scale, plus an offset: q4_1 (15), q5_1 (31).
#[inline(always)]
pub(super) fn affine(x: &Weights, w: Option<&Weights>, top: f32) -> (f16, f16, Levels) {
    let Some(w) = w else {
        let (low, high) = extremes(x);
        let d = (high - low) / top;
        let inverse = search::inverse(d);
        let halves = (f16::from_f32(d), f16::from_f32(low));
        let level = |x: f32| search::whole((x - low) * inverse + 0.5);
        return match inverse.is_finite() {
            true => (halves.0, halves.1, bytes(x, |x| level(x).min(top as u8))),
            false => (halves.0, halves.1, [0; BLOCK]),
        };
    };
    let mut lines = [Line::default(); search::LANES];
    for (half, first) in [-1.0, 0.0].into_iter().enumerate() {
        let steps = lanes(|k| first + 0.0625 * k as f32);
        lines[half] = search::affine(x, w, top, &steps, false);
        for _ in 0..REFITS {
            lines[half] = search::refit(x, w, top, lines[half]);
        }
    }
    let scale = lanes(|k| lines[k % 2].scale);
    let offset = lanes(|k| lines[k % 2].offset);
    let errors = search::errors(x, w, &scale, &offset, (0.0, top));
    let line = lines[search::best(&lanes(|k| -errors[k])) % 2];
    let Line { scale, offset } = line;
    let (d, m) = (f16::from_f32(scale), f16::from_f32(offset));
    let inverse = search::inverse(d.to_f32());
    let above = m.to_f32();
    let levels = bytes(x, |x| {
        search::whole(search::level((x - above) * inverse, 0.0, top))
    });
    (d, m, levels)
}

#[inline(always)]
pub(super) fn q4_0(x: &Weights, w: Option<&Weights>, out: &mut [u8; 18]) {
    let (d, levels) = symmetric(x, w, 8.0);
    put(out, 0, d);
    nibbles(&levels, &mut out[2..]);
}

#[inline(always)]
pub(super) fn q4_1(x: &Weights, w: Option<&Weights>, out: &mut [u8; 20]) {
    let (d, m, levels) = affine(x, w, 15.0);
    put(out, 0, d);
    put(out, 2, m);
    nibbles(&levels, &mut out[4..]);
}

#[inline(always)]
pub(super) fn q5_0(x: &Weights, w: Option<&Weights>, out: &mut [u8; 22]) {
    let (d, levels) = symmetric(x, w, 16.0);
    put(out, 0, d);
    fifth_bits(&levels, &mut out[2..6]);
    nibbles(&levels, &mut out[6..]);
}

#[inline(always)]
pub(super) fn q5_1(x: &Weights, w: Option<&Weights>, out: &mut [u8; 24]) {
    let (d, m, levels) = affine(x, w, 31.0);
    put(out, 0, d);
    put(out, 2, m);
    fifth_bits(&levels, &mut out[4..8]);
    nibbles(&levels, &mut out[8..]);
}

#[inline(always)]
pub(super) fn q8_0(x: &Weights, out: &mut [u8; 34]) {
    let d = farthest(x).abs() / 127.0;
    let inverse = search::inverse(d);
    put(out, 0, f16::from_f32(d));
    if !inverse.is_finite() {
        out[2..].fill(0);
        return;
    }
    for (level, &x) in out[2..].iter_mut().zip(x) {
        let scaled = x * inverse;
        // Half away from zero: the largest f32 below ½ is added, and the fraction cut off.
        *level = search::whole(scaled + 0.499_999_97_f32.copysign(scaled));
    }
}

#[inline(always)]
pub(super) fn put(out: &mut [u8], at: usize, value: f16) {
    out[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// The low nibbles: level i beside level i + 16.
#[inline(always)]
fn nibbles(levels: &Levels, out: &mut [u8]) {
    let (first, second) = levels.split_at(BLOCK / 2);
    for ((out, &a), &b) in out.iter_mut().zip(first).zip(second) {
        *out = (a & 15) | (b << 4);
    }
}

#[inline(always)]
fn fifth_bits(levels: &Levels, out: &mut [u8]) {
    let bit = |(i, &level): (usize, &u8)| u32::from(level >> 4) << i;
    let bits = levels.iter().enumerate().map(bit).fold(0, |a, b| a | b);
    out.copy_from_slice(&bits.to_le_bytes());
}
