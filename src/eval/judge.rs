//! What an answer is worth: the harness's metrics of one item.

use super::engine::Likelihood;
use crate::suite::harness::Metric;
use crate::suite::{Answer, Ask, Check, Written};
use serde::{Deserialize, Serialize};

/// One metric's value for one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// `metric,filter` as the harness writes it: `acc,none`, `exact_match,strict-match`.
    pub metric: String,
    /// The value: 0 or 1, or a log-likelihood in nats.
    pub value: f64,
    /// Words or bytes that the value covers; 1 for a plain mean.
    pub weight: f64,
}

/// The index of the highest value; the first of equals.
pub(super) fn best(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, value) in values.enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}

/// Whether the likeliest option is a right one, or of a single text whether each of its tokens is
/// the likeliest.
pub(super) fn is_right(ask: &Ask, likelihoods: &[Likelihood]) -> bool {
    let right = ask.right();
    match right.is_empty() {
        true => likelihoods.iter().all(|likelihood| likelihood.greedy),
        false => right.contains(&best(likelihoods.iter().map(|l| l.log_prob))),
    }
}

/// The metrics of an item that was asked this way: the likelihoods of its options (of a long text,
/// of its windows), or `said`, the generated text up to the first stop string.
pub fn judge(ask: &Ask, likelihoods: &[Likelihood], said: Option<&str>) -> Vec<Measured> {
    let metrics = ask.metrics.iter();
    match (&ask.answer, said) {
        (Answer::Written(written), Some(said)) => metrics
            .flat_map(|metric| compared(metric, written, said))
            .collect(),
        _ => metrics
            .filter_map(|metric| likely(ask, metric, likelihoods))
            .collect(),
    }
}

fn likely(ask: &Ask, metric: &Metric, likelihoods: &[Likelihood]) -> Option<Measured> {
    let name = metric.kind.name;
    let sum: f64 = likelihoods.iter().map(|l| l.log_prob).sum();
    let (value, weight) = match (&ask.answer, name) {
        (Answer::Options { texts, right } | Answer::Inputs { texts, right, .. }, _) => {
            let length: fn(&str) -> usize = match name {
                "acc_norm" => |text| text.chars().count(),
                "acc_bytes" => str::len,
                _ => |_| 1,
            };
            let shares = likelihoods.iter().zip(texts);
            let chosen = best(shares.map(|(l, text)| l.log_prob / length(text) as f64));
            (f64::from(u8::from(right.contains(&chosen))), 1.0)
        }
        (Answer::Text(_), "acc") => (f64::from(u8::from(is_right(ask, likelihoods))), 1.0),
        (Answer::Text(_), _) => (sum, 1.0),
        (Answer::Passage { words, .. }, "word_perplexity") => (sum, *words as f64),
        (Answer::Passage { bytes, .. }, _) => (sum, *bytes as f64),
        (Answer::Written(_), _) => return None,
    };
    Some(Measured {
        metric: format!("{name},none"),
        value,
        weight,
    })
}

fn compared(metric: &Metric, written: &Written, said: &str) -> Vec<Measured> {
    let measured = |filter: &str, right: bool| Measured {
        metric: format!("{},{filter}", metric.kind.name),
        value: f64::from(u8::from(right)),
        weight: 1.0,
    };
    match &written.check {
        Check::Normalised => vec![measured("none", accepts(written, said))],
        Check::Filtered(pipelines) => pipelines
            .iter()
            .map(|pipeline| {
                let said = pipeline.apply(said);
                let mut targets = written.targets.iter();
                let right = targets.any(|target| metric.exact.equal(&said, target));
                measured(&pipeline.name, right)
            })
            .collect(),
    }
}

/// Whether generated text is right: equal, after normalising both, to one of the targets.
/// Normalising cuts at the first stop string, and drops surrounding space and quotes, closing
/// punctuation and case.
pub fn accepts(written: &Written, generated: &str) -> bool {
    let said = normalise(written.cut(generated));
    let mut targets = written.targets.iter();
    !said.is_empty() && targets.any(|target| normalise(target) == said)
}

const QUOTES: &[char] = &['"', '\'', '`', '“', '”', '‘', '’', '«', '»'];
const CLOSING: &[char] = &['.', ',', ';', '!', '?'];

fn normalise(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || QUOTES.contains(&c) || CLOSING.contains(&c);
    let starts = |c: char| c.is_whitespace() || QUOTES.contains(&c);
    text.trim_end_matches(ends)
        .trim_start_matches(starts)
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_text_is_compared_without_case_quotes_and_closing_punctuation() {
        let written = Written {
            sampling: None,
            targets: vec!["Paris".into(), "the City of Light".into()],
            until: vec!["\n".into()],
            max_tokens: 12,
            check: Check::Normalised,
        };
        for right in [" Paris", " paris.\nThe", "“Paris”,", " The city of light!"] {
            assert!(accepts(&written, right), "{right}");
        }
        for wrong in [
            "",
            "\nParis",
            " Parisian",
            " Rome",
            " Paris and Rome",
            "...",
        ] {
            assert!(!accepts(&written, wrong), "{wrong}");
        }
    }
}
