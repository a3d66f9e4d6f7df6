//! The k types: 256-weight blocks, whose sub-blocks have small integer scales of their own.
//!
//! | type | sub-blocks | x | bytes |
//! |---|---|---|---|
//! | q2_k | 16 of 16 | d·a·level − m·b, a and b of 4 bits, level 0–3 | 84 |
//! | q3_k | 16 of 16 | d·a·level, a of 6 bits, level −4–3 | 110 |
//! | q4_k | 8 of 32 | d·a·level − m·b, a and b of 6 bits, level 0–15 | 144 |
//! | q5_k | 8 of 32 | d·a·level − m·b, a and b of 6 bits, level 0–31 | 176 |
//! | q6_k | 16 of 16 | d·a·level, a of 8 bits, level −32–31 | 210 |
//!
//! ggml rounds the best scale of each sub-block to the nearest multiple of d. Here the integers
//! are searched for too: d is what the best scales ask for, each sub-block takes the integers near
//! its own that miss least with the levels rounded anew, d is fitted to those by least squares,
//! and the integers are searched for once more.

use super::search::{self, LANES, Lanes, Line, best, errors, lanes};
use half::f16;

/// Weights in a block.
pub(super) const BLOCK: usize = 256;

/// Times that the integers are chosen.
const ROUNDS: usize = 2;

pub(super) type Weights = [f32; BLOCK];

/// What a block of any k type says: `x = d·a·level − m·b` for each sub-block's a and b.
#[derive(Clone)]
pub(super) struct Fit<const SUBS: usize> {
    pub d: f16,
    pub m: f16,
    pub a: [f32; SUBS],
    pub b: [f32; SUBS],
    /// Counted from the lowest level of the type.
    pub levels: [u8; BLOCK],
}

/// A type with offsets.
pub(super) struct Affine {
    /// The highest level.
    pub top: f32,
    /// The highest integer scale.
    pub highest: f32,
    /// Candidates of each sub-block: levels beyond `top` at the largest weight.
    pub steps: Lanes,
}

/// A type without.
pub(super) struct Symmetric {
    /// Levels are −top to top − 1.
    pub top: f32,
    /// Integer scales are −lowest to lowest − 1.
    pub lowest: f32,
    /// Candidates of each sub-block: levels of the weight of largest magnitude.
    pub steps: Lanes,
}

/// The integers that are tried around the nearest: changes of a and of b.
#[inline(always)]
fn near(k: usize) -> (f32, f32) {
    ((k % 5) as f32 - 2.0, (k / 5).min(2) as f32 - 1.0)
}

impl Affine {
    #[inline(always)]
    pub fn fit<const N: usize, const SUBS: usize>(&self, x: &Weights, w: &Weights) -> Fit<SUBS> {
        let (x, w) = (x.as_chunks::<N>().0, w.as_chunks::<N>().0);
        let mut lines = [Line::default(); SUBS];
        for j in 0..SUBS {
            lines[j] = search::affine(&x[j], &w[j], self.top, &self.steps, true);
        }
        let largest = |of: fn(&Line) -> f32| lines.iter().map(of).fold(0.0, f32::max);
        let mut d = f16::from_f32(largest(|line| line.scale) / self.highest);
        let mut m = f16::from_f32(largest(|line| -line.offset) / self.highest);
        let (to_a, to_b) = (search::inverse(d.to_f32()), search::inverse(m.to_f32()));
        let mut a = lines.map(|line| search::level(line.scale * to_a, 0.0, self.highest));
        let mut b = lines.map(|line| search::level(-line.offset * to_b, 0.0, self.highest));
        let (near_a, near_b) = (lanes(|k| near(k).0), lanes(|k| near(k).1));
        let mut kept: Option<(f32, Fit<SUBS>)> = None;
        for _ in 0..ROUNDS {
            let mut error = 0.0;
            let (of_d, of_m) = (d.to_f32(), -m.to_f32());
            for j in 0..SUBS {
                let (tried_a, tried_b) = (
                    lanes(|k| search::level(a[j] + near_a[k], 0.0, self.highest)),
                    lanes(|k| search::level(b[j] + near_b[k], 0.0, self.highest)),
                );
                let scale = lanes(|k| of_d * tried_a[k]);
                let offset = lanes(|k| of_m * tried_b[k]);
                let errors = errors(&x[j], &w[j], &scale, &offset, (0.0, self.top));
                let k = best(&lanes(|k| -errors[k]));
                (a[j], b[j]) = (tried_a[k], tried_b[k]);
                error += errors[k];
            }
            let mut fit = Fit {
                d,
                m,
                a,
                b,
                levels: [0; BLOCK],
            };
            let (refit_d, refit_m) = self.assign::<N, SUBS>(x, w, &mut fit);
            if kept.as_ref().is_none_or(|(least, _)| error < *least) {
                kept = Some((error, fit));
            }
            (d, m) = (refit_d, refit_m);
        }
        kept.expect("there is a first round").1
    }

    /// Sets the levels; returns the d and m that fit them best.
    #[inline(always)]
    fn assign<const N: usize, const SUBS: usize>(
        &self,
        x: &[[f32; N]],
        w: &[[f32; N]],
        fit: &mut Fit<SUBS>,
    ) -> (f16, f16) {
        // x ≈ d·p − m·q with p = a·level and q = b.
        let (mut pp, mut pq, mut qq, mut xp, mut xq) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (d, m) = (fit.d.to_f32(), fit.m.to_f32());
        let levels = fit.levels.as_chunks_mut::<N>().0;
        for j in 0..SUBS {
            let (scale, offset) = (d * fit.a[j], m * fit.b[j]);
            let inverse = search::inverse(scale);
            let mut sums = [[0.0f32; 8]; 5];
            let parts = x[j].as_chunks::<8>().0.iter().zip(w[j].as_chunks::<8>().0);
            for ((x, w), levels) in parts.zip(levels[j].as_chunks_mut::<8>().0) {
                for i in 0..8 {
                    let l = search::level((x[i] + offset) * inverse, 0.0, self.top);
                    levels[i] = search::whole(l);
                    let wl = w[i] * l;
                    sums[0][i] += w[i];
                    sums[1][i] += wl;
                    sums[2][i] += wl * l;
                    sums[3][i] += w[i] * x[i];
                    sums[4][i] += wl * x[i];
                }
            }
            let [w, wl, wll, wx, wlx] = sums.map(search::sum);
            let (a, b) = (fit.a[j], fit.b[j]);
            pp += a * a * wll;
            pq += a * b * wl;
            qq += b * b * w;
            xp += a * wlx;
            xq += b * wx;
        }
        let determinant = pp * qq - pq * pq;
        let d = (xp * qq - xq * pq) / determinant;
        let m = (xp * pq - xq * pp) / determinant;
        let alone = xp / pp;
        let told_apart = determinant > search::DEGENERATE * pp * qq;
        match (told_apart && m >= 0.0, alone.is_finite()) {
            (true, _) => (f16::from_f32(d), f16::from_f32(m)),
            (false, true) if fit.m == f16::ZERO => (f16::from_f32(alone), fit.m),
            _ => (fit.d, fit.m),
        }
    }
}

impl Symmetric {
    #[inline(always)]
    pub fn fit(&self, x: &Weights, w: &Weights) -> Fit<16> {
        let (x, w) = (x.as_chunks::<16>().0, w.as_chunks::<16>().0);
        let mut scales = [0.0; 16];
        for j in 0..16 {
            scales[j] = search::symmetric(&x[j], &w[j], self.top, &self.steps);
        }
        let mut d = f16::from_f32(search::farthest(&scales) / -self.lowest);
        let to_a = search::inverse(d.to_f32());
        let (lowest, highest) = (-self.lowest, self.lowest - 1.0);
        let mut a = scales.map(|scale| search::level(scale * to_a, lowest, highest));
        // Half of the candidates put the largest weight at the other end of the levels.
        let sign = lanes(|k| if k < LANES / 2 { 1.0 } else { -1.0 });
        let change = lanes(|k| (k % (LANES / 2)) as f32 - 3.0);
        let mut kept: Option<(f32, Fit<16>)> = None;
        for _ in 0..ROUNDS {
            let mut error = 0.0;
            let of_d = d.to_f32();
            for j in 0..16 {
                let tried = lanes(|k| search::level(sign[k] * (a[j] + change[k]), lowest, highest));
                let scale = lanes(|k| of_d * tried[k]);
                let errors = errors(
                    &x[j],
                    &w[j],
                    &scale,
                    &[0.0; LANES],
                    (-self.top, self.top - 1.0),
                );
                let k = best(&lanes(|k| -errors[k]));
                a[j] = tried[k];
                error += errors[k];
            }
            let mut fit = Fit {
                d,
                m: f16::ZERO,
                a,
                b: [0.0; 16],
                levels: [0; BLOCK],
            };
            let refit = self.assign(x, w, &mut fit);
            if kept.as_ref().is_none_or(|(least, _)| error < *least) {
                kept = Some((error, fit));
            }
            d = refit;
        }
        kept.expect("there is a first round").1
    }

    /// Sets the levels; returns the d that fits them best.
    #[inline(always)]
    fn assign(&self, x: &[[f32; 16]], w: &[[f32; 16]], fit: &mut Fit<16>) -> f16 {
        let (mut pp, mut xp) = (0.0, 0.0);
        let d = fit.d.to_f32();
        let levels = fit.levels.as_chunks_mut::<16>().0;
        for j in 0..16 {
            let scale = d * fit.a[j];
            let inverse = search::inverse(scale);
            let mut sums = [[0.0f32; 8]; 2];
            let parts = x[j].as_chunks::<8>().0.iter().zip(w[j].as_chunks::<8>().0);
            for ((x, w), levels) in parts.zip(levels[j].as_chunks_mut::<8>().0) {
                for i in 0..8 {
                    let l = search::level(x[i] * inverse, -self.top, self.top - 1.0);
                    levels[i] = search::whole(l + self.top);
                    let wl = w[i] * l;
                    sums[0][i] += wl * l;
                    sums[1][i] += wl * x[i];
                }
            }
            pp += fit.a[j] * fit.a[j] * search::sum(sums[0]);
            xp += fit.a[j] * search::sum(sums[1]);
        }
        let d = xp / pp;
        if d.is_finite() {
            f16::from_f32(d)
        } else {
            fit.d
        }
    }
}
