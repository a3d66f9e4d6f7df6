//! The innermost loop: a few rows times one or two panels of sixteen columns, held in registers.

/// Columns of a panel: one vector of AVX-512, two of AVX2, four of NEON.
pub(super) const COLUMNS: usize = 16;

/// Rows at once: with one panel, twelve of AVX2's sixteen registers are sums; with two, twelve of AVX-512's
/// thirty-two.
pub(super) const ROWS: usize = 6;

/// a · b + c, in one rounding where the machine has the instruction.
#[inline(always)]
pub(super) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    match FUSED {
        true => a.mul_add(b, c),
        false => a * b + c,
    }
}

/// Sums of R rows by P panels.
pub(super) type Sums<const R: usize, const P: usize> = [[[f32; COLUMNS]; P]; R];

/// Adds rows [R, k] · panels [k, 16] to `sums`; the rows lie input by input, [k, R].
#[inline(always)]
pub(super) fn add_product<const R: usize, const P: usize, const FUSED: bool>(
    rows: &[f32],
    panels: [&[f32]; P],
    sums: &mut Sums<R, P>,
) {
    let mut held = *sums;
    let inputs = rows.as_chunks::<R>().0;
    // As long as the rows: no checks in the loop.
    let panels = panels.map(|panel| &panel.as_chunks::<COLUMNS>().0[..inputs.len()]);
    for (i, input) in inputs.iter().enumerate() {
        for (p, panel) in panels.iter().enumerate() {
            let column = panel[i];
            for r in 0..R {
                for c in 0..COLUMNS {
                    held[r][p][c] = multiply_add::<FUSED>(input[r], column[c], held[r][p][c]);
                }
            }
        }
    }
    *sums = held;
}

/// Arranges rows for [`add_product`]: groups of [`ROWS`], the last one smaller, each [k, rows].
#[inline(always)]
pub(super) fn interleave<'r>(
    n_rows: usize,
    k: usize,
    row: impl Fn(usize) -> &'r [f32],
    out: &mut [f32],
) {
    for (g, group) in out[..n_rows * k].chunks_mut(ROWS * k).enumerate() {
        let rows = group.len() / k.max(1);
        if rows == ROWS {
            // The usual case apart: with a known number of rows the loop needs no checks.
            let rows: [&[f32]; ROWS] = std::array::from_fn(|r| &row(g * ROWS + r)[..k]);
            for (i, place) in group.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                for r in 0..ROWS {
                    place[r] = rows[r][i];
                }
            }
            continue;
        }
        for r in 0..rows {
            for (place, x) in group[r..].iter_mut().step_by(rows).zip(row(g * ROWS + r)) {
                *place = *x;
            }
        }
    }
}

/// Calls `$body` with `R` rows at a time, from row 0 to `$rows`, six at once and then the rest.
macro_rules! by_rows {
    ($rows:expr, |$first:ident, $r:ident| $body:expr) => {{
        let rows: usize = $rows;
        let mut $first = 0;
        while $first < rows {
            let n = (rows - $first).min($crate::model::kernels::micro::ROWS);
            macro_rules! with {
                ($count:literal) => {{
                    const $r: usize = $count;
                    $body
                }};
            }
            match n {
                1 => with!(1),
                2 => with!(2),
                3 => with!(3),
                4 => with!(4),
                5 => with!(5),
                _ => with!(6),
            }
            $first += n;
        }
    }};
}
pub(super) use by_rows;
