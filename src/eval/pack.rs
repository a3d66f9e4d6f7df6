//! Texts whose tokens go through the layers together.

use super::question::Candidate;
use super::tree::TokenTree;
use std::ops::Range;

/// Tree nodes in one pack: products need that many rows to be bound by arithmetic.
const PACK_TOKENS: usize = 384;

/// The same where texts share most of their tokens: examples are computed once for all.
const SHARED_PACK_TOKENS: usize = 1536;

/// What is asked of one question: how likely its candidates are, and what is written after its
/// prompt.
#[derive(Clone, Copy)]
pub(super) struct Text<'q> {
    pub(super) candidates: &'q [Candidate],
    /// Empty where nothing is written.
    pub(super) prompt: &'q [u32],
}

/// Texts in one tree.
pub(super) struct Pack<'q> {
    pub(super) tree: TokenTree,
    pub(super) texts: Vec<Text<'q>>,
}

/// One token of one candidate, and the node that predicts it.
pub(super) struct Ask {
    pub(super) text: usize,
    pub(super) candidate: usize,
    pub(super) node: usize,
    pub(super) token: u32,
}

/// Texts in order, as many in a pack as fit.
pub(super) fn packs<'q>(texts: impl IntoIterator<Item = Text<'q>>) -> Vec<Pack<'q>> {
    let mut packs: Vec<Pack> = Vec::new();
    for text in texts {
        if !packs.last().is_some_and(|pack| pack.has_room(&text)) {
            packs.push(Pack {
                tree: TokenTree::default(),
                texts: Vec::new(),
            });
        }
        if let Some(pack) = packs.last_mut() {
            pack.add(text);
        }
    }
    packs
}

impl<'q> Text<'q> {
    /// The sequences that must be read: (beginning, rest).
    fn sequences(&self) -> impl Iterator<Item = (&'q [u32], &'q [u32])> {
        let candidates = self.candidates.iter().map(|c| (&*c.prompt, read(c)));
        candidates.chain([(self.prompt, &[][..])])
    }
}

impl<'q> Pack<'q> {
    fn add(&mut self, text: Text<'q>) {
        for (beginning, rest) in text.sequences() {
            let end = self.tree.insert(None, beginning);
            self.tree.insert(end, rest);
        }
        self.texts.push(text);
    }

    /// Whether a text may join: it fits, or most of it stands there already.
    fn has_room(&self, text: &Text) -> bool {
        let (mut grown, mut shared) = (0, 0);
        let mut last: &[u32] = &[];
        for (beginning, rest) in text.sequences() {
            // Options of one question share its prompt, and what is written follows the same.
            if !last.starts_with(beginning) {
                let new = self.tree.growth(None, beginning);
                grown += new;
                shared += beginning.len() - new;
                last = beginning;
            }
            grown += rest.len();
        }
        let most = match shared > grown {
            true => SHARED_PACK_TOKENS,
            false => PACK_TOKENS,
        };
        self.tree.len() + grown <= most
    }

    /// Each question, `before` of which were in earlier packs, and the node where its prompt ends.
    pub(super) fn ends(&self, before: usize) -> Vec<(usize, usize)> {
        let prompts = self.texts.iter().map(|text| text.candidates.first());
        let nodes = prompts.map(|first| first.and_then(|first| self.tree.find(&first.prompt)));
        let ends = nodes.zip(before..);
        ends.filter_map(|(node, question)| Some((question, node?)))
            .collect()
    }

    /// Every token whose likelihood is wanted.
    pub(super) fn asked(&self) -> Vec<Ask> {
        let mut asked = Vec::new();
        for (text, Text { candidates, .. }) in self.texts.iter().enumerate() {
            for (candidate, found) in candidates.iter().enumerate() {
                let mut at = self.tree.find(&found.prompt);
                for &token in &found.tokens {
                    asked.extend(at.map(|node| Ask {
                        text,
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

    /// Of each text that is gone on with: which it is, its prompt's nodes, farthest first.
    pub(super) fn written(&self) -> Vec<(usize, Vec<Range<usize>>)> {
        let written = self.texts.iter().enumerate();
        let written = written.filter(|(_, text)| !text.prompt.is_empty());
        written
            .filter_map(|(i, text)| Some((i, self.tree.path(self.tree.find(text.prompt)?))))
            .collect()
    }
}

/// What must stand in the tree: a candidate's last token is predicted, never read.
fn read(candidate: &Candidate) -> &[u32] {
    &candidate.tokens[..candidate.tokens.len().saturating_sub(1)]
}
