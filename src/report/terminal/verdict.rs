//! The verdict: original against pruned.

use super::{noted_lines, table, wrapped};
use crate::eval::stats::Interval;
use crate::report::besides::besides;
use crate::report::findings::findings;
use crate::report::words::{megabytes, percent, points, probability, share, whole};
use crate::report::{ModelFile, Report};
use crate::verify::{
    Comparison, FamilyResolution, FamilyRetention, GateResult, HealthChange, Resolution, Retention,
};

/// The verdict, what broke silently first, and with `slices` the table's rows by slice too.
pub fn report(report: &Report, slices: bool) -> String {
    let comparison = &report.comparison;
    let gates: String = report.gates.iter().map(gate_line).collect();
    let line = |(what, found)| wrapped(&format!("{what}: {found}"));
    let besides: String = besides(report).into_iter().map(line).collect();
    let parts = [
        findings(report).iter().map(|s| wrapped(s)).collect(),
        cells(comparison, slices),
        health(&comparison.health),
        size(&report.original, &report.pruned)
            + &besides
            + &gates
            + &resolution(&report.resolution),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

const HEADER: [&str; 10] = [
    "",
    "n",
    "chance",
    "original",
    "pruned",
    "change\n[95 %]",
    "p",
    "Holm",
    "retained\n% [95 %]",
    "unseen\nbelow",
];

/// Columns that are narrow enough to stand closer.
const CLOSE: [&str; 4] = ["chance", "pruned", "p", "Holm"];

/// What there is to say of an original that cannot do it.
const NOT_ABOVE_CHANCE: &str = "the original is not above chance";

/// Families, their protocols indented below them, and slices below these.
fn cells(comparison: &Comparison, slices: bool) -> String {
    let mut rows = table(&HEADER, 1);
    let mut notes = Vec::new();
    for column in CLOSE
        .iter()
        .filter_map(|name| HEADER.iter().position(|h| h == name))
    {
        let Some(column) = rows.column_mut(column) else {
            continue;
        };
        column.set_padding((0, 1));
    }
    let mut add = |row: Vec<String>, note| {
        rows.add_row(row);
        notes.push(note);
    };
    for family in &comparison.families {
        add(family_row(family), "");
        let cells = comparison.cells.iter();
        for cell in cells.filter(|cell| cell.family == family.family) {
            add(row(&format!("  {}", cell.protocol), cell), note_of(cell));
            let below = |slice: &&Retention| {
                slices && (slice.family, slice.protocol) == (cell.family, cell.protocol)
            };
            for slice in comparison.slices.iter().filter(below) {
                let name = slice.slice.as_deref().unwrap_or_default();
                add(row(&format!("    {name}"), slice), note_of(slice));
            }
        }
    }
    let legend = format!(
        "change, unseen below: points of accuracy. p: McNemar's test; Holm: adjusted for the {} \
         protocols here{}.",
        comparison.cells.len(),
        match slices {
            true => ", slices for those of their family",
            false => "",
        }
    );
    noted_lines(&rows, &notes) + &wrapped(&legend)
}

/// What there is to say of a slice that was not tested.
const TOO_FEW: &str = "too few questions to tell";

fn note_of(cell: &Retention) -> &'static str {
    match (cell.p_holm, cell.above_chance) {
        (None, _) => TOO_FEW,
        (_, false) => NOT_ABOVE_CHANCE,
        _ => "",
    }
}

fn row(name: &str, cell: &Retention) -> Vec<String> {
    let mut row = vec![
        name.to_owned(),
        cell.n.to_string(),
        format!("{:.2}", cell.chance),
        format!("{:.3}", cell.original),
        format!("{:.3}", cell.pruned),
    ];
    if let (Some(p_holm), true) = (cell.p_holm, cell.above_chance) {
        let dash = || "–".to_owned();
        row.extend([
            points(cell.difference),
            probability(cell.p),
            probability(p_holm),
            cell.retained.map_or_else(dash, bare_share),
            cell.min_detectable
                .map_or_else(dash, |loss| format!("{:.0}", whole(loss))),
        ]);
    }
    row
}

fn family_row(family: &FamilyRetention) -> Vec<String> {
    let mut row = vec![String::new(); HEADER.len()];
    let found = [
        (0, Some(family.family.to_string())),
        (5, family.difference.map(points)),
        (8, family.retained.map(bare_share)),
    ];
    for (column, text) in found {
        if let (Some(cell), Some(text)) = (row.get_mut(column), text) {
            *cell = text;
        }
    }
    row
}

/// What was measured of generated text, where there is any of it.
fn health(changes: &[HealthChange]) -> String {
    let header = ["generated", "", "n", "original", "pruned", "change [95 %]"];
    let mut rows = table(&header, 2);
    let mut notes = Vec::new();
    for change in changes.iter().filter(|c| c.original + c.pruned > 0.0) {
        rows.add_row([
            change.family.to_string(),
            change.measure.as_str().to_owned(),
            change.n.to_string(),
            format!("{:.2}", change.original),
            format!("{:.2}", change.pruned),
            points(change.difference),
        ]);
        notes.push(match change.worse {
            true => "clearly worse",
            false => "",
        });
    }
    match notes.is_empty() {
        true => String::new(),
        false => noted_lines(&rows, &notes),
    }
}

fn gate_line(gate: &GateResult) -> String {
    let verdict = match gate.passed {
        true => "passed",
        false => "FAILED",
    };
    format!("gate {}: {verdict} ({})\n", gate.gate, gate.found)
}

fn size(original: &ModelFile, pruned: &ModelFile) -> String {
    format!(
        "{} → {} layers, {} → {}\n",
        original.n_layers,
        pruned.n_layers,
        megabytes(original.bytes),
        megabytes(pruned.bytes)
    )
}

/// What these items can and cannot show, in a sentence or two.
fn resolution(resolution: &Resolution) -> String {
    let families = &resolution.families;
    let Some(needed) = families.iter().map(|family| family.items_needed).max() else {
        return wrapped("The original is not above chance in anything asked: this shows nothing.");
    };
    let questions = range(families.iter().map(|family| family.n));
    let losses: Option<Vec<f64>> = families
        .iter()
        .map(|family| family.min_detectable)
        .collect();
    let unseen = match losses {
        Some(losses) => format!(
            "a loss of less than {} points can go unseen",
            range(losses.iter().map(|loss| whole(*loss) as usize))
        ),
        None => "any loss can go unseen".to_owned(),
    };
    let wanted = percent(resolution.precision).replace(" %", " points");
    let short = |family: &&FamilyResolution| family.items_available < needed;
    let short: Vec<String> = families
        .iter()
        .filter(short)
        .map(|family| format!("{} of {}", family.items_available, family.family))
        .collect();
    let short = match short.is_empty() {
        true => String::new(),
        false => format!(
            "; there are only {}: add items of your own (--suite)",
            short.join(", ")
        ),
    };
    wrapped(&format!(
        "With {questions} questions a family and protocol {unseen}. \
         For ± {wanted} ask {needed} items a family: --report-items {needed}{short}."
    ))
}

/// 40, or 24 to 40.
fn range(values: impl Iterator<Item = usize> + Clone) -> String {
    let (least, most) = (values.clone().min(), values.max());
    match (least.unwrap_or(0), most.unwrap_or(0)) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

/// Percent with their interval, in a column that says percent: 87 [71, 102].
fn bare_share(interval: Interval) -> String {
    share(interval).replacen(" %", "", 1)
}
