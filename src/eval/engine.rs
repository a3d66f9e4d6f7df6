//! The mask engine: likelihoods of texts under many keep sets at once.

use super::Progress;
use super::mask::Mask;
use super::pack::{Pack, Text, packs};
use super::pass::{Pass, State, layer_passes};
use super::question::Candidate;
use super::score::likelihoods;
use super::tree::TokenTree;
use crate::model::{Frame, Model};
use anyhow::Result;
use candle_core::Tensor;

/// How likely a text is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Summed log-probability of its tokens, nats.
    pub log_prob: f64,
    /// Whether each of its tokens is the likeliest.
    pub greedy: bool,
}

/// Some questions' tokens, those with a common beginning once.
pub struct Layout {
    /// The tokens, a row each.
    pub tokens: Vec<u32>,
    /// The rows that texts begin with.
    pub firsts: Vec<usize>,
    /// Who sees whom.
    pub frame: Frame,
}

/// What some of a pack's rows are.
#[derive(Clone, Copy)]
pub struct Rows<'r> {
    /// Questions, and the row in which the prompt of each ends.
    pub ends: &'r [(usize, usize)],
    /// The rows that texts begin with.
    pub firsts: &'r [usize],
}

/// Likelihoods of questions' candidates under keep sets.
pub struct Engine<'m> {
    pub(super) model: &'m Model,
}

impl<'m> Engine<'m> {
    /// An engine over a loaded model.
    pub fn new(model: &'m Model) -> Self {
        Self { model }
    }

    /// Units of [`Progress`] that [`Self::likelihoods`] will report.
    pub fn work<Q: AsRef<[Candidate]>, M: Mask>(&self, questions: &[Q], masks: &[M]) -> u64 {
        let packs = scored(questions);
        let tokens: usize = packs.iter().map(|pack| pack.tree.len()).sum();
        (tokens * layer_passes(masks, self.model.n_layers())) as u64
    }

    /// The likelihood of every candidate: `[mask][question][candidate]`.
    ///
    /// # Errors
    /// Tokens that the model does not have; what candle reports.
    pub fn likelihoods<Q: AsRef<[Candidate]>, M: Mask>(
        &self,
        questions: &[Q],
        masks: &[M],
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Vec<Likelihood>>>> {
        self.observe(&[questions], masks, progress, |_, _, _, _| Ok(()))
    }

    /// The same of several portions one after the other, and the hidden states of the first keep set
    /// before and after each of its layers, one pack of questions at a time:
    /// `visit(layer, before, after, rows)`, both states [tokens, hidden_size]. The pack's questions
    /// share rows. A pack has questions of one portion only, so what is found of it does not depend
    /// on the portions beside it.
    ///
    /// # Errors
    /// As of [`Self::likelihoods`], and what the visitor reports.
    pub fn observe<Q: AsRef<[Candidate]>, M: Mask>(
        &self,
        portions: &[&[Q]],
        masks: &[M],
        progress: &dyn Progress,
        mut visit: impl FnMut(usize, &Tensor, &Tensor, Rows) -> Result<()>,
    ) -> Result<Vec<Vec<Vec<Likelihood>>>> {
        let n_questions = portions.iter().map(|portion| portion.len()).sum();
        let mut all = vec![Vec::with_capacity(n_questions); masks.len()];
        let packs: Vec<Pack> = portions
            .iter()
            .flat_map(|portion| scored(portion))
            .collect();
        let (mut rest, mut before) = (packs.as_slice(), 0);
        while !rest.is_empty() {
            let (together, others) = rest.split_at(self.together(rest, masks));
            rest = others;
            let mut passes = Vec::with_capacity(together.len());
            for pack in together {
                let frame = self.model.frame(pack.tree.runs())?;
                let pass = Pass::new(self.model, masks, frame, pack.tree.tokens())?;
                passes.push((pass, pack.ends(before), pack.tree.roots()));
                before += pack.texts.len();
            }
            for layer in 0..self.model.n_layers() {
                for (pass, ends, firsts) in &mut passes {
                    let first = pass.first()?;
                    pass.layer(layer, None, progress)?;
                    if masks
                        .first()
                        .is_some_and(|mask| !mask.form(layer).is_gone())
                    {
                        visit(layer, &first, &pass.first()?, Rows { ends, firsts })?;
                    }
                }
            }
            let passes = passes.into_iter().map(|(pass, ..)| pass.states);
            for found in likelihoods(self.model, together, passes)? {
                for (mask, scored) in found {
                    all[mask].extend(scored);
                }
            }
        }
        Ok(all)
    }

    /// Tokens of questions, those of common beginnings once.
    pub fn tokens<Q: AsRef<[Candidate]>>(&self, questions: &[Q]) -> usize {
        scored(questions).iter().map(|pack| pack.tree.len()).sum()
    }

    /// How the engine lays out the tokens of questions, for passes of one's own.
    ///
    /// # Errors
    /// Only what the layout of a model reports.
    pub fn layouts<Q: AsRef<[Candidate]>>(&self, questions: &[Q]) -> Result<Vec<Layout>> {
        let layout = |pack: &Pack| {
            Ok(Layout {
                tokens: pack.tree.tokens().to_vec(),
                firsts: pack.tree.roots(),
                frame: self.model.frame(pack.tree.runs())?,
            })
        };
        scored(questions).iter().map(layout).collect()
    }

    /// The states behind the last layer of all candidates on one tree.
    pub(super) fn last_states<M: Mask>(
        &self,
        tree: &TokenTree,
        masks: &[M],
        progress: &dyn Progress,
    ) -> Result<Vec<State>> {
        let frame = self.model.frame(tree.runs())?;
        let mut pass = Pass::new(self.model, masks, frame, tree.tokens())?;
        for layer in 0..self.model.n_layers() {
            pass.layer(layer, None, progress)?;
        }
        Ok(pass.states)
    }

    /// How many of these portions one reading of the layers serves, at least one: more of them bring
    /// nothing where the layers are in memory.
    pub fn at_once<Q: AsRef<[Candidate]>, M: Mask>(&self, portions: &[&[Q]], masks: &[M]) -> usize {
        let mut packs = Vec::new();
        for (n, portion) in portions.iter().enumerate() {
            packs.extend(scored(portion));
            if self.together(&packs, masks) < packs.len() {
                return n.max(1);
            }
        }
        portions.len().max(1)
    }

    /// How many packs go through the layers together, at least one: where the layers are in memory,
    /// more bring nothing; where each is read from the file, as many as there is room for.
    fn together<M: Mask>(&self, packs: &[Pack], masks: &[M]) -> usize {
        let state = self.model.config().hidden_size * size_of::<f32>() * masks.len();
        let mut room = match self.model.is_streamed() {
            true => self.model.room(),
            false => 0,
        };
        let fits = |pack: &&Pack| {
            let left = room.checked_sub((pack.tree.len() * state) as u64);
            room = left.unwrap_or(0);
            left.is_some()
        };
        packs.iter().take_while(fits).count().max(1)
    }
}

pub(super) fn scored<Q: AsRef<[Candidate]>>(questions: &[Q]) -> Vec<Pack<'_>> {
    packs(questions.iter().map(|question| Text {
        candidates: question.as_ref(),
        prompt: &[],
    }))
}
