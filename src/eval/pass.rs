//! One pass through the layers for many keep sets.
//!
//! Two keep sets that agree on layers 0..j have the same hidden state before layer j. So at
//! every layer only the distinct prefixes have a state, and all that keep the layer go through
//! it in one batch. Ablating each of N layers costs about N/2 passes instead of N.

use super::Progress;
use crate::arch::KeepSet;
use crate::model::{Frame, KvCache, Model};
use anyhow::{Context, Result};
use candle_core::{IndexOp, Tensor};

/// A hidden state, [1, tokens, hidden_size], and the keep sets that share it so far.
pub(super) struct State {
    pub(super) hidden: Tensor,
    pub(super) masks: Vec<usize>,
}

/// The states of one set of tokens.
pub(super) struct Pass<'m> {
    model: &'m Model,
    masks: &'m [KeepSet],
    frame: Frame,
    pub(super) states: Vec<State>,
}

/// Keys and values that stay behind, for texts that are gone on with.
pub(super) struct Kept<'c> {
    /// The layer's.
    pub(super) cache: &'c mut KvCache,
    /// Of every keep set, where its columns of this set of tokens begin.
    pub(super) bases: &'c mut [Option<usize>],
}

/// Layers that hidden states go through when these keep sets are evaluated together.
pub fn layer_passes(masks: &[KeepSet], n_layers: usize) -> usize {
    let mut groups = vec![(0..masks.len()).collect::<Vec<_>>()];
    let mut passes = 0;
    for layer in 0..n_layers {
        let mut next = Vec::new();
        for group in groups {
            let (kept, dropped): (Vec<_>, Vec<_>) =
                group.into_iter().partition(|&m| masks[m].contains(layer));
            passes += usize::from(!kept.is_empty());
            next.extend([kept, dropped].into_iter().filter(|g| !g.is_empty()));
        }
        groups = next;
    }
    passes
}

impl<'m> Pass<'m> {
    /// Before the first layer: one state for all keep sets.
    ///
    /// # Errors
    /// A token that the model does not have.
    pub(super) fn new(
        model: &'m Model,
        masks: &'m [KeepSet],
        frame: Frame,
        tokens: &[u32],
    ) -> Result<Self> {
        let states = vec![State {
            hidden: model.embed(tokens)?,
            masks: (0..masks.len()).collect(),
        }];
        Ok(Self {
            model,
            masks,
            frame,
            states,
        })
    }

    /// The first keep set's state, [tokens, hidden_size].
    ///
    /// # Errors
    /// There are no keep sets.
    pub(super) fn first(&self) -> Result<Tensor> {
        let mut states = self.states.iter();
        let state = states.find(|state| state.masks.contains(&0));
        Ok(state.context("no keep sets")?.hidden.i(0)?)
    }

    /// Takes every state that has a keep set with this layer through it; where keep sets disagree, a
    /// state becomes two.
    ///
    /// # Errors
    /// What the model reports.
    pub(super) fn layer(
        &mut self,
        layer: usize,
        mut kept: Option<Kept>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (mut through, mut around) = (Vec::new(), Vec::new());
        for state in self.states.drain(..) {
            let keeps = |&&mask: &&usize| self.masks[mask].contains(layer);
            let (with, without): (Vec<_>, Vec<_>) = state.masks.iter().partition(keeps);
            for (group, masks) in [(&mut through, with), (&mut around, without)] {
                if !masks.is_empty() {
                    let hidden = state.hidden.clone();
                    group.push(State { hidden, masks });
                }
            }
        }
        let tokens = self.frame.tokens();
        let tile = (self.model.rows_at_once() / tokens.max(1)).max(1);
        for tile in through.chunks_mut(tile) {
            self.tile(layer, tile, kept.as_mut())?;
            progress.advance((tile.len() * tokens) as u64);
        }
        self.states = through;
        self.states.append(&mut around);
        Ok(())
    }

    /// One layer, all states of a tile in one product.
    fn tile(&self, layer: usize, states: &mut [State], kept: Option<&mut Kept>) -> Result<()> {
        let hidden: Vec<&Tensor> = states.iter().map(|state| &state.hidden).collect();
        let hidden = Tensor::cat(&hidden, 0)?;
        let hidden = match kept {
            None => self.model.layer(layer, &hidden, &self.frame)?,
            Some(kept) => {
                let mut bases = Vec::with_capacity(states.len());
                for state in states.iter() {
                    let base = kept.cache.reserve(self.frame.tokens());
                    state
                        .masks
                        .iter()
                        .for_each(|&mask| kept.bases[mask] = Some(base));
                    bases.push(base);
                }
                let cache = &mut *kept.cache;
                self.model
                    .layer_with(layer, &hidden, &self.frame, cache, &bases)?
            }
        };
        for (i, state) in states.iter_mut().enumerate() {
            state.hidden = hidden.i(i..i + 1)?;
        }
        Ok(())
    }
}
