//! The scale searches that every quantised type with a free scale shares.
//!
//! A block is quantised by trying several scales at once, one a lane: for each weight, all lanes
//! round it and add to their sums. The lanes are independent, so the compiler keeps them in vector
//! registers, and no sum ever depends on the width of the machine's vectors: the same weights give
//! the same bytes everywhere.
//!
//! With levels `l`, weights `x` and their importance `w`, the best scale and offset of a candidate
//! are weighted least squares, as in the k-quants of ggml (I. Kawrakow, llama.cpp #1684).

/// Candidates that are tried together.
pub(super) const LANES: usize = 16;

/// One number a candidate.
pub(super) type Lanes = [f32; LANES];

/// Where a determinant is this small against its terms, all levels are alike and the offset cannot
/// be told from the scale: rounding errors would decide.
pub(super) const DEGENERATE: f32 = 1e-5;

/// A scale and what is added after scaling: `x ≈ scale · level + offset`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Line {
    pub scale: f32,
    pub offset: f32,
}

/// `f(0), f(1), …`, one a lane.
#[inline(always)]
pub(super) fn lanes(f: impl Fn(usize) -> f32) -> Lanes {
    let mut lanes = [0.0; LANES];
    for (k, lane) in lanes.iter_mut().enumerate() {
        *lane = f(k);
    }
    lanes
}

/// The nearest whole number, ties to even, of a magnitude below 2²²: a sum that large has no
/// fraction bits left.
#[inline(always)]
pub(super) fn nearest(value: f32) -> f32 {
    const NO_FRACTION: f32 = 12_582_912.0; // 1.5 · 2²³
    (value + NO_FRACTION) - NO_FRACTION
}

/// The level of a scaled weight. Written so that it is one instruction a bound.
#[inline(always)]
pub(super) fn level(value: f32, lowest: f32, highest: f32) -> f32 {
    let above = if value > lowest { value } else { lowest };
    nearest(if above < highest { above } else { highest })
}

/// The reciprocal, or 0 of 0.
#[inline(always)]
pub(super) fn inverse(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { 1.0 / value }
}

/// The sum, in an order that does not depend on the machine.
#[inline(always)]
pub(super) fn sum(values: impl IntoIterator<Item = f32>) -> f32 {
    values.into_iter().fold(0.0, |sum, value| sum + value)
}

/// Smallest and largest of a block. Of several zeros of either sign, the first counts.
#[inline(always)]
pub(super) fn extremes<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    const WIDE: usize = 8;
    let (mut low, mut high) = ([f32::MAX; WIDE], [f32::MIN; WIDE]);
    for part in x.as_chunks::<WIDE>().0 {
        for i in 0..WIDE {
            low[i] = if part[i] < low[i] { part[i] } else { low[i] };
            high[i] = if part[i] > high[i] { part[i] } else { high[i] };
        }
    }
    let low = low.iter().fold(f32::MAX, |a, &b| if b < a { b } else { a });
    let high = high
        .iter()
        .fold(f32::MIN, |a, &b| if b > a { b } else { a });
    (first_zero(x, low), first_zero(x, high))
}

/// Of a value that is zero, the sign that comes first in the block.
#[inline(always)]
fn first_zero<const N: usize>(x: &[f32; N], value: f32) -> f32 {
    if value != 0.0 {
        return value;
    }
    x.iter().copied().find(|&x| x == 0.0).unwrap_or(value)
}

/// Every weight's level, as a byte.
#[inline(always)]
pub(super) fn bytes<const N: usize>(x: &[f32; N], level: impl Fn(f32) -> u8) -> [u8; N] {
    // `map` is not inlined, and then not compiled for the machine's vectors.
    let mut levels = [0; N];
    for i in 0..N {
        levels[i] = level(x[i]);
    }
    levels
}

/// The whole part of a number between ±2²² as a byte (two's complement). Beside 1.5 · 2²³ it is
/// the low bits of the sum, which costs an addition; `as` also asks what to do with infinity.
#[inline(always)]
pub(super) fn whole(x: f32) -> u8 {
    (x.trunc() + 12_582_912.0).to_bits() as u8
}

/// The weight of largest magnitude, with its sign; the first of several.
#[inline(always)]
pub(super) fn farthest<const N: usize>(x: &[f32; N]) -> f32 {
    let (low, high) = extremes(x);
    let largest = if -low > high { -low } else { high };
    let found = x
        .iter()
        .copied()
        .find(|x| x.abs() == largest && largest > 0.0);
    found.unwrap_or(0.0)
}

/// The lane of the largest value; the first of several. NaN never wins.
#[inline(always)]
pub(super) fn best(scores: &Lanes) -> usize {
    let mut best = 0;
    for lane in 1..LANES {
        let better = scores[lane] > scores[best] || scores[best].is_nan();
        best = if better { lane } else { best };
    }
    best
}

/// The best line through a block for levels 0 to `top`, the smallest weight at level 0. `steps` say
/// by how much each candidate's level of the largest weight exceeds `top`. With `below_zero` the
/// offset is never positive, for types that store it as a subtrahend.
#[inline(always)]
pub(super) fn affine<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    top: f32,
    steps: &Lanes,
    below_zero: bool,
) -> Line {
    let (low, high) = extremes(x);
    let low = if below_zero && low > 0.0 { 0.0 } else { low };
    let range = high - low;
    if range <= 0.0 {
        return Line {
            scale: 0.0,
            offset: low,
        };
    }
    let inverse_scale = lanes(|k| (top + steps[k]) / range);
    let (mut wl, mut wll, mut wxl) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    let (mut sum_w, mut sum_wx) = (0.0, 0.0);
    for (&x, &w) in x.iter().zip(w) {
        let (above, wx) = (x - low, w * x);
        sum_w += w;
        sum_wx += wx;
        for k in 0..LANES {
            let l = level(above * inverse_scale[k], 0.0, top);
            wl[k] += w * l;
            wll[k] += w * l * l;
            wxl[k] += wx * l;
        }
    }
    // Both solutions in every lane: a branch would cost the vectors.
    let determinant = lanes(|k| sum_w * wll[k] - wl[k] * wl[k]);
    let free_offset = lanes(|k| (wll[k] * sum_wx - wl[k] * wxl[k]) / determinant[k]);
    let free_scale = lanes(|k| (sum_w * wxl[k] - sum_wx * wl[k]) / determinant[k]);
    let bound = lanes(|k| {
        let degenerate = determinant[k] <= DEGENERATE * sum_w * wll[k];
        let bound = degenerate | (below_zero & (free_offset[k] > 0.0));
        if bound { 1.0 } else { 0.0 }
    });
    let offset = lanes(|k| if bound[k] > 0.0 { 0.0 } else { free_offset[k] });
    let alone = lanes(|k| wxl[k] / wll[k]);
    let scale = lanes(|k| {
        if bound[k] > 0.0 {
            alone[k]
        } else {
            free_scale[k]
        }
    });
    // How much of Σ w·x² each line explains.
    let gains = lanes(|k| {
        scale[k] * (2.0 * wxl[k] - scale[k] * wll[k] - 2.0 * offset[k] * wl[k])
            + offset[k] * (2.0 * sum_wx - offset[k] * sum_w)
    });
    let k = best(&gains);
    let best_line = Line {
        scale: scale[k],
        offset: offset[k],
    };
    match best_line.scale.is_finite() && best_line.offset.is_finite() {
        true => best_line,
        false => Line {
            scale: range / top,
            offset: low,
        },
    }
}

/// The line that fits the levels which this line gives best: never a worse one.
#[inline(always)]
pub(super) fn refit<const N: usize>(x: &[f32; N], w: &[f32; N], top: f32, line: Line) -> Line {
    let inverse_scale = inverse(line.scale);
    let mut sums = [[0.0f32; 8]; 5];
    for (x, w) in x.as_chunks::<8>().0.iter().zip(w.as_chunks::<8>().0) {
        for i in 0..8 {
            let l = level((x[i] - line.offset) * inverse_scale, 0.0, top);
            let wl = w[i] * l;
            sums[0][i] += w[i];
            sums[1][i] += wl;
            sums[2][i] += wl * l;
            sums[3][i] += w[i] * x[i];
            sums[4][i] += wl * x[i];
        }
    }
    let [w, wl, wll, wx, wxl] = sums.map(sum);
    let determinant = w * wll - wl * wl;
    let fitted = Line {
        scale: (w * wxl - wx * wl) / determinant,
        offset: (wll * wx - wl * wxl) / determinant,
    };
    match determinant > DEGENERATE * w * wll {
        true => fitted,
        false => line,
    }
}

/// The best scale of a block for levels `-top` to `top - 1`. Each of `steps` puts the weight of
/// largest magnitude at that level.
#[inline(always)]
pub(super) fn symmetric<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    top: f32,
    steps: &Lanes,
) -> f32 {
    let farthest = farthest(x);
    if farthest == 0.0 {
        return 0.0;
    }
    let inverse_scale = lanes(|k| steps[k] / farthest);
    let (mut wll, mut wxl) = ([0.0; LANES], [0.0; LANES]);
    for (&x, &w) in x.iter().zip(w) {
        let wx = w * x;
        for k in 0..LANES {
            let l = level(x * inverse_scale[k], -top, top - 1.0);
            wll[k] += w * l * l;
            wxl[k] += wx * l;
        }
    }
    let gains = lanes(|k| wxl[k] * wxl[k] / wll[k]);
    let k = best(&gains);
    let scale = wxl[k] / wll[k];
    match scale.is_finite() {
        true => scale,
        false => -farthest / top,
    }
}

/// The squared error of a block, weighted, under each candidate line, for levels from `lowest` to
/// `highest`.
#[inline(always)]
pub(super) fn errors<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    scale: &Lanes,
    offset: &Lanes,
    (lowest, highest): (f32, f32),
) -> Lanes {
    let inverse_scale = lanes(|k| inverse(scale[k]));
    let mut errors = [0.0; LANES];
    for (&x, &w) in x.iter().zip(w) {
        for k in 0..LANES {
            let above = x - offset[k];
            let l = level(above * inverse_scale[k], lowest, highest);
            let miss = above - scale[k] * l;
            errors[k] += w * miss * miss;
        }
    }
    errors
}
