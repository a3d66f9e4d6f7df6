//! One model's results.

use super::{lines, noted_lines, table};
use crate::eval::{Cell, HealthCell, Summary};
use std::fmt::Write;

const NOT_ABOVE_CHANCE: &str = "not above chance";

/// A model's results by family and protocol, and with `slices` by slice too.
pub fn summary(summary: &Summary, slices: bool) -> String {
    let header = [
        "family",
        "protocol",
        "n",
        "chance",
        "accuracy ± se",
        "nats ± se",
    ];
    let mut text = cells(&summary.cells, &header, |cell| {
        vec![cell.family.to_string(), cell.protocol.to_string()]
    });
    if slices && !summary.slices.is_empty() {
        let header = [
            "slices",
            "protocol",
            "slice",
            "n",
            "chance",
            "accuracy ± se",
            "nats ± se",
        ];
        let _ = write!(
            text,
            "\n{}",
            cells(&summary.slices, &header, |cell| {
                let slice = cell.slice.clone().unwrap_or_default();
                vec![cell.family.to_string(), cell.protocol.to_string(), slice]
            })
        );
    }
    if !summary.health.is_empty() {
        let header = ["generated", "n", "unterminated", "empty", "repetition"];
        let mut health = table(&header, 1);
        for cell in &summary.health {
            health.add_row(health_row(cell));
        }
        let _ = write!(text, "\n{}", lines(&health));
    }
    text
}

/// A table of cells, which `names` names in its first columns.
fn cells(cells: &[Cell], header: &[&str], names: impl Fn(&Cell) -> Vec<String>) -> String {
    let numbers = 4;
    let mut rows = table(header, header.len() - numbers);
    let mut notes = Vec::new();
    for cell in cells {
        let mut row = names(cell);
        row.extend([
            cell.n.to_string(),
            format!("{:.2}", cell.chance),
            format!("{:.3} ± {:.3}", cell.accuracy, cell.accuracy_se),
            format!("{:.3} ± {:.3}", cell.value, cell.value_se),
        ]);
        rows.add_row(row);
        notes.push(match cell.above_chance {
            true => "",
            false => NOT_ABOVE_CHANCE,
        });
    }
    noted_lines(&rows, &notes)
}

fn health_row(cell: &HealthCell) -> Vec<String> {
    vec![
        cell.family.to_string(),
        cell.n.to_string(),
        format!("{:.3}", cell.unterminated),
        format!("{:.3}", cell.empty),
        format!("{:.3}", cell.repetition),
    ]
}
