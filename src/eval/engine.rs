//! The mask engine: one pass through the layers for many keep sets.
//!
//! Two keep sets that agree on layers 0..j have the same hidden state before layer j. So at
//! every layer only the distinct prefixes have a state, and all that keep the layer go through
//! it in one batch. Ablating each of N layers costs about N/2 passes instead of N.

use super::Progress;
use super::question::Candidate;
use super::tree::TokenTree;
use crate::arch::KeepSet;
use crate::model::{Frame, Model};
use anyhow::Result;
use candle_core::{IndexOp, Tensor};
use rayon::prelude::*;

/// Tree nodes in one pack. Attention inside a pack is dense, so its waste grows with this; the
/// products of the layers need it large enough to be bound by arithmetic.
const PACK_TOKENS: usize = 384;

/// The same where questions share most of their tokens: examples are computed once for all.
const SHARED_PACK_TOKENS: usize = 1536;

/// Tokens × states that go through a layer at once: bounds the memory of activations.
const TILE_TOKENS: usize = 2048;

/// Rows of logits that are held at once: a row is as long as the vocabulary.
const LOGIT_ROWS: usize = 512;

/// How likely a text is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Summed log-probability of its tokens, nats.
    pub log_prob: f64,
    /// Whether each of its tokens is the likeliest.
    pub greedy: bool,
}

/// Likelihoods of questions' candidates under keep sets.
pub struct Engine<'m> {
    model: &'m Model,
}

/// Questions whose tokens go through the layers together.
struct Pack<'q> {
    tree: TokenTree,
    questions: Vec<&'q [Candidate]>,
}

/// A hidden state and the keep sets that share it so far.
struct State {
    hidden: Tensor,
    masks: Vec<usize>,
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

impl<'m> Engine<'m> {
    /// An engine over a loaded model.
    pub fn new(model: &'m Model) -> Self {
        Self { model }
    }

    /// Units of [`Progress`] that [`Self::likelihoods`] will report.
    pub fn work<Q: AsRef<[Candidate]>>(&self, questions: &[Q], masks: &[KeepSet]) -> u64 {
        let tokens: usize = packs(questions).iter().map(|pack| pack.tree.len()).sum();
        (tokens * layer_passes(masks, self.model.n_layers())) as u64
    }

    /// The likelihood (f32 logits) of every candidate: `[mask][question][candidate]`.
    ///
    /// # Errors
    /// Tokens that the model does not have; what candle reports.
    pub fn likelihoods<Q: AsRef<[Candidate]>>(
        &self,
        questions: &[Q],
        masks: &[KeepSet],
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Vec<Likelihood>>>> {
        let mut all = vec![Vec::with_capacity(questions.len()); masks.len()];
        for pack in packs(questions) {
            let frame = self.frame(&pack.tree)?;
            let asked = pack.asked();
            for state in self.states(&pack.tree, &frame, masks, progress)? {
                let scored = self.score(&pack, &asked, &state.hidden)?;
                for mask in state.masks {
                    all[mask].extend(scored.iter().cloned());
                }
            }
        }
        Ok(all)
    }

    /// The hidden states before and after every layer of the whole model, one pack at a time:
    /// `visit(layer, before, after, ends)`, both states [tokens, hidden_size]. The pack's questions
    /// share rows; `ends` says which question's prompt ends in which.
    ///
    /// # Errors
    /// What candle or the visitor reports.
    pub fn observe<Q: AsRef<[Candidate]>>(
        &self,
        questions: &[Q],
        progress: &dyn Progress,
        mut visit: impl FnMut(usize, &Tensor, &Tensor, &[(usize, usize)]) -> Result<()>,
    ) -> Result<()> {
        let mut before = 0;
        for pack in packs(questions) {
            let ends = pack.ends(before);
            before += pack.questions.len();
            let frame = self.frame(&pack.tree)?;
            let mut hidden = self.model.embed(pack.tree.tokens())?;
            for layer in 0..self.model.n_layers() {
                let after = self.model.layer(layer, &hidden, &frame, None)?;
                visit(layer, &hidden.squeeze(0)?, &after.squeeze(0)?, &ends)?;
                progress.advance(pack.tree.len() as u64);
                hidden = after;
            }
        }
        Ok(())
    }

    fn frame(&self, tree: &TokenTree) -> Result<Frame> {
        self.model
            .frame(tree.positions(), tree.len(), &tree.paths())
    }

    /// Runs a tree of tokens through all keep sets.
    fn states(
        &self,
        tree: &TokenTree,
        frame: &Frame,
        masks: &[KeepSet],
        progress: &dyn Progress,
    ) -> Result<Vec<State>> {
        let mut states = vec![State {
            hidden: self.model.embed(tree.tokens())?,
            masks: (0..masks.len()).collect(),
        }];
        let tile = (TILE_TOKENS / tree.len().max(1)).max(1);
        for layer in 0..self.model.n_layers() {
            let (mut through, mut around) = (Vec::new(), Vec::new());
            for state in states {
                let (kept, dropped): (Vec<_>, Vec<_>) =
                    state.masks.iter().partition(|&&m| masks[m].contains(layer));
                for (group, masks) in [(&mut through, kept), (&mut around, dropped)] {
                    if !masks.is_empty() {
                        let hidden = state.hidden.clone();
                        group.push(State { hidden, masks });
                    }
                }
            }
            for group in through.chunks_mut(tile) {
                self.batch(layer, group, frame)?;
                progress.advance((group.len() * tree.len()) as u64);
            }
            states = through;
            states.append(&mut around);
        }
        Ok(states)
    }

    /// One layer, all states of a tile in one product.
    fn batch(&self, layer: usize, states: &mut [State], frame: &Frame) -> Result<()> {
        let hidden: Vec<&Tensor> = states.iter().map(|state| &state.hidden).collect();
        let hidden = self
            .model
            .layer(layer, &Tensor::cat(&hidden, 0)?, frame, None)?;
        for (i, state) in states.iter_mut().enumerate() {
            state.hidden = hidden.i(i..i + 1)?;
        }
        Ok(())
    }

    /// Candidate likelihoods of a pack's questions from its last hidden state.
    fn score(&self, pack: &Pack, asked: &[Ask], hidden: &Tensor) -> Result<Vec<Vec<Likelihood>>> {
        let mut nodes: Vec<usize> = asked.iter().map(|ask| ask.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let certain = Likelihood {
            log_prob: 0.0,
            greedy: true,
        };
        let mut scores: Vec<Vec<Likelihood>> = pack
            .questions
            .iter()
            .map(|candidates| vec![certain; candidates.len()])
            .collect();
        let hidden = hidden.squeeze(0)?;
        for nodes in nodes.chunks(LOGIT_ROWS) {
            let logits = self.rows(&hidden, nodes)?;
            let rows: Vec<&[f32]> = logits.chunks_exact(logits.len() / nodes.len()).collect();
            // The norm of each row, and its highest logit.
            let norms: Vec<(f64, f32)> = rows.par_iter().map(|row| log_sum_exp(row)).collect();
            for ask in asked {
                let Ok(row) = nodes.binary_search(&ask.node) else {
                    continue;
                };
                let (norm, highest) = norms[row];
                let logit = rows[row][ask.token as usize];
                let score = &mut scores[ask.question][ask.candidate];
                score.log_prob += f64::from(logit) - norm;
                score.greedy &= logit >= highest;
            }
        }
        Ok(scores)
    }

    /// The logits of some nodes, one row behind the other.
    fn rows(&self, hidden: &Tensor, nodes: &[usize]) -> Result<Vec<f32>> {
        let index: Vec<u32> = nodes.iter().map(|&node| node as u32).collect();
        let index = Tensor::new(index, hidden.device())?;
        let logits = self.model.logits(&hidden.index_select(&index, 0)?)?;
        let logits = logits.to_device(&candle_core::Device::Cpu)?;
        Ok(logits.flatten_all()?.to_vec1::<f32>()?)
    }
}

/// ln Σ exp, stable for large logits, and the largest.
fn log_sum_exp(row: &[f32]) -> (f64, f32) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = row
        .chunks(64)
        .map(|part| part.iter().map(|x| (x - max).exp()).sum::<f32>())
        .sum();
    (f64::from(max) + f64::from(sum).ln(), max)
}

/// One token of one candidate, and the node that predicts it.
struct Ask {
    question: usize,
    candidate: usize,
    node: usize,
    token: u32,
}

impl Pack<'_> {
    /// Each question, `before` of which were in earlier packs, and the node where its prompt ends.
    fn ends(&self, before: usize) -> Vec<(usize, usize)> {
        let prompts = self.questions.iter().map(|candidates| candidates.first());
        let nodes = prompts.map(|first| first.and_then(|first| self.tree.find(&first.prompt)));
        let ends = nodes.zip(before..);
        ends.filter_map(|(node, question)| Some((question, node?)))
            .collect()
    }

    fn asked(&self) -> Vec<Ask> {
        let mut asked = Vec::new();
        for (question, candidates) in self.questions.iter().enumerate() {
            for (candidate, text) in candidates.iter().enumerate() {
                let mut at = self.tree.find(&text.prompt);
                for &token in &text.tokens {
                    asked.extend(at.map(|node| Ask {
                        question,
                        candidate,
                        node,
                        token,
                    }));
                    at = at.and_then(|node| self.tree.next(node, token));
                }
            }
        }
        asked
    }
}

/// Questions in order, as many in a pack as fit.
fn packs<Q: AsRef<[Candidate]>>(questions: &[Q]) -> Vec<Pack<'_>> {
    let mut packs: Vec<Pack> = Vec::new();
    for candidates in questions.iter().map(AsRef::as_ref) {
        if !packs.last().is_some_and(|pack| pack.has_room(candidates)) {
            packs.push(Pack {
                tree: TokenTree::default(),
                questions: Vec::new(),
            });
        }
        let Some(pack) = packs.last_mut() else {
            continue;
        };
        for candidate in candidates {
            let end = pack.tree.insert(None, &candidate.prompt);
            pack.tree.insert(end, read(candidate));
        }
        pack.questions.push(candidates);
    }
    packs
}

impl Pack<'_> {
    /// Whether a question may join: it fits, or most of it stands there already.
    fn has_room(&self, candidates: &[Candidate]) -> bool {
        let (mut grown, mut shared) = (0, 0);
        let mut last: &[u32] = &[];
        for candidate in candidates {
            // Options of one question share its prompt.
            if *last != *candidate.prompt {
                let new = self.tree.growth(None, &candidate.prompt);
                grown += new;
                shared += candidate.prompt.len() - new;
                last = &candidate.prompt;
            }
            grown += read(candidate).len();
        }
        let most = match shared > grown {
            true => SHARED_PACK_TOKENS,
            false => PACK_TOKENS,
        };
        self.tree.len() + grown <= most
    }
}

/// What must stand in the tree: a candidate's last token is predicted, never read.
fn read(candidate: &Candidate) -> &[u32] {
    &candidate.tokens[..candidate.tokens.len().saturating_sub(1)]
}
