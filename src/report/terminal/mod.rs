//! Tables for a terminal.

use super::{ModelFile, Report};
use crate::eval::stats::Interval;
use crate::eval::{Cell, HealthCell, Summary};
use crate::importance::Profile;
use crate::plan::Plan;
use crate::verify::{FamilyRetention, GateResult, Retention};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use std::fmt::Write;

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
    }
    table
}

fn lines(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A model's results by family and protocol.
pub fn summary(summary: &Summary) -> String {
    let header = [
        "family", "protocol", "n", "chance", "accuracy", "± se", "nats", "± se", "",
    ];
    let mut cells = table(&header, 2);
    for cell in &summary.cells {
        cells.add_row(summary_row(cell));
    }
    let mut text = lines(&cells);
    if !summary.health.is_empty() {
        let mut health = table(
            &["generated", "n", "unterminated", "empty", "repetition"],
            1,
        );
        for cell in &summary.health {
            health.add_row(health_row(cell));
        }
        let _ = write!(text, "\n{}", lines(&health));
    }
    text
}

fn summary_row(cell: &Cell) -> Vec<String> {
    vec![
        cell.family.to_string(),
        cell.protocol.to_string(),
        cell.n.to_string(),
        format!("{:.2}", cell.chance),
        format!("{:.3}", cell.accuracy),
        format!("{:.3}", cell.accuracy_se),
        format!("{:.3}", cell.value),
        format!("{:.3}", cell.value_se),
        match cell.above_chance {
            true => String::new(),
            false => "not above chance".to_owned(),
        },
    ]
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

/// The importance of every layer: block influence, and nats lost by family.
pub fn profile(profile: &Profile) -> String {
    let columns: Vec<String> = profile
        .original
        .iter()
        .map(|score| format!("{}/{}", score.family, short(&score.protocol.to_string())))
        .collect();
    let mut header = vec!["layer", "influence"];
    header.extend(columns.iter().map(String::as_str));
    let mut rows = table(&header, 0);
    for layer in &profile.layers {
        let mut row = vec![layer.layer.to_string(), format!("{:.3}", layer.influence)];
        row.extend(layer.drops.iter().map(|drop| format!("{:+.3}", drop.nats)));
        rows.add_row(row);
    }
    lines(&rows)
}

fn short(protocol: &str) -> &str {
    protocol.get(..3).unwrap_or(protocol)
}

/// Which layers go, and what each step cost.
pub fn plan(plan: &Plan) -> String {
    let mut text = format!(
        "keep {} of {} layers: {}\ndrop {}\n",
        plan.keep.len(),
        plan.n_layers,
        plan.keep,
        crate::arch::ranges(&plan.dropped)
    );
    if !plan.steps.is_empty() {
        let families: Vec<String> = plan.objective.keys().map(ToString::to_string).collect();
        let mut header = vec!["dropped", "loss"];
        header.extend(families.iter().map(String::as_str));
        let mut rows = table(&header, 0);
        for step in &plan.steps {
            let mut row = vec![
                crate::arch::ranges(&step.layers),
                format!("{:+.3}", step.loss),
            ];
            let fall = |family| step.families.get(family).copied().unwrap_or(0.0);
            row.extend(plan.objective.keys().map(|f| format!("{:+.3}", fall(f))));
            rows.add_row(row);
        }
        let _ = write!(text, "\n{}", lines(&rows));
    }
    text
}

/// The verdict, what broke silently first.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    for slice in report.comparison.silent_breaks() {
        let _ = writeln!(
            text,
            "fell silently: {} {}, slice {}: retained {}",
            slice.family,
            slice.protocol,
            slice.slice.as_deref().unwrap_or_default(),
            interval(slice.retained)
        );
    }
    let header = [
        "family", "protocol", "n", "chance", "original", "pruned", "retained", "[95 %]", "",
    ];
    let mut cells = table(&header, 2);
    for cell in &report.comparison.cells {
        cells.add_row(retention_row(cell));
    }
    for family in &report.comparison.families {
        cells.add_row(family_row(family));
    }
    text += &lines(&cells);
    let (before, after) = (
        &report.comparison.original.health,
        &report.comparison.pruned.health,
    );
    if !before.is_empty() {
        let header = ["generated", "n", "unterminated", "empty", "repetition"];
        let mut health = table(&header, 1);
        for (before, after) in before.iter().zip(after) {
            let arrow =
                |of: fn(&HealthCell) -> f64| format!("{:.2} → {:.2}", of(before), of(after));
            health.add_row([
                before.family.to_string(),
                before.n.to_string(),
                arrow(|cell| cell.unterminated),
                arrow(|cell| cell.empty),
                arrow(|cell| cell.repetition),
            ]);
        }
        let _ = write!(text, "\n{}", lines(&health));
    }
    let _ = writeln!(text, "\n{}", size(&report.original, &report.pruned));
    for gate in &report.gates {
        let _ = writeln!(text, "{}", gate_line(gate));
    }
    text
}

fn retention_row(cell: &Retention) -> Vec<String> {
    let (share, range, note) = match (cell.above_chance, cell.retained) {
        (true, Some(i)) => (percent(i.share), range(i), ""),
        _ => ("–".to_owned(), String::new(), "original not above chance"),
    };
    vec![
        cell.family.to_string(),
        cell.protocol.to_string(),
        cell.n.to_string(),
        format!("{:.2}", cell.chance),
        format!("{:.3}", cell.original),
        format!("{:.3}", cell.pruned),
        share,
        range,
        note.to_owned(),
    ]
}

fn family_row(family: &FamilyRetention) -> Vec<String> {
    let empty = String::new;
    let (share, range) = match family.retained {
        Some(i) => (percent(i.share), range(i)),
        None => ("–".to_owned(), empty()),
    };
    vec![
        family.family.to_string(),
        "together".to_owned(),
        empty(),
        empty(),
        empty(),
        empty(),
        share,
        range,
        empty(),
    ]
}

fn gate_line(gate: &GateResult) -> String {
    let verdict = match gate.passed {
        true => "passed",
        false => "FAILED",
    };
    let found = match &gate.reason {
        Some(reason) => reason.clone(),
        None => format!("retained {}", interval(gate.retained)),
    };
    format!("gate {}: {verdict} ({found})", gate.gate)
}

fn size(original: &ModelFile, pruned: &ModelFile) -> String {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "{} → {} layers, {:.1} MB → {:.1} MB",
        original.n_layers,
        pruned.n_layers,
        megabytes(original.bytes),
        megabytes(pruned.bytes)
    )
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn range(interval: Interval) -> String {
    format!("{:.0}–{:.0}", interval.low * 100.0, interval.high * 100.0)
}

fn interval(found: Option<Interval>) -> String {
    match found {
        Some(i) => format!("{} [{}]", percent(i.share), range(i)),
        None => "nothing that could be measured".to_owned(),
    }
}
