//! The keep set: the original indices of the layers that stay.

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The layers that stay, by original index from 0, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeepSet(Vec<usize>);

impl KeepSet {
    /// All of `n_layers` layers.
    pub fn all(n_layers: usize) -> Self {
        Self((0..n_layers).collect())
    }

    /// The layers that stay when `dropped` go.
    ///
    /// # Errors
    /// An index that is not a layer, the same layer twice, or nothing left.
    pub fn without(n_layers: usize, dropped: &[usize]) -> Result<Self> {
        let mut sorted = dropped.to_vec();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("layer {} is named twice", pair[0]);
        }
        if let Some(layer) = sorted.last().filter(|&&layer| layer >= n_layers) {
            bail!(
                "layer {layer} does not exist: the model has layers 0 to {}",
                n_layers.saturating_sub(1)
            );
        }
        ensure!(
            sorted.len() < n_layers,
            "all {n_layers} layers would go: keep at least one"
        );
        let kept = (0..n_layers).filter(|layer| sorted.binary_search(layer).is_err());
        Ok(Self(kept.collect()))
    }

    /// The kept layers, ascending.
    pub fn layers(&self) -> &[usize] {
        &self.0
    }

    /// How many layers stay.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing stays.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a layer stays.
    pub fn contains(&self, layer: usize) -> bool {
        self.0.binary_search(&layer).is_ok()
    }

    /// Where a kept layer stands in the result.
    pub fn new_index(&self, layer: usize) -> Option<usize> {
        self.0.binary_search(&layer).ok()
    }

    /// The same set without some layers.
    pub fn drop_layers(&self, gone: &[usize]) -> Self {
        let kept = self.0.iter().copied();
        Self(kept.filter(|layer| !gone.contains(layer)).collect())
    }

    /// The layers of `n_layers` that go.
    pub fn dropped(&self, n_layers: usize) -> Vec<usize> {
        (0..n_layers)
            .filter(|&layer| !self.contains(layer))
            .collect()
    }

    /// Checks a set that came from a file against a model.
    ///
    /// # Errors
    /// An empty or unsorted set, or an index that is not a layer.
    pub fn check(&self, n_layers: usize) -> Result<()> {
        ensure!(!self.is_empty(), "the keep set is empty");
        ensure!(
            self.0.windows(2).all(|pair| pair[0] < pair[1]),
            "the keep set is not in ascending order"
        );
        ensure!(
            self.0.iter().all(|&layer| layer < n_layers),
            "the keep set names layer {}, but the model has {n_layers} layers",
            self.0.last().copied().unwrap_or_default()
        );
        Ok(())
    }
}

impl fmt::Display for KeepSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ranges(&self.0))
    }
}

/// Ascending indices as people write them: `0-4,7,9-11`.
pub fn ranges(layers: &[usize]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = layers;
    while let Some(&first) = rest.first() {
        let run = (0..rest.len())
            .take_while(|&i| first.checked_add(i) == Some(rest[i]))
            .count();
        parts.push(match run {
            1 => first.to_string(),
            _ => format!("{first}-{}", rest[run - 1]),
        });
        rest = &rest[run..];
    }
    parts.join(",")
}

/// Reads `20-27,3` into indices.
///
/// # Errors
/// Anything that is not a number or an ascending range of numbers.
pub fn parse_ranges(text: &str) -> Result<Vec<usize>> {
    let number = |part: &str| -> Result<usize> {
        match part.trim().parse() {
            Ok(value) if value < 100_000 => Ok(value),
            _ => bail!("'{part}' is not a layer number (write layers as 20-27,3)"),
        }
    };
    let mut layers = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => layers.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                ensure!(first <= last, "'{part}' runs backwards");
                layers.extend(first..=last);
            }
        }
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written_as_people_write_them() {
        let layers = parse_ranges("3,20-23").unwrap();
        assert_eq!(layers, [3, 20, 21, 22, 23]);
        assert_eq!(ranges(&layers), "3,20-23");
        for wrong in ["", "a", "5-3", "1,,2", "-1", "99999999999999999999"] {
            assert!(parse_ranges(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn dropping_what_does_not_exist_or_everything_is_an_error() {
        assert!(KeepSet::without(4, &[4]).is_err());
        assert!(KeepSet::without(4, &[1, 1]).is_err());
        assert!(KeepSet::without(2, &[0, 1]).is_err());
        assert_eq!(KeepSet::without(4, &[1]).unwrap().layers(), [0, 2, 3]);
    }

    #[test]
    fn kept_layers_are_renumbered_without_gaps() {
        let keep = KeepSet::without(5, &[1, 3]).unwrap();
        assert_eq!(keep.new_index(4), Some(2));
        assert_eq!(keep.new_index(3), None);
        assert_eq!(keep.dropped(5), [1, 3]);
    }
}
