//! Token sequences as a tree: a beginning that several share stands there once.

use crate::model::Run;
use std::collections::HashMap;
use std::ops::Range;

/// A forest of tokens; each sees its ancestors and itself.
#[derive(Default)]
pub(super) struct TokenTree {
    tokens: Vec<u32>,
    parents: Vec<Option<usize>>,
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

    /// The tokens as runs, each node a row and a column.
    pub(super) fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (node, &parent) in self.parents.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if parent.is_some_and(|parent| parent + 1 == node) => run.rows.end += 1,
                _ => runs.push(Run {
                    rows: node..node + 1,
                    past: parent.map_or_else(Vec::new, |parent| self.path(parent)),
                    own: node,
                }),
            }
        }
        runs
    }

    /// The nodes that texts begin with.
    pub(super) fn roots(&self) -> Vec<usize> {
        let nodes = self.parents.iter().enumerate();
        let roots = nodes.filter(|(_, parent)| parent.is_none());
        roots.map(|(node, _)| node).collect()
    }

    /// A node and its ancestors as stretches of nodes, farthest first.
    pub(super) fn path(&self, node: usize) -> Vec<Range<usize>> {
        let mut path: Vec<Range<usize>> = Vec::new();
        for node in std::iter::successors(Some(node), |&at| self.parents[at]) {
            match path.last_mut() {
                Some(stretch) if stretch.start == node + 1 => stretch.start = node,
                _ => path.push(node..node + 1),
            }
        }
        path.reverse();
        path
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
        let nodes = |path: &[Range<usize>]| path.iter().cloned().flatten().collect::<Vec<_>>();
        assert_eq!(nodes(&tree.path(first)), [0, 1, 2]);
        assert_eq!(nodes(&tree.path(second)), [0, 1, second]);
        assert_eq!(nodes(&tree.path(other)), [other]);
        let runs = tree.runs();
        let rows: Vec<_> = runs.iter().map(|run| run.rows.clone()).collect();
        assert_eq!(rows, [0..3, 3..4, 4..5]);
        let past: Vec<_> = runs.iter().map(|run| nodes(&run.past)).collect();
        assert_eq!(past, [vec![], vec![0, 1], vec![]]);
        assert_eq!(tree.growth(None, &[1, 2, 5, 6]), 2);
        assert_eq!(tree.growth(None, &[1, 2]), 0);
    }
}
