//! Where layers are missing, and which layers of both models should say the same.

use crate::arch::KeepSet;
use crate::model::Trained;
use std::collections::BTreeSet;

/// Two states that should agree: the output of a layer of the pruned model, and that of a layer of
/// the original.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hint {
    /// The pruned model's layer.
    pub pruned: usize,
    /// The original's.
    pub original: usize,
    /// What the original's state is multiplied with: a cut that is made up for by a factor leaves all
    /// states behind it so much shorter.
    pub scale: f64,
}

/// Where something is missing in a pruned model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cuts {
    /// The states that the layers behind each cut read, bottom up.
    hints: Vec<Hint>,
    /// The layers on both sides of each, by the pruned model's number.
    beside: BTreeSet<usize>,
}

impl Cuts {
    /// The cuts that a keep set made in a model of `n_layers` layers: where layers are missing, and
    /// where a layer misses a half. `factor` is what makes up for the cut behind a layer of the
    /// original, 1 where no factor does.
    pub fn of(keep: &KeepSet, n_layers: usize, factor: impl Fn(usize) -> f64) -> Self {
        let mut cuts = Self::default();
        let mut scale = 1.0;
        let layers = keep.layers();
        // The layer after the last one is none, but a cut may be before it.
        let following = layers.iter().copied().skip(1).chain([n_layers]);
        for ((at, &layer), next) in layers.iter().enumerate().zip(following) {
            let cut_behind = next > layer + 1 || keep.half(layer).is_some();
            // Nothing before the first layer could learn what is missing there.
            let cut_before = at == 0 && layer > 0;
            if cut_behind || cut_before {
                scale /= factor(layer);
                cuts.hints.push(Hint {
                    pruned: at,
                    original: next - 1,
                    scale,
                });
                cuts.beside.insert(at);
            }
            if cut_behind && at + 1 < layers.len() {
                cuts.beside.insert(at + 1);
            }
        }
        cuts
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.hints.is_empty()
    }

    /// The states that should agree, bottom up: at each cut the last layer before it should say what
    /// the last one that is missing said.
    pub fn hints(&self) -> &[Hint] {
        &self.hints
    }

    /// What is trained where only the cuts heal: the layers on both sides of each, and the norms of
    /// all layers above the first of them, through which gradients go in any case.
    pub fn trained(&self, layer: usize) -> Trained {
        match self.beside.first() {
            _ if self.beside.contains(&layer) => Trained::All,
            Some(&first) if layer > first => Trained::Norms,
            _ => Trained::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Half;

    fn cuts(n_layers: usize, dropped: &[usize]) -> Cuts {
        Cuts::of(
            &KeepSet::without(n_layers, dropped).unwrap(),
            n_layers,
            |_| 1.0,
        )
    }

    fn hints(cuts: &Cuts) -> Vec<(usize, usize)> {
        let hints = cuts.hints().iter();
        hints.map(|hint| (hint.pruned, hint.original)).collect()
    }

    #[test]
    fn the_layer_before_a_cut_should_say_what_the_last_missing_one_said() {
        let one = cuts(8, &[3, 4]);
        assert_eq!(hints(&one), [(2, 4)]);
        let several = cuts(8, &[1, 4, 5]);
        assert_eq!(hints(&several), [(0, 1), (2, 5)]);
    }

    #[test]
    fn the_layers_beside_a_cut_train_whole_and_those_above_by_their_norms() {
        let trained = |cuts: &Cuts, n| -> String {
            let letter = |layer| match cuts.trained(layer) {
                Trained::Nothing => '-',
                Trained::Norms => 'n',
                Trained::All => 'a',
            };
            (0..n).map(letter).collect()
        };
        assert_eq!(trained(&cuts(8, &[3, 4]), 6), "--aann");
        assert_eq!(trained(&cuts(8, &[2, 3, 6]), 5), "-aaaa");
        assert_eq!(trained(&cuts(8, &[7]), 7), "------a");
        assert_eq!(trained(&cuts(8, &[]), 8), "--------");
    }

    #[test]
    fn cuts_at_the_ends_have_one_side() {
        let first = cuts(6, &[0, 1]);
        assert_eq!(hints(&first), [(0, 2)]);
        assert_eq!(first.trained(0), Trained::All);
        let last = cuts(6, &[4, 5]);
        assert_eq!(hints(&last), [(3, 5)]);
        assert_eq!(last.trained(3), Trained::All);
    }

    #[test]
    fn a_layer_without_a_half_is_a_cut_and_agrees_with_the_last_that_is_missing() {
        let keep = KeepSet::without(8, &[3]).unwrap();
        let halves = keep.with_half(2, Half::Attention).with_half(6, Half::Mlp);
        let cuts = Cuts::of(&halves, 8, |_| 1.0);
        assert_eq!(hints(&cuts), [(2, 3), (5, 6)]);
        let whole = (0..7).filter(|&layer| cuts.trained(layer) == Trained::All);
        assert_eq!(whole.collect::<Vec<_>>(), [2, 3, 5, 6]);
    }

    #[test]
    fn behind_a_factor_all_states_are_shorter() {
        let keep = KeepSet::without(8, &[2, 5, 7]).unwrap();
        let factor = |after| match after {
            1 => 2.0,
            4 => 1.25,
            _ => 1.0,
        };
        let cuts = Cuts::of(&keep, 8, factor);
        let scales: Vec<f64> = cuts.hints().iter().map(|hint| hint.scale).collect();
        assert_eq!(scales, [0.5, 0.4, 0.4]);
    }
}
