//! The tasks' results as the table that lm-evaluation-harness prints.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::{Map, Value};

const COLUMNS: [&str; 8] = [
    "Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "Stderr",
];

/// A Markdown table of `results`, `versions` and `n-shot`; see
/// [`crate::eval::harness_results`].
pub fn table(harness: &Map<String, Value>) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(COLUMNS);
    let part = |name: &str| harness.get(name).and_then(Value::as_object);
    for (task, result) in part("results").into_iter().flatten() {
        let of_task = |name: &str| match part(name).and_then(|rows| rows.get(task)) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        let mut first = true;
        for (key, value) in result.as_object().into_iter().flatten() {
            let Some((metric, filter)) = key.split_once(',') else {
                continue;
            };
            if metric.ends_with("_stderr") {
                continue;
            }
            let stderr = result.get(format!("{metric}_stderr,{filter}"));
            let up = part("higher_is_better").and_then(|rows| rows.get(task)?.get(metric));
            table.add_row([
                if first { task.clone() } else { String::new() },
                if first {
                    of_task("versions")
                } else {
                    String::new()
                },
                filter.to_owned(),
                of_task("n-shot"),
                metric.to_owned(),
                match up.and_then(Value::as_bool) {
                    Some(false) => "↓".to_owned(),
                    _ => "↑".to_owned(),
                },
                number(value),
                stderr.map_or(String::new(), |stderr| format!("± {}", number(stderr))),
            ]);
            first = false;
        }
    }
    for column in table.column_iter_mut().skip(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) => format!("{number:.4}"),
        None => value.as_str().unwrap_or_default().to_owned(),
    }
}
