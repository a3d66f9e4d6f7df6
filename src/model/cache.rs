//! Keys and values that one layer has seen.

use super::graph::Memory;
use super::kernels::Store;

/// Keys and values of one layer, a column a token. A frame says which columns its tokens see and
/// take; texts, and the states of several keep sets, have columns of their own.
#[derive(Default, Clone)]
pub struct KvCache {
    columns: usize,
    pub(super) held: Option<Held>,
}

/// Where they lie.
#[derive(Clone)]
pub(super) enum Held {
    Cpu(Store),
    Graph(Memory),
}

/// Columns of a panel: a region begins with one, so that no panel is shared.
const ALIGNMENT: usize = 16;

impl KvCache {
    /// Sets columns aside; returns the first.
    pub fn reserve(&mut self, columns: usize) -> usize {
        let first = self.columns.next_multiple_of(ALIGNMENT);
        self.columns = first + columns;
        first
    }

    /// Columns that are set aside or were written.
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn reach(&mut self, columns: usize) {
        self.columns = self.columns.max(columns);
    }
}
