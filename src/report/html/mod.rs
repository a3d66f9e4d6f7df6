//! The report as one page that needs nothing else: no script, no network, light and dark.

mod parts;

use super::words::escaped;
use super::{Report, besides::besides, findings::findings, svg};
use crate::importance::Profile;
use parts::{figure, gates, size, texts, verdict_table};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// The page of a report, with the depth profiles that are given, drawn over each other.
pub fn html(report: &Report, profiles: &[Profile]) -> String {
    let title = format!("slim: {}", report.pruned.path);
    let mut body = head(report);
    let mut section = |name: &str, content: String| {
        if !content.is_empty() {
            let _ = write!(body, "<section><h2>{name}</h2>\n{content}</section>\n");
        }
    };
    section("Gates", gates(&report.gates));
    section("What the means hide", hidden(report));
    section(
        "What was retained",
        figure(&svg::retention(&report.comparison)) + &verdict_table(&report.comparison),
    );
    section("Besides", table(&besides(report)));
    section("What was cut", cut(report));
    let curve = report.plan.as_ref().filter(|plan| plan.curve.len() > 1);
    section(
        "Quality at every depth",
        curve.map_or(String::new(), |plan| figure(&svg::curve(plan))),
    );
    section(
        "What each layer is worth",
        match profiles {
            [] => String::new(),
            [one] => figure(&svg::profile(one, None)),
            [one, other, ..] => figure(&svg::profile(one, Some(other))),
        },
    );
    section("Before and after", texts(&report.texts));
    section("Provenance", provenance(report));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n",
        escaped(&title)
    )
}

fn head(report: &Report) -> String {
    let (class, verdict) = match (report.gates.is_empty(), report.passed) {
        (true, _) => ("soft", "measured, no gates"),
        (false, true) => ("good", "passed"),
        (false, false) => ("bad", "failed"),
    };
    format!(
        "<h1>{} <span class=\"badge {class}\">{verdict}</span></h1>\n\
         <p class=\"soft\">pruned of {}</p>\n{}",
        escaped(&report.pruned.path),
        escaped(&report.original.path),
        size(&report.original, &report.pruned)
    )
}

fn hidden(report: &Report) -> String {
    let sentences = findings(report);
    let items: String = sentences
        .iter()
        .map(|sentence| format!("<li>{}</li>\n", escaped(sentence)))
        .collect();
    match items.is_empty() {
        true => items,
        false => format!("<ul>\n{items}</ul>\n"),
    }
}

fn cut(report: &Report) -> String {
    let Some(plan) = &report.plan else {
        return String::new();
    };
    let mut text = figure(&svg::strip(&plan.keep, plan.n_layers));
    let _ = writeln!(
        text,
        "<p>Kept: <code>{}</code>, chosen by <code>{}</code>.</p>",
        escaped(&plan.keep.to_string()),
        escaped(&plan.method)
    );
    if let Some(why) = &plan.why {
        let _ = writeln!(text, "<p>{}</p>", escaped(why));
    }
    text
}

fn provenance(report: &Report) -> String {
    let rows = [
        ("original", &report.original.path),
        ("SHA-256", &report.original.sha256),
        ("pruned", &report.pruned.path),
        ("SHA-256", &report.pruned.sha256),
        ("suite", &report.suite),
        ("device", &report.device),
        ("computed in", &report.dtype),
        ("slim", &report.slim),
    ];
    table(&rows.map(|(name, value)| (name.to_owned(), value.clone())))
}

/// Names and values.
fn table(rows: &[(String, String)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |(name, value): &(String, String)| {
        let (name, value) = (escaped(name), escaped(value));
        format!("<tr><th>{name}</th><td><code>{value}</code></td></tr>\n")
    };
    let rows: String = rows.iter().map(row).collect();
    format!("<div class=\"wide\"><table>\n{rows}</table></div>\n")
}
