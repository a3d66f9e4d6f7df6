//! Metrics by the harness's names, and how each is averaged.

use super::definition::Output;
use super::fields::Fields;
use super::regex::PythonRegex;
use super::yaml::{Fault, Node};
use crate::suite::Protocol;
use std::sync::Arc;

/// How the items' values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// The arithmetic mean.
    Mean,
    /// exp(−mean).
    Perplexity,
    /// exp(−Σ value / Σ weight).
    WeightedPerplexity,
    /// −Σ value / Σ weight / ln 2.
    BitsPerByte,
}

/// A metric's name and nature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The harness's name.
    pub name: &'static str,
    /// How it is averaged.
    pub aggregation: Aggregation,
    /// Which way is up.
    pub higher_is_better: bool,
    outputs: &'static [Output],
}

const CHOICE: &[Output] = &[Output::MultipleChoice];
const ROLLING: &[Output] = &[Output::Rolling];

const fn kind(
    name: &'static str,
    aggregation: Aggregation,
    higher_is_better: bool,
    outputs: &'static [Output],
) -> Kind {
    Kind {
        name,
        aggregation,
        higher_is_better,
        outputs,
    }
}

const KINDS: &[Kind] = &[
    kind(
        "acc",
        Aggregation::Mean,
        true,
        &[Output::MultipleChoice, Output::Loglikelihood],
    ),
    kind("acc_norm", Aggregation::Mean, true, CHOICE),
    kind("acc_bytes", Aggregation::Mean, true, CHOICE),
    kind(
        "exact_match",
        Aggregation::Mean,
        true,
        &[Output::GenerateUntil],
    ),
    kind(
        "perplexity",
        Aggregation::Perplexity,
        false,
        &[Output::Loglikelihood],
    ),
    kind(
        "word_perplexity",
        Aggregation::WeightedPerplexity,
        false,
        ROLLING,
    ),
    kind(
        "byte_perplexity",
        Aggregation::WeightedPerplexity,
        false,
        ROLLING,
    ),
    kind("bits_per_byte", Aggregation::BitsPerByte, false, ROLLING),
];

/// The metric of a name, if there is one.
pub fn named(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// A metric with its settings.
#[derive(Debug, Clone)]
pub struct Metric {
    /// What it is.
    pub kind: &'static Kind,
    /// How texts are compared, where they are.
    pub exact: Exact,
}

impl Metric {
    /// What is measured of an item that a sheet asks: accuracy, or an exact match.
    pub(in crate::suite) fn main_of(protocol: Protocol) -> Arc<[Metric]> {
        let name = match protocol {
            Protocol::Generate => "exact_match",
            _ => "acc",
        };
        let of_name = KINDS.iter().filter(|kind| kind.name == name);
        of_name
            .map(|kind| Metric {
                kind,
                exact: Exact::default(),
            })
            .collect()
    }
}

/// `exact_match`: what is taken off both texts before they are compared.
#[derive(Debug, Clone, Default)]
pub struct Exact {
    ignore: Vec<PythonRegex>,
    ignore_case: bool,
    ignore_punctuation: bool,
    ignore_numbers: bool,
}

impl Exact {
    /// Whether the texts are equal after that.
    pub fn equal(&self, said: &str, target: &str) -> bool {
        self.bare(said) == self.bare(target)
    }

    fn bare(&self, text: &str) -> String {
        let without = |text: String, pattern: &PythonRegex| {
            // A pattern that cannot decide takes nothing off.
            pattern.replace_all(&text, "").unwrap_or(text)
        };
        let mut text = self.ignore.iter().fold(text.to_owned(), without);
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        text
    }
}

/// The field `metric_list`, or what the harness measures without it.
pub(super) fn read(fields: &mut Fields, output: Output) -> Result<Vec<Metric>, Fault> {
    let path = fields.path("metric_list");
    let Some(nodes) = fields.list("metric_list")? else {
        let of_output = KINDS.iter().filter(|kind| kind.outputs.contains(&output));
        let default = of_output.filter(|kind| kind.name != "acc_bytes");
        return Ok(default
            .map(|kind| Metric {
                kind,
                exact: Exact::default(),
            })
            .collect());
    };
    let metric = |(i, node)| metric(node, &format!("{path}[{i}]"), output);
    nodes.into_iter().enumerate().map(metric).collect()
}

fn metric(node: Node, path: &str, output: Output) -> Result<Metric, Fault> {
    let mut fields = Fields::of(node, path)?;
    let of_output: Vec<_> = KINDS
        .iter()
        .filter(|k| k.outputs.contains(&output))
        .collect();
    let words: Vec<_> = of_output.iter().map(|kind| (kind.name, *kind)).collect();
    let Some(kind) = fields.word("metric", &words)? else {
        return Err(fields.fault(fields.line, "metric", "is missing: name the metric"));
    };
    let patterns = fields.texts("regexes_to_ignore")?.unwrap_or_default();
    let pattern = |(line, pattern): (usize, String)| {
        PythonRegex::new(&pattern).map_err(|e| fields.fault(line, "regexes_to_ignore", e))
    };
    let ignore = patterns
        .into_iter()
        .map(pattern)
        .collect::<Result<_, _>>()?;
    let exact = Exact {
        ignore,
        ignore_case: fields.bool("ignore_case")?.unwrap_or(false),
        ignore_punctuation: fields.bool("ignore_punctuation")?.unwrap_or(false),
        ignore_numbers: fields.bool("ignore_numbers")?.unwrap_or(false),
    };
    if let Some((line, given)) = fields.text("aggregation")? {
        let own = match kind.aggregation {
            Aggregation::Mean => "mean",
            Aggregation::Perplexity => "perplexity",
            Aggregation::WeightedPerplexity => "weighted_perplexity",
            Aggregation::BitsPerByte => "bits_per_byte",
        };
        if given != own {
            let problem = format!("is {given:?}, but {} is averaged by {own}", kind.name);
            return Err(fields.fault(line, "aggregation", problem));
        }
    }
    fields.skip(&["higher_is_better", "hf_evaluate"]);
    fields.end()?;
    Ok(Metric { kind, exact })
}
