//! The tasks' results as the table that lm-evaluation-harness prints.

use super::Evaluation;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::Value;

const COLUMNS: [&str; 8] = [
    "Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "Stderr",
];

/// A Markdown table of `results`, `versions` and `n-shot`.
pub fn table(evaluation: &Evaluation) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(COLUMNS);
    for (task, result) in evaluation.results.as_object().into_iter().flatten() {
        let of_task = |part: &Value| match part.get(task) {
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
            let up = evaluation
                .higher_is_better
                .get(task)
                .and_then(|row| row.get(metric));
            table.add_row([
                if first { task.clone() } else { String::new() },
                if first {
                    of_task(&evaluation.versions)
                } else {
                    String::new()
                },
                filter.to_owned(),
                of_task(&evaluation.n_shot),
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
