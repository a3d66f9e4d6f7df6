//! What all layers share about one set of tokens.

use super::config::LayerKind;
use super::rotary::Rotary;
use super::run::Run;
use anyhow::{Result, ensure};
use std::ops::Range;

/// Rotary angles and visibility of one set of tokens.
///
/// Who sees whom is said by runs instead of plain causality, so that texts with a common beginning
/// can stand in one set as a tree, and unrelated texts beside each other without padding.
pub struct Frame {
    runs: Vec<Run>,
    tokens: usize,
    global: Angles,
    /// In layers that attend to a window, where that differs.
    local: Option<Angles>,
}

/// cos and sin of the rotary angles, [tokens, rotary_dim / 2] each.
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Frame {
    /// # Errors
    /// Runs that leave rows out or are not in order.
    pub(super) fn new(rotary: &Rotary, runs: Vec<Run>) -> Result<Self> {
        let mut tokens = 0;
        for run in &runs {
            ensure!(
                run.rows.start == tokens,
                "the runs of a frame leave no row out"
            );
            tokens = run.rows.end;
        }
        let positions = runs.iter().flat_map(|run| {
            let depth = run.depth();
            depth..depth + run.rows.len()
        });
        let positions: Vec<usize> = positions.collect();
        let length = positions.iter().max().map_or(0, |last| last + 1);
        let angles = |frequencies: &[f32]| Angles::new(frequencies, rotary.amplitude, &positions);
        Ok(Self {
            global: angles(rotary.global(length)),
            local: rotary.local.as_deref().map(angles),
            runs,
            tokens,
        })
    }

    /// Rows of one state.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Columns that one state needs, those of earlier frames included.
    pub(super) fn columns(&self) -> usize {
        let ends = self.runs.iter().map(|run| run.own + run.rows.len());
        ends.max().unwrap_or(0)
    }

    /// The runs of states behind each other, the columns of each from its base on.
    pub(super) fn runs_at(&self, bases: &[usize]) -> Vec<Run> {
        let mut all = Vec::with_capacity(self.runs.len() * bases.len());
        for (state, base) in bases.iter().enumerate() {
            let shift = |range: &Range<usize>, by: usize| range.start + by..range.end + by;
            all.extend(self.runs.iter().map(|run| Run {
                rows: shift(&run.rows, state * self.tokens),
                past: run.past.iter().map(|past| shift(past, *base)).collect(),
                own: run.own + base,
            }));
        }
        all
    }

    /// cos and sin of the angles in a layer of this kind, [tokens, rotary_dim / 2] each; `None` where
    /// it does not rotate.
    pub(super) fn angles(&self, kind: LayerKind) -> Option<(&[f32], &[f32])> {
        let local = self.local.as_ref().filter(|_| kind.windowed);
        let angles = local.unwrap_or(&self.global);
        kind.rotates.then_some((&angles.cos, &angles.sin))
    }
}

impl Angles {
    fn new(frequencies: &[f32], amplitude: f32, positions: &[usize]) -> Self {
        // Many tokens stand at few positions: of texts that are written together, options, examples.
        let mut distinct = positions.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let width = frequencies.len();
        let table = |f: fn(f32) -> f32| {
            let row = |&p: &usize| frequencies.iter().map(move |&freq| f(p as f32 * freq));
            let values: Vec<f32> = distinct.iter().flat_map(row).collect();
            let row = |position: &usize| {
                let at = distinct.binary_search(position).unwrap_or(0) * width;
                values[at..at + width].iter().map(|v| v * amplitude)
            };
            positions.iter().flat_map(row).collect()
        };
        Self {
            cos: table(f32::cos),
            sin: table(f32::sin),
        }
    }
}
