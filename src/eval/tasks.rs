//! A task's results in lm-evaluation-harness's words.

use super::judge::Measured;
use super::outcome::Outcome;
use super::stats;
use crate::suite::harness::{Aggregation, metric_named};
use crate::suite::{Protocol, Suite, Task};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Parts of the harness's results file, each an object with a row a task.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the harness's own names")]
pub struct HarnessResults {
    pub results: Value,
    pub configs: Value,
    pub versions: Value,
    pub n_shot: Value,
    pub higher_is_better: Value,
    pub n_samples: Value,
}

/// Sums up outcomes in the harness's words. A task that is asked under several protocols has a row for each, `TASK/PROTOCOL`.
pub fn harness_results(suite: &Suite, outcomes: &[Outcome]) -> HarnessResults {
    let mut rows: BTreeMap<(&str, Protocol), Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        let key = (outcome.task.as_str(), outcome.protocol);
        rows.entry(key).or_default().push(outcome);
    }
    let mut parts: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for ((name, protocol), outcomes) in &rows {
        let Some(task) = suite.tasks.iter().find(|task| task.name == *name) else {
            continue;
        };
        let row = match rows.keys().filter(|(other, _)| other == name).count() {
            1 => task.name.clone(),
            _ => format!("{name}/{protocol}"),
        };
        for (part, value) in parts_of(task, &row, outcomes) {
            parts.entry(part).or_default().insert(row.clone(), value);
        }
    }
    let mut part = |name: &str| Value::from(parts.remove(name).unwrap_or_default());
    HarnessResults {
        results: part("results"),
        configs: part("configs"),
        versions: part("versions"),
        n_shot: part("n-shot"),
        higher_is_better: part("higher_is_better"),
        n_samples: part("n-samples"),
    }
}

fn parts_of(task: &Task, row: &str, outcomes: &[&Outcome]) -> [(&'static str, Value); 6] {
    let metrics = metrics(outcomes);
    let mut result = Map::from_iter([("alias".to_owned(), json!(row))]);
    let mut better = Map::new();
    for (name, measured) in &metrics {
        let (metric, filter) = name.split_once(',').unwrap_or((name, "none"));
        let (value, stderr) = aggregate(metric, measured);
        result.insert(name.to_string(), json!(value));
        let stderr = stderr.map_or(json!("N/A"), |stderr| json!(stderr));
        result.insert(format!("{metric}_stderr,{filter}"), stderr);
        let up = metric_named(metric).is_none_or(|kind| kind.higher_is_better);
        better.insert(metric.to_owned(), json!(up));
    }
    let config = json!({
        "task": task.name,
        "dataset_path": task.terms.dataset,
        "output_type": task.terms.output_type,
        "num_fewshot": task.terms.n_shot,
        "metadata": {"version": task.terms.version, "family": task.family},
    });
    [
        ("results", result.into()),
        ("configs", config),
        ("versions", json!(task.terms.version)),
        ("n-shot", json!(task.terms.n_shot)),
        ("higher_is_better", better.into()),
        (
            "n-samples",
            json!({"original": task.items.len(), "effective": outcomes.len()}),
        ),
    ]
}

/// Values by metric, in the order in which the task measures them.
fn metrics<'o>(outcomes: &[&'o Outcome]) -> Vec<(&'o str, Vec<&'o Measured>)> {
    let mut metrics: Vec<(&str, Vec<&Measured>)> = Vec::new();
    for measured in outcomes.iter().flat_map(|outcome| &outcome.metrics) {
        match metrics
            .iter_mut()
            .find(|(name, _)| *name == measured.metric)
        {
            Some((_, values)) => values.push(measured),
            None => metrics.push((&measured.metric, vec![measured])),
        }
    }
    metrics
}

/// A metric over all items, and its standard error where it is a mean.
fn aggregate(metric: &str, measured: &[&Measured]) -> (f64, Option<f64>) {
    let values: Vec<f64> = measured.iter().map(|m| m.value).collect();
    let (mean, se) = stats::mean_se(&values);
    let weights: f64 = measured.iter().map(|m| m.weight).sum();
    let share = values.iter().sum::<f64>() / weights;
    match metric_named(metric).map(|kind| kind.aggregation) {
        Some(Aggregation::Perplexity) => ((-mean).exp(), None),
        Some(Aggregation::WeightedPerplexity) => ((-share).exp(), None),
        Some(Aggregation::BitsPerByte) => (-share / std::f64::consts::LN_2, None),
        _ => (mean, Some(se)),
    }
}
