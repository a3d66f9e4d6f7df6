//! Keys and values as attention reads them.

use super::micro::COLUMNS;
use rayon::prelude::*;

/// Keys and values of some columns (tokens), head by head. Keys lie in panels of sixteen columns,
/// [head_dim, 16]; values in panels of sixteen dimensions, [columns, 16].
#[derive(Clone, Default)]
pub(in crate::model) struct Store {
    head_dim: usize,
    heads: Vec<Head>,
    columns: usize,
}

#[derive(Clone, Default)]
struct Head {
    keys: Vec<f32>,
    values: Vec<Vec<f32>>,
}

/// Rows that hold keys and values among other things.
#[derive(Clone, Copy)]
pub(in crate::model) struct Source<'a> {
    pub(in crate::model) rows: &'a [f32],
    /// The length of a row.
    pub(in crate::model) width: usize,
    /// Where in a row its keys begin, all heads behind each other.
    pub(in crate::model) keys: usize,
    /// Where its values begin.
    pub(in crate::model) values: usize,
}

impl Store {
    pub(in crate::model) fn new(n_kv_heads: usize, head_dim: usize) -> Self {
        let head = Head {
            keys: Vec::new(),
            values: vec![Vec::new(); head_dim.div_ceil(COLUMNS)],
        };
        Self {
            head_dim,
            heads: vec![head; n_kv_heads],
            columns: 0,
        }
    }

    /// Makes room for columns up to `columns`.
    pub(in crate::model) fn grow(&mut self, columns: usize) {
        if columns <= self.columns {
            return;
        }
        self.columns = columns;
        let padded = columns.next_multiple_of(COLUMNS);
        let head_dim = self.head_dim;
        self.heads.par_iter_mut().for_each(|head| {
            head.keys.resize(padded * head_dim, 0.0);
            for values in &mut head.values {
                values.resize(padded * COLUMNS, 0.0);
            }
        });
    }

    /// Writes each row `from.0` to the column `from.1`.
    pub(in crate::model) fn write(&mut self, source: Source, places: &[(usize, usize)]) {
        let head_dim = self.head_dim;
        self.heads.par_iter_mut().enumerate().for_each(|(h, head)| {
            for &(row, column) in places {
                let row = &source.rows[row * source.width..][..source.width];
                let keys = &row[source.keys + h * head_dim..][..head_dim];
                let values = &row[source.values + h * head_dim..][..head_dim];
                head.write(column, keys, values);
            }
        });
    }

    /// The keys of a head, from a column at the start of a panel on.
    pub(super) fn keys(&self, head: usize, panel: usize) -> &[f32] {
        &self.heads[head].keys[panel * COLUMNS * self.head_dim..][..COLUMNS * self.head_dim]
    }

    /// Sixteen dimensions of a head's values, of some columns.
    pub(super) fn values(
        &self,
        head: usize,
        chunk: usize,
        columns: &std::ops::Range<usize>,
    ) -> &[f32] {
        &self.heads[head].values[chunk][columns.start * COLUMNS..columns.end * COLUMNS]
    }
}

impl Head {
    fn write(&mut self, column: usize, keys: &[f32], values: &[f32]) {
        let (panel, lane) = (column / COLUMNS, column % COLUMNS);
        let panel = &mut self.keys[panel * COLUMNS * keys.len()..][..COLUMNS * keys.len()];
        for (place, &key) in panel.chunks_exact_mut(COLUMNS).zip(keys) {
            place[lane] = key;
        }
        for (chunk, values) in self.values.iter_mut().zip(values.chunks(COLUMNS)) {
            chunk[column * COLUMNS..][..values.len()].copy_from_slice(values);
        }
    }
}
