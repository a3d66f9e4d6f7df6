//! Tables and sentences for a terminal of 100 columns.

mod bench;
mod heads;
mod heal;
mod plan;
mod summary;
mod verdict;

pub use bench::bench;
pub use heads::heads;
pub use heal::heal;
pub use plan::plan;
pub use summary::summary;
pub use verdict::report;

use super::words::TIE;
use crate::importance::Profile;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use std::fmt::Write;

/// Sentences are broken at this many columns.
const COLUMNS: usize = 100;

/// A borderless table: the first `texts` columns to the left, the others to the right.
fn table(header: &[&str], texts: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header);
    for column in table.column_iter_mut() {
        let alignment = match column.index < texts {
            true => CellAlignment::Left,
            false => CellAlignment::Right,
        };
        column.set_cell_alignment(alignment);
        column.set_padding((u16::from(column.index > 0), 1));
    }
    table
}

fn lines(table: &Table) -> String {
    noted_lines(table, &[])
}

/// The lines of a table, with a note after the last filled column of each row that has one.
fn noted_lines(table: &Table, notes: &[&str]) -> String {
    let all: Vec<String> = table.lines().collect();
    let first_row = all.len() - table.row_iter().count().min(all.len());
    let mut text = String::new();
    for (i, line) in all.iter().enumerate() {
        let row = i.checked_sub(first_row);
        let note = row
            .and_then(|row| notes.get(row))
            .filter(|note| !note.is_empty());
        let _ = match note {
            Some(note) => writeln!(text, "{}  {note}", line.trim_end()),
            None => writeln!(text, "{}", line.trim_end()),
        };
    }
    text
}

/// A sentence in lines of at most [`COLUMNS`], all but the first indented.
fn wrapped(sentence: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in sentence.split(' ') {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > COLUMNS {
            text += "\n ";
            column = 1;
        }
        if column > 0 {
            text.push(' ');
            column += 1;
        }
        text += word;
        column += width;
    }
    text.replace(TIE, " ") + "\n"
}

/// The importance of every layer: block influence, how sparse its output is (Hoyer), and nats lost
/// by family.
pub fn profile(profile: &Profile) -> String {
    let columns: Vec<String> = profile
        .original
        .iter()
        .map(|score| format!("{}/{}", score.family, short(&score.protocol.to_string())))
        .collect();
    let mut header = vec!["layer", "influence", "sparsity"];
    header.extend(columns.iter().map(String::as_str));
    let mut rows = table(&header, 0);
    for layer in &profile.layers {
        let hoyer = layer.hoyer();
        let mut row = vec![
            layer.layer.to_string(),
            format!("{:.3}", layer.influence),
            hoyer.map_or("–".to_owned(), |hoyer| format!("{hoyer:.3}")),
        ];
        row.extend(layer.drops.iter().map(|drop| format!("{:+.3}", drop.nats)));
        rows.add_row(row);
    }
    lines(&rows)
}

fn short(protocol: &str) -> &str {
    protocol.get(..3).unwrap_or(protocol)
}
