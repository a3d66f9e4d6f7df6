//! Rules that a result must pass.

use super::{Comparison, Measure};
use crate::checkpoint::ByteSize;
use crate::eval::stats::Interval;
use crate::suite::{Family, Protocol};
use anyhow::{Context, Error, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `retrieval>=0.9`, `knowledge/choice/tail>=0.8`, `language/repetition<=0.1`, `size<=600MB`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    text: String,
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    /// The least share that must be retained.
    Retained {
        family: Family,
        /// Absent for all in which the original is above chance.
        protocol: Option<Protocol>,
        slice: Option<String>,
        at_least: f64,
    },
    /// The most of something bad in the pruned model's texts.
    Health {
        /// Absent, every family.
        family: Option<Family>,
        measure: Measure,
        at_most: f64,
    },
    /// The largest share of the original's bytes.
    Share(f64),
    /// The most bytes.
    Bytes(u64),
}

/// What a share that was measured on some items must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The whole 95 % interval lies at or above the bound: it is shown that no more was lost.
    #[default]
    Interval,
    /// The estimate does: as likely wrong as right where the truth lies at the bound.
    Point,
}

/// What a comparison is judged with, besides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// Bytes of the original's tensors.
    pub original: u64,
    /// Of the pruned model's.
    pub pruned: u64,
}

/// What became of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// The gate, as it is written.
    pub gate: String,
    /// Whether it was passed.
    pub passed: bool,
    /// The share that was retained, where the gate is about one.
    pub retained: Option<Interval>,
    /// What was found, for people.
    pub found: String,
}

const EXAMPLES: &str = "write retrieval>=0.9, retrieval/choice>=0.9, knowledge/choice/tail>=0.8, repetition<=0.1, \
     language/unterminated<=0.1, size<=0.8 or size<=600MB";

impl FromStr for Gate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("'{text}' is no gate: {EXAMPLES}");
        let rule = match (text.split_once(">="), text.split_once("<=")) {
            (Some((what, bound)), None) => retained(what.trim(), bound.trim())?,
            (None, Some((what, bound))) => {
                at_most(what.trim(), bound.trim())?.with_context(wrong)?
            }
            _ => bail!("{}", wrong()),
        };
        Ok(Self {
            text: text.to_owned(),
            rule,
        })
    }
}

fn share(text: &str) -> Result<f64> {
    let share: f64 = text
        .parse()
        .with_context(|| format!("'{text}' is not a share"))?;
    ensure!(
        (0.0..=2.0).contains(&share),
        "a gate's share lies between 0 and 2: 0.9 means 90 % of the original"
    );
    Ok(share)
}

fn retained(what: &str, bound: &str) -> Result<Rule> {
    let at_least = share(bound)?;
    let mut parts = what.splitn(3, '/').map(str::trim);
    let family = parts.next().unwrap_or_default();
    ensure!(
        measure(what.rsplit('/').next().unwrap_or_default()).is_none() && family != "size",
        "less of '{what}' is better: write <= instead of >="
    );
    Ok(Rule::Retained {
        family: family.parse()?,
        protocol: parts.next().map(str::parse).transpose()?,
        slice: parts.next().map(str::to_owned),
        at_least,
    })
}

fn measure(name: &str) -> Option<Measure> {
    let mut all = Measure::ALL.into_iter();
    all.find(|measure| measure.as_str() == name.trim())
}

/// Rules of which less is better; `None` for anything else.
fn at_most(what: &str, bound: &str) -> Result<Option<Rule>> {
    if what == "size" {
        return Ok(Some(match bound.ends_with(|c: char| c.is_ascii_digit()) {
            true => Rule::Share(share(bound)?),
            false => Rule::Bytes(bound.parse::<ByteSize>()?.bytes()),
        }));
    }
    let (family, name) = match what.split_once('/') {
        None => (None, what),
        Some((family, name)) => (Some(family.trim().parse()?), name),
    };
    let Some(measure) = measure(name) else {
        return Ok(None);
    };
    let at_most = share(bound)?;
    Ok(Some(Rule::Health {
        family,
        measure,
        at_most,
    }))
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Gate {
    /// Judges a comparison. What cannot be measured does not pass.
    pub fn judge(&self, comparison: &Comparison, sizes: Sizes, by: By) -> GateResult {
        let (passed, retained, found) = match &self.rule {
            Rule::Retained {
                family,
                protocol,
                slice,
                at_least,
            } => {
                let retained = share_of(comparison, *family, *protocol, slice.as_deref());
                let (passed, found) = match retained {
                    Ok(retained) => judge_share(retained, *at_least, by),
                    Err(reason) => (false, reason.to_owned()),
                };
                (passed, retained.ok(), found)
            }
            Rule::Health {
                family,
                measure,
                at_most,
            } => {
                let (passed, found) = judge_health(comparison, *family, *measure, *at_most);
                (passed, None, found)
            }
            Rule::Share(most) => {
                let share = sizes.pruned as f64 / sizes.original.max(1) as f64;
                (share <= *most, None, format!("{share:.3} of the original"))
            }
            Rule::Bytes(most) => {
                let found = format!("{:.1} MB", sizes.pruned as f64 / 1e6);
                (sizes.pruned <= *most, None, found)
            }
        };
        GateResult {
            gate: self.text.clone(),
            passed,
            retained,
            found,
        }
    }
}

fn share_of(
    comparison: &Comparison,
    family: Family,
    protocol: Option<Protocol>,
    slice: Option<&str>,
) -> Result<Interval, &'static str> {
    const AT_CHANCE: &str = "the original is not above chance here";
    let Some(protocol) = protocol else {
        let mut families = comparison.families.iter();
        let found = families.find(|found| found.family == family);
        return found.and_then(|found| found.retained).ok_or(AT_CHANCE);
    };
    let cells = match slice {
        None => &comparison.cells,
        Some(_) => &comparison.slices,
    };
    let found = cells.iter().find(|cell| {
        (cell.family, cell.protocol, cell.slice.as_deref()) == (family, protocol, slice)
    });
    let found = found.ok_or("nothing of this was asked")?;
    let above = Some(found).filter(|cell| cell.above_chance);
    above.and_then(|cell| cell.retained).ok_or(AT_CHANCE)
}

fn judge_share(retained: Interval, at_least: f64, by: By) -> (bool, String) {
    let percent = |share: f64| (100.0 * share).round() + 0.0;
    let [estimate, low, high] = [retained.estimate, retained.low, retained.high].map(percent);
    let found = format!("retained {estimate:.0} % [{low:.0}, {high:.0}]");
    match by {
        By::Point => (retained.estimate >= at_least, found),
        By::Interval if retained.low >= at_least => (true, found),
        By::Interval if retained.estimate < at_least => (false, found),
        By::Interval => (
            false,
            format!(
                "{found}: not shown; ask more items (--report-items), or judge --gate-by point"
            ),
        ),
    }
}

fn judge_health(
    comparison: &Comparison,
    family: Option<Family>,
    measure: Measure,
    at_most: f64,
) -> (bool, String) {
    let changes = comparison.health.iter();
    let of = changes.filter(|change| {
        change.measure == measure && family.is_none_or(|family| family == change.family)
    });
    let worst = of.max_by(|a, b| a.pruned.total_cmp(&b.pruned));
    match worst {
        None => (false, "no text was generated".to_owned()),
        Some(worst) => (
            worst.pruned <= at_most,
            format!(
                "{} {:.2}, the original {:.2}",
                worst.family, worst.pruned, worst.original
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_SIZES: Sizes = Sizes {
        original: 1000,
        pruned: 700,
    };

    #[test]
    fn gates_read_as_they_are_written() {
        for text in [
            "retrieval>=0.9",
            "language/choice>=0.75",
            "knowledge/choice/tail>=0.8",
            "repetition<=0.1",
            "language/empty<=0",
            "size<=0.8",
            "size<=600MB",
        ] {
            assert_eq!(text.parse::<Gate>().unwrap().to_string(), text);
        }
        for wrong in [
            "retrieval",
            "retrieval>0.9",
            "retrieval<=0.9",
            "cooking>=1",
            "retrieval>=x",
            "retrieval>=95",
            "size>=0.5",
            "size<=some",
            "repetition>=0.1",
            "cooking/empty<=0",
        ] {
            assert!(wrong.parse::<Gate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gate_on_what_cannot_be_measured_fails_and_says_why() {
        let nothing = crate::verify::compare(&[], &[]);
        for gate in ["retrieval>=0.1", "retrieval/choice>=0.1", "empty<=1"] {
            let gate: Gate = gate.parse().unwrap();
            let result = gate.judge(&nothing, NO_SIZES, By::Interval);
            assert!(!result.passed && !result.found.is_empty());
        }
    }

    #[test]
    fn a_share_must_be_shown_by_its_whole_interval_unless_the_estimate_is_to_do() {
        let retained = |estimate, low| Interval {
            estimate,
            low,
            high: 1.2,
        };
        let judged = |estimate, low, by| judge_share(retained(estimate, low), 0.9, by).0;
        assert!(judged(0.97, 0.91, By::Interval));
        assert!(!judged(0.97, 0.85, By::Interval) && judged(0.97, 0.85, By::Point));
        assert!(!judged(0.85, 0.6, By::Interval) && !judged(0.85, 0.6, By::Point));
        let (_, found) = judge_share(retained(0.97, 0.85), 0.9, By::Interval);
        assert!(found.contains("--report-items"), "{found}");
    }

    #[test]
    fn a_size_is_a_share_of_the_original_or_a_number_of_bytes() {
        let nothing = crate::verify::compare(&[], &[]);
        for (gate, passes) in [
            ("size<=0.7", true),
            ("size<=0.69", false),
            ("size<=700B", true),
            ("size<=0.6kB", false),
        ] {
            let gate: Gate = gate.parse().unwrap();
            assert_eq!(gate.judge(&nothing, NO_SIZES, By::Interval).passed, passes);
        }
    }
}
