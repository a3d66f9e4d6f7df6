//! Sizes as people write them.

use anyhow::{Context, Error, Result, ensure};
use std::str::FromStr;

/// A number of bytes with its unit: 5GB, 500M, 1.5GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(u64);

/// The hub's words: with `i`, powers of 1024, without, of 1000. A B at the end changes nothing.
const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("k", 1000),
    ("m", 1000_u64.pow(2)),
    ("g", 1000_u64.pow(3)),
    ("t", 1000_u64.pow(4)),
    ("ki", 1024),
    ("mi", 1024_u64.pow(2)),
    ("gi", 1024_u64.pow(3)),
    ("ti", 1024_u64.pow(4)),
];

impl ByteSize {
    /// The number.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = || format!("'{text}' is no size: write it like 5GB, 500M or 300MiB");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default().to_lowercase();
        // A bare number is more often gigabytes than bytes.
        ensure!(!unit.is_empty(), "{}", wanted());
        let prefix = unit.strip_suffix('b').unwrap_or(&unit);
        let scale = UNITS.iter().find(|(name, _)| *name == prefix);
        let (_, scale) = scale.with_context(wanted)?;
        let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        let number: f64 = digits.parse().ok().filter(|_| plain).with_context(wanted)?;
        let bytes = number * *scale as f64;
        ensure!((1.0..1e18).contains(&bytes), "{}", wanted());
        Ok(Self(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn sizes_are_read_in_the_hubs_words() {
        for (text, bytes) in [
            ("5GB", 5_000_000_000),
            ("5g", 5_000_000_000),
            ("500M", 500_000_000),
            ("300MiB", 300 << 20),
            ("1.5GiB", 3 << 29),
            ("2tb", 2_000_000_000_000),
            ("64Ki", 65_536),
            ("7kB", 7000),
            ("123B", 123),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in [
            "",
            "5",
            "GB",
            "0GB",
            "-5GB",
            "5XB",
            "5 GB",
            "1e3M",
            "infB",
            "nanGB",
            "9e99TB",
            "5GBB",
            "99999999TB",
            "1.2.3G",
        ] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains("like 5GB"), "{text}: {error}");
        }
    }
}
