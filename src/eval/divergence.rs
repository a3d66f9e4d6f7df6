//! How far candidates' predictions are from the original's: less noisy than right and wrong answers,
//! and not fooled by a candidate that is wrong in another way.

use super::Progress;
use super::engine::{Engine, Likelihood, scored};
use super::mask::Mask;
use super::pack::Ask;
use super::question::Candidate;
use super::score::{collect, compared, predicting, select};
use crate::arch::KeepSet;
use anyhow::{Result, ensure};
use candle_core::Tensor;

/// The original's last states where something is predicted: its logits would take far more room.
pub struct Reference {
    /// By pack, [nodes, hidden_size]; packs in which nothing is asked have none.
    packs: Vec<Option<Tensor>>,
}

/// What a candidate makes of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// How likely it finds the text.
    pub likelihood: Likelihood,
    /// Σ KL(original ‖ candidate) over the text's tokens, nats.
    pub divergence: f64,
}

impl Engine<'_> {
    /// The original, for [`Self::compare`] on the same questions.
    ///
    /// # Errors
    /// Tokens that the model does not have; what candle reports.
    pub fn reference<Q: AsRef<[Candidate]>>(
        &self,
        questions: &[Q],
        progress: &dyn Progress,
    ) -> Result<Reference> {
        let all = [KeepSet::all(self.model.n_layers())];
        let mut packs = Vec::new();
        for pack in scored(questions) {
            let nodes = predicting(&pack.asked());
            let state = match nodes.is_empty() {
                true => None,
                false => {
                    let states = self.last_states(&pack.tree, &all, progress)?;
                    let mut states = states.iter().map(|state| select(&state.hidden, &nodes));
                    // One candidate has one state.
                    states.next().transpose()?
                }
            };
            packs.push(state);
        }
        Ok(Reference { packs })
    }

    /// Every text's likelihood and its distance from the original: `[mask][question][candidate]`.
    ///
    /// # Errors
    /// As of [`Self::reference`]; the reference of other questions.
    pub fn compare<Q: AsRef<[Candidate]>, M: Mask>(
        &self,
        questions: &[Q],
        masks: &[M],
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Vec<Compared>>>> {
        let packs = scored(questions);
        ensure!(
            packs.len() == reference.packs.len(),
            "the reference is one of other questions"
        );
        let mut all = vec![Vec::with_capacity(questions.len()); masks.len()];
        for (pack, original) in packs.iter().zip(&reference.packs) {
            let asked = pack.asked();
            let nodes = predicting(&asked);
            let Some(original) = original else {
                let nothing = vec![Vec::new(); pack.texts.len()];
                all.iter_mut().for_each(|mask| mask.extend(nothing.clone()));
                continue;
            };
            let states = self.last_states(&pack.tree, masks, progress)?;
            let mut hidden = vec![original.clone()];
            for state in &states {
                hidden.push(select(&state.hidden, &nodes)?);
            }
            let row = |ask: &Ask| nodes.binary_search(&ask.node).unwrap_or(0);
            let wanted = (1..hidden.len()).flat_map(|block| {
                let at = block * nodes.len();
                asked.iter().map(move |ask| (at + row(ask), ask.token))
            });
            let wanted: Vec<(usize, u32)> = wanted.collect();
            let hidden = Tensor::cat(&hidden, 0)?;
            let (found, gaps) = compared(self.model, &hidden, nodes.len(), &wanted)?;
            let mut found = found.into_iter();
            for (state, gaps) in states.iter().zip(gaps.chunks_exact(nodes.len())) {
                let likelihoods = collect(pack, &asked, &mut found);
                let mut gaps = asked.iter().map(|ask| Likelihood {
                    log_prob: gaps[row(ask)],
                    greedy: true,
                });
                let gaps = collect(pack, &asked, &mut gaps);
                let both = likelihoods.iter().zip(&gaps);
                let both: Vec<Vec<Compared>> = both.map(|(a, b)| beside(a, b)).collect();
                for &mask in &state.masks {
                    all[mask].extend(both.iter().cloned());
                }
            }
        }
        Ok(all)
    }
}

fn beside(likelihoods: &[Likelihood], gaps: &[Likelihood]) -> Vec<Compared> {
    let both = likelihoods.iter().zip(gaps);
    both.map(|(&likelihood, gap)| Compared {
        likelihood,
        divergence: gap.log_prob,
    })
    .collect()
}
