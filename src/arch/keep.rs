//! The keep set: the original indices of the layers that stay.

use super::half::{Half, Part};
use super::ranges::ranges;
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The layers that stay, by original index from 0, ascending, and of which of them only a half does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Vec<Part>", into = "Vec<Part>")]
pub struct KeepSet {
    layers: Vec<usize>,
    /// By layer, ascending.
    halves: Vec<(usize, Half)>,
}

impl From<Vec<usize>> for KeepSet {
    fn from(layers: Vec<usize>) -> Self {
        Self {
            layers,
            halves: Vec::new(),
        }
    }
}

impl From<Vec<Part>> for KeepSet {
    fn from(kept: Vec<Part>) -> Self {
        let half = |part: &Part| Some((part.layer, part.half?));
        Self {
            layers: kept.iter().map(|part| part.layer).collect(),
            halves: kept.iter().filter_map(half).collect(),
        }
    }
}

impl From<KeepSet> for Vec<Part> {
    fn from(keep: KeepSet) -> Self {
        keep.kept().collect()
    }
}

impl KeepSet {
    /// All of `n_layers` layers.
    pub fn all(n_layers: usize) -> Self {
        (0..n_layers).collect::<Vec<_>>().into()
    }

    /// The layers that stay when `dropped` go.
    ///
    /// # Errors
    /// An index that is not a layer, the same layer twice, or nothing left.
    pub fn without(n_layers: usize, dropped: &[usize]) -> Result<Self> {
        let sorted = check_named(n_layers, dropped)?;
        ensure!(
            sorted.len() < n_layers,
            "all {n_layers} layers would go: keep at least one"
        );
        let kept = (0..n_layers).filter(|layer| sorted.binary_search(layer).is_err());
        Ok(kept.collect::<Vec<_>>().into())
    }

    /// What stays when layers and halves of layers go.
    ///
    /// # Errors
    /// As of [`Self::without`]; a layer is named twice if both its halves are.
    pub fn without_parts(n_layers: usize, dropped: &[Part]) -> Result<Self> {
        let named: Vec<usize> = dropped.iter().map(|part| part.layer).collect();
        check_named(n_layers, &named)?;
        let whole = dropped.iter().filter(|part| part.half.is_none());
        let whole: Vec<usize> = whole.map(|part| part.layer).collect();
        let keep = Self::without(n_layers, &whole)?;
        let halves = dropped
            .iter()
            .filter_map(|part| Some((part.layer, part.half?)));
        Ok(halves.fold(keep, |keep, (layer, gone)| {
            keep.with_half(layer, gone.other())
        }))
    }

    /// The kept layers, ascending.
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }

    /// How many layers stay.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether nothing stays.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Whether a layer stays.
    pub fn contains(&self, layer: usize) -> bool {
        self.layers.binary_search(&layer).is_ok()
    }

    /// Where a kept layer stands in the result.
    pub fn new_index(&self, layer: usize) -> Option<usize> {
        self.layers.binary_search(&layer).ok()
    }

    /// The same set without some layers.
    pub fn drop_layers(&self, gone: &[usize]) -> Self {
        let stays = |layer: &usize| !gone.contains(layer);
        Self {
            layers: self.layers.iter().copied().filter(stays).collect(),
            halves: self
                .halves
                .iter()
                .copied()
                .filter(|(layer, _)| stays(layer))
                .collect(),
        }
    }

    /// The same set with a layer that went back in its place, whole.
    pub fn with_layer(&self, layer: usize) -> Self {
        let mut kept = self.drop_layers(&[layer]);
        let at = kept.layers.partition_point(|&other| other < layer);
        kept.layers.insert(at, layer);
        kept
    }

    /// The same set with only a half of a layer that stays.
    pub fn with_half(&self, layer: usize, half: Half) -> Self {
        let mut kept = self.with_layer(layer);
        let at = kept.halves.partition_point(|(other, _)| *other < layer);
        kept.halves.insert(at, (layer, half));
        kept
    }

    /// Whether a half of a layer stays.
    pub fn contains_half(&self, layer: usize, half: Half) -> bool {
        self.contains(layer) && self.half(layer).is_none_or(|kept| kept == half)
    }

    /// The same set without a half of a layer: without the layer, if that was all of it.
    pub fn drop_half(&self, layer: usize, half: Half) -> Self {
        match self.half(layer) {
            Some(kept) if kept == half => self.drop_layers(&[layer]),
            Some(_) => self.clone(),
            None if self.contains(layer) => self.with_half(layer, half.other()),
            None => self.clone(),
        }
    }

    /// The same set with a half of a layer back in its place.
    pub fn add_half(&self, layer: usize, half: Half) -> Self {
        match self.half(layer) {
            Some(kept) if kept != half => self.with_layer(layer),
            None if !self.contains(layer) => self.with_half(layer, half),
            _ => self.clone(),
        }
    }

    /// The half of a layer that stays, where only a half does.
    pub fn half(&self, layer: usize) -> Option<Half> {
        let at = self
            .halves
            .binary_search_by_key(&layer, |(other, _)| *other);
        Some(self.halves[at.ok()?].1)
    }

    /// The layers of which only a half stays.
    pub fn halves(&self) -> &[(usize, Half)] {
        &self.halves
    }

    /// What stays, layer by layer.
    pub fn kept(&self) -> impl Iterator<Item = Part> {
        self.layers.iter().map(|&layer| Part {
            layer,
            half: self.half(layer),
        })
    }

    /// Whether all of `n_layers` layers stay, both halves of each.
    pub fn is_whole(&self, n_layers: usize) -> bool {
        self.layers.len() == n_layers && self.halves.is_empty()
    }

    /// Half layers that stay.
    pub fn half_count(&self) -> usize {
        2 * self.layers.len() - self.halves.len()
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
            self.layers.windows(2).all(|pair| pair[0] < pair[1]),
            "the keep set is not in ascending order"
        );
        ensure!(
            self.layers.iter().all(|&layer| layer < n_layers),
            "the keep set names layer {}, but the model has {n_layers} layers",
            self.layers.last().copied().unwrap_or_default()
        );
        Ok(())
    }
}

/// Layers in ascending order, each of which exists and is named once.
fn check_named(n_layers: usize, layers: &[usize]) -> Result<Vec<usize>> {
    let mut sorted = layers.to_vec();
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
    Ok(sorted)
}

impl fmt::Display for KeepSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_whole = |&layer: &usize| self.half(layer).is_none();
        let whole: Vec<usize> = self.layers.iter().copied().filter(is_whole).collect();
        f.write_str(&ranges(&whole))?;
        for (i, (layer, half)) in self.halves.iter().enumerate() {
            let comma = if i == 0 && whole.is_empty() { "" } else { "," };
            write!(f, "{comma}{layer}:{half}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_what_does_not_exist_or_everything_is_an_error() {
        assert!(KeepSet::without(4, &[4]).is_err());
        assert!(KeepSet::without(4, &[1, 1]).is_err());
        assert!(KeepSet::without(2, &[0, 1]).is_err());
        assert_eq!(KeepSet::without(4, &[1]).unwrap().layers(), [0, 2, 3]);
    }

    #[test]
    fn half_layers_are_written_and_read_as_they_are_named() {
        let keep = KeepSet::all(4)
            .with_half(1, Half::Attention)
            .with_half(3, Half::Mlp);
        assert_eq!(keep.to_string(), "0,2,1:attention,3:mlp");
        let json = serde_json::to_string(&keep).unwrap();
        assert_eq!(json, r#"[0,"1:attention",2,"3:mlp"]"#);
        assert_eq!(serde_json::from_str::<KeepSet>(&json).unwrap(), keep);
        assert_eq!(keep.half_count(), 6);
        assert_eq!(keep.drop_layers(&[1]).halves(), [(3, Half::Mlp)]);
        assert_eq!(keep.drop_layers(&[1]).with_layer(1).half(1), None);
        assert!(serde_json::from_str::<KeepSet>(r#"["1:both"]"#).is_err());
    }

    #[test]
    fn a_layer_goes_with_its_second_half_and_is_whole_again_with_both() {
        let all = KeepSet::all(3);
        let (attention, mlp) = (Half::Attention, Half::Mlp);
        let half = all.drop_half(1, attention);
        assert_eq!(half, all.with_half(1, mlp));
        assert!(!half.contains_half(1, attention) && half.contains_half(1, mlp));
        assert_eq!(half.drop_half(1, attention), half);
        let none = half.drop_half(1, mlp);
        assert_eq!(none.layers(), [0, 2]);
        assert_eq!(none.add_half(1, mlp), half);
        assert_eq!(half.add_half(1, mlp), half);
        assert_eq!(half.add_half(1, attention), all);
    }

    #[test]
    fn kept_layers_are_renumbered_without_gaps() {
        let keep = KeepSet::without(5, &[1, 3]).unwrap();
        assert_eq!(keep.new_index(4), Some(2));
        assert_eq!(keep.new_index(3), None);
        assert_eq!(keep.dropped(5), [1, 3]);
    }
}
