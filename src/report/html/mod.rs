//! The report as one page that needs nothing else: no script, no network, light and dark.

mod parts;

use super::words::escaped;
use super::{Report, besides::besides, findings::findings, svg};
use crate::importance::Profile;
use crate::plan::Plan;
use parts::{figure, gates, size, texts, verdict_table};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// The page of a report, with the depth profiles that are given, drawn over each other, and the curve of
/// a plan, if the report's own has none.
pub fn html(report: &Report, profiles: &[Profile], measured: Option<&Plan>) -> String {
    let mut body = head(report);
    let mut section = |name: &str, content: String| add(&mut body, name, &content);
    section("Gates", gates(&report.gates));
    section("What the means hide", hidden(report));
    section(
        "What was retained",
        figure(&svg::retention(&report.comparison)) + &verdict_table(&report.comparison),
    );
    section("Besides", table(&besides(report)));
    section("What was cut", cut(report));
    let mut plans = report.plan.iter().chain(measured);
    let curve = plans.find(|plan| plan.curve.len() > 1);
    section(
        "Quality at every depth",
        curve.map_or(String::new(), |plan| figure(&svg::curve(plan))),
    );
    section(
        "What each layer is worth",
        depth(profiles, report.plan.as_ref()),
    );
    section("Before and after", texts(&report.texts));
    section("Provenance", provenance(report));
    page(&format!("slim: {}", report.pruned.path), &body)
}

/// A page of depth profiles alone.
pub fn profiles_page(profiles: &[Profile]) -> String {
    let names: Vec<&str> = profiles.iter().map(|profile| &*profile.model).collect();
    let title = format!("slim: {}", names.join(" and "));
    let mut body = format!("<h1>{}</h1>\n", escaped(&title));
    add(
        &mut body,
        "What each layer is worth",
        &depth(profiles, None),
    );
    page(&title, &body)
}

/// Profiles over each other, then the map of each.
fn depth(profiles: &[Profile], plan: Option<&Plan>) -> String {
    let Some(one) = profiles.first() else {
        return String::new();
    };
    let mut text = figure(&svg::profile(one, profiles.get(1)));
    for profile in profiles {
        // Only the original has the layers that were cut.
        let plan = plan.filter(|plan| plan.n_layers == profile.layers.len());
        text += &figure(&svg::heat(profile, plan.map(|plan| &plan.keep)));
    }
    text
}

fn add(body: &mut String, name: &str, content: &str) {
    if !content.is_empty() {
        let _ = write!(body, "<section><h2>{name}</h2>\n{content}</section>\n");
    }
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n",
        escaped(title)
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
