//! The verdict as Markdown: short enough for the summary of a pipeline's job.

use super::words::{megabytes, percent, points, probability, share};
use super::{Report, besides::besides, findings::findings};
use crate::verify::{Comparison, GateResult, HealthChange};
use std::fmt::Write;

/// The report, what broke silently first.
pub fn markdown(report: &Report) -> String {
    let (original, pruned) = (&report.original, &report.pruned);
    let verdict = match (report.gates.is_empty(), report.passed) {
        (true, _) => "measured, no gates",
        (false, true) => "passed",
        (false, false) => "FAILED",
    };
    let mut text = format!("## slim: {verdict}\n\n");
    let _ = writeln!(
        text,
        "`{}` ({} layers, {}) → `{}` ({} layers, {})\n",
        original.path,
        original.n_layers,
        megabytes(original.bytes),
        pruned.path,
        pruned.n_layers,
        megabytes(pruned.bytes)
    );
    for sentence in findings(report) {
        let _ = writeln!(text, "- {sentence}");
    }
    for (what, found) in besides(report) {
        let _ = writeln!(text, "- {what}: {found}");
    }
    text += &gates(&report.gates);
    text += &families(&report.comparison);
    text += &health(&report.comparison.health);
    if let Some(plan) = &report.plan {
        let _ = writeln!(text, "\nKept: {} (`{}`).", plan.keep, plan.method);
    }
    let _ = writeln!(
        text,
        "\nSuite {}, {} on {}, slim {}.",
        report.suite, report.dtype, report.device, report.slim
    );
    text
}

fn gates(gates: &[GateResult]) -> String {
    if gates.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n| gate | | |\n|---|---|---|\n");
    for gate in gates {
        let verdict = if gate.passed { "passed" } else { "**failed**" };
        let _ = writeln!(text, "| `{}` | {verdict} | {} |", gate.gate, gate.found);
    }
    text
}

/// Families with their protocols below them.
fn families(comparison: &Comparison) -> String {
    let mut text = String::from(
        "\n| | n | original | pruned | change, points [95 %] | p (Holm) | retained [95 %] |\n|---|---|---|---|---|---|---|\n",
    );
    for family in &comparison.families {
        let dash = || "not above chance".to_owned();
        let _ = writeln!(
            text,
            "| **{}** | | | | | | **{}** |",
            family.family,
            family.retained.map_or_else(dash, share)
        );
        let cells = comparison.cells.iter();
        for cell in cells.filter(|cell| cell.family == family.family) {
            let p = cell.p_holm.map(probability).unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {p} | {} |",
                cell.protocol,
                cell.n,
                percent(cell.original),
                percent(cell.pruned),
                points(cell.difference),
                cell.retained.map_or_else(dash, share)
            );
        }
    }
    text
}

fn health(changes: &[HealthChange]) -> String {
    let worse: Vec<String> = changes
        .iter()
        .filter(|change| change.worse)
        .map(|change| {
            format!(
                "{} {} {} → {}",
                change.family,
                change.measure.as_str(),
                percent(change.original),
                percent(change.pruned)
            )
        })
        .collect();
    match worse.is_empty() {
        true => String::new(),
        false => format!("\nGenerated text is clearly worse: {}.\n", worse.join("; ")),
    }
}
