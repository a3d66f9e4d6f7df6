//! Who sees whom among some tokens.

use std::ops::Range;

/// Tokens behind each other in one text. Each sees the past, the tokens of its run before it, and
/// itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its rows in the frame.
    pub rows: Range<usize>,
    /// Columns before the run, in the order of the text.
    pub past: Vec<Range<usize>>,
    /// The column of its first row.
    pub own: usize,
}

impl Run {
    /// A text's next tokens, after `cached` that stand in a cache's first columns.
    pub fn after(cached: usize, tokens: usize) -> Vec<Self> {
        vec![Self {
            rows: 0..tokens,
            past: std::iter::once(0..cached).collect(),
            own: cached,
        }]
    }

    /// Tokens of its text before the run.
    pub(super) fn depth(&self) -> usize {
        self.past.iter().map(Range::len).sum()
    }
}
