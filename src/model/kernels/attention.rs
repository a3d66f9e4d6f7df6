//! Attention of rows to the columns of a [`Store`], block by block.

use super::functions::{exp_less, highest, soft_cap, sum};
use super::micro::{COLUMNS, ROWS, add_product, by_rows, interleave};
use super::store::Store;
use crate::model::run::Run;
use multiversion::multiversion;
use multiversion::target::target_cfg_f;
use rayon::prelude::*;
use std::ops::Range;

/// Scores that a thread holds: half of a core's second cache.
const SCORES: usize = 1 << 16;

/// Most queries in a block: between them, what one sees and another does not is computed for both.
const QUERIES: usize = 32;

/// Lanes of the sums over columns: see [`sum`].
const LANES: usize = 8;

/// How heads attend.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Attention {
    pub(in crate::model) n_heads: usize,
    pub(in crate::model) n_kv_heads: usize,
    pub(in crate::model) head_dim: usize,
    /// c · tanh(score / c).
    pub(in crate::model) softcap: Option<f32>,
    /// How many columns a token sees at most, itself among them.
    pub(in crate::model) window: Option<usize>,
}

/// Queries of one run that are answered together.
struct Block {
    rows: Range<usize>,
    /// What the last of them sees: columns in the order of the text.
    path: Vec<Range<usize>>,
    /// How far into its text the first of them stands.
    depth: usize,
}

impl Run {
    fn blocks(&self, size: impl Fn(usize) -> usize) -> Vec<Block> {
        let mut blocks = Vec::new();
        let (mut start, before) = (0, self.depth());
        while start < self.rows.len() {
            let end = (start + size(before + start + 1)).min(self.rows.len());
            let mut path = self.past.clone();
            path.push(self.own..self.own + end);
            path.retain(|columns| !columns.is_empty());
            blocks.push(Block {
                rows: self.rows.start + start..self.rows.start + end,
                path,
                depth: before + start,
            });
            start = end;
        }
        blocks
    }
}

impl Attention {
    /// What the queries find, to `out` [rows, n_heads · head_dim]. Queries begin each row of `width`
    /// numbers; runs are in the order of the rows and leave none out.
    pub(in crate::model) fn attend(
        &self,
        rows: &[f32],
        width: usize,
        runs: &[Run],
        store: &Store,
        out: &mut Vec<f32>,
    ) {
        let out_width = self.n_heads * self.head_dim;
        out.resize(rows.len() / width.max(1) * out_width, 0.0);
        let group = self.n_heads / self.n_kv_heads.max(1);
        let size = |seen: usize| (SCORES / (group * seen).max(1)).clamp(1, QUERIES);
        let mut rest = out.as_mut_slice();
        let mut blocks = Vec::new();
        for block in runs.iter().flat_map(|run| run.blocks(size)) {
            let (mine, others) = rest.split_at_mut(block.rows.len() * out_width);
            blocks.push((block, mine));
            rest = others;
        }
        blocks
            .into_par_iter()
            .for_each_init(Vec::new, |scores, (block, out)| {
                let rows = &rows[block.rows.start * width..block.rows.end * width];
                answer(self, &block, rows, width, store, scores, out);
            });
    }
}

/// The columns of a path that a window leaves, and their depth in the text. The depth is brought
/// down to a whole number of lanes, so that sums are made in the order of the text.
fn visible(block: &Block, window: Option<usize>) -> (Vec<(usize, Range<usize>)>, usize) {
    let first = window.map_or(0, |window| (block.depth + 1).saturating_sub(window));
    let base = first / LANES * LANES;
    let mut depth = 0;
    let mut seen = Vec::with_capacity(block.path.len());
    for columns in &block.path {
        let skip = base.saturating_sub(depth).min(columns.len());
        if skip < columns.len() {
            seen.push((depth + skip - base, columns.start + skip..columns.end));
        }
        depth += columns.len();
    }
    (seen, base)
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn answer(
    heads: &Attention,
    block: &Block,
    rows: &[f32],
    width: usize,
    store: &Store,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    const FUSED: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let (dim, queries) = (heads.head_dim, block.rows.len());
    let group = heads.n_heads / heads.n_kv_heads;
    let (path, base) = visible(block, heads.window);
    let seen = path.last().map_or(0, |(at, columns)| at + columns.len());
    scores.clear();
    scores.resize(queries * group * (seen + dim) + ROWS * seen, 0.0);
    let (scores, rest) = scores.split_at_mut(queries * group * seen);
    let (asked, weights) = rest.split_at_mut(queries * group * dim);
    for kv in 0..heads.n_kv_heads {
        // Row i of the scores is query i / group, head i % group of those that share keys.
        let query = |i: usize| &rows[i / group * width + (kv * group + i % group) * dim..][..dim];
        interleave(queries * group, dim, query, asked);
        for (at, columns) in &path {
            for panel in columns.start / COLUMNS..columns.end.div_ceil(COLUMNS) {
                let keys = store.keys(kv, panel);
                let from = columns.start.max(panel * COLUMNS);
                let to = columns.end.min((panel + 1) * COLUMNS);
                let lanes = from - panel * COLUMNS..to - panel * COLUMNS;
                let place = at + from - columns.start;
                by_rows!(queries * group, |first, R| {
                    let mut sums = [[[0.0; COLUMNS]]; R];
                    let asked = &asked[first * dim..][..R * dim];
                    add_product::<R, 1, FUSED>(asked, [keys], &mut sums);
                    for (r, [sums]) in sums.iter().enumerate() {
                        let row = &mut scores[(first + r) * seen + place..][..lanes.len()];
                        row.copy_from_slice(&sums[lanes.clone()]);
                    }
                });
            }
        }
        for (i, row) in scores.chunks_exact_mut(seen.max(1)).enumerate() {
            let depth = block.depth + i / group + 1;
            let first = heads
                .window
                .map_or(0, |window| depth.saturating_sub(window));
            let range = first - base..depth - base;
            row[..range.start].fill(0.0);
            row[range.end..].fill(0.0);
            let row = &mut row[range];
            if let Some(cap) = heads.softcap {
                soft_cap::<FUSED>(row, cap);
            }
            let highest = highest(row);
            exp_less::<FUSED>(row, highest);
        }
        by_rows!(queries * group, |first, R| {
            let row = |r: usize| &scores[(first + r) * seen..][..seen];
            let totals: [f32; R] = std::array::from_fn(|r| sum(row(r)));
            interleave(R, seen, row, weights);
            for chunk in 0..dim.div_ceil(COLUMNS) {
                let mut sums = [[[0.0; COLUMNS]]; R];
                for (at, columns) in &path {
                    let values = store.values(kv, chunk, columns);
                    let weights = &weights[at * R..(at + columns.len()) * R];
                    add_product::<R, 1, FUSED>(weights, [values], &mut sums);
                }
                let lanes = COLUMNS.min(dim - chunk * COLUMNS);
                for r in 0..R {
                    let (i, head) = ((first + r) / group, kv * group + (first + r) % group);
                    let place = (i * heads.n_heads + head) * dim + chunk * COLUMNS;
                    for (out, x) in out[place..place + lanes].iter_mut().zip(sums[r][0]) {
                        *out = x / totals[r];
                    }
                }
            }
        });
    }
}
