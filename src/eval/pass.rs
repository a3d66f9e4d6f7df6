//! One pass through the layers for many keep sets.
//!
//! Two keep sets that agree on layers 0..j have the same hidden state before layer j. So at
//! every layer only the distinct prefixes have a state, and all that keep the layer go through
//! it in one batch. Ablating each of N layers costs about N/2 passes instead of N.

use super::Progress;
use super::mask::Mask;
use crate::model::{Form, Frame, KvCache, Model};
use anyhow::{Context, Result};
use candle_core::{IndexOp, Tensor};

/// A hidden state, [1, tokens, hidden_size], and the keep sets that share it so far.
pub(super) struct State {
    pub(super) hidden: Tensor,
    pub(super) masks: Vec<usize>,
}

/// The states of one set of tokens.
pub(super) struct Pass<'m, M> {
    model: &'m Model,
    masks: &'m [M],
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
pub fn layer_passes<M: Mask>(masks: &[M], n_layers: usize) -> usize {
    let mut groups = vec![(0..masks.len()).collect::<Vec<_>>()];
    let mut passes = 0;
    for layer in 0..n_layers {
        let apart = groups.iter().flat_map(|group| by_form(masks, layer, group));
        let apart: Vec<(Form, Vec<usize>)> = apart.collect();
        passes += apart.iter().filter(|(form, _)| !form.is_gone()).count();
        groups = apart.into_iter().map(|(_, group)| group).collect();
    }
    passes
}

/// Masks apart by what becomes of a layer, each group in order.
pub(super) fn by_form<'m, M: Mask>(
    masks: &'m [M],
    layer: usize,
    some: &[usize],
) -> Vec<(Form<'m>, Vec<usize>)> {
    let mut groups: Vec<(Form, Vec<usize>)> = Vec::new();
    for &mask in some {
        let form = masks[mask].form(layer);
        match groups.iter_mut().find(|(other, _)| other.is_same(&form)) {
            Some((_, group)) => group.push(mask),
            None => groups.push((form, vec![mask])),
        }
    }
    groups
}

impl<'m, M: Mask> Pass<'m, M> {
    /// Before the first layer: one state for all keep sets.
    ///
    /// # Errors
    /// A token that the model does not have.
    pub(super) fn new(
        model: &'m Model,
        masks: &'m [M],
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
        let mut groups: Vec<(Form, Vec<State>)> = Vec::new();
        for state in self.states.drain(..) {
            for (form, masks) in by_form(self.masks, layer, &state.masks) {
                let hidden = state.hidden.clone();
                let state = State { hidden, masks };
                match groups.iter_mut().find(|(other, _)| other.is_same(&form)) {
                    Some((_, group)) => group.push(state),
                    None => groups.push((form, vec![state])),
                }
            }
        }
        let tokens = self.frame.tokens();
        let tile = (self.model.rows_at_once() / tokens.max(1)).max(1);
        for (form, states) in &mut groups {
            for tile in states.chunks_mut(tile).filter(|_| !form.is_gone()) {
                self.tile(layer, *form, tile, kept.as_mut())?;
                progress.advance((tile.len() * tokens) as u64);
            }
        }
        let states = groups.into_iter().flat_map(|(_, states)| states);
        self.states = states.collect();
        Ok(())
    }

    /// One layer, all states of a tile in one product.
    fn tile(
        &self,
        layer: usize,
        form: Form,
        states: &mut [State],
        kept: Option<&mut Kept>,
    ) -> Result<()> {
        let hidden: Vec<&Tensor> = states.iter().map(|state| &state.hidden).collect();
        let hidden = Tensor::cat(&hidden, 0)?;
        let mut bases = Vec::with_capacity(states.len());
        let kept = kept.map(|kept| {
            for state in states.iter() {
                let base = kept.cache.reserve(self.frame.tokens());
                for &mask in &state.masks {
                    kept.bases[mask] = Some(base);
                }
                bases.push(base);
            }
            (&mut *kept.cache, bases.as_slice())
        });
        let hidden = self
            .model
            .layer_as(layer, form, &hidden, &self.frame, kept)?;
        for (i, state) in states.iter_mut().enumerate() {
            state.hidden = hidden.i(i..i + 1)?;
        }
        Ok(())
    }
}
