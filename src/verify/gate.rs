//! Rules that a result must pass.

use super::Comparison;
use crate::eval::stats::Interval;
use crate::suite::{Family, Protocol};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `FAMILY>=SHARE` or `FAMILY/PROTOCOL>=SHARE`: the least share that must be retained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The family.
    pub family: Family,
    /// The protocol; absent for all in which the original is above chance.
    pub protocol: Option<Protocol>,
    /// The least share.
    pub at_least: f64,
}

/// What became of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// The gate, as it is written.
    pub gate: String,
    /// Whether it was passed.
    pub passed: bool,
    /// What was retained.
    pub retained: Option<Interval>,
    /// Why it failed where nothing could be measured.
    pub reason: Option<String>,
}

impl FromStr for Gate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (what, share) = text.split_once(">=").with_context(|| {
            format!("'{text}' is no gate: write retrieval>=0.9 or retrieval/choice>=0.9")
        })?;
        let at_least: f64 = share
            .trim()
            .parse()
            .with_context(|| format!("'{}' is not a share", share.trim()))?;
        ensure!(
            (0.0..=2.0).contains(&at_least),
            "a gate's share lies between 0 and 2: 0.9 means 90 % of the original"
        );
        let (family, protocol) = match what.split_once('/') {
            None => (what, None),
            Some((family, protocol)) => (family, Some(protocol.trim().parse()?)),
        };
        Ok(Self {
            family: family.trim().parse()?,
            protocol,
            at_least,
        })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.family)?;
        if let Some(protocol) = self.protocol {
            write!(f, "/{protocol}")?;
        }
        write!(f, ">={}", self.at_least)
    }
}

impl Gate {
    /// Judges a comparison. What cannot be measured does not pass.
    pub fn judge(&self, comparison: &Comparison) -> GateResult {
        let retained = match self.protocol {
            None => comparison
                .families
                .iter()
                .find(|family| family.family == self.family)
                .and_then(|family| family.retained),
            Some(protocol) => comparison
                .cells
                .iter()
                .find(|cell| cell.family == self.family && cell.protocol == protocol)
                .filter(|cell| cell.above_chance)
                .and_then(|cell| cell.retained),
        };
        GateResult {
            gate: self.to_string(),
            passed: retained.is_some_and(|interval| interval.estimate >= self.at_least),
            retained,
            reason: match retained {
                Some(_) => None,
                None => Some("the original is not above chance here".to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_read_as_they_are_written() {
        for text in ["retrieval>=0.9", "language/choice>=0.75"] {
            assert_eq!(text.parse::<Gate>().unwrap().to_string(), text);
        }
        for wrong in [
            "retrieval",
            "retrieval>0.9",
            "cooking>=1",
            "retrieval>=x",
            "retrieval>=95",
        ] {
            assert!(wrong.parse::<Gate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gate_on_what_cannot_be_measured_fails_and_says_why() {
        let nothing = crate::verify::compare(&[], &[]);
        let result = "retrieval>=0.1".parse::<Gate>().unwrap().judge(&nothing);
        assert!(!result.passed);
        assert!(result.reason.is_some());
    }
}
