//! Rules that a result must pass.

use super::{Besides, Comparison, Measure, PerplexityChange};
use crate::checkpoint::ByteSize;
use crate::eval::Speed;
use crate::eval::stats::Interval;
use crate::suite::{Family, Protocol};
use anyhow::{Context, Error, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `retrieval>=0.9`, `knowledge/choice/tail>=0.8`, `language/repetition<=0.1`, `perplexity<=1.2`,
/// `speed>=1.3`, `size<=600MB`.
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
    /// The largest ratio to the original's perplexity.
    Perplexity(f64),
    /// The least ratio to the original's speed.
    Speed(Pace, f64),
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Generation,
    Prompt,
}

impl Pace {
    const ALL: [(&str, Self); 2] = [("speed", Self::Generation), ("prompt_speed", Self::Prompt)];

    fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(known, _)| *known == name).map(|(_, pace)| pace)
    }

    fn of(self, speed: Speed) -> f64 {
        match self {
            Self::Generation => speed.generation,
            Self::Prompt => speed.prompt,
        }
    }
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
     language/unterminated<=0.1, perplexity<=1.2, speed>=1.3, size<=0.8 or size<=600MB";

impl FromStr for Gate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("'{text}' is no gate: {EXAMPLES}");
        let rule = match (text.split_once(">="), text.split_once("<=")) {
            (Some((what, bound)), None) => at_least(what.trim(), bound.trim())?,
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

/// How often the original's number a number may be.
fn ratio(text: &str) -> Result<f64> {
    let ratio: f64 = text
        .parse()
        .with_context(|| format!("'{text}' is not a ratio"))?;
    ensure!(
        ratio > 0.0 && ratio.is_finite(),
        "a gate's ratio is above 0: 1.2 means 1.2 times the original's"
    );
    Ok(ratio)
}

/// Rules of which more is better.
fn at_least(what: &str, bound: &str) -> Result<Rule> {
    if let Some(pace) = Pace::named(what) {
        return Ok(Rule::Speed(pace, ratio(bound)?));
    }
    let at_least = share(bound)?;
    let mut parts = what.splitn(3, '/').map(str::trim);
    let family = parts.next().unwrap_or_default();
    ensure!(
        measure(what.rsplit('/').next().unwrap_or_default()).is_none()
            && !["perplexity", "size"].contains(&family),
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
    if what == "perplexity" {
        return Ok(Some(Rule::Perplexity(ratio(bound)?)));
    }
    ensure!(
        Pace::named(what).is_none(),
        "more of '{what}' is better: write >= instead of <="
    );
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
    /// Whether it needs the perplexity of a text.
    pub fn needs_perplexity(&self) -> bool {
        matches!(self.rule, Rule::Perplexity(_))
    }

    /// Whether it needs both models to be timed.
    pub fn needs_speed(&self) -> bool {
        matches!(self.rule, Rule::Speed(..))
    }

    /// Judges a comparison. What cannot be measured does not pass.
    pub fn judge(&self, comparison: &Comparison, besides: &Besides, by: By) -> GateResult {
        let bytes = besides.bytes;
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
                let share = bytes.pruned as f64 / bytes.original.max(1) as f64;
                (share <= *most, None, format!("{share:.3} of the original"))
            }
            Rule::Bytes(most) => {
                let found = format!("{:.1} MB", bytes.pruned as f64 / 1e6);
                (bytes.pruned <= *most, None, found)
            }
            Rule::Perplexity(most) => {
                let (passed, found) = judge_perplexity(besides.perplexity, *most, by);
                (passed, None, found)
            }
            Rule::Speed(pace, least) => {
                let (passed, found) = judge_speed(besides, *pace, *least);
                (passed, None, found)
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

fn judge_perplexity(change: Option<&PerplexityChange>, most: f64, by: By) -> (bool, String) {
    let Some(PerplexityChange { both, ratio, .. }) = change else {
        return (false, "no text was given".to_owned());
    };
    let found = format!(
        "{:.2} times the original's [{:.2}, {:.2}] ({:.2} → {:.2})",
        ratio.estimate, ratio.low, ratio.high, both.original.perplexity, both.pruned.perplexity
    );
    match by {
        By::Point => (ratio.estimate <= most, found),
        By::Interval if ratio.high <= most => (true, found),
        By::Interval if ratio.estimate > most => (false, found),
        By::Interval => (
            false,
            format!("{found}: not shown; give a longer text, or judge --gate-by point"),
        ),
    }
}

fn judge_speed(besides: &Besides, pace: Pace, least: f64) -> (bool, String) {
    let Some(speed) = besides.speed else {
        return (false, "nothing was timed".to_owned());
    };
    let (before, after) = (pace.of(speed.original), pace.of(speed.pruned));
    let ratio = after / before;
    let found = format!("{ratio:.2} times the original's ({before:.1} → {after:.1} tokens/s)");
    (ratio >= least, found)
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
    use crate::verify::Both;

    const SIZES: Besides = Besides {
        bytes: Both {
            original: 1000,
            pruned: 700,
        },
        perplexity: None,
        speed: None,
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
            "perplexity<=1.2",
            "speed>=1.3",
            "prompt_speed>=1.3",
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
            "perplexity>=1.2",
            "perplexity<=-1",
            "perplexity<=inf",
            "speed<=1.3",
            "speed>=0",
        ] {
            assert!(wrong.parse::<Gate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gate_on_what_cannot_be_measured_fails_and_says_why() {
        let nothing = crate::verify::compare(&[], &[]);
        for gate in [
            "retrieval>=0.1",
            "retrieval/choice>=0.1",
            "empty<=1",
            "perplexity<=9",
            "speed>=0.1",
        ] {
            let gate: Gate = gate.parse().unwrap();
            let result = gate.judge(&nothing, &SIZES, By::Interval);
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
    fn perplexity_and_speed_are_ratios_to_the_original() {
        let nothing = crate::verify::compare(&[], &[]);
        let losses = |by: f64| [1.0 + by, 2.0, 3.0 + by].to_vec();
        let measured = |by| crate::eval::Perplexity {
            perplexity: f64::exp(2.0 + 2.0 * by / 3.0),
            stderr: 0.0,
            ctx_size: 8,
            chunks: 3,
            scored: 9,
            losses: losses(by),
        };
        let change = PerplexityChange::of("t", measured(0.0), measured(0.3)).unwrap();
        let speed = |generation| Speed {
            prompt: 100.0,
            generation,
        };
        let besides = Besides {
            perplexity: Some(&change),
            speed: Some(Both {
                original: speed(10.0),
                pruned: speed(14.0),
            }),
            ..SIZES
        };
        let passes = |gate: &str, by| {
            let gate: Gate = gate.parse().unwrap();
            gate.judge(&nothing, &besides, by).passed
        };
        // exp(0.2) = 1.22, at most exp(0.3) = 1.35.
        assert!(passes("perplexity<=1.23", By::Point) && !passes("perplexity<=1.23", By::Interval));
        assert!(passes("perplexity<=1.36", By::Interval) && !passes("perplexity<=1.2", By::Point));
        assert!(passes("speed>=1.4", By::Interval) && !passes("speed>=1.41", By::Interval));
        assert!(passes("prompt_speed>=1", By::Interval) && !passes("prompt_speed>=1.1", By::Point));
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
            assert_eq!(gate.judge(&nothing, &SIZES, By::Interval).passed, passes);
        }
    }
}
