//! SentencePiece orders merges by score, byte-pair encoding by rank: one as the other.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::{Token, TokenKind};

/// The merges by which rank-ordered BPE does what SentencePiece does with these pieces: every
/// split of every piece into two pieces, best score first, and of one piece's splits the one
/// with the longest left part first. That is the order in which transformers derives them.
///
/// Control, byte and user-defined tokens are no pieces: SentencePiece never builds them out of
/// smaller ones.
pub(crate) fn from_pieces(tokens: &[Token]) -> Vec<(&str, &str)> {
    let is_piece = |token: &&Token| matches!(token.kind, TokenKind::Normal | TokenKind::Unused);
    let texts: HashSet<&str> = tokens
        .iter()
        .filter(is_piece)
        .map(|token| &*token.text)
        .collect();
    // Looking a part up costs its length: of a piece of a megabyte only few parts may be looked up.
    let lengths: HashSet<usize> = texts.iter().map(|text| text.len()).collect();
    let could_be = |part: &str| lengths.contains(&part.len());
    let pieces = tokens.par_iter().filter(is_piece);
    let mut merges: Vec<(f32, usize, &str, &str)> = pieces
        .flat_map_iter(|token| {
            let cuts = token.text.char_indices().skip(1);
            cuts.map(|(cut, _)| (token.score, cut, token.text.split_at(cut)))
        })
        .filter(|(.., (left, right))| could_be(left) && could_be(right))
        .filter(|(.., (left, right))| texts.contains(left) && texts.contains(right))
        .map(|(score, cut, (left, right))| (score, cut, left, right))
        .collect();
    merges.par_sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    merges
        .into_iter()
        .map(|(.., left, right)| (left, right))
        .collect()
}

/// Scores that make SentencePiece do what these rank-ordered merges do: a piece is as good as
/// its earliest merge. Pieces that no merge builds keep the lowest score.
pub(crate) fn scores(merges: &[(String, String)]) -> HashMap<String, f32> {
    let mut scores = HashMap::with_capacity(merges.len());
    for (left, right) in merges {
        let next = -(scores.len() as f32);
        scores.entry(format!("{left}{right}")).or_insert(next);
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(list: &[(&str, f32)]) -> Vec<Token> {
        let token = |(text, score): &(&str, f32)| Token {
            text: (*text).to_owned(),
            kind: TokenKind::Normal,
            score: *score,
        };
        list.iter().map(token).collect()
    }

    #[test]
    fn better_scored_pieces_merge_first() {
        let tokens = pieces(&[("a", 0.0), ("b", 0.0), ("ab", -2.0), ("ba", -1.0)]);
        assert_eq!(from_pieces(&tokens), [("b", "a"), ("a", "b")]);
    }

    #[test]
    fn control_tokens_are_not_built_from_text() {
        let mut tokens = pieces(&[("<", 0.0), ("s>", 0.0), ("<s>", 0.0)]);
        tokens[2].kind = TokenKind::Control;
        assert!(from_pieces(&tokens).is_empty());
    }

    #[test]
    fn scores_of_merges_give_the_merges_back() {
        let tokens = pieces(&[
            ("a", 0.0),
            ("b", 0.0),
            ("ab", 0.0),
            ("abab", -1.0),
            ("ba", -2.0),
        ]);
        let merges: Vec<(String, String)> = from_pieces(&tokens)
            .into_iter()
            .map(|(l, r)| (l.into(), r.into()))
            .collect();
        let derived = scores(&merges);
        for token in &tokens[2..] {
            assert_eq!(derived[&token.text], token.score, "{}", token.text);
        }
    }
}
