//! Tables of the page.

use crate::report::ModelFile;
use crate::report::words::{escaped, megabytes, percent, points, probability, share};
use crate::verify::{Comparison, GateResult, TextPair};
use std::fmt::Write;

/// A picture that is scrolled where it is wider than the page.
pub(super) fn figure(svg: &str) -> String {
    format!("<div class=\"wide\">{svg}</div>\n")
}

pub(super) fn size(original: &ModelFile, pruned: &ModelFile) -> String {
    let share = pruned.bytes as f64 / original.bytes.max(1) as f64;
    let figures = [
        (
            "layers",
            format!("{} → {}", original.n_layers, pruned.n_layers),
        ),
        (
            "size",
            format!(
                "{} → {}",
                megabytes(original.bytes),
                megabytes(pruned.bytes)
            ),
        ),
        ("of the original's bytes", percent(share)),
    ];
    let figures: String = figures
        .iter()
        .map(|(name, value)| format!("<div><b>{value}</b><span class=\"soft\">{name}</span></div>"))
        .collect();
    format!("<div class=\"figures\">{figures}</div>\n")
}

pub(super) fn gates(gates: &[GateResult]) -> String {
    if gates.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for gate in gates {
        let (class, verdict) = match gate.passed {
            true => ("good", "passed"),
            false => ("bad", "failed"),
        };
        let _ = writeln!(
            rows,
            "<tr><td><code>{}</code></td><td class=\"{class}\">{verdict}</td><td>{}</td></tr>",
            escaped(&gate.gate),
            escaped(&gate.found)
        );
    }
    format!("<div class=\"wide\"><table>\n{rows}</table></div>\n")
}

pub(super) fn verdict_table(comparison: &Comparison) -> String {
    let mut rows = String::new();
    for cell in &comparison.cells {
        let retained = match cell.retained.filter(|_| cell.above_chance) {
            Some(retained) => share(retained),
            None => "not above chance".to_owned(),
        };
        let numbers = [
            cell.n.to_string(),
            percent(cell.chance),
            percent(cell.original),
            percent(cell.pruned),
            points(cell.difference),
            cell.p_holm.map(probability).unwrap_or_default(),
            retained,
        ];
        let numbers: String = numbers
            .iter()
            .map(|number| format!("<td class=\"n\">{number}</td>"))
            .collect();
        let (family, protocol) = (cell.family, cell.protocol);
        let _ = writeln!(
            rows,
            "<tr><td>{family}</td><td>{protocol}</td>{numbers}</tr>"
        );
    }
    format!(
        "<div class=\"wide\"><table>\n<tr><th>family</th><th>protocol</th><th class=\"n\">n</th>\
         <th class=\"n\">chance</th><th class=\"n\">original</th><th class=\"n\">pruned</th>\
         <th class=\"n\">change, points [95 %]</th><th class=\"n\">p (Holm)</th>\
         <th class=\"n\">retained [95 %]</th></tr>\n{rows}</table></div>\n"
    )
}

pub(super) fn texts(pairs: &[TextPair]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let said = |text: &str, right: bool| {
        let class = if right { "good" } else { "bad" };
        format!("<td class=\"{class}\">{}</td>", escaped(text))
    };
    let mut rows = String::new();
    for pair in pairs {
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td>{}{}</tr>",
            pair.family,
            escaped(&pair.prompt),
            escaped(&pair.right),
            said(&pair.original, pair.original_right),
            said(&pair.pruned, pair.pruned_right)
        );
    }
    format!(
        "<p class=\"soft\">Right before and wrong now first, then what changed.</p>\n\
         <div class=\"wide\"><table class=\"texts\">\n<tr><th>family</th><th>end of the prompt</th>\
         <th>right</th><th>original</th><th>pruned</th></tr>\n{rows}</table></div>\n"
    )
}
