//! Token sequences as a tree: a beginning that several share stands there once.

use std::collections::HashMap;

/// A forest of tokens; each sees its ancestors and itself.
#[derive(Default)]
pub(super) struct TokenTree {
    tokens: Vec<u32>,
    parents: Vec<Option<usize>>,
    depths: Vec<usize>,
    children: HashMap<(Option<usize>, u32), usize>,
}

impl TokenTree {
    /// Adds a sequence below a node (or as a root) and returns its last node.
    pub(super) fn insert(&mut self, below: Option<usize>, sequence: &[u32]) -> Option<usize> {
        let mut at = below;
        for &token in sequence {
            at = Some(self.child(at, token));
        }
        at
    }

    /// The child of a node that carries a token, added where it is missing.
    pub(super) fn child(&mut self, parent: Option<usize>, token: u32) -> usize {
        let next = self.tokens.len();
        let node = *self.children.entry((parent, token)).or_insert(next);
        if node == next {
            self.tokens.push(token);
            self.parents.push(parent);
            self.depths
                .push(parent.map_or(0, |parent| self.depths[parent] + 1));
        }
        node
    }

    /// How many nodes a sequence would add.
    pub(super) fn growth(&self, below: Option<usize>, sequence: &[u32]) -> usize {
        let mut at = below;
        for (shared, &token) in sequence.iter().enumerate() {
            match self.children.get(&(at, token)) {
                Some(&node) => at = Some(node),
                None => return sequence.len() - shared,
            }
        }
        0
    }

    /// The node at the end of a sequence, if all of it is there.
    pub(super) fn find(&self, sequence: &[u32]) -> Option<usize> {
        let mut at = None;
        for &token in sequence {
            at = Some(*self.children.get(&(at, token))?);
        }
        at
    }

    /// The child of a node that carries a token.
    pub(super) fn next(&self, node: usize, token: u32) -> Option<usize> {
        self.children.get(&(Some(node), token)).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The position of every token in its own text.
    pub(super) fn positions(&self) -> &[usize] {
        &self.depths
    }

    /// A node and its ancestors, nearest first.
    pub(super) fn path(&self, node: usize) -> Vec<usize> {
        std::iter::successors(Some(node), |&at| self.parents[at]).collect()
    }

    /// What every node sees.
    pub(super) fn paths(&self) -> Vec<Vec<usize>> {
        (0..self.len()).map(|node| self.path(node)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_beginnings_are_stored_once_and_paths_lead_back() {
        let mut tree = TokenTree::default();
        let first = tree.insert(None, &[1, 2, 3]).unwrap();
        let second = tree.insert(None, &[1, 2, 4]).unwrap();
        let other = tree.insert(None, &[9]).unwrap();
        assert_eq!(tree.len(), 5);
        assert_eq!(tree.path(first).len(), 3);
        assert_eq!(tree.path(second), [second, 1, 0]);
        assert_eq!(tree.path(other), [other]);
        assert_eq!(tree.growth(None, &[1, 2, 5, 6]), 2);
        assert_eq!(tree.growth(None, &[1, 2]), 0);
    }
}
